"""The Azure CLI of this machine: its tokens, and the subscription it has selected.

Source: `az account get-access-token --help`; knack's `config` and `clouds.config` in ~/.azure (R 7.1).
"""

from __future__ import annotations

import asyncio
import configparser
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from azwi.errors import EntraError
from azwi.log import redact

if TYPE_CHECKING:
    from collections.abc import Mapping

_DEADLINE: Final = 60.0  # seconds
_EARLY: Final = 60.0  # seconds before its end at which a token is asked for anew
_LIFE: Final = 300.0  # seconds that a token counts where the CLI does not say


class AzureCli:
    """Tokens of whoever is signed in with `az login`.

    Args:
        tenant: Whose tokens; the CLI must have been signed in to it.
    """

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = asyncio.Lock()

    async def token(self, scope: str) -> str:
        """A token, from memory or from the CLI.

        Raises:
            EntraError: The CLI is missing, nobody is signed in, or it answers with no token.
        """
        async with self._lock:
            token, until = self._tokens.get(scope, ("", 0.0))
            if not token or time.time() >= until:
                token, until = _read_token(await self._run(scope))
                self._tokens[scope] = (token, until)
            return token

    async def _run(self, scope: str) -> bytes:
        program = shutil.which("az")
        if program is None:
            raise EntraError(
                "the Azure CLI (az) is not installed, which --auth-method=cli needs",
                hint="install it, or choose another --auth-method",
            )
        arguments = ["account", "get-access-token", "--output", "json", "--scope", scope, "--tenant", self._tenant]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        try:
            out, err = await asyncio.wait_for(process.communicate(), _DEADLINE)
        except TimeoutError as problem:
            process.kill()
            await process.wait()
            raise EntraError(f"the Azure CLI gave no token within {_DEADLINE:.0f} s") from problem
        if process.returncode:
            words = redact(" ".join(err.decode(errors="replace").split()))[-400:]
            raise EntraError(f"the Azure CLI gave no token: {words}", hint=f"run: az login --tenant {self._tenant}")
        return out


def _read_token(printed: bytes) -> tuple[str, float]:
    """A token and until when it counts, in seconds since 1970."""
    try:
        answer = json.loads(printed)
        token = answer["accessToken"]
        # `expires_on` is there since 2.54; the older `expiresOn` is local time without a zone.
        until = float(answer.get("expires_on") or time.time() + _LIFE + _EARLY)
    except (ValueError, LookupError, TypeError, AttributeError) as problem:
        raise EntraError(
            "the Azure CLI answered with something that is no token", hint="update it: az upgrade"
        ) from problem
    return str(token), until - _EARLY


def selected_subscription(environment: Mapping[str, str], home: Path) -> str:
    """The subscription that the Azure CLI has selected in its current cloud; empty where it has none."""
    folder = Path(environment.get("AZURE_CONFIG_DIR") or home / ".azure")
    cloud = _read_ini(folder / "config").get("cloud", "name", fallback="AzureCloud")
    return _read_ini(folder / "clouds.config").get(cloud, "subscription", fallback="")


def _read_ini(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, configparser.Error):
        return configparser.ConfigParser()
    return parser


def home_folder() -> Path:
    """The user's, also where there is no such variable."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111  # Path.home raises where there is none
