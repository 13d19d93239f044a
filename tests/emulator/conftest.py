"""One emulator over real TLS, and one HTTPS site that plays other issuers, for all tests of this folder."""

from __future__ import annotations

import json
import ssl
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import httpx2
import msgspec
import pytest
import trustme

from azwi.emulator.client import EmulatorClient, emulate
from azwi.emulator.issuer import TokenOrder, discovery_document, jwks, mint_token, token_claims
from azwi.emulator.keys import SigningKey, generate_cluster_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Mint = Callable[..., str]
    Post = Callable[..., httpx2.Response]

TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
STRAYS = "33333333-3333-3333-3333-333333333333"
BARE = "44444444-4444-4444-4444-444444444444"
CATALOGUE = "55555555-5555-5555-5555-555555555555"
BILLING = "66666666-6666-6666-6666-666666666666"
OFF = "77777777-7777-7777-7777-777777777777"
MODERN = "88888888-8888-8888-8888-888888888888"
STOCK = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"
SUBJECT = "system:serviceaccount:shop:orders"
AUDIENCE = "api://AzureADTokenExchange"
ISSUERS = ("good", "impostor", "plain", "garbage", "keyless", "huge", "moved", "missing")


class Site:
    """An HTTPS server on localhost with fixed pages; remembers which were asked for."""

    def __init__(self, url: str, ca_file: Path) -> None:
        self.url = url
        self.ca_file = ca_file
        self.pages: dict[str, bytes] = {}
        self.asked: list[str] = []


@pytest.fixture(scope="session")
def issuer_key() -> SigningKey:
    """The key of the issuers on the site."""
    return generate_cluster_key()


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory, issuer_key: SigningKey) -> Iterator[Site]:
    """Issuers that are no emulator: one good, the others each wrong in one way."""
    ca = trustme.CA()
    ca_file = tmp_path_factory.mktemp("site") / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(self.path)
            body = found.pages.get(self.path)
            status = 302 if "/moved/" in self.path else 200 if body is not None else 404
            # As an API server, which gives its keys as nothing but what they are.
            if self.path.endswith("/jwks") and "application/jwk-set+json" not in self.headers["Accept"]:
                status = 406
            self.send_response(status)
            if "/moved/" in self.path:
                self.send_header("Location", self.path.replace("/moved/", "/good/"))
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    found = Site(f"https://localhost:{server.server_port}", ca_file)
    found.pages = _pages(found.url, issuer_key)
    with _thread(server.serve_forever):
        yield found
        server.shutdown()
    server.server_close()


def _pages(url: str, key: SigningKey) -> dict[str, bytes]:
    def discovery(name: str, **changes: str) -> dict[str, bytes]:
        document = discovery_document(f"{url}/{name}") | changes
        return {f"/{name}/.well-known/openid-configuration": msgspec.json.encode(document)}

    return {
        **discovery("good"),
        "/good/openid/v1/jwks": msgspec.json.encode(jwks(key)),
        **discovery("impostor", issuer=f"{url}/good"),
        **discovery("plain", jwks_uri="http://localhost/jwks"),
        "/garbage/.well-known/openid-configuration": b"<html>",
        **discovery("keyless"),
        "/keyless/openid/v1/jwks": b'{"keys": []}',
        **discovery("huge"),
        "/huge/openid/v1/jwks": b" " * (2 << 20),
    }


@contextmanager
def _thread(target: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=target)
    thread.start()
    yield
    thread.join(10)


@pytest.fixture(scope="session")
def state_file(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Path:
    """A directory with one ordinary application, one that trusts the site's issuers, one that trusts nobody."""
    strays = [{"name": name, "issuer": f"{site.url}/{name}", "subject": SUBJECT} for name in ISSUERS]
    strays.append({"name": "nobody-there", "issuer": "https://localhost:1", "subject": SUBJECT})
    orders = {"name": "orders-prod", "issuer": "cluster", "subject": SUBJECT}
    state = {
        "tenants": [
            {
                "id": TENANT,
                "domain": "contoso.onmicrosoft.com",
                "applications": [
                    {"clientId": ORDERS, "displayName": "orders", "federatedCredentials": [orders]},
                    {"clientId": STRAYS, "displayName": "strays", "federatedCredentials": strays},
                    {"clientId": BARE, "displayName": "bare"},
                    {"clientId": OFF, "displayName": "off", "disabled": True, "federatedCredentials": [orders]},
                    {"clientId": MODERN, "accessTokenVersion": 2},
                ],
                "managedIdentities": [
                    {"name": "catalogue", "clientId": CATALOGUE, "federatedCredentials": [orders]},
                    {"name": "billing", "clientId": BILLING},
                ],
            }
        ],
        "resources": [
            "api://listed",
            {"identifier": "api://stock", "clientId": STOCK, "accessTokenVersion": 2},
        ],
    }
    path = tmp_path_factory.mktemp("state") / "state.yaml"
    path.write_text(json.dumps(state))  # JSON is YAML
    return path


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory, state_file: Path, site: Site) -> Iterator[EmulatorClient]:
    """A running emulator that also trusts the site's certificate authority."""
    with emulate(state_file, tmp_path_factory.mktemp("emulator"), imds_port=0, trust=site.ca_file) as running:
        yield running


@pytest.fixture(scope="session")
def http(emulator: EmulatorClient) -> Iterator[httpx2.Client]:
    """A plain HTTP client that trusts the emulator's authority."""
    context = ssl.create_default_context(cafile=str(emulator.ca_file))
    with httpx2.Client(verify=context, base_url=emulator.authority) as client:
        yield client


@pytest.fixture
def mint(http: httpx2.Client) -> Mint:
    """Ask the emulated cluster for a service account token, as a kubelet does."""

    def minted(*audiences: str, account: str = "orders") -> str:
        spec = {"audiences": audiences or [AUDIENCE], "expirationSeconds": 3600}
        path = f"cluster/api/v1/namespaces/shop/serviceaccounts/{account}/token"
        return str(http.post(path, json={"spec": spec}).json()["status"]["token"])

    return minted


@pytest.fixture
def forge(site: Site, issuer_key: SigningKey) -> Mint:
    """Mint a token of one of the site's issuers, with changes to its claims."""

    def forged(name: str = "good", key: SigningKey = issuer_key, **changes: object) -> str:
        order = TokenOrder("shop", "orders", (AUDIENCE,), 3600)
        claims = token_claims(f"{site.url}/{name}", order, time.time(), "id")
        return mint_token(key, claims | changes)

    return forged


@pytest.fixture
def post(http: httpx2.Client) -> Post:
    """Post a token request of application `strays` with an assertion; changes of None leave a parameter out."""

    def posted(assertion: str, tenant: str = TENANT, **changes: str | None) -> httpx2.Response:
        form: dict[str, str | None] = {
            "grant_type": "client_credentials",
            "client_id": STRAYS,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion,
            "scope": "https://vault.azure.net/.default",
        }
        data = {name: value for name, value in (form | changes).items() if value is not None}
        return http.post(f"{tenant}/oauth2/v2.0/token", data=data)

    return posted
