"""`azwi emulator --once`: an environment for a shell, with an emulator that stays until it is ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs

AZWI = Path(sys.executable).with_name("azwi")
EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAM = """
import os
from azure.identity import ManagedIdentityCredential
with ManagedIdentityCredential() as credential:
    print(len(credential.get_token("https://vault.azure.net/.default").token) > 100)
"""


def once(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return subprocess.run(
        [AZWI, "emulator", f"--state={folder / 'entra.yaml'}", f"--dir={folder / 'run'}", "--once", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def read_exports(text: str) -> dict[str, str]:
    """What a shell makes of it."""
    shell = subprocess.run(["/bin/sh", "-c", f"{text}\nenv"], env={}, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in shell.stdout.splitlines())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a state; an emulator that runs there is ended after the test."""
    state = (EXAMPLES / "entra.yaml").read_text()
    identity = "    managedIdentities:\n      - {name: machine, clientId: 99999999-9999-9999-9999-999999999999}\n"
    (tmp_path / "entra.yaml").write_text(state + identity)
    yield tmp_path
    end(tmp_path)


def end(folder: Path) -> None:
    """End the emulator of that folder, and wait until its address file is gone."""
    run = once(folder)
    if run.returncode == 0:
        os.kill(int(read_exports(run.stdout)["AZWI_EMULATOR_PID"]), signal.SIGTERM)
    deadline = time.monotonic() + 10
    while (folder / "run" / "emulator.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def test_it_starts_once_and_stays(folder: Path) -> None:
    """The second call prints the environment of the same emulator; a program with only it gets a token."""
    first, second = once(folder, "--imds-port=0"), once(folder)

    assert (0, first.stdout) == (second.returncode, second.stdout), first.stderr
    environment = read_exports(first.stdout)
    assert environment["AZURE_AUTHORITY_HOST"].startswith("https://localhost:")
    assert "11111111-1111-1111-1111-111111111111" == environment["AZURE_TENANT_ID"]
    program = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert "True\n" == program.stdout, program.stderr


def test_many_at_once_start_one(folder: Path) -> None:
    """Who comes second waits, and finds what the first has started."""
    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(lambda _: once(folder), range(4)))

    assert {(0, runs[0].stdout)} == {(run.returncode, run.stdout) for run in runs}


def test_curl_trusts_it_and_others(folder: Path) -> None:
    """The bundle holds the emulator's authority beside those of the machine."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    environment = read_exports(once(folder).stdout)
    asked = subprocess.run(
        [curl, "-sS", environment["AZURE_AUTHORITY_HOST"]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "no identity provider" in asked.stdout, asked.stderr


def test_a_second_start_after_the_end(folder: Path) -> None:
    """An emulator that is gone is not found; another one starts."""
    first = read_exports(once(folder).stdout)
    end(folder)
    second = read_exports(once(folder).stdout)
    assert first["AZWI_EMULATOR_PID"] != second["AZWI_EMULATOR_PID"]


def test_what_is_wrong_is_told(folder: Path) -> None:
    """What the emulator says is what the command says, and nothing is left to run."""
    (folder / "entra.yaml").write_text("tenants: 7")
    run = once(folder)
    assert (1, "") == (run.returncode, run.stdout)
    assert "tenants: expected `array`" in run.stderr
    assert 1 == run.stderr.count("Error:")
