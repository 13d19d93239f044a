"""The flags of azwi-proxy. Kept apart from the settings, so that a mistake in them costs no time and memory.

Source: R 5 (flags), D 25, 26, 28, 30.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from azwi.contract import DEFAULT_PROXY_PORT
from azwi.errors import FlagError, sentence
from azwi.flags import Flag, parse_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM: Final = "azwi-proxy"
LOG_LEVELS: Final = ("", "info", "debug", "trace", "all")
PASSTHROUGHS: Final = ("instance", "all", "none")
_MAX_PORT: Final = 65535
_MAX_SECONDS: Final = 86400

FLAGS: Final = (
    Flag("proxy-port", str(DEFAULT_PROXY_PORT), "Port on 127.0.0.1 that requests come to, 1 to 65535."),
    Flag("probe", "false", "Ask a running proxy whether it is ready, and exit with 0 or 1.", boolean=True),
    Flag("log-level", "", f"One of {', '.join(level for level in LOG_LEVELS if level)}."),
    Flag("version", "false", "Print the version as JSON and exit.", boolean=True),
    Flag(
        "require-metadata-header",
        "true",
        "Refuse requests without the header Metadata: true, as the real service does.",
        boolean=True,
    ),
    Flag("identity-map", "", "File with a line object_id=...,client_id=... for each identity not named by client id."),
    Flag("metrics-addr", "", "Address of /metrics, such as 127.0.0.1:8001; empty for none."),
    Flag("drain-seconds", "0", "After SIGTERM, go on until 5 s without a request, so long at most; 0 ends at once."),
    Flag("allow-quit", "false", "End when asked by POST /quit, for a Job without native sidecars.", boolean=True),
    Flag("passthrough", "instance", "What goes on to the real metadata service: instance, all or none."),
)


class Options(NamedTuple):
    """What the flags say. `metrics` is host and port, or None for no metrics; `identity_map` is a path or empty."""

    port: int
    probe: bool
    version: bool
    log_level: str
    require_metadata_header: bool
    identity_map: str
    metrics: tuple[str, int] | None
    passthrough: str
    drain_seconds: int
    allow_quit: bool


def parse_options(argv: Sequence[str]) -> Options:
    """The options in the program's arguments.

    Raises:
        FlagError: Some are wrong; all of them are named, save what the syntax itself forbids.
    """
    values = parse_flags(PROGRAM, FLAGS, argv)
    problems: list[str] = []
    options = Options(
        port=_parse_port(values["proxy-port"], problems),
        probe=values["probe"] == "true",
        version=values["version"] == "true",
        log_level=_parse_choice("log-level", values["log-level"].lower(), LOG_LEVELS, problems),
        require_metadata_header=values["require-metadata-header"] == "true",
        identity_map=values["identity-map"],
        metrics=_parse_address(values["metrics-addr"], problems),
        passthrough=_parse_choice("passthrough", values["passthrough"], PASSTHROUGHS, problems),
        drain_seconds=_parse_seconds("drain-seconds", values["drain-seconds"], problems),
        allow_quit=values["allow-quit"] == "true",
    )
    if problems:
        raise FlagError(sentence(problems))
    return options


def _parse_port(value: str, problems: list[str]) -> int:
    port = _port(value)
    if port is None:
        problems.append(f"flag --proxy-port: {value!r} is no port; it must be 1 to {_MAX_PORT}")
        return 0
    return port


def _parse_seconds(name: str, value: str, problems: list[str]) -> int:
    if not (
        value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_SECONDS)) and int(value) <= _MAX_SECONDS
    ):
        problems.append(f"flag --{name}: {value!r} is no number of seconds; it must be 0 to {_MAX_SECONDS}")
        return 0
    return int(value)


def _parse_choice(name: str, value: str, allowed: Sequence[str], problems: list[str]) -> str:
    if value not in allowed:
        words = ", ".join(word for word in allowed if word)
        problems.append(f"flag --{name}: {value!r} is not one of {words}")
    return value


def _parse_address(value: str, problems: list[str]) -> tuple[str, int] | None:
    if not value:
        return None
    host, colon, digits = value.rpartition(":")
    port = _port(digits)
    if not colon or port is None:
        problems.append(f"flag --metrics-addr: {value!r} is no address; write HOST:PORT, such as 127.0.0.1:8001")
        return None
    return host.strip("[]"), port


def _port(value: str) -> int | None:
    if not (value.isascii() and value.isdigit() and len(value) <= len(str(_MAX_PORT))):
        return None
    port = int(value)
    return port if 0 < port <= _MAX_PORT else None
