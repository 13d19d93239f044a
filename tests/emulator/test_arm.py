"""The emulated Azure Resource Manager: what it answers, and that it keeps what it was told."""

from __future__ import annotations

from typing import Any

import pytest
from emulated_services import FOREIGN, GROUP, IDENTITIES, SUBSCRIPTION, TENANT, arm, filtered

from azwi.emulator.arm import answer_arm, challenge, refuse_arm
from azwi.emulator.arm_documents import BUILT_IN_ROLES
from azwi.emulator.wire import Request

IDENTITY = f"{IDENTITIES}/orders"
CREDENTIALS = f"{IDENTITY}/federatedIdentityCredentials"
TRUST = {"issuer": "https://i.example", "subject": "s", "audiences": ["a"]}
FLEXIBLE = {
    "issuer": "https://i.example",
    "audiences": ["a"],
    "claimsMatchingExpression": {"value": "claims['sub'] eq 'x'", "languageVersion": 1},
}
PREVIEW = "api-version=2025-01-31-preview"
ASSIGNMENTS = f"{GROUP}/providers/Microsoft.Authorization/roleAssignments"
READER = f"/providers/Microsoft.Authorization/roleDefinitions/{BUILT_IN_ROLES['Reader']}"
NAME = "6a5b0f6e-6c0c-4a5c-9d5a-3f0a3a1f4c55"


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    """Status and error code."""
    return answer[0], answer[1]["error"]["code"]


def test_an_identity_from_its_birth_to_its_end() -> None:
    """Created, there, unchanged the second time, deleted."""
    service = arm()
    status, made = service.ask("PUT", IDENTITY, location="westeurope", tags={"a": "b"})
    assert (201, {"a": "b"}, TENANT) == (status, made["tags"], made["properties"]["tenantId"])
    assert (200, made) == service.ask("PUT", IDENTITY, location="westeurope")
    assert (200, made) == service.ask("GET", IDENTITY.lower())
    assert [made] == service.ask("GET", IDENTITIES)[1]["value"]
    assert (409, "InvalidResourceLocation") == code(service.ask("PUT", IDENTITY, location="northeurope"))
    assert 200 == service.ask("DELETE", IDENTITY)[0]
    assert 204 == service.ask("DELETE", IDENTITY)[0]
    assert (404, "ResourceNotFound") == code(service.ask("GET", IDENTITY))


def test_an_identity_that_is_refused() -> None:
    """It needs a location, a fitting name and a resource group."""
    service = arm()
    assert (400, "LocationRequired") == code(service.ask("PUT", IDENTITY))
    assert (400, "InvalidResourceName") == code(service.ask("PUT", f"{IDENTITIES}/o", location="westeurope"))
    nowhere = IDENTITY.replace("/shop/", "/nowhere/")
    assert (404, "ResourceGroupNotFound") == code(service.ask("PUT", nowhere, location="westeurope"))
    short = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    assert (404, "ResourceGroupNotFound") == code(service.ask("GET", short))


def test_credentials_of_an_identity() -> None:
    """Put, put again, read, removed; each write names what nobody else may write to meanwhile."""
    service = arm()
    service.ask("PUT", IDENTITY, location="westeurope")
    assert 201 == service.ask("PUT", f"{CREDENTIALS}/one", properties=TRUST)[0]
    assert service.outcome is not None
    assert service.outcome.writes_to.endswith("userassignedidentities/orders")
    assert 200 == service.ask("PUT", f"{CREDENTIALS}/ONE", properties=TRUST | {"audiences": ["b"]})[0]
    assert ["b"] == service.ask("GET", f"{CREDENTIALS}/one")[1]["properties"]["audiences"]
    assert 200 == service.ask("DELETE", f"{CREDENTIALS}/one")[0]
    assert 204 == service.ask("DELETE", f"{CREDENTIALS}/one")[0]
    assert (404, "NotFound") == code(service.ask("GET", f"{CREDENTIALS}/one"))


def test_an_expression_is_known_to_the_preview_only() -> None:
    """Another version takes none, and shows such a credential without subject and without expression."""
    service = arm()
    service.ask("PUT", IDENTITY, location="westeurope")
    assert 400 == service.ask("PUT", f"{CREDENTIALS}/all", properties=FLEXIBLE)[0]
    assert 201 == service.ask("PUT", f"{CREDENTIALS}/all", PREVIEW, properties=FLEXIBLE)[0]
    seen = service.ask("GET", f"{CREDENTIALS}/all", PREVIEW)[1]["properties"]
    assert FLEXIBLE["claimsMatchingExpression"] == seen["claimsMatchingExpression"]
    assert {"issuer", "audiences"} == service.ask("GET", CREDENTIALS)[1]["value"][0]["properties"].keys()


@pytest.mark.parametrize(
    ("name", "properties", "status"),
    [
        ("one", TRUST | {"issuer": "http://i.example"}, 400),
        ("one", TRUST | {"audiences": []}, 400),
        ("one", TRUST | {"subject": ""}, 400),
        ("one", TRUST | FLEXIBLE, 400),
        ("one", FLEXIBLE | {"claimsMatchingExpression": {"value": "nonsense"}}, 400),
        ("-one=", TRUST, 400),
        ("one", None, 400),
        ("two", TRUST | {"subject": "there"}, 409),
    ],
)
def test_credentials_that_are_refused(name: str, properties: dict[str, Any] | None, status: int) -> None:
    """Values that are not allowed, and a trust that is there under another name."""
    service = arm()
    service.ask("PUT", IDENTITY, location="westeurope")
    service.ask("PUT", f"{CREDENTIALS}/there", properties=TRUST | {"subject": "there"})
    assert status == service.ask("PUT", f"{CREDENTIALS}/{name}", PREVIEW, properties=properties)[0]


def test_twenty_credentials_are_the_most() -> None:
    """The twenty-first is refused; changing one of the twenty is not."""
    service = arm()
    service.ask("PUT", IDENTITY, location="westeurope")
    for number in range(20):
        service.ask("PUT", f"{CREDENTIALS}/n-{number}", properties=TRUST | {"subject": f"s{number}"})
    assert 400 == service.ask("PUT", f"{CREDENTIALS}/more", properties=TRUST)[0]
    assert 200 == service.ask("PUT", f"{CREDENTIALS}/n-1", properties=TRUST)[0]


def test_a_new_identity_is_no_parent_for_a_while() -> None:
    """As it was seen for up to four minutes."""
    service = arm(replication=60.0)
    service.ask("PUT", IDENTITY, location="westeurope")
    assert (404, "ParentResourceNotFound") == code(service.ask("PUT", f"{CREDENTIALS}/one", properties=TRUST))
    service.now += 60
    assert 201 == service.ask("PUT", f"{CREDENTIALS}/one", properties=TRUST)[0]
    missing = CREDENTIALS.replace("orders", "nobody")
    assert (404, "ParentResourceNotFound") == code(service.ask("GET", missing))


def test_roles() -> None:
    """Found by name, assigned once, listed by principal and scope, removed."""
    service = arm()
    role = service.ask(
        "GET", f"{GROUP}/providers/Microsoft.Authorization/roleDefinitions", filtered("roleName eq 'Reader'")
    )
    (definition,) = role[1]["value"]
    assert definition["id"].startswith(f"/subscriptions/{SUBSCRIPTION}/providers")
    everywhere = service.ask("GET", "/providers/Microsoft.Authorization/roleDefinitions")[1]["value"]
    assert len(BUILT_IN_ROLES) == len(everywhere)
    principal = service.ask("PUT", IDENTITY, location="westeurope")[1]["properties"]["principalId"]
    wanted = {"principalId": principal, "roleDefinitionId": READER}
    status, made = service.ask("PUT", f"{ASSIGNMENTS}/{NAME}", properties=wanted)
    assert (201, GROUP) == (status, made["properties"]["scope"])
    again = {"principalId": principal, "roleDefinitionId": definition["id"]}
    assert (409, "RoleAssignmentExists") == code(service.ask("PUT", f"{ASSIGNMENTS}/{NAME[::-1]}", properties=again))
    above = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleAssignments"
    assert [made] == service.ask("GET", above, filtered(f"principalId eq '{principal}'"))[1]["value"]
    assert [] == service.ask("GET", above, filtered("principalId eq 'x'"))[1]["value"]
    assert [] == service.ask("GET", f"{GROUP}x/providers/Microsoft.Authorization/roleAssignments")[1]["value"]
    assert 200 == service.ask("DELETE", made["id"])[0]
    assert 204 == service.ask("DELETE", made["id"])[0]


def test_a_new_principal_is_unknown_to_roles_unless_its_type_is_told() -> None:
    """With principalType the directory is not asked."""
    service = arm(replication=60.0)
    principal = service.ask("PUT", IDENTITY, location="westeurope")[1]["properties"]["principalId"]
    wanted = {"principalId": principal, "roleDefinitionId": READER}
    assert (400, "PrincipalNotFound") == code(service.ask("PUT", f"{ASSIGNMENTS}/{NAME}", properties=wanted))
    typed = wanted | {"principalType": "ServicePrincipal"}
    assert 201 == service.ask("PUT", f"{ASSIGNMENTS}/{NAME}", properties=typed)[0]
    nobody = {"principalId": "nobody", "roleDefinitionId": READER}
    assert (400, "PrincipalNotFound") == code(service.ask("PUT", f"{ASSIGNMENTS}/{NAME}", properties=nobody))
    none = typed | {"roleDefinitionId": "/x"}
    assert (404, "RoleDefinitionDoesNotExist") == code(service.ask("PUT", f"{ASSIGNMENTS}/{NAME}", properties=none))


def test_subscriptions_and_groups() -> None:
    """Those of the caller's tenant; a group is made and changed."""
    service = arm()
    assert [SUBSCRIPTION] == [one["subscriptionId"] for one in service.ask("GET", "/subscriptions")[1]["value"]]
    assert TENANT == service.ask("GET", f"/subscriptions/{SUBSCRIPTION}")[1]["tenantId"]
    assert "westeurope" == service.ask("GET", GROUP)[1]["location"]
    new = GROUP.replace("shop", "new")
    assert (404, "ResourceGroupNotFound") == code(service.ask("GET", new))
    assert 201 == service.ask("PUT", new, location="westus")[0]
    status, changed = service.ask("PUT", new, location="eastus")
    assert (200, "eastus") == (status, changed["location"])
    assert (405, "MethodNotAllowed") == code(service.ask("DELETE", new))


@pytest.mark.parametrize(
    ("method", "path", "query", "expected"),
    [
        ("GET", f"/subscriptions/{NAME}", "", (404, "SubscriptionNotFound")),
        ("GET", f"/subscriptions/{FOREIGN}", "", (401, "InvalidAuthenticationTokenTenant")),
        ("GET", "/nothing", "", (404, "InvalidResourceType")),
        ("GET", f"{GROUP}/providers", "", (404, "InvalidResourceType")),
        ("GET", f"{GROUP}/providers/Microsoft.Authorization/locks", "", (404, "InvalidResourceType")),
        ("GET", ASSIGNMENTS, filtered("atScope()"), (400, "UnsupportedQuery")),
    ],
)
def test_requests_that_mean_nothing(method: str, path: str, query: str, expected: tuple[int, str]) -> None:
    """Refused in Resource Manager's shape, with its correlation id."""
    service = arm()
    assert expected == code(service.ask(method, path, query))
    assert service.outcome is not None
    assert "x-ms-correlation-request-id" in dict(service.outcome.answer.headers)


def test_the_version_is_needed() -> None:
    """As with the real one."""
    service = arm()
    outcome = answer_arm(Request("GET", "/subscriptions", "", {}, b""), service.directory, service.about())
    assert (400, "MissingApiVersionParameter") == (outcome.answer.status, outcome.answer.outcome)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        (f"/subscriptions/{SUBSCRIPTION}", 401, f"https://login.example/{TENANT}"),
        ("/subscriptions", 401, "https://login.example/common"),
        ("/", 401, "https://login.example/common"),
        (f"/subscriptions/{NAME}", 404, ""),
    ],
)
def test_a_caller_without_a_token_is_told_the_tenant(path: str, status: int, words: str) -> None:
    """Where the subscription is known."""
    service = arm()
    answer = challenge(Request("GET", path, "", {}, b""), service.directory, "https://login.example/", service.about())
    assert status == answer.status
    assert words in dict(answer.headers).get("www-authenticate", "")


def test_refusals_from_outside() -> None:
    """Throttled, or told to fail: in the same shape."""
    answer = refuse_arm(429, "TooManyRequests", "no", arm().about())
    assert (429, "TooManyRequests") == (answer.status, answer.outcome)
