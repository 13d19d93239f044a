"""The command azwi itself: help, version, errors and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

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


@pytest.mark.parametrize("arguments", [["--debug", "version"], ["version", "--debug"], ["--debug"]])
def test_debug_is_taken_everywhere(arguments: list[str]) -> None:
    """As the reference's persistent flag."""
    assert main(arguments) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["bogus"], 1, "bogus"),
        (["demo", "--bogus"], 2, "--bogus"),
        (["emulator", "--state"], 2, "--state"),
        (["--bogus"], 1, "--bogus"),
        (["emulator"], 2, "--state"),
        (["emulator", "--state=x", "--dir=y", "--port=70000"], 2, "70000"),
        (["emulator", "--state=/nonexistent", "--dir=y"], 1, "/nonexistent"),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure and what the reference has too end with 1, a bad flag of ours with 2; each names what was wrong."""
    assert main(arguments) == code

    assert words in capsys.readouterr().err


def measure(command: list[str]) -> float:
    """Seconds of CPU that a command takes, the best of five."""
    runs = []
    for _ in range(5):
        before = getrusage(RUSAGE_CHILDREN)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        after = getrusage(RUSAGE_CHILDREN)
        runs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(runs)


def test_help_is_cheap() -> None:
    """120 ms of CPU at most; on a machine so busy that Python alone takes long to start, twelve of its starts."""
    bare = measure([sys.executable, "-I", "-c", "pass"])

    assert measure([str(AZWI), "--help"]) <= max(0.12, 12 * bare)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("azwi", ""), {"serviceaccount", "credential", "apply", "version"}),
        (("azwi", "sa", ""), {"create", "delete", "show"}),
        (("azwi", "serviceaccount", "create", "phase", ""), {"aad-application", "managed-identity", "role-assignment"}),
        (("azwi", "sa", "create", "--service-acc"), {"--service-account-name", "--service-account-issuer-url"}),
        (("azwi", "credential", "list", "-o", "j"), {"json"}),
    ],
)
def test_bash_completes(words: tuple[str, ...], expected: set[str]) -> None:
    """The script that azwi prints works in a real bash: commands, phases, options and values."""
    line = " ".join(f"'{word}'" for word in words)
    script = f"""
        eval "$(azwi completion bash)"
        COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMPREPLY=()
        _azwi_completion azwi
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {"PATH": f"{AZWI.parent}:{os.environ['PATH']}"}
    run = subprocess.run(["/bin/bash", "-c", script], capture_output=True, text=True, check=True, env=environment)

    assert expected <= set(run.stdout.split())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """For the program's own name."""
    assert main(["completion", shell]) == 0

    assert "_AZWI_COMPLETE" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["run", "emulator", "apply"])
def test_examples_in_help_keep_their_lines(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No mark of the formatter is left in them."""
    assert main([command, "--help"]) == 0

    printed = capsys.readouterr().out
    assert "\\b" not in printed
    assert any(line.strip().startswith(("azwi ", "eval ")) for line in printed.splitlines())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["version"],
        ["serviceaccount", "create", "--help"],
        ["credential", "list", "--help"],
        ["apply", "--help"],
        ["emulator", "--help"],
        ["run", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_no_library_that_it_does_not_need(arguments: list[str]) -> None:
    """It stays fast: neither the SDKs nor rich, YAML, cryptography or asyncio are imported for it."""
    script = (
        f"import sys; from azwi.cli.main import main; main({arguments}); "
        "print(sorted({'asyncio','msal','rich','ssl','yaml','cryptography','httpx2','uvicorn'} & set(sys.modules)))"
    )

    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert run.stdout.splitlines()[-1] == "[]"
