"""The emulated Graph and Resource Manager over HTTP: who may ask, what goes wrong on purpose, two writers at once."""

from __future__ import annotations

import asyncio
import ssl
import time
import warnings
from typing import TYPE_CHECKING, Any

import httpx2
import msal
import pytest
import yaml
from client_certificate import make_certificate

from azwi.emulator.client import EmulatorClient, emulate
from azwi.emulator.service import read_caller
from azwi.emulator.state import parse_state
from azwi.errors import LocalError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TENANT = "11111111-1111-1111-1111-111111111111"
OPERATOR = "55555555-5555-5555-5555-555555555555"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"
MARK = "not-a-secret"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
IDENTITY = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/orders"
VERSION = {"api-version": "2023-01-31"}


@pytest.fixture(scope="module")
def certificate() -> tuple[str, str]:
    """One for all."""
    return make_certificate()


def state(*certificates: str) -> dict[str, Any]:
    """A tenant with one application that signs in, and one subscription."""
    operator = {"clientId": OPERATOR, "clientSecrets": [MARK], "certificates": list(certificates)}
    groups = [{"name": "shop", "location": "westeurope"}]
    subscriptions = [{"id": SUBSCRIPTION, "resourceGroups": groups}]
    return {"tenants": [{"id": TENANT, "applications": [operator], "subscriptions": subscriptions}]}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory, certificate: tuple[str, str]) -> Iterator[EmulatorClient]:
    """An emulator of this file's own."""
    folder = tmp_path_factory.mktemp("azure")
    (folder / "state.yaml").write_text(yaml.safe_dump(state(certificate[0])))
    with emulate(folder / "state.yaml", folder / "run") as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(azure: EmulatorClient) -> None:
    azure.reset()


def sign_in(azure: EmulatorClient, credential: object) -> dict[str, Any]:
    """MSAL signs in for Graph."""
    session = azure._http

    class Http:
        def get(self, url: str, **how: Any) -> Any:  # noqa: ANN401
            return Answer(session.get(url, params=how.get("params") or None))

        def post(self, url: str, **how: Any) -> Any:  # noqa: ANN401
            form = {name: one.decode() if isinstance(one, bytes) else one for name, one in how["data"].items()}
            return Answer(session.post(url, data=form))

        def close(self) -> None:
            """Leave it open."""

    class Answer:
        def __init__(self, answer: httpx2.Response) -> None:
            self.status_code, self.text, self.headers = answer.status_code, answer.text, dict(answer.headers)

        def raise_for_status(self) -> None:
            """Say nothing."""

    application = msal.ConfidentialClientApplication(
        OPERATOR, credential, azure.authority + TENANT, instance_discovery=False, http_client=Http()
    )
    answer: dict[str, Any] = application.acquire_token_for_client([azure.graph + "/.default"])
    return answer


def bearer(azure: EmulatorClient, resource: str) -> dict[str, str]:
    """The header of a caller who signed in for a resource."""
    form = {
        "grant_type": "client_credentials",
        "client_id": OPERATOR,
        "client_secret": MARK,
        "scope": f"{resource}/.default",
    }
    token = azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["access_token"]
    return {"Authorization": f"Bearer {token}"}


def ask(azure: EmulatorClient, method: str, url: str, **how: Any) -> httpx2.Response:  # noqa: ANN401
    """One request of somebody who signed in."""
    resource = azure.graph if url.startswith(azure.graph) else azure.resource_manager
    return azure._http.request(method, url, headers=bearer(azure, resource), **how)


def test_an_application_signs_in_with_its_secret_or_its_certificate(
    azure: EmulatorClient, certificate: tuple[str, str]
) -> None:
    """Through MSAL; with another secret or key it is refused by code."""
    other = make_certificate()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "access_token" in sign_in(azure, MARK)
        assert [7000215] == sign_in(azure, "wrong")["error_codes"]
        own = {"private_key": certificate[1], "public_certificate": certificate[0]}
        assert "access_token" in sign_in(azure, own)
        wrong = {"private_key": other[1], "public_certificate": other[0]}
        assert [700027] == sign_in(azure, wrong)["error_codes"]
        azure.skew_clock(86_400)
        assert [700024] == sign_in(azure, own)["error_codes"]


def test_a_secret_for_an_unknown_resource(azure: EmulatorClient) -> None:
    """The resource is looked at, whatever the credential."""
    form = {"grant_type": "client_credentials", "client_id": OPERATOR, "client_secret": MARK, "scope": "x://y/.default"}
    assert [500011] == azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["error_codes"]


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x.y.z", "Basic eDp5"])
def test_who_shows_no_token_is_refused(authorization: str, azure: EmulatorClient) -> None:
    """By Graph with its code, by Resource Manager with the tenant to sign in to."""
    headers = {"Authorization": authorization}
    graph = azure._http.get(f"{azure.graph}/v1.0/applications", headers=headers)
    assert (401, "InvalidAuthenticationToken") == (graph.status_code, graph.json()["error"]["code"])
    arm = azure._http.get(f"{azure.resource_manager}/subscriptions/{SUBSCRIPTION}", headers=headers)
    assert f"{azure.authority}{TENANT}" in arm.headers["www-authenticate"]


def test_a_token_for_another_service_is_refused(azure: EmulatorClient) -> None:
    """Or one that has expired."""
    graphs = bearer(azure, azure.graph)
    assert 200 == azure._http.get(f"{azure.graph}/v1.0/applications", headers=graphs).status_code
    assert 401 == azure._http.get(f"{azure.resource_manager}/subscriptions", headers=graphs, params=VERSION).status_code
    azure.skew_clock(7200)
    assert 401 == azure._http.get(f"{azure.graph}/v1.0/applications", headers=graphs).status_code
    assert "" == read_caller("Bearer a.b.c", [], frozenset(), 0.0)


def test_keys_that_were_rotated_are_still_good(azure: EmulatorClient) -> None:
    """Until they are forgotten."""
    headers = bearer(azure, azure.graph)
    azure.rotate_keys("entra")
    assert 200 == azure._http.get(f"{azure.graph}/v1.0/applications", headers=headers).status_code


def test_two_writers_at_once_of_one_identity(azure: EmulatorClient) -> None:
    """One is refused with the code that Azure gives, and what the others wrote is all there."""
    ask(azure, "PUT", azure.resource_manager + IDENTITY, params=VERSION, json={"location": "westeurope"})
    headers = bearer(azure, azure.resource_manager)
    context = ssl.create_default_context(cafile=azure.ca_file)

    async def write(http: httpx2.AsyncClient, number: int) -> httpx2.Response:
        path = f"{azure.resource_manager}{IDENTITY}/federatedIdentityCredentials/n-{number}"
        trust = {"issuer": "https://i.example", "subject": f"s{number}", "audiences": ["a"]}
        return await http.put(path, params=VERSION, headers=headers, json={"properties": trust})

    async def main() -> list[httpx2.Response]:
        async with httpx2.AsyncClient(verify=context, trust_env=False) as http:
            return await asyncio.gather(*(write(http, number) for number in range(5)))

    answers = asyncio.run(main())
    written = [one for one in answers if one.status_code == 201]
    refused = {one.json()["error"]["code"] for one in answers if one.status_code == 409}
    assert {"ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"} == refused
    listed = ask(azure, "GET", f"{azure.resource_manager}{IDENTITY}/federatedIdentityCredentials", params=VERSION)
    assert {one.json()["name"] for one in written} == {one["name"] for one in listed.json()["value"]}


def test_throttling_and_failures_of_a_service(azure: EmulatorClient) -> None:
    """As often as told, for the requests that are meant; the token endpoint does not notice."""
    url = f"{azure.graph}/v1.0/applications"
    azure.throttle(1, 7, service="graph")
    azure.fail(service="graph", status=403, error="Authorization_RequestDenied", method="POST")
    azure.fail(service="arm", status=502)
    throttled = ask(azure, "GET", url)
    assert (429, "7") == (throttled.status_code, throttled.headers["retry-after"])
    assert 200 == ask(azure, "GET", url).status_code
    assert "Authorization_RequestDenied" == ask(azure, "POST", url, json={"displayName": "x"}).json()["error"]["code"]
    gateway = ask(azure, "GET", f"{azure.resource_manager}/subscriptions", params=VERSION)
    assert (502, "text/html") != (gateway.status_code, gateway.headers.get("content-type"))
    assert 502 == gateway.status_code
    assert 200 == ask(azure, "GET", f"{azure.resource_manager}/subscriptions", params=VERSION).status_code


def test_an_answer_that_is_lost(azure: EmulatorClient) -> None:
    """The request is carried out all the same."""
    url = f"{azure.graph}/v1.0/applications"
    azure.fail(service="graph", status=502, done=True)
    assert 502 == ask(azure, "POST", url, json={"displayName": "orders"}).status_code
    assert "orders" in [one["displayName"] for one in ask(azure, "GET", url).json()["value"]]


def test_verbs_that_make_no_sense(azure: EmulatorClient) -> None:
    """Graph has no AADSTS codes."""
    with pytest.raises(LocalError, match="graph has no AADSTS codes"):
        azure.fail(service="graph", code=700016)


def test_lists_in_small_pages_and_late_answers(azure: EmulatorClient) -> None:
    """A test can ask for both."""
    for name in ("a", "b"):
        ask(azure, "POST", f"{azure.graph}/v1.0/applications", json={"displayName": name})
    azure.page(1)
    page = ask(azure, "GET", f"{azure.graph}/v1.0/applications").json()
    assert page["@odata.nextLink"].startswith(f"{azure.graph}/v1.0/applications?")
    headers = bearer(azure, azure.graph)
    azure.slow(0.2, "graph")
    started = time.monotonic()
    azure._http.post(f"{azure.graph}/v1.0/applications", headers=headers, json={"displayName": "c"})
    assert time.monotonic() - started >= 0.2


def test_a_new_application_cannot_sign_in_at_once(azure: EmulatorClient) -> None:
    """Not before it is known everywhere, nor without a principal."""
    made = ask(azure, "POST", f"{azure.graph}/v1.0/applications", json={"displayName": "x"}).json()
    form = {
        "grant_type": "client_credentials",
        "client_id": made["appId"],
        "client_secret": "x",
        "scope": f"{azure.graph}/.default",
    }
    assert [700016] == azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["error_codes"]
    ask(azure, "POST", f"{azure.graph}/v1.0/servicePrincipals", json={"appId": made["appId"]})
    assert [7000215] == azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["error_codes"]
    azure.delay_replication(60)
    assert [700016] == azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form).json()["error_codes"]


def test_a_flexible_credential_is_matched_by_its_expression(azure: EmulatorClient) -> None:
    """Every service account of a namespace gets a token; another does not."""
    made = ask(azure, "POST", f"{azure.graph}/v1.0/applications", json={"displayName": "x"}).json()
    ask(azure, "POST", f"{azure.graph}/v1.0/servicePrincipals", json={"appId": made["appId"]})
    expression = "claims['sub'] matches 'system:serviceaccount:shop:*'"
    body = {
        "name": "all",
        "issuer": azure.issuer,
        "audiences": ["a"],
        "claimsMatchingExpression": {"value": expression, "languageVersion": 1},
    }
    url = f"{azure.graph}/beta/applications/{made['id']}/federatedIdentityCredentials"
    assert 201 == ask(azure, "POST", url, json=body).status_code

    def exchange(namespace: str) -> httpx2.Response:
        form = {
            "grant_type": "client_credentials",
            "client_id": made["appId"],
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": azure.service_account_token(namespace, "orders", "a"),
            "scope": "https://vault.azure.net/.default",
        }
        return azure._http.post(f"{TENANT}/oauth2/v2.0/token", data=form)

    assert 200 == exchange("shop").status_code
    assert [700213] == exchange("other").json()["error_codes"]


def test_what_services_did_survives_a_change_of_the_file(tmp_path: Path) -> None:
    """The file is read again, and what was done is done to it, too."""
    path = tmp_path / "state.yaml"
    path.write_text(yaml.safe_dump(state()))
    with emulate(path, tmp_path / "run") as azure:
        ask(azure, "POST", f"{azure.graph}/v1.0/applications", json={"displayName": "made"})
        changed = state()
        changed["tenants"][0]["applications"].append({"clientId": TENANT, "displayName": "written"})
        path.write_text(yaml.safe_dump(changed))
        names = [one["displayName"] for one in ask(azure, "GET", f"{azure.graph}/v1.0/applications").json()["value"]]
    assert {OPERATOR, "made", "written"} == set(names)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subscriptions": [{"id": "x"}]}, "subscriptions[0].id: 'x' is not a GUID"),
        ({"subscriptions": [{"id": SUBSCRIPTION}, {"id": SUBSCRIPTION}]}, "the id '4444"),
        (
            {"applications": [{"clientId": OPERATOR, "certificates": ["x"]}]},
            "applications[0].certificates: each must be an X.509 certificate",
        ),
    ],
)
def test_state_that_cannot_be_used(change: dict[str, Any], words: str) -> None:
    """Named by its field."""
    document = state()
    document["tenants"][0] |= change
    with pytest.raises(ManifestError) as problem:
        parse_state(document, "state.yaml")
    assert words in str(problem.value)
