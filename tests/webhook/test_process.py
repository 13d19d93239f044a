"""The real azwi-webhook process over TLS: what it answers, how it lives, what it never prints."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonpatch
import pytest
import trustme
from cryptography import x509

from azwi.local.processes import free_port
from azwi.webhook.life import DRAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.programs
PROGRAM = Path(sys.executable).with_name("azwi-webhook")
CLIENT = "22222222-2222-2222-2222-222222222222"
OTHER = "33333333-3333-3333-3333-333333333333"
LIMIT = 7_340_032
PATH = "/mutate-v1-pod"
POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "secret-pod-name", "namespace": "shop"},
    "spec": {
        "serviceAccountName": "app",
        "containers": [{"name": "app", "env": [{"name": "X", "value": "secret-value"}]}],
    },
}
AUTHORITY = trustme.CA()


def account(client_id: str) -> str:
    """The manifest of the service account that POD names."""
    annotations = {"azure.workload.identity/client-id": client_id}
    metadata = {"name": "app", "namespace": "shop", "annotations": annotations}
    return json.dumps({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})


def write_certificate(folder: Path) -> int:
    """Write a new pair into the folder; gives its serial number."""
    certificate = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(pem.bytes() for pem in certificate.cert_chain_pems)
    (folder / "tls.crt").write_bytes(chain)
    (folder / "tls.key").write_bytes(certificate.private_key_pem.bytes())
    return x509.load_pem_x509_certificate(chain).serial_number


def wait_until(look: Callable[[], Any], what: str) -> Any:  # noqa: ANN401
    """What `look` gives as soon as it gives something."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(what)


class Webhook:
    """A running webhook with its files."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.folder = folder
        self.output = folder / "output.log"
        self.serial = write_certificate(folder)
        self.accounts = folder / "accounts.json"
        self.accounts.write_text(account(CLIENT))
        self.health, self.metrics = free_port(), free_port()
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    PROGRAM,
                    "--port=0",
                    "--bind-address=127.0.0.1",
                    f"--health-addr=127.0.0.1:{self.health}",
                    f"--metrics-addr=127.0.0.1:{self.metrics}",
                    f"--webhook-cert-dir={folder}",
                    f"--service-accounts={self.accounts}",
                    "--shutdown-delay=0",
                    *flags,
                ],
                env={"PATH": os.environ["PATH"], "AZURE_TENANT_ID": "11111111-1111-1111-1111-111111111111"},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.port: int = wait_until(self._find_port, "start")

    def _find_port(self) -> int | None:
        assert self.process.poll() is None, self.output.read_text()
        lines = [json.loads(line) for line in self.output.read_text().splitlines(keepends=True) if line.endswith("\n")]
        return next((line["port"] for line in lines if line["message"] == "webhook serves"), None)

    def stop(self) -> int:
        """SIGTERM; gives the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def connect(self) -> http.client.HTTPSConnection:
        """A connection that trusts our authority."""
        context = ssl.create_default_context()
        AUTHORITY.configure_trust(context)
        return http.client.HTTPSConnection("localhost", self.port, context=context, timeout=10)

    def post(self, body: bytes, content_type: str = "application/json") -> dict[str, Any]:
        """The answer to a review; the HTTP status is 200 whatever the verdict."""
        with closing(self.connect()) as connection:
            connection.request("POST", PATH, body, {"Content-Type": content_type})
            response = connection.getresponse()
            assert response.status == 200
            answered: dict[str, Any] = json.loads(response.read())
            return answered

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Status and text of a page on one of the plain ports."""
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()

    def client_id(self) -> str:
        """The client id that a Pod gets now."""
        patch = json.loads(base64.b64decode(self.post(review())["response"]["patch"]))
        pod = jsonpatch.apply_patch(POD, patch)
        return str(pod["spec"]["containers"][0]["env"][0]["value"])


def review(pod: dict[str, Any] = POD) -> bytes:
    """An admission review."""
    request = {"uid": "the-uid", "namespace": "shop", "operation": "CREATE", "object": pod}
    return json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()


@pytest.fixture(scope="module")
def webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Webhook]:
    """A webhook that several tests ask, at the most detailed level."""
    running = Webhook(tmp_path_factory.mktemp("webhook"), "--log-level=debug")
    yield running
    assert running.stop() == 0


def test_a_review_over_tls_comes_back_with_a_patch(webhook: Webhook) -> None:
    """R 2.2: uid, allowed, patch; a charset in the content type is fine (D 20), a query string too."""
    for content_type in ("application/json", "application/json; charset=utf-8"):
        answered = webhook.post(review(), content_type)

        assert (answered["apiVersion"], answered["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
        assert answered["response"]["uid"] == "the-uid"
        assert answered["response"]["allowed"]
        assert answered["response"]["patchType"] == "JSONPatch"
    assert webhook.client_id() == CLIENT


@pytest.mark.parametrize(
    ("body", "content_type", "code", "words"),
    [
        (b"", "application/json", 400, "request body is empty"),
        (b"{", "application/json", 400, "json parse error"),
        (b"[" * 200_000, "application/json", 400, "cannot be read"),
        (b'{"a":' * 100_000, "application/json", 400, "json parse error"),
        (b'{"request": {"object": {"spec": {"hostNetwork": 1' + b"0" * 400 + b"}}}}", "application/json", 400, ""),
        (review(), "text/plain", 400, "contentType=text/plain, expected application/json"),
        (b" " * (LIMIT + 1), "application/json", 413, f"request entity is too large; limit is {LIMIT} bytes"),
        (b" " * LIMIT, "application/json", 400, "json parse error"),
    ],
)
def test_what_is_no_review_is_refused_in_the_answer(
    webhook: Webhook, body: bytes, content_type: str, code: int, words: str
) -> None:
    """R 2.3: HTTP 200, allowed false, and the reason; the size limit is 7 MiB."""
    response = webhook.post(body, content_type)["response"]

    assert not response["allowed"]
    assert response["status"]["code"] == code
    assert words in response["status"]["message"]


def test_an_answer_comes_in_one_piece(webhook: Webhook) -> None:
    """Head and body are one TLS record, so that the API server wakes up once; also of refusals, also at the end."""
    for content_type in ("application/json", "text/plain"):
        body = review()
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        connection = webhook.connect()
        connection.connect()
        with closing(connection):
            connection.sock.sendall(head.encode() + body)
            record = connection.sock.recv(1 << 16)
        answered_head, _, answered = record.partition(b"\r\n\r\n")
        assert f"content-length: {len(answered)}".encode() in answered_head.lower()
        assert json.loads(answered)["response"]


def test_a_chunked_body_counts_like_any_other(webhook: Webhook) -> None:
    """A body without Content-Length is read whole, and the limit holds for it, too."""
    for parts, code in (([review()[:50], review()[50:]], 200), ([b" " * 1_000_000] * 8, 413)):
        with closing(webhook.connect()) as connection:
            connection.request("POST", PATH, iter(parts), {"Content-Type": "application/json"}, encode_chunked=True)
            answered = json.loads(connection.getresponse().read())

        assert answered["response"]["status"]["code"] == code


@pytest.mark.parametrize(("method", "path", "status"), [("GET", PATH, 405), ("PUT", PATH, 405), ("POST", "/", 404)])
def test_other_methods_and_paths(webhook: Webhook, method: str, path: str, status: int) -> None:
    """D 20: POST only; other paths are not there."""
    with closing(webhook.connect()) as connection:
        connection.request(method, path, review(), {"Content-Type": "application/json"})

        assert connection.getresponse().status == status


def test_one_connection_serves_many_reviews(webhook: Webhook) -> None:
    """Keep-alive, as the API server uses it."""
    with closing(webhook.connect()) as connection:
        for _ in range(3):
            connection.request("POST", PATH + "?timeout=5s", review(), {"Content-Type": "application/json"})
            assert json.loads(connection.getresponse().read())["response"]["allowed"]


def test_health_and_metrics_have_their_own_ports(webhook: Webhook) -> None:
    """R 3: healthz and readyz; /metrics counts by result and keeps the reference's histogram."""
    webhook.post(review())
    webhook.post(b"")

    assert webhook.get(webhook.health, "/healthz") == (200, "ok")
    assert webhook.get(webhook.health, "/readyz") == (200, "ok")
    assert webhook.get(webhook.health, "/other")[0] == 404
    assert webhook.get(webhook.metrics, "/other")[0] == 404
    status, text = webhook.get(webhook.metrics, "/metrics")
    assert status == 200
    assert 'azwi_admission_reviews_total{reason="",result="mutated"}' in text
    assert 'azwi_admission_reviews_total{reason="empty-body",result="refused"}' in text
    assert 'azwi_mutation_request_bucket{le="0.001",namespace="shop",service_name="webhook"}' in text
    assert "azwi_service_accounts 1.0" in text


def test_old_tls_is_refused(webhook: Webhook) -> None:
    """R 2.3: TLS 1.3 and nothing below it, unless a flag says so."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    with socket.create_connection(("127.0.0.1", webhook.port), timeout=10) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="localhost")


def test_nothing_of_a_pod_is_logged(webhook: Webhook) -> None:
    """At the most detailed level the output names uid and namespace, and nothing of the Pod or its account."""
    webhook.post(review())

    output = webhook.output.read_text()
    assert "the-uid" in output
    for secret in ("secret-pod-name", "secret-value", CLIENT, "PRIVATE KEY"):
        assert secret not in output


def test_a_changed_certificate_and_changed_accounts_are_taken_over(tmp_path: Path) -> None:
    """New connections see the new certificate, an open one goes on; a broken pair changes nothing."""
    running = Webhook(tmp_path)
    try:
        with closing(running.connect()) as kept:
            kept.request("POST", PATH, review(), {"Content-Type": "application/json"})
            kept.getresponse().read()
            serial = write_certificate(tmp_path)
            running.accounts.write_text(account(OTHER))

            wait_until(lambda: served_serial(running) == serial, "the new certificate")
            wait_until(lambda: running.client_id() == OTHER, "the new account")

            kept.request("POST", PATH, review(), {"Content-Type": "application/json"})
            assert json.loads(kept.getresponse().read())["response"]["allowed"]
        (tmp_path / "tls.crt").write_text("broken")
        wait_until(lambda: "what was read stays" in running.output.read_text(), "the complaint")
        assert served_serial(running) == serial
    finally:
        assert running.stop() == 0


def served_serial(webhook: Webhook) -> int:
    """The serial number of the certificate that a new connection gets."""
    with closing(webhook.connect()) as connection:
        connection.connect()
        assert isinstance(connection.sock, ssl.SSLSocket)
        certificate = connection.sock.getpeercert(binary_form=True)
        assert certificate is not None
    return x509.load_der_x509_certificate(certificate).serial_number


def test_sigterm_ends_it_soon_though_a_connection_is_idle(tmp_path: Path) -> None:
    """An idle keep-alive connection does not hold up the end; the exit code is 0."""
    running = Webhook(tmp_path)
    with closing(running.connect()) as idle:
        idle.request("POST", PATH, review(), {"Content-Type": "application/json"})
        idle.getresponse().read()
        began = time.monotonic()

        assert running.stop() == 0

        assert time.monotonic() - began < DRAIN


def test_sigterm_is_followed_by_a_time_in_which_reviews_are_answered(tmp_path: Path) -> None:
    """D 22: unready at once; old and new connections are served on, each told to close; then it ends with 0."""
    running = Webhook(tmp_path, "--shutdown-delay=2")
    with closing(running.connect()) as open_before:
        open_before.request("POST", PATH, review(), {"Content-Type": "application/json"})
        assert open_before.getresponse().read()
        running.process.send_signal(signal.SIGTERM)
        wait_until(lambda: running.get(running.health, "/readyz")[0] == 503, "unready")
        assert 200 == running.get(running.health, "/healthz")[0]
        for connection in (open_before, running.connect()):
            connection.request("POST", PATH, review(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            assert json.loads(answer.read())["response"]["allowed"]
            assert "close" == answer.getheader("connection")
            connection.close()
        assert running.process.wait(15) == 0


@pytest.mark.parametrize("hurry", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_it_at_once(hurry: signal.Signals, tmp_path: Path) -> None:
    """Somebody who asks twice, or by Ctrl-C, does not wait."""
    running = Webhook(tmp_path, "--shutdown-delay=60")
    began = time.monotonic()
    running.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "webhook stops" in running.output.read_text(), "stop")
    running.process.send_signal(hurry)
    assert running.process.wait(15) == 0
    assert time.monotonic() - began < 15


@pytest.mark.parametrize("missing", ["tls.crt", "tls.key", "port", "pair"])
def test_what_keeps_it_from_starting_is_told_in_one_line(missing: str, tmp_path: Path) -> None:
    """No certificate, a key of another one, a port in use: exit 1, one sentence, no traceback."""
    write_certificate(tmp_path)
    (tmp_path / "accounts.json").write_text(account(CLIENT))
    if missing == "pair":
        (tmp_path / "tls.key").write_bytes(AUTHORITY.issue_cert("x").private_key_pem.bytes())
    elif missing != "port":
        (tmp_path / missing).unlink()
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1] if missing == "port" else 0
        flags = [f"--port={port}", "--bind-address=127.0.0.1", "--health-addr=0", "--metrics-addr=0"]
        run = subprocess.run(
            [PROGRAM, *flags, f"--webhook-cert-dir={tmp_path}", f"--service-accounts={tmp_path / 'accounts.json'}"],
            env={"PATH": os.environ["PATH"], "AZURE_TENANT_ID": "t"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert run.returncode == 1
    assert run.stderr.startswith("azwi-webhook: ")
    assert run.stderr.count("\n") == 1
    assert {"port": "--port", "pair": "no certificate with its key"}.get(missing, "no certificate") in run.stderr
