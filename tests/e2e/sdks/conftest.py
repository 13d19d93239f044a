"""The programs with official SDKs, built once for all tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command line of each program, built by the ordinary tools of its language."""
    python = [sys.executable, str(HERE / "python" / "client.py")]
    found = {"azure-identity": python, "msal": [*python, "msal"]}
    if (npm := shutil.which("npm")) and (node := shutil.which("node")):
        folder = tmp_path_factory.mktemp("node")
        for name in ("package.json", "package-lock.json", "client.js"):
            shutil.copy(HERE / "node" / name, folder)
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, capture_output=True, timeout=600)
        found["node"] = [node, str(folder / "client.js")]
    if go := shutil.which("go"):
        binary = tmp_path_factory.mktemp("go") / "client"
        subprocess.run([go, "build", "-o", str(binary), "."], cwd=HERE / "go", check=True, timeout=900)
        found["go"] = [str(binary)]
    if java := shutil.which("java"):
        found["java"] = [java, str(HERE / "java" / "Client.java")]
    return found
