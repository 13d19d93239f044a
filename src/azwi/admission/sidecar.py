"""What a Pod asks of the proxy: whether, on which port, how programs reach it, with which resources."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from azwi.admission.lifetime import DEFAULT_GRACE_PERIOD
from azwi.admission.pod import Pod, PodSpec, is_native_sidecar, is_ours, is_windows
from azwi.admission.values import BOOLEANS, is_object_name, parse_boolean, parse_integer, parse_quantity
from azwi.admission.verdict import AdmissionWarning, Refusal, refuse_annotation, warn
from azwi.contract import (
    DEFAULT_PROXY_PORT,
    DRAIN_MARGIN,
    IDENTITY_MAP_ANNOTATION,
    INJECT_PROXY_ANNOTATION,
    PREFIX,
    PROXY_CONTAINER,
    PROXY_INIT_CONTAINER,
    PROXY_MODE_ANNOTATION,
    PROXY_NATIVE_ANNOTATION,
    PROXY_PORT_ANNOTATION,
    PROXY_QUIT_ANNOTATION,
    RESOURCE_ANNOTATION_PREFIXES,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.admission.settings import ProxySettings, Resources

MAX_PORT: Final = 65535
FIRST_UNPRIVILEGED_PORT: Final = 1024
ENDING: Final = ("Never", "OnFailure")  # restart policies of Pods that are done when their containers are
QUANTITIES: Final = "a Kubernetes quantity such as 10m, 500m, 40Mi or 1Gi, or the empty string for none"

_FIELDS: Final = {
    "cpu-request": "cpu_request",
    "cpu-limit": "cpu_limit",
    "memory-request": "memory_request",
    "memory-limit": "memory_limit",
}


class ProxyMode(StrEnum):
    """How programs reach the proxy: IMDS traffic is redirected, or a variable names the proxy (D 10)."""

    REDIRECT = "redirect"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """A Pod that asks for the proxy, with what it asks for.

    `native` is whether azwi-proxy becomes an init container with restartPolicy Always, else it is one of the Pod's
    containers. `identity_map` is the name of a ConfigMap, empty for none. `drain_seconds` is how long a plain sidecar
    may go on after SIGTERM, which comes to it together with the application.
    """

    port: int
    mode: ProxyMode
    resources: Resources
    init_resources: Resources
    native: bool = True
    quit: bool = False
    identity_map: str = ""
    drain_seconds: int = 0


def read_proxy_request(pod: Pod, spec: PodSpec, settings: ProxySettings) -> ProxyRequest | Refusal | None:
    """What the Pod's annotations ask of the proxy; None where they ask for none.

    Without the request the other proxy annotations are not read, not even for errors (R 2.4).
    """
    annotations = pod.annotations
    text = annotations.get(INJECT_PROXY_ANNOTATION)
    wanted = text is not None and parse_boolean(text)
    if text is not None and wanted is None:
        return refuse_annotation("inject-proxy-sidecar", INJECT_PROXY_ANNOTATION, text, BOOLEANS)
    if not wanted:
        return None
    return _impossible_place(spec) or _read_request(annotations, spec, settings)


def _read_request(annotations: Mapping[str, str], spec: PodSpec, settings: ProxySettings) -> ProxyRequest | Refusal:
    port = _read_port(annotations)
    if isinstance(port, Refusal):
        return port
    mode = annotations.get(PROXY_MODE_ANNOTATION, ProxyMode.REDIRECT)
    if mode not in tuple(ProxyMode):
        return refuse_annotation("proxy-mode", PROXY_MODE_ANNOTATION, mode, " or ".join(ProxyMode))
    resources = read_resources(annotations, PROXY_CONTAINER, settings.resources)
    if isinstance(resources, Refusal):
        return resources
    init_resources = read_resources(annotations, PROXY_INIT_CONTAINER, settings.init_resources)
    if isinstance(init_resources, Refusal):
        return init_resources
    native = _read_boolean(annotations, PROXY_NATIVE_ANNOTATION, default=settings.native_sidecar)
    if isinstance(native, Refusal):
        return native
    may_quit = _read_boolean(annotations, PROXY_QUIT_ANNOTATION, default=False)
    if isinstance(may_quit, Refusal):
        return may_quit
    identity_map = annotations.get(IDENTITY_MAP_ANNOTATION, "")
    if identity_map and not is_object_name(identity_map):
        return refuse_annotation("identity-map", IDENTITY_MAP_ANNOTATION, identity_map, "the name of a ConfigMap")
    grace = spec.termination_grace_period_seconds
    drain = max(0, (DEFAULT_GRACE_PERIOD if grace is None else grace) - DRAIN_MARGIN)
    return ProxyRequest(port, ProxyMode(mode), resources, init_resources, native, may_quit, identity_map, drain)


def _read_boolean(annotations: Mapping[str, str], annotation: str, *, default: bool) -> bool | Refusal:
    text = annotations.get(annotation)
    if text is None:
        return default
    value = parse_boolean(text)
    return refuse_annotation(annotation.removeprefix(PREFIX), annotation, text, BOOLEANS) if value is None else value


def _impossible_place(spec: PodSpec) -> Refusal | None:
    if is_windows(spec):
        return Refusal(
            "proxy-windows",
            "cannot inject proxy sidecar into a Windows Pod: the proxy and its redirect are Linux containers; "
            f"remove annotation {INJECT_PROXY_ANNOTATION}",
        )
    if spec.host_network:
        return Refusal(
            "proxy-host-network",
            "hostNetwork is set to true, cannot inject proxy sidecar: it would answer for the whole node; "
            f"unset hostNetwork or remove annotation {INJECT_PROXY_ANNOTATION}",
        )
    return None


def _read_port(annotations: Mapping[str, str]) -> int | Refusal:
    text = annotations.get(PROXY_PORT_ANNOTATION)
    if text is None:
        return DEFAULT_PROXY_PORT
    port = parse_integer(text)
    if port is None or not 1 <= port <= MAX_PORT:
        return refuse_annotation("proxy-port", PROXY_PORT_ANNOTATION, text, f"a port from 1 to {MAX_PORT}")
    return port


def read_resources(annotations: Mapping[str, str], container: str, default: Resources) -> Resources | Refusal:
    """The resources of one of our containers: the operator's, overridden by the Pod's annotations (D 11)."""
    prefix = RESOURCE_ANNOTATION_PREFIXES[container]
    changes = {}
    for name, field in _FIELDS.items():
        text = annotations.get(prefix + name)
        if text is None:
            continue
        if text and parse_quantity(text) is None:
            return refuse_annotation("proxy-resources", prefix + name, text, QUANTITIES)
        changes[field] = text
    if not changes:
        return default
    resources = replace(default, **changes)
    for kind in ("cpu", "memory"):
        request, limit = getattr(resources, f"{kind}_request"), getattr(resources, f"{kind}_limit")
        if exceeds(request, limit):
            allowed = f"at most the {kind} limit {limit}; {prefix}{kind}-limit raises it"
            return refuse_annotation("proxy-resources", f"{prefix}{kind}-request", request, allowed)
    return resources


def exceeds(request: str, limit: str) -> bool:
    """Whether a request is above its limit; neither is where one is not set."""
    wanted, most = parse_quantity(request), parse_quantity(limit)
    return wanted is not None and most is not None and wanted > most


def proxy_warnings(request: ProxyRequest, spec: PodSpec) -> list[AdmissionWarning]:
    """What the author of a Pod with the proxy should know."""
    warnings = []
    if request.port < FIRST_UNPRIVILEGED_PORT:
        text = f"proxy port {request.port} is below {FIRST_UNPRIVILEGED_PORT}; the proxy's user may not bind it"
        warnings.append(warn("proxy-port-privileged", text))
    for container in [*(spec.init_containers or ()), *(spec.containers or ())]:
        ports = {port.container_port for port in container.ports or ()}
        if request.port in ports and container.name != PROXY_CONTAINER:
            text = f"proxy port {request.port} is also declared by container {container.name}"
            warnings.append(warn("proxy-port-taken", text, fatal=True))
            break
    if not request.native and not _has_native_proxy(spec):
        warnings += _plain_warnings(request, spec)
    return warnings


def _plain_warnings(request: ProxyRequest, spec: PodSpec) -> list[AdmissionWarning]:
    warnings = []
    if any(not is_ours(container) for container in spec.init_containers or ()):
        text = "no proxy runs while init containers do: one that asks IMDS for a token will wait in vain"
        warnings.append(warn("proxy-plain-sidecar", text))
    if spec.restart_policy in ENDING and not request.quit:
        text = f"a plain {PROXY_CONTAINER} keeps this Pod from ending, unless annotation proxy-quit lets the Pod end it"
        warnings.append(warn("proxy-never-ends", text))
    return warnings


def _has_native_proxy(spec: PodSpec) -> bool:
    return any(
        container.name == PROXY_CONTAINER and is_native_sidecar(container) for container in spec.init_containers or ()
    )
