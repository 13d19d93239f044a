"""One service account with an identity, a credential and a role, as plans are made of them."""

from __future__ import annotations

from azwi.cluster.annotations import Account
from azwi.entra.federation import FederatedCredential
from azwi.identity.model import (
    AccountOrder,
    IdentityRef,
    Phase,
    RoleOrder,
    Step,
    Target,
)
from azwi.identity.names import subject_of
from azwi.identity.phases import choose_phases
from azwi.identity.values import resource_id_of

ISSUER = "https://oidc.example/abc/"
TENANT = "11111111-1111-1111-1111-111111111111"
CLIENT = "22222222-2222-2222-2222-222222222222"
P = "azure.workload.identity/"
ORDERS = AccountOrder("shop", "orders")
ROLE = RoleOrder("Reader", "/subscriptions/s")
APPLICATION = IdentityRef(name="orders")
MANAGED = IdentityRef(resource_id=resource_id_of("s", "shop", "orders"))
TRUST = FederatedCredential("one", ISSUER, subject_of("shop", "orders"), ("a",))
APPLICATION_PHASES = choose_phases((), managed=False)
MANAGED_PHASES = choose_phases((), managed=True)


def account(**annotations: str) -> Account:
    """The service account as it is, with what azwi applied."""
    named = {P + name.replace("_", "-"): value for name, value in annotations.items()}
    return Account("shop", "orders", named, dict.fromkeys(named, ("azwi",)), "uid", 0)


def target(ref: IdentityRef = APPLICATION, phases: frozenset[Phase] | None = None) -> Target:
    """One service account with an identity, a credential and a role."""
    fitting = MANAGED_PHASES if ref.managed else APPLICATION_PHASES
    return Target(ref, (ORDERS,), (TRUST,), (ROLE,), fitting if phases is None else phases)


def actions(steps: list[Step]) -> list[tuple[str, str]]:
    """Object and action of each step."""
    return [(step.thing.value, step.action.value) for step in steps]
