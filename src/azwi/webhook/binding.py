"""Identity binding in flags and configuration: the custom token endpoint of Pods that ask for it (R 2.8, R 4)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import msgspec

from azwi.admission.pod import JsonObject, View
from azwi.admission.settings import CustomEndpoint
from azwi.contract import CA_PATH, CUSTOM_ENDPOINT_ANNOTATION_PREFIX, DEFAULT_AUDIENCE
from azwi.errors import ConfigurationError, FlagError

Lookup = Callable[[str], str]

# A qualified name of Kubernetes: at most 63 characters behind the slash.
_QUALIFIED_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", re.ASCII)
_CA_KEYS: Final = (
    "AZURE_KUBERNETES_CA_DATA",
    "AZURE_KUBERNETES_CA_CONFIGMAP_NAME",
    "AZURE_KUBERNETES_CA_CTB_SIGNER_NAME",
)
_SELECTOR_KEY: Final = "AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR"


class _Requirement(View, omit_defaults=True):
    key: str
    operator: str
    values: list[str] | None = None


class _LabelSelector(View, omit_defaults=True):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Requirement] | None = None


def read_custom_endpoint(suffix: str, audience: str, get: Lookup) -> CustomEndpoint | None:
    """The custom endpoint, None where it is off; the CA's keys are checked in either case.

    Args:
        suffix: Flag --custom-token-endpoint-annotation-suffix.
        audience: Flag --custom-token-endpoint-audience.
        get: Gives a configuration key's value, empty when not set.

    Raises:
        FlagError: One of the two flags is given alone or with a value that is not allowed.
        ConfigurationError: The CA's keys contradict each other.
    """
    ca_source = read_ca_source(get)
    if not suffix and not audience:
        return None
    if not suffix or not audience:
        raise FlagError(
            "--custom-token-endpoint-annotation-suffix and --custom-token-endpoint-audience go together",
            hint="set both or none",
        )
    if audience.lower() == DEFAULT_AUDIENCE.lower():
        raise FlagError(f"flag --custom-token-endpoint-audience is the default audience {DEFAULT_AUDIENCE}")
    annotation = CUSTOM_ENDPOINT_ANNOTATION_PREFIX + suffix
    if _QUALIFIED_NAME.fullmatch(annotation.partition("/")[2]) is None:
        raise FlagError(
            f'flag --custom-token-endpoint-annotation-suffix is "{suffix}"; allowed: letters, digits, - _ and ., '
            "ending with a letter or digit, at most 59 characters"
        )
    return CustomEndpoint(
        annotation=annotation,
        audience=audience,
        token_proxy=get("AZURE_KUBERNETES_TOKEN_PROXY"),
        sni_name=get("AZURE_KUBERNETES_SNI_NAME"),
        ca_data=get("AZURE_KUBERNETES_CA_DATA"),
        ca_source=ca_source,
    )


def read_ca_source(get: Lookup) -> JsonObject | None:
    """The projected source of the CA file, None where the keys name none.

    Raises:
        ConfigurationError: More than one CA is named, or the selector is wrong.
    """
    if sum(bool(get(key)) for key in _CA_KEYS) > 1:
        raise ConfigurationError(f"only one of {_CA_KEYS[0]}, {_CA_KEYS[1]} or {_CA_KEYS[2]} can be set")
    config_map, signer = get("AZURE_KUBERNETES_CA_CONFIGMAP_NAME"), get("AZURE_KUBERNETES_CA_CTB_SIGNER_NAME")
    selector = _read_selector(get(_SELECTOR_KEY))
    if selector is not None and not signer:
        raise ConfigurationError(f"{_SELECTOR_KEY} is set without AZURE_KUBERNETES_CA_CTB_SIGNER_NAME")
    if config_map:
        items = [{"key": "ca.crt", "path": CA_PATH}]
        return {"configMap": {"name": config_map, "items": items, "optional": False}}
    if not signer:
        return None
    bundle: JsonObject = {"signerName": signer, "path": CA_PATH, "optional": False}
    if selector is not None:
        bundle["labelSelector"] = selector
    return {"clusterTrustBundle": bundle}


def _read_selector(text: str) -> JsonObject | None:
    if not text.strip():
        return None
    try:
        selector = msgspec.json.decode(text, type=_LabelSelector)
    except (msgspec.DecodeError, RecursionError) as problem:
        raise ConfigurationError(f"{_SELECTOR_KEY} is no LabelSelector in JSON: {problem}") from problem
    rendered: JsonObject = msgspec.to_builtins(selector)
    return rendered
