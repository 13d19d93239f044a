"""What follows from what is wanted and what is there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azwi.cluster.annotations import Account
from azwi.entra.federation import FederatedCredential
from azwi.identity.credentials import plan_sync
from azwi.identity.model import (
    AccountOrder,
    Action,
    Found,
    Identity,
    IdentityRef,
    OrderError,
    Phase,
    Removal,
    RoleFinding,
    RoleOrder,
    Step,
    Target,
)
from azwi.identity.names import credential_name, subject_of
from azwi.identity.phases import Given, check_create, check_delete, choose_phases
from azwi.identity.plan import annotations_for, plan_create, plan_credentials, plan_delete
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


# --- Credentials ----------------------------------------------------------------------------------------


def test_a_credential_is_found_by_whom_it_trusts() -> None:
    """Under whatever name; another audience is brought up to date where it stands."""
    other = replace(TRUST, name="by-hand", audiences=("b",), identifier="i")
    (step,) = plan_credentials((TRUST,), (other,), "orders")
    assert (Action.CHANGE, "by-hand") == (step.action, step.name)
    assert replace(TRUST, name="by-hand", identifier="i") == step.subject


def test_a_name_that_trusts_somebody_else_is_not_overwritten() -> None:
    """The message says whom it trusts."""
    with pytest.raises(OrderError, match="exists and trusts other of"):
        plan_credentials((TRUST,), (replace(TRUST, subject="other", name="ONE"),), "orders")


def test_what_is_wanted_twice_is_planned_once() -> None:
    """By whom it trusts, under its first name; two audiences or one name for two cannot be."""
    twice = (TRUST, replace(TRUST, name="again"))
    (step,) = plan_credentials(twice, (), "orders")
    assert (Action.CREATE, "one") == (step.action, step.name)
    with pytest.raises(OrderError, match="is to be trusted with two audiences, a and b"):
        plan_credentials((TRUST, replace(TRUST, audiences=("b",))), (), "orders")
    with pytest.raises(OrderError, match=r"'ONE' is to trust both .*orders of .* and x of "):
        plan_credentials((TRUST, replace(TRUST, name="ONE", subject="x")), (), "orders")


def test_the_room_of_an_identity_is_known_before_anything_is_written() -> None:
    """Twenty fit; the twenty-first is refused with the count."""
    there = tuple(replace(TRUST, name=f"n{number}", subject=f"s{number}") for number in range(19))
    assert [Action.CREATE] == [step.action for step in plan_credentials((TRUST,), there, "orders")]
    full = (*there, replace(TRUST, name="last", subject="last"))
    with pytest.raises(OrderError, match="20 of 20 are used"):
        plan_credentials((TRUST,), full, "orders")


SUBJECTS = st.lists(st.sampled_from([f"system:serviceaccount:shop:{n}" for n in "abcdefghij"]), unique=True)


@given(SUBJECTS, SUBJECTS, st.booleans())
def test_moving_to_another_issuer_never_takes_before_it_has_given(
    old: list[str],
    new: list[str],
    managed: bool,  # noqa: FBT001
) -> None:
    """All are added before the first is removed, and afterwards exactly the old ones' subjects are trusted anew."""
    there = (
        *(FederatedCredential(f"old-{n}", "https://a", subject, ("x",)) for n, subject in enumerate(old)),
        *(FederatedCredential(f"new-{n}", "https://b", subject, ("x",)) for n, subject in enumerate(new)),
    )
    if not old:
        with pytest.raises(OrderError, match="has no federated credential of"):
            plan_sync(there, "https://a", "https://b", "orders", managed=managed, in_place=False)
        return
    steps = plan_sync(there, "https://a", "https://b", "orders", managed=managed, in_place=False)

    order = [step.action for step in steps]
    assert (
        order == sorted(order, key=[Action.KEEP, Action.CREATE, Action.DELETE].index)
        or Action.DELETE not in order[: len(old)]
    )
    trusted = {one.subject for one in there if one.issuer == "https://b"}
    for step in steps:
        assert isinstance(step.subject, FederatedCredential)
        if step.action is Action.CREATE:
            trusted.add(step.subject.subject)
        elif step.action is Action.DELETE:
            assert step.subject.issuer == "https://a"
            assert step.subject.subject in trusted
    assert set(old) | set(new) == trusted


@pytest.mark.parametrize("in_place", [False, True])
def test_moving_leaves_what_is_right(in_place: bool) -> None:  # noqa: FBT001
    """A credential of the new issuer keeps its name and its audience, and the old one goes."""
    new = replace(TRUST, name="new", issuer="https://b", audiences=("another",), identifier="i")
    steps = plan_sync((TRUST, new), ISSUER, "https://b", "orders", managed=False, in_place=in_place)
    kept = [] if in_place else [(Action.KEEP, new)]
    assert [*kept, (Action.DELETE, TRUST)] == [(step.action, step.subject) for step in steps]


@pytest.mark.parametrize("there", [(), (TRUST, replace(TRUST, issuer="https://c", subject="x"))])
def test_moving_from_an_issuer_that_is_not_there(there: tuple[FederatedCredential, ...]) -> None:
    """The issuers that are there are listed: a missing slash is the usual reason."""
    with pytest.raises(OrderError) as problem:
        plan_sync(there, "https://a", "https://b", "orders", managed=False, in_place=True)
    assert "--from-issuer: orders has no federated credential of 'https://a'" == problem.value.message
    listed = f"https://c, {ISSUER}" if there else "none"
    assert f"issuers that it trusts: {listed}" == problem.value.hint


def test_moving_without_room() -> None:
    """Eleven twice do not fit: the way that needs no room is named, and takes it."""
    there = tuple(FederatedCredential(f"n{n}", "https://a", f"s{n}", ("x",)) for n in range(11))
    with pytest.raises(OrderError, match="in-place"):
        plan_sync(there, "https://a", "https://b", "orders", managed=False, in_place=False)
    steps = plan_sync(there, "https://a", "https://b", "orders", managed=False, in_place=True)
    assert {Action.CHANGE} == {step.action for step in steps}
    known = (*there, FederatedCredential("z", "https://b", "s0", ("x",)))
    steps = plan_sync(known, "https://a", "https://b", "orders", managed=False, in_place=True)
    assert [Action.DELETE, *[Action.CHANGE] * 10] == [step.action for step in steps]


def test_moving_to_the_same_issuer_is_a_mistake() -> None:
    """And a name that somebody else has, another."""
    with pytest.raises(OrderError, match="are the same"):
        plan_sync((TRUST,), ISSUER, ISSUER, "orders", managed=False, in_place=False)
    name = credential_name("shop", "orders", "https://b")
    with pytest.raises(OrderError, match="exists and trusts") as problem:
        plan_sync(
            (TRUST, replace(TRUST, name=name, subject="x", issuer="https://c")),
            ISSUER,
            "https://b",
            "orders",
            managed=False,
            in_place=False,
        )
    assert "in-place" not in problem.value.hint


def test_an_expression_is_moved_as_it_is() -> None:
    """It has no service account, and keeps what it says."""
    flexible = replace(TRUST, subject="", expression="claims['sub'] eq 'x'")
    first, _ = plan_sync((flexible,), ISSUER, "https://b", "orders", managed=True, in_place=False)
    assert isinstance(first.subject, FederatedCredential)
    assert ("https://b", flexible.expression) == (first.subject.issuer, first.subject.expression)


# --- Deleting -------------------------------------------------------------------------------------------


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


# --- Phases ---------------------------------------------------------------------------------------------

ASSIGNMENT = "/subscriptions/s/providers/Microsoft.Authorization/roleAssignments/x"
ALL = Given("sa", "ns", ISSUER, 3600, "app", principal_name="app", scope="/s", role="Reader", assignment=ASSIGNMENT)


_NO_ASSIGNMENT = "--role-assignment-id: .* is no role assignment; it must look like /SCOPE/providers/"


@pytest.mark.parametrize(
    ("changes", "phase", "lacks"),
    [
        ({}, "", ""),
        ({"scope": "/"}, "", ""),
        ({"scope": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/a b/"}, "", ""),
        ({"application_name": ""}, "aad-application", "--aad-application-name is required"),
        ({"account_name": "", "application_name": "x"}, "service-account", "--service-account-name is required"),
        ({"namespace": ""}, "service-account", "--service-account-namespace is required"),
        ({"account_name": "A/b"}, "service-account", "--service-account-name: 'A/b' must be small letters"),
        ({"namespace": "a.b"}, "service-account", "--service-account-namespace: 'a.b' must be at most 63"),
        ({"namespace": "a" * 64}, "service-account", "--service-account-namespace: 'a*' must be at most 63"),
        ({"expiration": 3599}, "service-account", "must be between 1h and 24h"),
        ({"expiration": 86401}, "service-account", "must be between 1h and 24h"),
        ({"issuer": ""}, "federated-identity", "--service-account-issuer-url is required"),
        ({"scope": ""}, "role-assignment", "--azure-scope is required"),
        ({"scope": "subscriptions/s"}, "role-assignment", "--azure-scope: 'subscriptions/s' must be a path"),
        ({"scope": "/s/../t"}, "role-assignment", "--azure-scope: '/s/../t' must be a path"),
        ({"role": ""}, "role-assignment", "--azure-role is required"),
        (
            {"principal_name": ""},
            "role-assignment",
            "one of --service-principal-name and --service-principal-object-id",
        ),
    ],
)
def test_what_a_phase_lacks_is_told_before_the_first_one_runs(
    changes: dict[str, object], phase: str, lacks: str
) -> None:
    """In the reference's words, for the first phase that lacks something."""
    given_values = replace(ALL, **changes)  # type: ignore[arg-type]
    if not lacks:
        check_create(APPLICATION_PHASES, given_values)
        return
    with pytest.raises(OrderError, match=f"failed to run pre-run for phase {phase}: .*{lacks}"):
        check_create(APPLICATION_PHASES, given_values)


@pytest.mark.parametrize(
    ("phase", "changes", "lacks"),
    [
        (Phase.SERVICE_ACCOUNT, {}, "one of --aad-application-name and --aad-application-client-id"),
        (Phase.SERVICE_ACCOUNT, {"application_client_id": "c"}, ""),
        (Phase.FEDERATED_IDENTITY, {}, "one of --aad-application-name and --aad-application-object-id"),
        (Phase.FEDERATED_IDENTITY, {"application_object_id": "o"}, ""),
        (Phase.FEDERATED_IDENTITY, {"managed": True}, ""),
        (Phase.MANAGED_IDENTITY, {"managed": True}, ""),
    ],
)
def test_a_single_phase_needs_what_it_uses(phase: Phase, changes: dict[str, object], lacks: str) -> None:
    """Ids stand for names."""
    given_values = replace(ALL, application_name="", **changes)  # type: ignore[arg-type]
    if lacks:
        with pytest.raises(OrderError, match=lacks):
            check_create(frozenset({phase}), given_values)
    else:
        check_create(frozenset({phase}), given_values)


@pytest.mark.parametrize(
    ("changes", "phases", "lacks"),
    [
        ({}, APPLICATION_PHASES, ""),
        ({"assignment": ""}, APPLICATION_PHASES, "role-assignment: --role-assignment-id is required"),
        ({"assignment": "", "managed": True}, MANAGED_PHASES, ""),
        ({"assignment": ASSIGNMENT.lower().removeprefix("/subscriptions/s")}, APPLICATION_PHASES, ""),
        ({"assignment": "/subscriptions/s/resourceGroups/g"}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"assignment": "/subscriptions/s/resourceGroups/g", "managed": True}, MANAGED_PHASES, _NO_ASSIGNMENT),
        ({"assignment": f"{ASSIGNMENT}/.."}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"assignment": f"/s/..{ASSIGNMENT}"}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"assignment": f"/s?{ASSIGNMENT}"}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"assignment": f"{ASSIGNMENT}#y"}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"assignment": f"{ASSIGNMENT} "}, APPLICATION_PHASES, _NO_ASSIGNMENT),
        ({"issuer": ""}, APPLICATION_PHASES, "federated-identity: --service-account-issuer-url is required"),
        ({"account_name": ""}, frozenset({Phase.SERVICE_ACCOUNT}), "--service-account-name is required"),
        ({"application_name": ""}, frozenset({Phase.APPLICATION}), "--aad-application-name is required"),
        ({"application_name": "", "application_object_id": "o"}, frozenset({Phase.APPLICATION}), ""),
        ({"application_name": ""}, frozenset({Phase.FEDERATED_IDENTITY}), "--aad-application-name is required"),
    ],
)
def test_what_a_deletion_lacks(changes: dict[str, object], phases: frozenset[Phase], lacks: str) -> None:
    """As the reference has it; a managed identity's roles are found by themselves."""
    given_values = replace(ALL, **changes)  # type: ignore[arg-type]
    if lacks:
        with pytest.raises(OrderError, match=lacks):
            check_delete(phases, given_values)
    else:
        check_delete(phases, given_values)


def test_phases_are_skipped_by_name_only() -> None:
    """An alias is refused, as the reference does, and the names are told."""
    assert {Phase.APPLICATION, Phase.SERVICE_ACCOUNT} == choose_phases(
        ["role-assignment", "federated-identity"], managed=False
    )
    with pytest.raises(OrderError, match="there is no phase 'ra'; phases are aad-application"):
        choose_phases(["ra"], managed=False)
