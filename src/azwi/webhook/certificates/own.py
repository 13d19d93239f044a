"""Certificates of our own: served from a Secret by every replica, kept in order by the one that leads (D 21)."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import TYPE_CHECKING, Any, Final

import msgspec

from azwi.cluster.api import FIELD_MANAGER, MERGE_PATCH, STRATEGIC_PATCH, JsonObject, request
from azwi.cluster.feed import Feed, Watched
from azwi.errors import AzwiError, ClusterError
from azwi.log import ERROR, Once, logger
from azwi.webhook.certificates.clerk import Question, Reply, ask
from azwi.webhook.certificates.expiry import Expiry
from azwi.webhook.certificates.tls import Serving
from azwi.webhook.certificates.trust import is_trusted, wait_for_trust

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Coroutine, Sequence

    import httpx2

_AUTHORITY: Final = "ca.crt"
_CERTIFICATE: Final = "tls.crt"
_KEY: Final = "tls.key"
_RETRY: Final = 5.0  # seconds after a step that failed
_PAUSE: Final = 1.0  # seconds after each step: somebody else may change the same things at once, each time
_CONFLICT: Final = 409
_CERT_MANAGER: Final = "cert-manager.io/"

log = logger("certificates")


class Mirror:
    """One object of the cluster as it was last seen. A `Sink`; `changed` is called on every change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.document: JsonObject | None = None
        self._changed = changed

    def replace(self, found: list[JsonObject]) -> None:
        """It, or nothing where there is none."""
        self._set(found[0] if found else None)

    def put(self, found: JsonObject) -> None:
        """It has changed."""
        self._set(found)

    def remove(self, _: JsonObject) -> None:
        """It is gone."""
        self._set(None)

    def _set(self, document: JsonObject | None) -> None:
        self.document = document
        self._changed()

    @property
    def version(self) -> str:
        """Its resourceVersion; empty where there is none."""
        return str(((self.document or {}).get("metadata") or {}).get("resourceVersion", ""))


class OwnCertificates:
    """A TLS context that follows the Secret, and what the leader does about Secret and configuration.

    Args:
        client: The connection.
        namespace: Of the Secret.
        secret: Its name; it must exist, and may be empty.
        configuration: Name of the MutatingWebhookConfiguration, all of whose entries are ours.
        names: What API servers call us by.
        min_version: Of TLS, `1.0` to `1.3`.
    """

    def __init__(
        self,
        client: httpx2.AsyncClient,
        namespace: str,
        secret: str,
        configuration: str,
        names: Sequence[str],
        min_version: str,
    ) -> None:
        self.expiry = Expiry()
        self.writes = 0  # of caBundles
        self.trusted = asyncio.Event()  # a certificate is loaded, and every entry trusted it at least once
        self._client = client
        self._names = list(names)
        self._serving = Serving(min_version)
        self._later: asyncio.TimerHandle | None = None
        self._trouble = Once(log, ERROR, "certificates cannot be kept")
        self._wake = asyncio.Event()
        self._bundles: list[bytes] = []
        self._bundles_at = 0.0
        self._secret = Mirror(self._secret_changed)
        self._configuration = Mirror(self._configuration_changed)
        self._secret_path = f"/api/v1/namespaces/{namespace}/secrets"
        self._configuration_path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"
        self._secret_name = secret
        self._configuration_name = configuration
        self._feeds = [
            _follow(client, "the certificate's Secret", self._secret_path, secret, self._secret),
            _follow(client, "the webhook configuration", self._configuration_path, configuration, self._configuration),
        ]

    @property
    def context(self) -> ssl.SSLContext:
        """What the webhook's port is served with."""
        return self._serving.context

    def tasks(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """What every replica runs besides `expiry`."""
        return [feed.run for feed in self._feeds]

    def missing(self) -> str:
        """What readiness waits for, in words; empty where it waits for nothing."""
        if self.trusted.is_set():
            return ""
        if not self._serving.certificate:
            return f"a certificate in Secret {self._secret_name}"
        return f"our authority in every caBundle of MutatingWebhookConfiguration {self._configuration_name}"

    def refresh(self) -> None:
        """Nothing to do: the feeds keep the certificate up to date."""

    async def lead(self) -> None:
        """Keep Secret and configuration in order until cancelled; for one replica at a time."""
        for feed in self._feeds:
            await feed.synced.wait()
        while True:
            self._wake.clear()
            try:
                wait = await self._step()
            except ClusterError as problem:
                if problem.status != _CONFLICT:  # a conflict: what we know is old, and the newer is on its way
                    self._trouble.say(str(problem), **self._named())
                wait = _RETRY
            else:
                self._trouble.forget()
            await asyncio.sleep(_PAUSE)
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except TimeoutError:
                continue

    # --- What the feeds say -----------------------------------------------------------------------------

    def _secret_changed(self) -> None:
        self._wake.set()
        self._serve()

    def _configuration_changed(self) -> None:
        self._wake.set()
        bundles = [_decode(_client_config(entry).get("caBundle")) for entry in self._entries()]
        if bundles != self._bundles:
            self._bundles = bundles
            self._bundles_at = asyncio.get_running_loop().time()
        self._serve()

    def _serve(self) -> None:
        """Serve what the Secret holds, as soon as API servers trust it.

        The Secret changes in any way: the replica that leads rotates, somebody empties it to start from nothing, a
        backup is put back. What API servers do not trust yet would fail their admissions.
        """
        if self._later is not None:
            self._later.cancel()
        data, serving = self._data(), self._serving
        authority, certificate, key = (data.get(name, b"") for name in (_AUTHORITY, _CERTIFICATE, _KEY))
        if certificate and key and not serving.has_tried(certificate, key):
            wait = wait_for_trust(authority, serving.authority, self._bundles, self._settled())
            if wait:
                self._later = asyncio.get_running_loop().call_later(wait, self._serve)
            if wait == 0.0:
                self._load(authority, certificate, key)
        if serving.certificate and is_trusted(serving.authority, self._bundles):
            self.trusted.set()

    def _load(self, authority: bytes, certificate: bytes, key: bytes) -> None:
        fields = {"secret": self._secret_name}
        try:
            self._serving.load(authority, certificate, key)
        except AzwiError as problem:
            fields["problem"] = str(problem)
            log.error("the certificate cannot be served, the one before stays", extra={"fields": fields})  # noqa: TRY400
        else:
            self.expiry.follow(certificate)
            log.info("certificate loaded", extra={"fields": fields})

    def _settled(self) -> float:
        """Seconds for which the bundles have been what they are."""
        return asyncio.get_running_loop().time() - self._bundles_at

    # --- What the leader does ---------------------------------------------------------------------------

    async def _step(self) -> float:
        """Do what is next; gives the seconds after which to look again."""
        metadata = (self._secret.document or {}).get("metadata") or {}
        if self._secret.document is None:
            raise ClusterError("the Secret is missing", hint="create it, empty, or name another with --secret-name")
        if any(name.startswith(_CERT_MANAGER) for name in metadata.get("annotations") or {}):
            raise ClusterError("the Secret is cert-manager's", hint="mount it and use --disable-cert-rotation")
        serving = (self._serving.authority, self._serving.certificate)
        reply = await ask(Question(b"", self._data(), self._bundles, self._settled(), self._names, serving))
        self.expiry.ends |= reply.expiry
        if reply.secret:
            await self._write_secret(reply)
        if reply.bundle is not None:
            await self._write_bundles(reply.bundle)
        if reply.why:
            log.info("certificates kept", extra={"fields": {"step": reply.why, **self._named()}})
        return max(reply.wait, 1.0)

    async def _write_secret(self, reply: Reply) -> None:
        """Write members as long as the Secret is what we have seen."""
        data = {name: None if value is None else _encode(value) for name, value in reply.secret.items()}
        document = {"metadata": {"resourceVersion": self._secret.version}, "data": data}
        await self._patch(f"{self._secret_path}/{self._secret_name}", document, MERGE_PATCH)

    async def _write_bundles(self, bundle: bytes) -> None:
        """Write the caBundle of every entry that has another, and nothing else (K3).

        Entries are merged by name. With the resourceVersion no entry that was removed meanwhile comes back.
        """
        wanted = [
            {"name": entry["name"], "clientConfig": {"caBundle": _encode(bundle)}}
            for entry, found in zip(self._entries(), self._bundles, strict=True)
            if found != bundle
        ]
        if not wanted:
            return
        document = {"metadata": {"resourceVersion": self._configuration.version}, "webhooks": wanted}
        await self._patch(f"{self._configuration_path}/{self._configuration_name}", document, STRATEGIC_PATCH)
        self.writes += 1

    async def _patch(self, path: str, document: JsonObject, kind: str) -> None:
        await request(self._client, "PATCH", path, document, query={"fieldManager": FIELD_MANAGER}, content_type=kind)

    # --- Parts of the documents -------------------------------------------------------------------------

    def _data(self) -> dict[str, bytes]:
        data = (self._secret.document or {}).get("data") or {}
        return {name: _decode(value) for name, value in data.items()}

    def _entries(self) -> list[JsonObject]:
        return list((self._configuration.document or {}).get("webhooks") or [])

    def _named(self) -> dict[str, str]:
        return {"secret": self._secret_name, "configuration": self._configuration_name}


def _follow(client: httpx2.AsyncClient, what: str, path: str, name: str, sink: Mirror) -> Feed[JsonObject]:
    query = {"fieldSelector": f"metadata.name={name}"}
    return Feed(client, Watched(what, path, lambda raw: msgspec.json.decode(raw, type=dict), query), sink)


def _client_config(entry: JsonObject) -> JsonObject:
    return entry.get("clientConfig") or {}


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _decode(value: object) -> bytes:
    """What base64 text holds; nothing for what is none."""
    try:
        return base64.b64decode(value) if isinstance(value, str) else b""
    except binascii.Error:
        return b""
