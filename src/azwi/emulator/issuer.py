"""The OIDC issuer of the emulated cluster: what it publishes, and the service account tokens it mints.

Pure: the key, the time and the token's id are given. Shapes are those of kube-apiserver 1.30 and newer.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from azwi.emulator.keys import JsonObject, SigningKey, public_jwk, sign

DISCOVERY_PATH: Final = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0 section 4
JWKS_PATH: Final = "/openid/v1/jwks"
_NODE: Final = "emulated-node"
_UID_NAMESPACE: Final = uuid.UUID("5d0c2f5e-3c1f-4f5b-8f39-0a0c1b3c6e11")  # arbitrary; makes uids the same in every run


@dataclass(frozen=True, slots=True)
class BoundPod:
    """The Pod that a token dies with."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class TokenOrder:
    """What a token is to be minted for; `expiration` is in seconds."""

    namespace: str
    service_account: str
    audiences: tuple[str, ...]
    expiration: int
    pod: BoundPod | None = None


def discovery_document(issuer: str) -> JsonObject:
    """The discovery document, as kube-apiserver serves it.

    Source: kubernetes/pkg/serviceaccount/openidmetadata.go.
    """
    return {
        "issuer": issuer,
        "jwks_uri": issuer + JWKS_PATH,
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def jwks(*keys: SigningKey) -> JsonObject:
    """The key set, as kube-apiserver serves it."""
    return {"keys": [public_jwk(key) for key in keys]}


def token_claims(issuer: str, order: TokenOrder, now: float, token_id: str) -> JsonObject:
    """The claims of a token as a kubelet projects it into a Pod.

    There is no `warnafter`: kube-apiserver sets it only on tokens for its own audience whose life it has extended.

    Source: kubernetes/pkg/serviceaccount/claims.go, Claims.
    """
    issued = int(now)
    return {
        "aud": list(order.audiences),
        "exp": issued + order.expiration,
        "iat": issued,
        "iss": issuer,
        "jti": token_id,
        "kubernetes.io": _bound_objects(order),
        "nbf": issued,
        "sub": f"system:serviceaccount:{order.namespace}:{order.service_account}",
    }


def mint_token(key: SigningKey, claims: JsonObject) -> str:
    """The claims as a signed token; like kube-apiserver's, its header has no `typ`."""
    return sign(key, claims, {"kid": key.kid, "typ": None})


def stable_uid(*names: str) -> str:
    """The uid of the emulated cluster's object with these names."""
    return str(uuid.uuid5(_UID_NAMESPACE, "/".join(names)))


def _bound_objects(order: TokenOrder) -> JsonObject:
    account: JsonObject = {
        "name": order.service_account,
        "uid": stable_uid("serviceaccounts", order.namespace, order.service_account),
    }
    bound: JsonObject = {"namespace": order.namespace, "serviceaccount": account}
    if order.pod is not None:
        bound["node"] = {"name": _NODE, "uid": stable_uid("nodes", _NODE)}
        bound["pod"] = {"name": order.pod.name, "uid": order.pod.uid}
    return bound
