"""Writes the software bill of materials of an image (CycloneDX 1.6) beside it, prints its size, and refuses a fat one.

python image/sbom.py ARCHIVE [--limit MEGABYTES]
"""

from __future__ import annotations

import argparse
import re
import sys
import uuid
from datetime import datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from archive import Image, read_image

if TYPE_CHECKING:
    from email.message import Message

MEGABYTE = 1_000_000
_DEBIAN = "var/lib/dpkg/status.d/"
_NAMESPACE = uuid.UUID("5d2b8f0e-6d5f-4c38-9a0b-6b2f6a1b7c11")  # of the serial numbers below; any constant will do


def describe_contents(image: Image) -> Bom:
    """Every Debian and Python package in the image; the same image gives the same document."""
    labels = image.config["config"]["Labels"]
    name, version = (labels[f"org.opencontainers.image.{key}"] for key in ("title", "version"))
    bom = Bom(serial_number=uuid.uuid5(_NAMESPACE, image.digest))
    bom.metadata.timestamp = datetime.fromisoformat(labels["org.opencontainers.image.created"])
    digest = PackageURL("oci", None, name, image.digest, {"arch": image.config["architecture"]})
    bom.metadata.component = Component(
        name=name, version=version, type=ComponentType.CONTAINER, purl=digest, bom_ref=str(digest)
    )
    for found in (*_debian_packages(image), *_python_packages(image)):
        bom.components.add(found)
    bom.register_dependency(bom.metadata.component, bom.components)
    return bom


def _debian_packages(image: Image) -> list[Component]:
    found = []
    for path, content in image.contents.items():
        if path.startswith(_DEBIAN):
            status = HeaderParser().parsestr(content.decode())
            qualifiers = {"arch": status["Architecture"]}
            purl = PackageURL("deb", "debian", status["Package"], status["Version"], qualifiers)
            found.append(_component(status["Package"], status["Version"], purl, None))
    return found


def _python_packages(image: Image) -> list[Component]:
    found = []
    for path, content in image.contents.items():
        if path.endswith(".dist-info/METADATA"):
            metadata = HeaderParser().parsestr(content.decode())
            purl = PackageURL("pypi", None, re.sub(r"[-_.]+", "-", metadata["Name"]).lower(), metadata["Version"])
            found.append(_component(metadata["Name"], metadata["Version"], purl, _license(metadata)))
    return found


def _license(metadata: Message) -> LicenseExpression | None:
    expression = metadata["License-Expression"]
    return LicenseExpression(expression) if expression else None


def _component(name: str, version: str, purl: PackageURL, license_: LicenseExpression | None) -> Component:
    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        licenses=[license_] if license_ else None,
    )


def main(argv: list[str]) -> int:
    """Exit code 1 for an image over the limit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("archive", type=Path)
    parser.add_argument("--limit", type=int, default=130, help="megabytes (10^6 bytes) of all files, unpacked")
    options = parser.parse_args(argv)
    image = read_image(options.archive)
    bom = describe_contents(image)
    beside = options.archive.with_suffix(".cdx.json")
    beside.write_text(JsonV1Dot6(bom).output_as_string(indent=2) + "\n")
    packed = options.archive.stat().st_size
    print(f"{options.archive}: {image.digest}")
    print(f"{image.size / MEGABYTE:.1f} MB unpacked, {packed / MEGABYTE:.1f} MB packed, {len(bom.components)} packages")
    print(f"{beside}: CycloneDX {bom.serial_number}")
    if image.size > options.limit * MEGABYTE:
        print(f"the image has more than {options.limit} MB unpacked", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
