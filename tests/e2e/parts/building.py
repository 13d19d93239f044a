"""Builds the image, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def build(**environment: str) -> Path:
    """Run the build; gives the archive."""
    run = subprocess.run(
        ["/bin/sh", "image/build.sh"],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHON": sys.executable} | environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
    )
    return Path(run.stdout.strip())


def built() -> Path:
    """The archive that AZWI_E2E_IMAGE names, or a new one."""
    named = os.environ.get("AZWI_E2E_IMAGE")
    return Path(named) if named else build()
