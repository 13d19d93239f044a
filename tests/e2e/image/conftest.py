"""The image, built once, and its root laid out."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from building import built

from archive import Image, read_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def archive() -> Path:
    """The image's archive."""
    return built()


@pytest.fixture(scope="session")
def image(archive: Path) -> Image:
    """The image, read."""
    return read_image(archive)


@pytest.fixture(scope="session")
def root(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Its files in a folder."""
    folder = tmp_path_factory.mktemp("root")
    for name, member in image.members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if member.isdir():
            path.mkdir(exist_ok=True)
        elif member.issym():
            path.symlink_to(member.linkname)
        else:
            path.write_bytes(image.contents[name])
        if not member.issym():
            path.chmod(member.mode)
    (folder / "proc").mkdir()
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)
