"""The ASGI application: which path is which document, and the I/O around what `exchange` decides."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from azwi.emulator import exchange, faults, issuer, metadata, token_request
from azwi.emulator.faults import Fault
from azwi.emulator.journal import Journal
from azwi.emulator.keys import JsonObject, SigningKey, sign
from azwi.emulator.wire import Answer, Receive, Request, Scope, Send, json_answer, read_request, send_answer
from azwi.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.emulator.directory import Directory
    from azwi.emulator.federation import IssuerKeys

CLUSTER: Final = "cluster"  # the first segment of every path of the emulated cluster
NOTICE: Final = "This is the azwi emulator of Microsoft Entra. It is no identity provider: its tokens open nothing."

_READING: Final = frozenset({"GET", "HEAD"})
_MAX_FIELD: Final = 300  # characters of a value in a log line

_log = logger("emulator")


@dataclass(frozen=True, slots=True)
class World:
    """What the application stands on.

    `base_url` has no trailing slash; `clock` gives seconds since 1970.
    """

    base_url: str
    directory: Directory
    entra_key: SigningKey
    cluster_key: SigningKey
    issuer_keys: IssuerKeys
    clock: Callable[[], float]
    journal: Journal = field(default_factory=Journal)

    @property
    def cluster_issuer(self) -> str:
        """The issuer URL of the emulated cluster."""
        return f"{self.base_url}/{CLUSTER}"


class EmulatorApp:
    """Entra and the emulated cluster's API behind one address."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = await read_request(scope, receive)
        answer = _too_large() if request is None else await self._answer(request)
        self._world.journal.record(scope["method"], scope["path"], answer.status, answer.outcome)
        await send_answer(send, answer)

    async def _answer(self, request: Request) -> Answer:
        match request.segments:
            case [tenant, "oauth2", "v2.0", "token"]:
                return await self._token(request, tenant)
            case ["cluster", "api", "v1", "namespaces", namespace, "serviceaccounts", account, "token"]:
                return self._service_account_token(request, namespace, account)
            case _ if request.method in _READING:
                return self._read(request)
            case _:
                return _plain_refusal(405, "method_not_allowed", "This path is read only.", ("allow", "GET, HEAD"))

    def _read(self, request: Request) -> Answer:
        """Every document that is only read."""
        world = self._world
        match request.segments:
            case []:
                return json_answer(
                    {"notice": NOTICE, "authority": world.base_url + "/", "issuer": world.cluster_issuer}
                )
            case ["journal"]:
                return json_answer(world.journal.document())
            case ["cluster", ".well-known", "openid-configuration"]:
                return json_answer(issuer.discovery_document(world.cluster_issuer))
            case ["cluster", "openid", "v1", "jwks"]:
                return json_answer(issuer.jwks(world.cluster_key))
            case ["common", "discovery", "instance"]:
                return self._entra_document(request, self._instance(request))
            case [tenant, "v2.0", ".well-known", "openid-configuration"]:
                return self._entra_document(request, self._configuration(tenant, v2=True))
            case [tenant, ".well-known", "openid-configuration"]:
                return self._entra_document(request, self._configuration(tenant, v2=False))
            case [tenant, "discovery", "v2.0", "keys"] | [tenant, "discovery", "keys"]:
                return self._entra_document(request, self._keys(tenant))
            case _:
                return _plain_refusal(404, "not_found", "The emulator has nothing here.")

    # --- Entra ----------------------------------------------------------------------------------------

    async def _token(self, request: Request, tenant: str) -> Answer:
        if request.method != "POST":
            fault = faults.METHOD_NOT_ALLOWED(allowed="POST", method=request.method)
            return self._entra_document(request, fault)
        form = exchange.read_form(request.headers.get("content-type", ""), request.body)
        if isinstance(form, Fault):
            return self._entra_document(request, form)
        result = await self._exchange(tenant, form)
        _log.info("token request judged", extra={"fields": _log_fields(tenant, form, result)})
        return self._entra_document(request, result)

    async def _exchange(self, tenant_name: str, form: exchange.Form) -> JsonObject | Fault:
        """The steps of `exchange`, with the one fetch between them."""
        world = self._world
        tenant = exchange.find_tenant(world.directory, tenant_name)
        if isinstance(tenant, Fault):
            return tenant
        candidate = exchange.examine(form, tenant, world.directory)
        if isinstance(candidate, Fault):
            return candidate
        keys = await world.issuer_keys.find(candidate.credential.issuer, candidate.assertion.kid)
        if isinstance(keys, Fault):
            return keys
        now = world.clock()
        distrust = exchange.verify(candidate.assertion, keys, now)
        return distrust or self._grant(candidate, now)

    def _grant(self, candidate: exchange.Candidate, now: float) -> JsonObject:
        key = self._world.entra_key
        claims = exchange.access_token_claims(candidate, self._world.base_url, now, uuid.uuid4().bytes)
        return exchange.token_answer(sign(key, claims, {"x5t": key.kid, "kid": key.kid}))

    def _configuration(self, tenant: str, *, v2: bool) -> JsonObject | Fault:
        return metadata.openid_configuration(self._world.base_url, self._world.directory, tenant, v2=v2)

    def _keys(self, tenant: str) -> JsonObject | Fault:
        configuration = self._configuration(tenant, v2=True)
        if isinstance(configuration, Fault):
            return configuration
        return metadata.jwks(self._world.entra_key, str(configuration["issuer"]))

    def _instance(self, request: Request) -> JsonObject | Fault:
        asked = parse_qs(request.query).get("authorization_endpoint", [""])[0]
        return metadata.instance_discovery(self._world.base_url, asked)

    def _entra_document(self, request: Request, result: JsonObject | Fault) -> Answer:
        """The answer with the identifiers by which Entra's support finds a request."""
        trace_id = str(uuid.uuid4())
        asked_id = _read_guid(request.headers.get("client-request-id", ""))
        headers = [("x-ms-request-id", trace_id)]
        if asked_id and request.headers.get("return-client-request-id", "").lower() == "true":
            headers.append(("client-request-id", asked_id))
        if not isinstance(result, Fault):
            return json_answer(result, headers=tuple(headers))
        body = faults.render_body(result, self._world.clock(), trace_id, asked_id or str(uuid.uuid4()))
        return json_answer(body, status=result.status, headers=tuple(headers), outcome=result.name)

    # --- The emulated cluster -------------------------------------------------------------------------

    def _service_account_token(self, request: Request, namespace: str, account: str) -> Answer:
        world = self._world
        if request.method != "POST":
            return _status(token_request.Refusal(405, "MethodNotAllowed", "the server does not allow this method"))
        order = token_request.parse_token_request(namespace, account, request.body, world.cluster_issuer)
        if isinstance(order, token_request.Refusal):
            return _status(order)
        now = world.clock()
        claims = issuer.token_claims(world.cluster_issuer, order, now, str(uuid.uuid4()))
        token = issuer.mint_token(world.cluster_key, claims)
        return json_answer(token_request.render_answer(order, token, now), status=201)


def _status(refusal: token_request.Refusal) -> Answer:
    return json_answer(token_request.render_status(refusal), status=refusal.code, outcome=refusal.reason)


def _plain_refusal(status: int, error: str, description: str, *headers: tuple[str, str]) -> Answer:
    """A refusal that is the emulator's own, not one of Entra's."""
    document = {"error": error, "error_description": f"{description} {NOTICE}"}
    return json_answer(document, status=status, headers=headers, outcome=error)


def _too_large() -> Answer:
    return _plain_refusal(413, "request_too_large", "The body is larger than 1 MiB.", ("connection", "close"))


def _log_fields(tenant: str, form: exchange.Form, result: JsonObject | Fault) -> dict[str, object]:
    return {
        "tenant": tenant[:_MAX_FIELD],
        "client_id": form.get("client_id", "")[:_MAX_FIELD],
        "subject": exchange.asserted_subject(form)[:_MAX_FIELD],
        "outcome": result.name if isinstance(result, Fault) else "granted",
    }


def _read_guid(text: str) -> str:
    """The text if it is a GUID, else nothing: what is echoed in a header must be harmless."""
    try:
        return str(uuid.UUID(text)) if text else ""
    except ValueError:
        return ""
