"""The file of the identity policy, read again when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import yaml

from azwi.errors import ConfigurationError
from azwi.webhook.files import FollowedFiles
from azwi.webhook.policy import IdentityPolicy, parse_policy

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES: Final = 1 << 20


class PolicyFile:
    """A policy that is followed; one that cannot be read later on leaves the last good one in force.

    Raises:
        ConfigurationError: It cannot be read, or is no policy.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.policy = IdentityPolicy(())
        self._files = FollowedFiles("identity policy", lambda: [path], self._read)
        self.refresh = self._files.refresh

    def _read(self) -> None:
        try:
            with self._path.open("rb") as file:
                text = file.read(_MAX_BYTES + 1)
            if len(text) > _MAX_BYTES:
                raise ConfigurationError(f"{self._path} is larger than {_MAX_BYTES} bytes")
            document = yaml.safe_load(text)
        except OSError as problem:
            raise ConfigurationError(f"--identity-policy {self._path} cannot be read: {problem.strerror}") from problem
        except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as problem:
            words = " ".join(str(problem).split())
            raise ConfigurationError(f"--identity-policy {self._path} is no YAML: {words}") from problem
        self.policy = parse_policy(document, str(self._path))
