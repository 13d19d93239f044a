"""A container's program as a witness: what it gets, told by itself, and proved by what the authority publishes."""

from __future__ import annotations

import json
import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx2
import jwt

from azwi.errors import LocalError
from azwi.local.processes import base_environment, find_program

if TYPE_CHECKING:
    from pathlib import Path

    from azwi.local.pod import JsonObject
    from azwi.local.running import RunningPod

PROGRAM_DEADLINE: Final = 30  # seconds
_ACCESS_TOKEN_ALGORITHM: Final = "RS256"  # noqa: S105  # an algorithm's name


@dataclass(frozen=True, slots=True)
class Entra:
    """Where the emulator is; `trust` are the variables by which programs trust it."""

    authority: str
    issuer: str
    ca_file: str
    trust: dict[str, str]


@dataclass(frozen=True, slots=True)
class Witness:
    """Runs programs against one emulator, and verifies what they got.

    Attributes:
        entra: The emulator.
        tenant_id: Whose tokens are to be verified.
    """

    entra: Entra
    tenant_id: str

    def run_program(self, program: Path, pod: RunningPod, *arguments: str, without: tuple[str, ...] = ()) -> JsonObject:
        """Run a program in a process of its own with the environment of the Pod's container `app`.

        Args:
            program: A Python file that prints one JSON object.
            pod: Whose environment it gets; nothing of ours but PATH and the emulator's CA.
            arguments: The program's.
            without: Variables that it does not get.

        Raises:
            LocalError: It printed no JSON object.
        """
        environment = {**base_environment(), **pod.environment("app"), **self.entra.trust}
        for name in without:
            environment.pop(name, None)
        run = subprocess.run(  # noqa: S603  # the examples' program
            [find_program("python"), str(program), *arguments],
            env=environment,
            capture_output=True,
            timeout=PROGRAM_DEADLINE,
            check=False,
        )
        try:
            printed: JsonObject = json.loads(run.stdout)
        except ValueError as problem:
            last = run.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise LocalError(f"{program.name} ended with {run.returncode}: {last}") from problem
        return printed

    def verify(self, token: str, resource: str) -> JsonObject:
        """The claims of an access token, verified with the keys that the authority publishes.

        Raises:
            LocalError: It does not verify.
        """
        tenant = self.entra.authority + self.tenant_id
        with httpx2.Client(verify=ssl.create_default_context(cafile=self.entra.ca_file), trust_env=False) as client:
            configuration = client.get(f"{tenant}/.well-known/openid-configuration").raise_for_status().json()
            keys = jwt.PyJWKSet.from_dict(client.get(configuration["jwks_uri"]).raise_for_status().json())
        try:
            key = keys[jwt.get_unverified_header(token)["kid"]]
            claims: JsonObject = jwt.decode(
                token, key, algorithms=[_ACCESS_TOKEN_ALGORITHM], audience=resource, issuer=configuration["issuer"]
            )
        except (jwt.PyJWTError, KeyError) as problem:
            raise LocalError(f"the access token does not verify: {problem}") from problem
        return claims
