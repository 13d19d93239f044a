"""The phases that run, and what each needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from plans import (
    APPLICATION_PHASES,
    ISSUER,
    MANAGED_PHASES,
)

from azwi.identity.model import (
    OrderError,
    Phase,
)
from azwi.identity.phases import Given, check_create, check_delete, choose_phases

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
