"""Log lines: JSON for machines or text for people; the one place that knows what must never be logged.

Event messages are constant sentences; what varies goes into fields: `log.info("token served", extra={"fields":
{...}})`. Never logged: request and response bodies, Pods, tokens, assertions, keys, nor an exception's message, unless
it is one of ours.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from datetime import UTC, datetime
from typing import Any, TextIO

import msgspec

from azwi.errors import AzwiError

# R 3: the levels of `--log-level`; trace and all are the reference's words for the most detail.
LEVELS = {
    "": logging.INFO,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": logging.DEBUG,
    "all": logging.DEBUG,
}

WARNING = logging.WARNING
ERROR = logging.ERROR

_SECRET_FIELD = re.compile(
    r"^(authorization|client_secret|password|private_key|.*assertion|.*(access|refresh|id)_?token|token)$",
    re.IGNORECASE,
)
# A compact JWT (RFC 7515 section 3.1): the header of each starts with `{"`, which is eyJ in base64url.
_JWT = re.compile(r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*")
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)", re.DOTALL)
_REDACTED = "[redacted]"
_MAX_CHAIN = 10  # exceptions that are told of a chain, which may be a circle


def redact(text: str) -> str:
    """The text without anything that looks like a token or a private key."""
    if "eyJ" in text:
        text = _JWT.sub(_REDACTED, text)
    if "PRIVATE KEY" in text:
        text = _PEM.sub(_REDACTED, text)
    return text


def _safe_fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return {name: _REDACTED if _SECRET_FIELD.match(name) else _safe(value) for name, value in fields.items()}


def _safe(value: object) -> object:
    return value if isinstance(value, (int, float, bool)) or value is None else redact(str(value))


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Formatter(logging.Formatter):
    """Exceptions by where they came from and what they are; quoted are our own sentences only.

    The message of any other may hold the value that it is about, such as a variable of a Pod.
    """

    def formatException(self, ei: Any) -> str:  # noqa: ANN401, N802  # as logging has them
        """The exceptions of a chain, the first one first."""
        problem: BaseException | None = ei[1]
        told: list[str] = []
        while problem is not None and len(told) < _MAX_CHAIN:
            said = f": {problem}" if isinstance(problem, AzwiError) else ""
            told.append(f"{''.join(traceback.format_tb(problem.__traceback__))}{type(problem).__qualname__}{said}")
            problem = problem.__cause__ or (None if problem.__suppress_context__ else problem.__context__)
        return redact("\n".join(reversed(told)))


class JsonFormatter(_Formatter):
    """One JSON object a line: time, level, component, message, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record, redacted."""
        line: dict[str, object] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "component": record.name,
            "message": redact(record.getMessage()),
            **_safe_fields(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


class TextFormatter(_Formatter):
    """One line for people: time, level, message, then the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record, redacted."""
        fields = "".join(f" {name}={value}" for name, value in _safe_fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {redact(record.getMessage())}{fields}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str, *, text: bool = False, stream: TextIO | None = None) -> None:
    """Send all log lines to `stream` (default stderr) from `level` on.

    Args:
        level: A key of `LEVELS`, whatever the case.
        text: Lines for people instead of JSON.
        stream: Where to; stderr when left out.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(LEVELS[level.lower()])
    # Their debug lines hold URLs and bodies of requests; ours say what is needed.
    for noisy in ("uvicorn", "msal", "urllib3", "httpx", "httpx2", "httpcore", "httpcore2", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def logger(component: str) -> logging.Logger:
    """The logger of a component: `webhook`, `proxy`, `emulator`."""
    return logging.getLogger(component)


class Once:
    """Says that something goes on failing when it begins to and whenever the reason changes, not at every attempt."""

    def __init__(self, log: logging.Logger, level: int, message: str) -> None:
        self._log = log
        self._level = level
        self._message = message
        self._said = ""

    def say(self, problem: str, **fields: object) -> None:
        """It fails, for this reason."""
        if problem != self._said:
            self._said = problem
            self._log.log(self._level, self._message, extra={"fields": {**fields, "problem": problem}})

    def forget(self) -> None:
        """It succeeded: the next failure is news."""
        self._said = ""
