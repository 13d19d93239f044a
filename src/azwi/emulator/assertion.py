"""A client assertion before anybody has verified it: what it says, never what is true.

Read with types and without verification, so that a token that is garbage, nested a thousand levels deep or holds
numbers as text is one clear answer: unreadable.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Final

import msgspec

_PARTS: Final = 3  # header, payload, signature (RFC 7515 section 3.1)


@dataclass(frozen=True, slots=True)
class UnverifiedAssertion:
    """What an assertion claims; times are seconds since 1970.

    `not_before` is 0 where the assertion has none. `compact` is the assertion itself: never log it.
    """

    compact: str
    algorithm: str
    type: str
    kid: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    not_before: float
    expires: float


class _Header(msgspec.Struct):
    alg: str
    typ: str = ""
    kid: str = ""


class _Payload(msgspec.Struct):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    nbf: float = 0.0


def read_unverified(compact: str) -> UnverifiedAssertion | None:
    """What the assertion says; None when it is no JWT with issuer, subject, audience and expiry of the right types."""
    parts = compact.split(".")
    if len(parts) != _PARTS:
        return None
    try:
        header = msgspec.json.decode(_bytes(parts[0]), type=_Header)
        payload = msgspec.json.decode(_bytes(parts[1]), type=_Payload)
    except (binascii.Error, ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None
    return UnverifiedAssertion(
        compact=compact,
        algorithm=header.alg,
        type=header.typ,
        kid=header.kid,
        issuer=payload.iss,
        subject=payload.sub,
        audiences=(payload.aud,) if isinstance(payload.aud, str) else tuple(payload.aud),
        not_before=payload.nbf,
        expires=payload.exp,
    )


def _bytes(part: str) -> bytes:
    return base64.b64decode(part.encode("ascii") + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
