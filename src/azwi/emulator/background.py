"""An emulator that outlives the command that starts it, and the environment by which a shell finds it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from azwi.emulator.client import START_DEADLINE, EmulatorClient, read_addresses
from azwi.emulator.server import write_whole
from azwi.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from azwi.emulator.server import EmulatorSettings

BUNDLE_NAME: Final = "ca-bundle.crt"
LOG_NAME: Final = "emulator.log"
_POLL: Final = 0.02  # seconds


def run_once(settings: EmulatorSettings) -> str:
    """The environment of the emulator that runs with this folder, which is started if there is none.

    Gives:
        Lines of shell that export it; `kill $AZWI_EMULATOR_PID` ends the emulator.

    Raises:
        LocalError: It does not come up; its own words are in the message.
    """
    with _turn(settings.folder):
        client = _find_running(settings.folder) or _start(settings)
    try:
        return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in _environment(client).items())
    finally:
        client.close()


@contextlib.contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """One at a time: who comes second finds the emulator that the first has started."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / LOG_NAME).open("ab")
    except OSError as problem:
        raise LocalError(f"cannot write into the folder {folder}: {problem.strerror}") from problem
    with log:
        fcntl.flock(log, fcntl.LOCK_EX)
        yield


def _find_running(folder: Path) -> EmulatorClient | None:
    try:
        client = EmulatorClient(read_addresses(folder))
    except (LocalError, OSError):
        return None
    if client.is_running():
        return client
    client.close()
    return None


def _start(settings: EmulatorSettings) -> EmulatorClient:
    argv = [sys.executable, "-m", "azwi.cli.main", "emulator", f"--state={settings.state}", f"--dir={settings.folder}"]
    argv.append(f"--port={settings.port}")
    if settings.imds_port is not None:
        argv.append(f"--imds-port={settings.imds_port}")
    with (settings.folder / LOG_NAME).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own program
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    deadline = time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline and process.poll() is None:
        found = _find_running(settings.folder)
        if found is not None and found.pid == process.pid:
            return found
        time.sleep(_POLL)
    said = (settings.folder / LOG_NAME).read_text(errors="replace").strip().rpartition("\n")[2]
    process.kill()
    process.wait()
    raise LocalError(said.removeprefix("Error: ") or "the emulator did not come up")


def _environment(client: EmulatorClient) -> Mapping[str, str]:
    environment = {
        "AZURE_AUTHORITY_HOST": client.authority,
        "AZURE_TENANT_ID": client.tenants[0],
        **trust_environment(Path(client.ca_file)),
    }
    if client.imds:
        environment["AZURE_POD_IDENTITY_AUTHORITY_HOST"] = client.imds
    return environment | {"AZWI_EMULATOR_PID": str(client.pid)}


def trust_environment(ca_file: Path) -> dict[str, str]:
    """Variables by which programs trust this authority beside those that the machine trusts.

    A bundle of both is written beside the file: most programs replace what they trust and do not add to it. Java reads
    none of these.
    """
    bundle = ca_file.with_name(BUNDLE_NAME)
    write_whole(bundle, system_authorities() + ca_file.read_bytes())
    return {
        "SSL_CERT_FILE": str(bundle),  # OpenSSL, Go, Python's ssl, .NET, Rust
        "REQUESTS_CA_BUNDLE": str(bundle),  # Python's requests, and so azure-identity and msal
        "CURL_CA_BUNDLE": str(bundle),
        "NODE_EXTRA_CA_CERTS": str(ca_file),  # adds
    }


def system_authorities() -> bytes:
    """The PEM certificates that this machine trusts; none where OpenSSL finds no file."""
    for path in (os.environ.get("SSL_CERT_FILE"), ssl.get_default_verify_paths().cafile, *SYSTEM_BUNDLES):
        if path and Path(path).is_file():
            return Path(path).read_bytes().rstrip(b"\n") + b"\n"
    return b""


# Where distributions keep what they trust: Debian, Fedora, openSUSE, Alpine.
SYSTEM_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
