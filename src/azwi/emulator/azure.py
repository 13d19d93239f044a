"""The emulated Microsoft Graph and Azure Resource Manager: who asks, what goes wrong, one writer at a time."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from azwi.emulator import arm, graph
from azwi.emulator.service import PAGE, Circumstances, Outcome, read_caller
from azwi.emulator.trouble import GatewayFailure, Throttled
from azwi.emulator.wire import Answer

if TYPE_CHECKING:
    from azwi.emulator.trouble import Service
    from azwi.emulator.wire import Request
    from azwi.emulator.world import World

_WRITING: Final = 0.02  # seconds that a federated credential of a managed identity takes to be written
_CONCURRENT: Final = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity"
_GRAPH_AUDIENCES: Final = frozenset({"https://graph.microsoft.com", "00000003-0000-0000-c000-000000000000"})
_ARM_AUDIENCES: Final = frozenset({"https://management.azure.com", "https://management.core.windows.net"})


@dataclass(frozen=True, slots=True)
class AzureRequest:
    """A request to one of the two; its path is the service's own."""

    service: Service
    request: Request
    base_url: str


class AzureApi:
    """Both services of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._written: set[str] = set()

    def recognise(self, request: Request) -> AzureRequest | None:
        """Which of the two a request is for: by the first segment of its path, or by the host's public name."""
        host = request.headers.get("host", "").partition(":")[0]
        services: tuple[tuple[Service, str], ...] = (("graph", self._world.graph_url), ("arm", self._world.arm_url))
        for service, base_url in services:
            where = urlsplit(base_url)
            if where.path and request.path.startswith(where.path + "/"):
                return AzureRequest(service, replace(request, path=request.path.removeprefix(where.path)), base_url)
            if not where.path and host == where.hostname:
                return AzureRequest(service, request, base_url)
        return None

    async def answer(self, asked: AzureRequest) -> Answer:
        """Answer, change the state, and write it into the journal."""
        answer = await self._answer(asked)
        request = asked.request
        self._world.journal.record(
            asked.service, request.method, request.path, answer.status, answer.outcome, dict(answer.about)
        )
        if request.method != "GET":
            await asyncio.sleep(self._world.trouble.lateness.get(asked.service, 0.0))
        return answer

    async def _answer(self, asked: AzureRequest) -> Answer:
        world, request, service = self._world, asked.request, asked.service
        about = Circumstances(
            base_url=asked.base_url,
            tenant_id="",
            now=world.now(),
            replication=world.trouble.replication,
            page=world.trouble.page or PAGE,
            new_id=lambda: str(uuid.uuid4()),
        )
        failure = world.trouble.next_failure(service, request.method, request.path)
        if isinstance(failure, Throttled):
            answer = _refuse(asked, 429, "TooManyRequests", "Too many requests.", about)
            return replace(answer, headers=(*answer.headers, ("retry-after", str(failure.retry_after))))
        if isinstance(failure, GatewayFailure) and not failure.done:
            return _fail(asked, failure, about)
        audiences = frozenset({asked.base_url}) | (_GRAPH_AUDIENCES if service == "graph" else _ARM_AUDIENCES)
        keys = world.entra_keys
        tenant_id = read_caller(request.headers.get("authorization", ""), keys, audiences, world.now())
        if not tenant_id:
            if service == "arm":
                return arm.challenge(request, world.current(), world.base_url + "/", about)
            return graph.refuse_graph(401, "InvalidAuthenticationToken", "Access token is empty or invalid.", about)
        answer = await self._carry_out(asked, replace(about, tenant_id=tenant_id))
        return _fail(asked, failure, about) if isinstance(failure, GatewayFailure) else answer

    async def _carry_out(self, asked: AzureRequest, about: Circumstances) -> Answer:
        outcome = self._decide(asked, about)
        if outcome.writes_to:
            if outcome.writes_to in self._written:
                said = (
                    "Too many Federated Identity Credentials are written concurrently for the managed identity "
                    f"'{outcome.writes_to}'. Concurrent writes under the same managed identity are not supported."
                )
                return arm.refuse_arm(409, _CONCURRENT, said, about)
            self._written.add(outcome.writes_to)
            try:
                await asyncio.sleep(_WRITING)
            finally:
                self._written.discard(outcome.writes_to)
            outcome = self._decide(asked, about)  # by now the state may be another
        if outcome.edit is not None:
            self._world.edit(outcome.edit)
        return outcome.answer

    def _decide(self, asked: AzureRequest, about: Circumstances) -> Outcome:
        decide = graph.answer_graph if asked.service == "graph" else arm.answer_arm
        return decide(asked.request, self._world.current(), about)


def _refuse(asked: AzureRequest, status: int, code: str, said: str, about: Circumstances) -> Answer:
    refuse = graph.refuse_graph if asked.service == "graph" else arm.refuse_arm
    return refuse(status, code, said, about)


def _fail(asked: AzureRequest, failure: GatewayFailure, about: Circumstances) -> Answer:
    """As it was told: with an error of the service's, or as a gateway that has none."""
    if failure.error:
        return _refuse(asked, failure.status, failure.error, "The emulator was told to fail.", about)
    return Answer(failure.status, b"<html><body>The gateway has no answer.</body></html>", (), "gateway")
