"""What is locked is what is installed, today and when the libraries have new releases."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = ["tools/setup.sh", "image/build.sh", "image/install.sh"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_lock_is_installed_as_it_stands(script: str) -> None:
    """Nothing is resolved again, which would fail a clone once a library with extras has a newer release."""
    commands = (ROOT / script).read_text().replace("\\\n", " ").splitlines()
    locked = [command for command in commands if "--require-hashes" in command]

    assert locked
    assert all("--no-deps" in command for command in locked)


def test_every_script_that_installs_from_a_lock_is_known_here() -> None:
    """A new one cannot be forgotten."""
    found = {
        str(path.relative_to(ROOT))
        for folder in ("tools", "image", "tests/e2e")
        for path in (ROOT / folder).rglob("*.sh")
        if "--require-hashes" in path.read_text()
    }

    assert found == set(SCRIPTS)
