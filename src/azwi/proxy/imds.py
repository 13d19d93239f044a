"""The token endpoint of the Instance Metadata Service: requests in, answers out, without I/O.

Sources: [VM] "How to use managed identities for Azure resources on an Azure VM to acquire an access token"; [IMDS]
"Azure Instance Metadata Service for virtual machines"; [R 5] docs/reference-behaviour.md section 5; [D n] item n of
docs/differences.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

import msgspec

from azwi.log import redact
from azwi.proxy.identity_map import SELECTORS, IdentityMap
from azwi.proxy.paths import Passthrough, Place, Route, find_route

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from azwi.entra.faults import EntraFault
    from azwi.entra.tokens import AccessToken

# [D 25] Names that reach this server by right; any other means that somebody rebound a name of theirs to our address.
_HOST: Final = re.compile(r"(?:169\.254\.169\.254|127\.0\.0\.1|localhost)(?::\d{1,5})?", re.IGNORECASE)
# [IMDS] Versions are dates. Which one it is makes no difference to the token endpoint.
_API_VERSION: Final = re.compile(r"\d{4}-\d{2}-\d{2}(-preview)?")
_MAX_PARAMETERS: Final = 64
_MAX_REMEMBERED: Final = 64  # queries of at most 16 KiB
_DEFAULT_SCOPE: Final = "/.default"
QUIT_PATH: Final = "/quit"

BAD_REQUEST: Final = 400
FORBIDDEN: Final = 403
METHOD_NOT_ALLOWED: Final = 405
TOO_MANY_REQUESTS: Final = 429
UNAVAILABLE: Final = 503
# [D 24] Seconds to wait where Entra names none; as long as MSAL itself waits.
DEFAULT_RETRY_AFTER: Final = 5

INVALID_REQUEST: Final = "invalid_request"
_JSON: Final = ("Content-Type", "application/json; charset=utf-8")


@dataclass(frozen=True, slots=True)
class Rules:
    """What the answers depend on. `client_id` is the identity of a request that names none, empty for none."""

    client_id: str = ""
    require_metadata_header: bool = True
    passthrough: Passthrough = Passthrough.INSTANCE
    allow_quit: bool = False
    identities: IdentityMap = IdentityMap()  # noqa: RUF009 - it is never changed


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request: target as it came, header names in lower case, in order, each as often as it came."""

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    version: str = "1.1"


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """A token request that can be answered: `resource` is echoed as given, `scope` is what Entra is asked for."""

    client_id: str
    resource: str
    scope: str


@dataclass(frozen=True, slots=True)
class Forward:
    """A request for the real Instance Metadata Service; `target` is safe to send as it is."""

    target: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A readiness check."""


@dataclass(frozen=True, slots=True)
class Quit:
    """A wish that the program ends: its Pod's job is done."""


@dataclass(frozen=True, slots=True)
class Redirect:
    """The same request under its clean path."""

    location: str


@dataclass(frozen=True, slots=True)
class Fault:
    """A request that is refused, with what the caller can do about it. `allow` lists methods, for a 405."""

    status: int
    description: str
    error: str = INVALID_REQUEST
    allow: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer but for the headers that every answer has."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """An answer whose body comes in parts: so many bytes, None where that is not known, within so many seconds.

    If the parts raise, the answer cannot be finished, and its connection must end without saying that it is whole.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    length: int | None
    parts: AsyncGenerator[bytes, None]
    seconds: float


# --- Requests -----------------------------------------------------------------------------------------------


def read_request(request: Request, rules: Rules) -> TokenQuery | Forward | Ready | Quit | Redirect | Fault:
    """What a request asks for."""
    host, target = _split_target(request)
    if fault := _check_host(host, request):
        return fault
    path, _, query = target.partition("?")
    if path == QUIT_PATH and rules.allow_quit:
        return _read_quit(request)
    route = find_route(path, rules.passthrough)
    match route.place:
        case Place.UNCLEAN:
            return Redirect(f"{route.path}?{query}" if query else route.path)
        case Place.READY:
            return Ready()
        case Place.TOKEN:
            return _read_token_request(request, query, rules)
        case Place.UPSTREAM:
            return _check_metadata_rules(request, rules) or Forward(target)
        case _:
            return _refuse_route(route)


def _split_target(request: Request) -> tuple[list[str], str]:
    """The hosts that the request names, and its target without one.

    Source: RFC 9112 section 3.2.2: a server takes the absolute form too, and its host before the Host header.
    """
    if request.target[:7].lower() == "http://":
        authority, slash, rest = request.target[7:].partition("/")
        return [authority], slash + rest if slash else "/"
    return _values(request, "host"), request.target


def _check_host(hosts: list[str], request: Request) -> Fault | None:
    if len(_values(request, "host")) > 1:
        return Fault(BAD_REQUEST, "The Host header is there more than once")
    if not hosts:
        return None if request.version == "1.0" else Fault(BAD_REQUEST, "The Host header is missing")
    if _HOST.fullmatch(hosts[0]):
        return None
    return Fault(BAD_REQUEST, "The Host header must be 169.254.169.254, 127.0.0.1 or localhost")


def _check_metadata_rules(request: Request, rules: Rules) -> Fault | None:
    """[IMDS] Security: what keeps a server-side request forgery from reaching the service."""
    if _values(request, "x-forwarded-for"):
        return Fault(BAD_REQUEST, "Requests with an X-Forwarded-For header are not answered")
    if not rules.require_metadata_header:
        return None
    values = _values(request, "metadata")
    if len(values) == 1 and values[0].lower() == "true":
        return None
    return Fault(BAD_REQUEST, "Required metadata header not specified: send Metadata: true, once")


def _read_quit(request: Request) -> Quit | Fault:
    """[D 30] What ends the program must not come from a browser or another server on somebody's behalf."""
    if request.method != "POST":
        return Fault(METHOD_NOT_ALLOWED, "The program is ended with POST", allow="POST")
    if any(_values(request, name) for name in ("x-forwarded-for", "origin")):
        return Fault(BAD_REQUEST, "Requests on behalf of others do not end the program")
    return Quit()


def _refuse_route(route: Route) -> Fault:
    match route.place:
        case Place.AMBIGUOUS:
            return Fault(BAD_REQUEST, "The path has encoded or unusual characters, so it could mean another one")
        case Place.OTHER_IDENTITY:
            return Fault(FORBIDDEN, "Of /metadata/identity only /metadata/identity/oauth2/token is served", "forbidden")
        case _:
            return Fault(FORBIDDEN, "This path is not passed on: see the flag --passthrough of azwi-proxy", "forbidden")


def _read_token_request(request: Request, query: str, rules: Rules) -> TokenQuery | Fault:
    if request.method != "GET":
        return Fault(METHOD_NOT_ALLOWED, "A token is asked for with GET", allow="GET")
    return _check_metadata_rules(request, rules) or _read_query(query, rules)


@lru_cache(maxsize=_MAX_REMEMBERED)
def _read_query(query: str, rules: Rules) -> TokenQuery | Fault:
    """[VM] What a query asks for; programs ask for the same few tokens again and again, so the last ones are kept."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_PARAMETERS, errors="strict")
    except ValueError:
        return Fault(BAD_REQUEST, f"The query is no UTF-8 form of at most {_MAX_PARAMETERS} parameters")
    parameters: dict[str, str] = {}
    for name, value in pairs:
        if parameters.setdefault(name, value) != value and name in SELECTORS:  # [R 5] else the first one counts
            return Fault(BAD_REQUEST, f"The parameter {name} is there more than once, with different values")
    return _read_parameters(parameters, rules)


def _read_parameters(parameters: dict[str, str], rules: Rules) -> TokenQuery | Fault:
    """[VM] The query of a token request; every problem is named at once, the client id first as [R 5]."""
    problems: list[str] = []
    client_id = _find_client_id(parameters, rules, problems)
    resource, scope = _find_resource(parameters, problems)
    version = parameters.get("api-version", "")
    if not _API_VERSION.fullmatch(version):
        problems.append(
            f"The api-version parameter {version!r} is not a version such as 2018-02-01"
            if version
            else "The api-version parameter is required, such as api-version=2018-02-01"
        )
    return Fault(BAD_REQUEST, "; ".join(problems)) if problems else TokenQuery(client_id, resource, scope)


def _find_client_id(parameters: dict[str, str], rules: Rules, problems: list[str]) -> str:
    """[D 26] The identity that is meant; one that is named in another way is never another identity."""
    asked = parameters.get("client_id", "")
    meant = {asked.lower(): asked} if asked else {}
    for name in SELECTORS:
        value = parameters.get(name, "")
        if not value:
            continue
        client_id = rules.identities.find(name, value)
        if client_id is None:
            problems.append(
                f"Identity not found: {name}={value!r} is not in the identity map; ask with client_id, "
                "or name it in the file of --identity-map"
            )
            return ""
        meant.setdefault(client_id.lower(), client_id)
    if len(meant) > 1:
        problems.append("The request names more than one identity")
        return ""
    client_id = next(iter(meant.values()), rules.client_id)
    if not client_id:
        problems.append("The client_id parameter or AZURE_CLIENT_ID environment variable must be set")
    return client_id


def _find_resource(parameters: dict[str, str], problems: list[str]) -> tuple[str, str]:
    """Resource and scope. A resource with a trailing slash gives a double one, which is how Entra tells it apart.

    Source: "Scopes and permissions in the Microsoft identity platform", section "Trailing slash and .default".
    """
    resource = parameters.get("resource", "")
    if not resource:
        resource = parameters.get("scope", "").removesuffix(_DEFAULT_SCOPE)
    if not resource:
        problems.append("The resource parameter is required.")
    elif " " in resource or not resource.isprintable():  # other blanks are not printable
        problems.append("The resource parameter must be one identifier without spaces")
    scope = resource if resource.endswith(_DEFAULT_SCOPE) else resource + _DEFAULT_SCOPE
    return resource, scope


def _values(request: Request, name: str) -> list[str]:
    return [value for header, value in request.headers if header == name]


# --- Answers ------------------------------------------------------------------------------------------------


class _TokenDocument(msgspec.Struct):
    """[VM] The answer's fields; every number is text. `refresh_token` is not used by managed identities."""

    access_token: str
    client_id: str
    expires_in: str
    expires_on: str
    ext_expires_in: str
    not_before: str
    resource: str
    refresh_token: str = ""
    token_type: str = "Bearer"  # noqa: S105 - RFC 6750's name


class _ErrorDocument(msgspec.Struct):
    """[VM] The body of an error."""

    error: str
    error_description: str


def token_answer(query: TokenQuery, token: AccessToken, now: float) -> Answer:
    """[VM] The answer with a token; what is left of its life counts from `now`, seconds of the Unix clock."""
    document = _TokenDocument(
        access_token=token.secret,
        client_id=query.client_id,
        expires_in=str(max(0, int(token.expires_on - now))),
        expires_on=str(token.expires_on),
        ext_expires_in=str(max(0, int(token.ext_expires_on - now))),
        not_before=str(token.not_before),
        resource=query.resource,
    )
    return Answer(200, (_JSON,), msgspec.json.encode(document))


def fault_answer(fault: Fault) -> Answer:
    """[VM] The answer to a request that is refused here."""
    headers = (_JSON, ("Allow", fault.allow)) if fault.allow else (_JSON,)
    return _error(fault.status, fault.error, fault.description, headers)


def entra_fault_answer(fault: EntraFault) -> Answer:
    """[D 24] The answer when Entra gave no token: 429 and 503 only where asking again can help, else 400.

    SDKs ask again on 404, 410, 429 and 5xx, so what cannot work must be none of these.
    """
    description = describe_fault(fault)
    if fault.throttled or fault.unavailable:
        status = TOO_MANY_REQUESTS if fault.throttled else UNAVAILABLE
        seconds = DEFAULT_RETRY_AFTER if fault.retry_after is None else fault.retry_after
        return _error(status, "temporarily_unavailable", description, (_JSON, ("Retry-After", str(seconds))))
    return _error(BAD_REQUEST, INVALID_REQUEST, description, (_JSON,))


def describe_fault(fault: EntraFault) -> str:
    """Entra's text with the AADSTS code and the correlation id, each once, and nothing that looks like a token."""
    text = redact(fault.description.encode("utf-8", "replace").decode()) or f"Microsoft Entra refused: {fault.error}"
    if fault.code is not None and f"AADSTS{fault.code}" not in text:
        text = f"AADSTS{fault.code}: {text}"
    if fault.correlation_id and fault.correlation_id not in text:
        text = f"{text} Correlation ID: {fault.correlation_id}"
    return text


def ready_answer() -> Answer:
    """[R 5] Listening and configured."""
    return Answer(200, (("Content-Type", "text/plain; charset=utf-8"),), b"ok")


def quit_answer() -> Answer:
    """[D 30] The end will come after this answer."""
    return Answer(200, (("Content-Type", "text/plain; charset=utf-8"),), b"ok")


def redirect_answer(redirect: Redirect) -> Answer:
    """[R 5] The clean path; never another host."""
    return Answer(301, (("Location", redirect.location),), b"")


def _error(status: int, error: str, description: str, headers: tuple[tuple[str, str], ...]) -> Answer:
    return Answer(status, headers, msgspec.json.encode(_ErrorDocument(error, description)))
