"""Renders the chart: the manifest for people without helm, and the golden renders of its tests.

Usage: python tools/manifests.py   writes deploy/azure-wi-webhook.yaml and tests/chart/golden/*/rendered.yaml
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "charts" / "azure-workload-identity"
MANIFEST = ROOT / "deploy" / "azure-wi-webhook.yaml"
GOLDEN = ROOT / "tests" / "chart" / "golden"
NAMESPACE = "azure-workload-identity-system"

# The Go original's placeholders.
_PLACEHOLDERS = {
    "azureTenantID": "${AZURE_TENANT_ID}",
    "azureEnvironment": "${AZURE_ENVIRONMENT:-AzurePublicCloud}",
    "image": {"repository": "${AZWI_IMAGE:-azure-workload-identity}"},
    "legacyNames": True,
}
_HEAD = """\
# Made from charts/azure-workload-identity by `make manifests`: do not edit.
# Its placeholders are for an envsubst that knows defaults.
apiVersion: v1
kind: Namespace
metadata:
  name: azure-workload-identity-system
  labels:
    azure-workload-identity.io/system: "true"
    pod-security.kubernetes.io/audit: restricted
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/warn: restricted
"""


@cache
def _chart() -> helm_python.Chart:
    return helm_python.Chart.load(str(CHART))


def render(values: dict[str, Any], name: str = "azwi", namespace: str = NAMESPACE) -> str:
    """All objects but hooks, in the order of their templates, as one text.

    Raises:
        helm_python.HelmError: The values are not the chart's, or it refuses them.
    """
    rendered = _chart().render(values, name=name, namespace=namespace)
    documents = []
    for path, text in sorted(rendered.items()):
        if path.endswith(".yaml") and "/tests/" not in path:
            documents += [part.strip("\n") for part in f"\n{text}\n".split("\n---\n") if _says_something(part)]
    return "".join(f"---\n{document}\n" for document in documents)


def _says_something(document: str) -> bool:
    """Whether there is more in it than comments."""
    return any(line.strip() and not line.lstrip().startswith("#") for line in document.splitlines())


def render_manifest() -> str:
    """The manifest for people without helm: no trace of helm in it."""
    text = render(_PLACEHOLDERS, name="azure-workload-identity-webhook")
    kept = [line for line in text.splitlines() if "helm.sh/chart" not in line and "managed-by: Helm" not in line]
    return _HEAD + "\n".join(kept) + "\n"


def golden_values(case: Path) -> dict[str, Any]:
    """The values of a golden case."""
    values: dict[str, Any] = yaml.safe_load((case / "values.yaml").read_text())
    return values


def main() -> int:
    """Write all of it."""
    MANIFEST.write_text(render_manifest())
    for case in sorted(GOLDEN.iterdir()):
        (case / "rendered.yaml").write_text(render(golden_values(case)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
