"""Claims matching expressions of flexible federated credentials, as far as service accounts need them. Pure.

Source: Microsoft Learn, "Flexible federated identity credentials": `claims['sub'] eq 'text'`, `matches` with `*` for
any characters and `?` for one, joined by `and`.
"""

from __future__ import annotations

import re
from typing import Final

_TERM: Final = re.compile(r"claims\['(?P<claim>\w+)'\]\s+(?P<operator>eq|matches)\s+'(?P<value>[^']*)'")
_AND: Final = re.compile(r"\s+and\s+")


def is_expression(text: str) -> bool:
    """Whether it is one, and asks of the subject only."""
    terms = [_TERM.fullmatch(term) for term in _AND.split(text.strip())]
    return all(term is not None and term["claim"] == "sub" for term in terms)


def matches_subject(expression: str, subject: str) -> bool:
    """Whether a token with that subject is meant; the expression is one."""
    return all(_holds(term, subject) for term in _AND.split(expression.strip()))


def _holds(term: str, subject: str) -> bool:
    found = _TERM.fullmatch(term)
    if found is None:
        return False
    if found["operator"] == "eq":
        return found["value"] == subject
    pattern = re.escape(found["value"]).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(pattern, subject) is not None
