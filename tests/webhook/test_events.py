"""Events: once per object and reason, rate limited, never for a dry run, and never in a review's way (D 7)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from azwi.admission.serviceaccount import read_service_account
from azwi.admission.settings import Settings
from azwi.cluster.events import Subject, render_event
from azwi.webhook.events import BURST, REMEMBERED, EventRecorder
from azwi.webhook.mutation import answer_review

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.admission.serviceaccount import ServiceAccount
    from azwi.webhook.mutation import Answer

SETTINGS = Settings(tenant_id="t", authority_host="https://login.microsoftonline.com/")
OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-1", "uid": "u-1", "controller": True}


class NoClientId:
    """A cluster whose accounts have no client id."""

    def find(self, _: str, __: str) -> ServiceAccount | None:
        """One of them."""
        return read_service_account({})


def warned(*, dry_run: bool = False, owners: list[dict[str, Any]] | None = None) -> Answer:
    """The answer to a Pod whose account has no client id."""
    metadata = {"name": "x", "ownerReferences": owners or []}
    pod = {"metadata": metadata, "spec": {"serviceAccountName": "orders", "containers": [{"name": "app"}]}}
    request = {"uid": "u", "namespace": "shop", "dryRun": dry_run, "object": pod}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request})
    answer = answer_review(body.encode(), NoClientId(), SETTINGS)
    assert ("warned", "no-client-id") == (answer.result, answer.reason)
    return answer


class Api:
    """An API server that takes Events."""

    def __init__(self, status: int = 201) -> None:
        self.events: list[dict[str, Any]] = []
        self._status = status

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """One request."""
        if request.method == "GET":
            return httpx2.Response(200, json={"metadata": {"uid": "sa-uid"}})
        self.events.append(json.loads(request.content))
        assert request.url.path == "/api/v1/namespaces/shop/events"
        return httpx2.Response(self._status, json={})


def recorded(
    api: Api, use: Callable[[EventRecorder], None], clock: Callable[[], float] = lambda: 0.0
) -> dict[str, int]:
    """Use a recorder, let it write; gives its counts."""

    async def run() -> dict[str, int]:
        transport = httpx2.MockTransport(api.handle)
        async with httpx2.AsyncClient(transport=transport, base_url="https://api.invalid") as client:
            recorder = EventRecorder(client, "replica-1", clock)
            use(recorder)
            task = asyncio.create_task(recorder.run())
            await asyncio.sleep(0.1)
            task.cancel()
            return recorder.counts

    return asyncio.run(run())


def test_a_warning_is_an_event_on_the_owner() -> None:
    """The controller's, with its uid; the reason in the form of Events, the message as kubectl prints it."""
    api, answer = Api(), warned(owners=[OWNER])
    counts = recorded(api, lambda recorder: recorder.record_warnings(answer))
    assert {"written": 1} == counts
    about = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": "shop", "name": "web-1", "uid": "u-1"}
    event = api.events[0]
    assert about == event["involvedObject"]
    assert ("NoClientId", answer.warnings[0].text, "Warning") == (event["reason"], event["message"], event["type"])
    assert "replica-1" == event["reportingInstance"]


def test_without_an_owner_it_is_on_the_service_account() -> None:
    """With the uid that kubectl describe looks for; a mirror Pod's node is no owner."""
    api = Api()
    node = OWNER | {"kind": "Node"}

    def use(recorder: EventRecorder) -> None:
        recorder.record_warnings(warned())
        recorder.record_warnings(warned(owners=[node]))

    assert {"written": 1} == recorded(api, use)
    about = {"apiVersion": "v1", "kind": "ServiceAccount", "namespace": "shop", "name": "orders", "uid": "sa-uid"}
    assert about == api.events[0]["involvedObject"]


def test_a_dry_run_leaves_nothing() -> None:
    """The webhook is declared sideEffects NoneOnDryRun."""
    api = Api()
    assert {} == recorded(api, lambda recorder: recorder.record_warnings(warned(dry_run=True, owners=[OWNER])))
    assert [] == api.events


def test_each_object_and_reason_once_and_not_too_many() -> None:
    """A deployment of a thousand Pods is one Event; a thousand objects are as many as the burst allows."""
    api = Api()

    def use(recorder: EventRecorder) -> None:
        for number in range(1000):
            recorder.record(Subject("v1", "Pod", "shop", f"pod-{number % 100}", "u"), "stale", "words")

    counts = recorded(api, use)
    assert (BURST, BURST) == (len(api.events), counts["written"])
    assert 1000 - BURST * 10 == counts["dropped"]


def test_what_cannot_be_written_is_counted() -> None:
    """A refusal is no reason to stop."""

    def use(recorder: EventRecorder) -> None:
        for name in "ab":
            recorder.record(Subject("v1", "Pod", "shop", name, "u"), "stale", "words")

    assert {"failed": 2} == recorded(Api(403), use)


@pytest.mark.parametrize("name", ["a\nb", "x" * 70_000, "..", ""])
def test_an_owner_of_any_name_stops_nothing(name: str) -> None:
    """Owners are named before anybody has checked them; the next Event is written."""
    api = Api()
    owner = OWNER | {"apiVersion": "v1", "kind": "ServiceAccount", "name": name, "uid": ""}
    bad, good = warned(owners=[owner]), warned(owners=[OWNER])

    def use(recorder: EventRecorder) -> None:
        recorder.record_warnings(bad)
        recorder.record_warnings(good)

    counts = recorded(api, use)
    assert (2, "web-1") == (sum(counts.values()), api.events[-1]["involvedObject"]["name"])


def test_memory_is_bounded() -> None:
    """The oldest are forgotten, and told again when they come again."""
    now = [0.0]

    def use(recorder: EventRecorder) -> None:
        for number in range(REMEMBERED + 10):
            now[0] += 1.0
            recorder.record(Subject("v1", "Pod", "shop", f"pod-{number}", "u"), "stale", "words")

    counts = recorded(Api(), use, lambda: now[0])
    assert REMEMBERED + 10 == counts["written"] + counts["dropped"]


def test_an_event_fits() -> None:
    """Names and messages keep Kubernetes' limits."""
    event = render_event(Subject("v1", "Pod", "shop", "x" * 253), "R", "m" * 2000, "r", 0.0)
    assert len(event["metadata"]["name"]) <= 253
    assert 1024 == len(event["message"])
    assert "1970-01-01T00:00:00Z" == event["firstTimestamp"]
    assert "uid" not in event["involvedObject"]
