"""When the certificate that is served ends, as metrics tell it."""

from __future__ import annotations

import asyncio

from azwi.errors import ClusterError
from azwi.log import logger
from azwi.webhook.certificates.clerk import Question, ask

log = logger("certificates")


class Expiry:
    """Asks a clerk whenever the certificate changes.

    Attributes:
        ends: By certificate, `leaf` and maybe `ca`, in seconds since 1970.
    """

    def __init__(self) -> None:
        self.ends: dict[str, float] = {}
        self._certificate = b""
        self._changed = asyncio.Event()

    def follow(self, certificate: bytes) -> None:
        """This one, PEM, is served from now on."""
        if certificate != self._certificate:
            self._certificate = certificate
            self._changed.set()

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                self.ends |= (await ask(Question(self._certificate))).expiry
            except ClusterError as problem:
                log.warning("the certificate's end is not known", extra={"fields": {"problem": str(problem)}})
