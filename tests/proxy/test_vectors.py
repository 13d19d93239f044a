"""Every recorded case of the reference, by rule: the same where nothing was decided, better where something was.

The cases without an entry in the tables below must be answered as the reference answers them.
"""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.proxy.entra_standin import CORRELATION_ID, Reply, refusal

from azwi.proxy.probe import probe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.proxy.entra_standin import StandIn
    from tests.proxy.proxy_process import ProxyProcess, Response

VECTORS = Path(__file__).parents[1] / "vectors" / "proxy"
CASES = {path.stem: json.loads(path.read_text()) for path in sorted(VECTORS.glob("*.json"))}

# What Entra does for the client id of a case. Where it asks for a minute, no try follows that takes the test's time.
SCRIPTS = {
    "c-429": [Reply(429, "{}", {"Retry-After": "20"})],
    "c-429-then-ok": [Reply(429, "{}", {"Retry-After": "1"}), Reply()],
    "c-503-html": [Reply(503, "<html>no</html>", {"Content-Type": "text/html", "Retry-After": "60"})],
    "c-700016": [refusal(700016, "unauthorized_client")],
    "c-close": [Reply(close=True)],
    "c-empty": [Reply(body="{}")],
    "c-garbage": [Reply(body="not json", headers={"Retry-After": "60"})],
}
# Cases with another status than the reference's, and the item of docs/differences.md that decides it.
STATUS = {
    "env-bad-tenant": (400, "D 24"),
    "env-connection-refused": (503, "D 24"),
    "http-1.0": (400, "D 25"),  # its raw request lacks the Metadata header
    "no-metadata-header": (400, "D 25"),
    "passthrough-other-identity": (403, "D 28"),
    "passthrough-503": (403, "D 28"),
    "passthrough-root": (403, "D 28"),
    "passthrough-xff": (400, "D 25"),
    "principal-id": (400, "D 26"),
    "scope-instead": (200, "D 26"),
    "upstream-429": (429, "D 24"),
    "upstream-503-html": (503, "D 24"),
    "upstream-700016": (400, "D 24"),
    "upstream-close": (503, "D 24"),
    "upstream-empty": (503, "D 24"),
    "upstream-garbage": (503, "D 24"),
}
ELSEWHERE = {
    "env-unknown-authority": "test_tokens: a private authority is never looked up; here every authority is one",
    "passthrough-head": "test_passthrough: with a real service to answer",
    "probe-503-then-ok": "below",
    "probe-always-503": "below",
    "env-custom-endpoint": "test_identity_binding: the reference ignores it, we do not (D 31)",
}


def send(proxy: ProxyProcess, request: dict[str, Any]) -> Response:
    """The answer to the request of a case."""
    if request["raw"]:
        return proxy.send(request["raw"].encode())[0]
    headers = {"Host": "169.254.169.254", "Metadata": "", **request["headers"]}
    return proxy.ask(request["target"], method=request["method"], **headers)


def judge(case: dict[str, Any], response: Response) -> None:
    """An answer has the decided status, and what the reference says where both give a token or an error."""
    reference = case["response"]
    status, _why = STATUS.get(case["id"], (reference["status"], ""))
    assert status == response.status
    if response.status == 200 and reference["status"] == 200 and reference["body"].startswith("{"):
        ours, theirs = response.document, json.loads(reference["body"])
        assert set(theirs) <= set(ours)
        assert (theirs["resource"], theirs["token_type"]) == (ours["resource"], ours["token_type"])
        assert all(isinstance(value, str) for value in ours.values())
    if response.status >= 400:
        assert {"error", "error_description"} == set(response.document)
    if response.status in (429, 503):
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("name", [name for name in CASES if name not in ELSEWHERE and not name.startswith("env-")])
def test_a_recorded_case(name: str, proxy: ProxyProcess, standin: StandIn) -> None:
    """A proxy with the usual environment answers as the reference, or as was decided."""
    standin.replies.update(SCRIPTS)
    case = CASES[name]
    response = send(proxy, case["request"])
    if name == "no-host":
        assert response.status == 400
        return
    judge(case, response)
    if name == "double-slash":
        assert dict(case["response"]["headers"])["Location"] == response.headers["location"]
    if name == "upstream-700016":
        description = response.document["error_description"]
        assert "AADSTS700016" in description
        assert CORRELATION_ID in description
    if name == "upstream-429":
        assert response.headers["retry-after"] == "20"


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("env-") and name not in ELSEWHERE])
def test_a_recorded_case_with_its_environment(name: str, start_proxy: Callable[..., ProxyProcess]) -> None:
    """A proxy with the case's own environment answers as the reference, or as was decided."""
    case = CASES[name]
    own = {name: case["env"].get(name, "") for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID")}
    if name == "env-connection-refused":
        own["AZURE_AUTHORITY_HOST"] = "https://127.0.0.1:1/"
    response = send(start_proxy(**own), case["request"])
    judge(case, response)
    if "no-client-id" in name:
        text = "The client_id parameter or AZURE_CLIENT_ID environment variable must be set"
        assert response.document["error_description"].startswith(text)


@contextmanager
def answering(statuses: list[int]) -> Iterator[int]:
    """A port that answers each request with the next status."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1024)
            self.request.sendall(f"HTTP/1.1 {statuses.pop(0)} X\r\nContent-Length: 0\r\n\r\n".encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(
    ("name", "statuses"), [("probe-503-then-ok", [503, 503, 200, 200]), ("probe-always-503", [503] * 8)]
)
def test_a_recorded_probe(name: str, statuses: list[int]) -> None:
    """The probe asks as often as the reference and comes to the same result."""
    asked = len(statuses) - 1
    with answering(statuses) as port:
        assert (CASES[name]["response"]["exit_status"] == 0) == probe(port, pause=0.01)
    assert len(CASES[name]["response"]["requests"]) == asked
    assert len(statuses) == 1


def test_every_exception_names_a_case() -> None:
    """The tables hold no case that does not exist."""
    assert set(CASES) >= {*STATUS, *ELSEWHERE}
