"""The emulator as a process: files, signals, and what it says when it cannot run."""

from __future__ import annotations

import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import httpx2
import pytest
from cryptography import x509

from azwi.emulator.certificates import generate_authority, issue_server_certificate
from azwi.emulator.client import emulate, read_addresses
from azwi.emulator.server import EmulatorSettings, run
from azwi.emulator.statefile import load_state
from azwi.errors import FlagError, LocalError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from azwi.emulator.server import EmulatorSettings, run
sys.exit(run(EmulatorSettings(Path(sys.argv[1]), Path(sys.argv[2]))))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number: signal.Signals, state_file: Path, tmp_path: Path) -> None:
    """It writes where it is once it listens, says what it is, and leaves no key and no address behind."""
    folder = tmp_path / "new" / "emulator"
    command = [sys.executable, "-c", PROGRAM, str(state_file), str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        addresses = folder / "emulator.json"
        deadline = time.monotonic() + 10
        while not addresses.exists():
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        written = json.loads(addresses.read_text())
        context = ssl.create_default_context(cafile=written["caFile"])
        with httpx2.Client(verify=context) as client:
            assert 200 == client.get(written["authority"]).status_code
            process.send_signal(number)
            _, said = process.communicate(timeout=10)
    assert 0 == process.returncode
    assert 1 == said.count("\n")
    assert written["authority"] in said
    assert "no identity provider" in said
    assert "loopback only" in said
    assert ["ca.crt"] == [path.name for path in folder.iterdir()]


def test_a_port_in_use_is_told(state_file: Path, tmp_path: Path) -> None:
    """Two emulators on one port: the second says which port it is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            run(EmulatorSettings(state_file, tmp_path, port))


def test_a_port_beyond_all_ports_is_told(state_file: Path, tmp_path: Path) -> None:
    """A number that is no port is one sentence."""
    with pytest.raises(LocalError, match="a port is 0 to 65535"):
        run(EmulatorSettings(state_file, tmp_path, 65536))


def test_a_folder_that_cannot_be_written_is_told(state_file: Path) -> None:
    """A file where the folder should be is named."""
    with pytest.raises(LocalError, match=r"cannot write into the folder .*state.yaml: File exists"):
        run(EmulatorSettings(state_file, state_file))


def test_a_trust_file_that_cannot_be_read_is_told(state_file: Path, tmp_path: Path) -> None:
    """A trust file without certificates is named."""
    with pytest.raises(LocalError, match=r"cannot read certificates from .*state.yaml"):
        run(EmulatorSettings(state_file, tmp_path, trust=state_file))


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        ("not one YAML document: .* in line 1", b"tenants: [}"),
        ("not one YAML document", b"\xff\xfe\xff"),
        ("not one YAML document", b"a: 2001-99-99"),
        ("not one YAML document: nested more than 20 levels", b"[\n" * 500),
        ("not one YAML document: .*nest", b"[" * 5000),
        ("not one YAML document: more than 64 aliases", b"a: &a 1\nb: [" + b"*a, " * 65 + b"]"),
        ("not one YAML document: .*line 2", b"---\n---\n"),
        ("larger than 1 MiB", b"#" * (1 << 20) + b"#"),
        ("the document: expected `object`", b""),
        ("the document: expected `object`", b"&a [*a]"),
        ("not one YAML document: a value does not fit its tag", b"tenants: !!timestamp x"),
        ("not one YAML document: a value does not fit its tag", b"tenants: !!bool x"),
        ("not one YAML document: a value does not fit its tag", b"tenants: !!int ''"),
        ("not one YAML document: .*Unicode", b'tenants: "\\ud800"'),
        (
            "not one YAML document: domain is given twice in the mapping of line 2",
            b"tenants:\n- domain: a\n  domain: b\n",
        ),
    ],
)
def test_a_state_that_cannot_be_read_is_told(expected: str, content: bytes, tmp_path: Path) -> None:
    """A broken state file is one sentence with its name."""
    path = tmp_path / "state.yaml"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=expected) as raised:
        load_state(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_state_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A missing file is named with the reason."""
    with pytest.raises(ManifestError, match=r"cannot read the state file .*: No such file or directory"):
        load_state(tmp_path / "none.yaml")


def test_a_state_that_is_no_regular_file_is_told(tmp_path: Path) -> None:
    """A pipe to which nobody writes would be waited for, also by a signal."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ManifestError, match="pipe is no regular file"):
        load_state(tmp_path / "pipe")


def test_two_ports_that_are_one_are_told(state_file: Path, tmp_path: Path) -> None:
    """A port that is bound and not yet listened on is in use, too."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(LocalError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
        run(EmulatorSettings(state_file, tmp_path, port, imds_port=port))


@pytest.mark.parametrize("name", ["", "a b/c", "::1", "\u00fc.example", "x" * 64])
def test_a_name_that_is_none_is_told(name: str, state_file: Path, tmp_path: Path) -> None:
    """A host name that no URL and no certificate can have."""
    with pytest.raises(FlagError, match="is no host name"):
        run(EmulatorSettings(state_file, tmp_path, name=name))


def test_a_folder_has_one_emulator(state_file: Path, tmp_path: Path) -> None:
    """The second one would replace the authority of the first; when that is gone, another may come."""
    with emulate(state_file, tmp_path / "run") as first:
        with pytest.raises(LocalError, match=r"an emulator runs in .*run already"):
            run(EmulatorSettings(state_file, tmp_path / "run"))
        assert first.is_running()
    with emulate(state_file, tmp_path / "run") as second:
        assert second.is_running()


@pytest.mark.parametrize("content", ["", "7", "[]", "{}", '{"authority": 7, "issuer": "", "caFile": ""}'])
def test_a_folder_with_another_file_is_told(content: str, tmp_path: Path) -> None:
    """Whatever stands in emulator.json."""
    (tmp_path / "emulator.json").write_text(content)
    with pytest.raises(LocalError, match=r"emulator\.json is no file of the emulator's"):
        read_addresses(tmp_path)


def test_certificates_carry_the_names_asked_for() -> None:
    """A server certificate is good for loopback and for further names, and comes from the authority."""
    authority = generate_authority(1_800_000_000)
    issued = issue_server_certificate(authority, 1_800_000_000, ["login.microsoftonline.com", "localhost"])
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    certificate.verify_directly_issued_by(authority.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["localhost", "login.microsoftonline.com"] == names.get_values_for_type(x509.DNSName)
    assert [ipaddress.ip_address("127.0.0.1")] == names.get_values_for_type(x509.IPAddress)
