"""Azure Resource Manager as far as identities for workloads need it: what a request means and what it changes. Pure.

Written from the Azure REST API reference, not from our client: "Managed Identity" (2023-01-31), "Authorization"
(2022-04-01), "Resources" (2022-12-01), "Resource Manager throttling", "Troubleshoot Azure RBAC".
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from azwi.emulator.arm_documents import (
    BUILT_IN_ROLES,
    render_assignment,
    render_credential,
    render_group,
    render_identity,
    render_role,
    render_subscription,
)
from azwi.emulator.directory import (
    Application,
    FederatedCredential,
    ResourceGroup,
    RoleAssignment,
    Subscription,
    put_application,
    put_assignments,
    put_subscription,
    remove_application,
)
from azwi.emulator.expression import is_expression
from azwi.emulator.service import Outcome, paginate, read_body, read_filter
from azwi.emulator.wire import Answer, json_answer

if TYPE_CHECKING:
    from azwi.emulator.directory import Directory, Tenant
    from azwi.emulator.keys import JsonObject
    from azwi.emulator.service import Circumstances
    from azwi.emulator.wire import Request

_MAX_CREDENTIALS: Final = 20
_CREDENTIAL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,119}")
_IDENTITY_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,127}")
_IDENTITIES: Final = "microsoft.managedidentity"
_FLEXIBLE: Final = "2025-01-31-preview"  # the first version with claims matching expressions
_AUTHORIZATION: Final = "microsoft.authorization"


def challenge(request: Request, directory: Directory, authority: str, about: Circumstances) -> Answer:
    """The answer to a caller without a token of ours: which tenant to sign in to, where the subscription is known."""
    named = [part.lower() for part in request.segments[:2]]
    found = directory.subscription(named[1]) if named[:1] == ["subscriptions"] and len(named) > 1 else None
    if named[:1] == ["subscriptions"] and len(named) > 1 and found is None:
        said = f"The subscription '{named[1]}' could not be found."
        return _refuse(404, "SubscriptionNotFound", said, about).answer
    tenant_id = found[0].tenant_id if found else "common"
    header = (
        f'Bearer authorization_uri="{authority}{tenant_id}", error="invalid_token", '
        "error_description=\"The authentication failed because of missing 'Authorization' header.\""
    )
    said = "Authentication failed. The 'Authorization' header is missing or its token is not valid."
    answer = _refuse(401, "AuthenticationFailed", said, about).answer
    return replace(answer, headers=(*answer.headers, ("www-authenticate", header)))


def answer_arm(request: Request, directory: Directory, about: Circumstances) -> Outcome:
    """What Resource Manager answers a caller who has shown a token, and what that changes."""
    if not parse_qs(request.query).get("api-version"):
        return _refuse(400, "MissingApiVersionParameter", "The api-version query parameter is required.", about)
    scope, provider, rest = _split(request.segments)
    found = directory.subscription(scope[1]) if len(scope) > 1 and scope[0].lower() == "subscriptions" else None
    if scope and scope[0].lower() == "subscriptions" and len(scope) > 1 and found is None:
        return _refuse(404, "SubscriptionNotFound", f"The subscription '{scope[1]}' could not be found.", about)
    tenant = found[0] if found else directory.tenant(about.tenant_id)
    if tenant is None or tenant.tenant_id != about.tenant_id:
        return _refuse(401, "InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer.", about)
    call = _Call(request, tenant, found[1] if found else Subscription(""), about)
    lowered = [part.lower() for part in scope]
    match [request.method, provider, *rest]:
        case ["GET", "", *_] if lowered == ["subscriptions"]:
            return call.list_subscriptions()
        case ["GET", "", *_] if len(lowered) == 2:  # noqa: PLR2004  # /subscriptions/{id}
            return Outcome(json_answer(call.subscription_document()))
        case [_, "", *_] if len(lowered) == 4 and lowered[2] == "resourcegroups":  # noqa: PLR2004
            return call.on_group(scope[3])
        case [_, "microsoft.managedidentity", kind, *names] if kind.lower() == "userassignedidentities":
            return call.on_identities(scope, names)
        case [_, "microsoft.authorization", kind, *names]:
            return call.on_authorization("/" + "/".join(scope), kind.lower(), names)
        case _:
            return _refuse(404, "InvalidResourceType", "The resource type could not be found.", about)


def _split(segments: list[str]) -> tuple[list[str], str, list[str]]:
    """A path's scope, its last provider in lower case, and what comes after it."""
    places = [number for number, part in enumerate(segments) if part.lower() == "providers"]
    for place in reversed(places):
        provider = segments[place + 1].lower() if place + 1 < len(segments) else ""
        if provider in {_IDENTITIES, _AUTHORIZATION}:
            return segments[:place], provider, segments[place + 2 :]
    return segments, "", []


class _Call:
    """One request of one caller."""

    def __init__(self, request: Request, tenant: Tenant, subscription: Subscription, about: Circumstances) -> None:
        self._request = request
        self._tenant = tenant
        self._subscription = subscription
        self._about = about
        self._flexible = parse_qs(request.query)["api-version"][0] >= _FLEXIBLE

    # --- Subscriptions and groups -----------------------------------------------------------------------

    def list_subscriptions(self) -> Outcome:
        listed = [render_subscription(one, self._tenant) for one in self._tenant.subscriptions]
        return Outcome(json_answer(paginate(listed, self._request, self._about, "nextLink")))

    def subscription_document(self) -> JsonObject:
        return render_subscription(self._subscription, self._tenant)

    def on_group(self, name: str) -> Outcome:
        group = self._subscription.group(name)
        if self._request.method == "GET":
            return Outcome(json_answer(render_group(self._subscription, group))) if group else self._no_group(name)
        if self._request.method != "PUT":
            return self._refuse(405, "MethodNotAllowed", "The method is not allowed here.")
        body = read_body(self._request) or {}
        made = ResourceGroup(group.name if group else name, str(body.get("location") or ""))
        kept = tuple(one for one in self._subscription.groups if one is not group)
        changed = replace(self._subscription, groups=(*kept, made))
        tenant_id = self._tenant.tenant_id
        answer = json_answer(render_group(self._subscription, made), status=200 if group else 201)
        return Outcome(answer, lambda directory: put_subscription(directory, tenant_id, changed))

    def _no_group(self, name: str) -> Outcome:
        return self._refuse(404, "ResourceGroupNotFound", f"Resource group '{name}' could not be found.")

    # --- Managed identities -----------------------------------------------------------------------------

    def on_identities(self, scope: list[str], names: list[str]) -> Outcome:
        group = scope[3] if len(scope) > 3 else ""  # noqa: PLR2004  # /subscriptions/{id}/resourceGroups/{name}
        if self._subscription.group(group) is None:
            return self._no_group(group)
        if not names:
            there = [one for one in self._tenant.managed_identities if _in_group(one, self._subscription, group)]
            listed = [render_identity(one, self._tenant) for one in there]
            return Outcome(json_answer(paginate(listed, self._request, self._about, "nextLink")))
        path = (
            f"/subscriptions/{self._subscription.subscription_id}/resourcegroups/{group}/providers/"
            f"Microsoft.ManagedIdentity/userAssignedIdentities/{names[0]}"
        )
        held = self._tenant.managed_identities
        found = next((one for one in held if one.resource_id.lower() == path.lower()), None)
        if names[1:2] and names[1].lower() == "federatedidentitycredentials":
            if found is None or self._about.is_fresh(found.created):
                said = f"Failed to perform requested operation on nested resource. Parent resource '{path}' not found."
                return self._refuse(404, "ParentResourceNotFound", said)
            return self._on_credentials(found, names[2:])
        return self._on_identity(found, path, names[0])

    def _on_identity(self, found: Application | None, path: str, name: str) -> Outcome:
        tenant_id = self._tenant.tenant_id
        match self._request.method:
            case "PUT":
                return self._put_identity(found, path, name)
            case "DELETE" if found is None:
                return Outcome(Answer(204, b""))
            case "DELETE" if found is not None:
                client_id = found.client_id
                return Outcome(Answer(200, b""), lambda directory: remove_application(directory, tenant_id, client_id))
            case _ if found is not None:
                return Outcome(json_answer(render_identity(found, self._tenant)))
            case _:
                said = f"The Resource 'Microsoft.ManagedIdentity/userAssignedIdentities/{name}' was not found."
                return self._refuse(404, "ResourceNotFound", said)

    def _put_identity(self, found: Application | None, path: str, name: str) -> Outcome:
        body: Any = read_body(self._request) or {}
        location = str(body.get("location") or "")
        if not location:
            return self._refuse(400, "LocationRequired", "The location property is required for this definition.")
        if not _IDENTITY_NAME.fullmatch(name):
            return self._refuse(400, "InvalidResourceName", f"Resource name {name} is invalid.")
        if found is not None:
            if found.location and found.location != location:
                said = f"The resource '{name}' already exists in location '{found.location}'."
                return self._refuse(409, "InvalidResourceLocation", said)
            return Outcome(json_answer(render_identity(found, self._tenant)))
        made = Application(
            client_id=self._about.new_id(),
            display_name=name,
            object_id=self._about.new_id(),
            credentials=(),
            resource_id=path,
            location=location,
            tags=tuple(f"{key}={value}" for key, value in (body.get("tags") or {}).items()),
            created=self._about.now,
            principal_created=self._about.now,
        )
        return Outcome(json_answer(render_identity(made, self._tenant), status=201), self._put(made))

    # --- Federated credentials --------------------------------------------------------------------------

    def _on_credentials(self, identity: Application, names: list[str]) -> Outcome:
        if not names:
            listed = [self._render(identity, one) for one in identity.credentials]
            return Outcome(json_answer(paginate(listed, self._request, self._about, "nextLink")))
        found = next((one for one in identity.credentials if one.name.lower() == names[0].lower()), None)
        others = tuple(one for one in identity.credentials if one is not found)
        writes_to = identity.resource_id.lower()
        match self._request.method:
            case "PUT":
                return self._put_credential(identity, names[0], found, others)
            case "DELETE":
                edit = self._put(replace(identity, credentials=others)) if found else None
                return Outcome(Answer(200 if found else 204, b""), edit, writes_to)
            case _ if found is not None:
                return Outcome(json_answer(self._render(identity, found)))
            case _:
                said = f"The Resource 'federatedIdentityCredentials/{names[0]}' was not found."
                return self._refuse(404, "NotFound", said)

    def _put_credential(
        self,
        identity: Application,
        name: str,
        found: FederatedCredential | None,
        others: tuple[FederatedCredential, ...],
    ) -> Outcome:
        properties: Any = (read_body(self._request) or {}).get("properties") or {}
        audiences = properties.get("audiences") or []
        matching = (properties.get("claimsMatchingExpression") or {}) if self._flexible else {}
        made = FederatedCredential(
            name=found.name if found else name,
            issuer=str(properties.get("issuer") or ""),
            subject=str(properties.get("subject") or ""),
            audience=str(audiences[0]) if len(audiences) == 1 else "",
            expression=str(matching.get("value") or ""),
        )
        said_wrong = _find_wrong(made)
        if said_wrong:
            return self._refuse(400, "BadRequest", said_wrong)
        trusted = (made.issuer, made.subject, made.expression)
        if any((one.issuer, one.subject, one.expression) == trusted for one in others):
            said = "Issuer and subject combination already exists for this Managed Identity."
            return self._refuse(409, "Conflict", said)
        if len(others) >= _MAX_CREDENTIALS:
            said = f"A managed identity has at most {_MAX_CREDENTIALS} federated identity credentials."
            return self._refuse(400, "BadRequest", said)
        credentials = tuple(made if one is found else one for one in identity.credentials)
        changed = replace(identity, credentials=credentials if found else (*identity.credentials, made))
        answer = json_answer(self._render(identity, made), status=200 if found else 201)
        return Outcome(answer, self._put(changed), identity.resource_id.lower())

    def _render(self, identity: Application, one: FederatedCredential) -> JsonObject:
        return render_credential(identity, one, flexible=self._flexible)

    # --- Roles ------------------------------------------------------------------------------------------

    def on_authorization(self, scope: str, kind: str, names: list[str]) -> Outcome:
        wanted = read_filter(self._request)
        if wanted is None:
            return self._refuse(400, "UnsupportedQuery", "The filter is not supported.")
        match [self._request.method, kind, *names]:
            case ["GET", "roledefinitions"]:
                roles = [one for one in BUILT_IN_ROLES if wanted.get("roleName", one).lower() == one.lower()]
                return Outcome(json_answer({"value": [render_role(self._subscription, one) for one in roles]}))
            case ["GET", "roleassignments"]:
                there = [one for one in self._tenant.assignments if _is_below(one.scope, scope)]
                principal = wanted.get("principalId")
                listed = [render_assignment(one) for one in there if principal in {None, one.principal_id}]
                return Outcome(json_answer(paginate(listed, self._request, self._about, "nextLink")))
            case ["PUT", "roleassignments", name]:
                return self._assign(scope, name.lower())
            case ["DELETE", "roleassignments", name]:
                return self._unassign(scope, name.lower())
            case _:
                return self._refuse(404, "InvalidResourceType", "The resource type could not be found.")

    def _assign(self, scope: str, name: str) -> Outcome:
        properties: Any = (read_body(self._request) or {}).get("properties") or {}
        principal_id = str(properties.get("principalId") or "")
        definition = str(properties.get("roleDefinitionId") or "")
        if definition.rpartition("/")[2] not in BUILT_IN_ROLES.values():
            return self._refuse(
                404, "RoleDefinitionDoesNotExist", f"The role definition '{definition}' does not exist."
            )
        held = self._tenant.applications
        principal = next((one for one in held if one.has_principal and one.object_id == principal_id), None)
        # With principalType the directory is not asked ("Troubleshoot Azure RBAC", symptom: role assignments).
        unknown = principal is None or self._about.is_fresh(principal.principal_created)
        if unknown and properties.get("principalType") != "ServicePrincipal":
            said = f"Principal {principal_id} does not exist in the directory {self._tenant.tenant_id}."
            return self._refuse(400, "PrincipalNotFound", said)
        made = RoleAssignment(name, scope, definition, principal_id)
        if any(_same(one, made) for one in self._tenant.assignments):
            return self._refuse(409, "RoleAssignmentExists", "The role assignment already exists.")
        tenant_id, assignments = self._tenant.tenant_id, (*self._tenant.assignments, made)
        answer = json_answer(render_assignment(made), status=201)
        return Outcome(answer, lambda directory: put_assignments(directory, tenant_id, assignments))

    def _unassign(self, scope: str, name: str) -> Outcome:
        held = self._tenant.assignments
        found = next((one for one in held if one.name == name and one.scope.lower() == scope.lower()), None)
        if found is None:
            return Outcome(Answer(204, b""))
        tenant_id, kept = self._tenant.tenant_id, tuple(one for one in held if one is not found)
        return Outcome(
            json_answer(render_assignment(found)), lambda directory: put_assignments(directory, tenant_id, kept)
        )

    # --- Outcomes ---------------------------------------------------------------------------------------

    def _put(self, identity: Application) -> Any:  # noqa: ANN401  # an Edit
        tenant_id = self._tenant.tenant_id
        return lambda directory: put_application(directory, tenant_id, identity)

    def _refuse(self, status: int, code: str, said: str) -> Outcome:
        return _refuse(status, code, said, self._about)


def refuse_arm(status: int, code: str, said: str, about: Circumstances) -> Answer:
    """A refusal that is none of the directory's: throttled, told to fail, two writers at once."""
    return _refuse(status, code, said, about).answer


def _refuse(status: int, code: str, said: str, about: Circumstances) -> Outcome:
    trace = about.new_id()
    headers = (("x-ms-correlation-request-id", trace), ("x-ms-request-id", trace))
    return Outcome(
        json_answer({"error": {"code": code, "message": said}}, status=status, headers=headers, outcome=code)
    )


def _find_wrong(made: FederatedCredential) -> str:
    checks = {
        f"The name '{made.name}' is not allowed.": _CREDENTIAL_NAME.fullmatch(made.name) is not None,
        "The issuer must be an https URL.": made.issuer.startswith("https://"),
        "Exactly one audience is allowed.": bool(made.audience),
        "Either subject or claimsMatchingExpression must be given.": bool(made.subject) != bool(made.expression),
        "The claimsMatchingExpression cannot be read.": not made.expression or is_expression(made.expression),
    }
    return next((said for said, good in checks.items() if not good), "")


def _in_group(one: Application, subscription: Subscription, group: str) -> bool:
    start = f"/subscriptions/{subscription.subscription_id}/resourcegroups/{group}/".lower()
    return one.resource_id.lower().startswith(start)


def _is_below(scope: str, above: str) -> bool:
    return (scope.lower() + "/").startswith(above.lower().rstrip("/") + "/")


def _same(one: RoleAssignment, other: RoleAssignment) -> bool:
    role, other_role = (each.role_definition_id.rpartition("/")[2] for each in (one, other))
    return (one.principal_id, one.scope.lower(), role) == (other.principal_id, other.scope.lower(), other_role)
