"""One admission review from bytes to bytes: read it, find the account, plan, render. No I/O but the look-up given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from azwi.admission.injection import plan_injection
from azwi.admission.patch import encode_patch, render_patch
from azwi.admission.pod import OwnerReference, choose_owner
from azwi.admission.review import Envelope, Review, parse_review, render_allowed, render_refused
from azwi.admission.verdict import AdmissionWarning, Refusal

if TYPE_CHECKING:
    from azwi.admission.injection import Injection
    from azwi.admission.settings import Settings
    from azwi.webhook.accounts import Accounts
    from azwi.webhook.policy import IdentityPolicy

AccountKey = tuple[str, str]  # namespace, name

MUTATED = "mutated"
UNCHANGED = "unchanged"
WARNED = "warned"
REFUSED = "refused"
ERROR = "error"

INTERNAL_ERROR = 500


class Answer(msgspec.Struct, frozen=True):
    """The answer's bytes, and what metrics, logs and Events tell of it.

    Attributes:
        body: The answer.
        result: What became of the Pod: mutated, unchanged, warned (let in, patched or not, with warnings), refused,
            or error, where it is refused though nothing is wrong with it.
        envelope: Whose answer it is.
        namespace: The Pod's.
        reason: Why, in a stable word; of several warnings the first one's.
        warnings: The ones sent.
        account: Whom the Pod names, if it was read.
        known: Whether that account was known.
        owner: Who made the Pod; told of Pods with warnings only.
        dry_run: Whether nothing is to last of it.
        patch_size: Bytes of the JSON Patch.
    """

    body: bytes
    result: str
    envelope: Envelope
    namespace: str = ""
    reason: str = ""
    warnings: tuple[AdmissionWarning, ...] = ()
    account: AccountKey = ("", "")
    known: bool = True
    owner: OwnerReference | None = None
    dry_run: bool = False
    patch_size: int = 0


def answer_review(
    body: bytes,
    accounts: Accounts,
    settings: Settings,
    trouble: str = "",
    *,
    policy: IdentityPolicy | None = None,
    annotated_only: bool = False,
) -> Answer:
    """The answer to an admission review.

    Args:
        body: The review.
        accounts: The service accounts that are known.
        settings: What to inject.
        trouble: Why the API server could not be asked about an account that is not known.
        policy: Who may use which identity; None for everybody.
        annotated_only: Whether the Pod counts only if its account has a client id, since nobody labelled the Pod.
    """
    review = parse_review(body)
    if isinstance(review, tuple):
        envelope, refusal = review
        return Answer(render_refused(envelope, refusal), REFUSED, envelope, reason=refusal.reason)
    namespace = review.namespace
    name = review.pod.service_account_name
    account = accounts.find(namespace, name)
    key = (namespace, name)
    if annotated_only and (account is None or not (account.client_id or account.client_id_from)):
        body = render_allowed(review.envelope, b"")
        return Answer(body, UNCHANGED, review.envelope, namespace, account=key, known=account is not None)
    if account is None:
        verdict = account_unreadable(trouble) if trouble else account_missing(namespace, name)
        body = render_refused(review.envelope, verdict)
        result = ERROR if trouble else REFUSED
        return Answer(body, result, review.envelope, namespace, verdict.reason, account=key, known=False)
    forbidden = policy.refusal(namespace, name, account) if policy is not None else None
    planned = forbidden or plan_injection(review.pod, account, settings)
    if isinstance(planned, Refusal):
        body = render_refused(review.envelope, planned)
        return Answer(body, REFUSED, review.envelope, namespace, planned.reason, account=key)
    return _allow(review, planned, key)


def _allow(review: Review, injection: Injection, account: AccountKey) -> Answer:
    """The answer that lets the Pod in."""
    patch = encode_patch(render_patch(review.pod, injection))
    warnings = injection.warnings
    body = render_allowed(review.envelope, patch, warnings)
    result = WARNED if warnings else MUTATED if patch else UNCHANGED
    if not warnings:
        return Answer(body, result, review.envelope, account[0], account=account, patch_size=len(patch))
    metadata = review.pod.metadata
    return Answer(
        body,
        result,
        review.envelope,
        account[0],
        warnings[0].reason,
        tuple(warnings),
        account,
        owner=choose_owner(metadata.owner_references) if metadata else None,
        dry_run=review.dry_run,
        patch_size=len(patch),
    )


def answer_defect(body: bytes) -> Answer:
    """The answer to a review that we failed at; still about that review, so that its author reads it."""
    parsed = parse_review(body)
    envelope = parsed[0] if isinstance(parsed, tuple) else parsed.envelope
    refusal = Refusal("internal", "azwi-webhook has a defect and logged it; please report it", INTERNAL_ERROR)
    return Answer(render_refused(envelope, refusal), ERROR, envelope, reason=refusal.reason)


def account_unreadable(trouble: str) -> Refusal:
    """A refusal in the API server's own words (R 2.2), with what to do."""
    return Refusal(
        "service-account-unreadable",
        f"{trouble}: the webhook does not know the Pod's service account yet, and could not ask for it; try again, "
        "and if it stays so look at the webhook's log",
    )


def account_missing(namespace: str, name: str) -> Refusal:
    """A refusal in the API server's own words (R 2.2), with what to do."""
    return Refusal(
        "service-account-missing",
        f'serviceaccounts "{name}" not found: create it in namespace "{namespace}" before the Pod, '
        "or correct spec.serviceAccountName",
    )
