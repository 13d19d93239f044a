"""The house keeps its shape: directions of imports, modules without I/O, sizes of modules."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAX_LINES = 400


def test_imports_keep_their_contracts() -> None:
    """The contracts of pyproject.toml hold: layers, both sides of a protocol, the proxy, modules without I/O."""
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stdout


def test_every_module_without_io_is_under_the_coverage_gate() -> None:
    """The gate measures the same modules that the contract keeps free of I/O."""
    contracts = {
        contract["name"].partition(":")[0]: contract for contract in PROJECT["tool"]["importlinter"]["contracts"]
    }
    pure = set(contracts["Thinking without I/O"]["source_modules"])

    measured = {
        pattern.removeprefix("src/").removesuffix("/*").removesuffix(".py").replace("/", ".")
        for pattern in PROJECT["tool"]["coverage"]["report"]["include"]
    }

    assert pure == measured


def test_every_module_without_io_exists() -> None:
    """Neither list names a module that has gone."""
    for pattern in PROJECT["tool"]["coverage"]["report"]["include"]:
        assert list(ROOT.glob(pattern)), pattern


def test_no_module_is_too_large_to_be_read_at_once() -> None:
    """A module of 400 lines is a reason to look hard; none is larger."""
    sizes = {str(path.relative_to(SOURCE)): len(path.read_text().splitlines()) for path in SOURCE.rglob("*.py")}

    assert {} == {name: size for name, size in sizes.items() if size > MAX_LINES}


def test_every_package_says_what_lives_in_it() -> None:
    """A room's docstring tells a visitor what belongs there."""
    for package in SOURCE.rglob("__init__.py"):
        assert package.read_text().startswith('"""'), package
