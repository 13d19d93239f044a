"""The decision: a Pod, its service account and the settings in; an injection or a refusal out.

One walk: what the annotations ask, how each container reads a token, what each lacks, which volume holds it. A Pod
that has everything already gets an empty injection, so running twice changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from azwi.admission.containers import render_identity_map, render_proxy, render_proxy_init
from azwi.admission.intent import Intent, intent_warnings, read_intent
from azwi.admission.pod import EMPTY_SPEC, Pod, PodSpec
from azwi.admission.settings import LegacyTokenPath, Settings
from azwi.admission.sidecar import ProxyMode
from azwi.admission.token_volume import (
    MountConflict,
    TokenContent,
    TokenMount,
    VolumeUpdate,
    inspect_mounts,
    mounts_at_legacy_path,
    mounts_reserved_at_legacy_path,
    names_legacy_path,
    new_volume,
    plan_update,
)
from azwi.admission.variables import for_proxy, missing_variables, render_variables
from azwi.admission.verdict import AdmissionWarning, Refusal, warn
from azwi.contract import (
    IDENTITY_MAP_VOLUME,
    INJECTED_ANNOTATION,
    LEGACY_MOUNT_PATH,
    MOUNT_PATH,
    PROXY_CONTAINER,
    PROXY_INIT_CONTAINER,
    TOKEN_FILE,
    VOLUME_NAME,
)
from azwi.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azwi.admission.pod import Container, JsonObject, Volume
    from azwi.admission.serviceaccount import ServiceAccount

INIT_CONTAINERS: Final = "initContainers"
CONTAINERS: Final = "containers"


class ContainerChange(msgspec.Struct, frozen=True):
    """What one container of the Pod gets: variables in front of its own, mounts behind its own.

    `kind` is `INIT_CONTAINERS` or `CONTAINERS`; `has_variables` and `has_mounts` tell whether it has such lists.
    """

    kind: str
    index: int
    variables: list[JsonObject]
    mounts: list[JsonObject]
    has_variables: bool
    has_mounts: bool


class Injection(msgspec.Struct):
    """All that changes in a Pod; nothing of it touches what the Pod's author wrote.

    `init_containers` and `containers` go in front of the Pod's. `stamp` is the text of our annotation, None to leave
    it.
    """

    warnings: list[AdmissionWarning] = []
    changes: list[ContainerChange] = []
    init_containers: list[JsonObject] = []
    containers: list[JsonObject] = []
    volumes: list[JsonObject] = []
    volume_updates: list[VolumeUpdate] = []
    stamp: str | None = None

    @property
    def empty(self) -> bool:
        """Whether the Pod has everything already."""
        return not (self.changes or self.init_containers or self.containers or self.volumes or self.volume_updates)


class _Seen(msgspec.Struct, frozen=True):
    """A container that may get something, and how it reads a token so far."""

    kind: str
    index: int
    container: Container
    token: TokenMount | None
    conflict: MountConflict | None
    skipped: bool


def plan_injection(pod: Pod, account: ServiceAccount, settings: Settings) -> Injection | Refusal:
    """What the Pod must get, or why it may not be created.

    Args:
        pod: As it came in.
        account: Its service account.
        settings: The operator's.
    """
    intent = read_intent(pod, account, settings)
    if isinstance(intent, Refusal):
        return intent
    spec = pod.spec or EMPTY_SPEC
    volumes = {volume.name or "": (index, volume) for index, volume in _backwards(spec.volumes)}
    seen = list(_look(spec, intent, {name: volume for name, (_, volume) in volumes.items()}))
    volume_name = _choose_volume_name(seen)
    refusal = _find_conflict(seen, volumes, volume_name, intent)
    if refusal is not None:
        return refusal
    variables = render_variables(account, settings, intent)
    content, injection = _content(seen, settings, intent), Injection()
    injection.changes = [
        change for one in seen if (change := _plan_change(one, intent, variables, volume_name)) is not None
    ]
    _plan_proxy(injection, spec, settings, intent, variables, volume_name)
    _plan_volumes(injection, seen, content, volumes, volume_name)
    injection.warnings = intent_warnings(pod, account, intent) + _audience_warnings(seen, content)
    if settings.strict and any(warning.fatal for warning in injection.warnings):
        return Refusal("strict", "; ".join(warning.text for warning in injection.warnings if warning.fatal))
    injection.stamp = _plan_stamp(pod, account, settings, content, injection, seen)
    return injection


def _backwards(volumes: list[Volume] | None) -> Iterator[tuple[int, Volume]]:
    """The volumes with their index, last first, so that the first of a name wins in a mapping."""
    listed = volumes or []
    return ((index, listed[index]) for index in range(len(listed) - 1, -1, -1))


def _look(spec: PodSpec, intent: Intent, volumes: dict[str, Volume]) -> Iterator[_Seen]:
    """Each container but azwi-proxy-init, which gets no token (D 9); skip-containers spares no proxy of ours."""
    for kind, containers in ((INIT_CONTAINERS, spec.init_containers), (CONTAINERS, spec.containers)):
        for index, container in enumerate(containers or ()):
            name = container.name or ""
            if name == PROXY_INIT_CONTAINER:
                continue
            found = inspect_mounts(container, volumes)
            yield _Seen(
                kind,
                index,
                container,
                token=found if isinstance(found, TokenMount) else None,
                conflict=found if isinstance(found, MountConflict) else None,
                skipped=name in intent.skipped and name != PROXY_CONTAINER,
            )


def _choose_volume_name(seen: list[_Seen]) -> str:
    """The volume of an earlier injection if a container reads its token there, else our own name."""
    for one in seen:
        if one.token is not None and one.token.reserved and one.token.token_file == TOKEN_FILE:
            return one.token.volume
    return VOLUME_NAME


def _find_conflict(
    seen: list[_Seen], volumes: dict[str, tuple[int, Volume]], name: str, intent: Intent
) -> Refusal | None:
    has_proxy = any(one.container.name == PROXY_CONTAINER for one in seen)
    for one in seen:
        if one.conflict is not None and not one.skipped:
            return Refusal(
                "mount-conflict",
                f'container "{one.container.name}": volume "{one.conflict.volume}" is mounted at {one.conflict.path}, '
                f'where volume "{name}" has to be mounted at {MOUNT_PATH}; move the mount, or name the container in '
                "annotation azure.workload.identity/skip-containers",
            )
    if IDENTITY_MAP_VOLUME in volumes and intent.proxy is not None and intent.proxy.identity_map and not has_proxy:
        return Refusal(
            "volume-name-taken",
            f'volume "{IDENTITY_MAP_VOLUME}" of the Pod has the name that is reserved for the identity map: rename it',
        )
    _, taken = volumes.get(name, (0, None))
    if name == VOLUME_NAME and taken is not None and taken.projected is None:
        return Refusal(
            "volume-name-taken",
            f'volume "{VOLUME_NAME}" of the Pod is no projected volume; that name is reserved for the token: rename it',
        )
    return None


def _content(seen: list[_Seen], settings: Settings, intent: Intent) -> TokenContent:
    endpoint = intent.endpoint
    return TokenContent(
        audience=settings.audience if endpoint is None else endpoint.audience,
        expiration=intent.lifetime.seconds,
        legacy=any(_wants_legacy_mount(one, intent) or mounts_reserved_at_legacy_path(one.container) for one in seen),
        ca_source=None if endpoint is None else endpoint.ca_source,
    )


def _wants_legacy_mount(one: _Seen, intent: Intent) -> bool:
    if one.skipped or intent.legacy is LegacyTokenPath.NEVER or one.container.name == PROXY_CONTAINER:
        return False
    if intent.legacy is LegacyTokenPath.AUTO and not names_legacy_path(one.container):
        return False
    return not mounts_at_legacy_path(one.container)


def _plan_change(one: _Seen, intent: Intent, variables: list[JsonObject], volume_name: str) -> ContainerChange | None:
    if one.skipped:
        return None
    token_file = TOKEN_FILE if one.token is None else one.token.token_file
    missing = missing_variables(one.container, variables, token_file)
    mounts = [] if one.token is not None else [_mount(volume_name, MOUNT_PATH)]
    if _wants_legacy_mount(one, intent):
        reserved = one.token is not None and one.token.reserved
        mounts.append(_mount(one.token.volume if one.token and reserved else volume_name, LEGACY_MOUNT_PATH))
    if not missing and not mounts:
        return None
    return ContainerChange(
        one.kind, one.index, missing, mounts, bool(one.container.env), bool(one.container.volume_mounts)
    )


def _mount(volume: str, path: str) -> JsonObject:
    return {"name": volume, "mountPath": path, "readOnly": True}


def _plan_proxy(
    injection: Injection,
    spec: PodSpec,
    settings: Settings,
    intent: Intent,
    variables: list[JsonObject],
    volume_name: str,
) -> None:
    """Put the two containers in front, azwi-proxy-init first; one that is in either list already stays (D 8, D 12)."""
    if intent.proxy is None:
        return
    names = {container.name for container in (*(spec.init_containers or ()), *(spec.containers or ()))}
    if intent.proxy.mode is ProxyMode.REDIRECT and PROXY_INIT_CONTAINER not in names:
        injection.init_containers.append(render_proxy_init(intent.proxy, settings.proxy))
    if PROXY_CONTAINER not in names:
        mounts = [_mount(volume_name, MOUNT_PATH)]
        proxy = render_proxy(intent.proxy, settings.proxy, for_proxy(variables), mounts)
        (injection.init_containers if intent.proxy.native else injection.containers).append(proxy)
        if intent.proxy.identity_map:
            injection.volumes.append(render_identity_map(intent.proxy))


def _plan_volumes(
    injection: Injection,
    seen: list[_Seen],
    content: TokenContent,
    volumes: dict[str, tuple[int, Volume]],
    volume_name: str,
) -> None:
    """Bring the volumes of earlier injections up to date; add the ones that are mounted, but not there."""
    used = dict.fromkeys(one.token.volume for one in seen if one.token is not None and one.token.reserved)
    for mount in (mount for change in injection.changes for mount in change.mounts):
        used[mount["name"]] = None
    if injection.init_containers or injection.containers or not any(one.token for one in seen):
        used[volume_name] = None
    for name in used:
        index, volume = volumes.get(name, (0, None))
        if volume is None:
            injection.volumes.append(new_volume(name, content))
        elif not (update := plan_update(index, volume, content)).empty:
            injection.volume_updates.append(update)


def _audience_warnings(seen: list[_Seen], content: TokenContent) -> list[AdmissionWarning]:
    for one in seen:
        token = one.token
        if token is not None and not token.reserved and not one.skipped and token.audience != content.audience:
            text = (
                f'volume {token.volume} is used as it is; its token is for "{token.audience}", not {content.audience}'
            )
            return [warn("audience-differs", text)]
    return []


def _plan_stamp(
    pod: Pod,
    account: ServiceAccount,
    settings: Settings,
    content: TokenContent,
    injection: Injection,
    seen: list[_Seen],
) -> str | None:
    """The stamp, when something is injected anew; while an injection is in the Pod, its stamp stays (D 16)."""
    if injection.empty:
        return None
    present = pod.annotations.get(INJECTED_ANNOTATION)
    injected = any(one.token is not None and one.token.reserved for one in seen)
    if present is not None and injected and not (injection.volumes or injection.volume_updates):
        return None
    stamp = {"version": __version__}
    if account.client_id:
        stamp["clientId"] = account.client_id
    elif account.client_id_from_text is not None:
        stamp["clientIdFrom"] = account.client_id_from_text
    text = msgspec.json.encode(
        {
            **stamp,
            "tenantId": account.tenant_id or settings.tenant_id,
            "audience": content.audience,
            "expirationSeconds": content.expiration,
        }
    ).decode()
    return None if text == present else text
