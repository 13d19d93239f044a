"""What of a manifest a local run relies on, checked as the API server would check it; no I/O.

Only the fields that are read here have types; all else may be anything.

Sources: kubernetes.io/docs, "Object Names and IDs"; kubernetes/pkg/apis/core/validation (environment variables, paths
of projected volumes).
"""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeAlias

import msgspec

from azwi.errors import ManifestError

_PART: Final = "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"  # RFC 1123
_LABEL: Final = rf"\A{_PART}\Z"
_SUBDOMAIN: Final = rf"\A{_PART}(\.{_PART})*\Z"
_TEXT: Final = r"\A[^\0]*\Z"
_VARIABLE: Final = r"\A[^=\0]+\Z"
_INSIDE: Final = r"\A(?!/)(?!(.*/)?\.\.(/|\Z))[^\0]+\Z"
# What each pattern means, for people.
_WORDS: Final = {
    _LABEL: "must be 1 to 63 lower case letters, digits and -, the first and last no -",
    _SUBDOMAIN: "must be lower case letters, digits, - and ., each part beginning and ending with a letter or digit",
    _TEXT: "must not hold a null character",
    _VARIABLE: "must not be empty or hold = or a null character",
    _INSIDE: "must be a relative path without ..",
}

Label: TypeAlias = Annotated[str, msgspec.Meta(pattern=_LABEL)]
Subdomain: TypeAlias = Annotated[str, msgspec.Meta(pattern=_SUBDOMAIN, max_length=253)]
Text: TypeAlias = Annotated[str, msgspec.Meta(pattern=_TEXT)]
Variable: TypeAlias = Annotated[str, msgspec.Meta(pattern=_VARIABLE)]
Inside: TypeAlias = Annotated[str, msgspec.Meta(pattern=_INSIDE)]


class _Shape(msgspec.Struct, rename="camel"):
    """A part of a manifest; a member that is null counts as absent."""


class _Reference(_Shape):
    name: str | None = None
    key: str | None = None
    optional: bool | None = None


class _Field(_Shape):
    field_path: str | None = None


class _Origin(_Shape):
    field_ref: _Field | None = None
    config_map_key_ref: _Reference | None = None
    secret_key_ref: _Reference | None = None
    resource_field_ref: dict[str, Any] | None = None


class _Variable(_Shape):
    name: Variable
    value: Text | None = None
    value_from: _Origin | None = None


class _Variables(_Shape):
    prefix: str | None = None
    config_map_ref: _Reference | None = None
    secret_ref: _Reference | None = None


class _Mount(_Shape):
    name: str
    mount_path: str


class _Container(_Shape):
    name: Label
    command: list[Text] | None = None
    args: list[Text] | None = None
    working_dir: Text | None = None
    env: list[_Variable] | None = None
    env_from: list[_Variables] | None = None
    volume_mounts: list[_Mount] | None = None


class _Token(_Shape):
    path: Inside
    audience: str | None = None
    expiration_seconds: int | None = None


class _Source(_Shape):
    service_account_token: _Token | None = None


class _Projected(_Shape):
    sources: list[_Source] | None = None


class _Volume(_Shape):
    name: Label
    projected: _Projected | None = None


class _Spec(_Shape):
    containers: list[_Container]
    init_containers: list[_Container] | None = None
    volumes: list[_Volume] | None = None
    service_account_name: Subdomain | None = None
    node_name: str | None = None


class _Metadata(_Shape):
    name: Subdomain | None = None
    namespace: Label | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class _Pod(_Shape):
    spec: _Spec
    metadata: _Metadata | None = None


class _Other(_Shape):
    metadata: dict[str, Any] | None = None


def check_pod(document: object, where: str) -> None:
    """Refuse a Pod or Pod template that the API server would refuse, as far as its fields are read here.

    Raises:
        ManifestError: With the field.
    """
    _check(document, _Pod, where)


def check_document(document: object, where: str) -> None:
    """Refuse a manifest whose metadata is no object; service accounts are checked where they are indexed.

    Raises:
        ManifestError: With the field.
    """
    _check(document, _Other, where)


def _check(document: object, shape: type[_Shape], where: str) -> None:
    try:
        msgspec.convert(document, type=shape)
    except msgspec.ValidationError as problem:
        what, _, path = str(problem).partition(" - at ")
        field = path.strip("`").removeprefix("$").removeprefix(".") or "the document"
        _, _, pattern = what.partition("matching regex ")
        words = next((words for known, words in _WORDS.items() if pattern == repr(known)), "")
        raise ManifestError(f"{where}: {field}: {words or what[:1].lower() + what[1:]}") from problem
