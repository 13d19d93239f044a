"""The recorded requests of the reference, by their effects: the same command leaves the same things behind."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from azwi.cli.main import main

if TYPE_CHECKING:
    from identity_lab import Lab

CASES = sorted((Path(__file__).parents[1] / "vectors" / "azwi-serviceaccount").glob("*.json"))
ISSUER = "https://oidc.example/abc/"
SUBJECT = "system:serviceaccount:ns1:sa1"
CREDENTIAL = "llIjQ-vG9JPnRXXLHgFBgGNsmeDONF88XuTjjdywXVk="
DEFAULT_NAME = "ns1-sa1-puVA-pJ_GD2ktn96cx6VxkeVFuLY5fZ7CEAw95R98Zk="
SCOPE = "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/g"
# Where ours ends differently on purpose: the case, the exit code, and whether the service account is left.
BETTER = {"create-fic-404": (0, True), "delete-fic-other-issuer": (0, False)}


def load(path: Path) -> dict[str, Any]:
    """One case."""
    case: dict[str, Any] = json.loads(path.read_text())
    return case


def prepare(lab: Lab, case: dict[str, Any]) -> None:
    """Have in the emulators what the recording's stand-ins had."""
    state = case["fake_state"]
    if state.get("app"):
        other = "https://other.example/" if case["id"] == "delete-fic-other-issuer" else ISSUER
        lab.create_application(DEFAULT_NAME)
        if state.get("fic") or state.get("fic_exists") or case["id"] == "delete-fic-other-issuer":
            lab.create_credential(DEFAULT_NAME, CREDENTIAL, other, SUBJECT)
    if state.get("fic_404"):
        lab.emulator.fail(
            service="graph", status=404, error="Request_ResourceNotFound", method="POST", match="IdentityCredentials"
        )
    if state.get("fic_get_404"):
        lab.emulator.fail(
            service="graph", status=404, error="Request_ResourceNotFound", method="GET", match="IdentityCredentials"
        )
    if state.get("graph_403") and any(one.get("host") == "graph.microsoft.com" for one in case["requests"]):
        lab.emulator.fail(service="graph", status=403, error="Authorization_RequestDenied")
    if state.get("ra_conflict"):
        lab.assign(DEFAULT_NAME, "Reader", SCOPE)
    for _ in range(state.get("ra_fail_times", 0)):
        lab.emulator.fail(service="arm", status=400, error="PrincipalNotFound", method="PUT")
    for document in case["objects"]:
        lab.cluster.put(json.loads(json.dumps(document)))


def expected_effects(case: dict[str, Any]) -> dict[str, Any]:
    """What the recorded writes were meant to do."""
    effects: dict[str, Any] = {"applications": set(), "gone": False, "credential": None, "role": False}
    for request in case["requests"]:
        path, body = request["path"], request["body"]
        if request["method"] == "POST" and path == "/v1.0/applications":
            effects["applications"].add(body["displayName"])
        elif request["method"] == "POST" and path.endswith("/federatedIdentityCredentials"):
            effects["credential"] = {name: body[name] for name in ("name", "issuer", "subject", "audiences")}
        elif request["method"] == "PUT" and "roleAssignments" in path:
            effects["role"] = True
        elif request["method"] == "DELETE" and re.fullmatch(r"/v1.0/applications/[\w-]+", path):
            effects["gone"] = True
    return effects


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_same_command_has_the_same_effects(path: Path, lab: Lab) -> None:
    """Exit code, applications, credentials, role assignments and service accounts are as recorded."""
    case = load(path)
    prepare(lab, case)
    code, account_left = BETTER.get(case["id"], (case["exit_status"], bool(case["objects-after"])))

    # The place replaces the recording's stand-ins; who signs in, and everything else, is as recorded.
    assert code == main([*case["argv"][1:], *lab.place()])

    effects = expected_effects(case)
    existed = {DEFAULT_NAME} if case["fake_state"].get("app") and not effects["gone"] else set()
    assert effects["applications"] | existed == set(lab.applications())
    if effects["credential"]:
        name = next(iter(effects["applications"] | existed))
        found = lab.application_credentials(name)
        assert [effects["credential"]] == [{key: one[key] for key in effects["credential"]} for one in found]
    if effects["role"]:
        assert [SCOPE] == [one["properties"]["scope"] for one in lab.assignments()]
    assert account_left == (("ns1", "sa1") in lab.cluster.objects)
    if case["objects-after"] and not case["objects"]:
        application = next(one for one in lab.graph("/applications")["value"] if one["displayName"] == DEFAULT_NAME)
        wanted = {"client-id": application["appId"], "tenant-id": "11111111-1111-1111-1111-111111111111"}
        assert wanted == lab.cluster.annotations("ns1", "sa1")


@pytest.mark.parametrize("path", [path for path in CASES if path.stem.startswith("auth-")], ids=lambda path: path.stem)
def test_bad_sign_in_options_are_told_before_any_request(
    path: Path, lab: Lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the recording, nothing is asked, and the flag is named."""
    case = load(path)
    if case["exit_status"] == 0:
        return
    main([*case["argv"][1:], *lab.place()])
    told = capsys.readouterr().err
    assert [] == [one for one in lab.emulator.journal() if one["service"] != "emulator"]
    assert ("--client-id" if case["id"] == "auth-client-id-bad" else "--azure-env") in told
