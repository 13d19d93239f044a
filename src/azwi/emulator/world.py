"""What a running emulator stands on: its state, keys, clock, journal, and what it is told to do wrong."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from azwi.emulator import exchange
from azwi.emulator.journal import Journal
from azwi.emulator.keys import SigningKey, generate_cluster_key, generate_entra_key, sign
from azwi.emulator.trouble import AnyVerb, Reset, RotateKeys, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.emulator.directory import Directory
    from azwi.emulator.exchange import Grant
    from azwi.emulator.federation import IssuerKeys

CLUSTER: Final = "cluster"  # the first segment of every path of the emulated cluster


@dataclass(slots=True)
class World:
    """What the applications stand on.

    Attributes:
        base_url: The emulator's own, without a trailing slash.
        read_directory: The state as it is now, with the issuer `cluster` resolved.
        entra_keys: What Entra publishes; it signs with the last.
        cluster_keys: The same of the emulated cluster.
        issuer_keys: Finds the keys of federated issuers.
        clock: Gives seconds since 1970; `now` is what everything here goes by.
        journal: What was asked.
        trouble: What is wrong.
    """

    base_url: str
    read_directory: Callable[[], Directory]
    entra_keys: list[SigningKey]
    cluster_keys: list[SigningKey]
    issuer_keys: IssuerKeys
    clock: Callable[[], float]
    journal: Journal = field(default_factory=Journal)
    trouble: Trouble = field(default_factory=Trouble)
    _last: Directory | None = None

    @property
    def cluster_issuer(self) -> str:
        """The issuer URL of the emulated cluster."""
        return f"{self.base_url}/{CLUSTER}"

    def now(self) -> float:
        """Seconds since 1970 by the emulator's clock, right or wrong."""
        return self.clock() + self.trouble.skew

    def directory(self) -> Directory:
        """The state as it is known now: read again when its file has changed, new credentials held back if told."""
        current = self.read_directory()
        if self._last is not None and current is not self._last:
            self.trouble.learn(self._last, current, self.clock())
        self._last = current
        return self.trouble.known(current, self.clock())

    def grant(self, grant: Grant, now: float) -> str:
        """A signed access token."""
        key = self.entra_keys[-1]
        claims = exchange.access_token_claims(grant, self.base_url, now, uuid.uuid4().bytes)
        return sign(key, claims, {"x5t": key.kid, "kid": key.kid})

    def take(self, verb: AnyVerb) -> None:
        """Do as a verb says."""
        self.trouble.take(verb)
        match verb:
            case RotateKeys(of="entra"):
                _rotate(self.entra_keys, generate_entra_key(self.clock()), forget=verb.forget)
            case RotateKeys():
                _rotate(self.cluster_keys, generate_cluster_key(), forget=verb.forget)
            case Reset():
                self.journal.clear()
            case _:
                pass


def _rotate(keys: list[SigningKey], key: SigningKey, *, forget: bool) -> None:
    if forget:
        keys.clear()
    keys.append(key)
