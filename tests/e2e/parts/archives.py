"""Images for the node, as OCI archives: one on top of another, or from nothing. No registry, no builder."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MEDIA = "application/vnd.oci.image."


def _layer(files: Mapping[str, Path | bytes]) -> bytes:
    """An uncompressed layer; a folder comes with all that is below it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as layer:
        for name, content in files.items():
            if isinstance(content, bytes):
                member = tarfile.TarInfo(name)
                member.size, member.mode = len(content), 0o755
                layer.addfile(member, io.BytesIO(content))
            else:
                layer.add(content, name, filter=_readable)
    return buffer.getvalue()


def _readable(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.mode |= 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def write_image(
    path: Path,
    name: str,
    files: Mapping[str, Path | bytes],
    base: Path | None = None,
    **config: Any,  # noqa: ANN401
) -> Path:
    """An archive with one image.

    Args:
        path: Where it is written.
        name: Its reference.
        files: What the new layer brings, by path in the image.
        base: The archive of the image below, with its configuration.
        config: Members of the configuration that are other than the base's.
    """
    blobs: dict[str, bytes] = {}

    def blob(data: bytes, media: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": _MEDIA + media, "digest": f"sha256:{digest}", "size": len(data)}

    document: dict[str, Any] = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": []},
    }
    layers: list[dict[str, Any]] = []
    if base is not None:
        below = _read(base)
        manifest = json.loads(below[_digest(json.loads(below["index.json"])["manifests"][0])])
        document = json.loads(below[_digest(manifest["config"])])
        layers = manifest["layers"]
        for one in layers:
            blobs[one["digest"].removeprefix("sha256:")] = below[_digest(one)]
    layer = blob(_layer(files), "layer.v1.tar")
    document["config"] |= config
    document["rootfs"]["diff_ids"].append(layer["digest"])
    document.pop("history", None)
    described = {
        "schemaVersion": 2,
        "mediaType": _MEDIA + "manifest.v1+json",
        "config": blob(json.dumps(document).encode(), "config.v1+json"),
        "layers": [*layers, layer],
    }
    top = blob(json.dumps(described).encode(), "manifest.v1+json")
    top["annotations"] = {"org.opencontainers.image.ref.name": name}
    index = json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()
    entries = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": index}
    entries |= {f"blobs/sha256/{digest}": data for digest, data in blobs.items()}
    with tarfile.open(path, "w") as archive:
        for entry, data in entries.items():
            member = tarfile.TarInfo(entry)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def _digest(descriptor: dict[str, Any]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")


def _read(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as opened:
        files = {member.name.removeprefix("./"): opened.extractfile(member) for member in opened}
        return {name: file.read() for name, file in files.items() if file is not None}
