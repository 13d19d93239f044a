"""Log lines: JSON for machines or text for people; the one place that knows what must never be logged.

Event messages are constant sentences; what varies goes into fields: `log.info("token served", extra={"fields":
{...}})`. Never logged: request and response bodies, Pods, tokens, assertions, keys.
"""

from __future__ import annotations

import logging
import re
import sys
from datetime import UTC, datetime
from typing import TextIO

import msgspec

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


class JsonFormatter(logging.Formatter):
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
            line["exception"] = redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class TextFormatter(logging.Formatter):
    """One line for people: time, level, message, then the fields as name=value."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record, redacted."""
        fields = "".join(f" {name}={value}" for name, value in _safe_fields(record).items())
        line = f"{_time(record)} {record.levelname:<7} {redact(record.getMessage())}{fields}"
        return f"{line}\n{redact(self.formatException(record.exc_info))}" if record.exc_info else line


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
