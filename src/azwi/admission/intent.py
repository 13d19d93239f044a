"""What the annotations of a Pod and its service account ask for, all read and found allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from azwi.admission.lifetime import Lifetime, resolve_lifetime
from azwi.admission.pod import EMPTY_SPEC, Pod, declares_windows, is_windows
from azwi.admission.serviceaccount import CLIENT_ID_FROM_FORM, ServiceAccount
from azwi.admission.settings import CustomEndpoint, LegacyTokenPath, Settings
from azwi.admission.sidecar import ProxyRequest, proxy_warnings, read_proxy_request
from azwi.admission.verdict import AdmissionWarning, Refusal, refuse_annotation, warn
from azwi.contract import (
    CLIENT_ID_ANNOTATION,
    CLIENT_ID_FROM_ANNOTATION,
    EXPIRATION_ANNOTATION,
    LEGACY_TOKEN_PATH_ANNOTATION,
    SKIP_CONTAINERS_ANNOTATION,
    TENANT_ID_ANNOTATION,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEGACY_TOKEN_PATHS: Final = {path.value: path for path in LegacyTokenPath}


class Intent(msgspec.Struct, frozen=True):
    """What is asked for.

    `proxy` is None without a proxy, `endpoint` None for a Pod outside identity binding. `skipped` are names of
    containers that get neither variables nor mount.
    """

    lifetime: Lifetime
    proxy: ProxyRequest | None
    endpoint: CustomEndpoint | None
    legacy: LegacyTokenPath
    skipped: frozenset[str]


def read_intent(pod: Pod, account: ServiceAccount, settings: Settings) -> Intent | Refusal:
    """What the annotations ask for; the first one that is not allowed decides, in the reference's order (R 2.1)."""
    annotations, spec = pod.annotations, pod.spec or EMPTY_SPEC
    proxy = read_proxy_request(pod, spec, settings.proxy)
    if isinstance(proxy, Refusal):
        return proxy
    lifetime = resolve_lifetime(
        annotations.get(EXPIRATION_ANNOTATION, ""), account.expiration, spec.termination_grace_period_seconds
    )
    if isinstance(lifetime, Refusal):
        return lifetime
    reference = account.client_id_from_text
    if reference is not None and account.client_id_from is None and not account.client_id:
        return refuse_annotation(
            "client-id-from", CLIENT_ID_FROM_ANNOTATION, reference, CLIENT_ID_FROM_FORM, on="service account"
        )
    text = annotations.get(LEGACY_TOKEN_PATH_ANNOTATION)
    legacy = settings.legacy_token_path if text is None else _LEGACY_TOKEN_PATHS.get(text)
    if legacy is None:
        return refuse_annotation("legacy-token-path", LEGACY_TOKEN_PATH_ANNOTATION, text or "", "auto, always or never")
    return Intent(
        lifetime,
        proxy,
        _read_endpoint(annotations, settings.custom_endpoint),
        legacy,
        _read_skipped(annotations),
    )


def _read_endpoint(annotations: Mapping[str, str], endpoint: CustomEndpoint | None) -> CustomEndpoint | None:
    if endpoint is None or annotations.get(endpoint.annotation, "").lower() != "true":
        return None
    return endpoint


def _read_skipped(annotations: Mapping[str, str]) -> frozenset[str]:
    text = annotations.get(SKIP_CONTAINERS_ANNOTATION, "")
    return frozenset(name.strip() for name in text.split(";")) if text else frozenset()


def intent_warnings(pod: Pod, account: ServiceAccount, intent: Intent) -> list[AdmissionWarning]:
    """What the author should know about what was asked for (D 7)."""
    spec, annotations = pod.spec or EMPTY_SPEC, pod.annotations
    warnings = list(account.warnings)
    for annotation in (CLIENT_ID_ANNOTATION, TENANT_ID_ANNOTATION):
        if annotation in annotations:
            text = f"annotation {annotation} is read on the service account, not on the Pod"
            warnings.append(warn("annotation-on-pod", text))
    if intent.lifetime.warning is not None:
        warnings.append(intent.lifetime.warning)
    if intent.proxy is not None:
        warnings += proxy_warnings(intent.proxy, spec)
    if is_windows(spec) and not declares_windows(spec):
        text = "a Windows Pod should set spec.os.name: windows, else the kubelet may fail to write the token"
        warnings.append(warn("windows-os-name", text))
    return warnings
