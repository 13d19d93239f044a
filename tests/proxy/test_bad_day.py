"""Microsoft Entra on a bad day, by the emulator's verbs: what a program gets from a running proxy."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.proxy.entra_standin import Reply, StandIn
from tests.proxy.proxy_process import ProxyProcess, Response

from azwi.emulator.client import EmulatorClient, emulate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.programs
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
LATE = "33333333-3333-3333-3333-333333333333"
RESOURCES = [f"api://resource-{number}" for number in range(100)]
TRUST = {"name": "one", "issuer": "cluster", "subject": "system:serviceaccount:shop:orders"}


def write_state(path: Path, *more: dict[str, Any]) -> None:
    """The emulator's state: one application that trusts the service account, and more."""
    applications = [{"clientId": CLIENT, "federatedCredentials": [TRUST]}, *more]
    partial = path.with_suffix(".partial")
    state = {"tenants": [{"id": TENANT, "applications": applications}], "resources": RESOURCES}
    partial.write_text(yaml.safe_dump(state))
    partial.replace(path)


class Day:
    """A running emulator with its state, a proxy before it, and the file of the service account token.

    No test asks for the resources of another one: `one` and `other` are new each day.
    """

    def __init__(self, emulator: EmulatorClient, folder: Path) -> None:
        self.emulator = emulator
        self.state = folder / "state.yaml"
        self.token_file = folder / "token"
        self.proxy: ProxyProcess
        self.one = self.other = ""
        self._resources = iter(RESOURCES)

    def begin(self) -> None:
        """A good day so far."""
        write_state(self.state)
        self.emulator.reset()
        self.write_token()
        self.one, self.other = next(self._resources), next(self._resources)

    def write_token(self) -> None:
        """A new service account token, as the kubelet writes it."""
        partial = self.token_file.with_suffix(".partial")
        partial.write_text(self.emulator.service_account_token("shop", "orders", "api://AzureADTokenExchange"))
        partial.replace(self.token_file)

    def ask(self, resource: str = "", client_id: str = CLIENT) -> Response:
        """A token request."""
        return self.proxy.ask_token(f"resource={resource or self.one}&client_id={client_id}")

    def ask_until(self, status: int, seconds: float = 10, **what: str) -> Response:
        """Token requests until one is answered so."""
        deadline = time.monotonic() + seconds
        while (response := self.ask(**what)).status != status:
            assert time.monotonic() < deadline, response.body
            time.sleep(0.2)
        return response

    def outcomes(self) -> list[str]:
        """How Entra answered this day's token requests; one of the day before may come late."""
        entries = (entry for entry in self.emulator.journal("entra") if entry["method"] == "POST")
        today = (self.one, self.other)
        return [entry["outcome"] for entry in entries if not entry.get("scope") or entry["scope"].startswith(today)]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """One emulator and one proxy for all days."""
    folder = tmp_path_factory.mktemp("day")
    write_state(folder / "state.yaml")
    with emulate(folder / "state.yaml", folder / "run") as emulator:
        day = Day(emulator, folder)
        day.write_token()
        environment = {
            "AZURE_TENANT_ID": TENANT,
            "AZURE_CLIENT_ID": CLIENT,
            "AZURE_FEDERATED_TOKEN_FILE": str(day.token_file),
            "AZURE_AUTHORITY_HOST": emulator.authority,
            "SSL_CERT_FILE": emulator.ca_file,
        }
        with ProxyProcess(folder, environment, ["--log-level=debug"]) as day.proxy:
            yield day


@pytest.fixture
def day(running: Day) -> Iterator[Day]:
    """A good one so far; whatever comes, no secret is printed."""
    running.begin()
    yield running
    assert "eyJ" not in running.proxy.output
    assert "Traceback" not in running.proxy.output


@pytest.mark.parametrize(
    ("trouble", "outcomes"),
    [
        (lambda emulator: emulator.throttle(1, retry_after=1), ["AADSTS90055", "ok"]),
        (lambda emulator: emulator.fail(2, status=503), ["gateway", "gateway", "ok"]),
        (lambda emulator: emulator.fail(1, code=90033), ["AADSTS90033", "ok"]),
        (lambda emulator: emulator.fail(1, code=700213), ["AADSTS700213", "ok"]),
        (lambda emulator: emulator.fail(1, code=700024), ["AADSTS700024", "ok"]),
        (lambda emulator: emulator.slow(2), ["ok"]),
    ],
)
def test_what_passes_is_not_seen(day: Day, trouble: Callable[[EmulatorClient], None], outcomes: list[str]) -> None:
    """The program waits a little and gets its token."""
    trouble(day.emulator)
    assert 200 == day.ask().status
    assert outcomes == day.outcomes()


@pytest.mark.parametrize(
    ("trouble", "status", "said", "tries"),
    [
        (lambda emulator: emulator.throttle(99, retry_after=60), 429, "AADSTS90055", 1),
        (lambda emulator: emulator.fail(99, status=503), 503, "answered 503", 4),
        (lambda emulator: emulator.fail(99, code=90033), 503, "AADSTS90033", 4),
        (lambda emulator: emulator.fail(99, code=70021), 400, "AADSTS70021", 4),
        (lambda emulator: emulator.fail(99, code=700016), 400, "AADSTS700016", 1),
        (lambda emulator: emulator.fail(99, code=700024), 400, "AADSTS700024", 2),
    ],
)
def test_what_does_not_pass(
    day: Day, trouble: Callable[[EmulatorClient], None], status: int, said: str, tries: int
) -> None:
    """The program gets the status its SDK acts on, with Entra's own words; Entra is asked a few times, then spared."""
    before = day.ask(day.other).document["access_token"]
    day.emulator.reset()
    trouble(day.emulator)
    result = {400: "refused", 429: "throttled", 503: "unavailable"}[status]
    code = f',code="{said}"' if said.startswith("AADSTS") else ""
    sample = f'azwi_proxy_requests_total{{result="{result}"{code}}}'
    counted = day.proxy.count(sample)
    begun = time.monotonic()
    responses = [day.ask() for _ in range(3)]
    assert time.monotonic() - begun < 8
    for response in responses:
        assert status == response.status
        assert said in response.document["error_description"]
        if status != 400:
            assert 1 <= int(response.headers["retry-after"]) <= 60
    assert tries == len(day.outcomes())
    # What was asked for before is served from memory, at once.
    begun = time.monotonic()
    assert before == day.ask(day.other).document["access_token"]
    assert time.monotonic() - begun < 1
    assert 3 == day.proxy.count(sample) - counted


def test_a_slow_entra_holds_up_nobody_else(day: Day) -> None:
    """While one token is on its way, another is served from memory."""
    before = day.ask(day.other).document["access_token"]
    day.emulator.slow(1)
    with day.proxy.connect() as waiting:
        target = f"/metadata/identity/oauth2/token?api-version=2018-02-01&resource={day.one}"
        waiting.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n\r\n".encode())
        begun = time.monotonic()
        assert before == day.ask(day.other).document["access_token"]
        assert time.monotonic() - begun < 1
        assert waiting.recv(12) == b"HTTP/1.1 200"
    day.emulator.reset()


def test_entra_goes_away_and_comes_back(tmp_path: Path, start_proxy: Callable[..., ProxyProcess]) -> None:
    """While nobody listens a token in memory is served and a new one is a 503 that names the host; then all is well."""
    with StandIn(tmp_path) as entra:
        proxy = start_proxy(AZURE_AUTHORITY_HOST=entra.url, SSL_CERT_FILE=str(entra.ca_file))
        before = proxy.ask_token("resource=x").document["access_token"]
        entra.go_away()
        response = proxy.ask_token("resource=y")
        assert 503 == response.status
        assert "127.0.0.1 could not be asked" in response.document["error_description"]
        assert before == proxy.ask_token("resource=x").document["access_token"]
        entra.come_back()
        time.sleep(3.1)
        assert 200 == proxy.ask_token("resource=y").status


def test_keys_are_rotated(day: Day) -> None:
    """New keys of Entra change nothing for us; after new keys of the cluster the next service account token works."""
    day.emulator.rotate_keys("entra", forget=True)
    assert 200 == day.ask().status
    day.emulator.rotate_keys("cluster")
    assert 200 == day.ask(day.other).status
    day.emulator.rotate_keys("cluster", forget=True)
    day.write_token()
    assert 200 == day.ask(next(day._resources)).status


def test_a_credential_that_was_just_created(day: Day) -> None:
    """Entra does not know it everywhere yet: the tries outlast a short delay, and the next request a longer one."""
    day.emulator.delay_propagation(1)
    write_state(day.state, {"clientId": LATE, "federatedCredentials": [TRUST]})
    day.ask_until(200, client_id=LATE)
    assert "ok" == day.outcomes()[-1]
    assert any(outcome in {"AADSTS700213", "AADSTS70021", "AADSTS70025"} for outcome in day.outcomes()[:-1])


def test_the_token_file_is_missing(day: Day) -> None:
    """The file is named, a token in memory is served, and the file is used as soon as it is there."""
    before = day.ask().document["access_token"]
    content = day.token_file.read_text()
    day.token_file.unlink()
    response = day.ask(day.other)
    assert 400 == response.status
    assert f"{day.token_file} (named by AZURE_FEDERATED_TOKEN_FILE)" in response.document["error_description"]
    assert before == day.ask().document["access_token"]
    day.token_file.write_text(content)
    assert 200 == day.ask(day.other).status


def test_the_clock_of_entra_runs_ahead(day: Day) -> None:
    """The service account token is out of its time there: said with its code, mended by the next one."""
    before = day.ask(day.other).document["access_token"]
    day.emulator.skew_clock(7200)
    response = day.ask()
    assert 400 == response.status
    assert "AADSTS700024" in response.document["error_description"]
    assert before == day.ask(day.other).document["access_token"]
    day.write_token()
    assert 200 == day.ask_until(200).status


def test_fifty_programs_ask_at_once(day: Day) -> None:
    """One exchange, and all get the same token."""
    connections = [day.proxy.connect() for _ in range(50)]
    day.emulator.slow(0.3)
    request = f"GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource={day.one} HTTP/1.1\r\n"
    request += "Host: localhost\r\nMetadata: true\r\nConnection: close\r\n\r\n"
    for connection in connections:
        connection.sendall(request.encode())
    bodies = set()
    for connection in connections:
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
        assert received.startswith(b"HTTP/1.1 200 ")
        bodies.add(received.partition(b'"access_token":"')[2].partition(b'"')[0])
    assert 1 == len(bodies)
    assert ["ok"] == day.outcomes()


def test_a_renewal_beside_the_requests(
    environment: dict[str, str], tmp_path: Path, start_proxy: Callable[..., ProxyProcess]
) -> None:
    """When Entra's wish has come, callers get the old token until there is a new one, also while renewal fails."""
    del environment
    with StandIn(tmp_path) as entra:
        entra.refresh_in = 2
        entra.replies["c"] = [Reply(), Reply(400, '{"error": "x", "error_codes": [700016]}')]
        proxy = start_proxy(AZURE_AUTHORITY_HOST=entra.url, SSL_CERT_FILE=str(entra.ca_file), AZURE_CLIENT_ID="c")
        first = proxy.ask_token("resource=x").document["access_token"]
        other = proxy.ask_token("resource=x&client_id=d").document["access_token"]
        assert 2 == entra.requests["POST"]
        time.sleep(2.1)
        for _ in range(3):
            assert first == proxy.ask_token("resource=x").document["access_token"]
            proxy.ask_token("resource=x&client_id=d")
        time.sleep(0.3)
        assert first == proxy.ask_token("resource=x").document["access_token"]
        assert other != proxy.ask_token("resource=x&client_id=d").document["access_token"]
        assert 4 == entra.requests["POST"]
