"""`azwi run` from outside: the process that the user sees. It starts the supervisor, passes signals on, cleans up.

Three processes make sure that nothing stays, whichever of them is killed:

- this one waits for the supervisor, and kills what it may have left;
- the supervisor (`azwi.local.supervisor`) runs everything, and ends it when this one is gone;
- a janitor, a shell in a session of its own, removes the private folder when both are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from azwi.errors import LocalError
from azwi.local import namespaces
from azwi.local.processes import adopt_orphans, claim_process, kill_descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

FORWARDED: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)
_SI_USER: Final = 0  # sent by a process; what the terminal sends has reached the whole group already
_JANITOR: Final = 'trap "" HUP INT QUIT TERM; read -r _; rm -rf -- "$1"'


@dataclass(frozen=True, slots=True)
class RunOrder:
    """What `azwi run` is asked for.

    Attributes:
        filename: The manifests.
        container: Whose environment; empty for the first one of the Pod.
        workload: Kind and name, or the name alone; empty where the file has one only.
        proxy: Whether to run the proxy beside it.
        isolated: Whether in namespaces of its own.
        emulator: The folder of a running emulator; empty to start one.
        command: The program and its arguments; empty for the container's own.
    """

    filename: str
    container: str = ""
    workload: str = ""
    proxy: bool = False
    isolated: bool = False
    emulator: str = ""
    command: tuple[str, ...] = ()


def run(order: RunOrder) -> int:
    """Run the command as the container would; its exit code, 128 and the number where a signal ended it.

    Raises:
        LocalError: The machine forbids namespaces. All else is told by the supervisor.
    """
    claim_process()
    adopt_orphans()
    with private_folder() as (folder, janitor, kept_by_the_living), _blocked_signals():
        try:
            return _supervise(order, folder, kept_by_the_living)
        finally:
            kill_descendants(spared=janitor)


@contextlib.contextmanager
def private_folder() -> Iterator[tuple[str, int, int]]:
    """A folder that goes whatever happens: the janitor is there before it, and a shell.

    Gives:
        The folder, the janitor's process, and the descriptor: the folder goes once nobody has it any more.

    Raises:
        LocalError: There is no place for it.
    """
    folder = str(_temporary_folder() / f"azwi-{secrets.token_hex(8)}")
    read_end, write_end = os.pipe()
    shell = subprocess.Popen(  # noqa: S603  # a fixed script
        ["/bin/sh", "-c", _JANITOR, "sh", folder], stdin=read_end, start_new_session=True, cwd="/"
    )
    os.close(read_end)
    try:
        try:
            Path(folder).mkdir(mode=0o700)
        except OSError as problem:
            raise LocalError(f"cannot make a folder in {Path(folder).parent}: {problem.strerror}") from problem
        yield folder, shell.pid, write_end
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(write_end)
        shell.wait()


def _temporary_folder() -> Path:
    """Where temporary files belong; `tempfile` would write one to try, which a kill leaves there."""
    given = (os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    return next((Path(place).absolute() for place in given if place and os.access(place, os.W_OK)), Path("/tmp"))  # noqa: S108  # the last resort


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*FORWARDED, signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _supervise(order: RunOrder, folder: str, kept: int) -> int:
    """Start the supervisor, pass on what other processes send, and give its exit code."""
    control, to_supervisor = os.pipe()
    # In a process group of its own the supervisor outlives what kills the whole group, and ends what is left of it.
    # The command belongs to our group, so that the terminal is its own; namespaces need neither.
    group = 0 if order.isolated else os.getpgrp()
    settings = json.dumps(asdict(order) | {"folder": folder, "control": control, "group": group})
    argv = [sys.executable, "-m", "azwi.local.supervisor", settings]
    try:
        start = namespaces.spawn if order.isolated else _spawn
        supervisor = start(argv, (control, kept))
        os.close(control)
        return _wait(supervisor, to_supervisor)
    finally:
        os.close(to_supervisor)


def _spawn(argv: list[str], kept: tuple[int, ...]) -> int:
    process = subprocess.Popen(  # noqa: S603  # our own program
        argv,
        pass_fds=kept,
        process_group=0,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, ()),  # noqa: PLW1509  # one call of the kernel
    )
    process.returncode = 0  # we wait for it ourselves
    return process.pid


def _wait(supervisor: int, to_supervisor: int) -> int:
    while True:
        caught = signal.sigwaitinfo({*FORWARDED, signal.SIGCHLD})
        if caught.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(supervisor, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
        elif caught.si_code <= _SI_USER:
            with contextlib.suppress(BrokenPipeError):
                os.write(to_supervisor, bytes([caught.si_signo]))
