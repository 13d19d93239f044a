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
    from collections.abc import Iterator, Mapping

    from azwi.admission.pod import Container, JsonObject, Source, TokenSource, Volume, VolumeMount

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
        tokens = self.missing_tokens(set())
        return tokens if self.ca_source is None else [*tokens, self.ca_source]

    def missing_tokens(self, present: set[str | None]) -> list[JsonObject]:
        """The token sources that a volume with tokens at these paths lacks.

        The first is there wherever an injection put it; the second is known by its path.
        """
        tokens = [] if present else [self._token(TOKEN_PATH)]
        if self.legacy and LEGACY_TOKEN_PATH not in present:
            tokens.append(self._token(LEGACY_TOKEN_PATH))
        return tokens

    def _token(self, path: str) -> JsonObject:
        return {"serviceAccountToken": {"path": path, "expirationSeconds": self.expiration, "audience": self.audience}}


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
        file = f"{path}/{token.path or ''}"
        if file == TOKEN_FILE or (found is None and file.startswith(_INSIDE)):
            found = TokenMount(name, file, token.audience)
    return found


def _is_token_volume(volume: Volume | None) -> bool:
    return volume is not None and volume.projected is not None


def _tokens(volume: Volume) -> Iterator[tuple[int, TokenSource]]:
    """The token sources of a projected volume with their place; nothing for other volumes."""
    for place, source in enumerate(_sources(volume)):
        if source.service_account_token is not None:
            yield place, source.service_account_token


def _sources(volume: Volume) -> list[Source]:
    return (volume.projected and volume.projected.sources) or []


def new_volume(name: str, content: TokenContent) -> JsonObject:
    """The volume's document."""
    return {"name": name, "projected": {"sources": content.sources()}}


def plan_update(index: int, volume: Volume, content: TokenContent) -> VolumeUpdate:
    """What brings an injected volume up to date: audience, life, the second path, the CA; all else stays."""
    sources = _sources(volume)
    update = VolumeUpdate(index, whole=not sources)
    paths = set()
    for place, token in _tokens(volume):
        paths.add(token.path)
        if token.audience != content.audience:
            update.members.append((place, "audience", content.audience))
        if token.expiration_seconds != content.expiration:
            update.members.append((place, "expirationSeconds", content.expiration))
    update.added.extend(content.missing_tokens(paths))
    _plan_ca(update, sources, content.ca_source)
    return update


def _plan_ca(update: VolumeUpdate, sources: list[Source], wanted: JsonObject | None) -> None:
    """A CA that is no longer asked for stays: variables of the earlier pass may name its file."""
    if wanted is None:
        return
    places = [place for place, source in enumerate(sources) if _projects_ca(source)]
    if not places:
        update.added.append(wanted)
    elif not _covers(_document(sources[places[0]]), wanted):
        update.replaced.append((places[0], wanted))


def _projects_ca(source: Source) -> bool:
    if source.cluster_trust_bundle is not None:
        return source.cluster_trust_bundle.get("path") == CA_PATH
    items = (source.config_map or {}).get("items")
    return isinstance(items, list) and any(isinstance(item, dict) and item.get("path") == CA_PATH for item in items)


def _document(source: Source) -> JsonObject:
    """The part of a source that may hold a CA, as it stands in the Pod."""
    return {"configMap": source.config_map, "clusterTrustBundle": source.cluster_trust_bundle}


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
