"""The Instance Metadata Service of an emulated virtual machine: a request's meaning and its answer, without I/O.

Written from Microsoft's documents, not from our proxy: [VM] "How to use managed identities for Azure resources on an
Azure VM to acquire an access token"; [IMDS] "Azure Instance Metadata Service for virtual machines".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import parse_qs

from azwi.emulator.exchange import LIFETIME, Grant
from azwi.emulator.wire import Answer, Request, json_answer

if TYPE_CHECKING:
    from azwi.emulator.directory import Application, Directory, Tenant
    from azwi.emulator.keys import JsonObject

# [IMDS] A choice of the supported versions, newest last.
VERSIONS: Final = ("2018-02-01", "2019-08-01", "2020-09-01", "2021-02-01", "2021-12-13", "2023-07-01")
_TOKEN_VERSIONS: Final = ("2018-02-01", "2019-08-01", "2020-06-01", "2021-02-01", "2021-12-13", "2023-07-01")
_BAD_REQUEST: Final = 400
_REQUIRED_HEADER: Final = "Required metadata header not specified"
_SELECTORS: Final = ("client_id", "object_id", "principal_id", "msi_res_id", "mi_res_id")

Query: TypeAlias = Mapping[str, list[str]]


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """A token request that can be answered."""

    grant: Grant


def answer_request(request: Request, directory: Directory) -> Answer | TokenOrder:
    """What the metadata service answers, or the token it is to mint."""
    segments = [part.lower() for part in request.segments]
    if not segments or segments[0] != "metadata":
        return _not_found()
    identity = segments[1:2] == ["identity"]
    if request.method != "GET":
        return json_answer({"error": "Method not allowed"}, status=405, headers=(("allow", "GET"),), outcome="405")
    if request.headers.get("metadata", "").lower() != "true" or "x-forwarded-for" in request.headers:
        return _refusal("invalid_request", _REQUIRED_HEADER) if identity else _bad_request(_REQUIRED_HEADER)
    query = parse_qs(request.query, keep_blank_values=True)
    match segments[1:]:
        case ["versions"]:
            return json_answer({"apiVersions": list(VERSIONS)})
        case ["identity", "oauth2", "token"]:
            return _token(query, directory)
        case ["instance" | "scheduledevents" | "loadbalancer", *path]:
            return _metadata(segments[1], path, query)
        case _:
            return _not_found()


def token_answer(order: TokenOrder, access_token: str, now: float) -> JsonObject:
    """The body around a token: all its values are text [VM]."""
    grant = order.grant
    return {
        "access_token": access_token,
        "client_id": grant.application.client_id,
        "expires_in": str(LIFETIME - 1),
        "expires_on": str(int(now) + LIFETIME - 1),
        "ext_expires_in": str(LIFETIME - 1),
        "not_before": str(int(now) - 300),
        "resource": grant.audience,
        "token_type": "Bearer",
    }


# --- Tokens ---------------------------------------------------------------------------------------------


def _token(query: Query, directory: Directory) -> Answer | TokenOrder:
    if _first(query, "api-version") not in _TOKEN_VERSIONS:
        return _refusal("invalid_request", "The api-version is invalid or was not specified in the request.")
    audience = _first(query, "resource")
    if not audience:
        return _refusal("invalid_request", "Required audience parameter not specified")
    found = _find_identity(query, directory)
    if isinstance(found, Answer):
        return found
    tenant, identity = found
    resource = directory.resource(tenant, audience)
    if resource is None:
        description = (
            f"AADSTS500011: The resource principal named {audience} was not found in the tenant named {tenant.name}."
        )
        return _refusal("invalid_resource", description)
    return TokenOrder(Grant(tenant, identity, audience, resource))


def _find_identity(query: Query, directory: Directory) -> tuple[Tenant, Application] | Answer:
    """The managed identity a request names; without a name, the only one there is [VM]."""
    assigned = [(tenant, identity) for tenant in directory.tenants for identity in tenant.managed_identities]
    named = {name: _first(query, name).lower() for name in _SELECTORS if _first(query, name)}
    if len(named) > 1:
        return _refusal("invalid_request", f"Only one of {', '.join(_SELECTORS)} may be given")
    matching = [entry for entry in assigned if not named or _is_named(entry[1], named)]
    if not matching:
        return _refusal("invalid_request", "Identity not found")
    if len(matching) > 1:
        several = (
            "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the "
            "token request"
        )
        return _refusal("invalid_request", several)
    return matching[0]


def _is_named(identity: Application, named: Mapping[str, str]) -> bool:
    (name, value), *_ = named.items()
    of = {
        "client_id": identity.client_id,
        "object_id": identity.object_id,
        "principal_id": identity.object_id,
    }
    return of.get(name, identity.resource_id.lower()) == value


# --- Other metadata ---------------------------------------------------------------------------------------

_INSTANCE: Final[JsonObject] = {
    "compute": {
        "azEnvironment": "AzurePublicCloud",
        "location": "emulated",
        "name": "emulated-node",
        "osType": "Linux",
        "provider": "Microsoft.Compute",
        "resourceGroupName": "emulated",
        "subscriptionId": "00000000-0000-0000-0000-000000000000",
        "vmId": "00000000-0000-0000-0000-000000000001",
        "vmSize": "Standard_D2s_v5",
    },
    "network": {"interface": []},
}
_TREES: Final[Mapping[str, JsonObject]] = {
    "instance": _INSTANCE,
    "scheduledevents": {"DocumentIncarnation": 1, "Events": []},
    "loadbalancer": {"loadbalancer": {"publicIpAddresses": [], "inboundRules": [], "outboundRules": []}},
}


def _metadata(tree: str, path: list[str], query: Query) -> Answer:
    if _first(query, "api-version") not in VERSIONS:
        problem = "api-version is invalid or was not specified in the request"
        return json_answer(
            {"error": f"Bad request. {problem}.", "newest-versions": list(reversed(VERSIONS))[:3]},
            status=_BAD_REQUEST,
            outcome="400",
        )
    node: object = _TREES[tree]
    for name in path:
        inner = {key.lower(): value for key, value in node.items()} if isinstance(node, dict) else {}
        if name not in inner:
            return _not_found()
        node = inner[name]
    if isinstance(node, str):  # [IMDS] a leaf is text only
        if _first(query, "format") != "text":
            return _bad_request("format=json is not supported for a leaf; ask with format=text")
        return Answer(200, node.encode(), (("content-type", "text/plain; charset=utf-8"),))
    return json_answer(node)


def _first(query: Query, name: str) -> str:
    return query.get(name, [""])[0]


def _refusal(error: str, description: str) -> Answer:
    return json_answer({"error": error, "error_description": description}, status=_BAD_REQUEST, outcome=error)


def _bad_request(problem: str) -> Answer:
    return json_answer({"error": f"Bad request. {problem}"}, status=_BAD_REQUEST, outcome="400")


def _not_found() -> Answer:
    return json_answer({"error": "Not found"}, status=404, outcome="404")
