"""The way to Microsoft Entra for MSAL: one HTTPS request at a time, bounded in time and size.

MSAL's own transport is `requests`, which costs each Pod 6.6 MiB; the standard library does what a token needs. The
interface is the one MSAL documents for `http_client`: `get` and `post` answer with `status_code`, `text`, `headers` and
`raise_for_status`.
"""

from __future__ import annotations

import http.client
import json
import ssl
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
from azwi.errors import ConfigurationError

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
TOTAL_SECONDS: Final = 20.0  # for one request with its answer
MAX_ANSWER_BYTES: Final = 1_048_576  # a token is 2 to 60 KB, a discovery document 2 KB
_CHUNK: Final = 65_536

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


def make_ssl_context(ca_file: str) -> ssl.SSLContext:
    """The context for Entra: the system's authorities, or only those in `ca_file` where one is named.

    Raises:
        ConfigurationError: The file cannot be read or holds no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as problem:
        raise ConfigurationError(
            f"SSL_CERT_FILE: no certificates could be read from {ca_file!r}: {problem}",
            hint="it must name a file of PEM certificates",
        ) from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Transport:
    """MSAL's `http_client`; safe to share between threads.

    Follows no redirect and reads no proxy variable. An authority outside of Microsoft's clouds never leads to one of
    their hosts, whatever its discovery document says.

    Args:
        context: How the server is verified.
        authority_host: The host of the configured authority.
        user_agent: Sent with each request.
    """

    def __init__(self, context: ssl.SSLContext, authority_host: str, user_agent: str) -> None:
        self._context = context
        self._private = authority_host.lower() not in MICROSOFT_HOSTS
        self._user_agent = user_agent

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
        if answer.status_code not in _DECISIONS or _read_object(answer.text) is None:
            _refuse(answer, url)
        if answer.status_code != _OK:
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
        connection = http.client.HTTPSConnection(
            host, parts.port or 443, timeout=CONNECT_SECONDS, context=self._context
        )
        try:
            connection.connect()
            _limit(connection.sock, READ_SECONDS)
            connection.request(method, f"{parts.path}?{query}" if query else parts.path, body, sent)
            return _read_answer(connection)
        except FaultyAnswerError:
            raise
        except (OSError, http.client.HTTPException) as problem:
            raise FaultyAnswerError(unavailable(f"{host} could not be asked: {_describe(problem)}")) from problem
        finally:
            connection.close()


def _limit(sock: socket.socket | None, seconds: float) -> None:
    if sock is not None:
        sock.settimeout(seconds)


def _read_answer(connection: http.client.HTTPSConnection) -> Answer:
    deadline = time.monotonic() + TOTAL_SECONDS
    response = connection.getresponse()
    body = bytearray()
    while chunk := response.read1(_CHUNK):
        body += chunk
        if len(body) > MAX_ANSWER_BYTES:
            raise FaultyAnswerError(unavailable(f"{connection.host} answered with more than {MAX_ANSWER_BYTES} bytes"))
        if time.monotonic() > deadline:
            raise FaultyAnswerError(unavailable(f"{connection.host} took more than {TOTAL_SECONDS:.0f} s to answer"))
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
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _is_configuration(text: str) -> bool:
    document = _read_object(text) or {}
    return all(isinstance(document.get(name), str) for name in _ENDPOINTS)


def _describe(problem: Exception) -> str:
    return str(problem) or type(problem).__name__
