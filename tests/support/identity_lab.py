"""One emulated Entra, Graph and Resource Manager, and one cluster, for the tests of identities."""

from __future__ import annotations

import json
import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cluster_standin import Cluster, running_cluster

from azwi.cli.main import main
from azwi.emulator.arm_documents import BUILT_IN_ROLES
from azwi.emulator.client import EmulatorClient, emulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TENANT = "11111111-1111-1111-1111-111111111111"
OPERATOR = "55555555-5555-5555-5555-555555555555"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"
SECRET = "s3cret-of-the-operator"  # noqa: S105  # a mark
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
# What most command lines hold.
NAME = "--aad-application-name=orders"
IDENTITY = ("--identity-name=orders", "--resource-group=shop")
NO_ROLE = "--skip-phases=role-assignment"
ASSIGNMENT = "--role-assignment-id=/providers/Microsoft.Authorization/roleAssignments/x"
P = "azure.workload.identity/"
STATE = {
    "tenants": [
        {
            "id": TENANT,
            "applications": [
                {"clientId": OPERATOR, "displayName": "operator", "clientSecrets": [SECRET, "s3cret", "s"]}
            ],
            "subscriptions": [
                {
                    "id": SUBSCRIPTION,
                    "resourceGroups": [
                        {"name": "shop", "location": "westeurope"},
                        {"name": "g", "location": "westeurope"},
                    ],
                },
            ],
        }
    ]
}


class Lab:
    """Everything that azwi needs, and a way to run it."""

    def __init__(self, emulator: EmulatorClient, cluster: Cluster, folder: Path) -> None:
        self.emulator = emulator
        self.cluster = cluster
        self.folder = folder
        self.kubeconfig = cluster.write_kubeconfig(folder / "kubeconfig")
        self.secret_file = folder / "secret"
        self.secret_file.write_text(SECRET + "\n")

    def place(self) -> list[str]:
        """Flags that say where everything is."""
        return [
            f"--authority-host={self.emulator.authority}",
            f"--graph-endpoint={self.emulator.graph}",
            f"--resource-manager-endpoint={self.emulator.resource_manager}",
            f"--ca-file={self.emulator.ca_file}",
            f"--kubeconfig={self.kubeconfig}",
        ]

    def flags(self) -> list[str]:
        """Where everything is, and who signs in."""
        return [
            *self.place(),
            f"--subscription-id={SUBSCRIPTION}",
            "--auth-method=client_secret",
            f"--client-id={OPERATOR}",
            f"--client-secret-file={self.secret_file}",
        ]

    def account(self, name: str = "orders", namespace: str = "shop", issuer: str = "") -> list[str]:
        """Flags that name a service account of the emulated cluster."""
        return [
            f"--service-account-name={name}",
            f"--service-account-namespace={namespace}",
            f"--service-account-issuer-url={issuer or self.emulator.issuer}",
        ]

    def run(self, *arguments: str) -> int:
        """Run azwi in this process; the flags come on top."""
        return main([*arguments, *self.flags()])

    def graph(self, path: str, method: str = "GET", **body: object) -> Any:  # noqa: ANN401
        """What Graph says, asked as an administrator."""
        return self._ask(method, f"{self.emulator.graph}/v1.0{path}", self.emulator.graph, body)

    def arm(self, path: str, version: str = "2023-01-31", method: str = "GET", **body: object) -> Any:  # noqa: ANN401
        """What Resource Manager says."""
        base = self.emulator.resource_manager
        return self._ask(method, f"{base}{path}?api-version={version}", base, body)

    def create_application(self, name: str) -> dict[str, Any]:
        """An application with its principal."""
        made: dict[str, Any] = self.graph("/applications", "POST", displayName=name)
        return made | {"principal": self.graph("/servicePrincipals", "POST", appId=made["appId"])["id"]}

    def find_application(self, name: str) -> dict[str, Any]:
        """The application of that name."""
        found: dict[str, Any] = next(one for one in self.graph("/applications")["value"] if one["displayName"] == name)
        return found

    def create_credential(self, application: str, name: str, issuer: str, subject: str) -> None:
        """A federated credential of an application."""
        path = f"/applications/{self.find_application(application)['id']}/federatedIdentityCredentials"
        self.graph(path, "POST", name=name, issuer=issuer, subject=subject, audiences=["api://AzureADTokenExchange"])

    def assign(self, application: str, role: str, scope: str) -> None:
        """A role of an application, assigned by somebody else than azwi."""
        client_id = self.find_application(application)["appId"]
        principal = next(one for one in self.graph("/servicePrincipals")["value"] if one["appId"] == client_id)
        definition = f"/providers/Microsoft.Authorization/roleDefinitions/{BUILT_IN_ROLES[role]}"
        properties = {"principalId": principal["id"], "roleDefinitionId": definition}
        path = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{uuid.uuid4()}"
        self.arm(path, "2022-04-01", "PUT", properties=properties)

    def _ask(self, method: str, url: str, resource: str, body: dict[str, object]) -> Any:  # noqa: ANN401
        http = self.emulator._http
        form = {
            "grant_type": "client_credentials",
            "client_id": OPERATOR,
            "client_secret": SECRET,
            "scope": f"{resource}/.default",
        }
        token = http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        answer = http.request(method, url, headers=headers, json=body or None)
        return answer.json() if answer.content else None

    def applications(self) -> list[str]:
        """Display names of all applications but the operator."""
        names = [one["displayName"] for one in self.graph("/applications")["value"]]
        return sorted(name for name in names if name != "operator")

    def application_credentials(self, name: str) -> list[dict[str, Any]]:
        """The federated credentials of the application of that name."""
        path = f"/applications/{self.find_application(name)['id']}/federatedIdentityCredentials"
        credentials: list[dict[str, Any]] = self.graph(path)["value"]
        return credentials

    def identities(self) -> list[str]:
        """Names of all managed identities."""
        path = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
        return [one["name"] for one in self.arm(path)["value"]]

    def identity_credentials(self, name: str) -> list[dict[str, Any]]:
        """The federated credentials of the managed identity of that name."""
        path = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}/federatedIdentityCredentials"
        credentials: list[dict[str, Any]] = self.arm(path)["value"]
        return credentials

    def assignments(self) -> list[dict[str, Any]]:
        """All role assignments."""
        path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments"
        assignments: list[dict[str, Any]] = self.arm(path, "2022-04-01")["value"]
        return assignments

    def write_requests(self) -> list[tuple[str, str, str]]:
        """What Graph and Resource Manager were asked to change: method, path, outcome."""
        return [
            (one["method"], one["path"], one["outcome"])
            for one in self.emulator.journal()
            if one["service"] in {"graph", "arm"} and one["method"] != "GET"
        ]

    def count_writes(self) -> int:
        """How many requests changed something, in Azure and in the cluster."""
        azure = [outcome for _, _, outcome in self.write_requests() if outcome == "ok"]
        return len(azure) + len([method for method, _ in self.cluster.requests if method in {"PATCH", "DELETE"}])

    def slow_down(self, seconds: float) -> None:
        """Let Azure and the cluster act at once, but answer so late."""
        self.emulator.slow(seconds, "graph")
        self.emulator.slow(seconds, "arm")
        self.cluster.delay = seconds


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """A running emulator with one application that signs in, and one subscription."""
    folder = tmp_path_factory.mktemp("identity")
    (folder / "state.yaml").write_text(yaml.safe_dump(STATE))
    with emulate(folder / "state.yaml", folder / "emulator") as running:
        yield running


@pytest.fixture
def lab(emulator: EmulatorClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A clean emulator and an empty cluster whose tokens it knows."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_SUBSCRIPTION_ID", "KUBECONFIG", "AZURE_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    emulator.reset()
    with running_cluster(emulator.service_account_token, emulator.issuer) as cluster:
        yield Lab(emulator, cluster, tmp_path)


@pytest.fixture
def result(capsys: pytest.CaptureFixture[str]) -> Callable[[], dict[str, Any]]:
    """The JSON document that the last command printed."""

    def read() -> dict[str, Any]:
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return read


def results(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Object and result of each step."""
    return [(step["object"], step["result"]) for step in document["steps"]]


def at_once(count: int, work: Callable[[int], None]) -> None:
    """Run something so many times at the same time."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
