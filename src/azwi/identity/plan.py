"""What follows from what is wanted and what is there: steps, in their order. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from azwi.contract import CLIENT_ID_ANNOTATION, DEFAULT_EXPIRATION, EXPIRATION_ANNOTATION, TENANT_ID_ANNOTATION
from azwi.entra.federation import MAX_CREDENTIALS
from azwi.identity.model import Action, OrderError, Phase, Step, Thing
from azwi.identity.names import subject_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azwi.entra.federation import FederatedCredential
    from azwi.identity.model import AccountOrder, Found, Removal, RoleOrder, Target


def annotations_for(account: AccountOrder, client_id: str, tenant_id: str) -> dict[str, str]:
    """The annotations that give a service account an identity; the expiration only where it is not the default."""
    annotations = {CLIENT_ID_ANNOTATION: client_id, TENANT_ID_ANNOTATION: tenant_id}
    if account.expiration != DEFAULT_EXPIRATION:
        annotations[EXPIRATION_ANNOTATION] = str(account.expiration)
    return annotations


# --- Creating -------------------------------------------------------------------------------------------


def plan_create(target: Target, found: Found, tenant_id: str) -> list[Step]:
    """The steps to a target, in the order of the phases; what is right already is a step that keeps it.

    Raises:
        OrderError: The identity is missing and its phase does not run, a credential's name is taken by another, or the
            identity would have too many.
    """
    _require_identity(target, found)
    steps = list(_identity_steps(target, found))
    if Phase.SERVICE_ACCOUNT in target.phases:
        steps += [_account_step(one, found, tenant_id) for one in target.accounts]
    if Phase.FEDERATED_IDENTITY in target.phases:
        steps += plan_credentials(target.credentials, found.credentials, target.identity.title)
    if Phase.ROLE_ASSIGNMENT in target.phases:
        steps += [_role_step(one, found) for one in target.roles]
    return steps


def _require_identity(target: Target, found: Found) -> None:
    own = Phase.MANAGED_IDENTITY if target.identity.managed else Phase.APPLICATION
    makeable = own in target.phases and bool(target.identity.managed or target.identity.name)
    named = target.identity.principal_id or target.identity.principal_name
    direct = named and target.phases == {Phase.ROLE_ASSIGNMENT}
    if not found.identity.exists and not makeable and not direct:
        what = Thing.MANAGED_IDENTITY if target.identity.managed else Thing.APPLICATION
        raise OrderError(
            f"{what} {target.identity.title!r} does not exist",
            hint=f"create it first, or let the phase {own.value} run",
        )


def _identity_steps(target: Target, found: Found) -> Iterator[Step]:
    ref, identity = target.identity, found.identity
    if ref.managed and Phase.MANAGED_IDENTITY in target.phases:
        action = Action.KEEP if identity.exists else Action.CREATE
        yield Step(Phase.MANAGED_IDENTITY, Thing.MANAGED_IDENTITY, action, ref.title, identity.client_id)
    elif not ref.managed and Phase.APPLICATION in target.phases:
        action = Action.KEEP if identity.exists else Action.CREATE
        yield Step(Phase.APPLICATION, Thing.APPLICATION, action, ref.title, identity.client_id)
        action = Action.KEEP if identity.principal_id else Action.CREATE
        yield Step(Phase.APPLICATION, Thing.PRINCIPAL, action, ref.title, identity.principal_id)


def _account_step(order: AccountOrder, found: Found, tenant_id: str) -> Step:
    there = found.accounts.get((order.namespace, order.name))
    step = Step(Phase.SERVICE_ACCOUNT, Thing.ACCOUNT, Action.CREATE, order.title, subject=order)
    if there is None:
        return step
    if not found.identity.client_id:
        return replace(step, action=Action.CHANGE)
    wanted = annotations_for(order, found.identity.client_id, tenant_id)
    changes = [name.rpartition("/")[2] for name, value in wanted.items() if there.annotations.get(name) != value]
    changes += [f"no {name.rpartition('/')[2]}" for name in sorted(there.applied - wanted.keys())]
    if not changes:
        return replace(step, action=Action.KEEP)
    return replace(step, action=Action.CHANGE, detail=", ".join(changes))


def _role_step(order: RoleOrder, found: Found) -> Step:
    finding = found.roles.get(order)
    action = Action.KEEP if finding is not None and finding.assigned else Action.CREATE
    return Step(Phase.ROLE_ASSIGNMENT, Thing.ROLE, action, f"{order.role} at {order.scope}", subject=order)


# --- Credentials ----------------------------------------------------------------------------------------


def plan_credentials(
    wanted: tuple[FederatedCredential, ...], there: tuple[FederatedCredential, ...], title: str
) -> list[Step]:
    """The steps that give an identity these credentials, beside those it has.

    Raises:
        OrderError: A name is taken by a credential that trusts somebody else, what is wanted contradicts itself, or
            there would be too many.
    """
    steps = [_credential_step(one, there) for one in _distinct(wanted)]
    count = len(there) + sum(step.action is Action.CREATE for step in steps)
    if count > MAX_CREDENTIALS:
        raise OrderError(
            f"{title} would have {count} federated credentials, {MAX_CREDENTIALS} is the most ({len(there)} of "
            f"{MAX_CREDENTIALS} are used)",
            hint="remove some with azwi credential remove, use a second identity, or one claims matching expression",
        )
    return steps


def _distinct(wanted: tuple[FederatedCredential, ...]) -> list[FederatedCredential]:
    """Each trust once, under the name that it is wanted by first.

    Raises:
        OrderError: One trust is wanted with two audiences, or one name for two.
    """
    distinct: list[FederatedCredential] = []
    for one in wanted:
        same = next((first for first in distinct if first.trusted == one.trusted), None)
        if same is not None and same.audiences != one.audiences:
            audiences = f"{' '.join(same.audiences)} and {' '.join(one.audiences)}"
            raise OrderError(f"{trust_of(one)} is to be trusted with two audiences, {audiences}")
        namesake = next((first for first in distinct if first.name.lower() == one.name.lower()), None)
        if same is None and namesake is not None:
            raise OrderError(
                f"federated credential {one.name!r} is to trust both {trust_of(namesake)} and {trust_of(one)}",
                hint="give one of them another name",
            )
        if same is None:
            distinct.append(one)
    return distinct


def _credential_step(wanted: FederatedCredential, there: tuple[FederatedCredential, ...]) -> Step:
    step = Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.CREATE, wanted.name, trust_of(wanted), wanted)
    same = next((one for one in there if one.trusted == wanted.trusted), None)
    if same is not None:
        step = replace(step, name=same.name)
        if same.audiences == wanted.audiences:
            return replace(step, action=Action.KEEP, subject=same)
        change = replace(wanted, name=same.name, identifier=same.identifier)
        detail = f"{step.detail}, audience {' '.join(same.audiences)} becomes {' '.join(wanted.audiences)}"
        return replace(step, action=Action.CHANGE, detail=detail, subject=change)
    taken = next((one for one in there if one.name.lower() == wanted.name.lower()), None)
    if taken is not None:
        raise OrderError(
            f"federated credential {wanted.name!r} exists and trusts {trust_of(taken)}, not {trust_of(wanted)}",
            hint=f"remove it with azwi credential remove --name {taken.name}, or give another name",
        )
    return step


def trust_of(credential: FederatedCredential) -> str:
    """Whom a credential trusts, for people."""
    return f"{credential.expression or credential.subject} of {credential.issuer}"


# --- Deleting -------------------------------------------------------------------------------------------


def plan_delete(removal: Removal, found: Found) -> list[Step]:
    """The steps that undo a creation; what is not there is a step that says so."""
    if removal.identity.managed:
        return list(_managed_removal(removal, found))
    return list(_application_removal(removal, found))


def _application_removal(removal: Removal, found: Found) -> Iterator[Step]:
    whole = Phase.APPLICATION in removal.phases
    if Phase.ROLE_ASSIGNMENT in removal.phases:
        yield _assignment_step(removal.assignment)
    # Deleting the application takes its credentials along (R 7.3).
    if Phase.FEDERATED_IDENTITY in removal.phases and not whole:
        yield from _credential_removal(removal, found)
    if Phase.SERVICE_ACCOUNT in removal.phases:
        yield _account_removal(removal, found)
    if whole:
        title, client_id = removal.identity.title, found.identity.client_id
        others = len([one for one in found.credentials if not _is_of(one, removal)])
        detail = f"{client_id}, with {others} other federated credentials" if others else client_id
        if found.identity.exists:
            yield Step(Phase.APPLICATION, Thing.APPLICATION, Action.DELETE, title, detail)
        else:
            yield Step(Phase.APPLICATION, Thing.APPLICATION, Action.ABSENT, title, warning=True)


def _managed_removal(removal: Removal, found: Found) -> Iterator[Step]:
    """A managed identity goes last, and only if azwi made it and nobody else uses it."""
    if Phase.ROLE_ASSIGNMENT in removal.phases and removal.assignment:
        yield _assignment_step(removal.assignment)
    if Phase.FEDERATED_IDENTITY in removal.phases:
        yield from _credential_removal(removal, found)
    if Phase.SERVICE_ACCOUNT in removal.phases:
        yield _account_removal(removal, found)
    if Phase.MANAGED_IDENTITY not in removal.phases:
        return
    step = Step(Phase.MANAGED_IDENTITY, Thing.MANAGED_IDENTITY, Action.DELETE, removal.identity.title)
    going = Phase.FEDERATED_IDENTITY in removal.phases
    staying = [one for one in found.credentials if not (going and _is_of(one, removal))]
    if not found.identity.exists:
        yield replace(step, action=Action.ABSENT, warning=True)
    elif staying:
        yield replace(step, action=Action.SPARE, detail=f"{len(staying)} federated credentials that stay use it")
    elif not found.identity.own:
        yield replace(step, action=Action.SPARE, detail="azwi did not create it")
    else:
        if Phase.ROLE_ASSIGNMENT in removal.phases:
            yield from map(_assignment_step, found.assignments)
        yield replace(step, detail=found.identity.client_id)


def _assignment_step(identifier: str) -> Step:
    return Step(Phase.ROLE_ASSIGNMENT, Thing.ROLE, Action.DELETE, identifier, subject=identifier)


def _credential_removal(removal: Removal, found: Found) -> Iterator[Step]:
    mine = [one for one in found.credentials if _is_of(one, removal)]
    for one in mine:
        yield credential_deletion(one)
    if not mine:
        account = removal.account.title if removal.account else ""
        detail = f"none for {account} of {removal.issuer}"
        yield Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.ABSENT, account, detail, warning=True)


def credential_deletion(one: FederatedCredential) -> Step:
    """The step that removes a credential."""
    return Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.DELETE, one.name, trust_of(one), one)


def _is_of(credential: FederatedCredential, removal: Removal) -> bool:
    """Whether it trusts exactly this service account of this issuer."""
    account = removal.account
    subject = subject_of(account.namespace, account.name) if account else ""
    return bool(subject) and (credential.issuer, credential.subject) == (removal.issuer, subject)


def _account_removal(removal: Removal, found: Found) -> Step:
    account = removal.account
    key = (account.namespace, account.name) if account else ("", "")
    there = found.accounts.get(key)
    title = "/".join(key)
    if there is None:
        return Step(Phase.SERVICE_ACCOUNT, Thing.ACCOUNT, Action.ABSENT, title, warning=True)
    if removal.keep_account:
        action = Action.CHANGE if there.applied else Action.SPARE
        return Step(Phase.SERVICE_ACCOUNT, Thing.ACCOUNT, action, title, "loses azwi's annotations", subject=there)
    detail = f"with {there.foreign} labels, annotations and secrets of others" if there.foreign else ""
    return Step(Phase.SERVICE_ACCOUNT, Thing.ACCOUNT, Action.DELETE, title, detail, subject=there)
