"""Token files and their renewal."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from azwi.local.tokens import TokenFiles

if TYPE_CHECKING:
    from pathlib import Path

POD: dict[str, Any] = {
    "metadata": {"name": "app"},
    "spec": {"volumes": [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]},
}


@pytest.mark.parametrize(("life", "earliest", "latest"), [(1000, 790, 801), (0, 0.4, 1), (-7200, 0.4, 1)])
def test_a_token_is_due_when_four_fifths_of_its_life_are_over(
    life: float, earliest: float, latest: float, tmp_path: Path
) -> None:
    """A token that is born dead, as of an issuer whose clock is behind, does not make us ask without a pause."""
    start = time.time()
    end = datetime.fromtimestamp(start + life, UTC).isoformat()
    token = jwt.encode({}, "x" * 32)

    files = TokenFiles(POD, tmp_path, lambda _: {"status": {"token": token, "expirationTimestamp": end}})

    due = files.next_due()
    assert due is not None
    assert earliest < due - start < latest
