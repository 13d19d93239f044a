"""The volume that holds the token: what it must hold, and whether a Pod has it already.

An injection, ours or the reference's of any version, is recognised by what it is: a projected service account token
at or around our mount path. Its name is never computed from the Pod (D 2).
"""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING, Any

import msgspec

from azwi.contract import (
    CA_PATH,
    LEGACY_MOUNT_PATH,
    LEGACY_TOKEN_PATH,
    MOUNT_PATH,
    TOKEN_FILE,
    TOKEN_PATH,
    VOLUME_PREFIX,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from azwi.admission.pod import Container, JsonObject, Volume, VolumeMount

_TOKEN = "serviceAccountToken"  # noqa: S105  # a member's name
_INSIDE = MOUNT_PATH + "/"
# Folders that Kubernetes itself mounts into below another volume: /var/run/secrets/kubernetes.io/serviceaccount.
_SHARED_PARENTS = frozenset({"", "/var", "/var/run"})


class TokenContent(msgspec.Struct, frozen=True):
    """What the volume must hold."""

    audience: str
    expiration: int  # seconds
    legacy: bool = False
    ca_source: JsonObject | None = None

    def sources(self) -> list[JsonObject]:
        """The projected sources, in order: the token, the token at its old path, the CA."""
        sources = [self._token(TOKEN_PATH)]
        if self.legacy:
            sources.append(self._token(LEGACY_TOKEN_PATH))
        if self.ca_source is not None:
            sources.append(self.ca_source)
        return sources

    def members(self) -> JsonObject:
        """The members of a token source that we keep up to date."""
        return {"audience": self.audience, "expirationSeconds": self.expiration}

    def _token(self, path: str) -> JsonObject:
        return {_TOKEN: {"path": path, "expirationSeconds": self.expiration, "audience": self.audience}}


class TokenMount(msgspec.Struct, frozen=True):
    """A container's mount through which it reads a token already."""

    volume: str
    token_file: str
    audience: str | None

    @property
    def reserved(self) -> bool:
        """Whether an injection made it, by the volume's name."""
        return self.volume.startswith(VOLUME_PREFIX)


class MountConflict(msgspec.Struct, frozen=True):
    """A mount of something else where ours has to be."""

    volume: str
    path: str


class VolumeUpdate(msgspec.Struct, frozen=True):
    """What changes in the projected sources of the volume at `index` of `spec.volumes`.

    `members` are (source's index, member, value), `replaced` (source's index, document); `added` go to the end. `whole`
    means that there is no list yet.
    """

    index: int
    members: list[tuple[int, str, Any]] = []
    replaced: list[tuple[int, JsonObject]] = []
    added: list[JsonObject] = []
    whole: bool = False

    @property
    def empty(self) -> bool:
        """Whether nothing changes."""
        return not (self.members or self.replaced or self.added)


def inspect_mounts(container: Container, volumes: Mapping[str, Volume]) -> TokenMount | MountConflict | None:
    """Whether a container reads a token already, or has something in the way; None: neither.

    Args:
        container: With its mounts.
        volumes: The Pod's, by name.
    """
    conflict = None
    for mount in container.volume_mounts or ():
        path = clean_path(mount.mount_path or "")
        if not _touches(path, MOUNT_PATH):
            continue
        volume = volumes.get(mount.name or "")
        found = _recognise(mount, path, volume)
        if found is not None:
            return found
        if path not in _SHARED_PARENTS or _is_token_volume(volume):
            conflict = conflict or MountConflict(mount.name or "", mount.mount_path or "")
    return conflict


def mounts_at_legacy_path(container: Container) -> bool:
    """Whether the container mounts something at, below or above the old path itself."""
    return any(
        _touches(path, LEGACY_MOUNT_PATH) and path not in _SHARED_PARENTS
        for path in (clean_path(mount.mount_path or "") for mount in container.volume_mounts or ())
    )


def mounts_reserved_at_legacy_path(container: Container) -> bool:
    """Whether an earlier injection gave the container its token at the old path."""
    return any(
        (mount.name or "").startswith(VOLUME_PREFIX) and clean_path(mount.mount_path or "") == LEGACY_MOUNT_PATH
        for mount in container.volume_mounts or ()
    )


def names_legacy_path(container: Container) -> bool:
    """Whether a program of the container is told the old folder: by variable, command or argument (D 3)."""
    for variable in container.env or ():
        if variable.value is not None and LEGACY_MOUNT_PATH in variable.value:
            return True
    return any(LEGACY_MOUNT_PATH in word for word in (*(container.command or ()), *(container.args or ())))


def clean_path(path: str) -> str:
    """The path without trailing, doubled and dotted parts; the root is the empty string."""
    if "//" in path or "/." in path:
        path = posixpath.normpath(path)
    return path.rstrip("/")


def _touches(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/") or place.startswith(path + "/")


def _recognise(mount: VolumeMount, path: str, volume: Volume | None) -> TokenMount | None:
    name = mount.name or ""
    if mount.sub_path or mount.sub_path_expr:
        return None
    if volume is None or (volume.projected is not None and not list(_tokens(volume))):
        # The volume of an injection is gone, or empty: it is put back.
        lost = name.startswith(VOLUME_PREFIX) and path == MOUNT_PATH
        return TokenMount(name, TOKEN_FILE, None) if lost else None
    found = None
    for _, token in _tokens(volume):
        file = f"{path}/{token.get('path', '')}"
        if file == TOKEN_FILE or (found is None and file.startswith(_INSIDE)):
            found = TokenMount(name, file, token.get("audience"))
    return found


def _is_token_volume(volume: Volume | None) -> bool:
    return volume is not None and volume.projected is not None


def _tokens(volume: Volume) -> Iterator[tuple[int, JsonObject]]:
    """The token sources of a projected volume with their place; nothing for other volumes."""
    sources: Sequence[JsonObject] = (volume.projected and volume.projected.sources) or ()
    for place, source in enumerate(sources):
        token = source.get(_TOKEN)
        if isinstance(token, dict):
            yield place, token


def new_volume(name: str, content: TokenContent) -> JsonObject:
    """The volume's document."""
    return {"name": name, "projected": {"sources": content.sources()}}


def plan_update(index: int, volume: Volume, content: TokenContent) -> VolumeUpdate:
    """What brings an injected volume up to date: audience, life, the second path, the CA; all else stays."""
    sources: Sequence[JsonObject] = (volume.projected and volume.projected.sources) or ()
    update = VolumeUpdate(index, whole=not sources)
    paths = set()
    for place, token in _tokens(volume):
        paths.add(token.get("path"))
        update.members.extend(
            (place, member, value) for member, value in content.members().items() if token.get(member) != value
        )
    wanted = content.sources() if not paths else [source for source in content.sources() if _is_missing(source, paths)]
    update.added.extend(source for source in wanted if _TOKEN in source)
    _plan_ca(update, sources, content.ca_source)
    return update


def _is_missing(source: JsonObject, paths: set[Any]) -> bool:
    """Whether the second path lacks its token; the first is wherever the injection put it."""
    return source.get(_TOKEN, {}).get("path") == LEGACY_TOKEN_PATH and LEGACY_TOKEN_PATH not in paths


def _plan_ca(update: VolumeUpdate, sources: Sequence[JsonObject], wanted: JsonObject | None) -> None:
    """A CA that is no longer asked for stays: variables of the earlier pass may name its file."""
    if wanted is None:
        return
    places = [place for place, source in enumerate(sources) if _projects_ca(source)]
    if not places:
        update.added.append(wanted)
    elif not _covers(sources[places[0]], wanted):
        update.replaced.append((places[0], wanted))


def _projects_ca(source: JsonObject) -> bool:
    bundle, config_map = source.get("clusterTrustBundle"), source.get("configMap")
    if isinstance(bundle, dict):
        return bundle.get("path") == CA_PATH
    items = config_map.get("items") if isinstance(config_map, dict) else None
    return any(isinstance(item, dict) and item.get("path") == CA_PATH for item in items or ())


def _covers(actual: Any, wanted: Any) -> bool:  # noqa: ANN401  # any JSON value
    """Whether a document has all that another asks for; the API server adds defaults."""
    if isinstance(wanted, dict):
        return isinstance(actual, dict) and all(_covers(actual.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return (
            isinstance(actual, list)
            and len(actual) == len(wanted)
            and all(_covers(one, other) for one, other in zip(actual, wanted, strict=True))
        )
    return bool(actual == wanted)
