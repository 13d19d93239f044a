"""Credentials from an exec plugin, such as kubelogin's, as kubectl asks for them.

Source: kubernetes.io/docs/reference/access-authn-authz/authentication, "client-go credential plugins"; client
authentication API v1 and v1beta1.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import httpx2
import msgspec

from azwi.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from lightkube.config.models import Cluster, UserExec

VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_DEADLINE: Final = 60.0  # seconds; a plugin may ask its own server
_EARLY: Final = 10.0  # seconds before its end at which a credential is asked for anew
_UNAUTHORIZED: Final = 401


class _Status(msgspec.Struct, rename="camel"):
    token: str = ""
    expiration_timestamp: str | None = None


class _Credential(msgspec.Struct, rename="camel"):
    api_version: str
    status: _Status | None = None


class ExecPlugin(httpx2.Auth):
    """Signs requests with the token of a plugin, which is asked again when it expires or is refused."""

    def __init__(self, plugin: UserExec, cluster: Cluster) -> None:
        if plugin.apiVersion not in VERSIONS:
            raise ClusterError(
                f"exec plugin {plugin.command}: apiVersion {plugin.apiVersion} is not known",
                hint=f"known are {' and '.join(VERSIONS)}",
            )
        self._plugin = plugin
        self._cluster = cluster
        self._token = ""
        self._until = 0.0
        self._asking: asyncio.Task[None] | None = None

    async def async_auth_flow(self, request: httpx2.Request) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
        """Send with the token; once more with a fresh one where it is refused."""
        token = await self._obtain()
        request.headers["Authorization"] = f"Bearer {token}"
        response = yield request
        if response.status_code == _UNAUTHORIZED:
            request.headers["Authorization"] = f"Bearer {await self._obtain(refused=token)}"
            yield request

    async def _obtain(self, refused: str = "") -> str:
        """The token; whoever needs a new one shares one run of the plugin, which goes on if they give up."""
        if not self._token or self._token == refused or time.time() >= self._until:
            if self._asking is None:
                self._asking = asyncio.create_task(self._renew())
                self._asking.add_done_callback(self._asked)
            await asyncio.shield(self._asking)
        return self._token

    async def _renew(self) -> None:
        status = read_credential(await self._run(), self._plugin)
        self._token, self._until = status.token, _end_of(status, self._plugin)

    def _asked(self, task: asyncio.Task[None]) -> None:
        self._asking = None
        if not task.cancelled():
            task.exception()  # told to those who wait, and nobody may be left

    async def _run(self) -> bytes:
        """What the plugin prints.

        Raises:
            ClusterError: It is missing or fails; its own words are shown, which hold no credential by its contract.
        """
        plugin = self._plugin
        environment = dict(os.environ) | {variable.name: variable.value for variable in plugin.env or ()}
        environment["KUBERNETES_EXEC_INFO"] = json.dumps(render_exec_info(plugin, self._cluster))
        pipe = asyncio.subprocess.PIPE
        try:
            process = await asyncio.create_subprocess_exec(
                plugin.command,
                *(plugin.args or ()),
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe,
                stderr=pipe,
            )
        except OSError as problem:
            hint = plugin.installHint or "install it, or correct users.user.exec.command"
            raise ClusterError(f"exec plugin {plugin.command}: {problem.strerror}", hint=hint) from problem
        try:
            out, err = await asyncio.wait_for(process.communicate(), _DEADLINE)
        except TimeoutError as problem:
            raise ClusterError(f"exec plugin {plugin.command} gave no answer within {_DEADLINE:.0f} s") from problem
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            words = " ".join(err.decode(errors="replace").split())[-500:]
            raise ClusterError(f"exec plugin {plugin.command} ended with {process.returncode}: {words}")
        return out


def render_exec_info(plugin: UserExec, cluster: Cluster) -> dict[str, Any]:
    """What the plugin is told in KUBERNETES_EXEC_INFO."""
    about: dict[str, Any] = {"server": cluster.server}
    if cluster.certificate_auth_data:
        about["certificate-authority-data"] = cluster.certificate_auth_data
    if cluster.insecure:
        about["insecure-skip-tls-verify"] = True
    return {
        "apiVersion": plugin.apiVersion,
        "kind": "ExecCredential",
        "spec": {"cluster": about, "interactive": False},
    }


def read_credential(printed: bytes, plugin: UserExec) -> _Status:
    """The credential that a plugin printed.

    Raises:
        ClusterError: It is no ExecCredential of the version asked for, or has no token.
    """
    try:
        credential = msgspec.json.decode(printed, type=_Credential)
    except (msgspec.MsgspecError, ValueError) as problem:
        raise ClusterError(f"exec plugin {plugin.command} printed no ExecCredential") from problem
    if credential.api_version != plugin.apiVersion:
        raise ClusterError(
            f"exec plugin {plugin.command} answered in {credential.api_version}, not in {plugin.apiVersion}"
        )
    if credential.status is None or not credential.status.token:
        raise ClusterError(
            f"exec plugin {plugin.command} gave no token",
            hint="plugins that give a client certificate are not supported",
        )
    return credential.status


def _end_of(status: _Status, plugin: UserExec) -> float:
    """When to ask again, in seconds since 1970; never for a credential without an end.

    Raises:
        ClusterError: Its end is no time.
    """
    if status.expiration_timestamp is None:
        return float("inf")
    try:
        return datetime.fromisoformat(status.expiration_timestamp).timestamp() - _EARLY
    except (ValueError, OverflowError) as problem:
        raise ClusterError(
            f"exec plugin {plugin.command} gave a token whose expirationTimestamp is no time"
        ) from problem
