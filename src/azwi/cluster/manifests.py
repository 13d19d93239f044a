"""Kubernetes manifests in files: YAML or JSON, one document, many, or a List of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

import yaml

from azwi.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_FILE_BYTES: Final = 32 * 1024 * 1024
SUFFIXES: Final = (".yaml", ".yml", ".json")


def _forms(word: str) -> tuple[str, str, str]:
    return word, word.capitalize(), word.upper()


# libyaml's parser where the wheel has it: ten times faster, the same documents.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # a safe one, chosen here
    """YAML as Kubernetes reads it: neither times nor base 60, `0o17` and `1e3` are numbers, `y` and `on` booleans.

    Source: resolve.go of go.yaml.in/yaml/v2, which sigs.k8s.io/yaml uses.
    """

    yaml_implicit_resolvers: ClassVar[dict[str, list[tuple[str, re.Pattern[str]]]]] = {}


_TAG: Final = "tag:yaml.org,2002:"
_WORDS: Final = [form for word in ("y", "yes", "true", "on", "n", "no", "false", "off") for form in _forms(word)]
_NUMBER: Final = "-+.0123456789"
for _kind, _pattern, _first in (
    ("bool", "|".join(_WORDS), "yYtToOnNfF"),
    ("int", "[-+]?(0b[01_]+|0[xX][0-9a-fA-F_]+|0o[0-7_]+|0[0-7_]*|[1-9][0-9_]*)", _NUMBER),
    ("float", r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?", _NUMBER),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", _NUMBER),
    ("merge", "<<", "<"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    _Loader.add_implicit_resolver(_TAG + _kind, re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor(_TAG + "timestamp", _Loader.construct_yaml_str)
_Loader.bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}


def reads_as_text(value: str) -> bool:
    """Whether the value, written without quotes, is still text to Kubernetes."""
    return not any(pattern.match(value) for _, pattern in _Loader.yaml_implicit_resolvers.get(value[:1], ()))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One document, and where it stands, for errors: `pods.yaml, document 2, item 3`."""

    where: str
    document: dict[str, Any]

    @property
    def kind(self) -> str:
        """The document's kind; every manifest has one."""
        return str(self.document["kind"])


def read_manifests(path: Path) -> list[Manifest]:
    """All manifests of a file, or of the YAML and JSON files of a folder in the order of their names.

    Raises:
        ManifestError: It cannot be read, or holds something that is no manifest.
    """
    return [manifest for file in list_files(path) for manifest in parse_manifests(read_file(file), str(file))]


def list_files(path: Path) -> list[Path]:
    """The files that `read_manifests` reads.

    Raises:
        ManifestError: The path does not exist, or is a folder without such files.
    """
    if not path.exists():
        raise ManifestError(f"{path} does not exist", hint="name a YAML or JSON file, or a folder of them")
    if not path.is_dir():
        return [path]
    # A mounted ConfigMap is a folder of links beside hidden ones.
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    if not files:
        raise ManifestError(f"folder {path} has no manifest", hint=f"files must end in {', '.join(SUFFIXES)}")
    return files


def read_file(file: Path) -> bytes:
    """The content of a file of at most `MAX_FILE_BYTES`.

    Raises:
        ManifestError: It cannot be read, or is larger.
    """
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as problem:
        raise ManifestError(f"{file} cannot be read: {problem.strerror}") from problem
    if len(content) > MAX_FILE_BYTES:
        raise ManifestError(f"{file} is larger than {MAX_FILE_BYTES} bytes")
    return content


def parse_manifests(content: bytes, where: str) -> list[Manifest]:
    """The manifests of a file's content; Lists are taken apart, empty documents left out.

    Raises:
        ManifestError: It is no YAML or JSON, or a document is no manifest.
    """
    documents = load_documents(content, where)
    return list(_flatten((f"{where}, document {number}", document) for number, document in enumerate(documents, 1)))


def load_documents(content: bytes | str, where: str) -> list[Any]:
    """The documents of a file's content, whatever they are; an empty one is None.

    Raises:
        ManifestError: It is no YAML or JSON.
    """
    try:
        return list(yaml.load_all(content, Loader=_Loader))
    except (yaml.YAMLError, ValueError) as problem:
        detail = " ".join(str(problem).split())
        raise ManifestError(f"{where} is no YAML or JSON: {detail}") from problem
    except (LookupError, AttributeError) as problem:  # PyYAML's own, for `!!bool x` and its like
        raise ManifestError(f"{where} is no YAML or JSON: a value does not fit its tag") from problem
    except RecursionError as problem:
        raise ManifestError(f"{where} is nested too deeply") from problem


def _flatten(documents: Iterable[tuple[str, Any]]) -> Iterator[Manifest]:
    for where, document in documents:
        if document is None:
            continue
        if not isinstance(document, dict):
            raise ManifestError(f"{where} is a {type(document).__name__}, not an object with apiVersion and kind")
        kind, items = document.get("kind"), document.get("items")
        if not isinstance(kind, str) or not kind:
            raise ManifestError(f"{where} has no kind", hint="each document needs apiVersion and kind")
        if not kind.endswith("List"):
            yield Manifest(where, document)
        elif isinstance(items, list):
            item_kind = kind.removesuffix("List")
            yield from _flatten(
                (f"{where}, item {number}", _with_kind(item, item_kind)) for number, item in enumerate(items, 1)
            )
        elif items is not None:
            raise ManifestError(f"{where}: items of a {kind} must be a list")


def _with_kind(item: object, kind: str) -> object:
    """The item of a typed list such as a ServiceAccountList, which need not repeat its kind."""
    return {"kind": kind, **item} if kind and isinstance(item, dict) else item
