"""What was planned and done, for people and for machines: lines, tables and documents with stable fields. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from azwi.entra.federation import MAX_CREDENTIALS
from azwi.identity.credentials import describe_quota
from azwi.identity.model import Action
from azwi.identity.names import account_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azwi.entra.federation import FederatedCredential
    from azwi.identity.exchange import Proof
    from azwi.identity.model import AccountOrder, Done, Identity, Step

_WILL: Final = {
    Action.CREATE: "would create",
    Action.CHANGE: "would change",
    Action.KEEP: "unchanged",
    Action.DELETE: "would delete",
    Action.ABSENT: "absent",
    Action.SPARE: "kept",
}
_MARKS: Final = {
    Action.CREATE: "+",
    Action.CHANGE: "~",
    Action.KEEP: "=",
    Action.DELETE: "-",
    Action.ABSENT: "=",
    Action.SPARE: "=",
}


def plan_line(step: Step) -> str:
    """One step of a plan, with a mark: + create, ~ change, - delete, = nothing to do."""
    detail = f" ({step.detail})" if step.detail else ""
    return f"{_MARKS[step.action]} {step.thing.value} {step.name}{detail}"


def done_line(done: Done) -> str:
    """One step that is done, with its time."""
    step, detail = done.step, f" ({done.detail})" if done.detail else ""
    what = f"{step.phase.value}: {step.thing.value} {step.name}"
    return f"{what} {done.result.value}{detail} in {done.seconds:.1f} s"


def identity_document(identity: Identity, tenant_id: str) -> dict[str, Any]:
    """An identity; what is not known is empty."""
    ref = identity.ref
    return {
        "kind": "ManagedIdentity" if ref.managed else "Application",
        "name": identity.title,
        "clientId": identity.client_id,
        "objectId": identity.object_id,
        "principalId": identity.principal_id,
        "resourceId": ref.resource_id,
        "tenantId": tenant_id,
    }


def step_documents(steps: Sequence[Step], done: Sequence[Done]) -> list[dict[str, Any]]:
    """Each step with its result: what it did, or what it would do."""
    results = {id(one.step): one for one in done}
    return [_step_document(step, results.get(id(step))) for step in steps]


def _step_document(step: Step, done: Done | None) -> dict[str, Any]:
    return {
        "phase": step.phase.value,
        "object": step.thing.value,
        "name": step.name,
        "result": done.result.value if done else _WILL[step.action],
        "detail": done.detail if done else step.detail,
        "seconds": round(done.seconds, 3) if done else None,
    }


def target_document(
    identity: Identity,
    tenant_id: str,
    accounts: Sequence[AccountOrder],
    steps: Sequence[Step],
    done: Sequence[Done],
    proofs: Mapping[AccountOrder, Proof],
) -> dict[str, Any]:
    """What happened, or would, for one identity."""
    tokens = [
        {
            "serviceAccount": account.title,
            "result": "granted",
            "attempts": proof.attempts,
            "seconds": round(proof.seconds, 3),
            "expiresOn": proof.expires_on,
        }
        for account, proof in proofs.items()
    ]
    return {
        "identity": identity_document(identity, tenant_id),
        "serviceAccounts": [{"namespace": one.namespace, "name": one.name} for one in accounts],
        "steps": step_documents(steps, done),
        "tokens": tokens,
    }


def credential_document(credential: FederatedCredential, exists: bool | None) -> dict[str, Any]:  # noqa: FBT001
    """A federated credential; `exists` says whether its service account is there, None where nobody knows."""
    account = account_of(credential.subject)
    return {
        "name": credential.name,
        "issuer": credential.issuer,
        "subject": credential.subject,
        "claimsMatchingExpression": credential.expression,
        "audiences": list(credential.audiences),
        "serviceAccount": {"namespace": account[0], "name": account[1], "exists": exists} if account else None,
    }


def credentials_document(
    identity: Identity, tenant_id: str, credentials: Sequence[tuple[FederatedCredential, bool | None]]
) -> dict[str, Any]:
    """The credentials of an identity, and how much of its room they use."""
    return {
        "identity": identity_document(identity, tenant_id),
        "quota": {"used": len(credentials), "limit": MAX_CREDENTIALS},
        "credentials": [credential_document(one, exists) for one, exists in credentials],
    }


def credential_rows(credentials: Sequence[tuple[FederatedCredential, bool | None]]) -> list[tuple[str, ...]]:
    """The same as a table: a row of titles, then one for each."""
    rows: list[tuple[str, ...]] = [("NAME", "ISSUER", "SUBJECT", "AUDIENCE", "SERVICE ACCOUNT")]
    words = {True: "exists", False: "missing", None: "unknown"}
    for one, exists in credentials:
        account = account_of(one.subject)
        state = f"{account[0]}/{account[1]} {words[exists]}" if account else "none"
        rows.append((one.name, one.issuer, one.expression or one.subject, " ".join(one.audiences), state))
    return rows


def quota_line(identity: Identity, used: int) -> str:
    """How much of an identity's room is used, as a sentence."""
    return f"{identity.title} uses {describe_quota(used)} federated credentials"
