"""The environment variables that the Azure SDKs read, in the order they are given (R 1, 2.5, 2.8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azwi.admission.sidecar import ProxyMode, ProxyRequest
from azwi.contract import (
    AUTHORITY_HOST_VARIABLE,
    CA_DATA_VARIABLE,
    CA_FILE,
    CA_FILE_VARIABLE,
    CLIENT_ID_VARIABLE,
    POD_IDENTITY_HOST_VARIABLE,
    PROXY_CONTAINER,
    SNI_NAME_VARIABLE,
    TENANT_ID_VARIABLE,
    TOKEN_FILE,
    TOKEN_FILE_VARIABLE,
    TOKEN_PROXY_VARIABLE,
)

if TYPE_CHECKING:
    from azwi.admission.intent import Intent
    from azwi.admission.pod import Container, JsonObject
    from azwi.admission.serviceaccount import ServiceAccount
    from azwi.admission.settings import CustomEndpoint, Settings


def render_variables(account: ServiceAccount, settings: Settings, intent: Intent) -> list[JsonObject]:
    """The variables of the Pod; one without a value is left out."""
    variables: list[JsonObject] = []
    if account.client_id:
        variables.append({"name": CLIENT_ID_VARIABLE, "value": account.client_id})
    elif account.client_id_from is not None:
        key = {"name": account.client_id_from.name, "key": account.client_id_from.key}
        variables.append({"name": CLIENT_ID_VARIABLE, "valueFrom": {"configMapKeyRef": key}})
    values = {
        TENANT_ID_VARIABLE: account.tenant_id or settings.tenant_id,
        TOKEN_FILE_VARIABLE: TOKEN_FILE,
        AUTHORITY_HOST_VARIABLE: settings.authority_host,
        **_endpoint_values(intent.endpoint),
        **_proxy_values(intent.proxy),
    }
    variables += [{"name": name, "value": value} for name, value in values.items() if value]
    return variables


def _endpoint_values(endpoint: CustomEndpoint | None) -> dict[str, str]:
    if endpoint is None:
        return {}
    return {
        TOKEN_PROXY_VARIABLE: endpoint.token_proxy,
        SNI_NAME_VARIABLE: endpoint.sni_name,
        CA_FILE_VARIABLE: CA_FILE if endpoint.ca_source is not None else "",
        CA_DATA_VARIABLE: endpoint.ca_data,
    }


def _proxy_values(proxy: ProxyRequest | None) -> dict[str, str]:
    if proxy is None or proxy.mode is not ProxyMode.ENVIRONMENT:
        return {}
    return {POD_IDENTITY_HOST_VARIABLE: f"http://127.0.0.1:{proxy.port}"}


def for_proxy(variables: list[JsonObject]) -> list[JsonObject]:
    """The variables of the proxy itself: it does not ask itself."""
    return [variable for variable in variables if variable["name"] != POD_IDENTITY_HOST_VARIABLE]


def missing_variables(container: Container, variables: list[JsonObject], token_file: str) -> list[JsonObject]:
    """Those that a container does not have, whatever the value of those it has.

    Args:
        container: An ordinary container, or an azwi-proxy of an earlier pass.
        variables: The Pod's.
        token_file: Where this container finds its token.
    """
    wanted = for_proxy(variables) if container.name == PROXY_CONTAINER else variables
    if token_file != TOKEN_FILE:
        wanted = [
            {**variable, "value": token_file} if variable["name"] == TOKEN_FILE_VARIABLE else variable
            for variable in wanted
        ]
    if not container.env:
        return wanted
    present = {variable.name for variable in container.env}
    return [variable for variable in wanted if variable["name"] not in present]
