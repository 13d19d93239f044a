"""What the emulator was asked and how it answered, for tests: never a query, a body, an assertion or a token."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from azwi.log import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.emulator.keys import JsonObject

_LENGTH: Final = 1000  # requests
_MAX_VALUE: Final = 300  # characters


class Journal:
    """The last thousand requests."""

    def __init__(self) -> None:
        self._entries: deque[JsonObject] = deque(maxlen=_LENGTH)

    def record(self, service: str, method: str, path: str, status: int, outcome: str, about: Mapping[str, str]) -> None:
        """Remember one request; every text is redacted, should somebody put a token there.

        Args:
            service: `entra`, `cluster`, `imds` or `emulator`.
            method: The request's.
            path: The request's, without query.
            status: The answer's.
            outcome: `ok`, an AADSTS code or another word for the refusal.
            about: Who asked for what, where that could be read: client_id, subject, resource.
        """
        entry: JsonObject = {
            "service": service,
            "method": method,
            "path": redact(path)[:_MAX_VALUE],
            "status": status,
            "outcome": outcome,
        }
        entry |= {name: redact(value)[:_MAX_VALUE] for name, value in about.items() if value}
        self._entries.append(entry)

    def clear(self) -> None:
        """Forget all."""
        self._entries.clear()

    def document(self) -> JsonObject:
        """All that is remembered, oldest first."""
        return {"requests": list(self._entries)}
