"""The state file: read at the start, read again whenever it has changed, the last good one kept."""

from __future__ import annotations

import stat
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

# libyaml's parser where the wheel has it: it takes no text that is no Unicode.
_Loader: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

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
        if not stat.S_ISREG(path.stat().st_mode):
            raise ManifestError(f"the state file {path} is no regular file", hint="it is read again when it changes")
        with path.open("rb") as file:
            text = file.read(_MAX_STATE + 1)
    except OSError as error:
        raise ManifestError(f"cannot read the state file {path}: {error.strerror}") from error
    if len(text) > _MAX_STATE:
        raise ManifestError(f"the state file {path} is larger than 1 MiB")
    try:
        _refuse_bombs(text)
        _refuse_repeated(text)
        document = yaml.load(text, _Loader)  # noqa: S506  # it is a safe loader
    except (LookupError, AttributeError) as error:  # PyYAML's own, for `!!bool x` and its like
        raise ManifestError(f"the state file {path} is not one YAML document: a value does not fit its tag") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ManifestError(f"the state file {path} is not one YAML document: {_first_line(error)}") from error
    return parse_state(document, str(path))


def _refuse_bombs(text: bytes) -> None:
    """Stop at the first sign of a document that is small here and large when it is read; a ValueError says which."""
    aliases = depth = 0
    for event in yaml.parse(text, _Loader):
        aliases += isinstance(event, yaml.AliasEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if aliases > _MAX_ALIASES:
            raise ValueError(f"more than {_MAX_ALIASES} aliases")
        if depth > _MAX_DEPTH:
            raise ValueError(f"nested more than {_MAX_DEPTH} levels deep")


def _refuse_repeated(text: bytes) -> None:
    """Stop at a field that is given twice, of which one would be lost; a ValueError says which."""
    seen: set[int] = set()
    rest = [yaml.compose(text, _Loader)]
    while rest:
        node = rest.pop()
        if node is None or id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            rest += node.value
            continue
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice} is given twice in the mapping of line {node.start_mark.line + 1}")
        rest += [value for _, value in node.value]


def _first_line(error: BaseException) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0] or type(error).__name__
    return f"{problem}{place}"
