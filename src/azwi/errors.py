"""One tree of errors, by whose fault it is.

Every error says what happened, where, what is allowed and what to do. Programs print `str(error)` on stderr and
leave with `error.exit_code`; a traceback is always a defect of ours.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers know it; `typing` itself would be a sixth of what azwi-proxy's probe takes
if TYPE_CHECKING:
    from typing import ClassVar


class AzwiError(Exception):
    """The root: a sentence for people, a stable code for programs, a hint that says what to do.

    Args:
        message: What happened and where; one sentence without a full stop. Never holds a secret.
        hint: What to do about it, or nothing.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


class FlagError(AzwiError):
    """The caller's: a flag is unknown or has a value that is not allowed. Exit 2, as the reference."""

    code = "flag"
    exit_code = 2


class ConfigurationError(AzwiError):
    """The installer's: an environment variable, a configuration key or a file it names is wrong."""

    code = "configuration"


class ManifestError(AzwiError):
    """The author's: a manifest cannot be read or does not hold what it must. Names file and field."""

    code = "manifest"


class ServiceAccountUnreadableError(AzwiError):
    """The cluster's: the service account could not be read; `message` is the API server's own text."""

    code = "service-account-unreadable"


class ClusterError(AzwiError):
    """The API server's, or the way there; `message` is the server's own text where it gave one.

    Attributes:
        status: The HTTP status that the server answered with; 0 where it gave no answer.
    """

    code = "cluster"

    def __init__(self, message: str, *, hint: str = "", status: int = 0) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class EntraError(AzwiError):
    """Microsoft Entra's, or the way there: a token could not be had."""

    code = "entra"


class RedirectError(AzwiError):
    """The Pod's: the redirect of metadata traffic could not be set, or does not work."""

    code = "redirect"


class LocalError(AzwiError):
    """This machine's: a program that we started did not come up, ended early or answered wrongly."""

    code = "local"


def sentence(problems: list[str]) -> str:
    """Several problems as one sentence, each once, in the order found."""
    return "; ".join(dict.fromkeys(problems))
