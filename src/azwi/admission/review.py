"""An admission review: its bytes to a request, a verdict to the answer's bytes (R 2.2, 2.3).

Two channels of failure: what is wrong with the HTTP request is the server's; what is wrong with the review or the Pod
is an answer with `allowed: false`, since the API server shows its message to the Pod's author. Source:
admission.k8s.io v1.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

import msgspec

from azwi.admission.pod import Pod, View
from azwi.admission.verdict import BAD_REQUEST, AdmissionWarning, Refusal

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_CONTENT: Final = "there is no content to decode"
_OK: Final = 200


class _Request(View):
    uid: str | None = None
    namespace: str | None = None
    dry_run: bool | None = None
    object: Pod | None = None


class _Review(View):
    api_version: str | None = None
    kind: str | None = None
    request: _Request | None = None


class _RawRequest(View):
    uid: str | None = None
    object: msgspec.Raw = msgspec.Raw(b"null")


class _RawReview(View):
    api_version: str | None = None
    kind: str | None = None
    request: _RawRequest | None = None


class _TypeMeta(View):
    api_version: str | None = None
    kind: str | None = None


class Envelope(msgspec.Struct, frozen=True):
    """What an answer repeats of its review: version, kind and uid."""

    api_version: str | None = None
    kind: str | None = None
    uid: str = ""


class Review(msgspec.Struct, frozen=True):
    """A review that could be read: the Pod, in which namespace, and whether nothing is to last of it."""

    envelope: Envelope
    pod: Pod
    namespace: str
    dry_run: bool


_decode_review = msgspec.json.Decoder(_Review).decode
_decode_raw = msgspec.json.Decoder(_RawReview).decode
_decode_type = msgspec.json.Decoder(_TypeMeta).decode
_encode = msgspec.json.Encoder().encode


def parse_review(body: bytes) -> Review | tuple[Envelope, Refusal]:
    """The review, or what to answer to one that cannot be read."""
    if not body:
        return Envelope(), Refusal("empty-body", "request body is empty")
    try:
        review = _decode_review(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        return _explain(body, problem)
    request = review.request
    if request is None:
        return Envelope(review.api_version, review.kind), Refusal("no-request", NO_CONTENT)
    envelope = Envelope(review.api_version, review.kind, request.uid or "")
    pod = request.object
    if pod is None:
        return envelope, Refusal("no-object", NO_CONTENT)
    other = _refuse_other_kind(pod.api_version, pod.kind)
    if other is not None:
        return envelope, other
    return Review(envelope, pod, request.namespace or "", bool(request.dry_run))


def _refuse_other_kind(api_version: str | None, kind: str | None) -> Refusal | None:
    """A refusal of what is no v1 Pod; one without apiVersion or kind is taken for a Pod."""
    if (api_version or "v1") == "v1" and (kind or "Pod") == "Pod":
        return None
    group = api_version if "/" in (api_version or "") else f"/{api_version or 'v1'}"
    return Refusal("other-kind", f"unable to decode {group}, Kind={kind} into *v1.Pod")


def _explain(body: bytes, problem: Exception) -> tuple[Envelope, Refusal]:
    """What is wrong: no JSON, no review, another kind, or a Pod with a field of the wrong type."""
    try:
        review = _decode_raw(body)
    except msgspec.ValidationError as wrong:
        return Envelope(), Refusal("bad-review", f"the AdmissionReview cannot be read: {wrong}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as wrong:
        return Envelope(), Refusal("bad-json", f"couldn't get version/kind; json parse error: {wrong}")
    # Only what is in the request is read more closely than here, so there is one.
    request = review.request or _RawRequest()
    envelope = Envelope(review.api_version, review.kind, request.uid or "")
    try:
        meta = _decode_type(request.object)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        meta = _TypeMeta()
    other = _refuse_other_kind(meta.api_version, meta.kind)
    if other is not None:
        return envelope, other
    where = str(problem).replace("$.request.object", "$").replace("$.", "")
    return envelope, Refusal("wrong-type", f"the Pod cannot be read: {where}")


def render_allowed(envelope: Envelope, patch: bytes, warnings: Sequence[AdmissionWarning] = ()) -> bytes:
    """The answer that lets the Pod in, with its JSON Patch if that is not empty."""
    response: dict[str, object] = {"uid": envelope.uid, "allowed": True, "status": {"metadata": {}, "code": _OK}}
    if patch:
        response["patch"] = base64.b64encode(patch).decode()
        response["patchType"] = "JSONPatch"
    return _render(envelope, response, warnings)


def render_refused(envelope: Envelope, refusal: Refusal, warnings: Sequence[AdmissionWarning] = ()) -> bytes:
    """The answer that keeps the Pod out; the API server shows the message."""
    status = {"metadata": {}, "message": refusal.message, "code": refusal.code or BAD_REQUEST}
    return _render(envelope, {"uid": envelope.uid, "allowed": False, "status": status}, warnings)


def _render(envelope: Envelope, response: dict[str, object], warnings: Sequence[AdmissionWarning]) -> bytes:
    if warnings:
        response["warnings"] = [warning.text for warning in warnings]
    answer: dict[str, object] = {}
    if envelope.kind:
        answer["kind"] = envelope.kind
    if envelope.api_version:
        answer["apiVersion"] = envelope.api_version
    answer["response"] = response
    return _encode(answer)
