"""The HTTP edge where it can only be seen in process: a defect of ours refuses one Pod and is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from azwi.admission.settings import Settings
from azwi.webhook.metrics import Metrics
from azwi.webhook.server import AdmissionApp, StatusApp

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from azwi.admission.serviceaccount import ServiceAccount


class Broken:
    """Accounts that cannot be asked."""

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """Fail, as a defect would."""
        raise ZeroDivisionError(namespace + name)


async def ask(app: Any, body: bytes = b"", path: str = "/mutate-v1-pod") -> tuple[int, bytes]:  # noqa: ANN401  # ASGI
    """Status and body of the answer of an ASGI application to a POST."""
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        await asyncio.sleep(0)
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        await asyncio.sleep(0)
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize(
    ("body", "code"),
    [(b'{"request": {"uid": "u1", "object": {"kind": "Pod"}}}', 500), (b'{"request": {"uid": "u1"}}', 400)],
)
def test_a_defect_refuses_the_review_and_says_so(body: bytes, code: int, caplog: pytest.LogCaptureFixture) -> None:
    """The answer is about that review, asks for a report, and the defect is logged; other refusals are as ever."""
    app = AdmissionApp(Broken(), Settings("t", "https://x/"), Metrics())

    status, answered = asyncio.run(ask(app, body))

    response = json.loads(answered)["response"]
    assert status == 200
    assert response["uid"] == "u1"
    assert not response["allowed"]
    assert response["status"]["code"] == code
    assert ("this is a defect" in caplog.text) == (code == 500)


@pytest.mark.parametrize("kind", [b'"\xff"', b"[" * 5000 + b"]" * 5000])
def test_a_kind_that_cannot_be_read_is_refused(kind: bytes) -> None:
    """Bytes that are no text, nesting without an end: an answer like any other."""
    app = AdmissionApp(Broken(), Settings("t", "https://x/"), Metrics())
    status, answered = asyncio.run(ask(app, b'{"request": {"uid": "u1", "object": {"kind": ' + kind + b"}}}"))
    response = json.loads(answered)["response"]
    assert (200, False, 400) == (status, response["allowed"], response["status"]["code"])


class Doubtful:
    """An API server whose look fails as a defect would."""

    def is_doubtful(self, namespace: str, name: str) -> bool:
        """Always."""
        return bool(namespace + name)

    async def look(self, namespace: str, name: str) -> str:
        """Never."""
        raise ZeroDivisionError(namespace + name)


class Nobody:
    """No accounts."""

    def find(self, _: str, __: str) -> ServiceAccount | None:
        """None."""
        return None


def test_a_look_that_fails_refuses_the_review_and_names_it(caplog: pytest.LogCaptureFixture) -> None:
    """As any other defect: in an answer, with a line that has the review's uid."""
    app = AdmissionApp(Nobody(), Settings("t", "https://x/"), Metrics(), Doubtful())
    pod = {"metadata": {"name": "x"}, "spec": {"serviceAccountName": "orders", "containers": [{"name": "app"}]}}
    body = json.dumps({"request": {"uid": "u1", "namespace": "shop", "object": pod}}).encode()
    status, answered = asyncio.run(ask(app, body))
    response = json.loads(answered)["response"]
    assert (200, "u1", 500) == (status, response["uid"], response["status"]["code"])
    assert {"uid": "u1"} in [getattr(line, "fields", None) for line in caplog.records]


def test_readiness_is_what_it_is_told() -> None:
    """D 22: not ready before the start and after SIGTERM; alive all the time."""
    status = StatusApp(Metrics())

    for ready, code in ((False, 503), (True, 200), (False, 503)):
        status.ready = ready
        assert asyncio.run(ask(status.health, path="/readyz"))[0] == code
        assert asyncio.run(ask(status.health, path="/healthz"))[0] == 200
