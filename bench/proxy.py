"""The proxy: memory, CPU of an answer from memory and until it is ready, one exchange for many, the probe."""

from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2
import yaml

from azwi.cluster.manifests import read_manifests
from azwi.local.demo import MANIFESTS, TENANT, find_examples
from azwi.local.running import with_free_proxy_port
from azwi.local.stage import OwnEmulator, Stage
from bench.measure import Figure, children_cpu_ms, cpu_seconds, memory_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azwi.local.running import RunningProxy

ROUNDS = 5
ANSWERS = 3000  # a round
RESOURCES = 500
REQUESTS = 100_000
CALLERS = 50
PROBES = 10
PATH = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
VAULT = "https%3A%2F%2Fvault.azure.net"
METHOD = f"{ROUNDS} rounds of {ANSWERS} requests on one connection; the best round; stretch 60, the Go reference: 40"
# What a program takes at most: the high water mark of its own memory, which a parent's does not blur.
PEAK = "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"


def measure() -> Iterator[Figure]:
    """Figures of real azwi-proxy processes with the emulator behind them."""
    examples = find_examples()
    documents = [found.document for name in MANIFESTS for found in read_manifests(examples / name)]
    with tempfile.TemporaryDirectory(prefix="azwi-bench-") as folder:
        state = yaml.safe_load((examples / "entra.yaml").read_text())
        state["resources"] = [*state.get("resources", ()), *(f"api://bench-{number}" for number in range(RESOURCES))]
        (Path(folder) / "entra.yaml").write_text(yaml.safe_dump(state))
        with Stage(documents, TENANT, OwnEmulator(Path(folder) / "entra.yaml")) as stage:
            yield from _measure_memory_and_cpu(_start(stage))
            yield from _measure_many_callers(_start(stage))
            yield from _measure_many_resources(_start(stage))
            yield from _measure_probe(_start(stage))


def _start(stage: Stage) -> RunningProxy:
    return stage.start_proxy(stage.start_pod(with_free_proxy_port(stage.pod("legacy"))))


def _measure_memory_and_cpu(proxy: RunningProxy) -> Iterator[Figure]:
    yield Figure("proxy: CPU until ready", cpu_seconds(proxy.pid) * 1000, "ms", 250, "user and system time")
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
    for _ in range(100):
        _ask(connection)
    text = "VmRSS; stretch 29, the Go reference: 33.7"
    yield Figure("proxy: RSS after 100 token requests", memory_mib(proxy.pid), "MiB", 33, text)
    text = "RssAnon; the Go reference: 8.5"
    yield Figure("proxy: of it anonymous", memory_mib(proxy.pid, "RssAnon"), "MiB", 0, text)
    rounds = []
    for _ in range(ROUNDS):
        used = cpu_seconds(proxy.pid)
        for _ in range(ANSWERS):
            _ask(connection)
        rounds.append((cpu_seconds(proxy.pid) - used) / ANSWERS * 1e6)
    connection.close()
    yield Figure("proxy: CPU of an answer from memory", min(rounds), "us", 150, METHOD)


def _measure_many_callers(proxy: RunningProxy) -> Iterator[Figure]:
    request = f"GET {PATH}{VAULT} HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\nConnection: close\r\n\r\n"
    connections = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(CALLERS)]
    for connection in connections:
        connection.sendall(request.encode())
    for connection in connections:
        with connection:
            if not connection.recv(64).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError("a caller got no token")
            while connection.recv(65536):
                pass
    metrics = httpx2.get(proxy.metrics, trust_env=False).text
    found = re.search(r'azwi_proxy_exchanges_total\{result="token",code=""\} (\d+)', metrics)
    exchanges = int(found[1]) if found else 0
    yield Figure(f"proxy: exchanges for {CALLERS} callers at once", exchanges, "", 1, "by its own counter")


def _measure_many_resources(proxy: RunningProxy) -> Iterator[Figure]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
    targets = [f"api%3A%2F%2Fbench-{number}" for number in range(RESOURCES)]
    for target in targets * 4:
        _ask(connection, target)
    before = memory_mib(proxy.pid)
    for number in range(REQUESTS):
        _ask(connection, targets[number * 7 % RESOURCES])
    grown = memory_mib(proxy.pid) - before
    connection.close()
    yield Figure(f"proxy: RSS with {RESOURCES} tokens", before, "MiB", 0, "VmRSS after 2000 requests for them")
    yield Figure(f"proxy: grown by {REQUESTS} requests more", grown, "MiB", 0.5, f"for the same {RESOURCES} resources")


def _measure_probe(proxy: RunningProxy) -> Iterator[Figure]:
    arguments = ["--probe", f"--proxy-port={proxy.port}"]
    program = Path(sys.executable).with_name("azwi-proxy")
    spent = children_cpu_ms(lambda: subprocess.run([program, *arguments], check=True), PROBES)
    yield Figure("azwi-proxy --probe: CPU", spent, "ms", 40, f"mean of {PROBES} runs")
    script = f"from azwi.proxy.main import main; assert main({arguments}) == 0; {PEAK}"
    peak = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    yield Figure("azwi-proxy --probe: memory", int(peak) / 1024, "MiB", 12, "VmHWM at its end")


def _ask(connection: http.client.HTTPConnection, resource: str = VAULT) -> None:
    connection.request("GET", PATH + resource, headers={"Metadata": "true"})
    answer = connection.getresponse()
    if b'"access_token"' not in answer.read():
        raise RuntimeError(answer.status)
