"""The redirect as text: what is wanted from the environment, and the transaction that makes it so."""

from __future__ import annotations

import pytest

from azwi.errors import ConfigurationError
from azwi.proxy_init.rules import RedirectPlan, holds_rules, read_plan, render_cleanup, render_redirect

OTHERS = "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE - [0:0]\n-A OUTPUT -j KUBE\nCOMMIT\n"
# What the Go original's script leaves, run twice with two ports.
REFERENCE = """*nat
:OUTPUT ACCEPT [0:0]
:AZWI_PROXY_OUTPUT - [0:0]
:AZWI_PROXY_REDIRECT - [0:0]
-A OUTPUT -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j AZWI_PROXY_OUTPUT
-A OUTPUT -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j AZWI_PROXY_OUTPUT
-A AZWI_PROXY_OUTPUT -m owner --uid-owner 1501 -j ACCEPT
-A AZWI_PROXY_OUTPUT -j AZWI_PROXY_REDIRECT
-A AZWI_PROXY_REDIRECT -p tcp -j REDIRECT --to-ports 8000
COMMIT
"""


def test_the_defaults_are_the_references() -> None:
    """Nothing set, or set to nothing."""
    assert RedirectPlan(8000, 1501, "169.254.169.254", 80) == read_plan({}) == read_plan({"PROXY_PORT": ""})


def test_all_can_be_set() -> None:
    """By the reference's variables."""
    environment = {"PROXY_PORT": "9000", "PROXY_UID": "0", "METADATA_IP": "10.0.0.1", "METADATA_PORT": "8080"}
    assert RedirectPlan(9000, 0, "10.0.0.1", 8080) == read_plan(environment)


@pytest.mark.parametrize(
    ("expected", "name", "value"),
    [
        ("PROXY_PORT is '0'; 1 to 65535 are allowed", "PROXY_PORT", "0"),
        ("PROXY_PORT is '65536'", "PROXY_PORT", "65536"),
        ("PROXY_PORT is '-1'", "PROXY_PORT", "-1"),
        ("PROXY_PORT is '٣'", "PROXY_PORT", "٣"),
        ("METADATA_PORT is '80 -j DROP'", "METADATA_PORT", "80 -j DROP"),
        ("PROXY_UID is '4294967295'; 0 to 4294967294", "PROXY_UID", "4294967295"),
        ("PROXY_UID is 'root'", "PROXY_UID", "root"),
        ("METADATA_IP is 'fd00::1'; an IPv4 address", "METADATA_IP", "fd00::1"),
        ("METADATA_IP is '1.2.3'", "METADATA_IP", "1.2.3"),
    ],
)
def test_bad_input_is_refused(expected: str, name: str, value: str) -> None:
    """Before anything is touched, with what is allowed; several problems come together."""
    with pytest.raises(ConfigurationError) as raised:
        read_plan({name: value})
    assert expected in str(raised.value)
    assert "nothing was changed" in str(raised.value)
    with pytest.raises(ConfigurationError, match=r"METADATA_IP is 'x'.*PROXY_PORT is 'y'"):
        read_plan({"METADATA_IP": "x", "PROXY_PORT": "y"})


def test_an_empty_table_gets_the_redirect_first() -> None:
    """The jump is the first rule of OUTPUT; the proxy's own traffic is let through before the redirect."""
    lines = render_redirect(RedirectPlan(), OTHERS).splitlines()
    assert "*nat" == lines[0]
    assert "COMMIT" == lines[-1]
    assert not [line for line in lines if line.startswith(("-D", "-F", "-X")) or "KUBE" in line]
    rules = [line.replace('-m comment --comment "azwi-proxy-init" ', "") for line in lines if line.startswith("-")]
    assert [
        "-I OUTPUT 1 -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j AZWI_PROXY_OUTPUT",
        "-A AZWI_PROXY_OUTPUT -m owner --uid-owner 1501 -j ACCEPT",
        "-A AZWI_PROXY_OUTPUT -j AZWI_PROXY_REDIRECT",
        "-A AZWI_PROXY_REDIRECT -p tcp -j REDIRECT --to-ports 8000",
    ] == rules


def test_an_earlier_run_is_replaced() -> None:
    """Each jump that is there is taken out, in the words in which it was saved."""
    lines = render_redirect(RedirectPlan(9000), REFERENCE).splitlines()
    jump = "-D OUTPUT -d 169.254.169.254/32 -p tcp -m tcp --dport 80 -j AZWI_PROXY_OUTPUT"
    assert 2 == lines.count(jump)
    assert lines.index(jump) < next(number for number, line in enumerate(lines) if line.startswith("-I OUTPUT 1"))
    assert not [line for line in lines if "8000" in line]


def test_cleanup_takes_out_what_is_ours() -> None:
    """Jumps first, then the chains; nothing where there is nothing."""
    lines = render_cleanup(REFERENCE).splitlines()
    assert ["-X AZWI_PROXY_OUTPUT", "-X AZWI_PROXY_REDIRECT"] == lines[-3:-1]
    assert 2 == sum(line.startswith("-D OUTPUT") for line in lines)
    assert "" == render_cleanup(OTHERS)
    assert (True, False) == (holds_rules(OTHERS), holds_rules("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"))
