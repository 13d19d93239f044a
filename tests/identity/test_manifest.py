"""The file of `azwi apply`, and what is reported of the work."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from azwi.entra.federation import FederatedCredential
from azwi.errors import ManifestError
from azwi.identity import manifest
from azwi.identity.exchange import Proof
from azwi.identity.manifest import parse_targets
from azwi.identity.model import AccountOrder, Action, Done, Identity, IdentityRef, Phase, Result, RoleOrder, Step, Thing
from azwi.identity.report import (
    credential_rows,
    credentials_document,
    done_line,
    plan_line,
    quota_line,
    target_document,
)
from azwi.identity.values import resource_id_of

ISSUER = "https://oidc.example/abc/"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"


def file(*identities: dict[str, Any], **more: object) -> dict[str, Any]:
    """A file with these identities."""
    return {"issuer": ISSUER, "identities": list(identities)} | more


def test_the_example_in_the_documentation() -> None:
    """The file that the module's own text shows."""
    text = (manifest.__doc__ or "").partition("```yaml\n")[2].partition("```")[0]
    orders, catalogue = parse_targets(yaml.safe_load(text), "x", SUBSCRIPTION)
    assert ("orders", AccountOrder("shop", "orders", 7200)) == (orders.identity.name, orders.accounts[0])
    assert [("Reader", "/subscriptions/…/resourceGroups/shop")] == [(one.role, one.scope) for one in orders.roles]
    assert resource_id_of(SUBSCRIPTION, "shop", "catalogue") == catalogue.identity.resource_id
    assert ["system:serviceaccount:shop:catalogue", "repo:shop", ""] == [one.subject for one in catalogue.credentials]
    assert catalogue.credentials[2].expression
    assert Phase.APPLICATION not in catalogue.phases


def test_an_identity_that_is_named_twice_is_one_target() -> None:
    """So nobody writes to it twice at the same time; what is the same is wanted once."""
    first = {"application": "orders", "serviceAccounts": [{"name": "a"}], "roles": [{"role": "r", "scope": "/s"}]}
    second = {"application": "orders", "serviceAccounts": [{"name": "a"}, {"name": "b"}]}
    (target,) = parse_targets(file(first, second), "x", "")
    assert ["a", "b"] == [one.name for one in target.accounts]
    assert 2 == len(target.credentials)
    assert (RoleOrder("r", "/s"),) == target.roles


def test_a_service_account_has_one_identity_and_one_expiration() -> None:
    """Else the last one written would win, and the next run would change it back; all are told together."""
    a, longer = {"name": "a"}, {"name": "a", "tokenExpiration": "2h"}
    identities = [
        {"application": "orders", "serviceAccounts": [a, longer, {"name": "b"}]},
        {"managedIdentity": "catalogue", "resourceGroup": "shop", "serviceAccounts": [a]},
        {"application": "orders", "serviceAccounts": [{"name": "b"}]},
    ]
    with pytest.raises(ManifestError) as problem:
        parse_targets(file(*identities), "f", SUBSCRIPTION)
    assert (
        "f: service account default/a is to have two values of tokenExpiration; "
        "f: service account default/a is to have two identities, orders and catalogue"
    ) == problem.value.message
    assert "by a credential with its subject" in problem.value.hint


def test_values_of_an_identity_win() -> None:
    """Issuer and audience at the top are for those that have none; so with a credential's."""
    one = {
        "applicationClientId": SUBSCRIPTION,
        "issuer": "https://own.example",
        "audience": "own",
        "serviceAccounts": [{"name": "a"}],
        "credentials": [{"name": "xyz", "subject": "s", "issuer": "https://x.example", "audience": "y"}],
    }
    (target,) = parse_targets(file(one, audience="top"), "x", "")
    assert [("https://own.example", ("own",)), ("https://x.example", ("y",))] == [
        (credential.issuer, credential.audiences) for credential in target.credentials
    ]


@pytest.mark.parametrize(
    ("identity", "words"),
    [
        ({}, "identities[0]: name it by exactly one of"),
        ({"application": "a", "managedIdentity": "b"}, "identities[0]: name it by exactly one of"),
        ({"managedIdentity": "b"}, "identities[0].resourceGroup: a managed identity needs its resource group"),
        ({"managedIdentity": "b", "resourceGroup": "g"}, "identities[0].subscription:"),
        (
            {"managedIdentity": "/subscriptions/s/resourceGroups/g"},
            "identities[0].managedIdentity: '/subscriptions/s/r",
        ),
        ({"managedIdentity": "b?c", "resourceGroup": "g", "subscription": "s"}, "/b?c' is no user-assigned managed id"),
        ({"managedIdentity": "b", "resourceGroup": "g#", "subscription": "s"}, "it must look like /subscriptions/SUBS"),
        ({"managedIdentity": "b", "resourceGroup": "..", "subscription": "s"}, "identities[0].managedIdentity: "),
        ({"managedIdentity": "b", "resourceGroup": "g", "subscription": "s%2f"}, "identities[0].managedIdentity: "),
        (
            {"application": "a", "serviceAccounts": [{"name": "a", "tokenExpiration": "1"}]},
            "tokenExpiration: '1' must be",
        ),
        ({"application": "a", "serviceAccounts": [{"name": "a", "tokenExpiration": "1m"}]}, "must be 1h to 24h"),
        ({"application": "a", "credentials": [{"name": "xyz"}]}, "credentials[0]: give either subject or"),
        ({"application": "a", "credentials": [{"name": "x", "subject": "s"}]}, "credentials[0].name: 'x' must be 3"),
        (
            {"application": "a", "serviceAccounts": [{"name": "A"}]},
            "serviceAccounts[0].name: 'A' must be small",
        ),
        (
            {"application": "a", "serviceAccounts": [{"name": "a", "namespace": "b.c"}]},
            "serviceAccounts[0].namespace: 'b.c' must be at most 63",
        ),
        ({"application": "a", "roles": [{"role": "", "scope": "/s"}]}, "roles[0].role: a role is needed"),
        (
            {"application": "a", "roles": [{"role": "r", "scope": ""}]},
            "roles[0].scope: '' must be a path",
        ),
        (
            {"application": "a", "roles": [{"role": "r", "scope": "s"}]},
            "roles[0].scope: 's' must be a path, such as /s",
        ),
        ({"applicationClientId": "x/../y"}, "identities[0].applicationClientId: 'x/../y' is no UUID"),
        ({"applicationObjectId": "x"}, "identities[0].applicationObjectId: 'x' is no UUID"),
        ({"application": "a", "bogus": 1}, "object contains unknown field `bogus`"),
        ({"application": 1}, "identities[0].application: expected `str`"),
    ],
)
def test_every_problem_names_its_field(identity: dict[str, Any], words: str) -> None:
    """And the file."""
    with pytest.raises(ManifestError) as problem:
        parse_targets(file(identity), "identities.yaml", "")
    assert words in str(problem.value)
    assert str(problem.value).startswith("identities.yaml: ")


def test_an_issuer_is_needed() -> None:
    """For service accounts, and for credentials of their own."""
    document = {
        "identities": [
            {"application": "a", "serviceAccounts": [{"name": "a"}]},
            {"application": "b", "credentials": [{"name": "xyz", "subject": "s"}]},
            {"managedIdentity": resource_id_of("s", "g", "n")},
        ]
    }
    with pytest.raises(ManifestError, match=r"identities\[0\].issuer.*identities\[1\]\.credentials\[0\]\.issuer"):
        parse_targets(document, "x", "")
    with pytest.raises(ManifestError, match="the document: expected `object`"):
        parse_targets([], "x", "")


# --- Reports --------------------------------------------------------------------------------------------

STEP = Step(Phase.FEDERATED_IDENTITY, Thing.CREDENTIAL, Action.CREATE, "one", "s of i")
MANAGED = Identity(IdentityRef(resource_id=resource_id_of("s", "g", "orders")), "c", principal_id="p")
TRUST = FederatedCredential("one", ISSUER, "system:serviceaccount:shop:orders", ("a",))


def test_lines_for_people() -> None:
    """A mark for what will happen; a result and a time for what did."""
    assert "+ federated credential one (s of i)" == plan_line(STEP)
    done = Done(STEP, Result.UNCHANGED, 1.26)
    assert "federated-identity: federated credential one unchanged in 1.3 s" == done_line(done)


def test_the_document_of_a_target() -> None:
    """Its fields are stable; a step that did not run says what it would do."""
    account = AccountOrder("shop", "orders")
    done = Done(STEP, Result.CREATED, 0.5, "d")
    planned = target_document(MANAGED, "t", [account], [STEP], [], {})
    ran = target_document(MANAGED, "t", [account], [STEP], [done], {account: Proof(2, 1.5, 7)})
    assert ["would create", "created"] == [one["steps"][0]["result"] for one in (planned, ran)]
    assert {"identity", "serviceAccounts", "steps", "tokens"} == planned.keys()
    assert {
        "kind": "ManagedIdentity",
        "name": "orders",
        "clientId": "c",
        "objectId": "",
        "principalId": "p",
        "resourceId": MANAGED.ref.resource_id,
        "tenantId": "t",
    } == ran["identity"]
    assert [
        {"serviceAccount": "shop/orders", "result": "granted", "attempts": 2, "seconds": 1.5, "expiresOn": 7}
    ] == ran["tokens"]
    by_client_id = Identity(IdentityRef(client_id="c"), "c", "o")
    assert "Application" == target_document(by_client_id, "t", [], [], [], {})["identity"]["kind"]


def test_credentials_as_table_and_document() -> None:
    """Whom they trust, whether that is there, and the room."""
    other = FederatedCredential("two", ISSUER, "", ("a", "b"), expression="claims['sub'] eq 'x'")
    found = [(TRUST, True), (TRUST, False), (other, None)]
    rows = credential_rows(found)
    assert ["shop/orders exists", "shop/orders missing", "none"] == [row[4] for row in rows[1:]]
    assert "claims['sub'] eq 'x'" == rows[3][2]
    document = credentials_document(MANAGED, "t", found)
    assert {"used": 3, "limit": 20} == document["quota"]
    assert {"namespace": "shop", "name": "orders", "exists": True} == document["credentials"][0]["serviceAccount"]
    assert document["credentials"][2]["serviceAccount"] is None
    assert "orders uses 3 of 20 federated credentials" == quota_line(MANAGED, 3)
