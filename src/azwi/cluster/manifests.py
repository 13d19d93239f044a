"""Kubernetes manifests in files: YAML or JSON, one document, many, or a List of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import yaml

from azwi.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAX_FILE_BYTES: Final = 32 * 1024 * 1024
SUFFIXES: Final = (".yaml", ".yml", ".json")

# libyaml's parser where the wheel has it: ten times faster, the same documents.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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
    return [manifest for file in list_files(path) for manifest in parse_manifests(_read(file), str(file))]


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


def _read(file: Path) -> bytes:
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
    try:
        documents = list(yaml.load_all(content, Loader=_Loader))  # it is a safe loader
    except (yaml.YAMLError, ValueError) as problem:
        detail = " ".join(str(problem).split())
        raise ManifestError(f"{where} is no YAML or JSON: {detail}") from problem
    except RecursionError as problem:
        raise ManifestError(f"{where} is nested too deeply") from problem
    return list(_flatten((f"{where}, document {number}", document) for number, document in enumerate(documents, 1)))


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
