"""As much of an API server as the webhook follows: a list of service accounts, a watch that stays open, a version.

Figures need many accounts at once; that the webhook follows a real API server is for `make e2e` to show.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE = 500


def make_accounts(count: int, first: dict[str, Any]) -> list[dict[str, Any]]:
    """Metadata of so many accounts, the given one among them; every second one has a client id."""
    metadata = {"namespace": "default", "resourceVersion": "1"} | first["metadata"]
    made = [{"metadata": metadata}]
    for number in range(count - 1):
        annotations = {"azure.workload.identity/client-id": f"22222222-2222-2222-2222-{number:012}"}
        made.append(
            {
                "metadata": {
                    "name": f"account-{number}",
                    "namespace": f"namespace-{number % 100}",
                    "resourceVersion": str(number + 2),
                    "uid": f"33333333-3333-3333-3333-{number:012}",
                    "annotations": annotations if number % 2 else {},
                }
            }
        )
    return made


@contextlib.contextmanager
def serve_accounts(accounts: list[dict[str, Any]], folder: Path) -> Iterator[Path]:
    """Serve them on loopback; gives a kubeconfig that leads there."""
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            if query.get("watch"):
                self.send_response(200)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                over.wait()
                return
            if url.path == "/version":
                self._answer({"gitVersion": "v1.34.4"})
                return
            start = int(query.get("continue", "0"))
            following = str(start + PAGE) if start + PAGE < len(accounts) else ""
            self._answer(
                {
                    "metadata": {"resourceVersion": str(len(accounts) + 1), "continue": following},
                    "items": accounts[start : start + PAGE],
                }
            )

        def _answer(self, document: object) -> None:
            body = json.dumps(document).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    document = {
        "clusters": [{"name": "bench", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
        "current-context": "bench",
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    try:
        yield path
    finally:
        over.set()
        server.shutdown()
        server.server_close()
