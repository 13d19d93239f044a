"""Rules into the kernel: finds the iptables that this network namespace uses, and runs it once."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from azwi.errors import RedirectError
from azwi.proxy_init.rules import holds_rules

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_SECONDS: Final = 10  # that iptables-legacy waits for another program to finish
_DEADLINE: Final = 30  # seconds for one call of a program
# The kernel lists what tables the legacy side has; asking iptables-legacy itself would make them.
_LEGACY_TABLES: Final = "/proc/net/ip_tables_names"


@dataclass(frozen=True, slots=True)
class Backend:
    """One side of the kernel's packet filter, with its nat table as it is."""

    name: str  # nft or legacy
    restore: str  # the program's path
    saved: str


def find_backends() -> list[Backend]:
    """The sides that can be used, best first [D 29]: the one that holds rules, else nft, else legacy.

    Raises:
        RedirectError: There is no iptables.
    """
    found = [backend for backend in (_nft(), _legacy()) if backend is not None]
    if not found:
        raise RedirectError(
            "no iptables-nft-restore, iptables-legacy-restore or iptables-restore on PATH",
            hint="install the package iptables",
        )
    return sorted(found, key=lambda backend: not holds_rules(backend.saved))


def _nft() -> Backend | None:
    restore = shutil.which("iptables-nft-restore") or shutil.which("iptables-restore")
    save = shutil.which("iptables-nft-save") or shutil.which("iptables-save")
    if restore is None or save is None:
        return None
    return Backend("nft", restore, _save(save))


def _legacy() -> Backend | None:
    restore, save = shutil.which("iptables-legacy-restore"), shutil.which("iptables-legacy-save")
    if restore is None or save is None:
        return None
    return Backend("legacy", restore, _save(save) if _has_legacy_nat() else "")


def _has_legacy_nat() -> bool:
    try:
        with open(_LEGACY_TABLES, encoding="ascii") as tables:  # noqa: PTH123  # pathlib costs a megabyte
            return "nat" in tables.read().split()
    except OSError:
        return False


def _save(program: str) -> str:
    """The nat table; nothing where it cannot be read, since applying will say why."""
    run = _run([program, "-t", "nat"], "")
    return run.stdout if run.returncode == 0 else ""


def apply_rules(backends: list[Backend], render: Callable[[str], str]) -> Backend:
    """Apply what `render` makes of the saved table, on the first side that takes it; gives that side.

    The next side is tried only where the first holds no rules of anybody, so that they never stand in both.

    Raises:
        RedirectError: None takes it; the programs' own words are in the message.
    """
    said = []
    for backend in backends:
        rules = render(backend.saved)
        run = _run(restore_command(backend), rules)
        if run.returncode == 0:
            return backend
        words = " ".join(run.stderr.split()) or f"it ended with {run.returncode}"
        said.append(f"iptables ({backend.name}): {words}")
        if holds_rules(backend.saved):
            break
    raise RedirectError(
        "the redirect was not set: " + "; ".join(said),
        hint="the container needs uid 0 and NET_ADMIN, and NET_RAW for the legacy side",
    )


def restore_command(backend: Backend) -> list[str]:
    """The call that applies a transaction and leaves all else."""
    wait = ["--wait", str(LOCK_SECONDS)] if backend.name == "legacy" else []
    return [backend.restore, "--noflush", *wait]


def _run(command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(  # noqa: S603  # iptables, with fixed arguments
            command, input=text, capture_output=True, text=True, timeout=_DEADLINE, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_DEADLINE} s")
