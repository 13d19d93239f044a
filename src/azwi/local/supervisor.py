"""`azwi run` from inside: everything that the command needs is started, kept alive and ended here.

Started by `azwi.local.run` with its order as JSON; nobody else calls it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azwi.errors import AzwiError
from azwi.local.processes import adopt_orphans, die_with_parent, kill_descendants
from azwi.local.rehearsal import Rehearsal
from azwi.local.run import FORWARDED, RunOrder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azwi.local.rehearsal import Prepared

_ENDING: Final = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})
_NOT_FOUND: Final = 127  # as a shell has it
_NOT_EXECUTABLE: Final = 126
_IDLE: Final = 3600.0  # seconds between two looks at a command without tokens


class _Interrupted(BaseException):  # like KeyboardInterrupt; nobody on the way may take it for an error
    """A signal ended the run before the command was there."""


class _Interruption:
    """The first signal that ends the run before the command is there; later ones change nothing."""

    def __init__(self) -> None:
        self.number = 0

    def take(self, number: int, _: object) -> None:
        """Be the handler of a signal."""
        if not self.number:
            self.number = number
            raise _Interrupted

    def check(self) -> None:
        """Raise if there was one: where Python has no caller to raise to, as in `__del__`, it drops exceptions."""
        if self.number:
            raise _Interrupted


def main(argv: list[str]) -> int:
    """Run; the command's exit code, 128 and the number where a signal ended it."""
    fields: dict[str, Any] = json.loads(argv[0])
    control, folder, group = fields.pop("control"), Path(fields.pop("folder")), fields.pop("group")
    order = RunOrder(**{**fields, "command": tuple(fields["command"])})
    adopt_orphans()
    interruption = _Interruption()
    try:
        for number in _heeded(_ENDING):
            signal.signal(number, interruption.take)
        front = _Front(control)
        with Rehearsal(order, folder) as prepared:
            interruption.check()
            for note in prepared.notes:
                sys.stderr.write(f"azwi run: {note}\n")
            sys.stderr.flush()
            return _run_command(prepared, front, group)
    except _Interrupted:
        return 128 + interruption.number
    except AzwiError as problem:
        sys.stderr.write(f"azwi run: {problem}\n")
        return problem.exit_code
    finally:
        for number in FORWARDED:
            signal.signal(number, signal.SIG_IGN)
        if not order.isolated:  # the first process of a namespace takes all others with it
            kill_descendants()


def _heeded(numbers: Iterable[signal.Signals]) -> list[signal.Signals]:
    """Those that whoever started us does not want ignored; nohup and background jobs of a shell have such."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class _Front:
    """What the process that the user sees tells us: signals to pass on, and that it is gone.

    A thread of its own, since the main one waits for the command.
    """

    def __init__(self, control: int) -> None:
        self._control = control
        self._lock = threading.Lock()
        self._starting = False
        self._waiting: list[int] = []
        self._command: subprocess.Popen[bytes] | None = None
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while told := os.read(self._control, 1):
            self._pass_on(told[0])
        self._end()

    def _pass_on(self, number: int) -> None:
        with self._lock:
            if self._command is not None:
                self._command.send_signal(number)
            elif self._starting:
                self._waiting.append(number)
            elif number in _ENDING:
                os.kill(os.getpid(), number)

    def _end(self) -> None:
        """The one who waited for us is gone: end now, the command first."""
        with self._lock:
            started = self._starting
        if started:
            self._pass_on(signal.SIGKILL)
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    def hold(self) -> None:
        """The command is about to start: keep signals for it."""
        with self._lock:
            self._starting = True

    def give(self, command: subprocess.Popen[bytes]) -> None:
        """From now on signals are for the command, also those that were kept."""
        with self._lock:
            self._command = command
            for number in self._waiting:
                command.send_signal(number)


def _run_command(prepared: Prepared, front: _Front, group: int) -> int:
    # The terminal sends its signals to the whole group: they are for the command. A handler of Python's does not
    # outlive exec, so the command starts with the defaults.
    front.hold()
    for number in _heeded(FORWARDED):
        signal.signal(number, lambda *_: None)
    try:
        command = subprocess.Popen(  # noqa: S603  # what the user asked for
            prepared.command,
            env=prepared.environment,
            cwd=prepared.folder,
            preexec_fn=die_with_parent,  # noqa: PLW1509  # one call of the kernel
            process_group=group or None,
        )
    except OSError as problem:
        sys.stderr.write(f"azwi run: {prepared.command[0]}: {problem.strerror}\n")
        return _NOT_FOUND if isinstance(problem, FileNotFoundError) else _NOT_EXECUTABLE
    front.give(command)
    while True:
        due = prepared.next_renewal()
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = command.wait(max(0.0, due - time.time()) if due is not None else _IDLE)
            return code if code >= 0 else 128 - code
        for failure in prepared.renew(time.time()):
            sys.stderr.write(f"azwi run: {failure}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
