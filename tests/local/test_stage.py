"""Official SDKs beside the real webhook, proxy and emulator: what a container's program gets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from azwi.cluster.manifests import read_manifests
from azwi.errors import LocalError
from azwi.local.demo import MANIFESTS, RESOURCE, TENANT
from azwi.local.processes import Process, base_environment, find_program
from azwi.local.running import with_annotations, with_free_proxy_port
from azwi.local.stage import OwnEmulator, Stage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs

EXAMPLES = Path(__file__).parents[2] / "examples"
CLIENT = "22222222-2222-2222-2222-222222222222"
MSAL_PROGRAM = """
import json, msal, requests
client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=requests.Session())
result = client.acquire_token_for_client(resource="https://vault.azure.net")
print(json.dumps({"token": result["access_token"]} if "access_token" in result else {"error": result}))
"""

BY_OBJECT_ID = """
import json, sys
from azure.identity import ManagedIdentityCredential
credential = ManagedIdentityCredential(identity_config={"object_id": sys.argv[1]})
try:
    print(json.dumps({"token": credential.get_token("https://vault.azure.net/.default").token}))
except Exception as problem:
    print(json.dumps({"error": str(problem)}))
"""


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A running emulator and webhook with the examples."""
    documents = [found.document for name in MANIFESTS for found in read_manifests(EXAMPLES / name)]
    with Stage(documents, TENANT, OwnEmulator(EXAMPLES / "entra.yaml")) as running:
        yield running


def test_workload_identity_credential_gets_a_verified_token(stage: Stage) -> None:
    """azure-identity's WorkloadIdentityCredential, with nothing but the injected variables."""
    printed = stage.witness.run_program(EXAMPLES / "program.py", stage.start_pod(stage.pod("orders")), "workload")

    claims = stage.witness.verify(printed["token"], RESOURCE)

    assert (CLIENT, TENANT) == (claims["appid"], claims["tid"])


def test_metadata_programs_get_a_verified_token_through_the_proxy(stage: Stage, tmp_path: Path) -> None:
    """azure-identity's ManagedIdentityCredential and msal's ManagedIdentityClient, each counted by the proxy."""
    program = tmp_path / "with_msal.py"
    program.write_text(MSAL_PROGRAM)
    pod = stage.start_pod(with_free_proxy_port(stage.pod("legacy")))
    proxy = stage.start_proxy(pod)

    for count, (path, arguments) in enumerate([(EXAMPLES / "program.py", ["managed"]), (program, [])], 1):
        printed = stage.witness.run_program(path, pod, *arguments, without=("AZURE_FEDERATED_TOKEN_FILE",))

        assert stage.witness.verify(printed["token"], RESOURCE)["appid"] == CLIENT
        assert stage.count_answers(proxy) == count


def test_an_identity_map_reaches_the_proxy(stage: Stage, tmp_path: Path) -> None:
    """From annotation and ConfigMap to a program that asks by object id; an id that is not in it is refused."""
    program = tmp_path / "by_object_id.py"
    program.write_text(BY_OBJECT_ID)
    name = "44444444-4444-4444-4444-444444444444"
    config_map = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "names", "namespace": "shop"},
        "data": {"shop": f"# of the shop\nobject_id={name},client_id={CLIENT}\n"},
    }
    stage.documents.append(config_map)
    annotations = {"azure.workload.identity/identity-map": "names"}
    pod = stage.start_pod(with_annotations(with_free_proxy_port(stage.pod("legacy")), annotations))
    stage.start_proxy(pod)

    def ask(object_id: str) -> dict[str, str]:
        return stage.witness.run_program(program, pod, object_id, without=("AZURE_FEDERATED_TOKEN_FILE",))

    assert stage.witness.verify(ask(name)["token"], RESOURCE)["appid"] == CLIENT
    assert "is not in the identity map" in ask("55555555-5555-5555-5555-555555555555")["error"]


def test_a_token_for_another_resource_does_not_verify(stage: Stage) -> None:
    """Verification is real: the audience is part of it."""
    printed = stage.witness.run_program(EXAMPLES / "program.py", stage.start_pod(stage.pod("orders")), "workload")

    with pytest.raises(LocalError, match="does not verify"):
        stage.witness.verify(printed["token"], "https://storage.azure.com")


def test_a_program_that_fails_is_told_by_its_last_line(stage: Stage, tmp_path: Path) -> None:
    """A program that prints no JSON is an error with what it said last."""
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit('no luck')")

    with pytest.raises(LocalError, match=r"broken.py ended with 1: no luck"):
        stage.witness.run_program(program, stage.start_pod(stage.pod("orders")))


def test_what_does_not_come_up_is_told(stage: Stage, tmp_path: Path) -> None:
    """A program that ends early, one that is missing, a Pod that is not there, an account that does not change."""
    with (
        Process(["azwi", "bogus"], base_environment(), tmp_path) as process,
        pytest.raises(LocalError, match=r"azwi ended with \d: .*bogus"),
    ):
        process.wait_for(lambda: None, "luck")
    with pytest.raises(LocalError, match="no-such-program is missing"):
        find_program("no-such-program")
    with pytest.raises(LocalError, match="no Pod nobody"):
        stage.pod("nobody")
    with pytest.raises(LocalError, match="did not read the changed service account"):
        stage.start_pod_when(stage.pod("orders"), "somebody", seconds=0.2)
