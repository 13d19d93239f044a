"""One container of some manifests, rehearsed on this machine: which one, what it needs, and that it has it."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from azwi.cluster.manifests import read_manifests
from azwi.contract import (
    INJECT_PROXY_ANNOTATION,
    PROXY_CONTAINER,
    PROXY_INIT_CONTAINER,
    PROXY_MODE_ANNOTATION,
    PROXY_PORT_ANNOTATION,
    USE_LABEL,
)
from azwi.emulator.background import BUNDLE_NAME
from azwi.emulator.client import read_addresses
from azwi.errors import ManifestError
from azwi.local import isolation
from azwi.local.environment import container_command
from azwi.local.identities import DEFAULT_TENANT, make_identities
from azwi.local.pod import find_container
from azwi.local.processes import free_port
from azwi.local.running import with_annotations
from azwi.local.shapes import check_document, check_pod
from azwi.local.stage import OwnEmulator, RunningEmulator, Stage
from azwi.local.workloads import choose_template, find_templates, has_shared_parts, make_pod
from azwi.webhook.accounts import index_accounts

if TYPE_CHECKING:
    from types import TracebackType

    from azwi.local.run import RunOrder
    from azwi.local.running import RunningPod
    from azwi.local.workloads import PodTemplate

JsonObject = dict[str, Any]

# What the user's own shell may say about Azure is not the container's.
_FOREIGN: Final = ("AZURE_", "IDENTITY_", "MSI_", "IMDS_", "ARM_")
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A container that is ready to run: its command, environment, folder, and what people should know."""

    command: list[str]
    environment: dict[str, str]
    folder: Path
    notes: list[str]
    pod: RunningPod

    def next_renewal(self) -> float | None:
        """When a token is due, in seconds since 1970; None where the Pod has none."""
        return self.pod.tokens.next_due()

    def renew(self, now: float) -> list[str]:
        """Renew the tokens that are due; gives what went wrong."""
        return self.pod.tokens.renew(now)


class Rehearsal:
    """Everything that a container needs, as long as the block lasts.

    Args:
        order: What `azwi run` was asked for.
        folder: A private folder, empty.
    """

    def __init__(self, order: RunOrder, folder: Path) -> None:
        self._order = order
        self._folder = folder
        self._notes: list[str] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Prepared:
        """Start all of it.

        Raises:
            ManifestError: The manifests do not say which container.
            LocalError: Something does not come up, or the machine forbids it.
        """
        with contextlib.ExitStack() as stack:
            prepared = self._prepare(stack)
            self._stack = stack.pop_all()
        return prepared

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of it."""
        self._stack.close()

    def _prepare(self, stack: contextlib.ExitStack) -> Prepared:
        order = self._order
        documents = read_documents(Path(order.filename))
        templates = [found for where, document in documents for found in find_templates(document, where)]
        template = choose_template(templates, order.workload, order.container, order.filename)
        pod = self._asked_pod(template)
        container = order.container or str(pod["spec"]["containers"][0]["name"])
        if order.isolated:
            isolation.enter(self._folder)
        stage = stack.enter_context(self._make_stage([document for _, document in documents], templates))
        running = self._start_pod(stage, pod)
        self._start_proxy(stage, running)
        if order.isolated:
            isolation.trust_everywhere(Path(stage.entra.ca_file).with_name(BUNDLE_NAME))
        else:
            self._notes.append(
                f"Microsoft Entra is {stage.entra.authority}; an SDK uses it once its instance discovery is switched "
                "off, and with --isolated without any change"
            )
        return self._make_command(stage, running, container)

    # --- Identities and stage -----------------------------------------------------------------------------

    def _make_stage(self, documents: list[JsonObject], templates: list[PodTemplate]) -> Stage:
        if self._order.emulator:
            # What it knows is for whoever runs it to say.
            folder = Path(self._order.emulator)
            tenant = str(next(iter(read_addresses(folder).get("tenants", ())), DEFAULT_TENANT))
            return Stage(documents, tenant, RunningEmulator(folder), self._folder)
        tenant = os.environ.get("AZURE_TENANT_ID", "")
        others = [document for document in documents if document.get("kind") != "ServiceAccount"]
        wanted = [(found.namespace, found.service_account) for found in templates]
        identities = make_identities(documents, wanted, tenant or DEFAULT_TENANT)
        self._notes += identities.notes
        state = self._folder / "entra.yaml"
        state.write_text(yaml.safe_dump(identities.state))
        emulator = OwnEmulator(state, isolation.EMULATOR_ARGUMENTS if self._order.isolated else ())
        return Stage([*identities.accounts, *others], tenant or DEFAULT_TENANT, emulator, self._folder)

    # --- The Pod ------------------------------------------------------------------------------------------

    def _asked_pod(self, template: PodTemplate) -> JsonObject:
        """The Pod, with the proxy if it was asked for, in the mode that this run can have."""
        check_pod(template.document, f"{self._order.filename}, {template.workload}")
        pod = make_pod(template)
        check_pod(pod, f"{self._order.filename}, {template.workload}")
        if not template.labelled:
            self._notes.append(f'{template.workload} has no label {USE_LABEL}: "true", so it gets no identity')
            return pod
        annotations = pod["metadata"].get("annotations") or {}
        more: dict[str, str] = {}
        if self._order.proxy:
            more |= {INJECT_PROXY_ANNOTATION: "true", PROXY_MODE_ANNOTATION: "redirect"}
        if (self._order.proxy or INJECT_PROXY_ANNOTATION in annotations) and not self._order.isolated:
            more |= {PROXY_MODE_ANNOTATION: "environment", PROXY_PORT_ANNOTATION: str(free_port())}
        return with_annotations(pod, more) if more else pod

    def _start_pod(self, stage: Stage, pod: JsonObject) -> RunningPod:
        labels = pod["metadata"].get("labels") or {}
        running = stage.start_pod(pod) if labels.get(USE_LABEL) == "true" else stage.start_pod_as_it_is(pod)
        self._notes += [f"warning: {warning}" for warning in running.admitted.warnings]
        return running

    def _start_proxy(self, stage: Stage, pod: RunningPod) -> None:
        launcher: list[str] = []
        if self._order.isolated and pod.has_container(PROXY_CONTAINER):
            launcher = isolation.user_launcher(find_container(pod.admitted.pod, PROXY_CONTAINER))
        if pod.has_container(PROXY_INIT_CONTAINER):  # its rules name the proxy's user, who must be there
            self._notes.append(stage.set_redirect(pod))
        if not pod.has_container(PROXY_CONTAINER):
            return
        proxy = stage.start_proxy(pod, launcher)
        if not self._order.isolated:
            self._notes.append(
                f"the proxy is http://127.0.0.1:{proxy.port}, which the Python, JavaScript, .NET and Java SDKs find by "
                "AZURE_POD_IDENTITY_AUTHORITY_HOST; with --isolated it is behind 169.254.169.254"
            )

    # --- The command ----------------------------------------------------------------------------------------

    def _make_command(self, stage: Stage, pod: RunningPod, container: str) -> Prepared:
        document = find_container(pod.admitted.pod, container)
        resolved = pod.resolve(container)
        self._notes += [f"variable {name} cannot be had here, and is left out" for name in resolved.missing]
        command = list(self._order.command) or container_command(document, resolved.variables)
        if not command:
            raise ManifestError(
                f"container {container} has no command of its own", hint="give one: azwi run -f FILE -- COMMAND"
            )
        environment = own_environment(isolated=self._order.isolated) | stage.entra.trust | resolved.variables
        return Prepared(command, environment, self._working_folder(document), self._notes, pod)

    def _working_folder(self, container: JsonObject) -> Path:
        wanted = container.get("workingDir")
        if wanted and not Path(wanted).is_dir():
            self._notes.append(f"workingDir {wanted} is not on this machine; the command runs here")
        return Path(wanted) if wanted and Path(wanted).is_dir() else Path.cwd()


def read_documents(path: Path) -> list[tuple[str, JsonObject]]:
    """The manifests of a file or folder, each with where it stands; no part of one is shared with another.

    Raises:
        ManifestError: It cannot be read, or is none, or grows beyond all manifests when its aliases are followed, or a
            service account is there twice.
    """
    found = []
    manifests = read_manifests(path)
    for manifest in manifests:
        has_shared_parts(manifest.document, manifest.where)  # raises for a bomb
        check_document(manifest.document, manifest.where)
        try:
            plain = json.loads(json.dumps(manifest.document, default=str, allow_nan=False))
        except ValueError as problem:
            raise ManifestError(f"{manifest.where} holds a number that JSON does not have") from problem
        found.append((manifest.where, plain))
    index_accounts(manifests)  # raises for one that is there twice
    return found


def own_environment(*, isolated: bool) -> dict[str, str]:
    """The user's variables without those that a container would not have, or that cannot be true in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    if isolated:
        return {name: value for name, value in kept.items() if name not in _PROXIES}
    if any(name in kept for name in _PROXIES):
        local = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy"), "localhost,127.0.0.1")))
        kept |= {"NO_PROXY": local, "no_proxy": local}
    return kept
