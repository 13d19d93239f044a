"""Tokens through MSAL from a scripted Entra over real TLS, and what we rely on in MSAL itself."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import msal
import pytest
from tests.proxy.entra_standin import CORRELATION_ID, TENANT, Reply, StandIn, refusal

from azwi.entra.faults import EntraFault
from azwi.entra.http import FaultyAnswerError, Transport
from azwi.entra.tokens import AccessToken, TokenExchanger, read_answer
from azwi.entra.trust import make_ssl_context
from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCOPE = "https://vault.azure.net/.default"
NOW = 1_800_000_000


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[StandIn]:
    """An Entra of this test's own."""
    with StandIn(tmp_path) as standin:
        yield standin


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """The service account token."""
    path = tmp_path / "token"
    path.write_text("a.b.c\n")
    return path


def make_transport(entra: StandIn, host: str = "127.0.0.1") -> Transport:
    """The way to that Entra."""
    context = make_ssl_context(str(entra.ca_file))
    return Transport(lambda: context, host, "azwi-test")


@pytest.fixture
def exchanger(entra: StandIn, token_file: Path) -> TokenExchanger:
    """An exchanger whose clock stands still."""
    return TokenExchanger(entra.url, str(token_file), make_transport(entra), lambda: NOW)


def test_a_token_and_its_times(entra: StandIn, exchanger: TokenExchanger) -> None:
    """The token is Entra's, its times count from our clock, its beginning is its own claim."""
    token = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(token, AccessToken)
    claims = entra.verify(token.secret, "https://vault.azure.net")
    assert (NOW, NOW + 86400, NOW + 86400) == (token.obtained_at, token.expires_on, token.ext_expires_on)
    assert claims["nbf"] == token.not_before


def test_the_request_is_the_client_credentials_grant(entra: StandIn, exchanger: TokenExchanger) -> None:
    """Entra sees the grant with the token file's content as the assertion, without its line feed, and our name."""
    exchanger.acquire("c", TENANT, SCOPE)
    form = entra.forms[0]
    assert {
        "client_id": "c",
        "grant_type": "client_credentials",
        "client_assertion": "a.b.c",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "scope": SCOPE,
    } == {name: value for name, value in form.items() if name != "client_info"}
    assert entra.headers[0]["User-Agent"] == "azwi-test"


def test_the_token_file_is_read_for_each_exchange(entra: StandIn, exchanger: TokenExchanger, token_file: Path) -> None:
    """A token that the kubelet has renewed is used at once."""
    exchanger.acquire("c", TENANT, SCOPE)
    token_file.write_text("d.e.f")
    exchanger.acquire("c", TENANT, SCOPE)
    assert ["a.b.c", "d.e.f"] == [form["client_assertion"] for form in entra.forms]


def test_each_call_is_one_exchange(entra: StandIn, exchanger: TokenExchanger) -> None:
    """MSAL keeps no token, so what is remembered is decided in one place; discovery is asked for once a tenant."""
    for _ in range(3):
        exchanger.acquire("c", TENANT, SCOPE)
    exchanger.acquire("d", TENANT, SCOPE)
    assert {"GET": 1, "POST": 4} == entra.requests


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_a_value_and_not_replayed(entra: StandIn, exchanger: TokenExchanger, status: int) -> None:
    """MSAL would repeat a 400 from memory for a minute; a credential that was just created works at the next try."""
    entra.replies["c"] = [refusal(70021, status=status), Reply()]
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert (70021, "invalid_client", CORRELATION_ID) == (fault.code, fault.error, fault.correlation_id)
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


@pytest.mark.parametrize(
    ("reply", "status", "retry_after"),
    [
        (Reply(429, "{}", {"Retry-After": "7"}), 429, 7),
        (refusal(90006, "server_error", 429), 429, None),
        (Reply(503, "<html>", {"Retry-After": "30", "Content-Type": "text/html"}), 503, 30),
        (Reply(500, "{}"), 500, None),
        (Reply(302, "", {"Location": "https://evil.example/"}), 302, None),
        (Reply(200, "not json"), 200, None),
        (Reply(200, "[]"), 200, None),
        (Reply(200, "{}"), None, None),
        (Reply(200, '{"access_token": "a"}'), None, None),
        (Reply(200, '{"access_token": 1, "expires_in": 3600}'), None, None),
        (Reply(200, '{"access_token": "a", "expires_in": "soon"}'), None, None),
        (Reply(400, "not json"), 400, None),
        (Reply(close=True), None, None),
        (Reply(200, '"' + "x" * 1_100_000 + '"'), None, None),
    ],
)
def test_an_entra_that_does_not_decide(
    entra: StandIn, exchanger: TokenExchanger, reply: Reply, status: int | None, retry_after: int | None
) -> None:
    """Throttling and failure are values with status and Retry-After, and the next call asks again."""
    entra.replies["c"] = [reply, Reply()]
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert fault.throttled or fault.unavailable
    assert (status, retry_after) == (fault.status, fault.retry_after)
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


@pytest.mark.parametrize(
    ("reply", "unavailable", "code"),
    [
        (refusal(90002, "invalid_tenant"), False, 90002),
        (Reply(404, "<html>"), True, None),
        (Reply(200, "{}"), True, None),
        (Reply(200, "not json"), True, None),
        (Reply(503, ""), True, None),
    ],
)
def test_discovery_that_fails(
    entra: StandIn,
    exchanger: TokenExchanger,
    reply: Reply,
    unavailable: bool,  # noqa: FBT001 - a table
    code: int | None,
) -> None:
    """A tenant that does not exist is a refusal with its number, anything else may pass."""
    entra.tenant_reply = reply
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert (unavailable, code) == (fault.unavailable, fault.code)
    entra.tenant_reply = None
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


def test_an_exchange_ends_in_time(entra: StandIn, exchanger: TokenExchanger) -> None:
    """Its requests have so many seconds together, whatever each of them waits for."""
    exchanger.acquire("other", TENANT, SCOPE)  # discovery is done
    entra.replies["c"] = [Reply(503, wait=3), Reply()]
    begun = time.monotonic()
    fault = exchanger.acquire("c", TENANT, SCOPE, seconds=1)
    assert time.monotonic() - begun < 2.5
    assert isinstance(fault, EntraFault)
    assert fault.unavailable
    assert "timed out" in fault.description or "is over" in fault.description
    fault = exchanger.acquire("c", TENANT, SCOPE, seconds=0)
    assert isinstance(fault, EntraFault)
    assert "the time for the exchange is over" in fault.description
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


def test_nobody_listens(token_file: Path, entra: StandIn) -> None:
    """A refused connection is unavailability, and its text names the host."""
    exchanger = TokenExchanger("https://127.0.0.1:1/", str(token_file), make_transport(entra), time.time)
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert fault.unavailable
    assert "127.0.0.1 could not be asked" in fault.description


def test_a_certificate_of_nobody_we_trust(token_file: Path, entra: StandIn) -> None:
    """TLS that cannot be verified is unavailability; the assertion is not sent."""
    transport = Transport(ssl.create_default_context, "127.0.0.1", "x")
    exchanger = TokenExchanger(entra.url, str(token_file), transport, time.time)
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert "certificate verify failed" in fault.description
    assert [] == entra.forms


def test_a_private_authority_leads_nowhere_else(entra: StandIn, exchanger: TokenExchanger) -> None:
    """The public cloud is not asked, even where the private one's discovery document names it."""
    entra.endpoint_host = "login.microsoftonline.com"
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert "the private authority points to login.microsoftonline.com" in fault.description


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "ftp://x/", "https:///x"])
def test_only_https_is_spoken(entra: StandIn, url: str) -> None:
    """An address without TLS gets no request."""
    with pytest.raises(FaultyAnswerError, match="is not https"):
        make_transport(entra).get(url)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read: No such file"),
        (b" \n", "is empty"),
        (b"\xff", "holds no token"),
        (b"x" * 70000, "no token"),
    ],
)
def test_a_token_file_that_cannot_be_used(
    entra: StandIn, exchanger: TokenExchanger, token_file: Path, content: bytes | None, complaint: str
) -> None:
    """The fault names the file and the variable, and Entra is not bothered."""
    if content is None:
        token_file.unlink()
    else:
        token_file.write_bytes(content)
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert not fault.transient
    assert f"{token_file} (named by AZURE_FEDERATED_TOKEN_FILE) " in fault.description
    assert complaint in fault.description
    assert 0 == entra.requests["POST"]


@pytest.mark.parametrize("tenant", ["te nant", "../x", "a/b", "", "a?b", "a#b"])
def test_a_tenant_that_is_none(entra: StandIn, exchanger: TokenExchanger, tenant: str) -> None:
    """A tenant cannot change the authority's path, and is refused by the name of its variable."""
    fault = exchanger.acquire("c", tenant, SCOPE)
    assert isinstance(fault, EntraFault)
    assert "AZURE_TENANT_ID" in fault.description
    assert not entra.requests


def test_a_client_id_that_is_none(exchanger: TokenExchanger) -> None:
    """Blanks and control characters are no client id."""
    assert isinstance(exchanger.acquire("a b", TENANT, SCOPE), EntraFault)


def test_applications_are_bounded(entra: StandIn, exchanger: TokenExchanger) -> None:
    """However many client ids are asked for, memory stays bounded."""
    for number in range(130):
        exchanger._find_application(f"c-{number}", TENANT)
    assert len(exchanger._applications) == 128
    assert 1 == entra.requests["GET"]


def test_ca_file_that_cannot_be_used(tmp_path: Path) -> None:
    """A certificate file that is missing or holds none is named."""
    for path in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").write_text("")
        with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
            make_ssl_context(str(path))


@pytest.mark.parametrize(
    ("secret", "expected"),
    [
        ("opaque", NOW),
        ("a.b.c", NOW),
        ("e30.e30.x", NOW),
        ("e30.eyJuYmYiOjV9.x", 5),
        ("e30.eyJuYmYiOiI1In0.x", NOW),
        ("e30.W10.x", NOW),
    ],
)
def test_not_before_is_read_where_it_can_be(secret: str, expected: int) -> None:
    """An access token is opaque to us: where it holds no such claim, it is valid from when it was obtained."""
    token = read_answer({"access_token": secret, "expires_in": 60, "refresh_on": NOW + 30}, NOW)
    assert isinstance(token, AccessToken)
    assert expected == token.not_before
    assert NOW + 30 == token.refresh_on


@pytest.mark.parametrize("answer", [None, {}, {"access_token": ""}, {"access_token": "a", "expires_in": True}])
def test_an_answer_that_is_none(answer: object) -> None:
    """What is neither a token nor an error is unavailability."""
    fault = read_answer(answer, NOW)
    assert isinstance(fault, EntraFault)
    assert fault.unavailable


# --- What we rely on in MSAL ----------------------------------------------------------------------------------


def test_msal_needs_other_flows_for_their_names_only() -> None:
    """The stubs that keep `requests`, a web server and XML out of the proxy still work, and still keep them out."""
    program = (
        "import sys; from azwi.proxy.main import _leave_out_other_flows as leave; leave();"
        "import azwi.entra.tokens, azwi.proxy.endpoint, azwi.proxy.life, azwi.proxy.server, azwi.proxy.passthrough;"
        "import azwi.proxy.settings;"
        "print(*(name for name in sys.argv[1:] if name in sys.modules))"
    )
    unwanted = [
        "requests",
        "urllib3",
        "http.server",
        "xml",
        "cryptography",
        "click",
        "yaml",
        "rich",
        "uvicorn",
        "uvloop",
        "azwi.cluster",
    ]
    done = subprocess.run([sys.executable, "-c", program, *unwanted], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_msal_takes_all_we_give_it(entra: StandIn) -> None:
    """The arguments exist, and the callable gives the assertion of each exchange."""
    calls: list[int] = []

    def assertion() -> str:
        calls.append(1)
        return "a"

    application = msal.ConfidentialClientApplication(
        "c",
        client_credential={"client_assertion": assertion},
        authority=entra.url + TENANT,
        instance_discovery=False,
        azure_region=False,
        http_client=make_transport(entra),
    )
    for _ in range(2):
        assert "access_token" in application.acquire_token_for_client([SCOPE], http_exceptions=(OSError,))
    assert [1] == calls  # with a memory of its own; ours has none
    assert 1 == entra.requests["POST"]


def test_msal_replays_a_400_unless_told(entra: StandIn) -> None:
    """Why the transport adds Retry-After: 0: without it, MSAL answers from memory."""

    class Plain(Transport):
        def post(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
            answer = super().post(*args, **kwargs)  # type: ignore[arg-type]
            del answer.headers["Retry-After"]
            return answer

    entra.replies["c"] = [refusal(70021)]
    for transport, expected in [
        (Plain(lambda: make_ssl_context(str(entra.ca_file)), "127.0.0.1", "x"), 1),
        (make_transport(entra), 3),
    ]:
        application = msal.ConfidentialClientApplication(
            "c",
            client_credential={"client_assertion": lambda: "a"},
            authority=entra.url + TENANT,
            instance_discovery=False,
            http_client=transport,
        )
        for _ in range(2):
            application.acquire_token_for_client([SCOPE], http_exceptions=(OSError,))
        assert expected == entra.requests["POST"]


@pytest.mark.parametrize(
    "odd",
    [
        {"refresh_in": "1800"},
        {"refresh_in": None},
        {"refresh_in": 10**400},
        {"refresh_in": -5},
        {"refresh_in": True},
        {"id_token": "abc"},
        {"id_token": 5},
        {"scope": 5},
        {"client_info": "x"},
        {"refresh_token": ["x"]},
        {"access_token": "a." + urlsafe_b64encode(b"[" * 60_000).decode() + ".c"},
    ],
)
def test_members_that_are_odd_cost_no_token(odd: dict[str, object], entra: StandIn, exchanger: TokenExchanger) -> None:
    """What a token of its own does not need is not looked at."""
    document = {"token_type": "Bearer", "expires_in": 3600, "access_token": "a.b.c"} | odd
    entra.replies["c"] = [Reply(200, json.dumps(document))]
    token = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(token, AccessToken)
    assert (document["access_token"], NOW + 3600) == (token.secret, token.expires_on)


@pytest.mark.parametrize(
    "body",
    [
        '{"access_token": "t", "expires_in": 0}',
        '{"access_token": "t", "expires_in": -5}',
        '{"access_token": "t", "expires_in": 1e999}',
        '{"access_token": "t", "expires_in": ' + "9" * 400 + "}",
        '{"access_token": "\\ud800", "expires_in": 3600}',
        '{"access_token": "t", "expires_in": [3600]}',
        "[" * 100_000,
    ],
)
def test_an_answer_without_a_usable_token_is_none(body: str, entra: StandIn, exchanger: TokenExchanger) -> None:
    """Nothing that is over, or cannot be sent, reaches a program; nothing escapes."""
    entra.replies["c"] = [Reply(200, body)]
    fault = exchanger.acquire("c", TENANT, SCOPE)
    assert isinstance(fault, EntraFault)
    assert fault.unavailable


def test_a_token_lives_from_when_it_was_asked_for(entra: StandIn, token_file: Path) -> None:
    """Entra counts from before its answer was here."""
    times = iter(range(NOW, NOW + 1000, 9))
    token = TokenExchanger(entra.url, str(token_file), make_transport(entra), lambda: next(times)).acquire(
        "c", TENANT, SCOPE
    )
    assert isinstance(token, AccessToken)
    assert NOW == token.obtained_at


@pytest.mark.parametrize("endpoint", ["", "http://h/t", "https://h:99999/t", "https:///t", "ftp://h/t"])
def test_a_configuration_that_leads_nowhere_is_not_remembered(
    endpoint: str, entra: StandIn, exchanger: TokenExchanger
) -> None:
    """MSAL would keep it for a day; the next exchange asks again, and gets the good one."""
    document = {"authorization_endpoint": "https://h/a", "token_endpoint": endpoint}
    entra.tenant_reply = Reply(body=json.dumps(document))
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), EntraFault)
    entra.tenant_reply = None
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


def test_a_server_that_drips_is_cut_off(entra: StandIn) -> None:
    """Each byte comes within the time for one; together they are too slow."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        over = threading.Event()

        def drip() -> None:
            plain, _ = listening.accept()
            with contextlib.suppress(OSError), entra.context.wrap_socket(plain, server_side=True) as connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not over.wait(0.2):
                    connection.sendall(b"X: y\r\n")

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        transport = make_transport(entra)
        with transport.limited_to(1), pytest.raises(FaultyAnswerError, match="the time for the exchange is over"):
            transport.get(f"https://127.0.0.1:{listening.getsockname()[1]}/x")
        assert time.monotonic() - begun < 3
        over.set()
        thread.join()
