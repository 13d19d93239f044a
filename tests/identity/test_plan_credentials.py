"""What follows from what is wanted and what is there: federated credentials."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import (
    ISSUER,
    TRUST,
)

from azwi.entra.federation import FederatedCredential
from azwi.identity.credentials import plan_sync
from azwi.identity.model import (
    Action,
    OrderError,
)
from azwi.identity.names import credential_name
from azwi.identity.plan import plan_credentials


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
