"""The command azwi itself: help, version, errors and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from azwi.cli.main import main
from azwi.version import __version__

AZWI = Path(sys.executable).with_name("azwi")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Alone or asked for help, azwi says what it can do and ends with 0."""
    assert main(arguments) == 0

    printed = capsys.readouterr().out
    assert all(command in printed for command in ("demo", "emulator", "version"))


def test_version_is_printed_as_the_reference_does(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lines: version and commit."""
    assert main(["version"]) == 0

    assert capsys.readouterr().out == f"Version: {__version__}\nGitCommit: unknown\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bogus"], 1, "bogus"),
        (["demo", "--bogus"], 2, "--bogus"),
        (["emulator"], 2, "--state"),
        (["emulator", "--state=x", "--dir=y", "--port=70000"], 2, "70000"),
        (["emulator", "--state=/nonexistent", "--dir=y"], 1, "/nonexistent"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown command and a failure end with 1, a bad flag with 2; each names what was wrong."""
    assert main(arguments) == code

    assert words in capsys.readouterr().err


def test_help_loads_no_library_that_it_does_not_need() -> None:
    """--help stays fast: neither the SDKs nor rich, YAML or cryptography are imported for it."""
    script = (
        "import sys; from azwi.cli.main import main; main(['--help']); "
        "print(sorted({'msal','rich','yaml','cryptography','httpx2','uvicorn'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines()[-1] == "[]"
