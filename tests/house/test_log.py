"""Log lines: their form, and what never stands in one."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from azwi import log
from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"  # noqa: S105
KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers, root.level = handlers, level


def written(message: str, *, text: bool = False, level: str = "info", **fields: object) -> str:
    """What one log call writes."""
    stream = io.StringIO()
    log.configure(level, text=text, stream=stream)
    log.logger("test").info(message, extra={"fields": fields})
    return stream.getvalue()


def test_a_line_is_json_with_its_fields() -> None:
    """Time, level, component and message, then the fields with their types."""
    line = json.loads(written("token served", count=1, ok=True, nothing=None, name="x"))

    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "component": "test",
        "message": "token served",
        "count": 1,
        "ok": True,
        "nothing": None,
        "name": "x",
    }


def test_a_line_for_people() -> None:
    """Text with the fields behind it."""
    assert written("token served", text=True, name="x").rstrip().endswith("INFO    token served name=x")


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("secret", [TOKEN, KEY, KEY.partition("-----END")[0]])
def test_no_token_or_key_is_written(secret: str, text: bool) -> None:  # noqa: FBT001
    """Neither in the message, nor in a field, nor in an exception."""
    output = written(f"got {secret}", text=text, detail=f"x {secret}")
    stream = io.StringIO()
    log.configure("debug", text=text, stream=stream)
    try:
        int(secret)
    except ValueError:
        log.logger("test").exception("failed")

    for part in ("eyJzdWIi", "MIIE"):
        assert part not in output + stream.getvalue()
    assert "[redacted]" in output


@pytest.mark.parametrize("text", [True, False])
def test_an_exception_tells_where_and_what_but_quotes_nobodys_data(text: bool) -> None:  # noqa: FBT001
    """Python's messages hold the value that a defect stumbled over; only our own sentences are known to hold none."""
    stream, data = io.StringIO(), "hunter2"
    log.configure("info", text=text, stream=stream)
    try:
        try:
            int(data)
        except ValueError as problem:
            raise ConfigurationError("the sentence") from problem
    except ConfigurationError:
        log.logger("test").exception("failed")

    output = stream.getvalue()
    assert data not in output
    for told in ("ValueError", "ConfigurationError: the sentence", "test_log.py", "in test_an_exception_tells"):
        assert told in output
    assert output.index("ValueError") < output.index("ConfigurationError: the")


@pytest.mark.parametrize(
    "name", ["token", "access_token", "client_assertion", "client_secret", "Authorization", "password"]
)
def test_fields_with_the_name_of_a_secret_are_not_written(name: str) -> None:
    """Whatever they hold."""
    secret: dict[str, Any] = {name: "hunter2"}

    assert "hunter2" not in written("x", **secret)


def test_levels() -> None:
    """R 3: trace and all are the most detailed; below the level nothing is written."""
    stream = io.StringIO()
    for level, lines in (("", 1), ("INFO", 1), ("debug", 2), ("trace", 2), ("all", 2)):
        stream = io.StringIO()
        log.configure(level, stream=stream)
        log.logger("test").debug("detail")
        log.logger("test").info("event")
        assert len(stream.getvalue().splitlines()) == lines


def test_what_goes_on_failing_is_said_once() -> None:
    """At the first failure, when the reason changes, and when it fails anew after a success."""
    stream = io.StringIO()
    log.configure("info", stream=stream)
    trouble = log.Once(log.logger("cluster"), log.WARNING, "it fails")
    for problem in ("a", "a", "b", "b"):
        trouble.say(problem, lease="x")
    trouble.forget()
    trouble.say("b")
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert ["a", "b", "b"] == [line["problem"] for line in lines]
    assert ("warning", "it fails", "x") == (lines[0]["level"], lines[0]["message"], lines[0]["lease"])
