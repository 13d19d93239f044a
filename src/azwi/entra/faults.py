"""Refusals and failures of Microsoft Entra, as a client of its token endpoint sees them.

A fault is a value: an expected outcome of asking for a token. What follows from it is decided by the AADSTS number and
the HTTP status, never by text.

Source: "Microsoft Entra authentication and authorization error codes" (learn.microsoft.com), RFC 6749 section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# A federated credential that was created or changed a moment ago is not known everywhere yet: 70021 no matching
# credential, 700211 no matching issuer, 700213 no matching subject.
PROPAGATION_CODES: Final = frozenset({70021, 700211, 700213})
# The assertion is outside of its validity: the kubelet has written a newer one, or will.
STALE_ASSERTION_CODES: Final = frozenset({700024})

TOO_MANY_REQUESTS: Final = 429
SERVER_ERROR: Final = 500
MAX_RETRY_AFTER: Final = 3600  # seconds
_MAX_DESCRIPTION: Final = 4096  # characters


@dataclass(frozen=True, slots=True)
class EntraFault:
    """Why there is no token.

    `code` is the AADSTS number, if Entra gave one. `status` is the HTTP status of the answer; None when it is unknown
    or there was no answer. `unavailable` says that Entra did not decide: it was unreachable, failed or answered with
    something that is no answer. `retry_after` is Entra's own wish, in seconds. `local` says that Entra was not asked at
    all, because the request or the token file cannot be used.
    """

    error: str
    description: str
    code: int | None = None
    correlation_id: str = ""
    status: int | None = None
    retry_after: int | None = None
    unavailable: bool = False
    local: bool = False

    @property
    def throttled(self) -> bool:
        """Entra asked to be asked less often."""
        return self.status == TOO_MANY_REQUESTS

    @property
    def propagating(self) -> bool:
        """The refusal may pass by itself within minutes, because a change has not reached every server yet."""
        return self.code in PROPAGATION_CODES

    @property
    def stale_assertion(self) -> bool:
        """The token file is to be read again: its content was outside of its validity."""
        return self.code in STALE_ASSERTION_CODES

    @property
    def transient(self) -> bool:
        """Asking again later may well help, without anybody changing anything."""
        return self.throttled or self.unavailable or self.propagating


def read_fault(
    answer: Mapping[str, object], *, status: int | None = None, retry_after: int | None = None
) -> EntraFault:
    """The fault in an error answer of Entra, or in the dictionary that MSAL makes of one.

    Args:
        answer: The JSON object; fields that are missing or of another type count as absent.
        status: The HTTP status, where it is known.
        retry_after: Seconds from the Retry-After header, where there was one.
    """
    return EntraFault(
        error=_text(answer, "error") or "unknown_error",
        description=_text(answer, "error_description")[:_MAX_DESCRIPTION],
        code=_code(answer.get("error_codes")),
        correlation_id=_text(answer, "correlation_id"),
        status=status,
        retry_after=retry_after,
        unavailable=status is not None and status >= SERVER_ERROR,
    )


def unavailable(description: str, *, status: int | None = None, retry_after: int | None = None) -> EntraFault:
    """The fault of an Entra that could not be asked, or gave no usable answer."""
    return EntraFault("temporarily_unavailable", description, status=status, retry_after=retry_after, unavailable=True)


def parse_retry_after(value: str | None) -> int | None:
    """The seconds of a Retry-After header; None for a date or anything else, since Entra sends seconds only."""
    if value is None or not (value.isascii() and value.strip().isdigit()):
        return None
    return min(int(value.strip()[:9]), MAX_RETRY_AFTER)


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    return value if isinstance(value, str) else ""


def _code(codes: object) -> int | None:
    if not isinstance(codes, list) or not codes:
        return None
    first: object = codes[0]
    return first if isinstance(first, int) and not isinstance(first, bool) else None
