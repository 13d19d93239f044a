"""The program as a whole: its flags, its end, its errors, its probe, and the clients it is for."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.proxy.entra_standin import Reply
from tests.proxy.proxy_process import PROGRAM

from azwi.local.processes import free_port
from azwi.proxy.imds import Answer
from azwi.proxy.life import Life, Listener
from azwi.proxy.main import main
from azwi.proxy.options import parse_options
from azwi.proxy.probe import find_probed_port, probe
from azwi.proxy.server import HttpServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.proxy.entra_standin import StandIn
    from tests.proxy.proxy_process import ProxyProcess

pytestmark = pytest.mark.programs


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program with only these variables."""
    variables = {"PATH": os.environ["PATH"], **environment}
    return subprocess.run([PROGRAM, *arguments], env=variables, capture_output=True, text=True, timeout=10, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once(
    start_proxy: Callable[..., ProxyProcess], standin: StandIn, number: signal.Signals
) -> None:
    """It ends with 0, also with idle connections and in the middle of an exchange."""
    standin.replies["c-hang"] = [Reply(503, "", wait=9)]  # seconds; its own limit is two, and machines are busy
    proxy = start_proxy()
    with proxy.connect(), proxy.connect() as busy:
        target = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=a&client_id=c-hang"
        busy.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nMetadata: true\r\n\r\n".encode())
        time.sleep(0.1)
        proxy.process.send_signal(number)
        assert proxy.process.wait(8) == 0
    assert "Traceback" not in proxy.output


def test_a_signal_before_it_listens_ends_it(environment: dict[str, str]) -> None:
    """It is caught long before there are servers, since the first process of a container gets no other."""
    process = subprocess.Popen([PROGRAM, f"--proxy-port={free_port()}"], env=environment, stderr=subprocess.PIPE)
    caught = 0
    while not caught & 1 << (signal.SIGTERM - 1):
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=10)
    assert (0, b"") == (process.returncode, said)


def test_a_plain_sidecar_drains(start_proxy: Callable[..., ProxyProcess]) -> None:
    """With time to drain it serves on after SIGTERM while it is asked, within that time; a second signal ends it."""
    proxy = start_proxy("--drain-seconds=2")
    begun = time.monotonic()
    proxy.process.send_signal(signal.SIGTERM)
    while time.monotonic() - begun < 1.5:
        assert proxy.ask_token("resource=https://drained").status == 200
        time.sleep(0.05)
    assert proxy.process.wait(5) == 0
    assert 1.9 < time.monotonic() - begun < 4

    proxy = start_proxy("--drain-seconds=60")
    proxy.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        proxy.process.wait(0.5)
    proxy.process.send_signal(signal.SIGTERM)
    assert proxy.process.wait(3) == 0


def test_a_drain_is_over_when_nobody_asks() -> None:
    """It waits for a pause in the requests, and for those that are being answered."""

    async def run() -> None:
        life, answer = Life(drain_seconds=30, quiet_seconds=0.3), asyncio.Event()

        async def handle() -> Answer:
            await answer.wait()
            return Answer(200, (), b"")

        server = HttpServer(lambda _request, _body: handle(), "test")
        port = free_port()
        serving = asyncio.create_task(life.serve([Listener(server, "127.0.0.1", port, "")]))
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        await asyncio.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.6)
        assert not serving.done()
        answer.set()
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        begun = time.monotonic()
        await asyncio.wait_for(serving, 5)
        assert 0.2 < time.monotonic() - begun < 2

    asyncio.run(run())


def test_a_job_ends_its_sidecar(start_proxy: Callable[..., ProxyProcess]) -> None:
    """POST /quit is answered, and the program ends with 0, at once even where it would drain; only with the flag."""
    proxy = start_proxy("--allow-quit", "--drain-seconds=60")
    assert proxy.ask("/quit").status == 405
    assert proxy.ask("/quit", method="POST", Metadata="").status == 200
    assert proxy.process.wait(3) == 0
    proxy = start_proxy()
    assert proxy.ask("/quit", method="POST").status == 403


def test_a_missing_environment_is_one_line(tmp_path: Path) -> None:
    """All that is missing is named on stderr, and the exit code is 1."""
    done = run()
    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == "azwi-proxy: AZURE_TENANT_ID not set; AZURE_FEDERATED_TOKEN_FILE not set\n"
    done = run(AZURE_TENANT_ID="t", AZURE_FEDERATED_TOKEN_FILE=str(tmp_path), SSL_CERT_FILE=str(tmp_path / "none"))
    assert done.returncode == 1
    assert done.stderr.startswith("azwi-proxy: SSL_CERT_FILE: no certificates could be read from ")


def test_a_bad_flag_is_one_line() -> None:
    """The flag is named on stderr, and the exit code is 2."""
    done = run("--proxy-port=0")
    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert done.stderr.startswith("azwi-proxy: flag --proxy-port: '0' is no port")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        (b"object_id=x", "line 1: client_id is missing"),
        (b"\xff", "no UTF-8 text"),
        (b"#" * 1_100_000, "larger than"),
    ],
)
def test_a_bad_identity_map_is_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    content: bytes | None,
    complaint: str,
) -> None:
    """The file is named with what is wrong in it, and the exit code is 1."""
    path = tmp_path / "map"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AZURE_TENANT_ID", "t")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/token")
    assert main([f"--identity-map={path}"]) == 1
    error = capsys.readouterr().err
    assert str(path) in error
    assert complaint in error


def test_a_port_that_is_taken(proxy: ProxyProcess, environment: dict[str, str]) -> None:
    """The address and the flag are named, and the exit code is 1."""
    done = run(f"--proxy-port={proxy.port}", "--log-level=info", **environment)
    assert done.returncode == 1
    assert f"azwi-proxy: 127.0.0.1:{proxy.port} cannot be listened on" in done.stderr
    assert "--proxy-port" in done.stderr
    assert "Traceback" not in done.stderr


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """Both need no environment."""
    assert main(["--version"]) == 0
    assert '"buildVersion"' in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--require-metadata-header" in capsys.readouterr().out


def test_the_probe_of_a_running_proxy(proxy: ProxyProcess) -> None:
    """It needs no environment and says nothing."""
    done = run("--probe", f"--proxy-port={proxy.port}")
    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_the_probe_waits_for_a_slow_start(environment: dict[str, str], tmp_path: Path) -> None:
    """Refused connections are tried again until a deadline, however long that is in tries."""
    port = free_port()
    begun = time.monotonic()
    assert not probe(port, tries=1, start=0.3)
    assert 0.3 <= time.monotonic() - begun < 2
    command = [str(PROGRAM), f"--proxy-port={port}"]
    with (tmp_path / "log").open("wb") as log:
        started: list[subprocess.Popen[bytes]] = []
        start = lambda: started.append(subprocess.Popen(command, env=environment, stderr=log))  # noqa: E731
        timer = threading.Timer(0.1, start)
        timer.start()
        assert probe(port, tries=1, start=20)
        timer.join()
        started[0].terminate()
        assert started[0].wait(5) == 0


def test_the_probe_loads_next_to_nothing(proxy: ProxyProcess) -> None:
    """A kubelet runs it each second: neither an event loop nor TLS nor MSAL is loaded, and nothing for types."""
    program = (
        "import sys; before = set(sys.modules); from azwi.proxy.main import main;"
        f"assert main(['--proxy-port={proxy.port}', '--probe', '--log-level=']) == 0;"
        "unwanted = {'asyncio', 'ssl', 'msal', 'msgspec', 'http.client', 'typing', 'dataclasses', 'azwi.flags'};"
        "print(*(unwanted & set(sys.modules) - before))"
    )
    done = subprocess.run(
        [PROGRAM.with_name("python"), "-c", program], capture_output=True, text=True, timeout=10, check=False
    )
    assert (0, "\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("argv", "port"),
    [
        ("--proxy-port=8000 --probe --log-level=", 8000),
        ("--proxy-port=65535 --probe --log-level=debug", 65535),
        ("--probe --proxy-port=1 --proxy-port=2", 2),
        ("--probe", None),
        ("--proxy-port=8000", None),
        ("--probe --proxy-port=65536", None),
        ("--probe --proxy-port=99999999999999999999", None),
        ("--probe --proxy-port=0", None),
        ("--probe --proxy-port=+1", None),
        ("--probe --proxy-port=1 --log-level=loud", None),
        ("--probe --proxy-port=1 --log-level", None),
        ("--probe --proxy-port=1 --version", None),
        ("-probe --proxy-port=1", None),
    ],
)
def test_the_probes_usual_arguments_need_no_parser(argv: str, port: int | None) -> None:
    """Those that the webhook renders are read at once; all others, and every mistake, are for the whole parser."""
    assert port == find_probed_port(argv.split())
    if port is not None:
        options = parse_options(argv.split())
        assert (True, port) == (options.probe, options.port)


def test_flags_change_the_rules(start_proxy: Callable[..., ProxyProcess], tmp_path: Path) -> None:
    """The identity map, the header rule and the policy come from the flags."""
    (tmp_path / "map").write_text("object_id=o-1,client_id=c-mapped\n")
    proxy = start_proxy(f"--identity-map={tmp_path / 'map'}", "--require-metadata-header=false", "--passthrough=none")
    response = proxy.ask_token("resource=a&object_id=O-1", Metadata="")
    assert (200, "c-mapped") == (response.status, response.document["client_id"])
    assert proxy.ask("/metadata/instance").status == 403
    proxy.ask("/metadata/instance")
    assert 1 == proxy.output.count("path not served")
