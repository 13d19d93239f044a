"""The proof that it works: a real service account token is exchanged for a real access token, until that succeeds."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from azwi.entra.faults import EntraFault
from azwi.errors import EntraError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azwi.entra.tokens import AccessToken
    from azwi.identity.model import AccountOrder
    from azwi.identity.services import Services

WAIT_SECONDS: Final = 300
_FIRST_DELAY: Final = 1.0
_LONGEST_DELAY: Final = 10.0
# What passes by itself while Entra's servers learn of a new identity: 700016 no such application, 7000229 no service
# principal, 70025 no credentials at all, 700212 another audience.
_LEARNING: Final = frozenset({700016, 7000229, 70025, 700212})


@dataclass(frozen=True, slots=True)
class Proof:
    """An exchange that succeeded; `seconds` is how long it took until then."""

    attempts: int
    seconds: float
    expires_on: int


async def prove(
    services: Services,
    account: AccountOrder,
    audience: str,
    exchange: Callable[[str], AccessToken | EntraFault],
    seconds: float = WAIT_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Proof:
    """Exchange a token of the service account until Entra gives an access token for it.

    Args:
        services: Where the account's token comes from.
        account: The service account.
        audience: Of its token.
        exchange: One exchange; blocks.
        seconds: For how long to go on.
        clock: Seconds that only grow.
        sleep: Waits.

    Raises:
        EntraError: Entra refuses for good, or still does after that time.
        ClusterError: The cluster gives no token.
    """
    started = clock()
    attempt = 0
    while True:
        assertion = await services.accounts().issue_token(account.namespace, account.name, audience)
        answer = await asyncio.to_thread(exchange, assertion)
        attempt += 1
        waited = clock() - started
        if not isinstance(answer, EntraFault):
            return Proof(attempt, waited, answer.expires_on)
        passing = answer.transient or answer.code in _LEARNING
        delay = max(min(_FIRST_DELAY * 2.0 ** min(attempt - 1, 10), _LONGEST_DELAY), float(answer.retry_after or 0))
        if not passing or waited + delay > seconds:
            raise _refused(account, answer, waited)
        await sleep(delay)


def _refused(account: AccountOrder, fault: EntraFault, waited: float) -> EntraError:
    words = " ".join(fault.description.split()) or fault.error
    return EntraError(
        f"service account {account.title} got no access token within {waited:.0f} s: {words}",
        hint="check that the cluster's issuer is the credential's, and that Entra can read its discovery document",
    )
