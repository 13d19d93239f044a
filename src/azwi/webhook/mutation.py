"""One admission review from bytes to bytes: read it, find the account, plan, render. No I/O but the look-up given."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from azwi.admission.injection import plan_injection
from azwi.admission.patch import render_patch
from azwi.admission.review import Envelope, parse_review, render_allowed, render_refused
from azwi.admission.verdict import AdmissionWarning, Refusal

if TYPE_CHECKING:
    from azwi.admission.injection import Injection
    from azwi.admission.settings import Settings
    from azwi.webhook.accounts import Accounts
    from azwi.webhook.policy import IdentityPolicy

AccountKey = tuple[str, str]  # namespace, name

MUTATED = "mutated"
UNCHANGED = "unchanged"
REFUSED = "refused"

INTERNAL_ERROR = 500


class Answer(msgspec.Struct, frozen=True):
    """The answer's bytes, and what metrics and logs tell of it.

    `reason` is empty unless refused; `warnings` are the ones sent; `account` is whom the Pod names, if it was read.
    """

    body: bytes
    result: str
    envelope: Envelope
    namespace: str = ""
    reason: str = ""
    warnings: tuple[AdmissionWarning, ...] = ()
    account: AccountKey = ("", "")


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
        return Answer(render_allowed(review.envelope, [], []), UNCHANGED, review.envelope, namespace, account=key)
    verdict: Refusal | Injection
    if account is None:
        verdict = account_unreadable(trouble) if trouble else account_missing(namespace, name)
    else:
        forbidden = policy.refusal(namespace, name, account) if policy is not None else None
        verdict = forbidden or plan_injection(review.pod, account, settings)
    if isinstance(verdict, Refusal):
        answer = render_refused(review.envelope, verdict)
        return Answer(answer, REFUSED, review.envelope, namespace, verdict.reason, account=key)
    operations = render_patch(review.pod, verdict)
    return Answer(
        render_allowed(review.envelope, operations, verdict.warnings),
        MUTATED if operations else UNCHANGED,
        review.envelope,
        namespace,
        warnings=tuple(verdict.warnings),
        account=key,
    )


def answer_defect(body: bytes) -> Answer:
    """The answer to a review that we failed at; still about that review, so that its author reads it."""
    parsed = parse_review(body)
    envelope = parsed[0] if isinstance(parsed, tuple) else parsed.envelope
    refusal = Refusal("internal", "azwi-webhook has a defect and logged it; please report it", INTERNAL_ERROR)
    return Answer(render_refused(envelope, refusal), REFUSED, envelope, reason=refusal.reason)


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
