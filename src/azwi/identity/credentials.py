"""The federated credentials of one identity: from one issuer to another, and what they mean. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from azwi.entra.federation import MAX_CREDENTIALS
from azwi.identity.model import Action, OrderError, Phase, Step, Thing
from azwi.identity.names import account_of, credential_name, identity_credential_name
from azwi.identity.plan import credential_deletion, plan_credentials, trust_of

if TYPE_CHECKING:
    from azwi.entra.federation import FederatedCredential


def plan_sync(
    there: tuple[FederatedCredential, ...], source: str, destination: str, title: str, *, managed: bool, in_place: bool
) -> list[Step]:
    """The steps that move every credential of one issuer to another: all are added before the first is removed.

    Args:
        there: What the identity has.
        source: The issuer whose credentials go.
        destination: The issuer whose tokens are to be accepted in their place.
        title: The identity's name, for errors.
        managed: Whether it is a managed identity, whose credentials are named by other rules.
        in_place: Change each where it stands, which needs no room, but takes the old issuer's trust at once.

    Raises:
        OrderError: Both issuers are the same, none is of the first one, or both sets together are too many for the
            identity.
    """
    if source == destination:
        raise OrderError("--from-issuer and --to-issuer are the same")
    old = [one for one in there if one.issuer == source]
    if not old:
        issuers = ", ".join(sorted({one.issuer for one in there})) or "none"
        raise OrderError(
            f"--from-issuer: {title} has no federated credential of {source!r}",
            hint=f"issuers that it trusts: {issuers}",
        )
    if in_place:
        return [_moved_in_place(one, there, destination) for one in old]
    moved = [_moved(one, destination, managed=managed) for one in old]
    # What is trusted in the new issuer already stays as somebody has made it, whatever its audience.
    right = {one.trusted: one for one in there if one.issuer == destination}
    wanted = tuple(right.get(one.trusted, one) for one in moved)
    try:
        added = plan_credentials(wanted, there, title)
    except OrderError as problem:
        if len(there) + len(old) <= MAX_CREDENTIALS:
            raise
        raise OrderError(problem.message, hint="change them one by one where they stand with --in-place") from problem
    return [*added, *map(credential_deletion, old)]


def _moved(one: FederatedCredential, issuer: str, *, managed: bool) -> FederatedCredential:
    """The same trust in another issuer, under a name of its own."""
    account = account_of(one.subject)
    make = identity_credential_name if managed else credential_name
    name = make(*(account or ("other", one.subject or one.expression)), issuer)
    return replace(one, issuer=issuer, name=name, identifier="")


def _moved_in_place(one: FederatedCredential, there: tuple[FederatedCredential, ...], issuer: str) -> Step:
    changed = replace(one, issuer=issuer)
    if any(other.trusted == changed.trusted for other in there):
        return credential_deletion(one)
    return Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.CHANGE, one.name, trust_of(changed), changed)


def describe_quota(used: int) -> str:
    """How much of an identity's room is used."""
    return f"{used} of {MAX_CREDENTIALS}"
