"""Reads an image from its OCI archive: configuration, and the files of all layers as one root."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Image:
    """An image: its digest, its configuration, and the members of its root by path without a leading slash."""

    digest: str
    config: dict[str, Any]
    members: dict[str, tarfile.TarInfo]
    contents: dict[str, bytes]

    @property
    def size(self) -> int:
        """Bytes of all files, unpacked."""
        return sum(member.size for member in self.members.values())


def read_image(archive: Path) -> Image:
    """The image in an OCI archive; it has one manifest, and no layer takes away what another brought.

    Raises:
        OSError: The archive cannot be read.
        KeyError: It is no OCI archive.
    """
    with tarfile.open(archive) as outer:
        files = {member.name.removeprefix("./"): member for member in outer}

        def blob(name: str) -> bytes:
            file = outer.extractfile(files[name])
            if file is None:
                raise KeyError(name)
            return file.read()

        index = json.loads(blob("index.json"))
        digest = index["manifests"][0]["digest"]
        manifest = json.loads(blob(_path(digest)))
        config = json.loads(blob(_path(manifest["config"]["digest"])))
        members: dict[str, tarfile.TarInfo] = {}
        contents: dict[str, bytes] = {}
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=io.BytesIO(blob(_path(layer["digest"])))) as inner:
                for member in inner:
                    name = member.name.removeprefix("./").rstrip("/")
                    members[name] = member
                    if file := inner.extractfile(member) if member.isfile() else None:
                        contents[name] = file.read()
    return Image(digest, config, members, contents)


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")
