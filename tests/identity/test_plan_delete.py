"""What follows from what is to go and what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plans import (
    APPLICATION,
    APPLICATION_PHASES,
    CLIENT,
    ISSUER,
    MANAGED,
    MANAGED_PHASES,
    ORDERS,
    TRUST,
    account,
    actions,
)

from azwi.identity.model import (
    Action,
    Found,
    Identity,
    IdentityRef,
    Phase,
    Removal,
)
from azwi.identity.plan import plan_delete


def removal(ref: IdentityRef, *without: Phase, keep: bool = False, assignment: str = "/x/ra") -> Removal:
    """What undoes `target`."""
    phases = MANAGED_PHASES if ref.managed else APPLICATION_PHASES
    return Removal(ref, ORDERS, ISSUER, assignment, phases - set(without), keep)


def test_an_application_goes_with_its_credentials() -> None:
    """The credential's phase is left out where the application's runs, as in the reference."""
    found = Found(Identity(APPLICATION, CLIENT, "o"), (TRUST,), {("shop", "orders"): account()})
    assert [("role assignment", "delete"), ("service account", "delete"), ("application", "delete")] == actions(
        plan_delete(removal(APPLICATION), found)
    )
    assert [
        ("role assignment", "delete"),
        ("federated credential", "delete"),
        ("service account", "delete"),
    ] == actions(plan_delete(removal(APPLICATION, Phase.APPLICATION), found))


def test_what_is_not_there_is_no_error() -> None:
    """Nor is a credential of another issuer touched (defects 17 and 18 of the reference)."""
    other = replace(TRUST, issuer="https://other.example/")
    found = Found(Identity(APPLICATION, CLIENT, "o"), (other,))
    steps = plan_delete(removal(APPLICATION, Phase.APPLICATION, Phase.ROLE_ASSIGNMENT), found)
    assert [("federated credential", "absent"), ("service account", "absent")] == actions(steps)
    assert all(step.warning for step in steps)
    (gone,) = plan_delete(
        replace(removal(APPLICATION), phases=frozenset({Phase.APPLICATION})), Found(Identity(APPLICATION))
    )
    assert (Action.ABSENT, True) == (gone.action, gone.warning)


def test_others_that_use_an_application_are_counted() -> None:
    """So that nobody is surprised."""
    found = Found(Identity(APPLICATION, CLIENT, "o"), (TRUST, replace(TRUST, subject="other")))
    (step,) = plan_delete(replace(removal(APPLICATION), phases=frozenset({Phase.APPLICATION})), found)
    assert step.detail.endswith("with 1 other federated credentials")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Found(Identity(MANAGED)), ("managed identity", "absent")),
        (
            Found(Identity(MANAGED, CLIENT, own=True), (TRUST, replace(TRUST, subject="x"))),
            ("managed identity", "spare"),
        ),
        (Found(Identity(MANAGED, CLIENT), (TRUST,)), ("managed identity", "spare")),
        (Found(Identity(MANAGED, CLIENT, own=True), (TRUST,)), ("managed identity", "delete")),
    ],
)
def test_a_managed_identity_goes_only_if_azwi_made_it_and_nobody_uses_it(
    found: Found, expected: tuple[str, str]
) -> None:
    """Most are made by others, and shared."""
    assert expected == actions(plan_delete(removal(MANAGED), found))[-1]


def test_the_roles_that_azwi_gave_go_with_the_identity() -> None:
    """They would be left for a principal that nobody knows."""
    found = Found(
        Identity(MANAGED, CLIENT, own=True), (TRUST,), {("shop", "orders"): account()}, assignments=("/a", "/b")
    )
    assert [
        ("federated credential", "delete"),
        ("service account", "delete"),
        ("role assignment", "delete"),
        ("role assignment", "delete"),
        ("managed identity", "delete"),
    ] == actions(plan_delete(removal(MANAGED, assignment=""), found))
    assert ("role assignment", "delete") == actions(plan_delete(removal(MANAGED), found))[0]
    only = replace(removal(MANAGED), phases=frozenset({Phase.MANAGED_IDENTITY}))
    assert [("managed identity", "delete")] == actions(plan_delete(only, replace(found, credentials=())))
    none = replace(removal(MANAGED), phases=frozenset())
    assert [] == plan_delete(none, found)


def test_an_identity_whose_own_credential_stays_keeps_its_roles() -> None:
    """The credential counts as going only where its phase runs."""
    found = Found(Identity(MANAGED, CLIENT, own=True), (TRUST,), assignments=("/a",))
    steps = plan_delete(removal(MANAGED, Phase.FEDERATED_IDENTITY, assignment=""), found)
    assert [("service account", "absent"), ("managed identity", "spare")] == actions(steps)
    assert "1 federated credentials that stay use it" == steps[-1].detail


def test_a_service_account_can_stay_without_our_annotations() -> None:
    """And what deleting it would lose is told."""
    found = Found(Identity(APPLICATION), accounts={("shop", "orders"): replace(account(client_id="x"), foreign=3)})
    only = replace(removal(APPLICATION), phases=frozenset({Phase.SERVICE_ACCOUNT}))
    (gone,) = plan_delete(only, found)
    assert "with 3 labels, annotations and secrets of others" == gone.detail
    assert [("service account", "change")] == actions(plan_delete(replace(only, keep_account=True), found))
    bare = replace(found, accounts={("shop", "orders"): account()})
    assert [("service account", "spare")] == actions(plan_delete(replace(only, keep_account=True), bare))


def test_a_removal_without_an_account_touches_none() -> None:
    """A phase of its own needs no service account's name."""
    nobody = replace(removal(APPLICATION), account=None)
    steps = plan_delete(
        replace(nobody, phases=frozenset({Phase.SERVICE_ACCOUNT, Phase.FEDERATED_IDENTITY})),
        Found(Identity(APPLICATION, CLIENT), (TRUST,)),
    )
    assert {Action.ABSENT} == {step.action for step in steps}
