"""What the emulator is told to do wrong, for tests: the verbs, read and remembered. No I/O; time is passed in.

Each verb is a document posted to `/emulator/<verb>`, and a method of `azwi.emulator.client.EmulatorClient`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, TypeAlias

import msgspec

from azwi.emulator import faults
from azwi.emulator.directory import with_credentials

if TYPE_CHECKING:
    from azwi.emulator.directory import Application, Directory, FederatedCredential
    from azwi.emulator.faults import Fault
    from azwi.emulator.keys import JsonObject

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=86_400)]
_YEAR: Final = 366 * 86_400


class Verb(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One thing to do wrong; times are in seconds."""

    name: ClassVar[str] = ""


class Throttle(Verb, frozen=True):
    """Answer the next token requests with 429 and Retry-After."""

    name: ClassVar[str] = "throttle"
    count: Count = 1
    retry_after: Annotated[int, msgspec.Meta(ge=0, le=86_400)] = 1


class Fail(Verb, frozen=True):
    """Answer the next token requests with a code of Entra's, or with a bare HTTP status as a gateway would."""

    name: ClassVar[str] = "fail"
    count: Count = 1
    code: int = 0
    status: int = 0


class Slow(Verb, frozen=True):
    """Take so long for every token request from now on; 0 ends it."""

    name: ClassVar[str] = "slow"
    seconds: Seconds


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


class Reset(Verb, frozen=True):
    """Stop doing wrong: everything above but for keys that were rotated; the journal is emptied, too."""

    name: ClassVar[str] = "reset"


AnyVerb: TypeAlias = Throttle | Fail | Slow | Clock | RotateKeys | Propagation | Reset
VERBS: Final[dict[str, type[AnyVerb]]] = {
    verb.name: verb for verb in (Throttle, Fail, Slow, Clock, RotateKeys, Propagation, Reset)
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
    """An answer that does not come from Entra itself: a status and no JSON."""

    status: int


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


@dataclass(slots=True)
class Trouble:
    """What is wrong now."""

    slowness: float = 0.0
    skew: float = 0.0
    propagation: float = 0.0
    _failures: deque[_Queued] = field(default_factory=deque)
    _known_from: dict[tuple[str, FederatedCredential], float] = field(default_factory=dict)

    def take(self, verb: AnyVerb) -> None:
        """Do as told; rotating keys is for who holds them."""
        match verb:
            case Throttle():
                self._queue(Throttled(faults.THROTTLED(), verb.retry_after), verb.count)
            case Fail():
                failure = GatewayFailure(verb.status) if verb.status else faults.BY_CODE[verb.code].example()
                self._queue(failure, verb.count)
            case Slow():
                self.slowness = verb.seconds
            case Clock():
                self.skew = verb.skew
            case Propagation():
                self.propagation = verb.seconds
            case Reset():
                self.slowness = self.skew = self.propagation = 0.0
                self._failures.clear()
                self._known_from.clear()
            case _:
                pass  # keys are rotated by who holds them

    def _queue(self, failure: Failure, count: int) -> None:
        self._failures.append(_Queued(failure, count))

    def next_failure(self) -> Failure | None:
        """What the next token request is to be answered with, if it is to fail; counts down."""
        if not self._failures:
            return None
        first = self._failures[0]
        first.left -= 1
        if not first.left:
            self._failures.popleft()
        return first.failure

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
        hidden = {key for key, moment in self._known_from.items() if now < moment}
        if not hidden:
            return directory

        def visible(
            application: Application, credentials: tuple[FederatedCredential, ...]
        ) -> tuple[FederatedCredential, ...]:
            return tuple(one for one in credentials if (application.client_id, one) not in hidden)

        return with_credentials(directory, visible)

    def document(self) -> JsonObject:
        """What is wrong now, for people."""
        return {
            "slowness": self.slowness,
            "clockSkew": self.skew,
            "propagation": self.propagation,
            "failuresLeft": sum(queued.left for queued in self._failures),
        }
