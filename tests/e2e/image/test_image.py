"""The image as it is built: what is in it, what is not, that its programs run, and that the next build is the same."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest
from building import REPOSITORY, build
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

if TYPE_CHECKING:
    from pathlib import Path

    from archive import Image

LIMIT = 130_000_000  # bytes, unpacked
# As a container with a read-only root has it.
ISOLATE = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child"]


def run_in(
    root: Path, command: str, uid: int = 1501, seed: str = "true", **environment: str
) -> subprocess.CompletedProcess[str]:
    """A program of the image, in the image's root made read-only; `seed` is what the shell does before."""
    prepare = (
        f"mount --bind {root} {root} && mount -o remount,ro,bind {root} && mount -t proc proc {root}/proc && "
        f"{seed} && exec chroot --userspec={uid}:{uid} {root} {command}"
    )
    variables = {"PATH": "/opt/azwi/bin:/usr/sbin:/usr/bin:/sbin:/bin"} | environment
    return subprocess.run(
        [*ISOLATE, "/bin/sh", "-ec", prepare], env=variables, capture_output=True, text=True, timeout=60, check=False
    )


def test_configuration(image: Image) -> None:
    """Nobody's root by default, a search path, and labels that say what it is and of which commit."""
    config = image.config["config"]
    assert "1501:1501" == config["User"]
    assert ["azwi"] == config["Entrypoint"]
    assert "PATH=/opt/azwi/bin:/usr/sbin:/usr/bin" in config["Env"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in config["Labels"].items()}
    head = subprocess.run(
        ["/usr/bin/git", "rev-parse", "HEAD"], cwd=REPOSITORY, check=True, capture_output=True, text=True
    )
    assert (version("azure-workload-identity"), head.stdout.strip()) == (labels["version"], labels["revision"])
    assert "MIT" == labels["licenses"]


def test_size(image: Image) -> None:
    """Small enough for every node of a cluster."""
    assert image.size < LIMIT


def test_what_is_not_in_it(image: Image) -> None:
    """No shell, no package manager, no pip, nothing that raises privileges."""
    names = {name.rsplit("/", 1)[-1] for name in image.contents}
    unwanted = {
        "sh",
        "bash",
        "dash",
        "busybox",
        "apt",
        "apt-get",
        "dpkg",
        "pip",
        "pip3",
        "ensurepip",
        "perl",
        "su",
        "mount",
    }
    assert set() == names & unwanted
    assert [] == [name for name, member in image.members.items() if member.isfile() and member.mode & 0o6000]
    writable = [name for name, member in image.members.items() if not member.issym() and member.mode & 0o002]
    assert ["tmp"] == writable


def test_byte_code(image: Image) -> None:
    """Each module of the standard library and of the packages has its byte code, so that starting compiles nothing."""
    tag = next(match for name in image.members if (match := re.search(r"cpython-\d+(?=\.pyc)", name)))[0]
    modules = [name for name in image.members if name.endswith(".py") and "/bin/" not in name]
    assert 1000 < len(modules)
    without = [
        name for name in modules if re.sub(r"([^/]+)\.py$", rf"__pycache__/\1.{tag}.pyc", name) not in image.members
    ]
    assert [] == without


def test_bill_of_materials(archive: Path, image: Image) -> None:
    """It is valid CycloneDX, and names each Python package and each package of Debian that brought a file."""
    subprocess.run([sys.executable, "image/sbom.py", archive], cwd=REPOSITORY, check=True, capture_output=True)
    text = archive.with_suffix(".cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = {(re.sub(r"[-_.]+", "-", one["name"]).lower(), one["version"]) for one in json.loads(text)["components"]}
    installed = re.findall(r"^([a-z0-9-]+)==(\S+)", (REPOSITORY / "requirements/runtime.txt").read_text(), re.MULTILINE)
    # Those for other platforms are locked too.
    elsewhere = {"httpx2-jsfetch"}
    assert set() == {(name, version) for name, version in installed if name not in elsewhere} - found
    names = {name for name, _ in found}
    assert {"libc6", "iptables", "libssl3t64", "ca-certificates", "azure-workload-identity"} <= names
    for name in names & {"libc6", "iptables", "ca-certificates"}:
        assert f"usr/share/doc/{name}/copyright" in image.members


@pytest.mark.parametrize("program", ["azwi", "azwi-webhook", "azwi-proxy", "azwi-proxy-init"])
def test_programs_start(program: str, root: Path) -> None:
    """Each program, as nobody in particular on a read-only root."""
    run = run_in(root, f"{program} {'--help' if program == 'azwi' else '--version'}", uid=4711)
    assert 0 == run.returncode, run.stderr
    assert ("azwi" if program == "azwi" else version("azure-workload-identity")) in run.stdout


def test_every_module_can_be_imported(root: Path) -> None:
    """Nothing that was left out of the standard library is needed by the product or its requirements."""
    code = (
        "import importlib, pkgutil, azwi\n"
        "names = [m.name for m in pkgutil.walk_packages(azwi.__path__, 'azwi.') if '__main__' not in m.name]\n"
        "[importlib.import_module(name) for name in names]\n"
        "print(len(names))"
    )
    run = run_in(root, f'python3 -c "{code}"')
    assert 0 == run.returncode, run.stderr
    assert 100 < int(run.stdout)


def test_certificates_of_the_world(root: Path) -> None:
    """Python's default trust is the bundle of certificates."""
    code = "import ssl; print(len(ssl.create_default_context().get_ca_certs()))"
    run = run_in(root, f"python3 -c '{code}'")
    assert 50 < int(run.stdout), run.stderr


@pytest.mark.parametrize("side", ["nft", "legacy"])
def test_the_redirect(side: str, root: Path) -> None:
    """Proxy-init sets and verifies the redirect with the image's own iptables, on the side that is in use."""
    seed = (
        "ip link set lo up && ip link add out type bridge && ip link set out up && "
        "ip addr add 10.0.0.1/24 dev out && ip route add default dev out && "
        f"mount -t tmpfs lock {root}/tmp && export XTABLES_LOCKFILE=/tmp/lock && "
        f"{{ chroot {root} /usr/sbin/iptables-{side} -t nat -A OUTPUT -p tcp --dport 81 -j ACCEPT || exit 77; }}"
    )
    run = run_in(root, "azwi-proxy-init", uid=0, seed=seed)
    if run.returncode == 77:
        pytest.skip(f"the kernel has no {side} tables")
    assert 0 == run.returncode, run.stderr
    assert f"set in iptables ({side}), verified" in run.stdout


def test_the_next_build_is_the_same(archive: Path) -> None:
    """The same commit, base and wheels: the same bytes."""
    first = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert first == hashlib.sha256(build().read_bytes()).hexdigest()
