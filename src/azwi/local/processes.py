"""Programs that we start: found, waited for, heard when they fail, and ended whatever happens."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from azwi.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

START_DEADLINE: Final = 15.0  # seconds
STOP_DEADLINE: Final = 5.0  # seconds until a program that does not end is killed
_POLL: Final = 0.02
_LAST_STREAM: Final = 2  # standard error
# Below those that Linux gives to outgoing connections (ip_local_port_range), any of which could be taken in between.
_PORTS: Final = range(11000, 30000)
_CHOICE: Final = random.SystemRandom()  # whatever seed the processes of a test run share
_TAIL: Final = 5  # lines of a failed program's output that are shown

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

_T = TypeVar("_T")


class Process:
    """A program running until the block ends; what it prints goes to a file in `folder`."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        self._name = Path(argv[0]).name
        self._output = folder / f"{self._name}-{time.monotonic_ns()}.log"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603  # our own programs
                [find_program(argv[0]), *argv[1:]],
                env={**environment, "TMPDIR": str(folder)},  # what a kill leaves there goes with the folder
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what the terminal sends is for the program that the user runs
                preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of the kernel
            )

    def __enter__(self) -> Self:
        """The process itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the program: politely, then not."""
        self._process.terminate()
        try:
            self._process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def wait_for(self, look: Callable[[], _T | None], what: str) -> _T:
        """What `look` finds as soon as it finds something.

        Args:
            look: Gives None as long as there is nothing.
            what: What is waited for, for the error.

        Raises:
            LocalError: The program ended, or the deadline passed.
        """
        deadline = time.monotonic() + START_DEADLINE
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            if self._process.poll() is not None:
                raise LocalError(f"{self._name} ended with {self._process.returncode}: {self._tail()}")
            time.sleep(_POLL)
        raise LocalError(f"{self._name}: no {what} within {START_DEADLINE:.0f} s: {self._tail()}")

    def find_log_line(self, message: str) -> dict[str, object] | None:
        """The first JSON log line with that message, if the program has printed it."""
        for line in self._output.read_text(errors="replace").splitlines():
            if message in line and line.startswith("{") and line.endswith("}"):
                fields: dict[str, object] = json.loads(line)
                if fields.get("message") == message:
                    return fields
        return None

    def _tail(self) -> str:
        lines = self._output.read_text(errors="replace").splitlines()[-_TAIL:]
        return " | ".join(lines) or "it printed nothing"


def claim_process() -> None:
    """Undo what whoever started us may have left: children that cannot be waited for, standard streams that are closed.

    A pipe of ours would get the number of a closed stream, and a child would write into it.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _LAST_STREAM:
        os.set_inheritable(descriptor, True)  # noqa: FBT003  # its only signature
    os.close(descriptor)


def die_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_descendants(spared: int = 0) -> None:
    """Kill every child of this process but for one, and those that it adopts meanwhile, until there is none.

    What /proc shows of another namespace is none of ours, and is left alone.
    """
    strangers = {spared}
    while children := _children() - strangers:
        for child in children:
            try:
                if os.waitpid(child, os.WNOHANG)[0] == 0:  # it is ours, and lives
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
            except ChildProcessError:
                strangers.add(child)


def _children() -> set[int]:
    me = os.getpid()
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold anything; the parent is the second field after it.
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == me:
                    found.add(int(entry.name))
    return found


def find_program(name: str) -> str:
    """The path of one of our programs: beside this Python, else on PATH; a whole path stays one.

    Raises:
        LocalError: It is in neither.
    """
    if Path(name).is_absolute():
        return name
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise LocalError(f"program {name} is missing", hint="make setup installs it")
    return found


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now, and that nobody is likely to take before a program does."""
    while True:
        port = _CHOICE.choice(_PORTS)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def base_environment() -> dict[str, str]:
    """What every program of the stage gets of ours: where to find others, and nothing of Azure."""
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT")
    return {name: os.environ[name] for name in kept if name in os.environ}
