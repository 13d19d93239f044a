"""The command: CPU of azwi --help."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from azwi.local.processes import find_program
from bench.measure import Figure, children_cpu_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 10


def measure() -> Iterator[Figure]:
    """Figures of the command, the mean of several runs."""
    program = find_program("azwi")
    used = children_cpu_ms(lambda: subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True), RUNS)
    yield Figure("azwi --help: CPU", used, "ms", 120, f"mean of {RUNS} runs")
