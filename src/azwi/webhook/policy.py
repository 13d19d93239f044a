"""The identity policy: which namespaces may use which client ids. Off unless a file is named; no I/O.

```yaml
rules:
  - namespaces: [shop, team-*]               # names or globs: *, ? and [..]
    clientIds: [22222222-2222-2222-2222-222222222222]
  - namespaces: [sandbox]
    clientIds: ["*"]                         # any, also by client-id-from
```

What no rule allows is refused. Entra decides in the end; this says no earlier, and by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

import msgspec

from azwi.admission.values import is_guid
from azwi.admission.verdict import Refusal
from azwi.errors import ConfigurationError, sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from azwi.admission.serviceaccount import ServiceAccount

ANY: Final = "*"
REASON: Final = "identity-not-allowed"
_SHOWN: Final = 5  # client ids that a refusal lists
_FORM: Final = "rules: [{namespaces: [name or glob], clientIds: [GUID or *]}]"


class _Rule(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    namespaces: list[str]
    client_ids: list[str]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    rules: list[_Rule]


@dataclass(frozen=True, slots=True)
class Rule:
    """Namespaces, and the client ids, in lower case, that they may use."""

    namespaces: tuple[str, ...]
    client_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class IdentityPolicy:
    """All rules; each one allows, none forbids."""

    rules: tuple[Rule, ...]

    def allowed_in(self, namespace: str) -> frozenset[str]:
        """The client ids that a namespace may use; `*` among them means any."""
        matching = (rule for rule in self.rules if any(fnmatchcase(namespace, glob) for glob in rule.namespaces))
        return frozenset[str]().union(*(rule.client_ids for rule in matching))

    def refusal(self, namespace: str, name: str, account: ServiceAccount) -> Refusal | None:
        """Why the Pods of a service account may not have its identity; None where they may, or it has none."""
        asked = account.client_id.lower()
        allowed = self.allowed_in(namespace)
        if ANY in allowed or asked in allowed or (not asked and account.client_id_from is None):
            return None
        what = f'client id "{account.client_id}"' if asked else "a client id from a ConfigMap"
        listed = ", ".join(sorted(allowed)[:_SHOWN]) + (", …" if len(allowed) > _SHOWN else "")
        return Refusal(
            REASON,
            f'service account "{name}" may not use {what} in namespace "{namespace}": the cluster\'s identity policy '
            f"allows {listed or 'none'} there; ask whoever runs the cluster, or correct the service account",
        )


def parse_policy(document: object, where: str) -> IdentityPolicy:
    """Read a policy document; all problems of its values are reported together.

    Args:
        document: What `yaml.safe_load` made of the file.
        where: The file's name, for errors.

    Raises:
        ConfigurationError: A field is missing, unknown, of a wrong type or holds a value that is not allowed.
    """
    try:
        read = msgspec.convert(document, type=_Document)
    except msgspec.ValidationError as problem:
        raise ConfigurationError(f"{where}: {problem}", hint=f"allowed is {_FORM}") from problem
    problems = [f"{where}: {problem}" for problem in _problems(read)]
    if problems:
        raise ConfigurationError(sentence(problems))
    return IdentityPolicy(
        tuple(
            Rule(tuple(rule.namespaces), frozenset(client_id.lower() for client_id in rule.client_ids))
            for rule in read.rules
        )
    )


def _problems(document: _Document) -> Iterator[str]:
    for number, rule in enumerate(document.rules):
        if not rule.namespaces or "" in rule.namespaces:
            yield f"rules[{number}].namespaces: names or globs are needed, none of them empty"
        for client_id in rule.client_ids:
            if client_id != ANY and not is_guid(client_id):
                yield f"rules[{number}].clientIds: {client_id!r} is neither a GUID nor *"
