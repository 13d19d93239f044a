"""Files that somebody else changes while the webhook runs: certificates, manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from azwi.errors import AzwiError
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

log = logger("webhook")


class FollowedFiles:
    """Reads files again when they change; what cannot be read is logged once, and what was read before stays.

    Args:
        what: What the files hold, for the log: `certificate`, `service accounts`.
        list_files: Gives the files; may raise.
        read: Reads them and keeps what it read; may raise an error of ours. Called here for the first time.
    """

    def __init__(self, what: str, list_files: Callable[[], Sequence[Path]], read: Callable[[], None]) -> None:
        self._what = what
        self._list_files = list_files
        self._read = read
        self._signature = self._look()
        read()

    def refresh(self) -> None:
        """Read the files again if one has changed, come or gone since the last look."""
        signature = self._look()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._read()
        except AzwiError as problem:
            fields = {"what": self._what, "error": str(problem)}
            log.error("files cannot be read again, what was read stays", extra={"fields": fields})  # noqa: TRY400
        except Exception:
            log.exception("files cannot be read again, what was read stays; this is a defect")
        else:
            log.info("files read again", extra={"fields": {"what": self._what}})

    def _look(self) -> tuple[object, ...] | None:
        """What tells one state of the files from another; None where they cannot be looked at."""
        try:
            states = [(file, file.stat()) for file in self._list_files()]
        except (OSError, AzwiError):
            return None
        return tuple((file, state.st_mtime_ns, state.st_size, state.st_ino) for file, state in states)
