"""The identity map: which client id a program means that names its identity in another way.

Lines of `object_id=…,client_id=…`; `principal_id`, `msi_res_id` and `mi_res_id` name identities too. `#` starts a
comment.

Source: "How to use managed identities for Azure resources on an Azure VM to acquire an access token", the optional
parameters of the request; `msi_res_id` and `principal_id` are what `mi_res_id` and `object_id` were called before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from azwi.errors import ConfigurationError, sentence

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Each way to name an identity beside client_id, and the name it is known by here.
SELECTORS: Final = {
    "object_id": "object_id",
    "principal_id": "object_id",
    "msi_res_id": "mi_res_id",
    "mi_res_id": "mi_res_id",
}
_CLIENT_ID: Final = "client_id"


class IdentityMap:
    """Client ids by the other names of their identities; names compare whatever the case, as GUIDs and ARM ids do."""

    def __init__(self, client_ids: Mapping[tuple[str, str], str] | None = None) -> None:
        self._client_ids = dict(client_ids or {})

    def find(self, parameter: str, value: str) -> str | None:
        """The client id that `parameter=value` of a token request means, if the map knows it."""
        return self._client_ids.get(_key(parameter, value))

    def __len__(self) -> int:
        return len(self._client_ids)


def parse_identity_maps(files: Sequence[tuple[str, str]]) -> IdentityMap:
    """The map that is in all files together.

    Args:
        files: The content of each, and its path for errors.

    Raises:
        ConfigurationError: Lines that are no entries, every one of them with its number.
    """
    client_ids: dict[tuple[str, str], str] = {}
    problems: list[str] = []
    lines = [(where, number, line) for text, where in files for number, line in enumerate(text.splitlines(), start=1)]
    for where, number, line in lines:
        entry = line.partition("#")[0].strip()
        if not entry:
            continue
        try:
            client_id, names = _parse_entry(entry)
            for name in names:
                if client_ids.setdefault(name, client_id).lower() != client_id.lower():
                    raise _EntryError(f"{name[0]} {name[1]!r} already means another client_id")  # noqa: TRY301
        except _EntryError as problem:
            problems.append(f"{where}, line {number}: {problem}")
    if problems:
        raise ConfigurationError(sentence(problems), hint="write object_id=…,client_id=… on each line")
    return IdentityMap(client_ids)


class _EntryError(Exception):
    """What is wrong with one line."""


def _parse_entry(entry: str) -> tuple[str, list[tuple[str, str]]]:
    fields: dict[str, str] = {}
    for part in entry.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if name not in SELECTORS and name != _CLIENT_ID:
            allowed = ", ".join((_CLIENT_ID, *SELECTORS))
            raise _EntryError(f"{name!r} is not one of {allowed}")
        if not equals or not value:
            raise _EntryError(f"{name} has no value")
        if name in fields:
            raise _EntryError(f"{name} is there twice")
        fields[name] = value
    client_id = fields.pop(_CLIENT_ID, "")
    if not client_id:
        raise _EntryError("client_id is missing")
    if not fields:
        raise _EntryError(f"one of {', '.join(SELECTORS)} is missing")
    return client_id, [_key(name, value) for name, value in fields.items()]


def _key(parameter: str, value: str) -> tuple[str, str]:
    return SELECTORS[parameter], value.lower()
