"""The clerk: a child process that thinks about certificates and ends, and how it is asked.

`cryptography` takes 12 MiB that a webhook does not need to serve. The clerk is asked at the start, when Secret or
configuration change, and twice a day. Questions and answers are JSON documents through pipes, so no key stands in an
argument list or on a disk; bytes are base64 in them, as in a Secret.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import msgspec

from azwi.errors import ClusterError

_DEADLINE: Final = 30.0  # seconds; it takes a fifth of one


class Question(msgspec.Struct, omit_defaults=True):
    """What is asked: about own certificates all of it, about somebody else's `certificate` alone.

    Attributes:
        certificate: PEM.
        secret: The Secret's data.
        bundles: The caBundle of every entry of the configuration.
        settled: Seconds for which the bundles have been what they are.
        names: What API servers call us by.
        serving: Certificates that are served now: the authority's and the server's; empty where none is.
    """

    certificate: bytes = b""
    secret: dict[str, bytes] = {}
    bundles: list[bytes] = []
    settled: float = 0.0
    names: list[str] = []
    serving: tuple[bytes, bytes] = (b"", b"")


class Reply(msgspec.Struct):
    """What is to be done, as `rotation.Step` says; `expiry` in seconds since 1970."""

    expiry: dict[str, float] = {}
    why: str = ""
    wait: float = 0.0
    secret: dict[str, bytes | None] = {}
    bundle: bytes | None = None


async def ask(question: Question) -> Reply:
    """Let a clerk answer.

    Raises:
        ClusterError: It could not be started, failed or took too long.
    """
    pipe = asyncio.subprocess.PIPE
    try:
        clerk = await asyncio.create_subprocess_exec(sys.executable, "-m", __name__, stdin=pipe, stdout=pipe)
    except OSError as problem:
        raise ClusterError(f"certificates cannot be looked at: {problem.strerror}") from problem
    try:
        out, _ = await asyncio.wait_for(clerk.communicate(msgspec.json.encode(question)), _DEADLINE)
    except TimeoutError as problem:
        raise ClusterError(f"certificates could not be looked at within {_DEADLINE:.0f} s") from problem
    finally:
        if clerk.returncode is None:
            clerk.kill()
            await clerk.wait()
    if clerk.returncode:
        raise ClusterError(f"looking at certificates ended with {clerk.returncode}; its own words stand above")
    return msgspec.json.decode(out, type=Reply)


def answer(question: Question, now: float) -> Reply:
    """The answer at a time in seconds since 1970."""
    from azwi.webhook.certificates.issuance import read_facts  # noqa: PLC0415  # only the child pays for it
    from azwi.webhook.certificates.rotation import Observed, plan_step  # noqa: PLC0415

    if question.certificate:
        facts = read_facts(question.certificate)
        return Reply({} if facts is None else {"leaf": facts.not_after})
    observed = Observed(
        question.secret, tuple(question.bundles), question.settled, tuple(question.names), question.serving
    )
    step = plan_step(observed, now)
    return Reply(dict(step.expiry), step.why, step.wait, dict(step.secret), step.bundle)


def main() -> None:
    """Answer one question, from standard input to standard output."""
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    sys.stdout.buffer.write(msgspec.json.encode(answer(question, time.time())))


if __name__ == "__main__":
    main()
