"""Images with the programs of tests/e2e/sdks, one a language: the official SDK, by its language's ordinary tools."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from archives import write_image
from world import BUNDLE, HERE, PYTHON

if TYPE_CHECKING:
    from world import World

SDKS = HERE.parent / "sdks"
LIBRARIES = "usr/lib/x86_64-linux-gnu/"


def build_python(world: World, folder: Path) -> list[str]:  # noqa: ARG001  # as the others
    """The image of all the Pods here."""
    return [PYTHON, "python3", "/sdk/client.py"]


def build_go(world: World, folder: Path) -> list[str]:
    """One static program."""
    environment = {"CGO_ENABLED": "0"}
    command = [
        "env",
        *(f"{name}={value}" for name, value in environment.items()),
        "go",
        "build",
        "-o",
        str(folder / "client"),
        ".",
    ]
    subprocess.run(command, cwd=SDKS / "go", check=True, timeout=900)
    return [_write(world, "go", {"sdk/client": folder / "client"}), "/sdk/client"]


def build_node(world: World, folder: Path) -> list[str]:
    """This machine's Node.js with the libraries that it is linked with and the image lacks, and the locked packages."""
    for name in ("package.json", "package-lock.json", "client.js"):
        shutil.copy(SDKS / "node" / name, folder)
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, timeout=600)
    node = Path(shutil.which("node") or "").resolve()
    linked = subprocess.run(["ldd", node], check=True, capture_output=True, text=True).stdout
    files: dict[str, Path | bytes] = {"usr/bin/node": node, "sdk/node": folder}
    for line in linked.splitlines():
        if "libstdc++" in line or "libatomic" in line:
            files[LIBRARIES + line.split()[0]] = Path(line.split()[2]).resolve()
    return [_write(world, "node", files), "node", "/sdk/node/client.js"]


def _write(world: World, language: str, files: dict[str, Path | bytes]) -> str:
    name = f"localhost/sdk-{language}:1"
    environment = [
        "PATH=/opt/azwi/bin:/usr/sbin:/usr/bin",
        f"SSL_CERT_FILE=/{BUNDLE}",
        f"NODE_EXTRA_CA_CERTS=/{BUNDLE}",
    ]
    archive = write_image(
        world.node.folder / f"{language}.tar",
        name,
        {BUNDLE: world.bundle} | files,
        base=world.node.image,
        Entrypoint=["python3"],
        Cmd=[],
        Env=environment,
        User="1000",  # not 1501, the one user whom the redirect leaves alone
    )
    world.node.import_image(archive)
    return name


BUILDERS = {
    "python": (build_python, ()),
    "go": (build_go, ("go",)),
    "node": (build_node, ("node", "npm")),
}
