"""What is read of a process, and how a figure is printed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Figure:
    """One measured number beside its bound: at most that, or at least where it is negative; 0 only tells."""

    name: str
    value: float
    unit: str
    bound: float
    method: str

    @property
    def over(self) -> bool:
        """Whether the bound is not kept."""
        return bool(self.bound) and (self.value < -self.bound if self.bound < 0 else self.value > self.bound)

    def line(self) -> str:
        """The figure as one row."""
        verdict = "" if not self.bound else ("OVER" if self.over else "ok")
        bound = f"{abs(self.bound):g}" if self.bound else "-"
        return f"{self.name:<52}{self.value:>9.1f} {self.unit:<4}{bound:>8} {verdict:<5} {self.method}"


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def memory_mib(pid: int, field: str = "VmRSS") -> float:
    """A memory field of a process: VmRSS, or RssAnon for what is never shared."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise ValueError(field)


def children_cpu_ms(run: Callable[[], object], times: int) -> float:
    """Milliseconds of CPU that the children of one call use, the mean of several after a first one that warms up."""
    run()
    before = os.times()
    for _ in range(times):
        run()
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return used / times * 1000
