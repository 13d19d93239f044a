"""azwi-proxy-init on both sides of the packet filter, with the real iptables of each and with one that fails."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Inside = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.programs
BIN: Final = Path(sys.executable).parent
# What iptables-nft says on a kernel without nf_tables.
NO_NFT: Final = "iptables-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Invalid argument"
LOCK: Final = "/dev/shm/azwi.lock"  # noqa: S108  # in a namespace of its own
# Somebody's rules, which must be the same afterwards.
OTHERS: Final = """
{iptables} -t nat -N OTHERS
{iptables} -t nat -A OTHERS -p udp --dport 53 -j REDIRECT --to-ports 5353
{iptables} -t nat -A OUTPUT -p udp -j OTHERS
{iptables} -t nat -A OUTPUT -d 169.254.169.254/32 -p tcp --dport 81 -m comment --comment azwi-proxy-init-not -j ACCEPT
{iptables} -t nat -A PREROUTING -p tcp --dport 80 -j REDIRECT --to-ports 15006
{iptables} -t nat -A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE
"""


@pytest.fixture(params=["nft", "legacy"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """One side, and a PATH on which only its iptables is."""
    name: str = request.param
    return name, only(tmp_path, name)


def only(folder: Path, *sides: str) -> str:
    """A PATH with our programs, the usual ones and the iptables of these sides."""
    programs = folder / "bin"
    programs.mkdir()
    for usual in ("/usr/bin", "/bin"):
        for path in Path(usual).iterdir():
            if "tables" not in path.name and not (programs / path.name).exists():
                (programs / path.name).symlink_to(path)
    for one in sides:
        for program in ("", "-save", "-restore"):
            found = shutil.which(f"iptables-{one}{program}", path="/usr/sbin:/sbin")
            if found is None:
                pytest.skip(f"iptables-{one} is not installed")
            (programs / f"iptables-{one}{program}").symlink_to(found)
    return f"{BIN}:{programs}"


def rules(saved: str) -> list[str]:
    """The rules of others in the order they stand."""
    return [line for line in saved.splitlines() if line.startswith(("-A", ":O")) and "AZWI" not in line]


def test_it_works_on_this_side(side: tuple[str, str], inside: Inside) -> None:
    """The redirect is set there, verified, and set anew without a second rule; a cleanup leaves nothing."""
    name, path = side
    run = inside(
        f"azwi-proxy-init; iptables-{name}-save -t nat | grep AZWI | sort >$SAVED; azwi-proxy-init >/dev/null; "
        f"iptables-{name}-save -t nat | grep AZWI | sort | diff $SAVED -; grep -c -- '^-A' $SAVED; "
        f"rm $SAVED; azwi-proxy-init --cleanup; iptables-{name}-save -t nat | grep -c AZWI || true",
        PATH=path,
        SAVED=f"/dev/shm/azwi-{os.getpid()}-{name}",  # noqa: S108  # namespaces share that folder, and their numbers of processes
    )
    assert 0 == run.returncode, run.stdout + run.stderr
    first, *rest = run.stdout.splitlines()
    assert first.endswith(f"set in iptables ({name}), verified")
    assert ["4", f"azwi-proxy-init: chain AZWI_PROXY_OUTPUT taken out of iptables ({name})", "0"] == rest


def test_rules_of_others_are_untouched(side: tuple[str, str], inside: Inside) -> None:
    """Set, set differently and taken out: the rest of the table stays as it was, in its order."""
    name, path = side
    save = f"iptables-{name}-save -t nat; echo =="
    run = inside(
        f"{OTHERS.format(iptables=f'iptables-{name}')} {save}; azwi-proxy-init >/dev/null; {save}; "
        f"PROXY_PORT=9000 azwi-proxy-init >/dev/null; {save}; azwi-proxy-init --cleanup >/dev/null; {save}",
        PATH=path,
    )
    assert 0 == run.returncode, run.stdout + run.stderr
    before, *after = (rules(part) for part in run.stdout.split("==\n")[:4])
    assert len(before) > 5
    assert [before] * 3 == after


@pytest.mark.parametrize(
    "left",
    [
        "-N AZWI_PROXY_OUTPUT",
        "-N AZWI_PROXY_OUTPUT; {} -A OUTPUT -d 169.254.169.254 -p tcp --dport 80 -j AZWI_PROXY_OUTPUT",
        "-N AZWI_PROXY_REDIRECT; {} -A AZWI_PROXY_REDIRECT -p tcp -j REDIRECT --to-ports 1234",
        "-N AZWI_PROXY_OUTPUT; {} -A OUTPUT -p tcp -j AZWI_PROXY_OUTPUT; {} -A PREROUTING -j AZWI_PROXY_OUTPUT",
    ],
)
def test_what_a_crash_left_is_repaired(side: tuple[str, str], left: str, inside: Inside) -> None:
    """Whatever part of a redirect is there, afterwards it is whole, once."""
    name, path = side
    iptables = f"iptables-{name} -t nat"
    script = f"{iptables} {left.format(*[iptables] * 2)}; azwi-proxy-init; iptables-{name}-save -t nat | grep -- ^-A"
    run = inside(script, PATH=path)
    assert 0 == run.returncode, run.stderr
    assert "verified" in run.stdout.splitlines()[0]
    ours = [line for line in run.stdout.splitlines() if line.startswith("-A")]
    assert 4 == len(ours), run.stdout
    assert ours[0].startswith("-A OUTPUT -d 169.254.169.254/32 ")


def test_nothing_is_half_done(side: tuple[str, str], inside: Inside, tmp_path: Path) -> None:
    """A rule that the kernel refuses leaves the table as it was, since all is one transaction."""
    name, path = side
    real = shutil.which(f"iptables-{name}-restore", path=path)
    broken = tmp_path / "broken"
    broken.mkdir()
    wrapper = broken / f"iptables-{name}-restore"
    wrapper.write_text(f"#!/bin/sh\nsed 's/--to-ports 8000/--to-ports 8000 --no-such-option/' | {real} \"$@\"\n")
    wrapper.chmod(0o755)
    run = inside(
        f"azwi-proxy-init && exit 9; iptables-{name}-save -t nat | grep -c AZWI || true", PATH=f"{broken}:{path}"
    )
    assert (0, "0") == (run.returncode, run.stdout.strip()), run.stderr
    assert f"the redirect was not set: iptables ({name}): " in run.stderr
    assert "no-such-option" in run.stderr


def test_privilege(side: tuple[str, str], inside: Inside) -> None:
    """Root with NET_ADMIN and nothing else is enough for nft; legacy needs NET_RAW, and the message says so."""
    name, path = side
    bare = "setpriv --bounding-set=-all,+net_admin{} --inh-caps=-all --no-new-privs azwi-proxy-init"
    run = inside(f"{bare.format('')} || true; {bare.format(',+net_raw')}", PATH=path, XTABLES_LOCKFILE=LOCK)
    assert 0 == run.returncode, run.stderr
    assert (2 if name == "nft" else 1) == run.stdout.count("verified")
    assert ("NET_RAW for the legacy side" in run.stderr) == (name == "legacy")


def test_the_side_with_rules_is_used(inside: Inside, tmp_path: Path) -> None:
    """Where another program has set rules decides, since they are what this namespace's traffic meets."""
    run = inside(
        "iptables-legacy -t nat -A OUTPUT -p tcp --dport 81 -j ACCEPT; azwi-proxy-init; azwi-proxy-init --cleanup; "
        "iptables-legacy -t nat -F OUTPUT; azwi-proxy-init",
        PATH=only(tmp_path, "nft", "legacy"),
    )
    assert 0 == run.returncode, run.stderr
    assert ["(legacy), verified", "(legacy)", "(nft), verified"] == [
        line.rpartition("iptables ")[2] for line in run.stdout.splitlines()
    ]


def fail_nft(folder: Path) -> str:
    """A folder with an iptables-nft that fails as on a kernel without nf_tables."""
    broken = folder / "broken"
    broken.mkdir()
    for program in ("iptables-nft-restore", "iptables-nft-save"):
        (broken / program).write_text(f"#!/bin/sh\necho '{NO_NFT}' >&2\nexit 4\n")
        (broken / program).chmod(0o755)
    return str(broken)


def test_a_kernel_without_nft(inside: Inside, tmp_path: Path) -> None:
    """The legacy side takes it, though nft's programs are there."""
    run = inside("azwi-proxy-init", PATH=f"{fail_nft(tmp_path)}:{only(tmp_path, 'nft', 'legacy')}")
    assert 0 == run.returncode, run.stderr
    assert run.stdout.endswith("set in iptables (legacy), verified\n")


def test_a_kernel_without_either(inside: Inside, tmp_path: Path) -> None:
    """The programs' own words are in the message, and what is needed."""
    run = inside("azwi-proxy-init", PATH=f"{fail_nft(tmp_path)}:{only(tmp_path, 'nft')}")
    assert 1 == run.returncode
    assert NO_NFT in run.stderr
    assert "the container needs uid 0 and NET_ADMIN" in run.stderr


def test_plain_programs_are_taken_for_what_they_are(inside: Inside, tmp_path: Path) -> None:
    """An image may have iptables-restore only, of either side."""
    path = only(tmp_path, "legacy")
    programs = tmp_path / "bin"
    for program in ("", "-save", "-restore"):
        (programs / f"iptables-legacy{program}").rename(programs / f"iptables{program}")
    run = inside("azwi-proxy-init; iptables-save -t nat | grep -c -- '^-A'", PATH=path)
    assert 0 == run.returncode, run.stderr
    assert ["(legacy), verified", "4"] == [line.rpartition("iptables ")[2] for line in run.stdout.splitlines()]


LOCKER = "import fcntl, sys, time; f = open('/dev/shm/azwi.lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); time.sleep({})"


def test_a_lock_that_is_held_is_waited_for(inside: Inside, tmp_path: Path) -> None:
    """Another program changes rules: legacy waits for it to finish."""
    locker = f'{sys.executable} -c "{LOCKER.format(1.5)}"'
    run = inside(
        f"{locker} & sleep 0.5; azwi-proxy-init; wait",
        PATH=only(tmp_path, "legacy"),
        XTABLES_LOCKFILE=LOCK,
    )
    assert 0 == run.returncode, run.stderr
    assert "(legacy), verified" in run.stdout


def test_a_lock_that_stays_is_told(inside: Inside, tmp_path: Path) -> None:
    """After a bounded wait it fails, with iptables' words."""
    locker = f'{sys.executable} -c "{LOCKER.format(30)}"'
    run = inside(f"{locker} & sleep 0.5; azwi-proxy-init", PATH=only(tmp_path, "legacy"), XTABLES_LOCKFILE=LOCK)
    assert 1 == run.returncode
    assert "lock" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_loop_is_impossible(inside: Inside, tmp_path: Path) -> None:
    """A proxy that runs as a user the redirect does not exempt meets itself once, and says so."""
    (tmp_path / "token").write_text("a.b.c")
    tmp_path.chmod(0o755)
    run = inside(
        "azwi-proxy-init >/dev/null; setpriv --reuid 4242 --clear-groups azwi-proxy 2>/dev/shm/$$.log & "
        "azwi-proxy --probe && curl -sS -m 5 -w ' %{http_code}' -H Metadata:true "
        "'http://169.254.169.254/metadata/instance?api-version=2021-02-01'; kill $!",
        AZURE_TENANT_ID="t",
        AZURE_FEDERATED_TOKEN_FILE=str(tmp_path / "token"),
    )
    assert "the redirect does not exempt its user" in run.stdout, run.stderr
    assert run.stdout.endswith(" 508")
