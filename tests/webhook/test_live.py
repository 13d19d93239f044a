"""Live reads: when the API server is asked, how often, and what comes of its answers (D 19)."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from azwi.admission.settings import Settings
from azwi.cluster.serviceaccounts import AccountRecord
from azwi.errors import ClusterError
from azwi.webhook.limiter import Limiter
from azwi.webhook.live import BURST, PATIENCE, RATE, LiveAccounts
from azwi.webhook.mutation import answer_review

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CLIENT = "22222222-2222-2222-2222-222222222222"
SETTINGS = Settings(tenant_id=CLIENT, authority_host="https://login.microsoftonline.com/")


def record(name: str, version: int, client_id: str = "") -> AccountRecord:
    """An account of namespace shop at that version."""
    annotations = {"azure.workload.identity/client-id": client_id} if client_id else {}
    return AccountRecord("shop", name, str(version), annotations)


class Server:
    """What the API server would answer, and how often it was asked."""

    def __init__(self, answer: AccountRecord | None = None, *, problem: str = "", seconds: float = 0.0) -> None:
        self.answer = answer
        self.problem = problem
        self.seconds = seconds
        self.asked = 0

    async def read(self, _: str, __: str) -> AccountRecord | None:
        """One live read."""
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.problem:
            raise ClusterError(self.problem)
        return self.answer


def run(server: Server, use: Callable[[LiveAccounts], Awaitable[None]], now: Callable[[], float] = lambda: 0.0) -> None:
    """Use accounts in an event loop."""

    async def used() -> None:
        await use(LiveAccounts(now, server.read))

    asyncio.run(used())


def test_a_miss_is_read_and_known_from_then_on() -> None:
    """The watch has not seen it yet; afterwards nothing more is asked."""
    server = Server(record("orders", 5, CLIENT))

    async def use(accounts: LiveAccounts) -> None:
        assert accounts.is_doubtful("shop", "orders")
        assert await accounts.look("shop", "orders") == ""
        found = accounts.find("shop", "orders")
        assert found is not None
        assert CLIENT == found.client_id
        assert not accounts.is_doubtful("shop", "orders")

    run(server, use)
    assert 1 == server.asked


def test_an_older_event_does_not_undo_a_live_read() -> None:
    """The watch may be behind what was read; once it has caught up, its events count again."""
    server = Server(record("orders", 10, CLIENT))

    async def use(accounts: LiveAccounts) -> None:
        await accounts.look("shop", "orders")
        for event in (accounts.put, accounts.remove):
            event(record("orders", 9))
            found = accounts.find("shop", "orders")
            assert found is not None
            assert CLIENT == found.client_id
        accounts.put(record("orders", 10, CLIENT))
        accounts.remove(record("orders", 9))
        assert accounts.find("shop", "orders") is None

    run(server, use)


def test_an_account_without_client_id_is_asked_for_until_it_changes() -> None:
    """Known without a client id: one look, then none until the watch tells of a change or all is listed again."""
    server = Server(record("plain", 5))

    async def use(accounts: LiveAccounts) -> None:
        accounts.replace([record("plain", 5), record("orders", 6, CLIENT)])
        assert 2 == len(accounts)
        assert not accounts.is_doubtful("shop", "orders")
        for change in ("none", "event", "list"):
            if change == "event":
                accounts.put(record("plain", 7))
            if change == "list":
                accounts.replace([record("plain", 7)])
            assert accounts.is_doubtful("shop", "plain")
            assert await accounts.look("shop", "plain") == ""
            assert not accounts.is_doubtful("shop", "plain")

    run(server, use)
    assert 3 == server.asked


def test_concurrent_reviews_share_one_question() -> None:
    """Fifty Pods of one new account are one read."""
    server = Server(record("orders", 5, CLIENT), seconds=0.05)

    async def use(accounts: LiveAccounts) -> None:
        assert {""} == set(await asyncio.gather(*(accounts.look("shop", "orders") for _ in range(50))))

    run(server, use)
    assert 1 == server.asked


def test_an_absent_account_stays_absent() -> None:
    """The API server knows none: nothing went wrong, and nothing is remembered."""

    async def use(accounts: LiveAccounts) -> None:
        assert await accounts.look("shop", "nobody") == ""
        assert accounts.find("shop", "nobody") is None
        assert accounts.is_doubtful("shop", "nobody")
        assert {"absent": 1} == accounts.reads

    run(Server(None), use)


@pytest.mark.parametrize("known", [True, False])
def test_a_failure_is_told_in_the_servers_words(known: bool) -> None:  # noqa: FBT001
    """What is known is served all the same; only a true miss has to be refused."""

    async def use(accounts: LiveAccounts) -> None:
        if known:
            accounts.put(record("orders", 1))
        assert await accounts.look("shop", "orders") == 'serviceaccounts "orders" is forbidden'
        assert known == (accounts.find("shop", "orders") is not None)

    run(Server(problem='serviceaccounts "orders" is forbidden'), use)


def test_a_review_whose_account_cannot_be_read_is_refused_with_what_to_do() -> None:
    """The API server's words first; the same review with the account known is let in."""
    pod = {"metadata": {"name": "x"}, "spec": {"serviceAccountName": "orders", "containers": [{"name": "app"}]}}
    request = {"uid": "u", "kind": {"kind": "Pod"}, "namespace": "shop", "operation": "CREATE", "object": pod}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    accounts = LiveAccounts(lambda: 0.0, Server().read)

    refused = answer_review(body, accounts, SETTINGS, 'serviceaccounts "orders" is forbidden')
    accounts.put(record("orders", 1, CLIENT))
    allowed = answer_review(body, accounts, SETTINGS, "not needed")

    response = json.loads(refused.body)["response"]
    assert response["status"]["message"].startswith('serviceaccounts "orders" is forbidden: the webhook does not know')
    assert ("service-account-unreadable", ("shop", "orders")) == (refused.reason, refused.account)
    assert json.loads(allowed.body)["response"]["allowed"]


def test_a_server_that_is_slow_is_waited_for_a_second() -> None:
    """The review goes on; the read may still end well for the next one."""

    async def use(accounts: LiveAccounts) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert "no answer within 1 s" in await accounts.look("shop", "orders")
        assert 0.9 < loop.time() - began < 3
        await asyncio.sleep(0.4)
        assert accounts.find("shop", "orders") is not None

    run(Server(record("orders", 5, CLIENT), seconds=1.2), use)


def test_too_many_questions_wait_or_are_left() -> None:
    """A burst of twenty; then a miss waits for its turn, and an account that is known is served as it is."""
    server = Server(None)

    async def use(accounts: LiveAccounts) -> None:
        accounts.put(record("plain", 1))
        await asyncio.gather(*(accounts.look("shop", f"n{number}") for number in range(BURST)))
        assert "are asked for" in await accounts.look("shop", "plain")
        assert BURST == server.asked
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = asyncio.create_task(accounts.look("shop", "late"))
        await asyncio.sleep(0.02)
        clock[0] = 0.1
        assert await task == ""
        assert loop.time() - began < 1

    clock = [0.0]
    run(server, use, lambda: clock[0])
    assert BURST + 1 == server.asked


def test_an_older_answer_does_not_undo_what_the_watch_told_meanwhile() -> None:
    """The account got its client id, or was deleted, while the answer was on its way."""
    server = Server(record("orders", 10), seconds=0.05)

    async def use(accounts: LiveAccounts) -> None:
        for tell, known in ((accounts.put, True), (accounts.remove, False)):
            accounts.replace([record("orders", 9)])
            task = asyncio.create_task(accounts.look("shop", "orders"))
            await asyncio.sleep(0.01)
            tell(record("orders", 12, CLIENT))
            assert await task == ""
            found = accounts.find("shop", "orders")
            assert known == (found is not None)
            assert found is None or CLIENT == found.client_id
            accounts.put(record("orders", 13, CLIENT))

    run(server, use)


def test_a_list_that_comes_while_an_account_is_read_has_it_read_again() -> None:
    """Which of the two is older cannot be told; the second answer counts."""
    server = Server(record("orders", 10), seconds=0.05)

    async def use(accounts: LiveAccounts) -> None:
        task = asyncio.create_task(accounts.look("shop", "orders"))
        await asyncio.sleep(0.01)
        accounts.replace([])
        server.answer = None
        assert await task == ""
        assert accounts.find("shop", "orders") is None

    run(server, use)
    assert 2 == server.asked


@pytest.mark.parametrize("list_comes", [True, False])
def test_what_waits_for_its_turn_is_content_with_the_watch(list_comes: bool) -> None:  # noqa: FBT001
    """Two hundred accounts and their Pods in the same moment: the watch is a little later, and nobody is refused."""
    server = Server(None)

    async def use(accounts: LiveAccounts) -> None:
        server.answer = None
        names = [f"n{number}" for number in range(200)]
        looks = [asyncio.create_task(accounts.look("shop", name)) for name in names]
        await asyncio.sleep(0.01)
        records = [record(name, 1, CLIENT) for name in names]
        if list_comes:
            accounts.replace(records)
        else:
            for one in records:
                accounts.put(one)
        assert {""} == set(await asyncio.gather(*looks))
        assert all(accounts.find("shop", name) for name in names)
        assert accounts.reads["watched"] >= 200 - BURST - RATE * PATIENCE

    run(server, use)
    assert server.asked <= BURST + RATE * PATIENCE


def test_too_many_misses_are_refused_for_what_they_are_and_leave_nothing() -> None:
    """Nobody is told that the server was silent which was never asked; the next miss finds no queue of the dead."""
    server, clock = Server(None), [0.0]
    turns = BURST + int(RATE * PATIENCE)

    async def use(accounts: LiveAccounts) -> None:
        told = await asyncio.gather(*(accounts.look("shop", f"n{number}") for number in range(100)))
        assert turns == server.asked
        assert {"", "more than 10 service accounts a second are asked for"} == set(told)
        assert 100 - turns == accounts.reads["limited"]
        clock[0] = 1.0
        assert await accounts.look("shop", "late") == ""

    run(server, use, lambda: clock[0])
    assert turns + 1 == server.asked


@pytest.mark.parametrize("name", ["x/../y", "a\nb", "", "x" * 300, "Upper", "-x"])
def test_a_name_that_no_account_can_have_is_not_asked_for(name: str) -> None:
    """The API server would say the same, or worse."""
    accounts = LiveAccounts(lambda: 0.0, Server().read)
    assert not accounts.is_doubtful("shop", name)
    assert not accounts.is_doubtful(name, "orders")


def test_the_limiter_lets_ten_a_second_through() -> None:
    """Twenty at once, then one for each tenth of a second, never more than twenty saved up."""
    now = [0.0]
    limiter = Limiter(lambda: now[0], RATE, BURST)
    assert [0.0] * BURST == [limiter.take() for _ in range(BURST)]
    assert limiter.take() == pytest.approx(0.1)
    now[0] = 0.1
    assert 0.0 == limiter.take()
    assert limiter.take() > 0
    now[0] = 1000.0
    assert [0.0] * BURST == [limiter.take() for _ in range(BURST)]
    assert limiter.take() > 0
