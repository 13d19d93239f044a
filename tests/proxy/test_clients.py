"""Programs that know IMDS only, with their real libraries, against the emulator of Entra: the proxy's whole purpose."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import jwt
import msal
import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential
from tests.proxy.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
STRANGER = "33333333-3333-3333-3333-333333333333"
RESOURCE = "https://vault.azure.net"
TOKENS = 'azwi_proxy_requests_total{result="token"}'
STATE = f"""
tenants:
  - id: {TENANT}
    applications:
      - clientId: {CLIENT}
        federatedCredentials:
          - {{name: one, issuer: cluster, subject: "system:serviceaccount:shop:orders"}}
      - clientId: {STRANGER}
        federatedCredentials:
          - {{name: one, issuer: cluster, subject: "system:serviceaccount:shop:others"}}
"""


class Emulator:
    """A running emulator, as its clients see it."""

    def __init__(self, folder: Path) -> None:
        addresses = json.loads((folder / "emulator.json").read_text())
        self.authority: str = addresses["authority"]
        self.issuer: str = addresses["issuer"]
        self.ca_file: str = addresses["caFile"]
        self._context = ssl.create_default_context(cafile=self.ca_file)

    def fetch(self, url: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """A document."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})  # noqa: S310 - our own
        with urllib.request.urlopen(request, context=self._context, timeout=10) as answer:  # noqa: S310 - our own
            document: dict[str, Any] = json.load(answer)
            return document

    def mint(self) -> str:
        """A service account token."""
        spec = {"audiences": ["api://AzureADTokenExchange"], "expirationSeconds": 3600}
        path = "/api/v1/namespaces/shop/serviceaccounts/orders/token"
        answer = self.fetch(
            self.issuer + path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        )
        token: str = answer["status"]["token"]
        return token

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of an access token, by the keys that Entra publishes."""
        keys = jwt.PyJWKSet.from_dict(self.fetch(f"{self.authority}{TENANT}/discovery/v2.0/keys"))
        key = next(key for key in keys.keys if key.key_id == jwt.get_unverified_header(token)["kid"])
        claims: dict[str, Any] = jwt.decode(token, key.key, ["RS256"], audience=audience)
        return claims


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulator in a process of its own."""
    folder = tmp_path_factory.mktemp("emulator")
    (folder / "state.yaml").write_text(STATE)
    program = (
        "import sys; from pathlib import Path; from azwi.emulator.server import EmulatorSettings, run;"
        "sys.exit(run(EmulatorSettings(Path(sys.argv[1]), Path(sys.argv[2]), 0)))"
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder / "state.yaml"), str(folder)], stdout=log, stderr=log
        )
    deadline = time.monotonic() + 20
    while not (folder / "emulator.json").exists():
        assert process.poll() is None, (folder / "log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield Emulator(folder)
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def served(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxyProcess]:
    """A proxy whose identity the emulator knows."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "token").write_text(emulator.mint())
    (folder / "map").write_text(f"object_id=44444444-4444-4444-4444-444444444444,client_id={CLIENT}\n")
    environment = {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": CLIENT,
        "AZURE_FEDERATED_TOKEN_FILE": str(folder / "token"),
        "AZURE_AUTHORITY_HOST": emulator.authority,
        "SSL_CERT_FILE": emulator.ca_file,
    }
    with ProxyProcess(folder, environment, [f"--identity-map={folder / 'map'}"]) as proxy:
        yield proxy


@pytest.fixture
def pod(served: ProxyProcess, monkeypatch: pytest.MonkeyPatch) -> ProxyProcess:
    """The environment of a program whose metadata requests come to the proxy, and which has no token file."""
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", f"http://127.0.0.1:{served.port}")
    return served


@pytest.mark.parametrize(
    "identity",
    [{}, {"client_id": CLIENT}, {"identity_config": {"object_id": "44444444-4444-4444-4444-444444444444"}}],
)
def test_azure_identity(emulator: Emulator, pod: ProxyProcess, identity: dict[str, Any]) -> None:
    """ManagedIdentityCredential gets a verified token through the proxy, by the proxy's own count."""
    before = pod.count(TOKENS)
    with ManagedIdentityCredential(**identity) as credential:
        token = credential.get_token(f"{RESOURCE}/.default")
    claims = emulator.verify(token.token, RESOURCE)
    assert (CLIENT, TENANT) == (claims.get("appid") or claims.get("azp"), claims["tid"])
    assert claims["exp"] - 5 <= token.expires_on <= claims["exp"] + 5
    assert before + 1 == pod.count(TOKENS)


def test_default_azure_credential(emulator: Emulator, pod: ProxyProcess) -> None:
    """The chain comes to the managed identity by itself."""
    before = pod.count(TOKENS)
    with DefaultAzureCredential(
        exclude_cli_credential=True,
        exclude_powershell_credential=True,
        exclude_developer_cli_credential=True,
        exclude_shared_token_cache_credential=True,
    ) as credential:
        token = credential.get_token(f"{RESOURCE}/.default")
    assert emulator.verify(token.token, RESOURCE)["tid"] == TENANT
    assert before + 1 == pod.count(TOKENS)


@pytest.mark.parametrize(
    "identity", [msal.SystemAssignedManagedIdentity(), msal.UserAssignedManagedIdentity(client_id=CLIENT)]
)
def test_msal(emulator: Emulator, pod: ProxyProcess, identity: dict[str, Any]) -> None:
    """MSAL's ManagedIdentityClient gets a verified token through the proxy."""
    before = pod.count(TOKENS)
    with requests.Session() as session:
        client = msal.ManagedIdentityClient(identity, http_client=session)
        answer = client.acquire_token_for_client(resource=RESOURCE)
    assert emulator.verify(answer["access_token"], RESOURCE)["tid"] == TENANT
    assert before + 1 == pod.count(TOKENS)


# --- Programs without a library for it, by what they send ---------------------------------------------------------
# Sources: the drivers' and tools' own documentation and issues: msodbcsql (Authentication=ActiveDirectoryMsi, the
# identity by object id), mssql-jdbc (authentication=ActiveDirectoryMSI), the Azure CLI before and since it uses MSAL
# (az login --identity), and the examples for curl and wget of "How to use managed identities ... to acquire an access
# token".

SQL = "https%3A%2F%2Fdatabase.windows.net%2F"
ARM = "https%3A%2F%2Fmanagement.core.windows.net%2F"
OBJECT = "44444444-4444-4444-4444-444444444444"
JAVA_HEADERS = "User-Agent: Java/17\r\nAccept: text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2\r\n"
PYTHON_HEADERS = "User-Agent: python-requests/2.32\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"
FORMS = {
    "odbc": (f"api-version=2018-02-01&resource={SQL}&object_id={OBJECT}", "Metadata: true\r\n"),
    "odbc system": (f"api-version=2018-02-01&resource={SQL}", "Metadata: true\r\n"),
    "jdbc": (f"resource={SQL}&api-version=2018-02-01", f"Metadata: true\r\n{JAVA_HEADERS}"),
    "jdbc user": (f"resource={SQL}&api-version=2018-02-01&client_id={CLIENT}", f"metadata: true\r\n{JAVA_HEADERS}"),
    "az": (f"resource={ARM}&api-version=2018-02-01", f"Metadata: true\r\n{PYTHON_HEADERS}"),
    "az object": (f"resource={ARM}&api-version=2018-02-01&object_id={OBJECT}", f"Metadata: true\r\n{PYTHON_HEADERS}"),
    "az msal": (f"api-version=2018-02-01&resource={ARM}&client_id={CLIENT}", f"Metadata: True\r\n{PYTHON_HEADERS}"),
    "snowflake": (f"api-version=2018-02-01&resource={SQL}", "Metadata: True\r\nConnection: Keep-Alive\r\n"),
}


@pytest.mark.parametrize("name", FORMS)
def test_what_programs_send(name: str, emulator: Emulator, served: ProxyProcess) -> None:
    """Their tokens are for what they asked, in the form that they read: every number a string, as JDBC wants it."""
    query, headers = FORMS[name]
    raw = f"GET /metadata/identity/oauth2/token?{query} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n"
    last = "GET /readyz HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n"
    response, _ = served.send((raw + last).encode())
    assert 200 == response.status, response.body
    resource = urllib.parse.unquote(query.partition("resource=")[2].partition("&")[0])
    assert resource == response.document["resource"]
    assert CLIENT == response.document["client_id"]
    assert emulator.verify(response.document["access_token"], resource)["tid"] == TENANT
    for field in ("expires_in", "expires_on", "ext_expires_in", "not_before"):
        assert re.search(rf'"{field}":"\d+"'.encode(), response.body)
    assert '"token_type":"Bearer"' in response.body.decode()


@pytest.mark.parametrize(
    "parameters",
    [
        f"resource={ARM}&api-version=2018-02-01&msi_res_id=%2Fsubscriptions%2Fs%2FresourceGroups%2Fg",
        f"resource={SQL}&api-version=2018-02-01&object_id=55555555-5555-5555-5555-555555555555",
    ],
)
def test_an_identity_nobody_mapped_is_no_other_identity(parameters: str, served: ProxyProcess) -> None:
    """Az and ODBC may name one that the proxy cannot know: said in words, at once, and never another one's token."""
    response = served.ask(f"/metadata/identity/oauth2/token?{parameters}")
    assert 400 == response.status
    assert "invalid_request" == response.document["error"]
    assert "Identity not found" in response.document["error_description"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("version", ["--http1.0", "--http1.1", "--http2"])
def test_curl(version: str, emulator: Emulator, served: ProxyProcess) -> None:
    """The documentation's own example, whichever version of HTTP the program would like."""
    url = f"http://127.0.0.1:{served.port}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={RESOURCE}"
    command = ["curl", "-sS", "--noproxy", "*", version, url, "-H", "Metadata:true"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    assert emulator.verify(json.loads(run.stdout)["access_token"], RESOURCE)["tid"] == TENANT


@pytest.mark.parametrize(
    ("client_id", "scope", "code"),
    [
        (STRANGER, RESOURCE, "AADSTS700213"),
        ("55555555-5555-5555-5555-555555555555", RESOURCE, "AADSTS700016"),
        (CLIENT, "https://unknown.example", "AADSTS500011"),
    ],
)
@pytest.mark.usefixtures("pod")
def test_a_refusal_reaches_the_program(client_id: str, scope: str, code: str) -> None:
    """What Entra says comes through with its number, after our tries at most, and no SDK tries again."""
    begun = time.monotonic()
    with (
        ManagedIdentityCredential(client_id=client_id) as credential,
        pytest.raises(ClientAuthenticationError, match=code),
    ):
        credential.get_token(f"{scope}/.default")
    assert time.monotonic() - begun < (10 if code == "AADSTS700213" else 2)
