"""Planning and carrying out targets and removals, with progress: what create, delete, apply and sync share."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from azwi.cli.output import confirm
from azwi.identity.exchange import prove
from azwi.identity.execution import Execution
from azwi.identity.model import CHANGING
from azwi.identity.observation import observe
from azwi.identity.plan import plan_create
from azwi.identity.report import target_document

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from azwi.cli.output import Progress
    from azwi.cli.session import Session
    from azwi.identity.exchange import Proof
    from azwi.identity.model import AccountOrder, Done, Found, Step, Target

_AT_ONCE = 8  # identities that are written at the same time; each one by itself is written step by step


class Work:
    """The steps for one identity, and what came of them."""

    def __init__(self, session: Session, found: Found, steps: list[Step], accounts: Sequence[AccountOrder]) -> None:
        self.steps = steps
        self.accounts = accounts
        self.done: list[Done] = []
        self.proofs: dict[AccountOrder, Proof] = {}
        self._session = session
        self.execution = Execution(session.services, found)

    @property
    def changes(self) -> bool:
        """Whether a step changes something."""
        return any(step.action in CHANGING for step in self.steps)

    async def run(self, progress: Progress) -> None:
        """Carry the steps out, one after the other."""
        for step in self.steps:
            progress.start(f"{step.phase.value}: {step.thing.value} {step.name}")
            try:
                done = await self.execution.run(step)
            finally:
                progress.stop()
            self.done.append(done)
            progress.done(done)

    async def prove(self, progress: Progress, audience_of: Callable[[AccountOrder], str], seconds: int) -> None:
        """Exchange a token of each service account, of its audience, until that works."""
        client_id = self.execution.identity.client_id
        for account in self.accounts:
            progress.start(f"waiting for an access token for {account.title}")
            try:
                proof = await prove(
                    self._session.services,
                    account,
                    audience_of(account),
                    lambda assertion: self._session.exchange(client_id, assertion),
                    seconds,
                )
            finally:
                progress.stop()
            self.proofs[account] = proof
            progress.say(f"token: service account {account.title} got an access token after {proof.seconds:.1f} s")

    def document(self) -> dict[str, Any]:
        """What came of it, for machines."""
        tenant_id = self._session.services.tenant_id
        identity = self.execution.identity
        return target_document(identity, tenant_id, self.accounts, self.steps, self.done, self.proofs)


async def plan_target(session: Session, target: Target) -> Work:
    """Look at what is there, and plan."""
    found = await observe(session.services, target)
    work = Work(session, found, plan_create(target, found, session.services.tenant_id), target.accounts)
    work.execution = Execution(session.services, found, overwrite=target.overwrite)
    return work


async def run_all(works: Sequence[Work], progress: Progress) -> None:
    """Carry out the work for several identities, some at a time; all are tried, then the first failure is raised."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def run(work: Work) -> None:
        async with limit:
            await work.run(progress)

    results = await asyncio.gather(*map(run, works), return_exceptions=True)
    problems = [one for one in results if isinstance(one, BaseException)]
    for other in problems[1:]:
        click.echo(f"Error: {other}", err=True)
    if problems:
        raise problems[0]


def ask(works: Sequence[Work], question: str, *, yes: bool, required: bool = False) -> None:
    """Ask, where something changes."""
    if any(work.changes for work in works):
        confirm(question, yes=yes, required=required)
