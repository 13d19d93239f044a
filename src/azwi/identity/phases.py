"""The phases of create and delete: names, aliases, order, what each needs before anything is done. Pure.

Source: R 7.2, R 7.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from azwi.contract import MAX_EXPIRATION, MIN_EXPIRATION
from azwi.identity.model import OrderError, Phase
from azwi.identity.names import ACCOUNT_FORM, NAMESPACE_FORM, is_account_name, is_namespace
from azwi.identity.values import is_assignment_id, is_scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ALIASES: Final = {
    Phase.APPLICATION: "app",
    Phase.MANAGED_IDENTITY: "mi",
    Phase.SERVICE_ACCOUNT: "sa",
    Phase.FEDERATED_IDENTITY: "fi",
    Phase.ROLE_ASSIGNMENT: "ra",
}
CREATE_ORDER: Final = (
    Phase.APPLICATION,
    Phase.MANAGED_IDENTITY,
    Phase.SERVICE_ACCOUNT,
    Phase.FEDERATED_IDENTITY,
    Phase.ROLE_ASSIGNMENT,
)
DELETE_ORDER: Final = (
    Phase.ROLE_ASSIGNMENT,
    Phase.FEDERATED_IDENTITY,
    Phase.SERVICE_ACCOUNT,
    Phase.APPLICATION,
    Phase.MANAGED_IDENTITY,
)


@dataclass(frozen=True, slots=True)
class Given:
    """What was given on the command line; empty texts are what was not.

    `application_name` and `principal_name` are after their defaults.
    """

    account_name: str = ""
    namespace: str = ""
    issuer: str = ""
    expiration: int = MIN_EXPIRATION
    application_name: str = ""
    application_client_id: str = ""
    application_object_id: str = ""
    principal_name: str = ""
    principal_id: str = ""
    managed: bool = False
    scope: str = ""
    role: str = ""
    assignment: str = ""
    subject: str = ""


def choose_phases(skipped: Iterable[str], *, managed: bool) -> frozenset[Phase]:
    """The phases that run, of those that the identity's kind has.

    Raises:
        OrderError: A skipped one is none; its alias is none either, as in the reference.
    """
    names = {phase.value for phase in Phase}
    unknown = [name for name in skipped if name not in names]
    if unknown:
        raise OrderError(
            f"--skip-phases: there is no phase {', '.join(map(repr, unknown))}",
            hint=f"phases are {', '.join(phase.value for phase in CREATE_ORDER)}",
        )
    other = Phase.APPLICATION if managed else Phase.MANAGED_IDENTITY
    return frozenset(Phase) - {Phase(name) for name in skipped} - {other}


def check_create(phases: frozenset[Phase], given: Given) -> None:
    """See that every phase that will run has what it needs, before the first one does anything.

    Raises:
        OrderError: With the reference's text, for the first phase that lacks something.
    """
    checks = {
        Phase.APPLICATION: _application_needs,
        Phase.MANAGED_IDENTITY: lambda _: None,
        Phase.SERVICE_ACCOUNT: _account_needs,
        Phase.FEDERATED_IDENTITY: _credential_needs,
        Phase.ROLE_ASSIGNMENT: _role_needs,
    }
    _check(CREATE_ORDER, phases, {phase: checks[phase](given) for phase in CREATE_ORDER})


def check_delete(phases: frozenset[Phase], given: Given) -> None:
    """The same for delete.

    Raises:
        OrderError: With the reference's text, for the first phase that lacks something.
    """
    object_id = given.application_object_id
    application = None if object_id else _application_needs(given)
    account = _names_needed(given)
    credential = account or (None if given.issuer else "--service-account-issuer-url is required") or application
    lacks = {
        Phase.ROLE_ASSIGNMENT: _assignment_needs(given),
        Phase.FEDERATED_IDENTITY: credential,
        Phase.SERVICE_ACCOUNT: account,
        Phase.APPLICATION: application,
        Phase.MANAGED_IDENTITY: None,
    }
    _check(DELETE_ORDER, phases, lacks)


def _check(order: tuple[Phase, ...], phases: frozenset[Phase], lacks: Mapping[Phase, str | None]) -> None:
    for phase in order:
        problem = lacks[phase]
        if phase in phases and problem:
            hint = f"give it, or leave the phase out with --skip-phases {phase.value}"
            raise OrderError(f"failed to run pre-run for phase {phase.value}: {problem}", hint=hint)


def _application_needs(given: Given) -> str | None:
    return None if given.application_name or given.managed else "--aad-application-name is required"


def _assignment_needs(given: Given) -> str | None:
    if not given.assignment:
        return None if given.managed else "--role-assignment-id is required"
    if is_assignment_id(given.assignment):
        return None
    return (
        f"--role-assignment-id: {given.assignment!r} is no role assignment; it must look like "
        "/SCOPE/providers/Microsoft.Authorization/roleAssignments/NAME"
    )


def _names_needed(given: Given) -> str | None:
    if not given.account_name:
        return "--service-account-name is required"
    if not given.namespace:
        return "--service-account-namespace is required"
    if not is_account_name(given.account_name):
        return f"--service-account-name: {given.account_name!r} must be {ACCOUNT_FORM}"
    if not is_namespace(given.namespace):
        return f"--service-account-namespace: {given.namespace!r} must be {NAMESPACE_FORM}"
    return None


def _account_needs(given: Given) -> str | None:
    if not MIN_EXPIRATION <= given.expiration <= MAX_EXPIRATION:
        return "--service-account-token-expiration must be between 1h and 24h"
    known = given.managed or given.application_name or given.application_client_id or given.application_object_id
    return _names_needed(given) or (
        None if known else "one of --aad-application-name and --aad-application-client-id is required"
    )


def _credential_needs(given: Given) -> str | None:
    known = given.managed or given.application_name or given.application_object_id or given.application_client_id
    lacks_issuer = None if given.issuer else "--service-account-issuer-url is required"
    lacks_identity = None if known else "one of --aad-application-name and --aad-application-object-id is required"
    return _names_needed(given) or lacks_issuer or lacks_identity


def _role_needs(given: Given) -> str | None:
    if not given.scope:
        return "--azure-scope is required"
    if not is_scope(given.scope):
        return f"--azure-scope: {given.scope!r} must be a path, such as /subscriptions/…/resourceGroups/shop"
    if not given.role:
        return "--azure-role is required"
    known = given.managed or given.principal_name or given.principal_id
    return None if known else "one of --service-principal-name and --service-principal-object-id is required"
