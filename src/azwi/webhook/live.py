"""Service accounts of a live cluster: those that are followed, and a look at the API server where they may be old."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from azwi.admission.serviceaccount import read_service_account
from azwi.admission.values import is_object_name
from azwi.errors import ClusterError
from azwi.webhook.limiter import Limiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azwi.admission.serviceaccount import ServiceAccount
    from azwi.cluster.serviceaccounts import AccountRecord
    from azwi.webhook.accounts import AccountKey

    Read = Callable[[str, str], Awaitable[AccountRecord | None]]

RATE: Final = 10.0  # live reads a second, on average (D 19)
BURST: Final = 20
DEADLINE: Final = 1.0  # seconds that a review waits for a live read
PATIENCE: Final = 0.7  # seconds of them that it waits for its turn, or for the watch to be faster
_AGAIN: Final = -1  # instead of a version: a list came, and does not say whether what is being read is older

_PLAIN: Final = read_service_account({})  # shared by all accounts that say nothing


class LiveAccounts:
    """The followed accounts. A `Sink`, and what reviews look accounts up in.

    Args:
        clock: Seconds that only grow.
        read: One account as the API server has it now; raises ClusterError.
    """

    def __init__(self, clock: Callable[[], float], read: Read) -> None:
        self._accounts: dict[AccountKey, ServiceAccount] = {}
        self._limiter = Limiter(clock, RATE, BURST)
        self._read_one = read
        # Accounts that a live read has shown to have no client id: not asked for again until they change.
        self._confirmed: set[AccountKey] = set()
        # What live reads have seen, until the watch has seen it too: an older event must not undo it.
        self._ahead: dict[AccountKey, int] = {}
        self._reading: dict[AccountKey, asyncio.Task[str]] = {}
        # What the feed said of accounts that are being read meanwhile: an older answer must not undo it.
        self._told: dict[AccountKey, int] = {}
        self._awaited: dict[AccountKey, asyncio.Event] = {}
        self.reads: dict[str, int] = {}

    def __len__(self) -> int:
        """How many accounts are known."""
        return len(self._accounts)

    def find(self, namespace: str, name: str) -> ServiceAccount | None:
        """The account as it is known, None where none is."""
        return self._accounts.get((namespace, name))

    def refresh(self) -> None:
        """Nothing to do: the feed keeps them up to date."""

    # --- What the feed says -----------------------------------------------------------------------------

    def replace(self, found: list[AccountRecord]) -> None:
        """All accounts there are."""
        self._confirmed.clear()
        self._ahead.clear()
        self._accounts = {(record.namespace, record.name): _identity(record) for record in found}
        self._told = dict.fromkeys(self._reading, _AGAIN)
        for key in self._awaited.keys() & self._accounts.keys():
            self._awaited[key].set()

    def put(self, found: AccountRecord) -> None:
        """One that is new or has changed; ignored where a live read has seen a later state."""
        if self._is_news(key := (found.namespace, found.name), found):
            self._accounts[key] = _identity(found)
            if key in self._awaited:
                self._awaited[key].set()

    def remove(self, found: AccountRecord) -> None:
        """One that is gone; ignored where a live read has seen it made anew."""
        if self._is_news(key := (found.namespace, found.name), found):
            self._accounts.pop(key, None)

    def _is_news(self, key: AccountKey, found: AccountRecord) -> bool:
        """Whether no live read has seen a later state; what was known about reads is forgotten then."""
        version = _number(found.resource_version)
        if version < self._ahead.get(key, 0):
            return False
        self._ahead.pop(key, None)
        self._confirmed.discard(key)
        if key in self._reading:
            self._told[key] = version
        return True

    # --- Live reads -------------------------------------------------------------------------------------

    def is_doubtful(self, namespace: str, name: str) -> bool:
        """Whether the API server may know better: no such account here, or one without a client id."""
        key = (namespace, name)
        account = self._accounts.get(key)
        if account is None:
            return is_object_name(namespace) and is_object_name(name)  # others cannot exist
        return not account.client_id and account.client_id_from is None and key not in self._confirmed

    async def look(self, namespace: str, name: str) -> str:
        """Ask the API server about a doubtful account, for at most a second.

        Concurrent callers share one question. A question about an account that is known is not asked where there have
        been too many; one about an account that is not waits for its turn, or for the watch to tell of it.

        Gives:
            Nothing where the account is known now, or is known not to exist; else why that could not be found out.
        """
        key = (namespace, name)
        task = self._reading.get(key)
        if task is None:
            task = asyncio.create_task(self._read(key, patient=key not in self._accounts))
            self._reading[key] = task
            task.add_done_callback(lambda _: self._end_read(key))
        try:
            return await asyncio.wait_for(asyncio.shield(task), DEADLINE)
        except TimeoutError:
            self._count("timeout")
            return f"the API server gave no answer within {DEADLINE:g} s"

    def _end_read(self, key: AccountKey) -> None:
        del self._reading[key]
        self._told.pop(key, None)

    async def _read(self, key: AccountKey, *, patient: bool) -> str:
        wait = self._limiter.reserve(PATIENCE if patient else 0.0)
        if patient and wait != 0.0 and await self._arrives(key, PATIENCE if wait is None else wait):
            self._count("watched")
            return ""
        if wait is None:
            self._count("limited")
            return f"more than {RATE:g} service accounts a second are asked for"
        try:
            record = await self._read_unless_told(key)
        except ClusterError as problem:
            self._count("error")
            return str(problem)
        if record is None:
            self._count("absent")
            return ""
        self._count("found")
        version = _number(record.resource_version)
        if version >= self._told.get(key, 0):
            self.put(record)
            self._ahead[key] = version
            if not self._accounts[key].client_id:
                self._confirmed.add(key)
        return ""

    async def _read_unless_told(self, key: AccountKey) -> AccountRecord | None:
        """The account as the API server has it; read again where all were listed meanwhile."""
        while True:
            self._told.pop(key, None)
            record = await self._read_one(*key)
            if record is not None and (record.namespace, record.name) != key:
                raise ClusterError("the API server answered for another service account")
            if self._told.get(key) != _AGAIN:
                return record

    async def _arrives(self, key: AccountKey, seconds: float) -> bool:
        """Whether the watch tells of an account within seconds."""
        event = self._awaited.setdefault(key, asyncio.Event())
        try:
            await asyncio.wait_for(event.wait(), seconds)
        except TimeoutError:
            return False
        finally:
            self._awaited.pop(key, None)
        return True

    def _count(self, result: str) -> None:
        self.reads[result] = self.reads.get(result, 0) + 1


def _identity(record: AccountRecord) -> ServiceAccount:
    """What the annotations say; one shared value for the many that say nothing."""
    if not record.annotations:
        return _PLAIN
    found = read_service_account(record.annotations)
    return _PLAIN if found == _PLAIN else found


def _number(resource_version: str) -> int:
    """Versions grow (KEP-5504); one that is no number counts as the oldest."""
    return int(resource_version) if resource_version.isdigit() else 0
