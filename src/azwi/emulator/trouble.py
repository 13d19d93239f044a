"""What the emulator is told to do wrong, for tests: the verbs, read and remembered. No I/O; time is passed in.

Each verb is a document posted to `/emulator/<verb>`, and a method of `azwi.emulator.client.EmulatorClient`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec

from azwi.emulator import faults
from azwi.emulator.directory import with_credentials

if TYPE_CHECKING:
    from azwi.emulator.directory import Application, Directory, FederatedCredential
    from azwi.emulator.faults import Fault
    from azwi.emulator.keys import JsonObject

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Service: TypeAlias = Literal["entra", "graph", "arm"]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_YEAR: Final = 366 * 86_400


class Verb(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One thing to do wrong; times are in seconds."""

    name: ClassVar[str] = ""


class Throttle(Verb, frozen=True):
    """Answer the next requests with 429 and Retry-After."""

    name: ClassVar[str] = "throttle"
    service: Service = "entra"
    count: Count = 1
    retry_after: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 1


class Fail(Verb, frozen=True):
    """Answer the next requests with a code of Entra's, or with a bare HTTP status as a gateway would.

    Those of Graph and Resource Manager with a status, and an error of theirs: `Authorization_RequestDenied`. `done`
    carries the request out all the same, as when an answer is lost. `match` is what its path must end with.
    """

    name: ClassVar[str] = "fail"
    service: Service = "entra"
    count: Count = 1
    code: int = 0
    status: int = 0
    error: str = ""
    method: str = ""
    match: str = ""
    done: bool = False


class Slow(Verb, frozen=True):
    """Take so long for every request from now on; 0 ends it. Graph and Resource Manager: act at once, answer late."""

    name: ClassVar[str] = "slow"
    seconds: Seconds
    service: Service = "entra"


class Clock(Verb, frozen=True):
    """Let every clock of the emulator run so far ahead, or behind when negative."""

    name: ClassVar[str] = "clock"
    skew: Annotated[float, msgspec.Meta(ge=-_YEAR, le=_YEAR)]


class RotateKeys(Verb, frozen=True):
    """Sign with a new key from now on; `forget` also withdraws the old ones."""

    name: ClassVar[str] = "rotate-keys"
    of: Literal["entra", "cluster"]
    forget: bool = False


class Propagation(Verb, frozen=True):
    """Know federated credentials that are added from now on only after so long, as Entra's replicas do."""

    name: ClassVar[str] = "propagation"
    seconds: Seconds


class Replication(Verb, frozen=True):
    """Let new applications, principals and identities be unknown for so long to what depends on them."""

    name: ClassVar[str] = "replication"
    seconds: Seconds


class Paging(Verb, frozen=True):
    """Give lists of Graph and Resource Manager in pages of so many items; 0 is their usual size."""

    name: ClassVar[str] = "paging"
    size: Annotated[int, msgspec.Meta(ge=0, le=1000)]


class Reset(Verb, frozen=True):
    """Stop doing wrong: everything above but for keys that were rotated; the journal is emptied, too."""

    name: ClassVar[str] = "reset"


AnyVerb: TypeAlias = Throttle | Fail | Slow | Clock | RotateKeys | Propagation | Replication | Paging | Reset
VERBS: Final[dict[str, type[AnyVerb]]] = {
    verb.name: verb for verb in (Throttle, Fail, Slow, Clock, RotateKeys, Propagation, Replication, Paging, Reset)
}
_STATUSES: Final = range(400, 600)


def parse_verb(name: str, body: bytes) -> AnyVerb | str:
    """The verb that a request is about, or what is wrong with it, as a sentence without a full stop."""
    kind = VERBS.get(name)
    if kind is None:
        return f"there is no verb {name!r}; there are {', '.join(VERBS)}"
    try:
        verb = msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        return f"{name}: {problem}"
    return _fail_problem(verb) or verb if isinstance(verb, Fail) else verb


def _fail_problem(verb: Fail) -> str:
    if verb.service != "entra" and (verb.code or not verb.status):
        return f"fail: {verb.service} has no AADSTS codes; give status, and error where there is one"
    if bool(verb.code) == bool(verb.status):
        return "fail: give either code, an AADSTS number, or status, an HTTP status"
    if verb.status and verb.status not in _STATUSES:
        return f"fail: status {verb.status} is no error; 400 to 599 are allowed"
    if verb.code and verb.code not in faults.BY_CODE:
        known = ", ".join(str(code) for code in sorted(faults.BY_CODE))
        return f"fail: code {verb.code} is none that the emulator has a source for; it has {known}"
    return ""


@dataclass(frozen=True, slots=True)
class GatewayFailure:
    """An answer that does not come from Entra itself: a status and no JSON; of Graph and Resource Manager an error."""

    status: int
    error: str = ""
    done: bool = False


@dataclass(frozen=True, slots=True)
class Throttled:
    """An answer that asks for patience."""

    fault: Fault
    retry_after: int


Failure: TypeAlias = "Fault | GatewayFailure | Throttled"


@dataclass(slots=True)
class _Queued:
    failure: Failure
    left: int
    service: Service
    method: str
    match: str


@dataclass(slots=True)
class Trouble:
    """What is wrong now."""

    slowness: float = 0.0
    skew: float = 0.0
    propagation: float = 0.0
    replication: float = 0.0
    page: int = 0
    lateness: dict[Service, float] = field(default_factory=dict)
    _failures: deque[_Queued] = field(default_factory=deque)
    _known_from: dict[tuple[str, FederatedCredential], float] = field(default_factory=dict)

    def take(self, verb: AnyVerb) -> None:
        """Do as told; rotating keys is for who holds them."""
        match verb:
            case Throttle():
                throttled = Throttled(faults.THROTTLED(), verb.retry_after)
                self._failures.append(_Queued(throttled, verb.count, verb.service, "", ""))
            case Fail():
                gateway = GatewayFailure(verb.status, verb.error, verb.done)
                failure = gateway if verb.status else faults.BY_CODE[verb.code].example()
                self._failures.append(_Queued(failure, verb.count, verb.service, verb.method, verb.match))
            case Slow(service="entra"):
                self.slowness = verb.seconds
            case Slow():
                self.lateness[verb.service] = verb.seconds
            case Clock():
                self.skew = verb.skew
            case Propagation():
                self.propagation = verb.seconds
            case Replication():
                self.replication = verb.seconds
            case Paging():
                self.page = verb.size
            case Reset():
                self.slowness = self.skew = self.propagation = self.replication = 0.0
                self.page = 0
                self.lateness.clear()
                self._failures.clear()
                self._known_from.clear()
            case _:
                pass  # keys are rotated by who holds them

    def next_failure(self, service: Service = "entra", method: str = "", path: str = "") -> Failure | None:
        """What the next request to a service is to be answered with, if it is to fail; counts down."""
        for queued in self._failures:
            fits = queued.service == service and queued.method in {"", method} and path.endswith(queued.match)
            if fits:
                queued.left -= 1
                if not queued.left:
                    self._failures.remove(queued)
                return queued.failure
        return None

    # --- Propagation ------------------------------------------------------------------------------------

    def learn(self, before: Directory, after: Directory, now: float) -> None:
        """Hold back the credentials that are new in `after` for as long as propagation takes."""
        if not self.propagation:
            return
        old = {(application.client_id, credential) for application, credential in before.credentials()}
        for application, credential in after.credentials():
            key = (application.client_id, credential)
            if key not in old:
                self._known_from[key] = now + self.propagation

    def known(self, directory: Directory, now: float) -> Directory:
        """The directory as a replica knows it now."""
        directory = self._without_fresh(directory, now)
        hidden = {key for key, moment in self._known_from.items() if now < moment}
        if not hidden:
            return directory

        def visible(
            application: Application, credentials: tuple[FederatedCredential, ...]
        ) -> tuple[FederatedCredential, ...]:
            return tuple(one for one in credentials if (application.client_id, one) not in hidden)

        return with_credentials(directory, visible)

    def _without_fresh(self, directory: Directory, now: float) -> Directory:
        """Without the applications that are too new for sign-in to know them."""
        if not self.replication:
            return directory
        tenants = tuple(
            replace(
                tenant, applications=tuple(one for one in tenant.applications if now >= one.created + self.replication)
            )
            for tenant in directory.tenants
        )
        return replace(directory, tenants=tenants)

    def document(self) -> JsonObject:
        """What is wrong now, for people."""
        return {
            "slowness": self.slowness,
            "clockSkew": self.skew,
            "propagation": self.propagation,
            "replication": self.replication,
            "failuresLeft": sum(queued.left for queued in self._failures),
        }
