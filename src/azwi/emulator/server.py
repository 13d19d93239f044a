"""Running the emulator: uvicorn over TLS on loopback, its addresses written into a folder once it listens."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import signal
import socket
import ssl
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import httpx2
import msgspec
import uvicorn

from azwi.emulator.app import NOTICE, EmulatorApp, MetadataApp
from azwi.emulator.certificates import generate_authority, issue_server_certificate
from azwi.emulator.federation import TIMEOUT, IssuerKeys
from azwi.emulator.keys import generate_cluster_key, generate_entra_key
from azwi.emulator.metadata import PUBLIC_ALIASES, PUBLIC_NAMES
from azwi.emulator.statefile import StateFile
from azwi.emulator.world import CLUSTER, World
from azwi.errors import FlagError, LocalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from pathlib import Path

    from azwi.emulator.certificates import ServerCertificate

CA_NAME: Final = "ca.crt"
ADDRESSES_NAME: Final = "emulator.json"
_HOST: Final = "127.0.0.1"
_HTTPS: Final = 443
_LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"  # RFC 1123
_NAME: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(\.{_LABEL})*", re.IGNORECASE)
_DRAIN: Final = 1  # seconds that answers in flight get at the end
_KEEP_ALIVE: Final = 75  # seconds


@dataclass(frozen=True, slots=True)
class EmulatorSettings:
    """What to run.

    Attributes:
        state: The YAML state file; its shape stands in `azwi.emulator.directory`.
        folder: Where `ca.crt` and `emulator.json` are written; made if it does not exist.
        port: 0 takes a free one.
        host: The address to listen on.
        imds_port: Where the metadata service listens in plain HTTP; 0 takes a free one, None has none.
        imds_host: Its address; only a namespace of one's own has 169.254.169.254.
        name: The host name in all addresses. A name of the public cloud's needs port 443, and somebody who lets it
            resolve to loopback.
        trust: A file of PEM certificates to trust, beside the system's and the own, when issuers are fetched.
    """

    state: Path
    folder: Path
    port: int = 0
    imds_port: int | None = None
    imds_host: str = _HOST
    name: str = "localhost"
    trust: Path | None = None
    host: str = _HOST


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running emulator is found; `emulator.json` holds the same."""

    authority: str
    issuer: str
    ca_file: Path
    imds: str = ""
    graph: str = ""
    resource_manager: str = ""

    def document(self, tenants: list[str]) -> Mapping[str, object]:
        """The content of `emulator.json`: also the process's id and the tenants that the state had at the start."""
        return {
            "authority": self.authority,
            "issuer": self.issuer,
            "caFile": str(self.ca_file),
            "imds": self.imds,
            "graph": self.graph,
            "resourceManager": self.resource_manager,
            "tenants": tenants,
            "pid": os.getpid(),
        }


def run(settings: EmulatorSettings) -> int:
    """Run until SIGTERM or SIGINT; the exit code. For a main thread.

    Raises:
        ManifestError: The state file cannot be read or does not hold what it must.
        FlagError: The name is no host name.
        LocalError: The port or the folder cannot be used.
    """
    asyncio.run(_run_until_signal(settings))
    return 0


async def _run_until_signal(settings: EmulatorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)


async def serve(settings: EmulatorSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set, with a line on stderr once it listens; raises as `run`."""
    async with serving(settings) as addresses:
        imds = f", metadata service at {addresses.imds}" if addresses.imds else ""
        where = "on loopback only" if settings.host == _HOST else f"listening on {settings.host}"
        sys.stderr.write(f"azwi emulator at {addresses.authority}{imds}, {where}. {NOTICE}\n")
        sys.stderr.flush()
        await stop.wait()


@contextlib.asynccontextmanager
async def serving(settings: EmulatorSettings) -> AsyncIterator[Addresses]:
    """A running emulator: listens before the block is entered, is gone after it; raises as `run`."""
    ca_file = (settings.folder / CA_NAME).absolute()
    authority = generate_authority(time.time())
    certificate = issue_server_certificate(authority, time.time(), _server_names(settings.name))
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(_only_one(settings.folder))
        listener = stack.enter_context(_listening_socket(settings.host, settings.port))
        base_url = f"https://{settings.name}{_port_suffix(listener)}"
        client = await stack.enter_async_context(_issuer_client(authority.pem, settings.trust))
        world = _make_world(base_url, settings, client)
        addresses = Addresses(
            base_url + "/", world.cluster_issuer, ca_file, graph=world.graph_url, resource_manager=world.arm_url
        )
        if settings.imds_port is not None:
            metadata = stack.enter_context(_listening_socket(settings.imds_host, settings.imds_port))
            await stack.enter_async_context(_uvicorn(MetadataApp(world), metadata))
            addresses = replace(addresses, imds=f"http://{settings.imds_host}:{metadata.getsockname()[1]}")
        tenants = [tenant.tenant_id for tenant in world.directory().tenants]
        content = msgspec.json.encode(addresses.document(tenants))
        with _files(settings.folder):
            (settings.folder / ADDRESSES_NAME).unlink(missing_ok=True)
            write_whole(ca_file, authority.pem)
        await stack.enter_async_context(_uvicorn(EmulatorApp(world), listener, certificate))
        with _files(settings.folder):
            write_whole(settings.folder / ADDRESSES_NAME, content)
        try:
            yield addresses
        finally:
            _remove_own(settings.folder / ADDRESSES_NAME, content)


def _server_names(name: str) -> Sequence[str]:
    """What the certificate is for."""
    if not _NAME.fullmatch(name):
        raise FlagError(f"--name {name!r} is no host name", hint="give letters, digits, - and ., such as localhost")
    return PUBLIC_NAMES if name in PUBLIC_ALIASES else (name,)


def _port_suffix(listener: socket.socket) -> str:
    port = listener.getsockname()[1]
    return "" if port == _HTTPS else f":{port}"


def _make_world(base_url: str, settings: EmulatorSettings, client: httpx2.AsyncClient) -> World:
    state = StateFile(settings.state, f"{base_url}/{CLUSTER}")
    return World(
        base_url=base_url,
        read_directory=state.read,
        entra_keys=[generate_entra_key(time.time())],
        cluster_keys=[generate_cluster_key()],
        issuer_keys=IssuerKeys(client, time.monotonic),
        clock=time.time,
    )


def _issuer_client(own: bytes, trust: Path | None) -> httpx2.AsyncClient:
    """The client that fetches issuers' documents; no proxies, no redirects, no idle connections."""
    context = ssl.create_default_context()
    context.load_verify_locations(cadata=own.decode())
    if trust is not None:
        try:
            context.load_verify_locations(cafile=trust)
        except OSError as error:  # ssl.SSLError is one
            raise LocalError(f"cannot read certificates from {trust}: {error.strerror or error}") from error
    fresh = httpx2.Limits(max_keepalive_connections=0)
    return httpx2.AsyncClient(verify=context, timeout=TIMEOUT, trust_env=False, follow_redirects=False, limits=fresh)


# --- Listening ------------------------------------------------------------------------------------------


def _listening_socket(host: str, port: int) -> socket.socket:
    # Without the protocol's number asyncio leaves Nagle's algorithm on, and every answer takes 40 ms longer.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()  # two sockets may bind the same port; only one of them can listen
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "a port is 0 to 65535"
        raise LocalError(f"cannot listen on {host}:{port}: {reason}", hint="choose another port, or 0") from error
    return listener


@contextlib.asynccontextmanager
async def _uvicorn(
    app: EmulatorApp | MetadataApp, listener: socket.socket, certificate: ServerCertificate | None = None
) -> AsyncIterator[None]:
    """A listening uvicorn, over TLS with a certificate; at the end it drains for a second and closes the listener."""
    config = uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=_DRAIN,
    )
    config.load()
    if certificate is not None:
        config.ssl = _tls_context(certificate)
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # The steps of Server.serve without its signal handlers: signals belong to whoever runs this.
    await server.startup(sockets=[listener])
    main_loop = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await main_loop
        _abort_idle(server)
        await server.shutdown(sockets=[listener])


def _abort_idle(server: uvicorn.Server) -> None:
    """Drop connections that wait for a next request: a TLS close would wait for peers that do not read."""
    for connection in list(server.server_state.connections):
        cycle = getattr(connection, "cycle", None)
        if connection.transport is not None and (cycle is None or cycle.response_complete):
            connection.transport.abort()


def _tls_context(certificate: ServerCertificate) -> ssl.SSLContext:
    """A server context; OpenSSL reads keys from files only, so the key stands in a private one for a moment."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile(prefix="azwi-emulator-") as file:  # made with mode 0600
        file.write(certificate.certificate + certificate.key)
        file.flush()
        context.load_cert_chain(file.name)
    return context


# --- Files ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Keep the folder for us: of two emulators there one would be found with the other's authority."""
    with _files(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as problem:
        raise LocalError(f"an emulator runs in {folder} already", hint="end it, or name another folder") from problem
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _files(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the folder into an error of ours; makes the folder first."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise LocalError(f"cannot write into the folder {folder}: {error.strerror}") from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _remove_own(path: Path, content: bytes) -> None:
    """Remove the file unless another emulator has put its own there meanwhile."""
    with contextlib.suppress(OSError):
        if path.read_bytes() == content:
            path.unlink()
