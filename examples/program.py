"""What runs in the containers of these examples: asks for a token, prints it as one JSON line.

It is an ordinary program with azure-identity. All it knows comes from the environment that the webhook gave its
container. `program.py workload` uses the projected token itself; `program.py managed` asks the Instance Metadata
Service, as programs written for a virtual machine do.
"""

from __future__ import annotations

import json
import os
import sys

from azure.core.exceptions import AzureError
from azure.identity import ManagedIdentityCredential, WorkloadIdentityCredential

SCOPE = "https://vault.azure.net/.default"


def main(kind: str) -> int:
    """Print the token, or the error that the SDK reports; 1 on an error."""
    if kind == "managed":
        credential = ManagedIdentityCredential()
    else:
        # Only an authority that Microsoft does not know, such as an emulator on localhost, cannot be discovered.
        unknown = "microsoft" not in os.environ["AZURE_AUTHORITY_HOST"]
        credential = WorkloadIdentityCredential(disable_instance_discovery=unknown)
    try:
        with credential:
            token = credential.get_token(SCOPE)
    except AzureError as error:
        print(json.dumps({"error": str(error)}))
        return 1
    print(json.dumps({"token": token.token, "expires_on": token.expires_on}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
