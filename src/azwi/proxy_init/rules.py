"""The redirect as text for iptables-restore: what is there in, one transaction out. No I/O.

Source of the syntax: iptables-save(8), iptables-restore(8), iptables-extensions(8).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from azwi.contract import (
    DEFAULT_PROXY_PORT,
    DEFAULT_PROXY_UID,
    METADATA_ADDRESS,
    METADATA_ADDRESS_VARIABLE,
    METADATA_PORT,
    METADATA_PORT_VARIABLE,
    PROXY_PORT_VARIABLE,
    PROXY_UID_VARIABLE,
)
from azwi.errors import ConfigurationError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUT_CHAIN: Final = "AZWI_PROXY_OUTPUT"  # [R 6]
REDIRECT_CHAIN: Final = "AZWI_PROXY_REDIRECT"
COMMENT: Final = "azwi-proxy-init"
_MAX_PORT: Final = 65535
_MAX_UID: Final = (1 << 32) - 2  # the last one means "no user" (chown(2))
_MAX_DIGITS: Final = 10


class RedirectPlan(NamedTuple):
    """Which traffic goes where. A named tuple, since `dataclasses` costs a program this small a tenth of its memory.

    Attributes:
        proxy_port: The proxy's port on loopback.
        proxy_uid: The user whose traffic is left alone: the proxy's own.
        metadata_address: The metadata service's IPv4 address.
        metadata_port: Its TCP port.
    """

    proxy_port: int = DEFAULT_PROXY_PORT
    proxy_uid: int = DEFAULT_PROXY_UID
    metadata_address: str = METADATA_ADDRESS
    metadata_port: int = METADATA_PORT


def read_plan(environment: Mapping[str, str]) -> RedirectPlan:
    """The plan that the environment asks for, in the reference's variables; an empty one counts as not set.

    Raises:
        ConfigurationError: Values that are not allowed, all of them.
    """
    problems: list[str] = []

    def number(name: str, default: int, low: int, high: int) -> int:
        text = environment.get(name, "")
        digits = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
        if text and not (digits and low <= int(text) <= high):
            problems.append(f"{name} is {text!r}; {low} to {high} are allowed")
            return default
        return int(text) if text else default

    address = environment.get(METADATA_ADDRESS_VARIABLE, "") or METADATA_ADDRESS
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        problems.append(f"{METADATA_ADDRESS_VARIABLE} is {address!r}; an IPv4 address is allowed")
    plan = RedirectPlan(
        proxy_port=number(PROXY_PORT_VARIABLE, DEFAULT_PROXY_PORT, 1, _MAX_PORT),
        proxy_uid=number(PROXY_UID_VARIABLE, DEFAULT_PROXY_UID, 0, _MAX_UID),
        metadata_address=address,
        metadata_port=number(METADATA_PORT_VARIABLE, METADATA_PORT, 1, _MAX_PORT),
    )
    if problems:
        raise ConfigurationError(sentence(problems), hint="nothing was changed")
    return plan


def render_redirect(plan: RedirectPlan, saved: str) -> str:
    """The transaction that makes the redirect exactly what the plan says, whatever an earlier run left.

    Our chains are emptied and filled again, our jumps are taken out of OUTPUT and one is put first; nothing else in the
    table is touched.

    Args:
        plan: What is wanted.
        saved: The nat table as `iptables-save -t nat` prints it; empty where there is none.
    """
    comment = f'-m comment --comment "{COMMENT}"'
    target = f"-d {plan.metadata_address}/32 -p tcp -m tcp --dport {plan.metadata_port}"
    lines = [
        f":{OUTPUT_CHAIN} - [0:0]",
        f":{REDIRECT_CHAIN} - [0:0]",
        *_removed_jumps(saved),
        f"-I OUTPUT 1 {target} {comment} -j {OUTPUT_CHAIN}",
        f"-A {OUTPUT_CHAIN} -m owner --uid-owner {plan.proxy_uid} {comment} -j ACCEPT",
        f"-A {OUTPUT_CHAIN} {comment} -j {REDIRECT_CHAIN}",
        f"-A {REDIRECT_CHAIN} -p tcp {comment} -j REDIRECT --to-ports {plan.proxy_port}",
    ]
    return _transaction(lines)


def render_cleanup(saved: str) -> str:
    """The transaction that takes everything of ours out; empty where nothing is."""
    chains = [chain for chain in (OUTPUT_CHAIN, REDIRECT_CHAIN) if f":{chain} " in saved]
    if not chains:
        return ""
    emptied = [f":{chain} - [0:0]" for chain in chains]
    return _transaction([*emptied, *_removed_jumps(saved), *(f"-X {chain}" for chain in chains)])


def holds_rules(saved: str) -> bool:
    """Whether somebody has put rules into the table."""
    return any(line.startswith("-A ") for line in saved.splitlines())


def _removed_jumps(saved: str) -> list[str]:
    """The deletion of each jump to our chains from a chain that is not ours."""
    ours = (f"-A {OUTPUT_CHAIN} ", f"-A {REDIRECT_CHAIN} ")
    jumps = (f"-j {OUTPUT_CHAIN}", f"-j {REDIRECT_CHAIN}")
    return [
        "-D" + line.removeprefix("-A")
        for line in saved.splitlines()
        if line.startswith("-A ") and not line.startswith(ours) and line.endswith(jumps)
    ]


def _transaction(lines: list[str]) -> str:
    return "\n".join(["*nat", *lines, "COMMIT", ""])
