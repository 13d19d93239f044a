"""JSON over HTTPS to Microsoft Graph and Azure Resource Manager: tokens, time-outs, retries, paging, in one place."""

from __future__ import annotations

import asyncio
import json
import random
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx2

from azwi.entra.faults import MAX_RETRY_AFTER, parse_retry_after
from azwi.entra.hosts import is_below
from azwi.entra.members import MissingMemberError, objects, text
from azwi.entra.refusals import Refusal, ServiceError, decide_delay, read_refusal
from azwi.errors import ConfigurationError
from azwi.log import logger
from azwi.version import user_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

MAX_ANSWER_BYTES: Final = 16 << 20
_MAX_PAGES: Final = 1000
PASSING: Final = frozenset({429, 500, 502, 503, 504})
_REPEATABLE: Final = frozenset({"GET", "PUT", "DELETE", "PATCH", "HEAD"})
_SILENT: Final = frozenset({"DELETE", "PATCH"})  # whose answers may have no body

T = TypeVar("T")

log = logger("azwi")


class SignedIn(Protocol):
    """Who gives tokens."""

    async def token(self, scope: str) -> str:
        """A bearer token for a scope that ends with `/.default`; raises an EntraError where there is none."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that says yes; `document` is None where it has no body. Header names are in lower case.

    `service` and `request` are who gave it, and to what, for people.
    """

    status: int
    document: Any
    headers: Mapping[str, str]
    service: str = ""
    request: str = ""

    def read(self, reader: Callable[[Mapping[str, Any]], T]) -> T:
        """What the document says, by a reader that may raise MissingMemberError.

        Raises:
            ServiceError: It raised that.
        """
        try:
            return reader(self.document or {})
        except MissingMemberError as problem:
            odd = Refusal(self.service, self.request, self.status, message=str(problem))
            raise ServiceError(odd) from problem


@dataclass(frozen=True, slots=True)
class Patience:
    """Time, as it is spent between attempts; passed in by tests."""

    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    spread: Callable[[], float] = field(default=lambda: random.uniform(0.5, 1.0))  # noqa: S311  # no secret


class RestClient:
    """One service at one address.

    Args:
        service: Its name, for people.
        base_url: Where it is, without a trailing slash.
        http: The client; whoever made it closes it.
        signed_in: Who gives tokens.
        patience: Time.
    """

    def __init__(
        self,
        service: str,
        base_url: str,
        http: httpx2.AsyncClient,
        signed_in: SignedIn,
        patience: Patience | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._service = service
        self._http = http
        self._signed_in = signed_in
        self._patience = patience or Patience()

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        repeatable: bool | None = None,
        awaiting: bool = False,
    ) -> Reply:
        """One request, sent again for as long as that can help.

        Args:
            method: HTTP's.
            path: Below the service's address, with a leading slash; or a whole address below it.
            query: Parameters; they are escaped here.
            body: A JSON document.
            repeatable: Whether sending it twice does no more than once; by the method when left out.
            awaiting: Whether its parent was created a moment ago.

        Raises:
            ServiceError: It was refused, or there was no answer.
            EntraError: There is no token for it.
        """
        url = self._address(path)
        again = method in _REPEATABLE if repeatable is None else repeatable
        answer = await _persist(
            lambda: self._send(method, url, query, body), self._patience, repeatable=again, awaiting=awaiting
        )
        if isinstance(answer, Refusal):
            raise ServiceError(answer)
        return answer

    async def items(
        self,
        path: str,
        reader: Callable[[Mapping[str, Any]], T],
        *,
        query: Mapping[str, str] | None = None,
        awaiting: bool = False,
    ) -> AsyncIterator[T]:
        """The items of a list, through all its pages, each as the reader reads it.

        Raises:
            ServiceError: As `request` and `Reply.read`; also for a next page at another service's address.
        """
        where, parameters = path, query
        for _ in range(_MAX_PAGES):
            reply = await self.request("GET", where, query=parameters, awaiting=awaiting)
            for item in reply.read(lambda page: [reader(one) for one in objects(page, "value")]):
                yield item
            where = text(reply.document, "@odata.nextLink") or text(reply.document, "nextLink")
            if not where:
                return
            parameters = None
        raise ServiceError(Refusal(self._service, f"GET {path}", None, message=f"more than {_MAX_PAGES} pages"))

    def _address(self, path: str) -> str:
        if not self.base_url:
            raise ConfigurationError(
                f"the address of {self._service} is not known in this cloud",
                hint="give it with --graph-endpoint or --resource-manager-endpoint",
            )
        if path.startswith("/"):
            return self.base_url + path
        if not is_below(path, self.base_url):
            raise ServiceError(Refusal(self._service, "a next page", None, message=f"it points to {path[:200]!r}"))
        return path

    async def _send(
        self, method: str, url: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None
    ) -> Reply | Refusal:
        described = f"{method} {urlsplit(url).path}"
        token = await self._signed_in.token(self.base_url + "/.default")
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "User-Agent": user_agent("azwi"),
            "client-request-id": str(uuid.uuid4()),
        }
        try:
            # httpx2 replaces a URL's own query by an empty mapping.
            answer = await self._http.request(method, url, params=query or None, json=body, headers=headers)
        except (httpx2.HTTPError, httpx2.InvalidURL) as problem:
            return Refusal(self._service, described, None, message=str(problem) or type(problem).__name__)
        log.debug("asked", extra={"fields": {"request": described, "status": answer.status_code}})
        document = _read(answer.content)
        if answer.is_success:
            if not isinstance(document, dict) and (answer.content or method not in _SILENT):
                return Refusal(self._service, described, answer.status_code, message="that is no JSON object")
            return Reply(answer.status_code, document, answer.headers, self._service, described)
        retry_after = _retry_after(answer.headers)
        return read_refusal(self._service, described, answer.status_code, document, answer.headers, retry_after)


async def _persist(
    send: Callable[[], Awaitable[Reply | Refusal]], patience: Patience, *, repeatable: bool, awaiting: bool
) -> Reply | Refusal:
    """What a request came to, sent again for as long as that can help."""
    started = patience.clock()
    attempt = 0
    while True:
        answer = await send()
        if isinstance(answer, Reply):
            return answer
        waited = patience.clock() - started
        delay = decide_delay(answer, attempt, waited, repeatable=repeatable, awaiting=awaiting)
        if delay is None:
            return answer
        fields = {"request": answer.request, "status": answer.status, "code": answer.code, "delay": round(delay, 1)}
        log.info("asked again later", extra={"fields": fields})
        await patience.sleep(max(delay * patience.spread(), answer.retry_after or 0.0))
        attempt += 1


async def send_patiently(
    http: httpx2.AsyncClient, service: str, request: httpx2.Request, patience: Patience | None = None
) -> httpx2.Response:
    """The answer to a GET without a token, whatever it says, once it is neither throttled nor an outage.

    Raises:
        ServiceError: There is none but that.
    """
    described = f"{request.method} {request.url.path}"

    async def send() -> Reply | Refusal:
        try:
            answer = await http.send(request)
        except httpx2.HTTPError as problem:
            return Refusal(service, described, None, message=str(problem) or type(problem).__name__)
        if answer.status_code in PASSING:
            retry_after = _retry_after(answer.headers)
            return read_refusal(service, described, answer.status_code, _read(answer.content), {}, retry_after)
        return Reply(answer.status_code, answer, answer.headers)

    reply = await _persist(send, patience or Patience(), repeatable=True, awaiting=False)
    if isinstance(reply, Refusal):
        raise ServiceError(reply)
    found: httpx2.Response = reply.document
    return found


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, which holds them or a date; counted from the answer's own date where it has one.

    Source: RFC 9110, 10.2.3.
    """
    given = headers.get("retry-after", "")
    seconds, until = parse_retry_after(given), _date(given)
    if seconds is not None or until is None:
        return seconds
    now = _date(headers.get("date", "")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), float(MAX_RETRY_AFTER))


def _date(text: str) -> datetime | None:
    """A date of HTTP; None where it is none."""
    try:
        return parsedate_to_datetime(text).replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _read(content: bytes) -> Any:  # noqa: ANN401  # JSON
    if not content or len(content) > MAX_ANSWER_BYTES:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return None
