"""What a local run makes of the service accounts of some manifests."""

from __future__ import annotations

import copy
from typing import Any

from azwi.emulator.state import parse_state
from azwi.local.identities import DEFAULT_TENANT, make_identities

CLIENT = "22222222-2222-2222-2222-222222222222"
TENANT = "99999999-9999-9999-9999-999999999999"


def account(name: str, **annotations: str) -> dict[str, Any]:
    """A service account of namespace shop."""
    marked = {f"azure.workload.identity/{key.replace('_', '-')}": value for key, value in annotations.items()}
    return {"kind": "ServiceAccount", "metadata": {"name": name, "namespace": "shop", "annotations": marked}}


def test_every_account_has_an_application_that_trusts_it() -> None:
    """Accounts of one client id share an application; a tenant of one's own is a tenant; others share the default."""
    documents = [
        account("orders", client_id=CLIENT),
        account("orders-too", client_id=CLIENT.upper()),
        account("elsewhere", client_id=CLIENT, tenant_id=TENANT),
        {"kind": "Pod", "metadata": {"name": "x"}},
    ]
    before = copy.deepcopy(documents)

    made = make_identities(documents, [("shop", "orders")])

    assert before == documents
    assert [] == made.notes
    directory = parse_state(made.state, "made")
    first = directory.tenant(DEFAULT_TENANT)
    second = directory.tenant(TENANT)
    assert first is not None
    assert second is not None
    (shared,) = first.applications
    assert ["system:serviceaccount:shop:orders", "system:serviceaccount:shop:orders-too"] == [
        credential.subject for credential in shared.credentials
    ]
    assert 1 == len(second.applications)
    names = {name for _, name in directory.cluster.accounts or ()}
    assert {"orders", "orders-too", "elsewhere"} == names


def test_what_is_missing_is_made_up_and_told() -> None:
    """A missing account, a client id that is none and a tenant by name; the same ids in every run."""
    documents = [
        account("plain"),
        account("templated", client_id="${CLIENT_ID}", tenant_id="contoso.onmicrosoft.com"),
        {"kind": "ServiceAccount", "metadata": {"name": "bare"}},
    ]

    made = make_identities(documents, [("shop", "absent"), ("shop", "absent")])

    assert made.state == make_identities(documents, [("shop", "absent")]).state
    parse_state(made.state, "made")
    assert ["plain", "templated", "bare", "absent"] == [found["metadata"]["name"] for found in made.accounts]
    assert 6 == len(made.notes)
    assert "shop/absent is not in the manifests" in made.notes[0]
    assert any("'${CLIENT_ID}' is no GUID" in note for note in made.notes)
    assert any("tenant 'contoso.onmicrosoft.com' is no GUID" in note for note in made.notes)


def test_no_accounts_are_one_empty_tenant() -> None:
    """The state is always one that the emulator takes."""
    directory = parse_state(make_identities([], []).state, "made")
    assert (DEFAULT_TENANT, ()) == (directory.tenants[0].tenant_id, directory.tenants[0].applications)
