"""The main job as a story: a Pod goes in, a token comes out, each step with its real result."""

from __future__ import annotations

import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from azwi.cluster.manifests import read_manifests
from azwi.contract import CLIENT_ID_ANNOTATION, PROXY_CONTAINER, PROXY_MODE_ANNOTATION, TOKEN_FILE_VARIABLE
from azwi.errors import AzwiError, LocalError
from azwi.local import isolation, namespaces
from azwi.local.pod import find_container, projected_tokens
from azwi.local.processes import claim_process
from azwi.local.run import private_folder
from azwi.local.running import with_annotations, with_free_proxy_port
from azwi.local.stage import OwnEmulator, Stage

if TYPE_CHECKING:
    from rich.console import RenderableType

    from azwi.local.pod import Admitted, JsonObject
    from azwi.local.running import RunningPod

TENANT: Final = "11111111-1111-1111-1111-111111111111"
CATALOGUE: Final = "33333333-3333-3333-3333-333333333333"
BILLING: Final = "44444444-4444-4444-4444-444444444444"
RESOURCE: Final = "https://vault.azure.net"
REDIRECTED: Final = "http://169.254.169.254, which azwi-proxy-init redirects"
MANIFESTS: Final = (
    "one-to-one.yaml",
    "many-to-one.yaml",
    "one-to-many.yaml",
    "imds-proxy.yaml",
    "not-trusted.yaml",
)

# What to do about a refusal, by Entra's code. Source: Microsoft Learn, "Microsoft Entra authentication and
# authorization error codes".
_REMEDIES: Final = {
    "AADSTS700213": "Give the application a federated credential with exactly this subject, or correct the client-id.",
    "AADSTS700211": "The federated credential must name this issuer to the letter, trailing slash included.",
    "AADSTS700212": "The federated credential must name this audience.",
    "AADSTS70021": "Compare issuer, subject and audience of the token with the application's federated credentials.",
    "AADSTS700016": "Check the client-id annotation and the tenant.",
}


@dataclass(frozen=True, slots=True)
class Mapping:
    """One row of the mappings: which service account got a token as which identity."""

    kind: str
    account: str
    client_id: str
    claims: JsonObject


def run_demo(examples: Path, console: Console) -> int:
    """Tell the story on the manifests of a folder; 1 where a step fails.

    Args:
        examples: The folder with `entra.yaml`, the manifests and `program.py`.
        console: Where it is told.
    """
    claim_process()
    reason = isolation_problem()
    if not reason:
        return _run_isolated(examples)
    console.print(f"[dim]Not isolated: {reason}.[/]")
    return _run_here(examples, console, None)


def isolation_problem() -> str:
    """Why the story cannot be told in namespaces of its own; empty where it can."""
    if not namespaces.may_isolate():
        return "this machine forbids namespaces"
    if not namespaces.may_be_several():
        return "a namespace has room for one user only; the package uidmap and ranges in /etc/subuid give more"
    missing = [name for name in ("iptables-restore", "setpriv") if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else ""


def _run_isolated(examples: Path) -> int:
    """Tell it from inside of namespaces, by a process that runs this module."""
    with private_folder() as (folder, _, kept):
        argv = [sys.executable, "-m", "azwi.local.demo", str(examples), folder]
        _, status = os.waitpid(namespaces.spawn(argv, (kept,)), 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def main(argv: list[str]) -> int:
    """The first process of the namespaces."""
    examples, folder = Path(argv[0]), Path(argv[1])
    isolation.enter(folder)
    return _run_here(examples, Console(highlight=False), folder)


def _run_here(examples: Path, console: Console, folder: Path | None) -> int:
    started = time.monotonic()
    try:
        missing = [name for name in ("entra.yaml", "program.py", *MANIFESTS) if not (examples / name).exists()]
        if missing:
            raise LocalError(f"{examples} lacks {', '.join(missing)}", hint="name the folder with --examples")
        _Story(examples, console, folder).tell()
    except AzwiError as problem:
        console.print(Text(f"✗ {problem}", style="bold red"), soft_wrap=True)
        return problem.exit_code
    console.print(f"\n[bold green]✓ All of it worked[/], in {time.monotonic() - started:.1f} s.")
    return 0


class _Story:
    """The steps, told one after another on one stage."""

    def __init__(self, examples: Path, console: Console, folder: Path | None) -> None:
        self._examples = examples
        self._folder = folder
        self._program = examples / "program.py"
        self._console = console
        self._step = 0

    def tell(self) -> None:
        console = self._console
        console.print("[bold]Azure AD Workload Identity: a Pod goes in, a token comes out[/]")
        console.print("No cluster, no Azure, no secret. The programs are real; Microsoft Entra is an emulator.")
        documents = [found.document for name in MANIFESTS for found in read_manifests(self._examples / name)]
        arguments = isolation.EMULATOR_ARGUMENTS if self._folder else ()
        emulator = OwnEmulator(self._examples / "entra.yaml", arguments)
        with Stage(documents, TENANT, emulator, self._folder) as stage:
            orders = self._tell_injection(stage)
            self._tell_token(orders)
            self._tell_exchange(stage, orders)
            self._tell_mappings(stage, orders)
            self._tell_proxy(stage)
            self._tell_refusal(stage)

    def _head(self, title: str) -> None:
        self._step += 1
        self._console.print(f"\n[bold cyan]{self._step}. {title}[/]")

    def _show(self, what: RenderableType) -> None:
        self._console.print(what)

    def _tell_injection(self, stage: Stage) -> RunningPod:
        self._head("The webhook gives a labelled Pod its identity")
        self._show(f"azwi-webhook and the emulator run; Entra is {stage.entra.authority}")
        pod = stage.start_pod(stage.pod("orders"))
        self._show(draw_patch(pod.admitted))
        return pod

    def _tell_token(self, pod: RunningPod) -> None:
        self._head("The kubelet puts a service account token into that volume")
        claims = pod.claims[0]
        life = timedelta(seconds=claims["exp"] - claims["iat"])
        rows = {"issuer": claims["iss"], "subject": claims["sub"], "audience": claims["aud"][0], "valid for": str(life)}
        self._show(draw_rows(rows))

    def _tell_exchange(self, stage: Stage, pod: RunningPod) -> None:
        self._head("azure-identity, in a process of its own, exchanges it for an access token")
        claims = self._exchange(stage, pod)
        rows = {
            "audience": claims["aud"],
            "application": claims["appid"],
            "tenant": claims["tid"],
            "signature": "verified with the keys that the authority publishes",
        }
        self._show(draw_rows(rows))

    def _exchange(self, stage: Stage, pod: RunningPod, *arguments: str, without: tuple[str, ...] = ()) -> JsonObject:
        """The verified claims of the access token that the Pod's program gets."""
        printed = stage.witness.run_program(self._program, pod, *(arguments or ("workload",)), without=without)
        if "token" not in printed:
            raise LocalError(f"the program of Pod {pod.name} got no token: {printed.get('error')}")
        return stage.witness.verify(printed["token"], RESOURCE)

    def _tell_mappings(self, stage: Stage, orders: RunningPod) -> None:
        self._head("One identity for one service account, for many, and many for one")
        before = stage.start_pod(stage.pod("reports"))
        stage.annotate_account("reports", CLIENT_ID_ANNOTATION, BILLING)
        after = stage.start_pod_when(stage.pod("reports"), BILLING)
        pods = [
            ("one to one", orders),
            ("many to one", stage.start_pod(stage.pod("catalogue-web"))),
            ("many to one", stage.start_pod(stage.pod("catalogue-worker"))),
            ("one to many", before),
            ("one to many, later", after),
        ]
        with ThreadPoolExecutor(max_workers=2) as pool:
            claims = list(pool.map(lambda entry: self._exchange(stage, entry[1]), pods))
        mappings = [
            Mapping(kind, pod.claims[0]["sub"], pod.environment("app")["AZURE_CLIENT_ID"], got)
            for (kind, pod), got in zip(pods, claims, strict=True)
        ]
        for mapping in mappings:
            if mapping.claims["appid"] != mapping.client_id:
                raise LocalError(f"{mapping.account} got a token as {mapping.claims['appid']}, not {mapping.client_id}")
        self._show(draw_mappings(mappings))

    def _tell_proxy(self, stage: Stage) -> None:
        self._head("The proxy answers a program that only knows the metadata service")
        pod = stage.start_pod(self._legacy_pod(stage))
        container = find_container(pod.admitted.pod, PROXY_CONTAINER)
        if self._folder:
            stage.set_redirect(pod)
        proxy = stage.start_proxy(pod, isolation.user_launcher(container) if self._folder else ())
        # With this variable the SDK would use the token itself and never ask the metadata service.
        claims = self._exchange(stage, pod, "managed", without=(TOKEN_FILE_VARIABLE,))
        answered = stage.count_answers(proxy)
        if answered != 1:
            raise LocalError(f"the proxy counts {answered} token requests, 1 was made")
        rows = {
            "program asks": pod.environment("app").get("AZURE_POD_IDENTITY_AUTHORITY_HOST", REDIRECTED),
            "application": claims["appid"],
            "answered by": "azwi-proxy, by its own count of 1 request",
        }
        self._show(draw_rows(rows))

    def _legacy_pod(self, stage: Stage) -> JsonObject:
        """The Pod, with the redirect where this run has a network of its own, else with a variable and a free port."""
        pod = stage.pod("legacy")
        return with_annotations(pod, {PROXY_MODE_ANNOTATION: "redirect"}) if self._folder else with_free_proxy_port(pod)

    def _tell_refusal(self, stage: Stage) -> None:
        self._head("A service account that the application does not trust is refused")
        pod = stage.start_pod(stage.pod("intruder"))
        printed = stage.witness.run_program(self._program, pod, "workload")
        error = str(printed.get("error", ""))
        code = next((code for code in _REMEDIES if f"{code}:" in error), None)
        if code is None:
            raise LocalError(f"the exchange of Pod intruder was to be refused; the program printed {sorted(printed)}")
        text = error[error.index(code) :].split(" Trace ID:", maxsplit=1)[0].splitlines()[0]
        self._show(draw_rows({"Entra says": text, "subject": pod.claims[0]["sub"], "what to do": _REMEDIES[code]}))


def draw_patch(admitted: Admitted) -> Tree:
    """What the webhook put into a Pod."""
    metadata = admitted.pod["metadata"]
    tree = Tree(f"Pod {metadata['namespace']}/{metadata['name']}")
    for kind in ("initContainers", "containers"):
        for container in admitted.pod["spec"].get(kind) or ():
            branch = tree.add(f"container {container['name']}")
            for variable in container.get("env") or ():
                branch.add(_fold(f"{variable['name']} = {variable.get('value', 'by reference')}"))
            for mount in container.get("volumeMounts") or ():
                branch.add(_fold(f"{mount['mountPath']} from volume {mount['name']}"))
    for token in projected_tokens(admitted.pod):
        branch = tree.add(f"volume {token.volume}")
        branch.add(_fold(f"{token.path}: service account token for {token.audience}, {token.expiration} s"))
    for warning in admitted.warnings:
        tree.add(_fold(f"warning: {warning}"))
    return tree


def _fold(text: str) -> Text:
    """Text that a narrow terminal folds and never cuts."""
    return Text(text, overflow="fold")


def draw_rows(rows: dict[str, str]) -> Table:
    """Names and values, aligned."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(Text(f"  {name}", style="dim"), Text(value, overflow="fold"))
    return table


def draw_mappings(mappings: list[Mapping]) -> Table:
    """The mappings of service accounts to identities, each with the application of its access token."""
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for title in ("mapping", "service account"):
        table.add_column(title)
    table.add_column("token for application", no_wrap=True)
    for mapping in mappings:
        table.add_row(mapping.kind, mapping.account.removeprefix("system:serviceaccount:"), mapping.claims["appid"])
    return table


def find_examples() -> Path:
    """The examples of the checkout, or of the installed package."""
    here = Path(__file__)
    packaged = here.with_name("examples")
    return packaged if packaged.exists() else here.parents[3] / "examples"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
