"""Access tokens for a service account token, through MSAL.

One exchange is one request to the token endpoint: what is remembered, for how long and what is tried again is decided
by the caller, in one place. MSAL's memory of tokens is therefore switched off, and its memory of refused requests too
(see `http`).

Source: "Microsoft identity platform and the OAuth 2.0 client credentials flow", third case: access token request with a
federated credential; MSAL Python 1.39.
"""

from __future__ import annotations

import json
import re
import threading
from base64 import urlsafe_b64decode
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import msal
from msal.exceptions import MsalServiceError

from azwi.contract import TOKEN_FILE_VARIABLE
from azwi.entra.faults import EntraFault, read_fault, unavailable
from azwi.entra.http import FaultyAnswerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azwi.entra.http import Transport

MAX_APPLICATIONS: Final = 128  # as many as the reference keeps (pkg/proxy/cred_cache.go)
MAX_ASSERTION_BYTES: Final = 65_536
DEFAULT_SECONDS: Final = 30.0  # for one exchange
_MAX_LIFE: Final = 10 * 365 * 86_400  # seconds; what claims more is no answer of Entra
# What stands in a directory id or a verified domain name; also keeps the authority's path from being changed.
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,253}")
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token and its times, in whole seconds of the Unix clock.

    `not_before` is the token's own claim where it can be read, else when it was obtained. `refresh_on` is when Entra
    wishes it renewed. `ext_expires_on` is until when it may be used while Entra is down.
    """

    secret: str = field(repr=False)
    obtained_at: int
    expires_on: int
    not_before: int
    ext_expires_on: int
    refresh_on: int | None = None


class _AssertionFileError(Exception):
    """The token file cannot be used; the message is a sentence without any of its content."""


class _NoMemory(msal.TokenCache):  # type: ignore[misc]
    """A token cache that keeps nothing, so that MSAL asks each time it is asked, and memory stays bounded."""

    def add(self, event: dict[str, Any], now: float | None = None) -> None:
        """Forget the token; the caller has it."""

    def search(self, *_args: object, **_kwargs: object) -> Iterator[dict[str, Any]]:
        """Find nothing."""
        return iter(())


class TokenExchanger:
    """Gets tokens from one authority for the service account token in one file; safe to share between threads.

    Args:
        authority_host: As `parse_authority_host` gives it, with a trailing slash.
        token_file: Where the kubelet keeps the service account token; read for each exchange.
        transport: The way to Entra.
        clock: Seconds of the Unix clock.
    """

    def __init__(self, authority_host: str, token_file: str, transport: Transport, clock: Callable[[], float]) -> None:
        self._authority_host = authority_host
        self._token_file = token_file
        self._transport = transport
        self._clock = clock
        self._applications: OrderedDict[tuple[str, str], msal.ConfidentialClientApplication] = OrderedDict()
        self._discovery: dict[str, object] = {}
        # Guards the two above, and MSAL's use of the second: each of its applications brings a lock of its own.
        self._lock = threading.Lock()

    def acquire(
        self, client_id: str, tenant_id: str, scope: str, seconds: float = DEFAULT_SECONDS
    ) -> AccessToken | EntraFault:
        """One exchange; blocks for as long as it takes.

        Args:
            client_id: The application or managed identity.
            tenant_id: A directory id or domain name.
            scope: One scope that ends with `/.default`.
            seconds: That its requests may take together.
        """
        with self._transport.limited_to(seconds):
            return self._acquire(client_id, tenant_id, scope)

    def _acquire(self, client_id: str, tenant_id: str, scope: str) -> AccessToken | EntraFault:
        if problem := _find_problem(client_id, tenant_id):
            return EntraFault("invalid_request", problem, local=True)
        now = int(self._clock())  # a token lives from when it was asked for, or from a little later
        try:
            self._read_assertion()  # before the network is asked for anything
            application = self._find_application(client_id, tenant_id)
            answer = application.acquire_token_for_client(
                scopes=[scope],
                # Without this MSAL imports `requests` to learn which errors are the network's.
                http_exceptions=(OSError, MsalServiceError),
            )
        except _AssertionFileError as problem:
            return EntraFault("invalid_client", str(problem), local=True)
        except FaultyAnswerError as problem:
            return problem.fault
        except Exception as problem:  # noqa: BLE001 - MSAL raises all kinds for documents that are not what they should be
            # Their kind alone: what they say may hold a part of the answer.
            host = urlsplit(self._authority_host).hostname
            return unavailable(f"{host} gave no usable answer: {type(problem).__name__}")
        return read_answer(answer, now)

    def _find_application(self, client_id: str, tenant_id: str) -> msal.ConfidentialClientApplication:
        key = (client_id, tenant_id)
        with self._lock:
            application = self._applications.get(key)
            if application is None:
                application = self._make_application(client_id, tenant_id)
                self._applications[key] = application
                while len(self._applications) > MAX_APPLICATIONS:
                    self._applications.popitem(last=False)
            self._applications.move_to_end(key)
            return application

    def _make_application(self, client_id: str, tenant_id: str) -> msal.ConfidentialClientApplication:
        """A new application; fetches the tenant's OpenID configuration unless one of the last day is at hand."""
        return msal.ConfidentialClientApplication(
            client_id,
            client_credential={"client_assertion": self._read_assertion},
            authority=self._authority_host + tenant_id,
            # Else a private authority is looked up at login.microsoftonline.com.
            instance_discovery=False,
            # Else the variable MSAL_FORCE_REGION makes MSAL ask 169.254.169.254, which is this very proxy.
            azure_region=False,
            http_client=self._transport,
            http_cache=self._discovery,
            token_cache=_NoMemory(),
        )

    def _read_assertion(self) -> str:
        """The service account token, read anew.

        Raises:
            _AssertionFileError: The file is missing, empty, too large or no text.
        """
        where = f"the service account token file {self._token_file} (named by {TOKEN_FILE_VARIABLE})"
        try:
            with open(self._token_file, "rb") as file:  # noqa: PTH123 - pathlib costs each Pod memory
                content = file.read(MAX_ASSERTION_BYTES + 1)
        except OSError as problem:
            raise _AssertionFileError(f"{where} cannot be read: {problem.strerror}") from problem
        assertion = content.strip()
        if not assertion:
            raise _AssertionFileError(f"{where} is empty")
        if len(content) > MAX_ASSERTION_BYTES or not assertion.isascii():
            raise _AssertionFileError(f"{where} holds no token")
        return assertion.decode()


def read_answer(answer: object, now: int) -> AccessToken | EntraFault:
    """What MSAL's answer means.

    Args:
        answer: The dictionary it returned.
        now: When, in seconds of the Unix clock.
    """
    if not isinstance(answer, dict):
        return unavailable("Entra gave no answer")
    if "access_token" not in answer:
        if "error" in answer:
            return read_fault(answer)
        return unavailable("Entra answered with neither a token nor an error")
    secret = answer["access_token"]
    life = _seconds(answer.get("expires_in"))
    if not isinstance(secret, str) or not secret or not secret.isascii():
        return unavailable("Entra answered with a token that cannot be used: it is no text")
    if life is None or not 0 < life <= _MAX_LIFE:
        return unavailable("Entra answered with a token that cannot be used: it has no expires_in, or is over")
    ext_life = _seconds(answer.get("ext_expires_in"))
    return AccessToken(
        secret,
        obtained_at=now,
        expires_on=now + life,
        not_before=_read_not_before(secret, now),
        ext_expires_on=now + (life if ext_life is None else max(life, ext_life)),
        refresh_on=_seconds(answer.get("refresh_on")),
    )


def _find_problem(client_id: str, tenant_id: str) -> str:
    if not _TENANT.fullmatch(tenant_id):
        return f"AZURE_TENANT_ID: {tenant_id!r} is neither a directory id nor a domain name"
    if not _CLIENT_ID.fullmatch(client_id):
        return f"the client id {client_id!r} is none: it must be 1 to 255 visible ASCII characters"
    return ""


def _seconds(value: object) -> int | None:
    """A number of seconds; Entra sends them as numbers, older endpoints as text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _read_not_before(secret: str, default: int) -> int:
    """The `nbf` claim, unverified: it is only shown to the caller, who may read the token as well."""
    try:
        payload = secret.split(".")[1]
        claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        not_before = claims["nbf"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return default
    return not_before if isinstance(not_before, int) and not isinstance(not_before, bool) else default
