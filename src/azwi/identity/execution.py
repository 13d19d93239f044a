"""Doing what a plan says, one step after the other; what each did is what is reported, never what was meant."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from azwi.cluster.annotations import Account
from azwi.entra.federation import FederatedCredential
from azwi.entra.refusals import ServiceError
from azwi.errors import AzwiError
from azwi.identity.model import AccountOrder, Action, Done, Result, RoleOrder, Step, Thing
from azwi.identity.plan import annotations_for
from azwi.identity.services import (
    create_application,
    create_managed_identity,
    create_principal,
    delete_identity,
    find_identity,
    list_credentials,
    put_credential,
    remove_credential,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.identity.model import Found
    from azwi.identity.services import Services

_PLAIN: Final = {Action.KEEP: Result.UNCHANGED, Action.ABSENT: Result.ABSENT, Action.SPARE: Result.KEPT}


class PhaseError(AzwiError):
    """A step failed; those before it are done."""

    code = "phase"

    def __init__(self, step: Step, problem: AzwiError) -> None:
        super().__init__(f"failed to run phase {step.phase.value}: {problem.message}", hint=problem.hint)


class Execution:
    """The steps for one identity.

    Args:
        services: The outside world.
        found: What was there when the steps were planned.
        overwrite: Whether annotations that somebody else manages are taken over.
        clock: Seconds that only grow.
    """

    def __init__(
        self, services: Services, found: Found, *, overwrite: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.identity = found.identity
        self._services = services
        self._found = found
        self._overwrite = overwrite
        self._clock = clock

    async def run(self, step: Step) -> Done:
        """Do one step.

        Raises:
            PhaseError: It failed.
        """
        started = self._clock()
        try:
            result, detail = await self._run(step)
        except AzwiError as problem:
            raise PhaseError(step, problem) from problem
        missed = step.action is Action.DELETE and result is not Result.DELETED
        warning = step.warning or missed or result is Result.ABSENT
        return Done(step, result, self._clock() - started, detail, warning)

    async def _run(self, step: Step) -> tuple[Result, str]:
        if step.action in _PLAIN:
            return _PLAIN[step.action], step.detail
        work = self._delete if step.action is Action.DELETE else self._put
        return await work(step)

    # --- Creating and changing --------------------------------------------------------------------------

    async def _put(self, step: Step) -> tuple[Result, str]:
        services = self._services
        match step.thing, step.subject:
            case Thing.APPLICATION, _:
                return await self._put_application()
            case Thing.PRINCIPAL, _:
                self.identity, new = await create_principal(services, self.identity)
                return _created(new), self.identity.principal_id
            case Thing.MANAGED_IDENTITY, _:
                self.identity, new = await create_managed_identity(services, self.identity.ref)
                return _created(new), self.identity.client_id
            case Thing.ACCOUNT, AccountOrder() as order:
                return await self._annotate(order, step)
            case Thing.ACCOUNT, Account() as account:
                there = await services.accounts().release(account)
                return Result.CHANGED if there else Result.ABSENT, step.detail
            case Thing.CREDENTIAL, FederatedCredential() as credential:
                new = await put_credential(services, self.identity, credential)
                changed = Result.CHANGED if step.action is Action.CHANGE else Result.CREATED
                return changed if new else Result.UNCHANGED, step.detail
            case Thing.ROLE, RoleOrder() as order:
                return await self._assign(order)
            case _:  # pragma: no cover  # no plan has another
                raise AssertionError(step)

    async def _put_application(self) -> tuple[Result, str]:
        """Create the application, unless somebody did so since the plan was made."""
        now = await find_identity(self._services, self.identity.ref, principal=False)
        if now.exists:
            self.identity = now
            return Result.UNCHANGED, now.client_id
        self.identity = await create_application(self._services, self.identity.ref)
        return Result.CREATED, self.identity.client_id

    async def _annotate(self, order: AccountOrder, step: Step) -> tuple[Result, str]:
        wanted = annotations_for(order, self.identity.client_id, self._services.tenant_id)
        before = self._found.accounts.get((order.namespace, order.name))
        writer = self._services.accounts()
        after = await writer.apply(order.namespace, order.name, wanted, force=self._overwrite)
        if before is None:
            return Result.CREATED, step.detail
        changed = dict(before.annotations) != dict(after.annotations)
        return Result.CHANGED if changed else Result.UNCHANGED, step.detail

    async def _assign(self, order: RoleOrder) -> tuple[Result, str]:
        principal = self.identity.principal_id or await self._find_principal()
        finding = self._found.roles[order]
        manager = self._services.resource_manager
        made = await manager.assign_role(order.scope, finding.definition_id, principal)
        return _created(bool(made)), made

    async def _find_principal(self) -> str:
        ref = self.identity.ref
        known = bool(self.identity.client_id) or not ref.principal_name
        found = await find_identity(self._services, ref, principal=True, application=known)
        if not found.principal_id:
            raise AzwiError(
                f"{ref.principal_name or ref.title!r} has no service principal, so it can have no role",
                hint="let the phase aad-application run, which creates it",
            )
        return found.principal_id

    # --- Deleting ---------------------------------------------------------------------------------------

    async def _delete(self, step: Step) -> tuple[Result, str]:
        services = self._services
        match step.thing, step.subject:
            case Thing.ROLE, str() as identifier:
                # A role that goes with the identity stays with it, too.
                if identifier in self._found.assignments and (others := await self._other_credentials()):
                    return Result.KEPT, f"{others} federated credentials use its identity by now"
                gone = await services.resource_manager.delete_assignment(identifier)
            case Thing.CREDENTIAL, FederatedCredential() as credential:
                gone = await remove_credential(services, self.identity, credential)
            case Thing.ACCOUNT, Account() as account:
                gone = await services.accounts().delete(account)
            case Thing.MANAGED_IDENTITY, _ if others := await self._other_credentials():
                return Result.KEPT, f"{others} federated credentials use it by now"
            case _:
                gone = await delete_identity(services, self.identity)
        return Result.DELETED if gone else Result.ABSENT, step.detail

    async def _other_credentials(self) -> int:
        """How many credentials a managed identity still has just before it is to go."""
        try:
            return len(await list_credentials(self._services, self.identity))
        except ServiceError as problem:
            if problem.refusal.not_found:
                return 0
            raise


def _created(new: bool) -> Result:  # noqa: FBT001  # one value decides another
    return Result.CREATED if new else Result.UNCHANGED
