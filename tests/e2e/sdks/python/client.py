"""Asks for tokens as programs with azure-identity or msal do: a JSON order a line in, a JSON answer a line out."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msal
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError
from azure.identity import DefaultAzureCredential, ManagedIdentityCredential, WorkloadIdentityCredential


def with_azure_identity(order: dict[str, Any]) -> dict[str, Any]:
    """A credential of azure-identity's; its error holds Entra's text, which holds code and correlation id."""
    credential: DefaultAzureCredential | ManagedIdentityCredential | WorkloadIdentityCredential
    if order.get("default"):
        credential = DefaultAzureCredential()
    elif order.get("managed"):
        credential = ManagedIdentityCredential(client_id=order.get("clientId"))
    else:
        credential = WorkloadIdentityCredential(
            tenant_id=order.get("tenantId"),
            client_id=order.get("clientId"),
            token_file_path=order.get("tokenFile"),
            disable_instance_discovery=not order.get("discovery"),
            retry_total=order["retries"],
        )
    with credential:
        try:
            token = credential.get_token(order["scope"])
        except (ClientAuthenticationError, HttpResponseError, ValueError) as error:
            return {"error": str(error), "codes": []}
    return {"token": token.token, "expires": token.expires_on}


def with_msal(order: dict[str, Any]) -> dict[str, Any]:
    """A confidential client of msal's; its result holds what Entra said."""
    try:
        app = msal.ConfidentialClientApplication(
            order["clientId"],
            authority=os.environ["AZURE_AUTHORITY_HOST"] + order["tenantId"],
            client_credential={"client_assertion": lambda: Path(order["tokenFile"]).read_text()},
            instance_discovery=False,
        )
        result = app.acquire_token_for_client([order["scope"]])
    except (ValueError, msal.exceptions.MsalServiceError) as error:  # it raises where the status is 500 or more
        return {"error": str(error), "codes": []}
    if "access_token" in result:
        return {"token": result["access_token"], "expires": time.time() + result["expires_in"]}
    return {
        "error": result["error_description"],
        "codes": result["error_codes"],
        "correlation": result["correlation_id"],
    }


if __name__ == "__main__":
    ask = with_msal if sys.argv[1:] == ["msal"] else with_azure_identity
    for line in sys.stdin:
        sys.stdout.write(json.dumps(ask(json.loads(line))) + "\n")
        sys.stdout.flush()
