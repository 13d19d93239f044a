"""The way to Microsoft Entra for MSAL: one HTTPS request at a time, bounded in time and size.

MSAL's own transport is `requests`, which costs each Pod 6.6 MiB; the standard library does what a token needs. The
interface is the one MSAL documents for `http_client`: `get` and `post` answer with `status_code`, `text`, `headers` and
`raise_for_status`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Final, NoReturn
from urllib.parse import urlencode, urlsplit

from azwi.entra.faults import (
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    EntraFault,
    parse_retry_after,
    read_fault,
    unavailable,
)

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping

    from azwi.entra.binding import TokenProxy

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
TOTAL_SECONDS: Final = 20.0  # for one request with its answer, where the caller has set no other limit
MAX_ANSWER_BYTES: Final = 1_048_576  # a token is 2 to 60 KB, a discovery document 2 KB
_CHUNK: Final = 65_536
_OVER: Final = "the time for the exchange is over"
_UNUSED: Final = frozenset({"id_token", "client_info", "refresh_token"})
_MAX_DIGITS: Final = 9  # of seconds

_OK: Final = 200
_DECISIONS: Final = frozenset({_OK, 400, 401, 403})  # what the token endpoint answers with when it decided, in JSON
# OpenID Connect Discovery 1.0 section 3: what MSAL reads of a configuration.
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint")

# Hosts of the public and national clouds, with their older names. Source: the aliases that Entra's instance discovery
# document lists.
MICROSOFT_HOSTS: Final = frozenset(
    {
        "login.microsoftonline.com",
        "login.windows.net",
        "login.microsoft.com",
        "sts.windows.net",
        "login.microsoftonline.us",
        "login.usgovcloudapi.net",
        "login-us.microsoftonline.com",
        "login.partner.microsoftonline.cn",
        "login.chinacloudapi.cn",
        "login.microsoftonline.de",
    }
)


class FaultyAnswerError(OSError):
    """There was no answer that MSAL could make sense of. An OSError, because MSAL lets those through as they are."""

    def __init__(self, fault: EntraFault) -> None:
        super().__init__(fault.description)
        self.fault = fault


class Answer:
    """What MSAL wants back from an `http_client`."""

    __slots__ = ("headers", "status_code", "text")

    def __init__(self, status_code: int, headers: dict[str, str], text: str) -> None:
        self.status_code = status_code
        self.headers = headers
        self.text = text

    def raise_for_status(self) -> None:
        """Do nothing: a status that MSAL must not see has become a FaultyAnswerError already."""


class Transport:
    """MSAL's `http_client`; safe to share between threads.

    Follows no redirect and reads no proxy variable. An authority outside of Microsoft's clouds never leads to one of
    their hosts, whatever its discovery document says. With a token proxy, every request goes there instead, with its
    own path.

    Args:
        find_context: How the server is verified, asked for each request.
        authority_host: The host of the configured authority.
        user_agent: Sent with each request.
        token_proxy: The cluster's, where identities are bound to it.
    """

    def __init__(
        self,
        find_context: Callable[[], ssl.SSLContext],
        authority_host: str,
        user_agent: str,
        token_proxy: TokenProxy | None = None,
    ) -> None:
        self._find_context = find_context
        self._private = authority_host.lower() not in MICROSOFT_HOSTS
        self._user_agent = user_agent
        self._token_proxy = token_proxy
        self._limits = threading.local()

    @contextlib.contextmanager
    def limited_to(self, seconds: float) -> Iterator[None]:
        """All requests that this thread makes within take no longer together."""
        self._limits.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._limits.deadline

    def get(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_options: object,
    ) -> Answer:
        """The answer to a GET: an OpenID configuration, which is all that MSAL gets.

        What is none must not reach MSAL, which remembers every answer of 200 for a day.

        Raises:
            FaultyAnswerError: Any other outcome.
        """
        answer = self._exchange("GET", url, params, headers, None)
        if answer.status_code != _OK or not _is_configuration(answer.text):
            _refuse(answer, url)
        return answer

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        **_options: object,
    ) -> Answer:
        """The answer to a form, with status 200 or one of a refusal that is described in JSON.

        Raises:
            FaultyAnswerError: Any other outcome.
        """
        form = urlencode(data or {}).encode()
        answer = self._exchange("POST", url, params, headers, form)
        document = _read_object(answer.text)
        if answer.status_code not in _DECISIONS or document is None:
            _refuse(answer, url)
        if answer.status_code == _OK:
            answer.text = _render_usable(document, answer.text)
        else:
            # Without this header MSAL replays an HTTP 400 from memory for a minute, so a federated credential that was
            # just created would keep failing.
            answer.headers["Retry-After"] = "0"
        return answer

    def close(self) -> None:
        """Do nothing: no connection outlives its request."""

    def _exchange(
        self,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        body: bytes | None,
    ) -> Answer:
        deadline = getattr(self._limits, "deadline", None) or time.monotonic() + TOTAL_SECONDS
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme != "https" or not host:
            raise FaultyAnswerError(unavailable(f"Entra's address {url!r} is not https"))
        if self._private and host in MICROSOFT_HOSTS:
            raise FaultyAnswerError(unavailable(f"the private authority points to {host}, which is not asked"))
        query = "&".join(filter(None, (parts.query, urlencode(params or {}))))
        sent = {**(headers or {}), "User-Agent": self._user_agent, "Connection": "close"}
        if body is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        path, connection = parts.path, None
        try:
            if self._token_proxy is not None:
                path, host = self._token_proxy.path + path, self._token_proxy.host
            connection = self._connect(host, parts.port or 443, deadline)
            connection.sock.settimeout(_left(deadline, READ_SECONDS))
            with _ended_at(connection.sock, deadline):
                connection.request(method, f"{path}?{query}" if query else path, body, sent)
                return _read_answer(connection, deadline)
        except FaultyAnswerError:
            raise
        except (OSError, http.client.HTTPException) as problem:
            raise FaultyAnswerError(unavailable(f"{host} could not be asked: {_describe(problem)}")) from problem
        finally:
            if connection is not None:
                connection.close()

    def _connect(self, host: str, port: int, deadline: float) -> http.client.HTTPSConnection:
        """A connection to the host, or to the token proxy in its place, which may go by another name in TLS."""
        context, server_name = self._find_context(), host
        if self._token_proxy is not None:
            port, server_name = self._token_proxy.port, self._token_proxy.server_name
        # Not connection.connect(), which takes the host for the name in TLS.
        plain = _open(host, port, deadline)
        try:
            with _ended_at(plain, deadline):
                secure = context.wrap_socket(plain, server_hostname=server_name)
        except BaseException:
            plain.close()
            raise
        connection = http.client.HTTPSConnection(host, port)
        connection.sock = secure
        return connection


def _open(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to one of a host's addresses, which share the time for it.

    Raises:
        OSError: None of them answers.
    """
    deadline = min(deadline, time.monotonic() + CONNECT_SECONDS)
    problem: OSError = OSError(f"{host} has no address")
    found = socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM)
    for at, (family, kind, protocol, _, address) in enumerate(found):
        plain = None
        try:
            plain = socket.socket(family, kind, protocol)
            plain.settimeout(_left(deadline, CONNECT_SECONDS) / (len(found) - at))
            plain.connect(address)
        except OSError as failed:
            if plain is not None:
                plain.close()
            problem = failed
        else:
            return plain
    raise problem


@contextlib.contextmanager
def _ended_at(sock: socket.socket, deadline: float) -> Iterator[None]:
    """Cut a connection at the deadline: its own time-out begins anew with each byte of a peer that drips."""

    def cut() -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)

    timer = threading.Timer(max(0.0, deadline - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException) as problem:
        if time.monotonic() >= deadline:
            raise TimeoutError(_OVER) from problem
        raise
    finally:
        timer.cancel()


def _left(deadline: float, limit: float) -> float:
    """Seconds until the deadline, no more than the limit.

    Raises:
        TimeoutError: It is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError(_OVER)
    return min(left, limit)


def _read_answer(connection: http.client.HTTPSConnection, deadline: float) -> Answer:
    sock = connection.sock  # the connection lets go of it when the head is read
    response = connection.getresponse()
    body = bytearray()
    while not response.isclosed():  # since Python 3.13 it closes the socket with the last byte
        sock.settimeout(_left(deadline, READ_SECONDS))
        if not (chunk := response.read1(_CHUNK)):
            break
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise FaultyAnswerError(unavailable(f"{connection.host} answered with more than {MAX_ANSWER_BYTES} bytes"))
    headers = {name.title(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, body.decode("utf-8", "replace"))


def _refuse(answer: Answer, url: str) -> NoReturn:
    """End with the fault in an answer that MSAL must not see."""
    retry_after = parse_retry_after(answer.headers.get("Retry-After"))
    document = _read_object(answer.text)
    if document is not None and "error" in document:
        raise FaultyAnswerError(read_fault(document, status=answer.status_code, retry_after=retry_after))
    host = urlsplit(url).hostname
    description = f"{host} answered {answer.status_code} with something that is no answer of Entra"
    if answer.status_code == TOO_MANY_REQUESTS or answer.status_code >= SERVER_ERROR:
        description = f"{host} answered {answer.status_code}"
    raise FaultyAnswerError(unavailable(description, status=answer.status_code, retry_after=retry_after))


def _read_object(text: str) -> dict[str, object] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _render_usable(document: dict[str, object], text: str) -> str:
    """A token's answer without what MSAL would stumble over: it reads members that a token of its own does not need."""
    usable = {name: value for name, value in document.items() if name not in _UNUSED}
    if not isinstance(usable.get("scope", ""), str):
        del usable["scope"]
    wish = usable.pop("refresh_in", None)
    if isinstance(wish, str) and wish.isascii() and wish.isdigit() and len(wish) <= _MAX_DIGITS:
        wish = int(wish)
    if isinstance(wish, int) and 0 < wish < 10**_MAX_DIGITS:
        usable["refresh_in"] = wish
    return text if usable == document else json.dumps(usable)


def _is_configuration(text: str) -> bool:
    document = _read_object(text) or {}
    return all(_is_https(document.get(name)) for name in _ENDPOINTS)


def _is_https(url: object) -> bool:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        return parts.scheme == "https" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _describe(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
