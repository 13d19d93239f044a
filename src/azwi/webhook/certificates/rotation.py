"""What is to be done next about the webhook's own certificates: a function of Secret, configuration and time. No I/O.

An authority is replaced in an order in which no API server ever meets a certificate that it does not trust (D 21):

1. The next authority is put into the Secret, beside the one in use.
2. Both are put into the caBundle of every entry of the configuration.
3. When the bundle has been there long enough for the API servers' caches, the next authority becomes the one in use and
   signs a new server certificate. The one before stays in the bundle until the certificate that it signed has expired.

Each step is taken from what Secret and configuration hold, so whoever leads next goes on where the last one stopped.
Where the Secret holds nothing that works, as at the first start, all of it is made at once. Somebody may also empty the
Secret, or put another one there, while replicas serve what it held before: its authority then stays in the bundle as
the one before, and each replica serves its certificate until the new authority has settled (`trust`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from azwi.webhook.certificates.issuance import (
    DAY,
    HOUR,
    Pair,
    is_issued_by,
    issue_authority,
    issue_leaf,
    matches,
    read_facts,
)
from azwi.webhook.certificates.trust import SETTLE

if TYPE_CHECKING:
    from collections.abc import Mapping

LOOK_AHEAD: Final = 90 * DAY  # seconds before its end at which a certificate is renewed (R 3.1)
LONGEST_WAIT: Final = 12 * HOUR  # between two looks, whatever the certificates say (R 3.1)

# Members of the Secret; the first four are the reference's.
AUTHORITY: Final = ("ca.crt", "ca.key")
LEAF: Final = ("tls.crt", "tls.key")
NEXT: Final = ("next-ca.crt", "next-ca.key")
PREVIOUS: Final = ("previous-ca.crt", "previous-tls.crt")  # certificates only: that authority signs no more


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there.

    Attributes:
        secret: The Secret's data, PEM by member.
        bundles: The caBundle of every entry of the configuration.
        settled: Seconds for which the bundles have been what they are.
        names: Host names and addresses that API servers call us by.
        serving: Certificates that the replica that asks serves now: the authority's and the server's; empty for none.
    """

    secret: Mapping[str, bytes]
    bundles: tuple[bytes, ...]
    settled: float
    names: tuple[str, ...]
    serving: tuple[bytes, bytes] = (b"", b"")


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now.

    Attributes:
        why: A stable word for logs; empty where nothing is to be done.
        secret: Members of the Secret to write; None removes one. Written before the bundle.
        bundle: What every entry is to trust; None leaves them.
        wait: Seconds after which to look again, if nothing changes before.
        expiry: When the certificates in use end, in seconds since 1970: `leaf` and `ca`.
    """

    why: str
    wait: float
    secret: Mapping[str, bytes | None] = field(default_factory=dict)
    bundle: bytes | None = None
    expiry: Mapping[str, float] = field(default_factory=dict)


def plan_step(observed: Observed, now: float) -> Step:
    """The next step; `now` is in seconds since 1970."""
    secret = observed.secret
    authority, leaf, following = (_pair(secret, members) for members in (AUTHORITY, LEAF, NEXT))
    if authority is None or leaf is None or not _works(authority, leaf, observed.names, now):
        return _begin(authority, observed, now)
    known = [secret.get(member[0], b"") for member in (AUTHORITY, NEXT, PREVIOUS)]
    if served := _served(observed, known, now):
        return Step("remember", 0.0, served, expiry=_expiry(authority, leaf))
    bundle = render_bundle(secret, now)
    expiry = _expiry(authority, leaf)
    if any(member in secret for member in PREVIOUS) and not _previous(secret, now):
        return Step("retire", 0.0, dict.fromkeys(PREVIOUS), expiry=expiry)
    if _is_due(authority, now) and (following is None or _is_due(following, now)):
        made = issue_authority(now)
        return Step("prepare", 0.0, dict(zip(NEXT, (made.certificate, made.key), strict=True)), expiry=expiry)
    if any(found != bundle for found in observed.bundles):
        return Step("trust", 0.0 if following is None else SETTLE, bundle=bundle, expiry=expiry)
    if following is not None:
        if observed.settled < SETTLE:
            return Step("", SETTLE - observed.settled, expiry=expiry)
        return Step("replace", 0.0, _replace(authority, leaf, following, observed.names, now), expiry=expiry)
    if _ends(leaf.certificate) - now < LOOK_AHEAD:
        return Step("renew", 0.0, _members(LEAF, issue_leaf(authority, observed.names, now)), expiry=expiry)
    return Step("", min(LONGEST_WAIT, max(1.0, min(expiry.values()) - LOOK_AHEAD - now)), expiry=expiry)


def render_bundle(secret: Mapping[str, bytes], now: float) -> bytes:
    """The authorities that API servers are to trust: the one in use, the next, the one before.

    Sorted, so that a change of roles alone is no change of the bundle.
    """
    members = (secret.get(AUTHORITY[0], b""), secret.get(NEXT[0], b""), _previous(secret, now))
    return b"".join(sorted({member.strip() + b"\n" for member in members if member.strip()}))


def _begin(authority: Pair | None, observed: Observed, now: float) -> Step:
    """The Secret holds nothing that works: a server certificate, from the authority that is there if it can sign."""
    usable = authority is not None and not _is_due(authority, now)
    signer = authority if authority is not None and usable else issue_authority(now)
    leaf = issue_leaf(signer, observed.names, now)
    written = {**_members(AUTHORITY, signer), **_members(LEAF, leaf)}
    written |= _served(observed, [signer.certificate], now)
    kept = {name: value for name, value in observed.secret.items() if name not in NEXT}
    removed = dict.fromkeys(name for name in NEXT if name in observed.secret)
    return Step("begin", 0.0, removed | written, render_bundle(kept | written, now), _expiry(signer, leaf))


def _replace(
    authority: Pair, leaf: Pair, following: Pair, names: tuple[str, ...], now: float
) -> dict[str, bytes | None]:
    """The next authority in use, with a server certificate of its own."""
    return {
        **_members(AUTHORITY, following),
        **_members(LEAF, issue_leaf(following, names, now)),
        **dict.fromkeys(NEXT),
        **dict(zip(PREVIOUS, (authority.certificate, leaf.certificate), strict=True)),
    }


def _works(authority: Pair, leaf: Pair, names: tuple[str, ...], now: float) -> bool:
    """Whether an API server that trusts the authority accepts the server certificate.

    The authority's key is not asked for: without it, it is due, and works until it is replaced.
    """
    facts, signer = read_facts(leaf.certificate), read_facts(authority.certificate)
    return (
        facts is not None
        and signer is not None
        and signer.authority
        and max(facts.not_before, signer.not_before) <= now < min(facts.not_after, signer.not_after)
        and facts.names >= set(names)
        and is_issued_by(leaf.certificate, authority.certificate)
        and matches(leaf)
    )


def _is_due(authority: Pair, now: float) -> bool:
    """Whether an authority is to be replaced: near its end, of another kind than ours, without its key."""
    facts = read_facts(authority.certificate)
    return (
        facts is None
        or not facts.modern
        or not facts.authority
        or not facts.not_before <= now < facts.not_after - LOOK_AHEAD
        or not matches(authority)
    )


def _previous(secret: Mapping[str, bytes], now: float) -> bytes:
    """The authority before, as long as somebody may still serve what it signed."""
    authority, leaf = (secret.get(member, b"") for member in PREVIOUS)
    facts, signed = read_facts(authority), read_facts(leaf)
    if facts is None or signed is None or min(facts.not_after, signed.not_after) <= now:
        return b""
    return authority


def _served(observed: Observed, known: list[bytes], now: float) -> dict[str, bytes]:
    """What replicas serve, as the members of an authority before.

    Empty if it is by an authority that is known, or if API servers would refuse it anyway.
    """
    authority, leaf = observed.serving
    if authority.strip() in {one.strip() for one in known}:
        return {}
    trusted = any(authority.strip() in bundle for bundle in observed.bundles)
    members = dict(zip(PREVIOUS, (authority, leaf), strict=True))
    return members if trusted and _previous(members, now) and is_issued_by(leaf, authority) else {}


def _pair(secret: Mapping[str, bytes], members: tuple[str, str]) -> Pair | None:
    """A pair of the Secret's members; None where there is no certificate."""
    certificate, key = (secret.get(member, b"") for member in members)
    return Pair(certificate, key) if certificate else None


def _members(names: tuple[str, str], pair: Pair) -> dict[str, bytes]:
    return {names[0]: pair.certificate, names[1]: pair.key}


def _expiry(authority: Pair, leaf: Pair) -> dict[str, float]:
    return {"leaf": _ends(leaf.certificate), "ca": _ends(authority.certificate)}


def _ends(certificate: bytes) -> float:
    facts = read_facts(certificate)
    return facts.not_after if facts is not None else 0.0
