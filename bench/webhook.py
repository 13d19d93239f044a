"""The webhook: CPU of one review of 8 KB over TLS 1.3 keep-alive, and memory under that load."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azwi.local.processes import Process, base_environment
from azwi.local.stage import write_certificate
from bench.api import make_accounts, serve_accounts
from bench.load import CONNECTIONS, SECONDS, Throughput, measure_throughput, own_core
from bench.measure import Figure, cpu_seconds, memory_mib

if TYPE_CHECKING:
    from collections.abc import Iterator

ROUNDS = 5
REVIEWS = 3000
SIZE = 8192
VECTOR = Path(__file__).parents[1] / "tests" / "vectors" / "admission" / "real-deployment.json"
METHOD = f"{ROUNDS} rounds of {REVIEWS} reviews of {SIZE} bytes on one connection; the best round"


def measure() -> Iterator[Figure]:
    """Figures of real azwi-webhook processes: accounts from a manifest, and from a cluster with many of them."""
    review, account = _load_review()
    with tempfile.TemporaryDirectory(prefix="azwi-bench-") as name:
        folder = Path(name)
        (folder / "accounts.json").write_text(json.dumps(account))
        run = _run(folder, f"--service-accounts={folder / 'accounts.json'}", review)
        yield Figure("webhook: CPU of a review", run.cpu, "us", 130, METHOD)
        yield Figure("webhook: the same, a server that does not look", _empty(folder, review), "us", 0, "the same hour")
        yield Figure("webhook: the same, the Go reference", 600, "us", 0, "measured earlier, two cores")
        yield Figure("webhook: reviews a second, one connection", run.rate, "/s", 0, "wall-clock, client beside it")
        yield Figure("webhook: RSS under that load", run.rss, "MiB", 45, "VmRSS after the rounds")
        yield Figure("webhook: of it anonymous", run.anonymous, "MiB", 0, "RssAnon")
        for count, bound, reference in ((10_000, 60, 94), (50_000, 90, 168)):
            with serve_accounts(make_accounts(count, account["items"][0]), folder) as kubeconfig:
                run = _run(folder, f"--kubeconfig={kubeconfig}", review)
            told = f"webhook, {count} followed accounts"
            yield Figure(f"{told}: CPU of a review", run.cpu, "us", 130, METHOD)
            yield Figure(f"{told}: RSS", run.rss, "MiB", bound, f"after the rounds; the Go reference: {reference}")
            yield Figure(f"{told}: ready after", run.seconds, "s", 3 if count == 10_000 else 0, "wall-clock")
            yield Figure(
                f"{told}: reviews/s", run.many.rate, "/s", -6000, f"{CONNECTIONS} connections, one core for it"
            )
            yield Figure(f"{told}: CPU of one of them", run.busy, "us", 130, "the same")
            yield Figure(f"{told}: 99 of 100 within", run.many.p99, "ms", 10, "the same; wall-clock")


@dataclass(frozen=True)
class _Run:
    """What one process showed: microseconds, reviews a second, MiB, seconds; `busy` are microseconds, too."""

    cpu: float
    rate: float
    rss: float
    anonymous: float
    seconds: float
    many: Throughput
    busy: float


def _run(folder: Path, source: str, review: bytes) -> _Run:
    """Start a webhook, load it, measure it, end it."""
    certificates = folder / f"certificates-{time.monotonic_ns()}"
    authority = write_certificate(certificates)
    argv = [
        "azwi-webhook",
        "--bind-address=127.0.0.1",
        "--port=0",
        "--health-addr=0",
        "--metrics-addr=127.0.0.1:0",
        "--shutdown-delay=0",
        "--disable-cert-rotation",
        f"--webhook-cert-dir={certificates}",
        source,
    ]
    environment = {**base_environment(), "AZURE_TENANT_ID": "11111111-1111-1111-1111-111111111111"}
    begun = time.monotonic()
    with Process(argv, environment, folder) as process:
        process.wait_for(lambda: process.find_log_line("webhook is ready"), "readiness")
        seconds = time.monotonic() - begun
        port = int(str((process.find_log_line("webhook serves") or {})["port"]))
        request = _render_request(review)
        cpu, rate = _load(process.pid, port, request, _client_context(authority))
        with own_core(process.pid):
            used = cpu_seconds(process.pid)
            many = measure_throughput(port, request, _client_context(authority))
            busy = (cpu_seconds(process.pid) - used) / (many.rate * SECONDS) * 1e6
        return _Run(cpu, rate, memory_mib(process.pid), memory_mib(process.pid, "RssAnon"), seconds, many, busy)


def _empty(folder: Path, review: bytes) -> float:
    """Microseconds of CPU of an answer that costs no thought."""
    certificates = folder / "certificates-empty"
    authority = write_certificate(certificates)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bench.empty", str(certificates), str(port)]
    with subprocess.Popen(command, cwd=VECTOR.parents[3]) as process:
        try:
            for _ in range(100):
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            return _load(process.pid, port, _render_request(review), _client_context(authority))[0]
        finally:
            process.kill()


def _load_review() -> tuple[bytes, dict[str, Any]]:
    """A review of exactly SIZE bytes, padded with managedFields as an API server's are, and its service account."""
    vector = json.loads(VECTOR.read_text())
    review = vector["review"]
    metadata = review["request"]["object"]["metadata"]
    metadata["managedFields"] = [{"manager": "x"}]
    metadata["managedFields"] = [{"manager": "x" * (SIZE - len(json.dumps(review)) + 1)}]
    return json.dumps(review).encode(), vector["serviceAccount"]


def _client_context(authority: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def _render_request(body: bytes) -> bytes:
    """As an API server sends it."""
    head = (
        f"POST /mutate-v1-pod?timeout=5s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: kube-apiserver-admission\r\n"
        f"Content-Length: {len(body)}\r\nAccept: application/json, */*\r\nContent-Type: application/json\r\n\r\n"
    )
    return head.encode() + body


def _load(pid: int, port: int, request: bytes, context: ssl.SSLContext) -> tuple[float, float]:
    """Microseconds of CPU a review, and reviews a second; the best round of each."""
    cpu, rate = [], []
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        for _ in range(REVIEWS // 5):
            _ask(connection, request)
        for _ in range(ROUNDS):
            used, begun = cpu_seconds(pid), time.perf_counter()
            for _ in range(REVIEWS):
                _ask(connection, request)
            rate.append(REVIEWS / (time.perf_counter() - begun))
            cpu.append((cpu_seconds(pid) - used) / REVIEWS * 1e6)
    return min(cpu), max(rate)


def _ask(connection: ssl.SSLSocket, request: bytes) -> None:
    connection.sendall(request)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(rest) < length:
        rest += connection.recv(65536)
    if b'"patch":"' not in rest:
        raise RuntimeError(rest.decode())
