"""`azwi demo`: what it prints, how it fails, and that nothing of it stays."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.programs
AZWI = Path(sys.executable).with_name("azwi")
EXAMPLES = Path(__file__).parents[2] / "examples"


def run_demo(*arguments: str, folder: Path, path: str = "/usr/sbin:/usr/bin:/bin") -> subprocess.CompletedProcess[str]:
    """Run the command with a temporary folder of its own; a path without sbin has no iptables."""
    return subprocess.run(
        [AZWI, "demo", *arguments],
        env={"PATH": path, "TMPDIR": str(folder), "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    """The demo's run, which several tests read."""
    with tempfile.TemporaryDirectory() as folder:
        run = run_demo(folder=Path(folder))
        assert list(Path(folder).iterdir()) == []
        return run


def test_the_demo_takes_a_pod_to_a_verified_token(told: subprocess.CompletedProcess[str]) -> None:
    """Each step shows its real result, from the injected variables to the verified access token."""
    assert told.returncode == 0, told.stdout + told.stderr
    for shown in (
        "AZURE_CLIENT_ID = 22222222-2222-2222-2222-222222222222",
        "AZURE_FEDERATED_TOKEN_FILE = /var/run/secrets/azure/wi/token/azure-identity-token",
        "system:serviceaccount:shop:orders",
        "api://AzureADTokenExchange",
        "verified with the keys that the authority publishes",
        "✓ All of it worked",
    ):
        assert shown in told.stdout


def test_the_demo_shows_the_three_mappings(told: subprocess.CompletedProcess[str]) -> None:
    """One to one, many to one, and one to many by changing the client-id annotation."""
    rows = re.findall(
        r"^ *(one to \w+|many to one)(?:, later)? +shop:([\w-]+) +([0-9a-f-]{36})", told.stdout, re.MULTILINE
    )

    assert rows == [
        ("one to one", "orders", "22222222-2222-2222-2222-222222222222"),
        ("many to one", "catalogue-web", "33333333-3333-3333-3333-333333333333"),
        ("many to one", "catalogue-worker", "33333333-3333-3333-3333-333333333333"),
        ("one to many", "reports", "33333333-3333-3333-3333-333333333333"),
        ("one to many", "reports", "44444444-4444-4444-4444-444444444444"),
    ]


def test_the_demo_shows_the_proxy_and_a_refusal(told: subprocess.CompletedProcess[str]) -> None:
    """The metadata program is answered by the proxy, by its own count; a refusal comes with what to do."""
    assert "azwi-proxy, by its own count of 1 request" in told.stdout
    assert "AADSTS700213: No matching federated identity record found" in told.stdout
    assert "what to do" in told.stdout


def test_the_demo_shows_no_token(told: subprocess.CompletedProcess[str]) -> None:
    """Neither the service account token nor the access token is printed."""
    assert "eyJ" not in told.stdout + told.stderr


def test_without_iptables_it_is_told_all_the_same(tmp_path: Path) -> None:
    """Where namespaces or iptables are missing it says so, and a variable names the proxy instead of the redirect."""
    (tmp_path / "programs").mkdir()
    (tmp_path / "left").mkdir()
    for name in ("setpriv", "sh"):
        (tmp_path / "programs" / name).symlink_to(shutil.which(name) or "/bin/false")

    run = run_demo(folder=tmp_path / "left", path=str(tmp_path / "programs"))

    assert run.returncode == 0, run.stdout + run.stderr
    assert "Not isolated: " in run.stdout
    assert "program asks  http://127.0.0.1:" in run.stdout
    assert "azwi-proxy, by its own count of 1 request" in run.stdout
    assert list((tmp_path / "left").iterdir()) == []


def test_a_failing_step_ends_the_demo_with_1(tmp_path: Path) -> None:
    """An application that trusts nobody: the story stops at the exchange, says why, and ends with 1."""
    examples = tmp_path / "examples"
    shutil.copytree(EXAMPLES, examples)
    state = examples / "entra.yaml"
    state.write_text(state.read_text().replace("subject: system:serviceaccount:shop:orders", "subject: somebody-else"))

    run = run_demo(f"--examples={examples}", folder=tmp_path)

    assert run.returncode == 1
    assert "✗ the program of Pod orders got no token" in run.stdout
    assert "AADSTS700213" in run.stdout
    assert "Traceback" not in run.stdout + run.stderr


def test_a_folder_without_the_examples_is_named(tmp_path: Path) -> None:
    """What is missing is named, with the flag that names another folder."""
    run = run_demo(f"--examples={tmp_path}", folder=tmp_path)

    assert run.returncode == 1
    assert "lacks entra.yaml, program.py" in run.stdout
    assert "--examples" in run.stdout


def test_a_broken_state_file_is_told_in_one_line(tmp_path: Path) -> None:
    """What the emulator says of its state file is shown, and no process stays."""
    examples = tmp_path / "examples"
    shutil.copytree(EXAMPLES, examples)
    (examples / "entra.yaml").write_text("tenants: 7\n")

    run = run_demo(f"--examples={examples}", folder=tmp_path)

    assert run.returncode == 1
    assert "✗ azwi ended with 1: Error: " in run.stdout
    assert "tenants" in run.stdout


def test_the_readme_shows_what_the_demo_prints(told: subprocess.CompletedProcess[str]) -> None:
    """The README's block is the real output, but for the time it took."""
    if "Not isolated" in told.stdout:
        pytest.skip("the README shows an isolated run, which this machine cannot do")
    assert normalised(told.stdout) in normalised((EXAMPLES.parent / "README.md").read_text())


def normalised(text: str) -> str:
    """The text without what differs between runs."""
    text = re.sub(r"(localhost|127\.0\.0\.1):\d+", r"\1:PORT", text)
    text = re.sub(r"in \d+\.\d s", "in N s", text)
    return "\n".join(line.rstrip() for line in text.splitlines())
