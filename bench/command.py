"""The command: CPU of azwi --help."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from azwi.local.processes import find_program
from bench.measure import Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 10


def measure() -> Iterator[Figure]:
    """Figures of the command, the mean of several runs."""
    program = find_program("azwi")
    subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
    before = os.times()
    for _ in range(RUNS):
        subprocess.run([program, "--help"], stdout=subprocess.DEVNULL, check=True)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    yield Figure("azwi --help: CPU", used / RUNS * 1000, "ms", 120, f"mean of {RUNS} runs")
