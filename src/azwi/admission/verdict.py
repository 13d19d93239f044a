"""What a look at a Pod can end in besides an injection: a refusal, and warnings beside either."""

from __future__ import annotations

from typing import Final

import msgspec

from azwi.contract import MAX_WARNING_LENGTH

BAD_REQUEST: Final = 400


class Refusal(msgspec.Struct, frozen=True):
    """The Pod may not be created; `message` is shown to its author, `reason` is a stable word for metrics."""

    reason: str
    message: str
    code: int = BAD_REQUEST


class AdmissionWarning(msgspec.Struct, frozen=True):
    """A sentence that kubectl prints (D 7); `reason` is a stable word for metrics, Events and tests.

    `fatal`: what it tells of cannot work, so strict mode refuses the Pod.
    """

    reason: str
    text: str
    fatal: bool = False


def warn(reason: str, text: str, *, fatal: bool = False) -> AdmissionWarning:
    """A warning of one line and at most 120 characters."""
    line = "".join(character if character.isprintable() else "?" for character in text)
    if len(line) > MAX_WARNING_LENGTH:
        line = line[: MAX_WARNING_LENGTH - 1] + "…"
    return AdmissionWarning(reason, line, fatal)


def refuse_annotation(reason: str, annotation: str, value: str, allowed: str, *, on: str = "Pod") -> Refusal:
    """A refusal that names the annotation, its value and what is allowed (D 6)."""
    shown = value if len(value) <= MAX_WARNING_LENGTH else value[:MAX_WARNING_LENGTH] + "…"
    return Refusal(reason, f'annotation {annotation} on the {on} is "{shown}"; allowed: {allowed}')
