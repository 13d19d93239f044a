"""The recorded cases of the Go reference, and the effect by which ours is compared with them."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonpatch
import yaml

from azwi.admission.settings import NativeSidecar, Settings, uses_native_sidecar
from azwi.cluster.manifests import parse_manifests
from azwi.webhook.accounts import AccountKey, index_accounts
from azwi.webhook.mutation import answer_review
from azwi.webhook.settings import read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azwi.admission.serviceaccount import ServiceAccount

JsonObject = dict[str, Any]

FOLDER = Path(__file__).parent.parent / "vectors" / "admission"
MOUNT_PATH = "/var/run/secrets/azure/wi"
STAMP = "azure.workload.identity/injected"
PROXIES = ("azwi-proxy", "azwi-proxy-init")


@dataclass(frozen=True)
class Vector:
    """One recorded case."""

    data: JsonObject

    @property
    def id(self) -> str:
        """The case's name."""
        return str(self.data["id"])

    @property
    def body(self) -> bytes:
        """What is posted."""
        http = self.data.get("http")
        return json.dumps(self.data["review"]).encode() if http is None else str(http["body"]).encode()

    @property
    def pod(self) -> JsonObject:
        """The Pod in the review."""
        pod: JsonObject = self.data["review"]["request"]["object"]
        return pod

    @property
    def reference(self) -> JsonObject:
        """What the reference answered."""
        reference: JsonObject = self.data["reference"]
        return reference

    def body_with(self, pod: JsonObject) -> bytes:
        """The same review about another Pod."""
        review = self.data["review"]
        return json.dumps({**review, "request": {**review["request"], "object": pod}}).encode()


class Known(dict[AccountKey, "ServiceAccount"]):
    """Accounts by namespace and name."""

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account, if it is known."""
        return self.get((namespace, name))


def load(name: str) -> Vector:
    """The case of that name."""
    return Vector(json.loads((FOLDER / f"{name}.json").read_text()))


def load_all() -> list[Vector]:
    """All cases."""
    return [Vector(json.loads(path.read_text())) for path in sorted(FOLDER.glob("*.json"))]


def accounts_of(vector: Vector) -> Known:
    """The service accounts of a case; whether cached or only at the API is all one here."""
    return Known(index_accounts(parse_manifests(yaml.safe_dump(vector.data["serviceAccount"]).encode(), vector.id)))


def settings_of(vector: Vector, *more_flags: str) -> Settings:
    """The settings that the case's flags and environment give ours."""
    config = vector.data["config"]
    settings = read_settings([*config["flags"], *more_flags], config["env"], lambda path: Path(path).read_bytes())
    native = uses_native_sidecar(NativeSidecar.AUTO, config["kubernetes_version"])
    return replace(settings.admission, proxy=replace(settings.admission.proxy, native_sidecar=native))


def answer(vector: Vector, body: bytes | None = None, *more_flags: str) -> JsonObject:
    """Our answer to a case's review, or to another body with the case's settings and accounts."""
    reply = answer_review(vector.body if body is None else body, accounts_of(vector), settings_of(vector, *more_flags))
    answered: JsonObject = json.loads(reply.body)
    return answered


def apply(pod: JsonObject, answered: JsonObject) -> JsonObject:
    """The Pod after our patch, by an implementation of JSON Patch that is not ours."""
    patch = answered["response"].get("patch")
    if patch is None:
        return pod
    patched: JsonObject = jsonpatch.apply_patch(pod, json.loads(base64.b64decode(patch)))
    return patched


def containers(pod: JsonObject) -> Iterator[tuple[str, JsonObject]]:
    """Each container with a name for it: the list's and its own."""
    for kind in ("initContainers", "containers"):
        for container in pod["spec"].get(kind) or ():
            yield f"{kind}/{container.get('name', '')}", container


def token_of(pod: JsonObject, container: JsonObject) -> list[JsonObject]:
    """The tokens that the program finds where its variable says, as the kubelet would resolve it."""
    variables = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
    file = variables.get("AZURE_FEDERATED_TOKEN_FILE") or f"{MOUNT_PATH}/token/azure-identity-token"
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    return [
        {"audience": token["audience"], "expiration": token["expirationSeconds"], "readOnly": mount.get("readOnly")}
        for mount in container.get("volumeMounts") or ()
        for source in (volumes.get(mount["name"], {}).get("projected") or {}).get("sources") or ()
        if (token := source.get("serviceAccountToken")) is not None
        and f"{mount['mountPath'].rstrip('/')}/{token['path']}" == file
    ]


def effect(pod: JsonObject) -> JsonObject:
    """What a Pod's programs see of an injection: variables and tokens of each container that is not a proxy."""
    seen = {}
    for name, container in containers(pod):
        if container.get("name") in PROXIES:
            continue
        variables = {
            entry["name"]: entry.get("value", entry.get("valueFrom", ""))
            for entry in container.get("env") or ()
            if entry["name"].startswith("AZURE_")
        }
        seen[name] = {"variables": variables, "tokens": token_of(pod, container)}
    return seen


def authors_part(pod: JsonObject) -> JsonObject:
    """The Pod without what an earlier injection keeps up to date: audience and life of the token, and the stamp."""
    kept: JsonObject = json.loads(json.dumps(pod))
    ((kept.get("metadata") or {}).get("annotations") or {}).pop(STAMP, None)
    for volume in kept["spec"].get("volumes") or ():
        if volume["name"].startswith("azure-workload-identity-reserved-"):
            for source in (volume.get("projected") or {}).get("sources") or ():
                for member in ("audience", "expirationSeconds"):
                    source.get("serviceAccountToken", {}).pop(member, None)
    return kept


def preserved(before: Any, after: Any) -> bool:  # noqa: ANN401  # any JSON value
    """Whether nothing that was there is gone or changed: objects only grow, lists only get more entries."""
    if isinstance(before, dict):
        return isinstance(after, dict) and all(
            name in after and (value is None or preserved(value, after[name])) for name, value in before.items()
        )
    if isinstance(before, list):
        rest: Iterator[Any] = iter(after if isinstance(after, list) else ())
        return all(any(preserved(entry, candidate) for candidate in rest) for entry in before)
    return type(before) is type(after) and bool(before == after)
