"""Fetching what a federated issuer publishes, over HTTPS, as Entra does: discovery document, then key set."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2
import msgspec

from azwi.emulator import faults
from azwi.emulator.issuer import DISCOVERY_PATH
from azwi.emulator.keys import PublicKeys, read_jwks

if TYPE_CHECKING:
    from collections.abc import Callable

    from azwi.emulator.faults import Fault

MAX_DOCUMENT: Final = 1 << 20  # bytes
TIMEOUT: Final = 5.0  # seconds for each step of a request
# An API server answers 406 for its keys where only application/json is accepted.
ACCEPT: Final = "application/json, application/jwk-set+json"
DEADLINE: Final = 10.0  # seconds for both documents together
FRESH: Final = 5.0  # seconds that keys are remembered; a key that is not among them is looked for at once


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


def read_jwks_uri(document: bytes, issuer: str) -> str:
    """Where a discovery document says the keys are.

    Raises:
        ValueError: It is no discovery document, speaks for another issuer (compared exactly, OpenID Connect
            Discovery 1.0 section 4.3) or names no https address.
    """
    try:
        discovery = msgspec.json.decode(document, type=_Discovery)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("not a discovery document") from error
    if discovery.issuer != issuer:
        raise ValueError("the discovery document speaks for another issuer")
    if urlsplit(discovery.jwks_uri).scheme != "https":
        raise ValueError("the key set has no https address")
    return discovery.jwks_uri


@dataclass(frozen=True, slots=True)
class _Remembered:
    keys: PublicKeys
    until: float


class IssuerKeys:
    """The keys of federated issuers, fetched when needed and remembered for seconds.

    Args:
        client: Trusts the certificate authorities the issuers are to be reached with; closed by whoever made it.
        monotonic: Seconds that only grow.
    """

    def __init__(self, client: httpx2.AsyncClient, monotonic: Callable[[], float]) -> None:
        self._client = client
        self._monotonic = monotonic
        self._remembered: dict[str, _Remembered] = {}

    async def find(self, issuer: str, kid: str) -> PublicKeys | Fault:
        """The issuer's keys, fresh from the issuer unless `kid` is among those just fetched.

        Only for issuers that a federated credential names: it sends requests to that address.
        """
        known = self._remembered.get(issuer)
        if known is not None and kid in known.keys and self._monotonic() < known.until:
            return known.keys
        try:
            async with asyncio.timeout(DEADLINE):
                keys = await self._fetch_keys(issuer)
        except (httpx2.TransportError, TimeoutError):
            return faults.ISSUER_UNREACHABLE()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError):
            return faults.ISSUER_UNUSABLE()
        self._remembered[issuer] = _Remembered(keys, self._monotonic() + FRESH)
        return keys

    async def _fetch_keys(self, issuer: str) -> PublicKeys:
        discovery = await self._fetch(issuer.removesuffix("/") + DISCOVERY_PATH)
        return read_jwks(await self._fetch(read_jwks_uri(discovery, issuer)))

    async def _fetch(self, url: str) -> bytes:
        """One document of at most `MAX_DOCUMENT` bytes; anything but a plain 200 is a ValueError."""
        async with self._client.stream("GET", url, headers={"Accept": ACCEPT}) as response:
            if response.status_code != httpx2.codes.OK:
                raise ValueError(f"answered {response.status_code}")
            document = bytearray()
            async for chunk in response.aiter_bytes():
                document += chunk
                if len(document) > MAX_DOCUMENT:
                    raise ValueError("too large")
        return bytes(document)
