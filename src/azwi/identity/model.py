"""What is wanted, what is there, and the steps between: the values of this room. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeAlias

from azwi.contract import DEFAULT_AUDIENCE, DEFAULT_EXPIRATION
from azwi.errors import AzwiError
from azwi.identity.names import subject_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azwi.cluster.annotations import Account
    from azwi.entra.federation import FederatedCredential


class OrderError(AzwiError):
    """The caller's: what is wanted is incomplete, contradicts itself or does not fit what is there."""

    code = "order"


class Phase(StrEnum):
    """A part of the work; the values are the names that flags take."""

    APPLICATION = "aad-application"
    MANAGED_IDENTITY = "managed-identity"
    SERVICE_ACCOUNT = "service-account"
    FEDERATED_IDENTITY = "federated-identity"
    ROLE_ASSIGNMENT = "role-assignment"


class Action(StrEnum):
    """What a step will do."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    DELETE = "delete"
    ABSENT = "absent"
    SPARE = "spare"


class Result(StrEnum):
    """What a step did."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"
    DELETED = "deleted"
    ABSENT = "absent"
    KEPT = "kept"


class Thing(StrEnum):
    """What a step is about."""

    APPLICATION = "application"
    PRINCIPAL = "service principal"
    MANAGED_IDENTITY = "managed identity"
    ACCOUNT = "service account"
    CREDENTIAL = "federated credential"
    ROLE = "role assignment"


@dataclass(frozen=True, slots=True)
class IdentityRef:
    """Which identity is meant: an application by name, client id or object id, or a managed identity by its path.

    Attributes:
        resource_id: Of a managed identity; empty for an application.
        location: Where a managed identity is made; its resource group's when empty.
        name: An application's display name.
        client_id: An application's.
        object_id: An application's own, not its principal's.
        principal_name: A service principal's display name, for where its application is not known.
        principal_id: A service principal's object id.
    """

    resource_id: str = ""
    location: str = ""
    name: str = ""
    client_id: str = ""
    object_id: str = ""
    principal_name: str = ""
    principal_id: str = ""

    @property
    def managed(self) -> bool:
        """Whether it is a managed identity."""
        return bool(self.resource_id)

    @property
    def title(self) -> str:
        """What people call it."""
        if self.managed:
            return self.resource_id.rpartition("/")[2]
        return self.name or self.client_id or self.object_id


@dataclass(frozen=True, slots=True)
class AccountOrder:
    """A service account that is to have the identity; `expiration` is in seconds."""

    namespace: str
    name: str
    expiration: int = DEFAULT_EXPIRATION

    @property
    def title(self) -> str:
        """What people call it."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class RoleOrder:
    """A role, by name, GUID or id, at a scope."""

    role: str
    scope: str


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be, for one identity.

    Attributes:
        identity: Which one.
        accounts: The service accounts that are to have it.
        credentials: Whose tokens it is to accept.
        roles: What it is to be allowed.
        phases: Those that run.
        overwrite: Whether annotations that somebody else manages are taken over.
    """

    identity: IdentityRef
    accounts: tuple[AccountOrder, ...] = ()
    credentials: tuple[FederatedCredential, ...] = ()
    roles: tuple[RoleOrder, ...] = ()
    phases: frozenset[Phase] = field(default_factory=lambda: frozenset(Phase))
    overwrite: bool = False

    def audience_of(self, account: AccountOrder) -> str:
        """The audience of the credential that trusts a service account; the default where none does."""
        subject = subject_of(account.namespace, account.name)
        return next((one.audiences[0] for one in self.credentials if one.subject == subject), DEFAULT_AUDIENCE)


@dataclass(frozen=True, slots=True)
class Removal:
    """What is to be no more, for one service account.

    Attributes:
        identity: Which one.
        account: The service account; None where its phase does not run and its subject is not needed.
        issuer: Of the credential.
        assignment: The id of a role assignment.
        phases: Those that run.
        keep_account: Whether the service account stays, without our annotations.
    """

    identity: IdentityRef
    account: AccountOrder | None
    issuer: str
    assignment: str
    phases: frozenset[Phase]
    keep_account: bool = False


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity as it is; empty ids are of what is not there yet, or was not looked up."""

    ref: IdentityRef
    client_id: str = ""
    object_id: str = ""
    principal_id: str = ""
    own: bool = False
    name: str = ""

    @property
    def title(self) -> str:
        """What people call it."""
        return self.name or self.ref.title

    @property
    def exists(self) -> bool:
        """Whether the application or managed identity is there."""
        return bool(self.client_id or self.object_id)


@dataclass(frozen=True, slots=True)
class RoleFinding:
    """What a role means at its scope, and whether the identity has it there."""

    definition_id: str
    assigned: bool


@dataclass(frozen=True, slots=True)
class Found:
    """What is there.

    Attributes:
        identity: The identity.
        credentials: Those it has; none where it is not there.
        accounts: By namespace and name; None for one that is not there.
        roles: Those that were asked for.
        assignments: Ids of the role assignments that azwi made for it, and that go only with it.
    """

    identity: Identity
    credentials: tuple[FederatedCredential, ...] = ()
    accounts: Mapping[tuple[str, str], Account | None] = field(default_factory=dict)
    roles: Mapping[RoleOrder, RoleFinding] = field(default_factory=dict)
    assignments: tuple[str, ...] = ()


Subject: TypeAlias = "AccountOrder | FederatedCredential | RoleOrder | Account | str | None"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do, or to leave as it is.

    Attributes:
        phase: Which part of the work it belongs to.
        thing: What it is about.
        action: What it will do.
        name: What people call that thing.
        detail: Why, or what exactly, where that is not plain.
        subject: What the step needs to know.
        warning: What went otherwise than one should expect.
    """

    phase: Phase
    thing: Thing
    action: Action
    name: str
    detail: str = ""
    subject: Subject = None
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A step that is done; `seconds` is how long it took."""

    step: Step
    result: Result
    seconds: float
    detail: str = ""
    warning: bool = False


CHANGING: Final = frozenset({Action.CREATE, Action.CHANGE, Action.DELETE})
AUDIENCE: Final = DEFAULT_AUDIENCE
