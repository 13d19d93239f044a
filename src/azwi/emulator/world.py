"""What a running emulator stands on: its state, keys, clock, journal, and what it is told to do wrong."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TYPE_CHECKING, Final

from azwi.emulator import exchange
from azwi.emulator.directory import Resource
from azwi.emulator.exchange import PUBLIC_CLOUD
from azwi.emulator.journal import Journal
from azwi.emulator.keys import SigningKey, generate_cluster_key, generate_entra_key, sign
from azwi.emulator.trouble import AnyVerb, Reset, RotateKeys, Trouble

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.emulator.directory import Directory
    from azwi.emulator.exchange import Grant
    from azwi.emulator.federation import IssuerKeys
    from azwi.emulator.service import Edit

CLUSTER: Final = "cluster"  # the first segment of every path of the emulated cluster
PUBLIC_GRAPH: Final = "https://graph.microsoft.com"
PUBLIC_ARM: Final = "https://management.azure.com"


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
    _file: Directory | None = None
    _current: Directory | None = None
    _last: Directory | None = None
    _edits: list[Edit] = field(default_factory=list)

    @property
    def cluster_issuer(self) -> str:
        """The issuer URL of the emulated cluster."""
        return f"{self.base_url}/{CLUSTER}"

    def now(self) -> float:
        """Seconds since 1970 by the emulator's clock, right or wrong."""
        return self.clock() + self.trouble.skew

    @property
    def graph_url(self) -> str:
        """Where the emulated Microsoft Graph is; the public cloud's has a name of its own."""
        return PUBLIC_GRAPH if self.base_url == PUBLIC_CLOUD else f"{self.base_url}/graph"

    @property
    def arm_url(self) -> str:
        """Where the emulated Azure Resource Manager is; the public cloud's has a name of its own."""
        return PUBLIC_ARM if self.base_url == PUBLIC_CLOUD else f"{self.base_url}/arm"

    def current(self) -> Directory:
        """The state as it is: the file's, read again when it has changed, with what Graph and Resource Manager did."""
        file = self.read_directory()
        if self._current is None or file is not self._file:
            self._file = file
            self._current = self._with_services(reduce(lambda state, edit: edit(state), self._edits, file))
        return self._current

    def _with_services(self, directory: Directory) -> Directory:
        own = {self.graph_url: Resource(), self.arm_url: Resource()}
        return replace(directory, resources=own | dict(directory.resources))

    def edit(self, edit: Edit) -> None:
        """Change the state, also for when the file is read again."""
        self._current = edit(self.current())
        self._edits.append(edit)

    def directory(self) -> Directory:
        """The state as sign-in knows it now: new credentials and applications held back, if told."""
        current = self.current()
        if self._last is not None and current is not self._last:
            self.trouble.learn(self._last, current, self.now())
        self._last = current
        return self.trouble.known(current, self.now())

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
                self._edits.clear()
                self._current = None
            case _:
                pass


def _rotate(keys: list[SigningKey], key: SigningKey, *, forget: bool) -> None:
    if forget:
        keys.clear()
    keys.append(key)
