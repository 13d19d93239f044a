"""Signing in to Microsoft Entra as whoever runs azwi, through MSAL or the Azure CLI; exchanging service account tokens.

MSAL sends through our HTTP client, so time-outs, proxies and the hosts that may be asked are decided in one place.

Source: MSAL Python 1.39, ConfidentialClientApplication and ManagedIdentityClient.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import httpx2
import msal
from msal.exceptions import MsalServiceError

from azwi.contract import TOKEN_FILE_VARIABLE
from azwi.entra.azurecli import AzureCli
from azwi.entra.faults import EntraFault, parse_retry_after, unavailable
from azwi.entra.hosts import TIMEOUT, hosts_of, refuse_others
from azwi.entra.rest import PASSING
from azwi.entra.tokens import AccessToken, read_answer
from azwi.errors import ConfigurationError, EntraError
from azwi.log import logger
from azwi.version import user_agent

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence

    from azwi.entra.rest import SignedIn

Method = Literal["cli", "client_secret", "client_certificate", "workload_identity", "managed_identity"]
METHODS: Final[tuple[Method, ...]] = (
    "cli",
    "client_secret",
    "client_certificate",
    "workload_identity",
    "managed_identity",
)
# Where managed identities are asked: Instance Metadata Service, and the endpoints that these variables name.
_METADATA_HOSTS: Final = frozenset({"169.254.169.254"})
_METADATA_VARIABLES: Final = ("IDENTITY_ENDPOINT", "MSI_ENDPOINT", "IMDS_ENDPOINT", "AZURE_POD_IDENTITY_AUTHORITY_HOST")
_OK: Final = 200
PAUSES: Final = (0.5, 1.0, 2.0)  # seconds between attempts to sign in
MAX_PAUSE: Final = 30.0  # seconds that Retry-After is heeded for

log = logger("azwi")


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to sign in; secrets are never shown.

    Attributes:
        method: Which way.
        client_id: The application's, or a user-assigned managed identity's; empty for a system-assigned one.
        secret: For `client_secret`.
        certificate: PEM, for `client_certificate`.
        private_key: PEM, for `client_certificate`.
        passphrase: Of the private key, if it has one.
        token_file: For `workload_identity`.
    """

    method: Method
    client_id: str = ""
    secret: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    private_key: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)
    token_file: str = ""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What MSAL reads of an answer."""

    status_code: int
    text: str
    headers: Mapping[str, str]

    def raise_for_status(self) -> None:
        """Raise for what is no success, as MSAL expects of its HTTP client."""
        if self.status_code >= 400:  # noqa: PLR2004  # HTTP
            raise EntraError(f"Entra answered {self.status_code}")


class EntraHttp:
    """MSAL's way to Entra: httpx2, bounded in time, to the given hosts only.

    Args:
        context: Whom to trust.
        hosts: The only ones that are asked.
        transport: Another way than the network, for tests.
        pauses: Seconds after which to ask again, where that may help; none: whoever asks does that.
        sleep: Waits.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        hosts: frozenset[str],
        transport: httpx2.BaseTransport | None = None,
        pauses: Sequence[float] = (),
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._pauses = pauses
        self._sleep = sleep
        self._http = httpx2.Client(
            verify=context,
            timeout=TIMEOUT,
            follow_redirects=False,
            transport=transport,
            headers={"User-Agent": user_agent("azwi")},
            event_hooks={"request": [refuse_others(hosts)]},
        )

    def get(
        self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: object
    ) -> _Answer:
        """The answer to a GET."""
        return self._persist(lambda: self._http.get(url, params=params or None, headers=_given(headers)))

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str | bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: object,
    ) -> _Answer:
        """The answer to a form."""
        # An assertion that MSAL has signed is bytes.
        form = {name: value.decode() if isinstance(value, bytes) else value for name, value in (data or {}).items()}
        return self._persist(lambda: self._http.post(url, params=params or None, data=form, headers=_given(headers)))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def _persist(self, send: Callable[[], httpx2.Response]) -> _Answer:
        """The answer to a request, which may be sent again: asking for a token twice does no more than once."""
        for pause in self._pauses:
            try:
                answer = send()
            except (httpx2.NetworkError, httpx2.RemoteProtocolError) as problem:  # no time-out: that was waiting enough
                log.info("asked again later", extra={"fields": {"problem": str(problem), "delay": pause}})
                self._sleep(pause)
                continue
            if answer.status_code not in PASSING:
                return _answer(answer)
            delay = max(pause, min(parse_retry_after(answer.headers.get("retry-after")) or 0, MAX_PAUSE))
            log.info("asked again later", extra={"fields": {"status": answer.status_code, "delay": delay}})
            self._sleep(delay)
        return _answer(send())


def _given(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name: value for name, value in (headers or {}).items() if value is not None}


def _answer(answer: httpx2.Response) -> _Answer:
    headers = {name.title(): value for name, value in answer.headers.items()}
    if answer.status_code != _OK:
        headers["Retry-After"] = "0"  # else MSAL replays a refusal from memory for a minute
    return _Answer(answer.status_code, answer.text, headers)


class MsalSignIn:
    """Tokens through one of MSAL's applications, which remembers them."""

    def __init__(self, ask: Callable[[str], Mapping[str, Any]]) -> None:
        self._ask = ask
        self._lock = threading.Lock()  # MSAL has no single flight

    async def token(self, scope: str) -> str:
        """A token, from memory or from Entra.

        Raises:
            EntraError: Entra or the way there refused.
        """
        return await asyncio.to_thread(self._obtain, scope)

    def _obtain(self, scope: str) -> str:
        with self._lock:
            try:
                answer = self._ask(scope)
            except (httpx2.HTTPError, ValueError, KeyError, OSError, MsalServiceError) as problem:
                raise EntraError(f"sign-in failed: {str(problem) or type(problem).__name__}") from problem
        if "access_token" not in answer:
            description = str(answer.get("error_description") or answer.get("error") or "no reason was given")
            raise EntraError(f"sign-in failed: {' '.join(description.split())[:1000]}")
        return str(answer["access_token"])


def sign_in(
    credentials: Credentials, authority_host: str, tenant: str, http: EntraHttp, cache: dict[str, object] | None = None
) -> SignedIn:
    """Somebody who gives tokens of a tenant; nothing is asked before the first one.

    Args:
        credentials: How to sign in.
        authority_host: With a trailing slash.
        tenant: A directory id.
        http: The way to Entra and to metadata services.
        cache: MSAL's memory of what Entra publishes; shared where several sign in.

    Raises:
        ConfigurationError: The credentials cannot be used.
    """
    if credentials.method == "cli":
        return AzureCli(tenant)
    if credentials.method == "managed_identity":
        return MsalSignIn(_managed_identity(credentials.client_id, http))
    application: list[msal.ConfidentialClientApplication] = []

    def ask(scope: str) -> Mapping[str, Any]:
        if not application:
            application.append(
                _application(credentials.client_id, _credential(credentials), authority_host + tenant, http, cache)
            )
        answer: Mapping[str, Any] = application[0].acquire_token_for_client(scopes=[scope])
        return answer

    return MsalSignIn(ask)


def exchange(
    assertion: str, client_id: str, authority: str, scope: str, http: EntraHttp, cache: dict[str, object]
) -> AccessToken | EntraFault:
    """One real exchange of a service account token; blocks.

    Args:
        assertion: The service account token.
        client_id: Whose access token is wanted.
        authority: Authority host and tenant.
        scope: Ends with `/.default`.
        http: The way to Entra.
        cache: MSAL's memory of what Entra publishes.
    """
    try:
        application = _application(client_id, {"client_assertion": lambda: assertion}, authority, http, cache)
        answer = application.acquire_token_for_client(scopes=[scope])
    except (httpx2.HTTPError, ValueError, KeyError, OSError, EntraError, MsalServiceError) as problem:
        return unavailable(f"Entra gave no usable answer: {str(problem) or type(problem).__name__}")
    return read_answer(answer, int(time.time()))


def metadata_hosts(environment: Mapping[str, str]) -> frozenset[str]:
    """Where a managed identity is asked, if it is one that signs in."""
    return _METADATA_HOSTS | hosts_of(*(environment.get(name, "") for name in _METADATA_VARIABLES))


def _application(
    client_id: str, credential: object, authority: str, http: EntraHttp, cache: dict[str, object] | None
) -> msal.ConfidentialClientApplication:
    return msal.ConfidentialClientApplication(
        client_id,
        client_credential=credential,
        authority=authority,
        # Else an authority that MSAL does not know is looked up at login.microsoftonline.com.
        instance_discovery=False,
        azure_region=False,
        http_client=http,
        http_cache=cache,
    )


def _credential(credentials: Credentials) -> object:
    """What MSAL takes for a credential."""
    if credentials.method == "client_secret":
        return credentials.secret
    if credentials.method == "client_certificate":
        credential = {"private_key": credentials.private_key, "public_certificate": credentials.certificate}
        return credential | ({"passphrase": credentials.passphrase} if credentials.passphrase else {})
    path = Path(credentials.token_file)

    def assertion() -> str:  # read anew for each exchange: the kubelet replaces it
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigurationError(
                f"the token file {path} (named by {TOKEN_FILE_VARIABLE}) cannot be read"
            ) from problem

    return {"client_assertion": assertion}


def _managed_identity(client_id: str, http: EntraHttp) -> Callable[[str], Mapping[str, Any]]:
    from msal import SystemAssignedManagedIdentity, UserAssignedManagedIdentity  # noqa: PLC0415

    identity = UserAssignedManagedIdentity(client_id=client_id) if client_id else SystemAssignedManagedIdentity()
    client = msal.ManagedIdentityClient(identity, http_client=http)

    def ask(scope: str) -> Mapping[str, Any]:
        answer: Mapping[str, Any] = client.acquire_token_for_client(resource=scope.removesuffix("/.default"))
        return answer

    return ask
