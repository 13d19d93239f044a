"""The state file: read at the start, read again whenever it has changed, the last good one kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from azwi.emulator.directory import Directory, resolve_own_issuer
from azwi.emulator.state import parse_state
from azwi.errors import ManifestError
from azwi.log import logger

if TYPE_CHECKING:
    from pathlib import Path

_MAX_STATE: Final = 1 << 20  # bytes
_MAX_DEPTH: Final = 20  # levels; the deepest field stands at 8
_MAX_ALIASES: Final = 64  # each may stand for a thousand lines, inside one another

_log = logger("emulator")


class StateFile:
    """A state file that is followed.

    Args:
        path: The file.
        issuer: What the issuer `cluster` stands for.

    Raises:
        ManifestError: It cannot be read, is no YAML or does not hold what it must.
    """

    def __init__(self, path: Path, issuer: str) -> None:
        self._path = path
        self._issuer = issuer
        self._seen = self._look()
        self._directory = resolve_own_issuer(load_state(path), issuer)

    def read(self) -> Directory:
        """The state as the file has it now; what it had last when it cannot be used, which is logged once."""
        seen = self._look()
        if seen != self._seen:
            self._seen = seen
            try:
                self._directory = resolve_own_issuer(load_state(self._path), self._issuer)
                _log.info("state read again", extra={"fields": {"path": str(self._path)}})
            except ManifestError as problem:
                _log.warning("state kept as it was", extra={"fields": {"problem": str(problem)}})
        return self._directory

    def _look(self) -> tuple[int, ...]:
        """What tells one content of the file from another."""
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_mtime_ns, found.st_size, found.st_ino)


def load_state(path: Path) -> Directory:
    """Read a state file of at most 1 MiB.

    Raises:
        ManifestError: It cannot be read, is no YAML or does not hold what it must.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_STATE + 1)
    except OSError as error:
        raise ManifestError(f"cannot read the state file {path}: {error.strerror}") from error
    if len(text) > _MAX_STATE:
        raise ManifestError(f"the state file {path} is larger than 1 MiB")
    try:
        _refuse_bombs(text)
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"the state file {path} is not one YAML document: {_first_line(error)}") from error
    return parse_state(document, str(path))


def _refuse_bombs(text: bytes) -> None:
    """Stop at the first sign of a document that is small here and large when it is read; a ValueError says which."""
    aliases = depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MAX_ALIASES:
            raise ValueError(f"more than {_MAX_ALIASES} aliases")
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")


def _first_line(error: BaseException) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
    return f"{problem}{place}"
