"""The chart: what it renders, what it refuses, and that values, flags and documents say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python
import pytest
import yaml

from azwi.version import __version__
from azwi.webhook.settings import FLAGS, read_settings
from manifests import CHART, GOLDEN, MANIFEST, NAMESPACE, ROOT, golden_values, render, render_manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

TENANT = "11111111-1111-1111-1111-111111111111"
INSTALL = (ROOT / "docs" / "install.md").read_text()
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
CASES = sorted(path.name for path in GOLDEN.iterdir())
# Kinds of the Kubernetes API itself; the others are of operators that bring their own schema.
FOREIGN = {"Certificate", "Issuer", "ServiceMonitor", "PrometheusRule"}
# Flags that no cluster needs: one that only prints.
NO_VALUE = {"version"}


def objects(
    values: dict[str, Any] | None = None, name: str = "azwi", namespace: str = NAMESPACE
) -> list[dict[str, Any]]:
    """What the chart renders with a tenant and these values."""
    text = render({"azureTenantID": TENANT} | (values or {}), name, namespace)
    return list(yaml.load_all(text, Loader=yaml.CSafeLoader))


def one(kind: str, found: list[dict[str, Any]]) -> dict[str, Any]:
    """The only object of a kind."""
    (match,) = (item for item in found if item["kind"] == kind)
    return match


def container(found: list[dict[str, Any]]) -> dict[str, Any]:
    """The webhook's container."""
    spec: dict[str, Any] = one("Deployment", found)["spec"]["template"]["spec"]["containers"][0]
    return spec


def flags(found: list[dict[str, Any]]) -> dict[str, str]:
    """The webhook's flags, as it is started."""
    return {
        name.removeprefix("--"): value for name, _, value in (text.partition("=") for text in container(found)["args"])
    }


def validate(found: dict[str, Any], version: str) -> None:
    """Whether an API server of that version would take it, with no unknown field."""
    import kubernetes_validate  # noqa: PLC0415  # a second that not every process of the tests needs to spend

    kubernetes_validate.validate(found, version, strict=True)


def nested(path: str, value: object) -> dict[str, Any]:
    """`a.b` and 1 give {"a": {"b": 1}}."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def documented() -> list[tuple[str, str, list[str]]]:
    """The table of values in docs/install.md: path, default, flags and keys."""
    rows = re.findall(r"^\| `([\w.]+)` \| `(.*?)` \| (.*?) \| ", INSTALL, re.MULTILINE)
    return [(path, default, re.findall(r"`(.+?)`", outside)) for path, default, outside in rows]


def find(path: str) -> Any:  # noqa: ANN401
    """A default by its path."""
    value: Any = VALUES
    for key in path.split("."):
        value = value[key]
    return value


def leaves(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of a schema that have no closed list of members."""
    for key, member in schema["properties"].items():
        inside = f"{path}.{key}" if path else key
        if inside != "resources" and member.get("properties") and "null" not in member["type"]:
            yield from leaves(member, inside)
        elif inside.startswith("proxy") and ".resources." in inside:
            yield from (f"{inside}.{name}" for name in member["properties"])
        else:
            yield inside


@pytest.mark.parametrize("case", CASES)
def test_golden(case: str) -> None:
    """What is rendered is what was reviewed; `make manifests` renders anew."""
    assert (GOLDEN / case / "rendered.yaml").read_text() == render(golden_values(GOLDEN / case))


def test_the_manifest_is_made_from_the_chart() -> None:
    """deploy/azure-wi-webhook.yaml has the original's placeholders and names, and no trace of helm."""
    text = MANIFEST.read_text()
    assert render_manifest() == text
    assert {"AZURE_TENANT_ID", "AZURE_ENVIRONMENT:-AzurePublicCloud", "AZWI_IMAGE:-azure-workload-identity"} == set(
        re.findall(r"\$\{(.*?)\}", text)
    )
    assert "helm" not in text.lower()


@pytest.mark.parametrize("version", ["1.29", "1.34"])
@pytest.mark.parametrize("case", CASES)
def test_objects_are_valid(case: str, version: str) -> None:
    """Each object against the schema of the oldest Kubernetes that is supported, and of a new one; no unknown field."""
    found = objects(golden_values(GOLDEN / case))
    assert found
    for item in found:
        if item["kind"] not in FOREIGN:
            validate(item, version)


def test_the_sample_network_policy_is_valid() -> None:
    """And it lets everything out but the metadata service."""
    policy = yaml.safe_load((ROOT / "deploy" / "deny-node-metadata.yaml").read_text())
    validate(policy, "1.29")
    assert ["169.254.169.254/32"] == policy["spec"]["egress"][0]["to"][0]["ipBlock"]["except"]


def test_lint() -> None:
    """Helm's own linter has nothing to say."""
    report = helm_python.lint(str(CHART), {"azureTenantID": TENANT})
    assert "WARNING" not in json.dumps(report)
    assert "ERROR" not in json.dumps(report)


def test_the_chart_has_the_products_version() -> None:
    """One version for the chart, its image and the product."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (__version__, __version__) == (chart["version"], chart["appVersion"])
    assert f"azure-workload-identity:{__version__}" == container(objects())["image"]


# --- Values, flags, documents ---------------------------------------------------------------------------


def test_every_value_is_documented_with_its_default() -> None:
    """The table of docs/install.md, values.yaml and the schema name the same values."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    paths = [path for path, _, _ in documented()]
    assert len(paths) == len(set(paths))
    assert set(leaves(schema)) == set(paths)
    for path, default, _ in documented():
        if default != "measured":
            assert find(path) == json.loads(default), path


def test_every_flag_is_passed_and_none_else() -> None:
    """The webhook of the chart is told everything that it can be told."""
    assert {flag.name for flag in FLAGS} - NO_VALUE == set(flags(objects()))


def test_every_flag_has_a_documented_value() -> None:
    """Each flag is named in the table, and no flag that is not there."""
    named = {name for _, _, outside in documented() for name in outside if name.startswith("--")}
    assert {f"--{flag.name}" for flag in FLAGS} - {"--version"} == named


OTHER: dict[str, Any] = {
    "certificates.mode": "cert-manager",
    "certificates.secretName": "brought",
    "azureEnvironment": "AzureChinaCloud",
    "azureAuthorityHost": "https://login.example/",
    "legacyTokenPath": "never",
    "nativeSidecar": "never",
    "identityPolicy": {"rules": []},
    "proxy.pullPolicy": "Never",
    "certificates.names": ["one.example", "two.example"],
    "certificates.folder": "/elsewhere",
    "healthAddr": ":1",
    "metricsAddr": ":2",
    "tlsMinVersion": "1.2",
    "logLevel": "debug",
    "metricsBackend": "Prometheus",
}
WITH: dict[str, dict[str, Any]] = {
    "certificates.secretName": {"certificates": {"mode": "files", "secretName": "brought", "caBundle": "PEM"}}
}


def changed(path: str) -> dict[str, Any]:
    """Values with one that is not its default."""
    if path in WITH:
        return WITH[path]
    default = find(path)
    if path in OTHER:
        return nested(path, OTHER[path])
    if path.endswith("digest"):
        return nested(path, "sha256:" + "0" * 64)
    match default:
        case bool():
            return nested(path, not default)
        case int():
            return nested(path, default + 1)
        case _:
            return nested(path, "1" if ".resources." in path else "changed")


@pytest.mark.parametrize(("path", "outside"), [(path, outside) for path, _, outside in documented() if outside])
def test_a_value_reaches_its_flag_or_key(path: str, outside: list[str]) -> None:
    """Another value changes exactly what its row says, and what follows from it."""
    before, after = objects(), objects(changed(path))
    for name in outside:
        if name.startswith("--"):
            assert flags(before)[name.removeprefix("--")] != flags(after)[name.removeprefix("--")]
        else:
            configuration = [one_config(found).get(name) for found in (before, after)]
            assert configuration[0] != configuration[1]
    moved = {f"--{name}" for name, value in flags(after).items() if value != flags(before)[name]}
    follows = {"certificates.secretName": {"--disable-cert-rotation"}, "legacyNames": {"--secret-name"}}
    assert {name for name in outside if name.startswith("--")} | follows.get(path, set()) == moved


def one_config(found: list[dict[str, Any]]) -> dict[str, str]:
    """The webhook's configuration keys."""
    names = [
        item["data"] for item in found if item["kind"] == "ConfigMap" and "AZURE_TENANT_ID" in item.get("data", {})
    ]
    (data,) = names
    return dict(data)


@pytest.mark.parametrize("case", CASES)
def test_the_program_takes_what_the_chart_gives(case: str) -> None:
    """Flags and environment of each golden case, read by the webhook itself; its defaults are the chart's."""
    found = objects(golden_values(GOLDEN / case))
    settings = read_settings(container(found)["args"], one_config(found), lambda path: Path(path).read_bytes())
    if case == "default":
        bare = read_settings([], {"AZURE_TENANT_ID": TENANT}, lambda path: Path(path).read_bytes())
        assert bare.admission.proxy.resources == settings.admission.proxy.resources
        assert bare.admission.proxy.init_resources == settings.admission.proxy.init_resources
        assert (bare.listen, bare.health, bare.metrics) == (settings.listen, settings.health, settings.metrics)
        assert bare.admission.authority_host == settings.admission.authority_host
        assert bare.admission.audience == settings.admission.audience


# --- What is rendered ----------------------------------------------------------------------------------------


def names(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Kind and name of each object, with the namespace in the kind's place where there is one."""
    return {(item["kind"], f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}") for item in found}


def test_the_originals_names() -> None:
    """`legacyNames` gives each object the name that R 8 lists."""
    space = "azure-workload-identity-system/"
    role, binding = "azure-wi-webhook-manager-role", "azure-wi-webhook-manager-rolebinding"
    assert {
        ("ServiceAccount", f"{space}azure-wi-webhook-admin"),
        ("ConfigMap", f"{space}azure-wi-webhook-config"),
        ("Deployment", f"{space}azure-wi-webhook-controller-manager"),
        ("PodDisruptionBudget", f"{space}azure-wi-webhook-controller-manager"),
        ("ClusterRole", f"/{role}"),
        ("ClusterRoleBinding", f"/{binding}"),
        ("Role", f"{space}{role}"),
        ("RoleBinding", f"{space}{binding}"),
        ("MutatingWebhookConfiguration", "/azure-wi-webhook-mutating-webhook-configuration"),
        ("Secret", f"{space}azure-wi-webhook-server-cert"),
        ("Service", f"{space}azure-wi-webhook-webhook-service"),
    } <= names(objects({"legacyNames": True}))


@pytest.mark.parametrize(("name", "namespace"), [("second", NAMESPACE), ("azwi", "second")])
def test_releases_do_not_meet(name: str, namespace: str) -> None:
    """No object of one release has the name of another's, whether their name or their namespace differs."""
    assert set() == names(objects()) & names(objects(name=name, namespace=namespace))
    assert set() == names(objects()) & names(objects({"legacyNames": True}))


def test_long_release_names() -> None:
    """Names stay within 63 characters."""
    found = [name.split("/") for _, name in names(objects(name="r" * 53))]
    assert all(len(name) <= 63 for namespace, name in found if namespace)


@pytest.mark.parametrize(
    ("values", "budget"),
    [
        ({}, {"minAvailable": 1}),
        ({"replicaCount": 1}, None),
        ({"podDisruptionBudget": {"maxUnavailable": 0}}, {"maxUnavailable": 0}),
        ({"replicaCount": 1, "autoscaling": {"enabled": True}}, {"minAvailable": 1}),
        ({"autoscaling": {"enabled": True, "minReplicas": 1}}, None),
    ],
)
def test_the_disruption_budget(values: dict[str, Any], budget: dict[str, int] | None) -> None:
    """There is one with more than one replica only, and never with both bounds: a drain must be able to end."""
    found = [item["spec"] for item in objects(values) if item["kind"] == "PodDisruptionBudget"]
    got = [{key: spec[key] for key in ("minAvailable", "maxUnavailable") if key in spec} for spec in found]
    assert ([] if budget is None else [budget]) == got


def test_rights_are_those_that_are_documented() -> None:
    """Each rule of the roles stands in the table of docs/webhook.md, with its verbs, and no wildcard."""
    table = (ROOT / "docs" / "webhook.md").read_text().partition("## Rights")[2].partition("\n## ")[0]
    listed = {
        (where, resource, frozenset(verbs.split(", ")))
        for where, resource, verbs in re.findall(
            r"^\| (cluster|namespace) \| `(\w+)`.*? \| ([a-z, ]+) \|", table, re.MULTILINE
        )
    }
    found = objects({"podCheckIntervalSeconds": 60})
    granted = {
        ("cluster" if item["kind"] == "ClusterRole" else "namespace", resource, frozenset(rule["verbs"]))
        for item in found
        if item["kind"] in {"Role", "ClusterRole"}
        for rule in item["rules"]
        for resource in rule["resources"]
    }
    assert listed == granted
    narrow = [rule for item in objects() if item["kind"] in {"Role", "ClusterRole"} for rule in item["rules"]]
    assert {"serviceaccounts", "events"} == {rule["resources"][0] for rule in narrow if "resourceNames" not in rule}


def test_metrics_of_alerts_and_dashboard_exist() -> None:
    """Each series that an alert or a panel names is one that the webhook documents."""
    known = set(re.findall(r"azwi_\w+", (ROOT / "docs" / "webhook.md").read_text()))
    used = set(re.findall(r"azwi_\w+", "".join(path.read_text() for path in (CHART / "files").iterdir())))
    assert 8 < len(used)
    assert set() == {name.removesuffix("_bucket") for name in used} - known
    assert 10 == len(json.loads((CHART / "files" / "dashboard.json").read_text())["panels"])


REFUSED = [
    ({"azureTenantID": ""}, "azureTenantID"),
    (
        {"image": {"repository": "mcr.microsoft.com/oss/azure/workload-identity/webhook", "release": "v1.6.0"}},
        "Go original",
    ),
    ({"certificates": {"mode": "files"}}, "certificates.secretName"),
    ({"azureTenantId": "x"}, "azureTenantId"),
    ({"failurePolicy": "Never"}, "failurePolicy"),
    ({"timeoutSeconds": 31}, "timeoutSeconds"),
    ({"image": {"digest": "sha256:1"}}, "digest"),
    ({"legacyTokenPath": "sometimes"}, "legacyTokenPath"),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_refusals(values: dict[str, Any], words: str) -> None:
    """What cannot work is refused by its name, before anything is installed."""
    with pytest.raises(helm_python.HelmError, match=re.escape(words)):
        objects(values)
