"""An API server's service accounts on loopback, for tests: read, server-side apply, delete, TokenRequest."""

from __future__ import annotations

import json
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Document = dict[str, Any]


class Cluster:
    """What the stand-in has, and what it was asked.

    Attributes:
        objects: Service accounts by namespace and name.
        requests: Method and path of each request.
        mint: Makes a token for namespace, name and audience.
    """

    def __init__(self, mint: Callable[[str, str, str], str], issuer: str) -> None:
        self.objects: dict[tuple[str, str], Document] = {}
        self.requests: list[tuple[str, str]] = []
        self.mint = mint
        self.issuer = issuer
        self.url = ""
        self.delay = 0.0  # seconds between what it does and its answer
        self._lock = threading.Lock()

    def put(self, document: Document, manager: str = "") -> None:
        """Have an account, as somebody else has made it; its annotations are that manager's."""
        metadata = document["metadata"]
        metadata.setdefault("uid", str(uuid.uuid4()))
        if manager:
            metadata["managedFields"] = [_managed(manager, metadata.get("annotations", {}))]
        self.objects[metadata["namespace"], metadata["name"]] = document

    def annotations(self, namespace: str, name: str) -> dict[str, str]:
        """An account's annotations by their last part."""
        found = self.objects[namespace, name]["metadata"].get("annotations", {})
        return {key.rpartition("/")[2]: value for key, value in found.items()}

    def write_kubeconfig(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        document = {
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "a-token"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    def answer(self, method: str, target: str, body: bytes) -> tuple[int, Document]:
        """One request."""
        url = urlsplit(target)
        segments = [part for part in url.path.split("/") if part]
        with self._lock:
            self.requests.append((method, url.path))
            if segments[-1] == "openid-configuration":
                return 200, {"issuer": self.issuer}
            key = (segments[3], segments[5])
            document = json.loads(body) if body else {}
            if method == "PATCH":
                return self._apply(key, document, parse_qs(url.query))
            found = self.objects.get(key)
            if found is None:
                return 404, {"kind": "Status", "message": f'serviceaccounts "{key[1]}" not found', "code": 404}
            if method == "POST":
                token = self.mint(*key, document["spec"]["audiences"][0])
                return 201, {"status": {"token": token}}
            if method == "DELETE":
                if document.get("preconditions", {}).get("uid") != found["metadata"]["uid"]:
                    return 409, {"kind": "Status", "message": "the uid is another", "code": 409}
                del self.objects[key]
            return 200, found

    def _apply(self, key: tuple[str, str], wanted: Document, query: dict[str, list[str]]) -> tuple[int, Document]:
        manager = query["fieldManager"][0]
        uid = wanted["metadata"].get("uid")
        there = self.objects.get(key, {}).get("metadata", {}).get("uid")
        if uid and uid != there:
            return 409, {"kind": "Status", "reason": "Conflict", "message": "uid mismatch", "code": 409}
        fresh = {"metadata": {"namespace": key[0], "name": key[1], "uid": str(uuid.uuid4())}}
        found = self.objects.setdefault(key, {"apiVersion": "v1", "kind": "ServiceAccount", **fresh})
        metadata = found["metadata"]
        has, wants = metadata.setdefault("annotations", {}), wanted["metadata"]["annotations"]
        managed = metadata.setdefault("managedFields", [])
        owned = {one["manager"]: set(one["fieldsV1"]["f:metadata"]["f:annotations"]) for one in managed}
        blocked = [
            name
            for name, value in wants.items()
            if has.get(name, value) != value and any(f"f:{name}" in owned[one] for one in owned if one != manager)
        ]
        if blocked and query["force"] != ["true"]:
            return 409, {"kind": "Status", "reason": "Conflict", "message": "Apply failed with conflicts", "code": 409}
        for name in owned.get(manager, set()) - {f"f:{name}" for name in wants}:
            has.pop(name.removeprefix("f:"), None)
        has.update(wants)
        metadata["managedFields"] = [
            _managed(one, [name.removeprefix("f:") for name in names if name.removeprefix("f:") not in blocked])
            for one, names in owned.items()
            if one != manager
        ] + [_managed(manager, wants)]
        return 200, found


def _managed(manager: str, names: Any) -> Document:  # noqa: ANN401
    return {"manager": manager, "fieldsV1": {"f:metadata": {"f:annotations": {f"f:{name}": {} for name in names}}}}


@contextmanager
def running_cluster(mint: Callable[[str, str, str], str], issuer: str) -> Iterator[Cluster]:
    """A stand-in that listens, gone after the block."""
    cluster = Cluster(mint, issuer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 10

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, document = cluster.answer(self.command, self.path, body)
            if self.command in {"PATCH", "DELETE"}:
                time.sleep(cluster.delay)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever was killed does not read
                self.wfile.write(content)

        do_GET = do_PATCH = do_POST = do_DELETE = _serve  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    cluster.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield cluster
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
