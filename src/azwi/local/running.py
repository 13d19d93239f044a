"""What runs of a Pod on this machine: the Pod as it was let in, and its proxy; no processes are started here."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from azwi.contract import PROXY_PORT_ANNOTATION
from azwi.errors import LocalError
from azwi.local.environment import Resolved, Sources, resolve_environment
from azwi.local.pod import Admitted, JsonObject, find_container
from azwi.local.processes import free_port

if TYPE_CHECKING:
    from azwi.local.tokens import TokenFiles


@dataclass(frozen=True, slots=True)
class RunningPod:
    """A Pod that was let in, with its tokens in files."""

    admitted: Admitted
    tokens: TokenFiles
    sources: Sources

    @property
    def name(self) -> str:
        """The Pod's name."""
        return str(self.admitted.pod["metadata"]["name"])

    @property
    def claims(self) -> list[JsonObject]:
        """What each of its tokens says."""
        return self.tokens.claims

    def resolve(self, container: str) -> Resolved:
        """The variables of one of its containers, and what of them could not be had."""
        pod = self.admitted.pod
        return resolve_environment(find_container(pod, container), pod, self.sources, self.tokens.volumes)

    def environment(self, container: str) -> dict[str, str]:
        """The variables of one of its containers."""
        return self.resolve(container).variables

    def has_container(self, name: str) -> bool:
        """Whether it has a container or init container of that name."""
        with contextlib.suppress(LocalError):
            return bool(find_container(self.admitted.pod, name))
        return False


@dataclass(frozen=True, slots=True)
class RunningProxy:
    """A proxy that is ready: its process, its port, the address of its metrics."""

    pid: int
    port: int
    metrics: str


def with_free_proxy_port(pod: JsonObject) -> JsonObject:
    """The Pod with a proxy port that nobody uses here; in a cluster each Pod has its own ports."""
    return with_annotations(pod, {PROXY_PORT_ANNOTATION: str(free_port())})


def with_annotations(pod: JsonObject, annotations: dict[str, str]) -> JsonObject:
    """The Pod with more annotations."""
    metadata = pod["metadata"]
    return {**pod, "metadata": {**metadata, "annotations": {**(metadata.get("annotations") or {}), **annotations}}}
