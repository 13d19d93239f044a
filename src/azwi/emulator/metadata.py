"""What Entra publishes about itself: OpenID configuration, keys, instance discovery. Pure.

Source: the documents at https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration and its like,
field by field; learn.microsoft.com/entra/identity-platform/v2-protocols-oidc.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from azwi.emulator import faults
from azwi.emulator.exchange import PUBLIC_CLOUD, v1_issuer, v2_issuer
from azwi.emulator.keys import JsonObject, SigningKey, public_jwk, thumbprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from azwi.emulator.directory import Directory
    from azwi.emulator.faults import Fault

# Endpoints for tenants yet unknown; their issuer has a placeholder in the tenant's place.
OPEN_TENANTS: Final = frozenset({"common", "organizations", "consumers"})
_PLACEHOLDER: Final = "{tenantid}"
# The public cloud's names, as its own instance discovery lists them.
PUBLIC_ALIASES: Final = (
    "login.microsoftonline.com",
    "login.windows.net",
    "login.microsoft.com",
    "sts.windows.net",
)
# All that an emulator of that name answers for: also Microsoft Graph and Azure Resource Manager.
PUBLIC_NAMES: Final = (*PUBLIC_ALIASES, "graph.microsoft.com", "management.azure.com")


def openid_configuration(base_url: str, directory: Directory, name: str, *, v2: bool) -> JsonObject | Fault:
    """The OpenID configuration of a tenant by GUID or domain, or of `common` and its like.

    Args:
        base_url: The emulator's own, without a trailing slash.
        directory: Where tenants are looked up.
        name: The tenant as the path names it.
        v2: For version 2.0 tokens; else for version 1.0.
    """
    found = directory.tenant(name)
    if found is not None:
        issuer = v2_issuer(base_url, found.tenant_id) if v2 else v1_issuer(base_url, found.tenant_id)
        return _configuration(base_url, found.tenant_id, issuer, v2=v2)
    if name.lower() in OPEN_TENANTS:
        issuer = v2_issuer(base_url, _PLACEHOLDER) if v2 else v1_issuer(base_url, _PLACEHOLDER)
        return _configuration(base_url, name.lower(), issuer, v2=v2)
    return faults.TENANT_NOT_FOUND(tenant=name)


def _configuration(base_url: str, tenant: str, issuer: str, *, v2: bool) -> JsonObject:
    home = f"{base_url}/{tenant}"
    oauth2 = f"{home}/oauth2/v2.0" if v2 else f"{home}/oauth2"
    return {
        "token_endpoint": f"{oauth2}/token",
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt", "client_secret_basic"],
        "jwks_uri": f"{home}/discovery/v2.0/keys" if v2 else f"{home}/discovery/keys",
        "response_modes_supported": ["query", "fragment", "form_post"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
        "issuer": issuer,
        "request_uri_parameter_supported": False,
        "authorization_endpoint": f"{oauth2}/authorize",
        "device_authorization_endpoint": f"{oauth2}/devicecode",
        "http_logout_supported": True,
        "end_session_endpoint": f"{oauth2}/logout",
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "tid", "ver"],
        "tenant_region_scope": None,
    }


def jwks(keys: Iterable[SigningKey], issuer: str) -> JsonObject:
    """Entra's key set: each key with its certificate and the issuer it signs for."""
    return {"keys": [_jwk(key, issuer) for key in keys]}


def _jwk(key: SigningKey, issuer: str) -> JsonObject:
    certificate = key.certificate or b""
    jwk = public_jwk(key)
    del jwk["alg"]  # Entra's keys have none
    return jwk | {"x5t": thumbprint(certificate), "x5c": [base64.b64encode(certificate).decode()], "issuer": issuer}


def instance_discovery(base_url: str, authorization_endpoint: str) -> JsonObject | Fault:
    """The answer to an SDK that asks whether an authority is a Microsoft one.

    The emulator vouches for its own host only.

    Args:
        base_url: The emulator's own, without a trailing slash.
        authorization_endpoint: The query parameter of that name; empty when left out.
    """
    try:
        asked = urlsplit(authorization_endpoint)
    except ValueError:
        return faults.DISCOVERY_MALFORMED()
    tenant = asked.path.strip("/").partition("/")[0]
    if asked.scheme != "https" or not asked.netloc or not tenant:
        return faults.DISCOVERY_MALFORMED()
    own = urlsplit(base_url).netloc
    aliases = list(PUBLIC_ALIASES) if base_url == PUBLIC_CLOUD else [own]
    if asked.netloc.lower() not in aliases:
        return faults.INSTANCE_UNKNOWN()
    return {
        "tenant_discovery_endpoint": f"{base_url}/{tenant}/v2.0/.well-known/openid-configuration",
        "api-version": "1.1",
        "metadata": [{"preferred_network": own, "preferred_cache": aliases[1 % len(aliases)], "aliases": aliases}],
    }
