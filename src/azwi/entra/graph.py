"""Microsoft Graph: applications, service principals and federated credentials.

Source: Microsoft Graph REST API v1.0, "application", "servicePrincipal", "federatedIdentityCredential"; beta for claims
matching expressions, which v1.0 does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib import parse

from azwi.entra.federation import FederatedCredential, read_credential, render_credential
from azwi.entra.members import required, text, texts
from azwi.entra.refusals import EXISTS_CODES, ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.entra.rest import RestClient

_V1: Final = "/v1.0"
_BETA: Final = "/beta"


@dataclass(frozen=True, slots=True)
class ApplicationRecord:
    """An application: `object_id` is what Graph's paths name, `client_id` what tokens name."""

    object_id: str
    client_id: str
    display_name: str


@dataclass(frozen=True, slots=True)
class PrincipalRecord:
    """A service principal; `resource_id` is set where it is a managed identity's."""

    object_id: str
    client_id: str
    display_name: str
    resource_id: str = ""


class Graph:
    """What azwi asks of Microsoft Graph. Every method raises ServiceError for a refusal it does not name."""

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    # --- Applications -----------------------------------------------------------------------------------

    async def find_applications(self, display_name: str) -> list[ApplicationRecord]:
        """All applications of exactly that display name; the directory allows several, and compares without case."""
        query = {"$filter": f"displayName eq {quote(display_name)}"}
        listed = self._rest.items(f"{_V1}/applications", _application, query=query)
        return [one async for one in listed if one.display_name == display_name]

    async def find_application_by_client_id(self, client_id: str) -> ApplicationRecord | None:
        """The application with that client id, if this tenant has it."""
        query = {"$filter": f"appId eq {quote(client_id)}"}
        async for one in self._rest.items(f"{_V1}/applications", _application, query=query):
            return one
        return None

    async def read_application(self, object_id: str) -> ApplicationRecord | None:
        """The application with that object id, if there is one."""
        try:
            return (await self._rest.request("GET", _path(_V1, object_id))).read(_application)
        except ServiceError as problem:
            if problem.refusal.not_found:
                return None
            raise

    async def create_application(self, display_name: str) -> ApplicationRecord:
        """A new application; after a failure that leaves it open, one of that name that is there now."""
        body = {"displayName": display_name}
        try:
            return (await self._rest.request("POST", f"{_V1}/applications", body=body)).read(_application)
        except ServiceError as problem:
            if not problem.refusal.ambiguous:
                raise
            found = await self.find_applications(display_name)
            if not found:
                raise
            return found[0]

    async def delete_application(self, object_id: str) -> bool:
        """Delete it with its principal and credentials; False where it was gone."""
        return await self._delete(_path(_V1, object_id))

    # --- Service principals -----------------------------------------------------------------------------

    async def find_principal(self, client_id: str) -> PrincipalRecord | None:
        """The service principal of an application or managed identity in this tenant."""
        query = {"$filter": f"appId eq {quote(client_id)}"}
        async for one in self._rest.items(f"{_V1}/servicePrincipals", _principal, query=query):
            return one
        return None

    async def find_principals_by_name(self, display_name: str) -> list[PrincipalRecord]:
        """All service principals of exactly that display name."""
        query = {"$filter": f"displayName eq {quote(display_name)}"}
        listed = self._rest.items(f"{_V1}/servicePrincipals", _principal, query=query)
        return [one async for one in listed if one.display_name == display_name]

    async def create_principal(self, client_id: str, tag: str) -> PrincipalRecord | None:
        """A new service principal of an application that may be new as well; None where there was one already."""
        body = {"appId": client_id, "tags": [tag]}
        try:
            reply = await self._rest.request(
                "POST", f"{_V1}/servicePrincipals", body=body, repeatable=True, awaiting=True
            )
        except ServiceError as problem:
            if problem.refusal.means(EXISTS_CODES):
                return None
            raise
        return reply.read(_principal)

    # --- Federated credentials --------------------------------------------------------------------------

    async def list_credentials(self, object_id: str, *, awaiting: bool = False) -> list[FederatedCredential]:
        """Those of an application; `awaiting` as it was created a moment ago."""
        listed = self._rest.items(_credentials(_V1, object_id), read_credential, awaiting=awaiting)
        found = [one async for one in listed]
        if all(one.subject for one in found):
            return found
        # v1.0 has no expressions: the flexible ones are seen whole in beta only.
        return [one async for one in self._rest.items(_credentials(_BETA, object_id), read_credential)]

    async def add_credential(self, object_id: str, credential: FederatedCredential) -> None:
        """Add one to an application that may be known only in a moment; raises where its name or trust is taken."""
        body = {"name": credential.name} | _document(credential)
        await self._rest.request(
            "POST", _credentials(_version(credential), object_id), body=body, repeatable=True, awaiting=True
        )

    async def change_credential(self, object_id: str, credential: FederatedCredential) -> None:
        """Give an existing one, named by its identifier, these values."""
        path = _credentials(_version(credential), object_id) + _segment(credential.identifier)
        await self._rest.request("PATCH", path, body=_document(credential))

    async def remove_credential(self, object_id: str, credential: FederatedCredential) -> bool:
        """Remove one, named by its identifier; False where it was gone."""
        return await self._delete(_credentials(_V1, object_id) + _segment(credential.identifier))

    async def _delete(self, path: str) -> bool:
        try:
            await self._rest.request("DELETE", path)
        except ServiceError as problem:
            if problem.refusal.not_found:
                return False
            raise
        return True


def quote(value: str) -> str:
    """A text in an OData filter: in quotes, with its own quotes doubled (OData 4.01 ABNF, SQUOTE-in-string)."""
    return "'" + value.replace("'", "''") + "'"


def _credentials(version: str, object_id: str) -> str:
    return f"{_path(version, object_id)}/federatedIdentityCredentials"


def _path(version: str, object_id: str) -> str:
    return f"{version}/applications{_segment(object_id)}"


def _segment(identifier: str) -> str:
    """An id as one segment of a path, whatever it holds."""
    return "/" + parse.quote(identifier, safe="")


def _version(credential: FederatedCredential) -> str:
    return _BETA if credential.expression else _V1


def _document(credential: FederatedCredential) -> dict[str, Any]:
    document = render_credential(credential)
    return document | {"description": credential.description} if credential.description else document


def _application(document: Mapping[str, Any]) -> ApplicationRecord:
    return ApplicationRecord(required(document, "id"), required(document, "appId"), text(document, "displayName"))


def _principal(document: Mapping[str, Any]) -> PrincipalRecord:
    names = texts(document, "alternativeNames")
    resource_id = next((name for name in names if "/userassignedidentities/" in name.lower()), "")
    return PrincipalRecord(
        required(document, "id"), text(document, "appId"), text(document, "displayName"), resource_id
    )
