"""The ASGI applications: which path is which document, and the I/O around what `exchange` and `imds` decide."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from azwi.emulator import exchange, faults, imds, issuer, metadata, token_request
from azwi.emulator.azure import AzureApi
from azwi.emulator.faults import Fault
from azwi.emulator.trouble import GatewayFailure, Throttled, parse_verb
from azwi.emulator.wire import Answer, Receive, Request, Scope, Send, json_answer, read_request, send_answer
from azwi.emulator.world import CLUSTER
from azwi.log import logger

if TYPE_CHECKING:
    from azwi.emulator.keys import JsonObject
    from azwi.emulator.world import World

OWN: Final = "emulator"  # the first segment of every path that neither Entra nor a cluster has
NOTICE: Final = "This is the azwi emulator of Microsoft Entra. It is no identity provider: its tokens open nothing."

_READING: Final = frozenset({"GET", "HEAD"})
_MAX_FIELD: Final = 300  # characters of a value in a log line

_log = logger("emulator")


class EmulatorApp:
    """Entra and the emulated cluster's API behind one address."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._azure = AzureApi(world)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = await read_request(scope, receive)
        azure = request and self._azure.recognise(request)
        if azure:
            await send_answer(send, await self._azure.answer(azure))
            return
        answer = _too_large() if request is None else await self._answer(request)
        self._record(scope, answer)
        await send_answer(send, answer)

    def _record(self, scope: Scope, answer: Answer) -> None:
        first = scope["path"].lstrip("/").partition("/")[0]
        service = first if first in {CLUSTER, OWN} else "entra"
        self._world.journal.record(
            service, scope["method"], scope["path"], answer.status, answer.outcome, dict(answer.about)
        )

    async def _answer(self, request: Request) -> Answer:
        match request.segments:
            case [tenant, "oauth2", "v2.0", "token"]:
                return await self._token(request, tenant)
            case ["cluster", "api", "v1", "namespaces", namespace, "serviceaccounts", account, "token"]:
                return self._service_account_token(request, namespace, account)
            case ["emulator", verb] if request.method == "POST":
                return self._take_verb(verb, request.body)
            case _ if request.method in _READING:
                return self._read(request)
            case _:
                return _plain_refusal(405, "method_not_allowed", "This path is read only.", ("allow", "GET, HEAD"))

    def _read(self, request: Request) -> Answer:
        """Every document that is only read."""
        world = self._world
        match request.segments:
            case [] | ["emulator"]:
                addresses = {
                    "notice": NOTICE,
                    "authority": world.base_url + "/",
                    "issuer": world.cluster_issuer,
                    "graph": world.graph_url,
                    "resourceManager": world.arm_url,
                }
                return json_answer(addresses | {"trouble": world.trouble.document()})
            case ["emulator", "journal"]:
                return json_answer(world.journal.document())
            case ["cluster", ".well-known", "openid-configuration"]:
                return json_answer(issuer.discovery_document(world.cluster_issuer))
            case ["cluster", "openid", "v1", "jwks"]:
                return json_answer(issuer.jwks(*world.cluster_keys))
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

    def _take_verb(self, name: str, body: bytes) -> Answer:
        verb = parse_verb(name, body)
        if isinstance(verb, str):
            return _plain_refusal(400, "invalid_verb", verb + ".")
        self._world.take(verb)
        return json_answer(self._world.trouble.document())

    # --- Entra ----------------------------------------------------------------------------------------

    async def _token(self, request: Request, tenant: str) -> Answer:
        if request.method != "POST":
            fault = faults.METHOD_NOT_ALLOWED(allowed="POST", method=request.method)
            return self._entra_document(request, fault)
        trouble = self._world.trouble
        await asyncio.sleep(trouble.slowness)
        failure = trouble.next_failure()
        if isinstance(failure, GatewayFailure):
            return Answer(failure.status, b"<html><body>The gateway has no answer.</body></html>", (), "gateway")
        if isinstance(failure, Throttled):
            answer = self._entra_document(request, failure.fault)
            return replace(answer, headers=(*answer.headers, ("retry-after", str(failure.retry_after))))
        form = exchange.read_form(request.headers.get("content-type", ""), request.body)
        if isinstance(form, Fault):
            return self._entra_document(request, form)
        result = failure or await self._exchange(tenant, form)
        about = _about(form)
        outcome = result.name if isinstance(result, Fault) else "granted"
        _log.info(
            "token request judged", extra={"fields": {"tenant": tenant[:_MAX_FIELD], **about, "outcome": outcome}}
        )
        return replace(self._entra_document(request, result), about=tuple(about.items()))

    async def _exchange(self, tenant_name: str, form: exchange.Form) -> JsonObject | Fault:
        """The steps of `exchange`, with the one fetch between them."""
        world = self._world
        directory = world.directory()
        tenant = exchange.find_tenant(directory, tenant_name)
        if isinstance(tenant, Fault):
            return tenant
        candidate = exchange.examine(form, tenant, directory, world.now())
        if isinstance(candidate, Fault):
            return candidate
        if isinstance(candidate, exchange.Grant):
            return exchange.token_answer(world.grant(candidate, world.now()))
        keys = await world.issuer_keys.find(candidate.credential.issuer, candidate.assertion.kid)
        if isinstance(keys, Fault):
            return keys
        now = world.now()
        distrust = exchange.verify(candidate.assertion, keys, now)
        return distrust or exchange.token_answer(world.grant(candidate.grant, now))

    def _configuration(self, tenant: str, *, v2: bool) -> JsonObject | Fault:
        return metadata.openid_configuration(self._world.base_url, self._world.directory(), tenant, v2=v2)

    def _keys(self, tenant: str) -> JsonObject | Fault:
        configuration = self._configuration(tenant, v2=True)
        if isinstance(configuration, Fault):
            return configuration
        return metadata.jwks(self._world.entra_keys, str(configuration["issuer"]))

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
        body = faults.render_body(result, self._world.now(), trace_id, asked_id or str(uuid.uuid4()))
        return json_answer(body, status=result.status, headers=tuple(headers), outcome=result.name)

    # --- The emulated cluster -------------------------------------------------------------------------

    def _service_account_token(self, request: Request, namespace: str, account: str) -> Answer:
        world = self._world
        if request.method != "POST":
            return _status(token_request.Refusal(405, "MethodNotAllowed", "the server does not allow this method"))
        order = token_request.parse_token_request(
            namespace, account, request.body, world.cluster_issuer, world.directory().cluster
        )
        if isinstance(order, token_request.Refusal):
            return _status(order)
        now = world.now()
        claims = issuer.token_claims(world.cluster_issuer, order, now, str(uuid.uuid4()))
        token = issuer.mint_token(world.cluster_keys[-1], claims)
        return json_answer(token_request.render_answer(order, token, now), status=201)


class MetadataApp:
    """The Instance Metadata Service of the virtual machine that has the state's managed identities."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        request = await read_request(scope, receive)
        answer = _too_large() if request is None else self._answer(request)
        record = self._world.journal.record
        record("imds", scope["method"], scope["path"], answer.status, answer.outcome, dict(answer.about))
        await send_answer(send, answer)

    def _answer(self, request: Request) -> Answer:
        result = imds.answer_request(request, self._world.directory())
        if isinstance(result, Answer):
            return result
        now = self._world.now()
        about = (("client_id", result.grant.application.client_id), ("resource", result.grant.audience))
        answer = json_answer(imds.token_answer(result, self._world.grant(result.grant, now), now))
        return replace(answer, about=about)


def _status(refusal: token_request.Refusal) -> Answer:
    return json_answer(token_request.render_status(refusal), status=refusal.code, outcome=refusal.reason)


def _plain_refusal(status: int, error: str, description: str, *headers: tuple[str, str]) -> Answer:
    """A refusal that is the emulator's own, not one of Entra's."""
    document = {"error": error, "error_description": f"{description} {NOTICE}"}
    return json_answer(document, status=status, headers=headers, outcome=error)


def _too_large() -> Answer:
    return _plain_refusal(413, "request_too_large", "The body is larger than 1 MiB.", ("connection", "close"))


def _about(form: exchange.Form) -> dict[str, str]:
    """Who asks for what, as far as the form says so."""
    about = {
        "client_id": form.get("client_id", ""),
        "subject": exchange.asserted_subject(form),
        "scope": form.get("scope", ""),
    }
    return {name: value[:_MAX_FIELD] for name, value in about.items()}


def _read_guid(text: str) -> str:
    """The text if it is a GUID, else nothing: what is echoed in a header must be harmless."""
    try:
        return str(uuid.UUID(text)) if text else ""
    except ValueError:
        return ""
