"""What follows from what is wanted and what is there: creating."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from plans import (
    APPLICATION,
    APPLICATION_PHASES,
    CLIENT,
    MANAGED,
    ORDERS,
    ROLE,
    TENANT,
    TRUST,
    P,
    account,
    actions,
    target,
)

from azwi.identity.model import (
    AccountOrder,
    Action,
    Found,
    Identity,
    IdentityRef,
    OrderError,
    Phase,
    RoleFinding,
)
from azwi.identity.plan import annotations_for, plan_create

if TYPE_CHECKING:
    from azwi.cluster.annotations import Account


def test_everything_is_created_in_the_order_of_the_phases() -> None:
    """Where nothing is there."""
    assert [
        ("application", "create"),
        ("service principal", "create"),
        ("service account", "create"),
        ("federated credential", "create"),
        ("role assignment", "create"),
    ] == actions(plan_create(target(), Found(Identity(APPLICATION)), TENANT))
    assert [
        ("managed identity", "create"),
        ("service account", "create"),
        ("federated credential", "create"),
        ("role assignment", "create"),
    ] == actions(plan_create(target(MANAGED), Found(Identity(MANAGED)), TENANT))


@pytest.mark.parametrize("ref", [APPLICATION, MANAGED])
def test_what_is_right_is_kept(ref: IdentityRef) -> None:
    """A plan for what is there already changes nothing."""
    there = Found(
        Identity(ref, CLIENT, "o", "p"),
        (TRUST,),
        {("shop", "orders"): account(client_id=CLIENT, tenant_id=TENANT)},
        {ROLE: RoleFinding("d", assigned=True)},
    )
    assert {Action.KEEP} == {step.action for step in plan_create(target(ref), there, TENANT)}


def test_phases_that_do_not_run_have_no_steps() -> None:
    """An identity that is there is needed, nothing else."""
    assert [] == plan_create(target(phases=frozenset()), Found(Identity(APPLICATION, CLIENT)), TENANT)
    direct = IdentityRef(principal_id="p")
    assert [("role assignment", "create")] == actions(
        plan_create(
            target(direct, frozenset({Phase.ROLE_ASSIGNMENT})), Found(Identity(direct, principal_id="p")), TENANT
        )
    )


@pytest.mark.parametrize("ref", [APPLICATION, MANAGED, IdentityRef(client_id=CLIENT)])
def test_a_missing_identity_is_told_before_anything_is_written(ref: IdentityRef) -> None:
    """A service account never gets an empty client id (defect 16 of the reference)."""
    phases = APPLICATION_PHASES if ref.client_id else frozenset({Phase.SERVICE_ACCOUNT})
    with pytest.raises(OrderError, match="does not exist"):
        plan_create(target(ref, phases), Found(Identity(replace(ref, client_id=""))), TENANT)


@pytest.mark.parametrize(
    ("has", "order", "action", "detail"),
    [
        (account(client_id=CLIENT, tenant_id=TENANT), ORDERS, Action.KEEP, ""),
        (account(client_id="x", tenant_id=TENANT), ORDERS, Action.CHANGE, "client-id"),
        (account(), ORDERS, Action.CHANGE, "client-id, tenant-id"),
        (
            account(client_id=CLIENT, tenant_id=TENANT),
            replace(ORDERS, expiration=7200),
            Action.CHANGE,
            "service-account-token-expiration",
        ),
        (
            account(client_id=CLIENT, tenant_id=TENANT, service_account_token_expiration="7200"),
            ORDERS,
            Action.CHANGE,
            "no service-account-token-expiration",
        ),
        (None, ORDERS, Action.CREATE, ""),
    ],
)
def test_annotations(has: Account | None, order: AccountOrder, action: Action, detail: str) -> None:
    """What differs is named; what azwi applied once and is no longer wanted goes."""
    found = Found(Identity(APPLICATION, CLIENT), accounts={("shop", "orders"): has})
    wanted = replace(target(phases=frozenset({Phase.SERVICE_ACCOUNT})), accounts=(order,))
    (step,) = plan_create(wanted, found, TENANT)
    assert (action, detail) == (step.action, step.detail)


def test_an_account_of_an_identity_to_come_will_change() -> None:
    """Its client id is not known before the identity is there."""
    found = Found(Identity(APPLICATION), accounts={("shop", "orders"): account()})
    steps = plan_create(target(), found, TENANT)
    assert ("service account", "change") in actions(steps)


def test_the_expiration_is_written_only_where_it_is_not_the_default() -> None:
    """As the reference does."""
    assert {"client-id", "tenant-id"} == {one.removeprefix(P) for one in annotations_for(ORDERS, CLIENT, TENANT)}
    assert (
        "7200"
        == annotations_for(replace(ORDERS, expiration=7200), CLIENT, TENANT)[P + "service-account-token-expiration"]
    )
