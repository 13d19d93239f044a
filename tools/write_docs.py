"""Write the reference in docs/azwi.md from the commands' own definitions; tests/house/test_docs.py compares."""

from __future__ import annotations

from pathlib import Path

from azwi.cli.main import azwi
from azwi.cli.reference import START, render_reference

PATH = Path(__file__).parents[1] / "docs" / "azwi.md"


def main() -> None:
    """Replace everything after the mark."""
    head, mark, _ = PATH.read_text().partition(START)
    PATH.write_text(f"{head}{mark or START}\n\n{render_reference(azwi, 'azwi')}")


if __name__ == "__main__":
    main()
