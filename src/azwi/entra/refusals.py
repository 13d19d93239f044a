"""Refusals and failures of Microsoft Graph and Azure Resource Manager, and when to ask again. Pure.

What follows from a refusal is decided by its status and code, never by its text.

Source: "Microsoft Graph error responses and resource types", "Resource Manager common errors", "Throttling guidance",
"Troubleshoot Azure RBAC"; hashicorp/terraform-provider-azurerm 19968 and Azure/azure-dev 1482 for the codes of
federated credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from azwi.entra.faults import SERVER_ERROR, TOO_MANY_REQUESTS
from azwi.errors import EntraError

if TYPE_CHECKING:
    from collections.abc import Mapping

NOT_FOUND: Final = 404
CONFLICT: Final = 409
UNAVAILABLE: Final = 503
_MULTIPLE_CHOICES: Final = 300
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_MAX_MESSAGE: Final = 1000  # characters

# Somebody else writes to the same object at this moment: the same request will be taken in a moment.
CONCURRENT_CODES: Final = frozenset(
    {
        "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
        "AnotherOperationInProgress",
        "Directory_ConcurrencyViolation",
        "Request_ConcurrencyViolation",
        "ConcurrencyViolation",
    }
)
# What was created a moment ago is not known to every server.
REPLICATION_CODES: Final = frozenset(
    {"PrincipalNotFound", "ParentResourceNotFound", "NoBackingApplicationObject", "Request_ResourceNotFound"}
)
# No moment passes that: what the request names is not there, whatever was created before it.
_MISSING_CODES: Final = frozenset(
    {"ResourceGroupNotFound", "SubscriptionNotFound", "InvalidResourceType", "RoleDefinitionDoesNotExist"}
)
# Somebody was faster, or an earlier attempt arrived although its answer did not.
EXISTS_CODES: Final = frozenset({"Request_MultipleObjectsWithSameKeyValue", "RoleAssignmentExists"})
# Graph: issuer and subject of a federated credential must be unique in the application (HTTP 400).
SAME_TRUST_CODES: Final = frozenset({"InvalidFederatedIdentityCredentialValue"})

PATIENCE: Final = 120.0  # seconds for throttling, outages and concurrent writes
REPLICATION_PATIENCE: Final = 240.0  # seconds; four minutes were seen (openshift/cloud-credential-operator 878)
_FIRST_DELAY: Final = 0.5
_LONGEST_DELAY: Final = 15.0

_ADVICE: Final = {
    "Authorization_RequestDenied": "the signed-in identity needs a Microsoft Graph permission or directory role that "
    "may do this, such as Application.ReadWrite.OwnedBy or Application Administrator",
    "AuthorizationFailed": "the signed-in identity needs a role at this scope, such as Managed Identity Contributor, "
    "or Role Based Access Control Administrator for role assignments",
    "LinkedAuthorizationFailed": "the signed-in identity needs a role at the linked scope as well",
    "SubscriptionNotFound": "correct --subscription-id, or sign in to the tenant that has this subscription",
    "ResourceGroupNotFound": "create the resource group, or correct --resource-group",
    "PrincipalNotFound": "the principal is not known everywhere yet: run the same command again in some minutes",
    "QuotaExceeded": "remove federated credentials that nobody uses: azwi credential list shows them",
    "Directory_QuotaExceeded": "remove federated credentials or applications that nobody uses",
    "FederatedIdentityCredentialsLimitReached": "remove credentials that nobody uses: azwi credential list shows them",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request did not do what it should.

    `status` is None where there was no answer. `retry_after` is in seconds, the service's own wish. `details` are the
    more particular codes below `code`, where there are some.
    """

    service: str
    request: str
    status: int | None
    code: str = ""
    message: str = ""
    correlation_id: str = ""
    retry_after: float | None = None
    details: frozenset[str] = frozenset()

    def means(self, codes: frozenset[str]) -> bool:
        """Whether its code, or one of the more particular ones, is among these."""
        return self.code in codes or not codes.isdisjoint(self.details)

    @property
    def ambiguous(self) -> bool:
        """Whether the request may have been carried out all the same."""
        return self.status is None or (self.status >= SERVER_ERROR and self.status != UNAVAILABLE)

    @property
    def not_found(self) -> bool:
        """Whether the object, or its parent, is not there."""
        return self.status == NOT_FOUND


class ServiceError(EntraError):
    """Graph or Resource Manager refused, or could not be asked; `refusal` says which, why and how to find it again."""

    code = "service"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(describe(refusal), hint=advise(refusal))
        self.refusal = refusal


def describe(refusal: Refusal) -> str:
    """The refusal as a sentence without a full stop."""
    if refusal.status is None:
        return f"{refusal.service} could not be asked ({refusal.request}): {refusal.message}"
    if refusal.status < _MULTIPLE_CHOICES:
        return f"{refusal.service} answered {refusal.request} with {refusal.status}, but {refusal.message}"
    code = f" {refusal.code}" if refusal.code else ""
    message = f": {refusal.message.rstrip('.')}" if refusal.message else ""
    trace = f" (correlation id {refusal.correlation_id})" if refusal.correlation_id else ""
    return f"{refusal.service} refused {refusal.request} with {refusal.status}{code}{message}{trace}"


def advise(refusal: Refusal) -> str:
    """What to do about it; nothing where nobody knows."""
    if refusal.code in _ADVICE:
        return _ADVICE[refusal.code]
    if refusal.status == _UNAUTHORIZED:
        return "sign in again, and check --azure-env and --tenant-id"
    if refusal.status == _FORBIDDEN:
        return "the signed-in identity lacks the permission for this"
    if refusal.status == TOO_MANY_REQUESTS:
        return "it asks for patience: run the same command again later"
    if refusal.status is not None and refusal.status < _MULTIPLE_CHOICES:
        return "something else answers in its place: check --azure-env, HTTPS_PROXY and NO_PROXY"
    if refusal.status is None or refusal.status >= SERVER_ERROR:
        return "run the same command again: what is done already stays as it is"
    return ""


def read_refusal(
    service: str, request: str, status: int, document: object, headers: Mapping[str, str], retry_after: float | None
) -> Refusal:
    """The refusal in an answer; Graph and Resource Manager share its shape.

    Args:
        service: The service's name, for people.
        request: Method and path, without query.
        status: The answer's.
        document: The answer's JSON, or None.
        headers: The answer's, names in lower case.
        retry_after: Seconds from its Retry-After header.
    """
    error = document.get("error") if isinstance(document, dict) else None
    if not isinstance(error, dict):
        error = {}
    inner = error.get("innerError")
    trace = inner.get("request-id") if isinstance(inner, dict) else None
    found = headers.get("x-ms-correlation-request-id") or headers.get("request-id") or trace
    return Refusal(
        service,
        request,
        status,
        code=_text(error.get("code")),
        message=" ".join(_text(error.get("message")).split())[:_MAX_MESSAGE],
        correlation_id=_text(found)[:100],
        retry_after=retry_after,
        details=_details(error.get("details")),
    )


def decide_delay(refusal: Refusal, attempt: int, waited: float, *, repeatable: bool, awaiting: bool) -> float | None:
    """Seconds after which to send a request again; None where that would not help. The one retry policy.

    Args:
        refusal: Of the last attempt.
        attempt: Which one that was, from 0.
        waited: Seconds since the first.
        repeatable: Whether sending it twice does no more than sending it once.
        awaiting: Whether its parent was created a moment ago, so that not finding it may pass.
    """
    patience = PATIENCE
    throttled = refusal.status in {TOO_MANY_REQUESTS, UNAVAILABLE}
    missing = refusal.not_found and not refusal.means(_MISSING_CODES)
    if awaiting and (missing or refusal.means(REPLICATION_CODES)):
        patience = REPLICATION_PATIENCE
    elif not (
        throttled
        or (refusal.ambiguous and repeatable)
        or (refusal.status == CONFLICT and refusal.means(CONCURRENT_CODES))
    ):
        return None
    delay = max(min(_FIRST_DELAY * 2.0 ** min(attempt, 10), _LONGEST_DELAY), refusal.retry_after or 0.0)
    return delay if waited + delay <= patience else None


def _details(value: object) -> frozenset[str]:
    entries = value if isinstance(value, list) else []
    return frozenset(_text(entry.get("code")) for entry in entries if isinstance(entry, dict))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
