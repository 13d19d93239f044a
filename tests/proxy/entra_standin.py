"""A scripted stand-in for Microsoft Entra over real TLS: what it answers is decided by the client id that asks."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qs

import jwt
import trustme
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from pathlib import Path

TENANT = "11111111-1111-1111-1111-111111111111"
CORRELATION_ID = "00000000-0000-0000-0000-000000000002"


@dataclass(frozen=True)
class Reply:
    """One scripted answer; `close` ends the connection without one, `wait` holds it back for so many seconds."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    close: bool = False
    wait: float = 0.0


def refusal(code: int, error: str = "invalid_client", status: int = 400) -> Reply:
    """A refusal as Entra words it."""
    document = {
        "error": error,
        "error_description": f"AADSTS{code}: it is not to be. Trace ID: t Correlation ID: {CORRELATION_ID}",
        "error_codes": [code],
        "correlation_id": CORRELATION_ID,
    }
    return Reply(status, json.dumps(document))


class StandIn:
    """The server; `replies` are used up in order for a client id, the last one for ever."""

    def __init__(self, folder: Path) -> None:
        self.replies: dict[str, list[Reply]] = {}
        self.tenant_reply: Reply | None = None
        self.endpoint_host = ""
        self.expires_in = 86400
        self.refresh_in: int | None = None
        self.forms: list[dict[str, str]] = []
        self.requests: Counter[str] = Counter()
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.server_names: list[str | None] = []
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._used: defaultdict[str, int] = defaultdict(int)
        self.ca_file = folder / "ca.crt"
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.sni_callback = lambda _socket, name, _context: self.server_names.append(name)
        self.ca_file.write_bytes(self.renew_certificate())
        self.port = 0
        self.come_back()
        self.url = f"https://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_problem: object) -> None:
        self.go_away()

    def go_away(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def come_back(self) -> None:
        """Listen, where it did before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._make_handler())
        self._server.daemon_threads = True
        self._server.socket = self.context.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def renew_certificate(self) -> bytes:
        """A certificate of a new authority from now on; gives the authority."""
        authority = trustme.CA()
        authority.issue_cert("127.0.0.1", "localhost", "token.example").configure_cert(self.context)
        pem: bytes = authority.cert_pem.bytes()
        return pem

    def answer_discovery(self) -> Reply:
        """The tenant's OpenID configuration."""
        if self.tenant_reply is not None:
            return self.tenant_reply
        base = f"https://{self.endpoint_host}/{TENANT}" if self.endpoint_host else f"{self.url}{TENANT}"
        document = {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
        }
        return Reply(body=json.dumps(document))

    def answer_token(self, form: dict[str, str]) -> Reply:
        """The scripted reply, or a token."""
        client_id = form["client_id"]
        script = self.replies.get(client_id)
        if not script:
            return self.issue(form)
        reply = script[min(self._used[client_id], len(script) - 1)]
        self._used[client_id] += 1
        return reply if reply.status != 200 or reply.body or reply.close else self.issue(form)

    def issue(self, form: dict[str, str]) -> Reply:
        """A signed access token."""
        now = int(time.time())
        claims = {
            "aud": form["scope"].removesuffix("/.default"),
            "appid": form["client_id"],
            "nbf": now - 300,
            "exp": now + self.expires_in,
        }
        document = {
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "ext_expires_in": self.expires_in,
            "access_token": jwt.encode(claims, self.key, "ES256"),
            **({} if self.refresh_in is None else {"refresh_in": self.refresh_in}),
        }
        return Reply(body=json.dumps(document))

    def verify(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token that this server signed."""
        claims: dict[str, Any] = jwt.decode(token, self.key.public_key(), ["ES256"], audience=audience)
        return claims

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                standin.requests["GET"] += 1
                standin.paths.append(self.path)
                self._send(standin.answer_discovery())

            def do_POST(self) -> None:
                standin.requests["POST"] += 1
                standin.paths.append(self.path)
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = {name: values[0] for name, values in parse_qs(body).items()}
                standin.forms.append(form)
                standin.headers.append(dict(self.headers))
                self._send(standin.answer_token(form))

            def _send(self, reply: Reply) -> None:
                time.sleep(reply.wait)
                if not reply.close:
                    body = reply.body.encode()
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_args: object) -> None:
                """Say nothing."""

        return Handler
