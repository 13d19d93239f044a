"""What the emulator was asked and how it answered, for tests: never a query, a body, an assertion or a token."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from azwi.log import redact

if TYPE_CHECKING:
    from azwi.emulator.keys import JsonObject

_LENGTH: Final = 1000  # requests
_MAX_PATH: Final = 300  # characters


class Journal:
    """The last thousand requests."""

    def __init__(self) -> None:
        self._entries: deque[JsonObject] = deque(maxlen=_LENGTH)

    def record(self, method: str, path: str, status: int, outcome: str) -> None:
        """Remember one request; the path is redacted, should somebody put a token there."""
        entry: JsonObject = {
            "method": method,
            "path": redact(path)[:_MAX_PATH],
            "status": status,
            "outcome": outcome,
        }
        self._entries.append(entry)

    def document(self) -> JsonObject:
        """All that is remembered, oldest first."""
        return {"requests": list(self._entries)}
