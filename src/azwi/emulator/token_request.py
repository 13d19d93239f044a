"""The Kubernetes TokenRequest API (authentication.k8s.io/v1) of the emulated cluster: bytes in, documents out.

Source: kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1; the limits are those of
kubernetes/pkg/apis/authentication/validation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec

from azwi.emulator.directory import Cluster
from azwi.emulator.issuer import BoundPod, TokenOrder, stable_uid

if TYPE_CHECKING:
    from azwi.emulator.keys import JsonObject

API_VERSION: Final = "authentication.k8s.io/v1"
MIN_EXPIRATION: Final = 600  # seconds
MAX_EXPIRATION: Final = 1 << 32
_DEFAULT_EXPIRATION: Final = 3600

_ANY: Final = Cluster()
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # RFC 1123, a namespace's name
_SUBDOMAIN: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the API server does not mint; becomes a Status document."""

    code: int
    reason: str
    message: str


class _BoundObject(msgspec.Struct):
    kind: str = ""
    name: str = ""
    uid: str = ""


class _Spec(msgspec.Struct, rename="camel"):
    audiences: list[str] = []
    expiration_seconds: int | None = None
    bound_object_ref: _BoundObject | None = None


class _TokenRequest(msgspec.Struct, rename="camel"):
    api_version: str = API_VERSION
    kind: str = "TokenRequest"
    spec: _Spec = msgspec.field(default_factory=_Spec)


def parse_token_request(
    namespace: str, service_account: str, body: bytes, issuer: str, cluster: Cluster = _ANY
) -> TokenOrder | Refusal:
    """The order a TokenRequest makes.

    Args:
        namespace: From the path.
        service_account: From the path.
        body: The document; unknown fields are ignored, as the API server does.
        issuer: The audience of a request that names none.
        cluster: Which service accounts exist (without a list, every valid name), and the longest life of a token.
    """
    valid = _LABEL.fullmatch(namespace) and _SUBDOMAIN.fullmatch(service_account)
    if not valid or (cluster.accounts is not None and (namespace, service_account) not in cluster.accounts):
        return Refusal(404, "NotFound", f'serviceaccounts "{service_account}" not found')
    try:
        request = msgspec.json.decode(body or b"{}", type=_TokenRequest)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return Refusal(400, "BadRequest", f"the object provided is unrecognized: {error}")
    if (request.api_version, request.kind) != (API_VERSION, "TokenRequest"):
        return Refusal(400, "BadRequest", f"the API version and kind must be {API_VERSION} TokenRequest")
    order = _order(namespace, service_account, request.spec, issuer)
    if isinstance(order, TokenOrder) and 0 < cluster.max_expiration < order.expiration:
        return replace(order, expiration=cluster.max_expiration)
    return order


def _order(namespace: str, service_account: str, spec: _Spec, issuer: str) -> TokenOrder | Refusal:
    expiration = _DEFAULT_EXPIRATION if spec.expiration_seconds is None else spec.expiration_seconds
    if expiration < MIN_EXPIRATION:
        return _invalid(
            f"spec.expirationSeconds: Invalid value: {expiration}: may not specify a duration less than 10 minutes"
        )
    if expiration > MAX_EXPIRATION:
        return _invalid(
            f"spec.expirationSeconds: Invalid value: {expiration}: may not specify a duration larger than 2^32 seconds"
        )
    bound = spec.bound_object_ref
    if bound is not None and (bound.kind != "Pod" or not bound.name):
        return Refusal(400, "BadRequest", "the emulator binds tokens to objects of kind Pod with a name only")
    pod = BoundPod(bound.name, bound.uid or stable_uid("pods", namespace, bound.name)) if bound else None
    return TokenOrder(namespace, service_account, tuple(spec.audiences) or (issuer,), expiration, pod)


def _invalid(problem: str) -> Refusal:
    return Refusal(422, "Invalid", f'TokenRequest.authentication.k8s.io "" is invalid: {problem}')


def render_answer(order: TokenOrder, token: str, now: float) -> JsonObject:
    """The TokenRequest with its status filled in."""
    spec: JsonObject = {"audiences": list(order.audiences), "expirationSeconds": order.expiration}
    if order.pod is not None:
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": order.pod.name, "uid": order.pod.uid}
    return {
        "apiVersion": API_VERSION,
        "kind": "TokenRequest",
        "metadata": {
            "name": order.service_account,
            "namespace": order.namespace,
            "creationTimestamp": _timestamp(now),
        },
        "spec": spec,
        "status": {"token": token, "expirationTimestamp": _timestamp(int(now) + order.expiration)},
    }


def render_status(refusal: Refusal) -> JsonObject:
    """A refusal as the API server writes it."""
    return {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "message": refusal.message,
        "reason": refusal.reason,
        "code": refusal.code,
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
