"""What a look at a running Pod can find: that it has not the identity it should have. No I/O (W1, W7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from azwi.admission.pod import OwnerReference, PodSpec, View, choose_owner
from azwi.contract import INJECTED_ANNOTATION, TOKEN_FILE_VARIABLE, USE_LABEL, VOLUME_PREFIX

if TYPE_CHECKING:
    from azwi.admission.serviceaccount import ServiceAccount

NOT_INJECTED: Final = "not-injected"
NOT_LABELLED: Final = "not-labelled"
STALE: Final = "stale"
REASONS: Final = (NOT_INJECTED, NOT_LABELLED, STALE)

_OVER: Final = frozenset({"Succeeded", "Failed"})


class _Metadata(View):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[OwnerReference] | None = None
    deletion_timestamp: str | None = None


class _Status(View):
    phase: str | None = None


class RunningPod(View):
    """A Pod as the API server lists it."""

    metadata: _Metadata
    spec: PodSpec
    status: _Status | None = None

    @property
    def owner(self) -> OwnerReference | None:
        """Who made it, None where nobody did."""
        return choose_owner(self.metadata.owner_references)


class Finding(msgspec.Struct, frozen=True):
    """What is wrong: a stable word, and a sentence that says what to do."""

    reason: str
    message: str


class _Stamp(msgspec.Struct, rename="camel"):
    client_id: str = ""
    client_id_from: str = ""
    tenant_id: str = ""


def judge(pod: RunningPod, account: ServiceAccount | None, tenant_id: str) -> Finding | None:
    """What is wrong with a Pod, None where nothing is.

    Args:
        pod: The Pod; one that is over or going is not judged.
        account: Its service account as it is now, None where there is none.
        tenant_id: The webhook's, which counts where the account names none.
    """
    metadata, name = pod.metadata, pod.spec.service_account_name or "default"
    if metadata.deletion_timestamp or (pod.status and pod.status.phase in _OVER):
        return None
    annotated = account is not None and bool(account.client_id or account.client_id_from)
    if _is_injected(pod):
        stale = account is not None and _is_stale(
            (metadata.annotations or {}).get(INJECTED_ANNOTATION), account, tenant_id
        )
        if not stale:
            return None
        return Finding(
            STALE, f'service account "{name}" names another identity than when this Pod was made; restart it'
        )
    if (metadata.labels or {}).get(USE_LABEL) == "true":
        return Finding(
            NOT_INJECTED,
            f"the Pod has the label {USE_LABEL}, but no identity: the webhook was not asked; restart the Pod",
        )
    if annotated:
        return Finding(
            NOT_LABELLED,
            f'service account "{name}" has an identity, but the Pod lacks the label {USE_LABEL}: "true"; '
            "add it to the Pod template",
        )
    return None


def _is_injected(pod: RunningPod) -> bool:
    """Whether a Pod has what an injection of any version gives."""
    if any((volume.name or "").startswith(VOLUME_PREFIX) for volume in pod.spec.volumes or ()):
        return True
    containers = [*(pod.spec.init_containers or ()), *(pod.spec.containers or ())]
    return any(variable.name == TOKEN_FILE_VARIABLE for container in containers for variable in container.env or ())


def _is_stale(stamp: str | None, account: ServiceAccount, tenant_id: str) -> bool:
    """Whether the stamp names another identity than the account; False where it cannot be read."""
    try:
        read = msgspec.json.decode(stamp or "", type=_Stamp)
    except msgspec.DecodeError:
        return False
    reference = "" if account.client_id else account.client_id_from_text or ""
    now = (account.client_id, reference, account.tenant_id or tenant_id)
    return (read.client_id, read.client_id_from, read.tenant_id) != now
