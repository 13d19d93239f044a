"""Microsoft Graph as far as identities for workloads need it: what a request means and what it changes. Pure.

Written from the Microsoft Graph REST API reference (v1.0 and beta), not from our client: "application",
"servicePrincipal", "federatedIdentityCredential", "Microsoft Graph error responses and resource types".
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from azwi.emulator.directory import Application, FederatedCredential, put_application, remove_application
from azwi.emulator.expression import is_expression
from azwi.emulator.service import Outcome, paginate, read_body, read_filter
from azwi.emulator.wire import Answer, json_answer

if TYPE_CHECKING:
    from azwi.emulator.directory import Directory, Tenant
    from azwi.emulator.keys import JsonObject
    from azwi.emulator.service import Circumstances
    from azwi.emulator.wire import Request

_VERSIONS: Final = ("v1.0", "beta")
_MAX_CREDENTIALS: Final = 20
_NAME: Final = re.compile(r"[A-Za-z0-9_=-]{3,120}")  # "3 to 120 characters and URL friendly"
_BY_CLIENT_ID: Final = re.compile(r"(\w+)\(appId='([^']*)'\)")


def answer_graph(request: Request, directory: Directory, about: Circumstances) -> Outcome:
    """What Graph answers a caller who has shown a token, and what that changes."""
    version, *segments = request.segments or [""]
    if version not in _VERSIONS:
        return _refuse(400, "BadRequest", f"Invalid version: {version}", about)
    tenant = directory.tenant(about.tenant_id)
    if tenant is None:
        return _refuse(401, "InvalidAuthenticationToken", "The token is of no tenant that is known.", about)
    call = _Call(request, tenant, about, beta=version == "beta")
    match [request.method, *_spread(segments)]:
        case ["GET", "applications" | "servicePrincipals" as kind]:
            return call.list_objects(kind)
        case ["POST", "applications"]:
            return call.create_application()
        case ["POST", "servicePrincipals"]:
            return call.create_principal()
        case [_, "applications", key, *rest]:
            return call.on_application(key, rest)
        case ["GET" | "DELETE", "servicePrincipals", key]:
            return call.on_principal(key)
        case _:
            return _refuse(404, "ResourceNotFound", "Resource not found for the segment.", about)


def _spread(segments: list[str]) -> list[str]:
    """`applications(appId='x')` as `applications`, `appId=x`."""
    found = _BY_CLIENT_ID.fullmatch(segments[0]) if segments else None
    return [found[1], f"appId={found[2]}", *segments[1:]] if found else segments


class _Call:
    """One request of one caller."""

    def __init__(self, request: Request, tenant: Tenant, about: Circumstances, *, beta: bool) -> None:
        self._request = request
        self._tenant = tenant
        self._about = about
        self._beta = beta

    # --- Lists ------------------------------------------------------------------------------------------

    def list_objects(self, kind: str) -> Outcome:
        wanted = read_filter(self._request)
        if wanted is None:
            return self._refuse(400, "Request_UnsupportedQuery", "Unsupported or invalid query filter clause.")
        render = _application if kind == "applications" else _principal
        there = [one for one in self._tenant.applications if _exists(one, kind)]
        found = [document for document in map(render, there) if _has(document, wanted)]
        return Outcome(json_answer(paginate(found, self._request, self._about, "@odata.nextLink")))

    # --- Applications -----------------------------------------------------------------------------------

    def create_application(self) -> Outcome:
        body = read_body(self._request)
        if body is None or not isinstance(body.get("displayName"), str):
            return self._bad("displayName", "Property displayName is required.")
        made = Application(
            client_id=self._about.new_id(),
            display_name=str(body["displayName"]),
            object_id="",
            credentials=(),
            registration_id=self._about.new_id(),
            has_principal=False,
            created=self._about.now,
        )
        return Outcome(json_answer(_application(made), status=201), self._put(made))

    def on_application(self, key: str, rest: list[str]) -> Outcome:
        found = next((one for one in self._tenant.applications if _is_application(one, key)), None)
        if found is None or (rest and self._about.is_fresh(found.created)):
            return self._missing(key)
        match [self._request.method, *rest]:
            case ["GET"]:
                return Outcome(json_answer(_application(found)))
            case ["DELETE"]:
                tenant_id, client_id = self._tenant.tenant_id, found.client_id
                gone = Answer(204, b"")
                return Outcome(gone, lambda directory: remove_application(directory, tenant_id, client_id))
            case [method, "federatedIdentityCredentials", *which]:
                return self._on_credentials(found, method, which)
            case _:
                return self._refuse(405, "Request_BadRequest", "Specified HTTP method is not allowed.")

    # --- Service principals -----------------------------------------------------------------------------

    def create_principal(self) -> Outcome:
        body = read_body(self._request) or {}
        client_id = str(body.get("appId") or "")
        found = self._tenant.application(client_id)
        if found is None or self._about.is_fresh(found.created):
            said = f"The appId '{client_id}' of the service principal does not reference a valid application object."
            return self._bad("appId", said, "NoBackingApplicationObject")
        if found.has_principal:
            said = f"The service principal cannot be created because its appId {client_id} is already in use."
            return self._refuse(409, "Request_MultipleObjectsWithSameKeyValue", said)
        tags = body.get("tags")
        made = replace(
            found,
            has_principal=True,
            object_id=self._about.new_id(),
            tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
            principal_created=self._about.now,
        )
        return Outcome(json_answer(_principal(made), status=201), self._put(made))

    def on_principal(self, key: str) -> Outcome:
        found = next((one for one in self._tenant.applications if _is_principal(one, key)), None)
        if found is None:
            return self._missing(key)
        if self._request.method == "GET":
            return Outcome(json_answer(_principal(found)))
        return Outcome(Answer(204, b""), self._put(replace(found, has_principal=False, object_id="")))

    # --- Federated credentials --------------------------------------------------------------------------

    def _on_credentials(self, application: Application, method: str, which: list[str]) -> Outcome:
        credentials = application.credentials
        if not which:
            if method == "POST":
                return self._add_credential(application)
            listed = [self._credential(one) for one in credentials]
            return Outcome(json_answer(paginate(listed, self._request, self._about, "@odata.nextLink")))
        found = next((one for one in credentials if which[0] in {one.identifier or one.name, one.name}), None)
        if found is None:
            return self._missing(which[0])
        others = tuple(one for one in credentials if one is not found)
        match method:
            case "GET":
                return Outcome(json_answer(self._credential(found)))
            case "DELETE":
                return Outcome(Answer(204, b""), self._put(replace(application, credentials=others)))
            case _:
                return self._change_credential(application, found, others)

    def _add_credential(self, application: Application) -> Outcome:
        made = self._read_credential(FederatedCredential("", "", "", ""), application.credentials)
        if isinstance(made, Outcome):
            return made
        if any(one.name == made.name for one in application.credentials):
            said = f"FederatedIdentityCredential with name {made.name} already exists."
            return self._refuse(409, "Request_MultipleObjectsWithSameKeyValue", said)
        if len(application.credentials) >= _MAX_CREDENTIALS:
            said = f"The application has {_MAX_CREDENTIALS} federated identity credentials, which is the most."
            return self._refuse(403, "Directory_QuotaExceeded", said)
        made = replace(made, identifier=self._about.new_id())
        edit = self._put(replace(application, credentials=(*application.credentials, made)))
        return Outcome(json_answer(self._credential(made), status=201), edit)

    def _change_credential(
        self, application: Application, found: FederatedCredential, others: tuple[FederatedCredential, ...]
    ) -> Outcome:
        made = self._read_credential(found, others)
        if isinstance(made, Outcome):
            return made
        credentials = tuple(replace(made, name=found.name) if one is found else one for one in application.credentials)
        return Outcome(Answer(204, b""), self._put(replace(application, credentials=credentials)))

    def _read_credential(
        self, base: FederatedCredential, others: tuple[FederatedCredential, ...]
    ) -> FederatedCredential | Outcome:
        """The credential that a body makes of another, checked beside those that stay."""
        body: dict[str, Any] = read_body(self._request) or {}
        audiences = body.get("audiences", [base.audience] if base.audience else [])
        expression = (body.get("claimsMatchingExpression") or {}).get("value", "") if self._beta else ""
        made = replace(
            base,
            name=str(body.get("name") or base.name),
            issuer=str(body.get("issuer") or base.issuer),
            subject="" if expression else str(body.get("subject") or base.subject),
            expression=expression,
            audience=str(audiences[0]) if len(audiences) == 1 else "",
            description=str(body.get("description") or base.description),
        )
        wrong = _find_wrong(made)
        if wrong:
            said = f"The value of FederatedIdentityCredential.{wrong} is not allowed."
            return self._refuse(400, "InvalidFederatedIdentityCredentialValue", said)
        trusted = (made.issuer, made.subject, made.expression)
        if any((one.issuer, one.subject, one.expression) == trusted for one in others):
            said = (
                "The combination of issuer and subject must be unique for the application. "
                f"Issuer {made.issuer} and Subject: {made.subject} already exist."
            )
            return self._refuse(400, "InvalidFederatedIdentityCredentialValue", said)
        return made

    def _credential(self, one: FederatedCredential) -> JsonObject:
        document: JsonObject = {
            "id": one.identifier or one.name,
            "name": one.name,
            "issuer": one.issuer,
            "subject": one.subject or None,
            "description": one.description,
            "audiences": [one.audience],
        }
        if self._beta and one.expression:
            document["claimsMatchingExpression"] = {"value": one.expression, "languageVersion": 1}
        return document

    # --- Outcomes ---------------------------------------------------------------------------------------

    def _put(self, application: Application) -> Any:  # noqa: ANN401  # an Edit
        tenant_id = self._tenant.tenant_id
        return lambda directory: put_application(directory, tenant_id, application)

    def _missing(self, key: str) -> Outcome:
        said = f"Resource '{key}' does not exist or one of its queried reference-property objects are not present."
        return self._refuse(404, "Request_ResourceNotFound", said)

    def _bad(self, target: str, said: str, code: str = "InvalidValue") -> Outcome:
        return self._refuse(400, "Request_BadRequest", said, [{"code": code, "target": target, "message": said}])

    def _refuse(self, status: int, code: str, said: str, details: list[JsonObject] | None = None) -> Outcome:
        return _refuse(status, code, said, self._about, details)


def refuse_graph(status: int, code: str, said: str, about: Circumstances) -> Answer:
    """A refusal that is none of the directory's: no token, throttled, told to fail."""
    return _refuse(status, code, said, about).answer


def _refuse(
    status: int, code: str, said: str, about: Circumstances, details: list[JsonObject] | None = None
) -> Outcome:
    request_id = about.new_id()
    inner = {
        "date": f"{datetime.fromtimestamp(about.now, UTC):%Y-%m-%dT%H:%M:%S}",
        "request-id": request_id,
        "client-request-id": request_id,
    }
    error: JsonObject = {"code": code, "message": said, "innerError": inner}
    if details:
        error["details"] = details
    headers = (("request-id", request_id),)
    return Outcome(json_answer({"error": error}, status=status, headers=headers, outcome=code))


def _find_wrong(made: FederatedCredential) -> str:
    """The member of a credential that is not allowed; empty where all are."""
    checks = {
        "Name": _NAME.fullmatch(made.name) is not None,
        "Issuer": made.issuer.startswith("https://"),
        "Audiences": bool(made.audience),
        "Subject": bool(made.subject) or is_expression(made.expression),
    }
    return next((member for member, good in checks.items() if not good), "")


def _exists(one: Application, kind: str) -> bool:
    return bool(one.registration_id) if kind == "applications" else one.has_principal


def _is_application(one: Application, key: str) -> bool:
    return bool(one.registration_id) and key.lower() in {one.registration_id, f"appid={one.client_id}"}


def _is_principal(one: Application, key: str) -> bool:
    return one.has_principal and key.lower() in {one.object_id, f"appid={one.client_id}"}


def _has(document: JsonObject, wanted: dict[str, str]) -> bool:
    """Texts are compared without regard to case, as the directory does."""
    return all(str(document.get(name)).lower() == value.lower() for name, value in wanted.items())


def _application(one: Application) -> JsonObject:
    return {
        "id": one.registration_id,
        "appId": one.client_id,
        "displayName": one.display_name,
        "signInAudience": "AzureADMyOrg",
    }


def _principal(one: Application) -> JsonObject:
    managed = bool(one.resource_id)
    return {
        "id": one.object_id,
        "appId": one.client_id,
        "displayName": one.display_name,
        "servicePrincipalType": "ManagedIdentity" if managed else "Application",
        "alternativeNames": ["isExplicit=True", one.resource_id] if managed else [],
        "tags": list(one.tags),
    }
