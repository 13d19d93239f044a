"""Another mutating webhook of the cluster: it names Pods and puts a container in front, as service meshes do."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kube import Cluster

CONTAINER = "mesh"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = review["request"]
        pod = request["object"]
        operations: list[dict[str, Any]] = []
        if not pod["metadata"].get("name"):
            name = pod["metadata"].get("generateName", "") + "renamed"
            operations.append({"op": "add", "path": "/metadata/name", "value": name})
        if CONTAINER not in {container["name"] for container in pod["spec"]["containers"]}:
            container = {"name": CONTAINER, "image": "registry.example/mesh:1"}
            operations.append({"op": "add", "path": "/spec/containers/0", "value": container})
        patch = base64.b64encode(json.dumps(operations).encode()).decode()
        response = {"uid": request["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
        body = json.dumps({"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def other_webhook(cluster: Cluster, name: str) -> Iterator[None]:
    """One that mutates Pods with the label `mesh: <name>`, called after ours."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    created = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
    entry = {
        "name": "mesh.example.com",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "rules": [created],
        "clientConfig": {"url": f"https://localhost:{server.server_port}/", "caBundle": bundle},
        "objectSelector": {"matchLabels": {"mesh": name}},
    }
    cluster.apply(
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": f"z-{name}"},
            "webhooks": [entry],
        }
    )
    try:
        yield
    finally:
        cluster.kubectl("delete", "mutatingwebhookconfiguration", f"z-{name}")
        server.shutdown()
        server.server_close()
