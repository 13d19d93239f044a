"""A child in namespaces of its own: users, mounts, network and processes, gone with it whatever happens.

Source: user_namespaces(7), pid_namespaces(7), unshare(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import select
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from azwi.errors import LocalError
from azwi.local.processes import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CLONE_NEWNS: Final = 0x0002_0000
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWPID: Final = 0x2000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_PASSED: Final = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_SUBORDINATE: Final = 65536  # ids that a user is given to map
_DEADLINE: Final = 10.0  # seconds
_HINT: Final = (
    "run without --isolated, or let this user make namespaces: sysctl kernel.unprivileged_userns_clone=1, "
    "kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0"
)
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def may_isolate() -> bool:
    """Whether this machine lets us make these namespaces; tried in a child that ends at once."""
    child = os.fork()
    if child == 0:
        os._exit(0 if _unshare() == 0 else 1)
    _, status = os.waitpid(child, 0)
    return status == 0


def may_be_several() -> bool:
    """Whether namespaces of ours can have more users than one: we are root, or an administrator gave us ids."""
    return os.geteuid() == 0 or all(
        shutil.which(program) and _subordinate_start(Path(file), _own_names()) is not None
        for program, file in (("newuidmap", "/etc/subuid"), ("newgidmap", "/etc/subgid"))
    )


def spawn(argv: Sequence[str], kept: Sequence[int]) -> int:
    """Start a program as the first process of new namespaces, in which it is root; gives the process to wait for.

    When the program ends, all processes of the namespaces end; when this process ends, so does the program. The exit
    code of the one to wait for is the program's.

    Args:
        argv: The program by its full path, and its arguments.
        kept: File descriptors that it inherits.

    Raises:
        LocalError: The machine forbids it.
    """
    from_child, to_parent = os.pipe()
    from_parent, to_child = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(from_child)
        os.close(to_child)
        _be_outer(argv, kept, to_parent, from_parent)
    os.close(to_parent)
    os.close(from_parent)
    try:
        _map_ids_of(child, from_child)
        os.write(to_child, b"+")
    except LocalError:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    finally:
        os.close(from_child)
        os.close(to_child)
    return child


def _unshare() -> int:
    """Leave the namespaces of the parent; 0, or why not as an errno."""
    failed = _LIBC.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWPID)
    return ctypes.get_errno() if failed else 0


def _be_outer(argv: Sequence[str], kept: Sequence[int], to_parent: int, from_parent: int) -> None:
    """The life of the process between: it makes the namespaces, starts the program and takes over its exit code."""
    code = 1
    try:
        before = {number: signal.signal(number, signal.SIG_IGN) for number in _PASSED}  # they are for the program
        failure = _unshare()
        die_with_parent()  # only now: new credentials would undo it
        os.write(to_parent, bytes([failure]))
        if os.read(from_parent, 1) == b"+":
            inner = os.fork()
            if inner == 0:
                _be_inner(argv, kept, {number for number in _PASSED if before[number] is not signal.SIG_IGN})
            _, status = os.waitpid(inner, 0)
            code = os.waitstatus_to_exitcode(status)
    finally:
        os._exit(code if code >= 0 else 128 - code)


def _be_inner(argv: Sequence[str], kept: Sequence[int], heeded: Iterable[signal.Signals]) -> None:
    try:
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        die_with_parent()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for number in heeded:
            signal.signal(number, signal.SIG_DFL)
        for descriptor in kept:
            os.set_inheritable(descriptor, True)  # noqa: FBT003  # its only signature
        os.execv(argv[0], list(argv))  # noqa: S606  # there is no shell in it
    finally:
        os._exit(127)


# --- Which users there are inside ------------------------------------------------------------------------


def _map_ids_of(child: int, from_child: int) -> None:
    """Wait until the child has its namespaces, and say who its users are."""
    readable, _, _ = select.select([from_child], [], [], _DEADLINE)
    said = os.read(from_child, 1) if readable else b""
    if said != b"\0":
        reason = os.strerror(said[0]) if said else "no answer"
        raise LocalError(f"this machine does not let us make namespaces: {reason}", hint=_HINT)
    try:
        if os.geteuid() == 0:
            _write_maps(child, _own_map("uid"), _own_map("gid"))
        elif not _map_subordinates(child):
            (Path("/proc") / str(child) / "setgroups").write_text("deny")
            _write_maps(child, f"0 {os.geteuid()} 1\n", f"0 {os.getegid()} 1\n")
    except OSError as problem:
        raise LocalError(
            f"this machine does not let us map users into a namespace: {problem.strerror}", hint=_HINT
        ) from problem


def _write_maps(child: int, uids: str, gids: str) -> None:
    folder = Path("/proc") / str(child)
    (folder / "uid_map").write_text(uids)
    (folder / "gid_map").write_text(gids)


def _own_map(kind: str) -> str:
    """Every id that we have, as itself."""
    lines = (Path("/proc/self") / f"{kind}_map").read_text().splitlines()
    ranges = [line.split() for line in lines]
    return "".join(f"{first} {first} {count}\n" for first, _, count in ranges)


def _map_subordinates(child: int) -> bool:
    """Map ourselves to root, and the ids that an administrator gave us to the others; False where there are none."""
    for program, file, own in (
        ("newuidmap", "/etc/subuid", os.geteuid()),
        ("newgidmap", "/etc/subgid", os.getegid()),
    ):
        start = _subordinate_start(Path(file), _own_names())
        path = shutil.which(program)
        if start is None or path is None:
            return False
        command = [path, str(child), "0", str(own), "1", "1", start, str(_SUBORDINATE - 1)]
        if subprocess.run(command, capture_output=True, check=False).returncode:  # noqa: S603  # a fixed program
            return False
    return True


def _own_names() -> set[str]:
    """By what subuid(5) may call us."""
    names = {str(os.geteuid())}
    with contextlib.suppress(KeyError):
        names.add(pwd.getpwuid(os.geteuid()).pw_name)
    return names


def _subordinate_start(file: Path, names: set[str]) -> str | None:
    """The first id of a range that is large enough (subuid(5): name, start, count)."""
    try:
        entries = [line.split(":") for line in file.read_text().splitlines()]
    except OSError:
        return None
    for entry in entries:
        if len(entry) == len(("name", "start", "count")) and entry[0] in names and int(entry[2]) >= _SUBORDINATE - 1:
            return entry[1]
    return None
