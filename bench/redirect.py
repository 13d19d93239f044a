"""The redirect: CPU and memory of azwi-proxy-init in a network namespace of its own, iptables included in the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from azwi.local.demo import isolation_problem
from bench.measure import Figure
from bench.proxy import PEAK

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = 10
OUTER = """
import os, sys
from azwi.local import namespaces
child = namespaces.spawn([sys.executable, "-c", sys.argv[1]], ())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
INNER = f"""
import json, subprocess, sys
from pathlib import Path
from azwi.local.isolation import raise_loopback
from bench.measure import children_cpu_ms
raise_loopback()
program = Path(sys.executable).with_name("azwi-proxy-init")
spent = children_cpu_ms(lambda: subprocess.run([program], check=True, stdout=subprocess.DEVNULL), {RUNS})
script = "from azwi.proxy_init.main import main; assert main([]) == 0; " + {PEAK!r}
peak = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
print(json.dumps([spent, int(peak.split()[-1]) / 1024]))
"""


def measure() -> Iterator[Figure]:
    """Figures of real runs that set the redirect and verify it; none where the machine forbids namespaces."""
    if isolation_problem():
        return
    run = subprocess.run(
        [sys.executable, "-c", OUTER, INNER],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"},
    )
    spent, peak = json.loads(run.stdout)
    yield Figure("azwi-proxy-init: CPU", spent, "ms", 60, f"mean of {RUNS} runs, with iptables and the verification")
    yield Figure("azwi-proxy-init: memory", peak, "MiB", 14, "VmHWM at its end")
