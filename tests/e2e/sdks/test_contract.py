"""The official SDKs for Python, JavaScript and Go against the emulator: tokens, and every refusal as they read it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import yaml

from azwi.emulator import faults
from azwi.emulator.client import EmulatorClient, emulate
from azwi.local.demo import isolation_problem

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"
AZWI = Path(sys.executable).with_name("azwi")
TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
BARE = "33333333-3333-3333-3333-333333333333"
OFF = "44444444-4444-4444-4444-444444444444"
MACHINE = "55555555-5555-5555-5555-555555555555"
VAULT = "https://vault.azure.net/.default"


def _trusts(subject: str) -> dict[str, object]:
    return {"name": "orders", "issuer": "cluster", "subject": f"system:serviceaccount:shop:{subject}"}


STATE: dict[str, Any] = {
    "tenants": [
        {
            "id": TENANT,
            "applications": [
                {"clientId": ORDERS, "federatedCredentials": [_trusts("orders")]},
                {"clientId": BARE},
                {"clientId": OFF, "disabled": True},
            ],
            "managedIdentities": [{"name": "machine", "clientId": MACHINE}],
        }
    ]
}


class Client:
    """A program with an SDK: orders in, answers out."""

    def __init__(self, language: str, process: subprocess.Popen[str], emulator: EmulatorClient, folder: Path) -> None:
        self.language = language
        self.emulator = emulator
        self._process = process
        self._token_file = folder / "token"

    def ask(self, account: str = "orders", token: str = "", **changes: object) -> dict[str, Any]:
        """One token request, with the token of a service account or any other text as assertion."""
        self._token_file.write_text(
            token or self.emulator.service_account_token("shop", account, "api://AzureADTokenExchange")
        )
        order = {
            "tenantId": TENANT,
            "clientId": ORDERS,
            "tokenFile": str(self._token_file),
            "scope": VAULT,
            "retries": 0,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order | changes) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """One emulator with a metadata service."""
    folder = tmp_path_factory.mktemp("emulator")
    (folder / "state.yaml").write_text(yaml.safe_dump(STATE))
    with emulate(folder / "state.yaml", folder / "run", imds_port=0) as running:
        yield running


@pytest.fixture(scope="module", params=["azure-identity", "msal", "node", "go"])
def client(
    request: pytest.FixtureRequest,
    programs: dict[str, list[str]],
    emulator: EmulatorClient,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Client]:
    """A program that waits for orders; skipped where its language is not installed."""
    if request.param not in programs:
        pytest.skip(f"{request.param} is not installed")
    environment = {
        "PATH": os.environ["PATH"],
        "AZURE_AUTHORITY_HOST": emulator.authority,
        "SSL_CERT_FILE": emulator.ca_file,
        "REQUESTS_CA_BUNDLE": emulator.ca_file,
        "NODE_EXTRA_CA_CERTS": emulator.ca_file,
        "AZURE_POD_IDENTITY_AUTHORITY_HOST": emulator.imds,
    }
    with subprocess.Popen(
        programs[request.param], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Client(request.param, process, emulator, tmp_path_factory.mktemp("token"))
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(autouse=True)
def _calm(emulator: EmulatorClient) -> None:
    emulator.reset()


def test_a_token(client: Client) -> None:
    """The token is for what was asked, and the SDK knows its life."""
    answer = client.ask()
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert (ORDERS, "https://vault.azure.net") == (claims["appid"], claims["aud"])
    assert abs(answer["expires"] - claims["exp"]) < 10


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (700213, {"account": "stranger"}),
        (700016, {"clientId": "99999999-9999-9999-9999-999999999999"}),
        (70025, {"clientId": BARE}),
        (7000112, {"clientId": OFF}),
        (500011, {"scope": "https://unheard.of/.default"}),
        (1002012, {"scope": "https://vault.azure.net/user_impersonation"}),
        (50027, {"token": "garbage"}),
    ],
)
def test_a_refusal(code: int, changes: dict[str, str], client: Client) -> None:
    """What a request earns by itself: the SDK has code, text and correlation id."""
    answer = client.ask(**changes)
    assert f"AADSTS{code}" in answer["error"]
    if client.language in {"go", "msal"}:
        assert ([code], True) == (answer["codes"], bool(answer["correlation"]))


@pytest.mark.parametrize("code", sorted(faults.BY_CODE))
def test_every_code(code: int, client: Client) -> None:
    """Each code that the emulator has, as the SDK tells it; afterwards the SDK works as before."""
    client.emulator.fail(10, code=code)
    answer = client.ask()
    client.emulator.reset()
    unread = client.language == "msal" and faults.BY_CODE[code].status >= 500  # msal does not read what comes with it
    assert ("HTTP Error: 503" if unread else f"AADSTS{code}") in answer["error"]
    assert "token" in client.ask()


def test_an_unknown_tenant(client: Client) -> None:
    """The discovery of a tenant that is not there fails with Entra's code."""
    answer = client.ask(tenantId="99999999-9999-9999-9999-999999999999")
    assert "error" in answer
    assert "token" not in answer


def test_an_expired_token(client: Client) -> None:
    """A service account token out of its time."""
    token = client.emulator.service_account_token("shop", "orders", "api://AzureADTokenExchange")
    client.emulator.skew_clock(7200)
    assert "AADSTS700024" in client.ask(token=token)["error"]


def test_throttling_is_waited_for(client: Client) -> None:
    """An SDK that may retry does so after the time it was told."""
    if client.language == "msal":
        pytest.skip("msal leaves retries to the HTTP client that it is given")
    client.emulator.throttle(1, retry_after=1)
    assert "token" in client.ask(retries=2)


def test_the_metadata_service(client: Client) -> None:
    """ManagedIdentityCredential of the SDK that can be told where the service is."""
    if client.language in {"go", "msal"}:
        pytest.skip("Go's SDK knows the service by its address only, and msal is tried in tests/emulator")
    answer = client.ask(managed=True, clientId=MACHINE)
    assert MACHINE == jwt.decode(answer["token"], options={"verify_signature": False})["appid"]


@pytest.mark.skipif(bool(isolation_problem()), reason=isolation_problem())
@pytest.mark.parametrize("language", ["azure-identity", "node", "go"])
def test_unmodified_in_isolation(language: str, programs: dict[str, list[str]], tmp_path: Path) -> None:
    """`azwi run --isolated`: the same programs by their defaults, with the token that the webhook's variables name."""
    if language not in programs:
        pytest.skip(f"{language} is not installed")
    order = json.dumps({"scope": VAULT, "retries": 0, "discovery": True})
    run = subprocess.run(
        [AZWI, "run", "-f", EXAMPLES / "one-to-one.yaml", "--isolated", "--", *programs[language]],
        input=order + "\n",
        env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "TMPDIR": str(tmp_path), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    answer = json.loads(run.stdout)
    assert "token" in answer, run.stdout + run.stderr
    assert ORDERS == jwt.decode(answer["token"], options={"verify_signature": False})["appid"]
