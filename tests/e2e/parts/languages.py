"""Images with the programs of tests/e2e/sdks, one a language: the official SDK, by its language's ordinary tools."""

from __future__ import annotations

import os
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
    files: dict[str, Path | bytes] = {"usr/bin/node": node, "sdk/node": folder}
    files |= _linked(node)
    return [_write(world, "node", files), "node", "/sdk/node/client.js"]


def build_rust(world: World, folder: Path) -> list[str]:
    """One program; what cargo makes is kept for the next run."""
    shutil.copytree(SDKS / "rust", folder, dirs_exist_ok=True)
    target = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "azwi-e2e" / "rust"
    command = ["cargo", "build", "--quiet", "--release", "--target-dir", str(target)]
    subprocess.run(command, cwd=folder, check=True, timeout=1200)
    return [_write(world, "rust", {"sdk/client": target / "release" / "client"}), "/sdk/client"]


def build_java(world: World, folder: Path) -> list[str]:
    """A runtime by jlink, the packages by Maven, and a trust store, since Java reads no PEM."""
    shutil.copytree(SDKS / "java-identity", folder, dirs_exist_ok=True)
    (folder / "entra.crt").write_text(world.entra.authority)
    trust = [
        "-importcert",
        "-noprompt",
        "-alias",
        "entra",
        "-file",
        "entra.crt",
        "-keystore",
        "trust",
        "-storepass",
        "changeit",
    ]
    for command in (
        ["mvn", "--quiet", "dependency:copy-dependencies", "-DoutputDirectory=lib"],
        ["javac", "-cp", "lib/*", "-d", ".", "Client.java"],
        [
            "jlink",
            "--add-modules",
            "ALL-MODULE-PATH",
            "--strip-debug",
            "--no-man-pages",
            "--no-header-files",
            "--output",
            "jre",
        ],
        ["keytool", *trust],
    ):
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    files: dict[str, Path | bytes] = {f"sdk/{name}": folder / name for name in ("jre", "lib", "trust", "Client.class")}
    files |= _linked(folder / "jre" / "lib" / "server" / "libjvm.so")
    options = ["-Djavax.net.ssl.trustStore=/sdk/trust", "-Djavax.net.ssl.trustStorePassword=changeit"]
    return [_write(world, "java", files), "/sdk/jre/bin/java", *options, "-cp", "/sdk/lib/*:/sdk", "Client"]


def _linked(program: Path) -> dict[str, Path | bytes]:
    """The shared objects that a program of this machine needs and the image lacks."""
    said = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    found = [line.split() for line in said.splitlines() if "libstdc++" in line or "libatomic" in line]
    return {LIBRARIES + words[0]: Path(words[2]).resolve() for words in found}


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


# They take minutes to build: `make e2e-sdks` has them.
SLOW = {"java", "rust"}
BUILDERS = {
    "python": (build_python, ()),
    "go": (build_go, ("go",)),
    "node": (build_node, ("node", "npm")),
    "java": (build_java, ("mvn", "javac", "jlink", "keytool")),
    "rust": (build_rust, ("cargo",)),
}
