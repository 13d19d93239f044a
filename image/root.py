"""Assembles the root of the image from the build stage: what the programs need, and whose it is.

Usage: python3 root.py VENV ROOT

Only what is named here, and the shared objects that it is linked with, comes along: no shell, no package manager, no
pip. The Debian packages that files came from are recorded where scanners look for them (`/var/lib/dpkg/status.d`), with
their licences.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

# Parts of the standard library that none of the programs uses.
UNUSED = frozenset(
    (
        "__phello__",
        "__pycache__",
        "_pyrepl",
        "curses",
        "dbm",
        "dist-packages",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "sqlite3",
        "test",
        "tkinter",
        "turtledemo",
        "unittest",
        "venv",
        "xmlrpc",
    )
)
UNUSED_MODULES = re.compile(
    r"(_sqlite3|_curses|_curses_panel|_dbm|_gdbm|_tkinter|readline|_\w*test\w*|xxlimited\w*)\.cpython-.*|sitecustomize\.py"
)
ACCOUNTS = {
    "etc/passwd": "root:x:0:0:root:/:/sbin/nologin\nazwi:x:1501:1501:azwi:/:/sbin/nologin\n",
    "etc/group": "root:x:0:\nazwi:x:1501:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}


class Root:
    """The tree that becomes the image; `origins` are the files of the build stage that were copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origins: set[str] = set()

    def add(self, path: str) -> None:
        """A file, by the path where it is in the build stage and will be in the image; a link with what it leads to."""
        inside = _real(path)
        target = self.folder / inside.lstrip("/")
        if target.is_symlink() or target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        self.origins.add(inside)
        if os.path.islink(inside):
            target.symlink_to(os.readlink(inside))
            if not os.path.isdir(inside):
                self.add(os.path.join(os.path.dirname(inside), os.readlink(inside)))
            return
        shutil.copy2(inside, target)
        if _is_elf(inside):
            for library in _libraries(inside):
                self.add(library)

    def add_tree(self, path: str, unused: frozenset[str] = frozenset()) -> None:
        """A folder with everything below it that is used."""
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(name for name in folders if name not in unused)
            for name in sorted(files):
                if not UNUSED_MODULES.match(name):
                    self.add(os.path.join(folder, name))
            for name in folders:
                if os.path.islink(os.path.join(folder, name)):
                    self.add(os.path.join(folder, name))

    def write(self, path: str, text: str) -> None:
        """A file of our own."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)


def _real(path: str) -> str:
    """The path with the links of its folders followed, but not its own."""
    return os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))


def _is_elf(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"


def _libraries(path: str) -> list[str]:
    run = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    if "not found" in run.stdout:
        raise SystemExit(f"root.py: {path} lacks a library: {run.stdout}")
    return re.findall(r"(/\S+) \(0x", run.stdout)


def _owners(origins: set[str]) -> set[str]:
    """The Debian packages that the files belong to."""
    found = set()
    for listing in Path("/var/lib/dpkg/info").glob("*.list"):
        if any(_real(line) in origins for line in listing.read_text().splitlines() if line != "/."):
            found.add(listing.name.removesuffix(".list").partition(":")[0])
    return found


def _record(root: Root) -> None:
    # The bundle of certificates is made when its package is installed, so no package lists it.
    for package in sorted(_owners(root.origins) | {"ca-certificates"}):
        status = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
        root.write(f"var/lib/dpkg/status.d/{package}", status)
        licence = f"/usr/share/doc/{package}/copyright"
        if os.path.exists(licence):
            root.write(licence.lstrip("/"), Path(licence).read_text(errors="replace"))


def _compile(folder: Path, seen_as: str) -> None:
    """Byte code beside each module, valid whatever the file's time: layers of images may lose it."""
    compiled = compileall.compile_dir(
        folder,
        quiet=1,
        maxlevels=30,
        stripdir=str(folder),
        prependdir=seen_as,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    if not compiled:
        raise SystemExit(f"root.py: {folder} does not compile")


def assemble(venv: str, folder: Path) -> None:
    """All of it."""
    root = Root(folder)
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            folder.mkdir(exist_ok=True)
            (folder / name).symlink_to(os.readlink(f"/{name}"))
    library = sysconfig.get_path("stdlib")
    root.add(os.path.realpath(sys.executable))
    root.add("/usr/bin/python3")
    root.add_tree(library, UNUSED)
    for program in ("iptables", "iptables-save", "iptables-restore"):
        for side in ("nft", "legacy"):
            root.add(f"/usr/sbin/{program.replace('iptables', f'iptables-{side}')}")
        target = folder / "usr/sbin" / program
        target.symlink_to(f"{program.replace('iptables', 'iptables-nft')}")
    root.add_tree(str(next(Path("/usr/lib").glob("*/xtables"))))
    root.add("/etc/ssl/certs/ca-certificates.crt")
    root.add("/usr/lib/os-release")
    root.add("/etc/os-release")
    root.add_tree(venv)
    for path, text in ACCOUNTS.items():
        root.write(path, text)
    _record(root)
    # OpenSSL looks for one file there, whoever built it.
    certificates = folder / "usr/lib/ssl/cert.pem"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    certificates.symlink_to("/etc/ssl/certs/ca-certificates.crt")
    (folder / "tmp").mkdir(mode=0o1777)
    (folder / "tmp").chmod(0o1777)
    _compile(folder / library.lstrip("/"), library)
    _compile(folder / venv.lstrip("/"), venv)


if __name__ == "__main__":
    assemble(sys.argv[1], Path(sys.argv[2]))
