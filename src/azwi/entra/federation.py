"""Federated credentials as Graph and Resource Manager both have them, and their documents. Pure.

Source: Microsoft Graph v1.0 and beta, resource type federatedIdentityCredential; Azure Resource Manager,
Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials 2023-01-31 and 2025-01-31-preview.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from azwi.entra.members import section, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_CREDENTIALS: Final = 20  # of one identity; Microsoft Learn, "Important considerations and restrictions"
_LANGUAGE: Final = 1  # of claims matching expressions; the only one there is


@dataclass(frozen=True, slots=True)
class FederatedCredential:
    """Whose tokens an identity accepts.

    Either `subject` or `expression` is set; the latter is a claims matching expression. `identifier` is how the service
    names an existing one in paths: Graph's object id, Resource Manager's name; empty for one yet to be made.
    """

    name: str
    issuer: str
    subject: str
    audiences: tuple[str, ...]
    description: str = ""
    expression: str = ""
    identifier: str = ""

    @property
    def trusted(self) -> tuple[str, str, str]:
        """What must be unique in an identity: issuer and subject, or issuer and expression."""
        return (self.issuer, self.subject, self.expression)


def read_credential(document: Mapping[str, Any]) -> FederatedCredential:
    """The credential in an answer of Graph (members at the top) or Resource Manager (under `properties`)."""
    values = section(document, "properties") or document
    return FederatedCredential(
        name=text(document, "name"),
        issuer=text(values, "issuer"),
        subject=text(values, "subject"),
        audiences=texts(values, "audiences"),
        description=text(values, "description"),
        expression=text(section(values, "claimsMatchingExpression"), "value"),
        identifier=text(document, "name") if "properties" in document else text(document, "id"),
    )


def render_credential(credential: FederatedCredential) -> dict[str, Any]:
    """The members that both services share."""
    document: dict[str, Any] = {"issuer": credential.issuer, "audiences": list(credential.audiences)}
    if credential.expression:
        matching = {"value": credential.expression, "languageVersion": _LANGUAGE}
        return document | {"claimsMatchingExpression": matching}
    return document | {"subject": credential.subject}
