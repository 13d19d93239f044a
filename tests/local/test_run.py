"""`azwi run`: the command runs as the container would, and whatever is killed, nothing stays."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from azwi.emulator.certificates import generate_authority
from azwi.emulator.client import emulate
from azwi.local.namespaces import may_isolate

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs
AZWI = Path(sys.executable).with_name("azwi")
EXAMPLES = Path(__file__).parents[2] / "examples"
ISOLATED = pytest.param(
    ("--isolated",), marks=pytest.mark.skipif(not may_isolate(), reason="this machine forbids namespaces")
)
MODES = [(), ISOLATED]
WORKLOAD = """
apiVersion: v1
kind: ServiceAccount
metadata: {name: orders, namespace: shop, annotations: {azure.workload.identity/client-id: "${CLIENT_ID}"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: shop}
data: {MODE: fast}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: orders, namespace: shop}
spec:
  template:
    metadata: {labels: {azure.workload.identity/use: "true"}}
    spec:
      serviceAccountName: orders
      containers:
        - name: app
          image: registry.example/orders:1
          workingDir: /
          command: [sh, -c, 'echo "$MODE $NAME $LINE"; pwd']
          env:
            - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: MODE}}}
            - {name: NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
            - {name: LINE, value: "for $(AZURE_CLIENT_ID)"}
            - {name: LIMIT, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        - name: log
          image: registry.example/log:1
---
apiVersion: batch/v1
kind: Job
metadata: {name: plain, namespace: shop}
spec: {template: {spec: {containers: [{name: work, image: registry.example/work:1, workingDir: /no/such/place}]}}}
"""


class Sandbox:
    """A folder in which the command may leave files, and the processes it leaves."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.manifest = folder / "manifest.yaml"
        self.manifest.write_text(WORKLOAD)
        self.mark = f"azwi-test-{folder.name}-{os.getpid()}"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "TMPDIR": str(self.temporary),
            "AZWI_TEST_MARK": self.mark,
            "AZURE_CLIENT_SECRET": "of the user's own",
        }

    def argv(self, *arguments: str) -> list[str]:
        """The command line."""
        return [str(AZWI), "run", "-f", str(self.manifest), "--workload", "orders", *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run to the end."""
        return subprocess.run(
            self.argv(*arguments), env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start, and wait for the first line that the command prints."""
        process = subprocess.Popen(
            self.argv(*arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert "ready" in line, process.communicate(timeout=10)
        return process

    def processes(self) -> list[int]:
        """Everything alive that was started here, found by its environment or its words."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except (OSError, IndexError):
                continue
            if (self.mark.encode() in words or str(self.temporary).encode() in words) and state != "Z":
                found.append(int(entry.name))
        return found

    def assert_clean(self, seconds: float = 10) -> None:
        """No process, no file, no mount stays, shortly after."""
        deadline = time.monotonic() + seconds
        while (self.processes() or any(self.temporary.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert [] == self.processes()
        assert [] == list(self.temporary.iterdir())
        assert str(self.temporary) not in Path("/proc/self/mounts").read_text()


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A sandbox that must be clean after the test."""
    made = Sandbox(tmp_path)
    yield made
    made.assert_clean()


@pytest.mark.parametrize("mode", MODES)
def test_the_containers_own_command_runs(mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """Its variables, references and folder; what cannot be had is told, and so is what was made up."""
    run = sandbox.run(*mode)

    assert 0 == run.returncode, run.stderr
    first, second = run.stdout.splitlines()
    assert first.startswith("fast orders for ")
    assert "/" == second
    assert "'${CLIENT_ID}' is no GUID" in run.stderr
    assert "variable LIMIT (resourceFieldRef limits.cpu) cannot be had here" in run.stderr
    assert ("instance discovery" in run.stderr) == (not mode)


@pytest.mark.parametrize("mode", MODES)
def test_output_input_and_exit_code_pass_through(mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """Standard streams are the command's; of the user's own Azure settings it gets nothing."""
    script = 'read line; echo "got $line"; echo oops >&2; echo "${AZURE_CLIENT_SECRET-none}"; exit 42'
    run = subprocess.run(
        sandbox.argv(*mode, "--", "sh", "-c", script),
        env=sandbox.environment,
        input="hello\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (42, "got hello\nnone\n") == (run.returncode, run.stdout)
    assert "oops\n" in run.stderr


@pytest.mark.parametrize(
    ("code", "command"),
    [(127, "/no/such/program"), (126, "/etc/hostname"), (128 + 9, "sh -c 'kill -9 $$'"), (128 + 15, "sh -c 'kill $$'")],
)
def test_a_command_that_does_not_end_well(code: int, command: str, sandbox: Sandbox) -> None:
    """Missing, not executable, ended by a signal: the exit codes of a shell."""
    argv = command.split(" ", 2) if command.startswith("sh") else [command]
    run = sandbox.run("--", *[word.strip("'") for word in argv])
    assert code == run.returncode, run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_pass_through(number: signal.Signals, mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """A signal to azwi is one to the command, which decides what to do."""
    script = f"trap 'echo caught; exit 5' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.05; done"
    process = sandbox.start(*mode, "--", "bash", "-c", script)
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (5, "caught\n") == (process.returncode, out), err


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_do_not_matter(closed: str, mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """Whoever started it may have closed any of its standard streams."""
    line = shlex.join(sandbox.argv(*mode, "--", "sh", "-c", "exit 5"))
    run = subprocess.run(["/bin/sh", "-c", f"{line} {closed}"], env=sandbox.environment, timeout=60, check=False)
    assert 5 == run.returncode


@pytest.mark.parametrize("mode", MODES)
def test_ignored_signals_stay_ignored(mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """As with nohup and in a shell's background; a parent that ignores SIGCHLD does not make it wait for ever."""

    def ignore() -> None:
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)

    script = "kill -HUP $$; kill -INT $$; echo alive; kill $$"
    run = subprocess.run(
        sandbox.argv(*mode, "--", "sh", "-c", script),
        env=sandbox.environment,
        preexec_fn=ignore,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (143, "alive\n") == (run.returncode, run.stdout), run.stderr


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("whole_group", [False, True])
def test_killed_it_leaves_nothing(whole_group: bool, mode: tuple[str, ...], sandbox: Sandbox) -> None:  # noqa: FBT001
    """SIGKILL to azwi, or to all of its group: neither a process that left the group nor a file stays."""
    process = sandbox.start(*mode, "--", "sh", "-c", "setsid sleep 300 & sleep 300 & echo ready; wait")
    assert len(sandbox.processes()) > 3
    os.kill(-process.pid if whole_group else process.pid, signal.SIGKILL)
    process.communicate(timeout=20)
    sandbox.assert_clean()


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [0.05, 0.3, 0.6, 0.9])
def test_killed_while_it_starts_it_leaves_nothing(delay: float, mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """At whatever moment."""
    process = subprocess.Popen(
        sandbox.argv(*mode, "--", "sleep", "300"), env=sandbox.environment, stderr=subprocess.DEVNULL
    )
    time.sleep(delay)
    process.kill()
    process.wait()
    sandbox.assert_clean()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("delay", [0.1, 0.35])
def test_a_signal_while_it_starts_ends_it(delay: float, mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """From the moment that its private folder is there: at once, with the signal's exit code and nothing else."""
    process = subprocess.Popen(
        sandbox.argv(*mode, "--", "sleep", "300"), env=sandbox.environment, stderr=subprocess.PIPE, text=True
    )
    while not any(sandbox.temporary.iterdir()):
        time.sleep(0.005)
    time.sleep(delay)
    process.terminate()
    _, told = process.communicate(timeout=20)
    assert process.returncode in {143, -15}, told
    assert "Traceback" not in told


@pytest.mark.parametrize("mode", MODES)
def test_a_killed_supervisor_leaves_nothing(mode: tuple[str, ...], sandbox: Sandbox) -> None:
    """The process that the user sees ends what the supervisor cannot end any more, and says 137."""
    process = sandbox.start(*mode, "--", "sh", "-c", "setsid sleep 300 & echo ready; wait")
    supervisor = next(pid for pid in sandbox.processes() if b"azwi.local.supervisor" in _words(pid))
    os.kill(supervisor, signal.SIGKILL)
    process.communicate(timeout=20)
    assert 137 == process.returncode


def test_what_runs_on_when_the_command_ends_is_ended(sandbox: Sandbox) -> None:
    """As in a container, the end of the first process is the end of all."""
    run = subprocess.run(
        sandbox.argv("--", "sh", "-c", "setsid sleep 300 >/dev/null 2>&1 & exit 3"),
        env=sandbox.environment,
        timeout=60,
        check=False,
    )
    assert 3 == run.returncode


def test_the_token_is_renewed_for_a_running_program(sandbox: Sandbox) -> None:
    """A program that runs past four fifths of its token's life finds a new one, whole, in the same file."""
    state = {
        "tenants": [{"id": "11111111-1111-1111-1111-111111111111"}],
        "cluster": {"maxTokenExpirationSeconds": 2},
    }
    (sandbox.folder / "state.yaml").write_text(yaml.safe_dump(state))
    program = """
import json, os, time, jwt
seen = []
deadline = time.monotonic() + 15
while len(seen) < 3 and time.monotonic() < deadline:
    claims = jwt.decode(open(os.environ["AZURE_FEDERATED_TOKEN_FILE"]).read(), options={"verify_signature": False})
    assert claims["exp"] >= time.time(), "expired"
    if claims["jti"] not in seen:
        seen.append(claims["jti"])
    time.sleep(0.02)
print(json.dumps(len(seen)))
"""
    with emulate(sandbox.folder / "state.yaml", sandbox.folder / "emulator"):
        run = sandbox.run(f"--emulator={sandbox.folder / 'emulator'}", "--", sys.executable, "-c", program)
    assert (0, 3) == (run.returncode, json.loads(run.stdout)), run.stderr


@pytest.mark.parametrize(
    ("code", "expected", "arguments"),
    [
        (1, "has no workload nobody", ["--workload=nobody"]),
        (1, "with a container nothing", ["--container=nothing"]),
        (1, "container work has no command of its own", ["--workload=plain"]),
        (1, "no emulator runs in", ["--emulator=/no/such/folder"]),
        (2, "exclude each other", ["--emulator=x", "--isolated"]),
    ],
)
def test_what_is_wrong_is_told(code: int, expected: str, arguments: list[str], sandbox: Sandbox) -> None:
    """One sentence, and the exit code of azwi."""
    run = sandbox.run(*arguments)
    assert (code, "") == (run.returncode, run.stdout)
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


def test_a_token_stays_in_its_volume(sandbox: Sandbox) -> None:
    """A manifest cannot have a file written anywhere else; the API server would refuse it, too."""
    token = f"{{serviceAccountToken: {{path: ../../../../../../../..{sandbox.temporary}/token}}}}"
    volumes = f"volumes: [{{name: v, projected: {{sources: [{token}]}}}}]\n      containers:"
    sandbox.manifest.write_text(WORKLOAD.replace("containers:", volumes, 1))
    run = sandbox.run("--", "true")
    assert (1, []) == (run.returncode, list(sandbox.temporary.iterdir()))
    assert "spec.volumes[0].projected.sources[0].serviceAccountToken.path" in run.stderr


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("does not answer at https://localhost:1/", {}),
        ("no certificate of an emulator", {"caFile": "/no/such/file"}),
        ("no certificate of an emulator", {"caFile": "/etc/hostname"}),
    ],
)
def test_an_emulator_that_is_gone_is_told(expected: str, changes: dict[str, str], sandbox: Sandbox) -> None:
    """Its addresses are there, and nobody who answers."""
    folder = sandbox.folder / "emulator"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(generate_authority(time.time()).pem)
    addresses = {"authority": "https://localhost:1/", "issuer": "x", "caFile": str(folder / "ca.crt"), "tenants": []}
    (folder / "emulator.json").write_text(json.dumps(addresses | changes))
    run = sandbox.run(f"--emulator={folder}", "--", "true")
    assert 1 == run.returncode
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


BOMB = "kind: Pod\na0: &a0 [x, x]\n" + "\n".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 20))
REFUSED = WORKLOAD.replace(
    "metadata: {labels:",
    'metadata: {annotations: {azure.workload.identity/service-account-token-expiration: "1"}, labels:',
)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("does not exist", None),
        ("is no YAML or JSON", "a: [}"),
        ("nodes with its aliases followed", BOMB),
        ("has no spec.template", "kind: Deployment\n"),
        ("it has no workload", "kind: ConfigMap\n"),
        ("refused the Pod", REFUSED),
        ("document 1: metadata: expected `object", "kind: ServiceAccount\nmetadata: 7\n"),
        ("account shop/orders stands in .* already", WORKLOAD + WORKLOAD),
        ("holds a number that JSON does not have", WORKLOAD + "x: .nan\n"),
        (r"env\[2\]\.value: must not hold a null", WORKLOAD.replace("for $(", "\\0 $(")),
    ],
)
def test_hostile_manifests_are_told(expected: str, text: str | None, sandbox: Sandbox) -> None:
    """A file that is missing, broken, a bomb or without workload is one sentence."""
    sandbox.manifest.unlink()
    if text is not None:
        sandbox.manifest.write_text(text)
    run = sandbox.run("--", "true")
    assert 1 == run.returncode
    assert re.search(expected, run.stderr), run.stderr
    assert "Traceback" not in run.stderr


def test_a_pod_without_the_label_gets_no_identity(sandbox: Sandbox) -> None:
    """As in a cluster; and a folder that is not here is told."""
    run = sandbox.run("--workload=plain", "--", "sh", "-c", 'echo "${AZURE_CLIENT_ID-none}"')
    assert (0, "none\n") == (run.returncode, run.stdout)
    assert "has no label azure.workload.identity/use" in run.stderr
    assert "workingDir /no/such/place is not on this machine" in run.stderr


def test_the_proxy_in_environment_mode(sandbox: Sandbox) -> None:
    """A program that only knows IMDS, told by a variable where the proxy is."""
    program = (
        "import os; os.environ.pop('AZURE_FEDERATED_TOKEN_FILE')\n"
        "from azure.identity import ManagedIdentityCredential as Managed\n"
        "print(len(Managed().get_token('https://vault.azure.net/.default').token) > 100)"
    )
    run = sandbox.run("--proxy", "--", sys.executable, "-c", program)
    assert (0, "True\n") == (run.returncode, run.stdout), run.stderr
    assert "AZURE_POD_IDENTITY_AUTHORITY_HOST" in run.stderr
