"""How long a Pod's token lives: annotation, service account, default, and the grace period (R 2.7, D 14)."""

from __future__ import annotations

import msgspec

from azwi.admission.values import parse_integer
from azwi.admission.verdict import AdmissionWarning, Refusal, refuse_annotation, warn
from azwi.contract import (
    DEFAULT_EXPIRATION,
    EXPIRATION_ANNOTATION,
    EXPIRATION_MARGIN,
    MAX_EXPIRATION,
    MIN_EXPIRATION,
)

DEFAULT_GRACE_PERIOD = 30  # seconds; Kubernetes' default of terminationGracePeriodSeconds

# The kubelet renews at 80 % of a token's life and stops when the Pod terminates: a fifth is sure.
_SURE_PART = 5


class Lifetime(msgspec.Struct, frozen=True):
    """Seconds for `expirationSeconds`, and what the author should know about them."""

    seconds: int
    warning: AdmissionWarning | None = None


def resolve_lifetime(on_pod: str, on_account: str, grace_period: int | None) -> Lifetime | Refusal:
    """The life of the token; the Pod's annotation wins, and only the one that wins is read.

    Args:
        on_pod: The Pod's annotation, empty when absent.
        on_account: The service account's, empty when absent.
        grace_period: The Pod's terminationGracePeriodSeconds, if it says so.
    """
    needed = _needed(DEFAULT_GRACE_PERIOD if grace_period is None else grace_period)
    text, place = (on_pod, "Pod") if on_pod else (on_account, "service account")
    if not text:
        return _default(needed, grace_period)
    seconds = parse_integer(text)
    allowed = f"whole seconds between {MIN_EXPIRATION} and {MAX_EXPIRATION}"
    if seconds is None:
        return refuse_annotation("expiration-syntax", EXPIRATION_ANNOTATION, text, allowed, on=place)
    if not MIN_EXPIRATION <= seconds <= MAX_EXPIRATION:
        return refuse_annotation("expiration-range", EXPIRATION_ANNOTATION, text, allowed, on=place)
    if seconds < needed:
        text = f"token expiration {seconds} s may end before a graceful stop of {grace_period} s; {needed} s would not"
        return Lifetime(seconds, warn("expiration-short", text))
    return Lifetime(seconds)


def _needed(grace_period: int) -> int:
    """The life of which the sure fifth outlasts a graceful stop, as far as Kubernetes allows it."""
    return min(_SURE_PART * (grace_period + EXPIRATION_MARGIN), MAX_EXPIRATION)


def _default(needed: int, grace_period: int | None) -> Lifetime:
    if needed <= DEFAULT_EXPIRATION:
        return Lifetime(DEFAULT_EXPIRATION)
    text = f"token expiration raised to {needed} s, so that the token outlives a graceful stop of {grace_period} s"
    return Lifetime(needed, warn("expiration-raised", text))
