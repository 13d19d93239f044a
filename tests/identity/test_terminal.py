"""On a terminal: colours unless NO_COLOR is set, a question before something goes, and Ctrl-C."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from identity_lab import NAME, NO_ROLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from identity_lab import Lab

AZWI = Path(sys.executable).with_name("azwi")


def on_terminal(
    lab: Lab,
    *arguments: str,
    answer: str = "",
    act: Callable[[subprocess.Popen[bytes]], None] | None = None,
    variables: dict[str, str] | None = None,
) -> tuple[int, str]:
    """Run azwi with a terminal; exit code and all that it showed there."""
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "HOME": str(lab.folder), "TERM": "xterm", "NO_PROXY": "*"}
    environment |= variables or {}
    command = [str(AZWI), *arguments, *lab.flags()]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True
    )
    os.close(theirs)
    shown, deadline = b"", time.monotonic() + 60
    try:
        if act is not None:
            act(process)
        while time.monotonic() < deadline:
            if not select.select([ours], [], [], 0.2)[0]:
                if process.poll() is not None:
                    break
                continue
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not part:
                break
            shown += part
            if answer and b"[y/N]" in shown:
                os.write(ours, answer.encode() + b"\n")
                answer = ""
        return process.wait(10), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours(variables: dict[str, str], coloured: bool, lab: Lab) -> None:  # noqa: FBT001
    """Phases with their results and times; without colours where nobody wants them."""
    code, shown = on_terminal(lab, "sa", "create", *lab.account(), NAME, NO_ROLE, variables=variables)
    assert 0 == code
    assert "created" in shown
    assert coloured == ("\x1b[32m" in shown)


@pytest.mark.parametrize(("answer", "code", "left"), [("n", 1, ["orders"]), ("y", 0, [])])
def test_a_question_before_something_goes(answer: str, code: int, left: list[str], lab: Lab) -> None:
    """The plan is shown first; no means that nothing is done."""
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    ended, shown = on_terminal(lab, "sa", "delete", *lab.account(), NAME, NO_ROLE, answer=answer)
    assert "- application orders" in shown
    assert "[y/N]" in shown
    assert (code, left) == (ended, lab.applications())


def test_yes_is_not_asked(lab: Lab) -> None:
    """Answered by the flag."""
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    code, shown = on_terminal(lab, "sa", "delete", *lab.account(), NAME, NO_ROLE, "--yes")
    assert (0, False, []) == (code, "[y/N]" in shown, lab.applications())


def test_interrupted(lab: Lab) -> None:
    """What was done is told on the way out, and how to go on; the exit code is a shell's."""
    lab.slow_down(1.0)

    def interrupt(process: subprocess.Popen[bytes]) -> None:
        while lab.count_writes() < 1:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)

    code, shown = on_terminal(lab, "sa", "create", *lab.account(), NAME, NO_ROLE, act=interrupt)
    lab.slow_down(0.0)
    assert 130 == code, shown
    assert "Interrupted: what is done stays" in shown
    assert "Traceback" not in shown
    assert 0 == lab.run("sa", "create", *lab.account(), NAME, NO_ROLE)
    assert ["orders"] == lab.applications()
