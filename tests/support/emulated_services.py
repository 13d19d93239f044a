"""A directory and a caller for the tests of the emulated Graph and Resource Manager."""

from __future__ import annotations

import itertools
import json
from typing import Any
from urllib.parse import quote

import msgspec

from azwi.emulator.arm import answer_arm
from azwi.emulator.directory import Application, Directory, FederatedCredential, ResourceGroup, Subscription, Tenant
from azwi.emulator.graph import answer_graph
from azwi.emulator.service import Circumstances, Outcome
from azwi.emulator.wire import Request

TENANT = "11111111-1111-1111-1111-111111111111"
OTHER = "99999999-9999-9999-9999-999999999999"
SUBSCRIPTION = "44444444-4444-4444-4444-444444444444"
FOREIGN = "88888888-8888-8888-8888-888888888888"
GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/shop"
IDENTITIES = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
TRUST: dict[str, Any] = {"name": "one", "issuer": "https://i.example", "subject": "s", "audiences": ["a"]}

OPERATOR = Application(
    "55555555-5555-5555-5555-555555555555",
    "operator",
    "operator-principal",
    (FederatedCredential("first", "https://i.example", "first", "a"),),
    registration_id="operator-object",
)


class Service:
    """A service with a state that keeps what it is told."""

    def __init__(self, answer: Any, *, now: float = 1000.0, replication: float = 0.0, page: int = 100) -> None:  # noqa: ANN401
        tenants = (
            Tenant(TENANT, "", (OPERATOR,), (Subscription(SUBSCRIPTION, (ResourceGroup("shop", "westeurope"),)),)),
            Tenant(OTHER, "", (), (Subscription(FOREIGN),)),
        )
        self.directory = Directory(tenants)
        self.now, self.replication, self.page = now, replication, page
        self.tenant_id = TENANT
        self.outcome: Outcome | None = None
        self._answer = answer
        self._ids = itertools.count()

    def about(self) -> Circumstances:
        """What an answer depends on."""
        return Circumstances(
            "https://service.example",
            self.tenant_id,
            self.now,
            self.replication,
            self.page,
            lambda: f"id-{next(self._ids)}",
        )

    def ask(
        self, method: str, path: str, query: str = "", *, raw: bytes | None = None, **body: object
    ) -> tuple[int, Any]:
        """Status and document of the answer; what it changes is kept."""
        content = raw if raw is not None else json.dumps(body).encode() if body else b""
        request = Request(method, path, query, {}, content)
        outcome: Outcome = self._answer(request, self.directory, self.about())
        self.outcome = outcome
        if outcome.edit:
            self.directory = outcome.edit(self.directory)
        return outcome.answer.status, msgspec.json.decode(outcome.answer.body) if outcome.answer.body else None


def graph(**how: Any) -> Service:  # noqa: ANN401
    """Microsoft Graph."""
    return Service(answer_graph, **how)


class Arm(Service):
    """Resource Manager, asked with an api-version."""

    def ask(
        self, method: str, path: str, query: str = "", *, raw: bytes | None = None, **body: object
    ) -> tuple[int, Any]:
        """As a client would."""
        version = "" if "api-version=" in query else "api-version=2023-01-31&"
        return super().ask(method, path, version + query, raw=raw, **body)


def arm(**how: Any) -> Arm:  # noqa: ANN401
    """Resource Manager."""
    return Arm(answer_arm, **how)


def filtered(text: str) -> str:
    """A query with that filter."""
    return f"$filter={quote(text)}"
