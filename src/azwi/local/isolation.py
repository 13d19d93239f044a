"""Inside of namespaces of our own: the machine as a Pod would find it, with Entra and the metadata service on loopback.

Everything here is for the first process of new namespaces; nothing of it can be seen from outside, and it goes with
them.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azwi.contract import METADATA_ADDRESS
from azwi.emulator.background import SYSTEM_BUNDLES
from azwi.emulator.metadata import PUBLIC_NAMES
from azwi.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What makes the emulator Entra and the metadata service of the namespace.
EMULATOR_ARGUMENTS: Final = (
    "--name=login.microsoftonline.com",
    "--port=443",
    f"--imds-host={METADATA_ADDRESS}",
    "--imds-port=80",
)

_MS_NOSUID: Final = 2
_MS_NODEV: Final = 4
_MS_NOEXEC: Final = 8
_MS_BIND: Final = 4096
_MS_REC: Final = 16384
_MS_PRIVATE: Final = 1 << 18
_SIOCSIFADDR: Final = 0x8916
_SIOCSIFFLAGS: Final = 0x8914
_SIOCSIFNETMASK: Final = 0x891C
_IFF_UP: Final = 1
_HINT: Final = "run without --isolated; AppArmor or another policy may forbid what a namespace's root may do"
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def enter(folder: Path) -> None:
    """Take over: mounts that nobody else sees, a private folder in memory, loopback, names.

    Args:
        folder: An empty folder; what is written there from now on is never on a disk.

    Raises:
        LocalError: The machine's policy forbids it.
    """
    try:
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
        _mount("tmpfs", str(folder), "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=0755")
        raise_loopback()
        _name_hosts(folder)
    except OSError as problem:
        raise LocalError(f"the namespace cannot be set up: {problem.strerror}", hint=_HINT) from problem
    # In a container /proc is often masked; the old one shows processes by other numbers, which is harmless.
    with contextlib.suppress(OSError):
        _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def trust_everywhere(bundle: Path) -> None:
    """Let programs that look for the machine's certificate authorities find this file."""
    for path in {os.path.realpath(path) for path in SYSTEM_BUNDLES if Path(path).is_file()}:
        _mount(str(bundle), path, "", _MS_BIND)


def user_launcher(container: Mapping[str, Any]) -> list[str]:
    """What makes a program the user that its container names, who may read our files nevertheless.

    Raises:
        LocalError: This namespace has no such user, or the machine lacks setpriv.
    """
    context = container["securityContext"]
    uid, gid = int(context["runAsUser"]), int(context.get("runAsGroup", context["runAsUser"]))
    if not has_user(uid):
        raise LocalError(
            f"the namespace has no user {uid} for {container['name']}",
            hint="install newuidmap (package uidmap) and have ranges in /etc/subuid and /etc/subgid, or be root",
        )
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalError("program setpriv is missing", hint="install the package util-linux")
    rights = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search"]
    return [setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *rights, "--"]


def has_user(uid: int) -> bool:
    """Whether this namespace has such a user."""
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    return any(first <= uid < first + count for first, _, count in ranges)


def _mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    failed = _LIBC.mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), options.encode() or None
    )
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {target}: {os.strerror(number)}")


def raise_loopback() -> None:
    """127.0.0.1, and the metadata address beside it, as netdevice(7) has it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh", b"lo", _IFF_UP))
        for request, address in ((_SIOCSIFADDR, METADATA_ADDRESS), (_SIOCSIFNETMASK, "255.255.255.255")):
            packed = struct.pack("16sHH4s8s", b"lo:imds", socket.AF_INET, 0, socket.inet_aton(address), b"")
            fcntl.ioctl(control, request, packed)


def _name_hosts(folder: Path) -> None:
    """Entra's names lead to loopback, and names are looked up in the file first."""
    hosts = f"127.0.0.1 localhost {' '.join(PUBLIC_NAMES)}\n"
    _replace("/etc/hosts", folder / "hosts", [hosts, *_lines("/etc/hosts")])
    if Path("/etc/nsswitch.conf").is_file():
        others = [line for line in _lines("/etc/nsswitch.conf") if not line.startswith("hosts:")]
        _replace("/etc/nsswitch.conf", folder / "nsswitch.conf", [*others, "hosts: files dns\n"])
    if Path("/run/nscd").is_dir():  # its answers are those of the world outside
        _mount("tmpfs", "/run/nscd", "tmpfs", _MS_NOSUID | _MS_NODEV)


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines(keepends=True)


def _replace(path: str, instead: Path, lines: Iterable[str]) -> None:
    instead.write_text("".join(lines))
    _mount(str(instead), path, "", _MS_BIND)
