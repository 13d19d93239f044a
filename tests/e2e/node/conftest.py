"""One node for all tests of this folder: images in, Entra up, the chart installed by helm."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from archives import write_image
from building import built
from controlplane import BUILD
from elder import Elder, start
from node import Node, build, missing, namespaces
from world import BUNDLE, CHART, FIGURES, IMAGE, RELEASE, SYSTEM, TRUSTING, VALUES, World, account, python_image

from azwi.emulator.background import system_authorities
from entra import NAMESPACES, Entra, manifest, serve_metadata

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node without anything on it."""
    if lacks := missing():
        pytest.fail(f"a node needs: {lacks}", pytrace=False)
    program = subprocess.run(["/bin/sh", BUILD], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    build("helm")
    archive = built()
    folder = tmp_path_factory.mktemp("node")
    folder.chmod(0o755)
    with namespaces(folder) as inside, Node(folder, program, inside).running() as running:
        running.image = archive
        running.import_image(
            write_image(
                folder / "pause.tar", "localhost/pause:1", {"pause": Path(build("pause"))}, Entrypoint=["/pause"]
            )
        )
        running.import_image(archive)
        yield running


@pytest.fixture(scope="session")
def world(node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Entra, the node's metadata service and the chart."""
    entra = Entra(node, IMAGE)
    bundle = system_authorities() + entra.authority.encode()
    node.import_image(write_image(node.folder / "trusting.tar", TRUSTING, {BUNDLE: bundle}, base=node.image))
    node.import_image(python_image(node, bundle, tmp_path_factory.mktemp("python")))
    for name in NAMESPACES:
        labels = {"pod-security.kubernetes.io/enforce": "restricted"} if name == "restricted" else {}
        node.apply(manifest("v1", "Namespace", name, labels=labels))
        node.apply(account(name))
    began = time.monotonic()
    node.helm(
        "install", RELEASE, str(CHART), "--namespace", SYSTEM, "--create-namespace", "--wait", "--timeout=120s", *VALUES
    )
    installed = time.monotonic() - began
    for metadata in serve_metadata(node):
        yield World(node, entra, metadata, installed, bundle)


@pytest.fixture(scope="session")
def elder(world: World) -> Elder:
    """A Pod whose token grows old."""
    return start(world)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    for line in FIGURES:
        terminalreporter.write_line(f"measured: {line}")
