"""azwi-proxy as a process of its own, and raw HTTP to it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from azwi.local.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROGRAM = Path(sys.executable).with_name("azwi-proxy")
TOKEN_TARGET = "/metadata/identity/oauth2/token?api-version=2018-02-01"  # noqa: S105 - a path


@dataclass
class Response:
    """One answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes
    names: list[str] = field(default_factory=list)

    @property
    def document(self) -> dict[str, Any]:
        """The body as JSON."""
        document: dict[str, Any] = json.loads(self.body)
        return document


def read_responses(connection: socket.socket, *, head_only: bool = False) -> list[Response]:
    """All answers until the server closes."""
    received = b""
    while data := connection.recv(65536):
        received += data
    responses = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        pairs = [line.split(": ", 1) for line in lines[1:]]
        headers = {name.lower(): value for name, value in pairs}
        length = 0 if head_only else int(headers["content-length"])
        responses.append(
            Response(int(lines[0].split(" ")[1]), headers, received[:length], [name.lower() for name, _ in pairs])
        )
        received = received[length:]
    return responses


class ProxyProcess:
    """A running proxy; its output is kept in a file."""

    def __init__(self, folder: Path, environment: Mapping[str, str], arguments: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.metrics_port = free_port()
        self.output_file = folder / f"proxy-{self.port}.log"
        self._command = [
            str(PROGRAM),
            f"--proxy-port={self.port}",
            f"--metrics-addr=127.0.0.1:{self.metrics_port}",
            *arguments,
        ]
        self._environment = {"PATH": os.environ["PATH"], **environment}

    def __enter__(self) -> Self:
        with self.output_file.open("wb") as output:
            self.process = subprocess.Popen(self._command, env=self._environment, stdout=output, stderr=output)
        deadline = time.monotonic() + 10
        while "listening" not in self.output or f":{self.metrics_port}" not in self.output:
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.process.kill()
                raise AssertionError(self.output)
            time.sleep(0.01)
        return self

    def __exit__(self, *_problem: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(5)

    @property
    def output(self) -> str:
        """All that it has printed."""
        return self.output_file.read_text()

    def connect(self, port: int | None = None) -> socket.socket:
        """A connection to it."""
        return socket.create_connection(("127.0.0.1", port or self.port), 10)

    def send(self, raw: bytes, *, head_only: bool = False) -> list[Response]:
        """Send bytes; all answers until it closes."""
        with self.connect() as connection:
            connection.sendall(raw)
            return read_responses(connection, head_only=head_only)

    def ask(self, target: str, *, method: str = "GET", port: int | None = None, **headers: str) -> Response:
        """One request with `Metadata: true`; a header that is empty is left out, `_` in names means `-`."""
        sent = {"Host": "169.254.169.254", "Metadata": "true", "Connection": "close"}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items() if value)]
        with self.connect(port) as connection:
            connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return read_responses(connection, head_only=method == "HEAD")[0]

    def ask_token(self, parameters: str, **headers: str) -> Response:
        """One token request with `api-version` and these parameters."""
        return self.ask(f"{TOKEN_TARGET}&{parameters}", method="GET", port=None, **headers)

    def count(self, sample: str) -> int:
        """The value of one sample of its metrics, 0 where there is none."""
        text = self.ask("/metrics", port=self.metrics_port).body.decode()
        found = re.search(rf"^{re.escape(sample)} (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0
