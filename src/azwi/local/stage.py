"""The stage of a local run: emulator and webhook as processes, Pods taken through them, the proxy beside them.

Everything lives in one private folder that goes with the stage.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import httpx2
import yaml

from azwi.contract import PROXY_CONTAINER, PROXY_INIT_CONTAINER, WEBHOOK_PATH
from azwi.emulator.background import trust_environment
from azwi.emulator.certificates import generate_authority, issue_server_certificate
from azwi.emulator.client import EmulatorClient, read_addresses
from azwi.errors import LocalError
from azwi.local.environment import find_sources
from azwi.local.pod import Admitted, JsonObject, apply_answer, find_container, render_review
from azwi.local.processes import Process, base_environment, find_program, free_port
from azwi.local.running import RunningPod, RunningProxy
from azwi.local.tokens import TokenFiles
from azwi.local.witness import Entra, Witness

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

RELOAD_DEADLINE: Final = 5.0  # seconds in which the webhook has read a changed manifest
_REDIRECT_DEADLINE: Final = 60  # seconds


@dataclass(frozen=True, slots=True)
class OwnEmulator:
    """An emulator that is started for the stage: its state, and more arguments of `azwi emulator`."""

    state: Path
    arguments: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class RunningEmulator:
    """An emulator that runs already, by its folder."""

    folder: Path


@dataclass(slots=True)
class Stage:
    """A running emulator and webhook.

    Attributes:
        documents: The service accounts, Pods, ConfigMaps and Secrets of the emulated cluster.
        tenant_id: What the webhook is told to inject.
        emulator: Which emulator.
        parent: Where the stage's folder is made; the machine's place for temporary files when left out.
    """

    documents: list[JsonObject]
    tenant_id: str
    emulator: OwnEmulator | RunningEmulator
    parent: Path | None = None
    folder: Path = field(init=False)
    entra: Entra = field(init=False)
    _client: httpx2.Client = field(init=False)
    _webhook: httpx2.Client = field(init=False)
    _stack: contextlib.ExitStack = field(init=False, default_factory=contextlib.ExitStack)

    def __enter__(self) -> Self:
        """Start both; raises LocalError where one does not come up."""
        with contextlib.ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="azwi-", dir=self.parent)))
            (self.folder / "accounts").mkdir()
            self._write_accounts()
            self.entra = self._find_emulator(stack)
            self._client = stack.enter_context(
                httpx2.Client(verify=ssl.create_default_context(cafile=self.entra.ca_file), trust_env=False)
            )
            self._webhook = self._start_webhook(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End both and remove the folder."""
        self._stack.close()

    @property
    def witness(self) -> Witness:
        """What runs containers' programs and verifies their tokens."""
        return Witness(self.entra, self.tenant_id)

    # --- The programs -----------------------------------------------------------------------------------

    def _find_emulator(self, stack: contextlib.ExitStack) -> Entra:
        folder = self.folder / "emulator"
        if isinstance(self.emulator, RunningEmulator):
            addresses = read_addresses(self.emulator.folder)
            _require_running(addresses, self.emulator.folder)
            folder.mkdir()
        else:
            addresses = self._start_emulator(stack, folder, self.emulator)
        # A copy, for the bundle stands beside it.
        ca_file = folder / "authority.crt"
        ca_file.write_bytes(Path(addresses["caFile"]).read_bytes())
        return Entra(addresses["authority"], addresses["issuer"], str(ca_file), trust_environment(ca_file))

    def _start_emulator(self, stack: contextlib.ExitStack, folder: Path, emulator: OwnEmulator) -> JsonObject:
        argv = ["azwi", "emulator", f"--state={emulator.state}", f"--dir={folder}", *emulator.arguments]
        process = stack.enter_context(Process(argv, base_environment(), self.folder))
        addresses = folder / "emulator.json"
        return process.wait_for(lambda: read_addresses(folder) if addresses.exists() else None, addresses.name)

    def _start_webhook(self, stack: contextlib.ExitStack) -> httpx2.Client:
        certificates = self.folder / "certificates"
        authority_file = write_certificate(certificates)
        environment = {
            **base_environment(),
            "AZURE_TENANT_ID": self.tenant_id,
            "AZURE_AUTHORITY_HOST": self.entra.authority,
        }
        argv = [
            "azwi-webhook",
            "--bind-address=127.0.0.1",
            "--port=0",
            "--health-addr=0",
            "--metrics-addr=0",
            "--shutdown-delay=0",
            f"--webhook-cert-dir={certificates}",
            f"--service-accounts={self.folder / 'accounts'}",
        ]
        process = stack.enter_context(Process(argv, environment, self.folder))
        started = process.wait_for(lambda: process.find_log_line("webhook serves"), "start")
        context = ssl.create_default_context(cafile=authority_file)
        return stack.enter_context(
            httpx2.Client(base_url=f"https://localhost:{started['port']}", verify=context, trust_env=False)
        )

    def set_redirect(self, pod: RunningPod) -> str:
        """Run the Pod's azwi-proxy-init as its container says; gives what it printed.

        Raises:
            LocalError: It failed.
        """
        container = find_container(pod.admitted.pod, PROXY_INIT_CONTAINER)
        command = [find_program(container["command"][0]), *container["command"][1:], *container.get("args", ())]
        run = subprocess.run(  # noqa: S603  # our own program
            command,
            env=base_environment() | pod.environment(PROXY_INIT_CONTAINER),
            capture_output=True,
            text=True,
            timeout=_REDIRECT_DEADLINE,
            check=False,
        )
        if run.returncode:
            raise LocalError(run.stderr.strip() or f"{PROXY_INIT_CONTAINER} ended with {run.returncode}")
        return run.stdout.strip()

    def start_proxy(self, pod: RunningPod, launcher: Sequence[str] = ()) -> RunningProxy:
        """Start the Pod's azwi-proxy as its container says.

        Args:
            pod: The Pod.
            launcher: A program and its arguments that start another, such as one that changes the user.
        """
        container = find_container(pod.admitted.pod, PROXY_CONTAINER)
        metrics = f"127.0.0.1:{free_port()}"
        program = find_program(container["command"][0])
        argv = [
            *launcher,
            program,
            *container["command"][1:],
            *self._arguments(pod, container),
            f"--metrics-addr={metrics}",
        ]
        environment = {**base_environment(), **pod.environment(PROXY_CONTAINER), **self.entra.trust}
        process = self._stack.enter_context(Process(argv, environment, self.folder))
        port = container["ports"][0]["containerPort"]

        def look() -> bool | None:
            with contextlib.suppress(httpx2.TransportError):
                return self._client.get(f"http://127.0.0.1:{port}/readyz").is_success or None
            return None

        process.wait_for(look, "readiness")
        return RunningProxy(process.pid, port, f"http://{metrics}/metrics")

    def _arguments(self, pod: RunningPod, container: JsonObject) -> list[str]:
        """The container's arguments, with its ConfigMaps in folders of this machine."""
        arguments = list(container["args"])
        metadata = pod.admitted.pod["metadata"]
        volumes = {volume["name"]: volume for volume in pod.admitted.pod["spec"].get("volumes") or ()}
        for mount in container.get("volumeMounts") or ():
            if (config_map := volumes.get(mount["name"], {}).get("configMap")) is None:
                continue
            key = (metadata.get("namespace") or "default", config_map["name"])
            if key not in pod.sources.config_maps:
                raise LocalError(f"the manifests have no ConfigMap {key[0]}/{key[1]}")
            folder = Path(tempfile.mkdtemp(prefix="configmap-", dir=self.folder))
            folder.chmod(0o755)
            for name, text in pod.sources.config_maps[key].items():
                (folder / name).write_text(text)
            arguments = [argument.replace(mount["mountPath"], str(folder)) for argument in arguments]
        return arguments

    def count_answers(self, proxy: RunningProxy) -> int:
        """How many token requests the proxy says it has answered well."""
        text = self._client.get(proxy.metrics).text
        return sum(
            int(float(line.rpartition(" ")[2]))
            for line in text.splitlines()
            if line.startswith("azwi_proxy_requests_total{") and 'result="token"' in line
        )

    # --- Accounts and Pods ------------------------------------------------------------------------------

    def pod(self, name: str) -> JsonObject:
        """The Pod manifest of that name.

        Raises:
            LocalError: The manifests have none.
        """
        for document in self.documents:
            if document["kind"] == "Pod" and document["metadata"]["name"] == name:
                copy: JsonObject = json.loads(json.dumps(document))
                return copy
        raise LocalError(f"the manifests have no Pod {name}")

    def annotate_account(self, name: str, annotation: str, value: str) -> None:
        """Change an annotation of a service account; the webhook reads it again."""
        for document in self.documents:
            if document["kind"] == "ServiceAccount" and document["metadata"]["name"] == name:
                document["metadata"]["annotations"][annotation] = value
        self._write_accounts()

    def _write_accounts(self) -> None:
        accounts = [document for document in self.documents if document["kind"] == "ServiceAccount"]
        partial = self.folder / "accounts.partial"
        partial.write_text(yaml.safe_dump_all(accounts))
        partial.replace(self.folder / "accounts" / "accounts.yaml")

    def admit(self, pod: JsonObject) -> Admitted:
        """Send the Pod through the webhook.

        Raises:
            LocalError: It refused the Pod.
        """
        answer = self._webhook.post(WEBHOOK_PATH, json=render_review(pod)).raise_for_status()
        return apply_answer(pod, answer.json())

    def start_pod(self, pod: JsonObject) -> RunningPod:
        """Let the Pod in and mint its tokens into private files, as API server and kubelet do."""
        return self._mint_tokens(self.admit(pod))

    def start_pod_as_it_is(self, pod: JsonObject) -> RunningPod:
        """The same of a Pod that the API server does not show to the webhook."""
        return self._mint_tokens(Admitted(pod, [], []))

    def _mint_tokens(self, admitted: Admitted) -> RunningPod:
        metadata = admitted.pod["metadata"]
        root = Path(tempfile.mkdtemp(prefix="pod-", dir=self.folder))
        account = admitted.pod["spec"].get("serviceAccountName") or "default"
        namespace = metadata.get("namespace") or "default"
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"

        def mint(request: JsonObject) -> JsonObject:
            try:
                answer = self._client.post(self.entra.issuer + path, json=request)
                document: JsonObject = answer.json()
            except (httpx2.HTTPError, ValueError) as problem:
                raise LocalError(f"the emulator at {self.entra.issuer} gives no token: {problem}") from problem
            if not answer.is_success:
                raise LocalError(f"no token for service account {namespace}/{account}: {document.get('message')}")
            return document

        return RunningPod(admitted, TokenFiles(admitted.pod, root, mint), find_sources(self.documents))

    def start_pod_when(self, pod: JsonObject, client_id: str, seconds: float = RELOAD_DEADLINE) -> RunningPod:
        """The same, once the webhook injects that client id, for which it gets so many seconds.

        Raises:
            LocalError: It does not within the deadline.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            variables = find_container(self.admit(pod).pod, "app").get("env") or ()
            if {"name": "AZURE_CLIENT_ID", "value": client_id} in variables:
                return self.start_pod(pod)
            time.sleep(0.1)
        raise LocalError(f"the webhook did not read the changed service account within {seconds:g} s")


def _require_running(addresses: JsonObject, folder: Path) -> None:
    try:
        client = EmulatorClient(addresses)
    except OSError as problem:  # ssl.SSLError is one
        raise LocalError(f"{addresses['caFile']} is no certificate of an emulator: {problem.strerror}") from problem
    with contextlib.closing(client):
        if not client.is_running():
            raise LocalError(
                f"the emulator of {folder} does not answer at {client.authority}",
                hint=f"azwi emulator --state FILE --dir {folder} starts one",
            )


def write_certificate(folder: Path) -> str:
    """Write tls.crt and tls.key for localhost into the folder; gives the path of the CA beside them."""
    folder.mkdir(mode=0o700)
    authority = generate_authority(time.time())
    certificate = issue_server_certificate(authority, time.time())
    (folder / "tls.key").touch(mode=0o600)
    (folder / "tls.key").write_bytes(certificate.key)
    (folder / "tls.crt").write_bytes(certificate.certificate)
    (folder / "ca.crt").write_bytes(authority.pem)
    return str(folder / "ca.crt")
