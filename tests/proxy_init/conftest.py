"""Shell scripts in network namespaces of their own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from azwi.local.namespaces import may_be_several, may_isolate

if TYPE_CHECKING:
    from collections.abc import Callable

    Inside = Callable[..., subprocess.CompletedProcess[str]]

PROGRAM = Path(sys.executable).with_name("azwi-proxy-init")
RUNNER = """
import os, sys
from azwi.local import namespaces
child = namespaces.spawn([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], ())
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
INNER = """
import subprocess, sys
from azwi.local.isolation import raise_loopback
raise_loopback()
sys.exit(subprocess.run(["/bin/sh", "-ec", sys.argv[1]]).returncode)
"""


def _can_redirect() -> str:
    """Why the real thing cannot be tried here; empty when it can."""
    if shutil.which("iptables-save") is None:
        return "iptables is not installed"
    if not may_isolate():
        return "this machine forbids namespaces"
    if not may_be_several():
        return "a namespace has room for one user only, and the proxy needs another"
    return ""


@pytest.fixture
def inside() -> Inside:
    """Run a shell script in a network namespace that has nothing but loopback and the metadata address."""
    if problem := _can_redirect():
        pytest.skip(problem)

    def ran(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {"PATH": f"{PROGRAM.parent}:/usr/sbin:/usr/bin:/sbin:/bin", **environment}
        return subprocess.run(
            [sys.executable, "-c", RUNNER, INNER, script],
            env=given,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return ran
