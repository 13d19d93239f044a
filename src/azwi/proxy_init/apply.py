"""Rules into the kernel: finds the iptables that this network namespace uses, and runs it once."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Final, NamedTuple

from azwi.errors import RedirectError
from azwi.proxy_init.rules import holds_rules

if TYPE_CHECKING:
    from collections.abc import Callable

LOCK_SECONDS: Final = 10  # that iptables-legacy waits for another program to finish
_DEADLINE: Final = 30  # seconds for one call of a program
# The kernel lists what tables the legacy side has; asking iptables-legacy itself would make them.
_LEGACY_TABLES: Final = "/proc/net/ip_tables_names"


class Backend(NamedTuple):
    """One side of the kernel's packet filter, with its nat table as it is."""

    name: str  # nft or legacy
    restore: str  # the program's path
    saved: str


def find_backends() -> list[Backend]:
    """The sides that can be used, best first [D 29]: the one that holds rules, else nft, else legacy.

    Raises:
        RedirectError: There is no iptables.
    """
    found = [backend for backend in (_find("nft"), _find("legacy")) if backend is not None]
    if not found:
        raise RedirectError(
            "no iptables-nft-restore, iptables-legacy-restore or iptables-restore on PATH",
            hint="install the package iptables",
        )
    return sorted(found, key=lambda backend: not holds_rules(backend.saved))


def _find(side: str) -> Backend | None:
    """One side, by the programs that are named for it, or by the plain ones where they are of that side."""
    restore, save = _which(f"iptables-{side}-restore"), _which(f"iptables-{side}-save")
    if restore is None or save is None:
        restore, save = _which("iptables-restore"), _which("iptables-save")
        if restore is None or save is None or _side_of(restore) != side:
            return None
    return Backend(side, restore, _save(save) if side == "nft" or _has_legacy_nat() else "")


def _side_of(restore: str) -> str:
    """The side that a program says it is of; those older than iptables 1.8 are legacy and do not say it."""
    return "nft" if "nf_tables" in _run([restore, "--version"], "").stdout else "legacy"


def _which(name: str) -> str | None:
    """The program of that name on PATH. Not `shutil.which`, which is a megabyte."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    return None


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
            command,
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",  # comments of others may be anything, and go back as they were
            timeout=_DEADLINE,
            check=False,
        )
    except OSError as problem:
        return subprocess.CompletedProcess(command, 126, "", problem.strerror or "it cannot be run")
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_DEADLINE} s")
