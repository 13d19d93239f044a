"""The values of one command about a service account or an identity, by the names of its options."""

from __future__ import annotations

from dataclasses import dataclass

from azwi.contract import DEFAULT_AUDIENCE, DEFAULT_EXPIRATION


@dataclass(frozen=True, slots=True)
class Request:
    """The values of one command; those that it has no option for are their defaults."""

    service_account_name: str = ""
    service_account_namespace: str = ""
    service_account_issuer_url: str = ""
    service_account_token_expiration: int = DEFAULT_EXPIRATION
    aad_application_name: str = ""
    aad_application_client_id: str = ""
    aad_application_object_id: str = ""
    service_principal_name: str = ""
    service_principal_object_id: str = ""
    identity_name: str = ""
    identity_resource_id: str = ""
    resource_group: str = ""
    location: str = ""
    azure_scope: str = ""
    azure_role: str = ""
    audience: str = DEFAULT_AUDIENCE
    role_assignment_id: str = ""
    keep_service_account: bool = False
    overwrite: bool = False
    wait: bool = False
    wait_timeout: int = 300
    skip_phases: tuple[tuple[str, ...], ...] = ()
    dry_run: bool = False
    yes: bool = False
    output: str = "table"

    @property
    def managed(self) -> bool:
        """Whether it is about a managed identity."""
        return bool(self.identity_name or self.identity_resource_id)
