"""The program in the Pods: asks for a token as told, and prints it, once or again and again.

Usage: ask.py workload|managed|imds [--every SECONDS]
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from typing import TYPE_CHECKING

from azure.identity import ManagedIdentityCredential, WorkloadIdentityCredential

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

CLIENT = "22222222-2222-2222-2222-222222222222"
VAULT = "https://vault.azure.net"


def by_imds() -> str:
    """As a program without an SDK does."""
    url = f"http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource={VAULT}&client_id={CLIENT}"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Metadata": "true"}), timeout=60) as answer:
        return str(json.load(answer)["access_token"])


def by_sdk(mode: str) -> str:
    """A new credential each time, so that nothing is remembered here."""
    credential: TokenCredential
    credential = WorkloadIdentityCredential() if mode == "workload" else ManagedIdentityCredential(client_id=CLIENT)
    return credential.get_token(VAULT + "/.default").token


def main() -> None:
    """Print one JSON line for each token or error."""
    mode = sys.argv[1]
    every = float(sys.argv[3]) if len(sys.argv) > 2 else 0
    while True:
        began = time.monotonic()
        try:
            said = {"token": by_imds() if mode == "imds" else by_sdk(mode)}
        except Exception as problem:  # noqa: BLE001  # whatever it is, the test reads it
            said = {"error": f"{type(problem).__name__}: {problem}"[:500]}
        print(json.dumps({"at": time.time(), "took": time.monotonic() - began} | said), flush=True)
        if not every:
            sys.exit("error" in said)
        time.sleep(every)


if __name__ == "__main__":
    main()
