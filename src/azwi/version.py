"""What this build is: version, commit and the User-Agent it sends."""

from __future__ import annotations

import platform
import sys

__version__ = "0.1.0"

# An image build writes these two; a checkout leaves them as they are.
GIT_COMMIT = "unknown"
BUILD_DATE = "unknown"


def user_agent(component: str) -> str:
    """The User-Agent and Server header of a component: `webhook`, `proxy`, `azwi`.

    Source: reference-behaviour.md section 3 (pkg/version of the reference).
    """
    system = f"{sys.platform}/{platform.machine()}"
    return f"azure-workload-identity/{component}/{__version__} ({system}) {GIT_COMMIT}/{BUILD_DATE}"


def describe() -> dict[str, str]:
    """What `--version` of a server prints as one JSON line."""
    return {
        "buildVersion": __version__,
        "gitCommit": GIT_COMMIT,
        "buildDate": BUILD_DATE,
        "pythonVersion": platform.python_version(),
        "platform": f"{sys.platform}/{platform.machine()}",
    }
