"""Pods for tests: small ones to be told apart at a glance, and generated ones with fields that nobody knows."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from azwi.admission.serviceaccount import read_service_account
from azwi.admission.settings import Settings
from azwi.webhook.mutation import Answer, answer_review
from vectors import Known, apply, containers

JsonObject = dict[str, Any]

PREFIX = "azure.workload.identity/"
CLIENT = "22222222-2222-2222-2222-222222222222"
TENANT = "11111111-1111-1111-1111-111111111111"
SETTINGS = Settings(tenant_id=TENANT, authority_host="https://login.microsoftonline.com/")
PLAIN = replace(SETTINGS, proxy=replace(SETTINGS.proxy, native_sidecar=False))
MOUNT = "/var/run/secrets/azure/wi"
VOLUME = "azure-workload-identity-reserved-token"
PROXY = {"inject-proxy-sidecar": "true"}
LEGACY = "/var/run/secrets/azure/tokens"
HASHED = "azure-workload-identity-reserved-5ea618a82d38c4b9d0322273f1b4b2"
GUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"


def make_pod(annotations: dict[str, str] | None = None, container: JsonObject | None = None, **spec: Any) -> JsonObject:  # noqa: ANN401  # any field of a spec
    """A Pod with one container; annotations without the prefix."""
    metadata: JsonObject = {"name": "pod", "namespace": "ns"}
    if annotations is not None:
        metadata["annotations"] = {PREFIX + name: value for name, value in annotations.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"serviceAccountName": "sa", "containers": [{"name": "app", **(container or {})}], **spec},
    }


def token_volume(name: str, path: str = "token/azure-identity-token", **token: Any) -> JsonObject:  # noqa: ANN401
    """A projected volume with a service account token."""
    return {"name": name, "projected": {"sources": [{"serviceAccountToken": {"path": path, **token}}]}}


def mounted(volume: str, path: str, **more: Any) -> JsonObject:  # noqa: ANN401
    """A container that mounts a volume."""
    return {"volumeMounts": [{"name": volume, "mountPath": path, **more}]}


def app(pod: JsonObject) -> JsonObject:
    """The container `app`."""
    return next(container for _, container in containers(pod) if container["name"] == "app")


def names(pod: JsonObject, kind: str) -> list[str]:
    """The containers of a list, in order."""
    return [container["name"] for container in pod["spec"].get(kind) or ()]


def review(pod: JsonObject, account: dict[str, str] | None = None, settings: Settings = SETTINGS) -> Answer:
    """The webhook's answer about a Pod whose service account has these annotations, names without the prefix."""
    annotations = {"client-id": CLIENT} if account is None else account
    accounts = Known()
    accounts["ns", "sa"] = read_service_account(
        {name if "/" in name else PREFIX + name: value for name, value in annotations.items()}
    )
    body = {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {"uid": "u", "namespace": "ns", "object": pod},
    }
    return answer_review(json.dumps(body).encode(), accounts, settings)


def mutate(pod: JsonObject, account: dict[str, str] | None = None, settings: Settings = SETTINGS) -> JsonObject:
    """The Pod as the API server stores it; it must be let in."""
    answered = json.loads(review(pod, account, settings).body)
    assert answered["response"]["allowed"], answered["response"]["status"]
    return apply(pod, answered)


def refusal(pod: JsonObject, account: dict[str, str] | None = None, settings: Settings = SETTINGS) -> tuple[str, str]:
    """Why the Pod is refused: the word for metrics and the message."""
    answer = review(pod, account, settings)
    response = json.loads(answer.body)["response"]
    assert not response["allowed"]
    assert response["status"]["code"] == 400
    return answer.reason, response["status"]["message"]


def warnings(pod: JsonObject, account: dict[str, str] | None = None, settings: Settings = SETTINGS) -> list[str]:
    """The words of the warnings that a Pod gets."""
    return [warning.reason for warning in review(pod, account, settings).warnings]


def variables(container: JsonObject) -> JsonObject:
    """A container's variables in order; the last of a name wins, as in a container."""
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in container.get("env") or ()}


# --- Generated Pods -----------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_UNKNOWN = st.dictionaries(st.text(min_size=1, max_size=6).map(lambda name: f"x-{name}"), _JSON, max_size=2)
_NAMES = ("app", "side", "setup", "azwi-proxy", "azwi-proxy-init", "")
_VOLUMES = ("data", VOLUME, "azure-workload-identity-reserved-5ea618a82d38c4b9d0322273f1b4b2", "azure-identity-token")
_PATHS = ("/data", MOUNT, f"{MOUNT}/", "/var/run/secrets/azure/tokens", "/var/run", "/x")
_VARIABLES = ("A", "AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST")


def _objects(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> Any:  # noqa: ANN401
    """Objects of these members and of some that nobody knows."""
    return st.tuples(st.fixed_dictionaries(required, optional=optional), _UNKNOWN).map(
        lambda parts: {**parts[1], **parts[0]}
    )


def _unique_by(entries: st.SearchStrategy[JsonObject], member: str, most: int) -> st.SearchStrategy[list[JsonObject]]:
    return st.lists(entries, max_size=most, unique_by=lambda entry: str(entry.get(member)).rstrip("/"))


def _nullable(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


_ENV = _objects({"name": st.sampled_from(_VARIABLES)}, {"value": st.text(max_size=5), "valueFrom": _UNKNOWN})
_MOUNTS = _objects(
    {"name": st.sampled_from(_VOLUMES), "mountPath": st.sampled_from(_PATHS)}, {"readOnly": st.booleans()}
)
_PORTS = _objects({"containerPort": st.integers(1, 65535)}, {})
_CONTAINER = _objects(
    {"name": st.sampled_from(_NAMES)},
    {
        "env": _nullable(_unique_by(_ENV, "name", 4)),
        "volumeMounts": _nullable(_unique_by(_MOUNTS, "mountPath", 3)),
        "ports": _nullable(st.lists(_PORTS, max_size=1)),
        "args": _nullable(st.lists(st.sampled_from(["-v", "/var/run/secrets/azure/tokens/x"]), max_size=1)),
        "restartPolicy": st.just("Always"),
    },
)
_TOKEN = _objects(
    {"path": st.sampled_from(["token/azure-identity-token", "azure-identity-token"])},
    {"audience": st.sampled_from(["api://AzureADTokenExchange", "other"]), "expirationSeconds": st.just(7200)},
)
_SOURCE = _objects({}, {"serviceAccountToken": _TOKEN, "downwardAPI": _UNKNOWN})
_VOLUME = _objects(
    {"name": st.sampled_from(_VOLUMES)}, {"projected": _objects({}, {"sources": st.lists(_SOURCE, max_size=2)})}
)
_ANNOTATIONS = st.fixed_dictionaries(
    {},
    optional={
        PREFIX + "inject-proxy-sidecar": st.sampled_from(["true", "no", ""]),
        PREFIX + "proxy-mode": st.sampled_from(["redirect", "environment"]),
        PREFIX + "proxy-native-sidecar": st.sampled_from(["true", "no"]),
        PREFIX + "skip-containers": st.sampled_from(["side", "app; setup", ";"]),
        PREFIX + "legacy-token-path": st.sampled_from(["auto", "always", "never"]),
        PREFIX + "injected": st.just("{}"),
        "x/y": st.text(max_size=3),
    },
)


@st.composite
def pods(draw: st.DrawFn) -> JsonObject:
    """A Pod that an API server could send: names are unique, the rest is as odd as it likes."""
    containers = draw(_unique_by(_CONTAINER, "name", 4))
    split = draw(st.integers(0, len(containers)))
    spec = draw(
        _objects(
            {"serviceAccountName": st.just("sa"), "containers": st.just(containers[:split])},
            {
                "initContainers": _nullable(st.just(containers[split:])),
                "volumes": _nullable(_unique_by(_VOLUME, "name", 3)),
                "terminationGracePeriodSeconds": st.integers(0, 100_000),
            },
        )
    )
    metadata = draw(_objects({"name": st.just("pod")}, {"annotations": _nullable(_ANNOTATIONS)}))
    return {**draw(_UNKNOWN), "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
