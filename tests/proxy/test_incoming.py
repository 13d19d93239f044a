"""Bounds of a request while it arrives, in whatever pieces the parser tells of it."""

from __future__ import annotations

import pytest

from azwi.proxy.incoming import MAX_HEAD_BYTES, MAX_HEADERS, MAX_MESSAGE_BYTES, Incoming


@pytest.mark.parametrize(
    ("fed", "whole_head", "status"),
    [
        (MAX_HEAD_BYTES, False, None),
        (MAX_HEAD_BYTES + 1, False, 431),
        (MAX_HEAD_BYTES + 1, True, None),
        (MAX_MESSAGE_BYTES + 1, True, 413),
    ],
)
def test_what_was_fed_is_bounded(fed: int, whole_head: bool, status: int | None) -> None:  # noqa: FBT001
    """Also what the parser keeps to itself, such as a header without an end."""
    incoming = Incoming()
    incoming.fed, incoming.whole_head = fed, whole_head
    refusal = incoming.find_excess()
    assert status == (None if refusal is None else refusal[0])


def test_headers_are_bounded_by_number_and_size() -> None:
    """Together with the target; trailers are none."""
    incoming = Incoming()
    assert [None] * MAX_HEADERS == [incoming.take_header(b"X", b" y ") for _ in range(MAX_HEADERS)]
    assert ("x", "y") == incoming.headers[0]
    assert incoming.take_header(b"x", b"y") == (431, "the headers are too large")
    large = Incoming()
    assert large.take_url(b"x" * MAX_HEAD_BYTES) is None
    assert large.take_header(b"x", b"") == (431, "the headers are too large")
    assert large.take_url(b"x") == (431, "the target is too long")
