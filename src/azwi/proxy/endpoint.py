"""The proxy's answers to requests: joins the rules of `imds` to tokens, the real service, metrics and the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from azwi.entra.faults import EntraFault
from azwi.log import logger
from azwi.proxy import imds
from azwi.proxy.cache import TokenKey
from azwi.proxy.metrics import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from azwi.entra.tokens import AccessToken
    from azwi.proxy.cache import TokenCache
    from azwi.proxy.metrics import Metrics
    from azwi.proxy.passthrough import Upstream

    AnyAnswer = imds.Answer | imds.StreamedAnswer

MAX_REMEMBERED_PATHS: Final = 100
_RESULTS: Final = {imds.TOO_MANY_REQUESTS: "throttled", imds.UNAVAILABLE: "unavailable"}
_log = logger("proxy")


class Endpoint:
    """Answers requests to the metadata address.

    A token that is in memory is answered at once, so that no task is made for it.

    Args:
        rules: What the answers depend on.
        tenant_id: The directory of every token.
        tokens: Where they come from.
        upstream: The real service.
        metrics: Where requests are counted.
        clock: Seconds of the Unix clock.
        end: Called when the program is asked to end.
    """

    def __init__(
        self,
        rules: imds.Rules,
        tenant_id: str,
        tokens: TokenCache,
        upstream: Upstream,
        metrics: Metrics,
        clock: Callable[[], float],
        end: Callable[[], None],
    ) -> None:
        self._rules = rules
        self._tenant_id = tenant_id
        self._tokens = tokens
        self._upstream = upstream
        self._metrics = metrics
        self._clock = clock
        self._quit = end
        self._refused_paths: set[str] = set()

    def handle(self, request: imds.Request, body: bytes) -> AnyAnswer | Awaitable[AnyAnswer]:
        """The answer, or something to wait for where it is not at hand."""
        asked = imds.read_request(request, self._rules)
        match asked:
            case imds.TokenQuery():
                return self._answer_token(asked)
            case imds.Ready():
                self._metrics.count_request("ready")
                return imds.ready_answer()
            case imds.Quit():
                self._metrics.count_request("quit")
                self._quit()
                return imds.quit_answer()
            case imds.Forward():
                return self._forward(asked, request, body)
            case imds.Redirect():
                self._metrics.count_request("redirected")
                return imds.redirect_answer(asked)
            case imds.Fault():
                return self._refuse(asked, request)
            case _:
                assert_never(asked)

    def _answer_token(self, query: imds.TokenQuery) -> imds.Answer | Awaitable[imds.Answer]:
        key = TokenKey(query.client_id, self._tenant_id, query.scope)
        token = self._tokens.find(key)
        if token is None:
            return self._obtain_token(query, key)
        return self._serve_token(query, token)

    async def _obtain_token(self, query: imds.TokenQuery, key: TokenKey) -> imds.Answer:
        outcome = await self._tokens.obtain(key)
        if not isinstance(outcome, EntraFault):
            return self._serve_token(query, outcome)
        answer = imds.entra_fault_answer(outcome)
        self._metrics.count_request(_RESULTS.get(answer.status, "refused"), outcome.code)
        return answer

    def _serve_token(self, query: imds.TokenQuery, token: AccessToken) -> imds.Answer:
        self._metrics.tokens_served += 1
        return imds.token_answer(query, token, self._clock())

    async def _forward(self, forward: imds.Forward, request: imds.Request, body: bytes) -> AnyAnswer:
        answer = await self._upstream.forward(forward, request, body)
        self._metrics.count_request("forwarded")
        return answer

    def _refuse(self, fault: imds.Fault, request: imds.Request) -> imds.Answer:
        self._metrics.count_request("invalid")
        path = request.target.partition("?")[0]
        if fault.status == imds.FORBIDDEN and len(self._refused_paths) < MAX_REMEMBERED_PATHS:
            if path not in self._refused_paths:  # once for each path
                self._refused_paths.add(path)
                _log.warning("path not served", extra={"fields": {"path": path, "reason": fault.description}})
        else:
            fields = {"path": path, "status": fault.status, "reason": fault.description}
            _log.debug("request refused", extra={"fields": fields})
        return imds.fault_answer(fault)


class MetricsEndpoint:
    """Answers requests to the metrics address."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def handle(self, request: imds.Request, _body: bytes) -> imds.Answer:
        """The counters, for a GET of /metrics."""
        if request.target.partition("?")[0] != "/metrics":
            return imds.Answer(404, (), b"")
        if request.method not in ("GET", "HEAD"):
            return imds.Answer(405, (("Allow", "GET, HEAD"),), b"")
        return imds.Answer(200, (("Content-Type", CONTENT_TYPE),), self._metrics.render())
