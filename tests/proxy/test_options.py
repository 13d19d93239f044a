"""Flags and environment: every mistake is told by its outside name."""

from __future__ import annotations

import pytest

from azwi import log
from azwi.entra.binding import TokenProxy
from azwi.errors import ConfigurationError, FlagError
from azwi.proxy import probe
from azwi.proxy.options import LOG_LEVELS, PASSTHROUGHS, Options, parse_options
from azwi.proxy.paths import Passthrough
from azwi.proxy.settings import Settings, read_settings

ENVIRONMENT = {"AZURE_TENANT_ID": "t", "AZURE_FEDERATED_TOKEN_FILE": "/token"}


def test_defaults() -> None:
    """Without flags the proxy behaves as the reference documents."""
    expected = Options(
        port=8000,
        probe=False,
        version=False,
        log_level="",
        require_metadata_header=True,
        identity_map="",
        metrics=None,
        passthrough="instance",
        drain_seconds=0,
        allow_quit=False,
    )
    assert expected == parse_options([])


@pytest.mark.parametrize(
    ("argv", "name", "expected"),
    [
        (["--proxy-port=1"], "port", 1),
        (["-proxy-port", "65535"], "port", 65535),
        (["--probe"], "probe", True),
        (["--probe=true"], "probe", True),
        (["--log-level", "DEBUG"], "log_level", "debug"),
        (["--require-metadata-header=false"], "require_metadata_header", False),
        (["--metrics-addr=127.0.0.1:8001"], "metrics", ("127.0.0.1", 8001)),
        (["--metrics-addr=:8001"], "metrics", ("", 8001)),
        (["--metrics-addr=[::1]:8001"], "metrics", ("::1", 8001)),
        (["--passthrough=none"], "passthrough", "none"),
        (["--drain-seconds=25"], "drain_seconds", 25),
        (["--allow-quit"], "allow_quit", True),
        (["--identity-map=/map"], "identity_map", "/map"),
    ],
)
def test_flags(argv: list[str], name: str, expected: object) -> None:
    """Each flag says what it is for."""
    assert name in Options._fields
    assert expected == getattr(parse_options(argv), name)


@pytest.mark.parametrize(
    "argument",
    [
        "--proxy-port=0",
        "--proxy-port=65536",
        "--proxy-port=",
        "--proxy-port=+1",
        "--proxy-port=\u0661",
        "--log-level=loud",
        "--metrics-addr=8001",
        "--metrics-addr=x:y",
        "--passthrough=some",
        "--require-metadata-header=maybe",
        "--drain-seconds=-1",
        "--drain-seconds=86401",
        "--drain-seconds=1.5",
        "--probe=2",
        "--unknown",
        "stray",
    ],
)
def test_a_bad_flag_is_named(argument: str) -> None:
    """A value that is not allowed is refused by the flag's name, with exit code 2."""
    with pytest.raises(FlagError) as caught:
        parse_options([argument])
    assert argument.partition("=")[0] in str(caught.value)
    assert caught.value.exit_code == 2


def test_all_bad_flags_are_told_at_once() -> None:
    """Two mistakes are mended in one go."""
    with pytest.raises(FlagError) as caught:
        parse_options(["--proxy-port=0", "--passthrough=x"])
    assert "--proxy-port" in str(caught.value)
    assert "--passthrough" in str(caught.value)


def test_words_are_those_of_other_modules() -> None:
    """The options repeat words so that the probe need not load those modules; they stay the same."""
    assert set(LOG_LEVELS) == set(log.LEVELS) == set(probe._LEVELS)
    assert set(PASSTHROUGHS) == {policy.value for policy in Passthrough}


def test_the_environment() -> None:
    """The public cloud and the system's certificates are the defaults; an authority ends with a slash."""
    expected = Settings("", "t", "/token", "https://login.microsoftonline.com/", "")
    assert expected == read_settings(ENVIRONMENT)
    assert expected == read_settings({**ENVIRONMENT, "AZURE_AUTHORITY_HOST": "", "AZURE_CLIENT_ID": ""})
    full = read_settings(
        {
            **ENVIRONMENT,
            "AZURE_CLIENT_ID": "c",
            "AZURE_AUTHORITY_HOST": "https://h:1",
            "SSL_CERT_FILE": "/ca",
            "AZURE_KUBERNETES_TOKEN_PROXY": "https://x",
        }
    )
    assert Settings("c", "t", "/token", "https://h:1/", "/ca", TokenProxy("x", 443, "", "x")) == full


def test_all_that_is_missing_is_told_at_once() -> None:
    """Each variable is named, the tenant in the reference's words."""
    with pytest.raises(ConfigurationError) as caught:
        read_settings({"AZURE_AUTHORITY_HOST": "http://x"})
    text = str(caught.value)
    assert text.startswith("AZURE_TENANT_ID not set; AZURE_FEDERATED_TOKEN_FILE not set; AZURE_AUTHORITY_HOST: ")
    assert caught.value.exit_code == 1
