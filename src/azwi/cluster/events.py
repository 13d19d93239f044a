"""Events: sentences about objects that kubectl shows beside them.

Source: kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1, in its core/v1 form, which every release
shows.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from azwi.cluster.api import FIELD_MANAGER, JsonObject, request, segment

if TYPE_CHECKING:
    import httpx2

_MAX_MESSAGE: Final = 1024  # characters; Kubernetes' own limit
_MAX_NAME: Final = 220  # characters of the object's name, so that the Event's is no longer than 253


class Subject(msgspec.Struct, frozen=True):
    """The object that an Event is about; the namespace is the Event's, too."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str = ""


def render_event(subject: Subject, reason: str, message: str, reporter: str, now: float) -> JsonObject:
    """A warning about an object.

    Args:
        subject: The object.
        reason: A word in UpperCamelCase.
        message: A sentence.
        reporter: Which replica says so.
        now: In seconds since 1970.
    """
    moment = datetime.fromtimestamp(now, UTC)
    seconds = moment.isoformat(timespec="seconds").replace("+00:00", "Z")
    about = {
        "apiVersion": subject.api_version,
        "kind": subject.kind,
        "namespace": subject.namespace,
        "name": subject.name,
    }
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{subject.name[:_MAX_NAME]}.{uuid.uuid4().hex[:16]}", "namespace": subject.namespace},
        "involvedObject": about | ({"uid": subject.uid} if subject.uid else {}),
        "type": "Warning",
        "reason": reason,
        "message": message[:_MAX_MESSAGE],
        "source": {"component": FIELD_MANAGER},
        "firstTimestamp": seconds,
        "lastTimestamp": seconds,
        "count": 1,
        "reportingComponent": f"azure.workload.identity/{FIELD_MANAGER}",
        "reportingInstance": reporter,
    }


async def write_event(client: httpx2.AsyncClient, event: JsonObject) -> None:
    """Write it; it has a name of its own, so a second try is answered with a conflict at worst.

    Raises:
        ClusterError: It could not be written.
    """
    await request(client, "POST", f"/api/v1/namespaces/{segment(event['metadata']['namespace'])}/events", event)
