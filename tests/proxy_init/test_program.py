"""azwi-proxy-init with the real iptables, in network namespaces of the test's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Inside = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.programs
PROGRAM = Path(sys.executable).with_name("azwi-proxy-init")
# What the Go original's script does, for a namespace that it has been in.
REFERENCE = """
iptables -t nat -N AZWI_PROXY_OUTPUT; iptables -t nat -N AZWI_PROXY_REDIRECT
iptables -t nat -A OUTPUT -p tcp -d 169.254.169.254 --dport 80 -j AZWI_PROXY_OUTPUT
iptables -t nat -A AZWI_PROXY_OUTPUT -m owner --uid-owner 1501 -j ACCEPT
iptables -t nat -A AZWI_PROXY_OUTPUT -j AZWI_PROXY_REDIRECT
iptables -t nat -A AZWI_PROXY_REDIRECT -p tcp -j REDIRECT --to-ports 8000
"""
OURS = "iptables-save -t nat | grep AZWI | sort"
LISTEN = """
import socket, sys, time
listener = socket.create_server((sys.argv[1], int(sys.argv[2])))
time.sleep(20)
"""
SOMEBODY = f"{sys.executable} -c '{LISTEN}'"


def test_the_redirect_works_and_is_verified(inside: Inside) -> None:
    """What any user sends to the metadata address reaches the proxy's port; what the proxy's user sends does not."""
    ask = "curl -sS -m 3 http://169.254.169.254/"
    run = inside(
        f"""
        azwi-proxy-init
        {sys.executable} -m http.server 8000 --bind 127.0.0.1 --directory /proc/self/ns >/dev/null 2>&1 &
        sleep 1
        {ask} | grep -c '<h1>'
        setpriv --reuid 1501 --clear-groups {ask} 2>&1 | grep -c 'Could not connect\\|Failed to connect\\|refused'
        """
    )
    assert (0, ["1", "1"]) == (run.returncode, run.stdout.splitlines()[1:]), run.stderr
    assert "169.254.169.254:80 leads to port 8000, but for uid 1501; set in iptables (nft), verified" in run.stdout


def test_a_second_run_changes_nothing(inside: Inside) -> None:
    """The same rules, once."""
    run = inside(
        f"azwi-proxy-init; {OURS} >/dev/shm/$$.a; azwi-proxy-init; {OURS} | diff /dev/shm/$$.a -; rm /dev/shm/$$.a"
    )
    assert 0 == run.returncode, run.stdout + run.stderr


@pytest.mark.parametrize(
    "before", ["PROXY_PORT=9000 PROXY_UID=7 azwi-proxy-init", REFERENCE, REFERENCE.splitlines()[3]]
)
def test_an_earlier_run_is_replaced(before: str, inside: Inside) -> None:
    """Ours with another port, the Go original's, and a part of it: afterwards only what was asked for is there."""
    chain = "iptables -t nat -N AZWI_PROXY_OUTPUT;" if before.startswith("iptables") else ""
    run = inside(f"{chain} {before}\nazwi-proxy-init >/dev/null; iptables-save -t nat | grep -- '^-A'")
    assert 0 == run.returncode, run.stderr
    rules = [line for line in run.stdout.splitlines() if line.startswith("-A")]
    assert 4 == len(rules), run.stdout
    assert rules[0].startswith("-A OUTPUT -d 169.254.169.254/32")
    assert "--uid-owner 1501" in run.stdout
    assert "--to-ports 8000" in run.stdout


def test_rules_of_others_stay(inside: Inside) -> None:
    """Ours comes first, theirs stay, also after a cleanup."""
    run = inside(
        "iptables -t nat -A OUTPUT -p tcp --dport 81 -j REDIRECT --to-ports 82\n"
        "azwi-proxy-init >/dev/null; iptables-save -t nat | grep -- '^-A OUTPUT'; azwi-proxy-init --cleanup; "
        "iptables-save -t nat | grep -- '^[-:]A'"
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("-A")]
    assert "AZWI_PROXY_OUTPUT" in lines[0]
    assert ["--dport 81" in line for line in lines] == [False, True, True]
    assert "taken out" in run.stdout


def test_comments_of_others_may_be_anything(inside: Inside) -> None:
    """Bytes that are no text go back as they were."""
    run = inside(
        "iptables -t nat -A OUTPUT -p tcp --dport 81 -m comment --comment \"$(printf 'caf\\351')\" -j ACCEPT\n"
        "azwi-proxy-init && azwi-proxy-init --cleanup && iptables-save -t nat | grep -c dport"
    )
    assert 0 == run.returncode, run.stderr
    assert run.stdout.endswith("1\n")


def test_a_dry_run_changes_nothing(inside: Inside) -> None:
    """It prints the transaction, which iptables-restore takes."""
    run = inside(
        "azwi-proxy-init --dry-run; iptables-save -t nat | grep -c AZWI || true; "
        "azwi-proxy-init --dry-run | iptables-restore --noflush; azwi-proxy-init --cleanup --dry-run | grep -c -- -X; "
        "iptables-save -t nat | grep -c -- '-A AZWI'"
    )
    assert (0, ["0", "2", "3"]) == (run.returncode, run.stdout.splitlines()[-3:]), run.stderr
    assert run.stdout.startswith("# ")


def test_a_port_in_use_is_told(inside: Inside) -> None:
    """Another listener on the proxy's port would take the tokens' requests."""
    run = inside(f"{SOMEBODY} 127.0.0.1 8000 & sleep 0.5; azwi-proxy-init")
    assert 1 == run.returncode
    assert "cannot listen on the proxy's port 127.0.0.1:8000: Address already in use" in run.stderr


def test_a_redirect_that_does_not_work_is_told(inside: Inside) -> None:
    """Somebody else's rule takes the traffic first: the Pod must not start as if all were well."""
    run = inside(
        "azwi-proxy-init --verify=false; iptables -t mangle -A OUTPUT -d 169.254.169.254 -j DROP; azwi-proxy-init"
    )
    assert 1 == run.returncode
    assert "the redirect is set and does not work" in run.stderr
    assert "not verified" in run.stdout


def test_a_listener_elsewhere_is_not_mistaken_for_us(inside: Inside) -> None:
    """An uid that is exempt meets whoever listens at the metadata address, and that is not the proxy."""
    run = inside(f"{SOMEBODY} 169.254.169.254 80 & sleep 0.5; azwi-proxy-init", PROXY_UID="0")
    assert 1 == run.returncode
    assert "somebody else answers there" in run.stderr


@pytest.mark.parametrize(("name", "value"), [("PROXY_PORT", "x"), ("PROXY_UID", "-1"), ("METADATA_IP", "1")])
def test_bad_input_changes_nothing(name: str, value: str, inside: Inside) -> None:
    """Exit 1, one sentence, no rule."""
    run = inside(f"azwi-proxy-init && exit 9; {OURS} | wc -l", **{name: value})
    assert "0" == run.stdout.strip()
    assert f"{name} is {value!r}" in run.stderr


def test_without_privilege_it_says_what_is_needed(inside: Inside) -> None:
    """A container that lacks NET_ADMIN fails with what it needs."""
    run = inside("setpriv --bounding-set=-net_admin --inh-caps=-net_admin azwi-proxy-init")
    assert 1 == run.returncode
    assert "the container needs uid 0 and NET_ADMIN" in run.stderr


def test_the_legacy_side_is_used_where_its_rules_are(inside: Inside) -> None:
    """Rules in iptables-legacy of this namespace decide, since nft rules beside them would surprise."""
    run = inside(
        "iptables-legacy -t nat -A OUTPUT -p tcp --dport 81 -j ACCEPT || exit 77; azwi-proxy-init; "
        "iptables-legacy-save -t nat | grep -c AZWI; iptables-nft-save -t nat 2>/dev/null | grep -c AZWI || true"
    )
    if run.returncode == 77:
        pytest.skip("the kernel has no legacy tables")
    assert "set in iptables (legacy), verified" in run.stdout, run.stderr
    assert "0" == run.stdout.splitlines()[-1]


def test_version_and_unknown_flags() -> None:
    """As the other programs."""
    version = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    assert "version" in json.dumps(json.loads(version.stdout)).lower()
    unknown = subprocess.run([PROGRAM, "--bogus"], capture_output=True, text=True, check=False)
    assert (2, True) == (unknown.returncode, "unknown flag --bogus" in unknown.stderr)


def test_without_iptables_it_says_what_to_install() -> None:
    """A PATH without it."""
    run = subprocess.run([PROGRAM], env={"PATH": "/none"}, capture_output=True, text=True, check=False)
    assert 1 == run.returncode
    assert "install the package iptables" in run.stderr
