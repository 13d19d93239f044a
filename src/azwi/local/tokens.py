"""Projected tokens as files: minted, written whole, renewed when four fifths of their life are over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import jwt

from azwi.errors import LocalError
from azwi.local.pod import JsonObject, ProjectedToken, projected_tokens, render_token_request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RENEWED_AT: Final = 0.8  # of a token's life; kubernetes/pkg/kubelet/token/token_manager.go
SHORTEST: Final = 0.5  # seconds between two renewals, whatever an issuer's clock says
RETRY: Final = 5.0  # seconds after a renewal that failed


@dataclass(slots=True)
class _TokenFile:
    token: ProjectedToken
    path: Path
    due: float = 0.0  # seconds since 1970
    claims: JsonObject | None = None


class TokenFiles:
    """The tokens of one Pod, each in the file that the kubelet would keep it in.

    Args:
        pod: After admission.
        root: A private folder; each volume is a folder in it.
        mint: Posts a TokenRequest and gives what the API server answers; raises LocalError.
    """

    def __init__(self, pod: JsonObject, root: Path, mint: Callable[[JsonObject], JsonObject]) -> None:
        self._pod = pod
        self._mint = mint
        self._files = [_TokenFile(token, root / token.volume / token.path) for token in projected_tokens(pod)]
        self.volumes = {file.token.volume: str(root / file.token.volume) for file in self._files}
        for file in self._files:
            self._write(file)

    @property
    def claims(self) -> list[JsonObject]:
        """What each token says; shown, not trusted: the emulator verifies it."""
        return [file.claims for file in self._files if file.claims is not None]

    def next_due(self) -> float | None:
        """When the next renewal is due, in seconds since 1970; None where there is no token."""
        return min((file.due for file in self._files), default=None)

    def renew(self, now: float) -> list[str]:
        """Renew what is due; gives what went wrong, which is tried again a little later. The old tokens stay."""
        problems = []
        for file in self._files:
            if file.due <= now:
                try:
                    self._write(file)
                except (LocalError, OSError) as problem:
                    file.due = now + RETRY
                    problems.append(f"{file.token.path} was not renewed: {problem}")
        return problems

    def _write(self, file: _TokenFile) -> None:
        status = self._mint(render_token_request(self._pod, file.token))["status"]
        file.path.parent.mkdir(parents=True, exist_ok=True)
        partial = file.path.with_name(f".{file.path.name}.new")
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        partial.write_text(status["token"])
        partial.replace(file.path)  # a reader sees the old token or the new one, never half of one
        now = time.time()
        life = datetime.fromisoformat(status["expirationTimestamp"]).timestamp() - now
        file.due = now + max(life * RENEWED_AT, SHORTEST)
        file.claims = jwt.decode(status["token"], options={"verify_signature": False})
