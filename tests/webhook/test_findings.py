"""What a look at running Pods finds: by table, over pages, told once and to the right object (W1, W7)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx2
import msgspec
import pytest

from azwi.admission.serviceaccount import ServiceAccount, read_service_account
from azwi.webhook.findings import NOT_INJECTED, NOT_LABELLED, REASONS, STALE, RunningPod, judge
from azwi.webhook.survey import Survey

if TYPE_CHECKING:
    from azwi.cluster.events import Subject

CLIENT = "22222222-2222-2222-2222-222222222222"
OTHER = "33333333-3333-3333-3333-333333333333"
TENANT = "11111111-1111-1111-1111-111111111111"
PREFIX = "azure.workload.identity/"
VOLUME: dict[str, Any] = {"volumes": [{"name": "azure-workload-identity-reserved-token"}]}
VARIABLE = {"initContainers": [{"env": [{"name": "AZURE_FEDERATED_TOKEN_FILE", "value": "/x"}]}]}
LABEL = {"labels": {PREFIX + "use": "true"}}


def account(**annotations: str) -> ServiceAccount:
    """A service account with these annotations of ours."""
    return read_service_account({PREFIX + name.replace("_", "-"): value for name, value in annotations.items()})


def stamped(**values: str) -> dict[str, Any]:
    """Metadata with a stamp that says so."""
    return LABEL | {"annotations": {PREFIX + "injected": json.dumps({"version": "1", "tenantId": TENANT} | values)}}


@pytest.mark.parametrize(
    ("reason", "metadata", "spec", "found"),
    [
        (None, {}, {}, account()),
        (None, {}, {}, None),
        (NOT_INJECTED, LABEL, {}, account(client_id=CLIENT)),
        (NOT_INJECTED, LABEL, {}, None),
        (None, {"labels": {PREFIX + "use": "false"}}, {}, account()),
        (NOT_LABELLED, {"labels": {PREFIX + "use": "false"}}, {}, account(client_id=CLIENT)),
        (NOT_LABELLED, {}, {}, account(client_id=CLIENT)),
        (NOT_LABELLED, {}, {}, account(client_id_from="configmap/ids/orders")),
        (None, {}, VOLUME, account(client_id=CLIENT)),
        (None, LABEL, VARIABLE, account(client_id=CLIENT)),
        (None, stamped(clientId=CLIENT), VOLUME, account(client_id=CLIENT)),
        (None, stamped(clientId=CLIENT), VOLUME, None),
        (None, LABEL | {"annotations": {PREFIX + "injected": "garbage"}}, VOLUME, account(client_id=CLIENT)),
        (STALE, stamped(clientId=OTHER), VOLUME, account(client_id=CLIENT)),
        (STALE, stamped(), VOLUME, account(client_id=CLIENT)),
        (STALE, stamped(clientId=CLIENT), VOLUME, account(client_id=CLIENT, tenant_id=OTHER)),
        (STALE, stamped(clientId=CLIENT), VOLUME, account(client_id_from="configmap/ids/orders")),
        (None, stamped(clientIdFrom="configmap/a/b"), VOLUME, account(client_id_from="configmap/a/b")),
        (None, LABEL | {"deletionTimestamp": "2026-01-01T00:00:00Z"}, {}, account(client_id=CLIENT)),
    ],
)
def test_pods_are_judged(
    reason: str | None, metadata: dict[str, Any], spec: dict[str, Any], found: ServiceAccount | None
) -> None:
    """Labelled without injection, annotated without the label, injected for another identity; else nothing."""
    pod = msgspec.convert({"metadata": metadata, "spec": spec}, RunningPod)
    finding = judge(pod, found, TENANT)
    assert reason == (finding.reason if finding is not None else None)


@pytest.mark.parametrize(("phase", "judged"), [("Succeeded", False), ("Failed", False), ("Running", True)])
def test_pods_that_are_over_are_not_judged(phase: str, judged: bool) -> None:  # noqa: FBT001
    """Nobody can mend them."""
    pod = msgspec.convert({"metadata": LABEL, "spec": {}, "status": {"phase": phase}}, RunningPod)
    assert judged == (judge(pod, None, TENANT) is not None)


class Known:
    """Service accounts by namespace and name."""

    def __init__(self, **accounts: ServiceAccount) -> None:
        self._accounts = accounts

    def find(self, _: str, name: str) -> ServiceAccount | None:
        """One of them."""
        return self._accounts.get(name)


class Told:
    """What was told."""

    def __init__(self) -> None:
        self.subjects: list[tuple[str, str, str]] = []

    def record(self, subject: Subject, reason: str, message: str) -> None:
        """Keep it."""
        assert message
        self.subjects.append((subject.kind, subject.name, reason))


def pod(name: str, owner: str = "", **spec: Any) -> dict[str, Any]:  # noqa: ANN401
    """A labelled Pod as it is listed."""
    owners = [
        {"apiVersion": "v1", "kind": "Other", "name": "other", "uid": "x"},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": owner, "uid": "y", "controller": True},
    ]
    metadata = {"name": name, "namespace": "shop", **LABEL, "ownerReferences": owners if owner else []}
    return {"metadata": metadata, "spec": spec}


def look(*answers: httpx2.Response) -> tuple[Survey, Told, list[dict[str, str]]]:
    """One survey against these answers; the last one repeats."""
    left, asked = list(answers), []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(dict(request.url.params))
        return left.pop(0) if len(left) > 1 else left[0]

    async def run() -> tuple[Survey, Told]:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), base_url="https://api.invalid") as client:
            told = Told()
            survey = Survey(client, Known(default=account(client_id=CLIENT)), TENANT, 0.01, told)
            task = asyncio.create_task(survey.run())
            async with asyncio.timeout(5):
                while not survey.found:  # noqa: ASYNC110  # what metrics would read
                    await asyncio.sleep(0.01)
            found = dict(survey.found)
            task.cancel()
            await asyncio.wait([task])
            assert {} == survey.found
            survey.found = found
            return survey, told

    survey, told = asyncio.run(run())
    return survey, told, asked


def test_all_pages_are_looked_at() -> None:
    """A look that fails is made again; findings are counted, and told to the controller or, without one, to the Pod."""
    first = {"metadata": {"continue": "next"}, "items": [pod("a", "web"), pod("b", **VOLUME)]}
    second = {"metadata": {}, "items": [pod("c")]}
    survey, told, asked = look(
        httpx2.Response(403, json={"message": "pods is forbidden"}),
        httpx2.Response(200, json={"items": 7}),
        httpx2.Response(200, json=first),
        httpx2.Response(200, json=second),
    )
    assert dict.fromkeys(REASONS, 0) | {NOT_INJECTED: 2} == survey.found
    assert [("ReplicaSet", "web", NOT_INJECTED), ("Pod", "c", NOT_INJECTED)] == told.subjects[:2]
    assert ["next", "100"] == [asked[3]["continue"], asked[3]["limit"]]
