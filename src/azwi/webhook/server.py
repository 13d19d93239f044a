"""The HTTP edge: requests to the three ports become calls, results become responses (R 2.3, D 20)."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from azwi.admission.review import Envelope, render_refused
from azwi.admission.verdict import Refusal
from azwi.contract import ANNOTATED_WEBHOOK_PATH, MAX_REVIEW_BYTES, WEBHOOK_PATH
from azwi.log import logger
from azwi.webhook.metrics import CONTENT_TYPE, Metrics
from azwi.webhook.mutation import ERROR, REFUSED, Answer, answer_defect, answer_review

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from azwi.admission.settings import Settings
    from azwi.webhook.accounts import Accounts
    from azwi.webhook.policy import IdentityPolicy

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

log = logger("webhook")

_OK: Final = 200
_NOT_FOUND: Final = 404
_METHOD_NOT_ALLOWED: Final = 405
_TOO_LARGE: Final = 413
_UNAVAILABLE: Final = 503

_PATHS: Final = frozenset({WEBHOOK_PATH, ANNOTATED_WEBHOOK_PATH})
_JSON: Final = (b"content-type", b"application/json")
_TEXT: Final = (b"content-type", b"text/plain; charset=utf-8")
_CLOSE: Final = (b"connection", b"close")

_Header = tuple[bytes, bytes]


class Look(Protocol):
    """A look at the API server about one service account."""

    def is_doubtful(self, namespace: str, name: str) -> bool:
        """Whether the API server may know better."""

    async def look(self, namespace: str, name: str) -> str:
        """Ask; gives why that failed, or nothing."""


class Tell(Protocol):
    """Whom warnings are told besides the Pod's author."""

    def record_warnings(self, answer: Answer) -> None:
        """Tell them; never waits."""


class Policy(Protocol):
    """Who holds the identity policy that is in force."""

    @property
    def policy(self) -> IdentityPolicy:
        """The policy as it is now."""


class AdmissionApp:
    """The webhook itself, as an ASGI application."""

    def __init__(
        self,
        accounts: Accounts,
        settings: Settings,
        metrics: Metrics,
        look: Look | None = None,
        policy: Policy | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Answers with what `accounts` know.

        Args:
            accounts: The service accounts that are known.
            settings: What to inject.
            metrics: Where answers are counted.
            look: Asks the API server where an account may be old.
            policy: Who may use which identity.
            tell: Who else hears of warnings.
        """
        self._accounts = accounts
        self.settings = settings
        self._metrics = metrics
        self._look = look
        self._policy = policy
        self._tell = tell
        self.closing = False  # whether connections are to end, since this replica goes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path not in _PATHS:
            await respond(send, _NOT_FOUND, b"404 page not found\n", _TEXT, _CLOSE)
        elif scope["method"] != "POST":
            await respond(send, _METHOD_NOT_ALLOWED, b"405 use POST\n", _TEXT, (b"allow", b"POST"), _CLOSE)
        else:
            await self._review(scope, receive, send, annotated_only=path == ANNOTATED_WEBHOOK_PATH)

    async def _review(self, scope: Scope, receive: Receive, send: Send, *, annotated_only: bool) -> None:
        content_type = _header(scope, b"content-type")
        if content_type.partition(b";")[0].strip().lower() != b"application/json":
            shown = content_type.decode("latin-1")
            refusal = Refusal("content-type", f"contentType={shown}, expected application/json")
            await self._refuse(send, refusal)
            return
        body = await read_body(receive, MAX_REVIEW_BYTES)
        if body is None:
            message = f"request entity is too large; limit is {MAX_REVIEW_BYTES} bytes"
            await self._refuse(send, Refusal("too-large", message, _TOO_LARGE))
            return
        started = perf_counter()
        answer = await self._answer(body, annotated_only=annotated_only)
        if answer.warnings and self._tell is not None:
            self._tell.record_warnings(answer)
        self._metrics.observe(answer, perf_counter() - started)
        _log(answer)
        await respond(send, _OK, answer.body, *((_JSON, _CLOSE) if self.closing else (_JSON,)))

    async def _answer(self, body: bytes, *, annotated_only: bool) -> Answer:
        """The answer, also where we are wrong: a defect refuses one Pod and says so, and the next one is served."""
        try:
            answer = self._judge(body, annotated_only=annotated_only)
            if self._look is not None and answer.account[1] and self._look.is_doubtful(*answer.account):
                trouble = await self._look.look(*answer.account)
                if not answer.known:
                    self._metrics.count_miss()
                answer = self._judge(body, trouble, annotated_only=annotated_only)
        except Exception:
            answer = answer_defect(body)
            log.exception("review failed, this is a defect", extra={"fields": {"uid": answer.envelope.uid}})
        return answer

    def _judge(self, body: bytes, trouble: str = "", *, annotated_only: bool) -> Answer:
        return answer_review(
            body,
            self._accounts,
            self.settings,
            trouble,
            policy=self._policy.policy if self._policy is not None else None,
            annotated_only=annotated_only,
        )

    async def _refuse(self, send: Send, refusal: Refusal) -> None:
        """Answer a request that is no review; the rest of its body is not read, so the connection ends."""
        answer = Answer(render_refused(Envelope(), refusal), REFUSED, Envelope(), reason=refusal.reason)
        self._metrics.observe(answer, 0.0)
        _log(answer)
        await respond(send, _OK, answer.body, _JSON, _CLOSE)


class StatusApp:
    """Health and metrics, as ASGI applications of their own ports.

    Liveness is that the process answers; readiness is `ready`, which is set once certificate and accounts are there and
    unset when the process is told to stop (D 22).
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.ready = False

    async def health(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Serve /healthz and /readyz."""
        path = scope.get("path")
        if path == "/healthz" or (path == "/readyz" and self.ready):
            await respond(send, _OK, b"ok", _TEXT, _CLOSE)
        elif path == "/readyz":
            await respond(send, _UNAVAILABLE, b"not ready", _TEXT, _CLOSE)
        else:
            await respond(send, _NOT_FOUND, b"404 page not found\n", _TEXT, _CLOSE)

    async def metrics(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI's signature
        """Serve /metrics."""
        if scope.get("path") == "/metrics":
            await respond(send, _OK, self._metrics.render(), (b"content-type", CONTENT_TYPE.encode()))
        else:
            await respond(send, _NOT_FOUND, b"404 page not found\n", _TEXT)


async def read_body(receive: Receive, limit: int) -> bytes | None:
    """The request's body, None as soon as it is larger than `limit` bytes."""
    message = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body"):
        return body if len(body) <= limit else None
    parts, size = [body], len(body)
    while message.get("more_body") and size <= limit:
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        parts.append(part)
    return b"".join(parts) if size <= limit else None


async def respond(send: Send, status: int, body: bytes, *headers: _Header) -> None:
    """Send a whole response."""
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": body})


def _header(scope: Scope, name: bytes) -> bytes:
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def _log(answer: Answer) -> None:
    """Tell of one review: refusals always, the rest in detail only. Never of the Pod."""
    if answer.result in (REFUSED, ERROR):
        log.info("review refused", extra={"fields": _fields(answer)})
    elif log.isEnabledFor(10):
        log.debug("review answered", extra={"fields": _fields(answer)})


def _fields(answer: Answer) -> dict[str, str]:
    return {
        "uid": answer.envelope.uid,
        "namespace": answer.namespace,
        "result": answer.result,
        "reason": answer.reason,
        "warnings": ",".join(warning.reason for warning in answer.warnings),
    }
