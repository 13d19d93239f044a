"""The proxy: memory after 100 token requests, CPU of an answer from memory, CPU until it is ready."""

from __future__ import annotations

import http.client
from typing import TYPE_CHECKING

from azwi.cluster.manifests import read_manifests
from azwi.local.demo import MANIFESTS, TENANT, find_examples
from azwi.local.running import with_free_proxy_port
from azwi.local.stage import OwnEmulator, Stage
from bench.measure import Figure, cpu_seconds, memory_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWERS = 5000
TARGET = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net"


def measure() -> Iterator[Figure]:
    """Figures of a real azwi-proxy process with the emulator behind it."""
    examples = find_examples()
    documents = [found.document for name in MANIFESTS for found in read_manifests(examples / name)]
    with Stage(documents, TENANT, OwnEmulator(examples / "entra.yaml")) as stage:
        pod = stage.start_pod(with_free_proxy_port(stage.pod("legacy")))
        proxy = stage.start_proxy(pod)
        yield Figure(
            "proxy: CPU until ready", cpu_seconds(proxy.pid) * 1000, "ms", 0, "user and system time at readiness"
        )
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port)
        for _ in range(100):
            _ask(connection)
        yield Figure(
            "proxy: RSS after 100 token requests", memory_mib(proxy.pid), "MiB", 33, "VmRSS; the Go reference: 33.7"
        )
        yield Figure("proxy: of it anonymous", memory_mib(proxy.pid, "RssAnon"), "MiB", 0, "RssAnon")
        used = cpu_seconds(proxy.pid)
        for _ in range(ANSWERS):
            _ask(connection)
        cpu = (cpu_seconds(proxy.pid) - used) / ANSWERS * 1e6
        connection.close()
        yield Figure("proxy: CPU of an answer from memory", cpu, "us", 150, f"{ANSWERS} requests on one connection")


def _ask(connection: http.client.HTTPConnection) -> None:
    connection.request("GET", TARGET, headers={"Metadata": "true"})
    answer = connection.getresponse()
    if b'"access_token"' not in answer.read():
        raise RuntimeError(answer.status)
