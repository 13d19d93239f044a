"""What the webhook would do to manifests, without a cluster: text in, text out, with comments and order kept."""

from __future__ import annotations

import copy
import io
import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

import jsonpatch
import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.resolver import VersionedResolver
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from azwi.admission.injection import plan_injection
from azwi.admission.patch import render_patch
from azwi.admission.pod import Pod
from azwi.admission.verdict import Refusal
from azwi.cluster.manifests import Manifest, load_documents, parse_manifests, reads_as_text
from azwi.errors import ManifestError
from azwi.local.workloads import PodTemplate, find_templates, has_shared_parts
from azwi.webhook.accounts import AccountKey, index_accounts
from azwi.webhook.mutation import account_missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from azwi.admission.serviceaccount import ServiceAccount
    from azwi.admission.settings import Settings

_NEVER_WRAP: Final = 1 << 16
# A key with a list below it: how far the dash is indented beyond the key.
_FIRST_LIST: Final = re.compile(r"^( *)(?:- )?[^\s#-][^#\n]*:[ ]*(?:#.*)?\n( *)- ", re.MULTILINE)


class Output(StrEnum):
    """What is printed."""

    YAML = "yaml"
    JSON = "json"
    PATCH = "patch"


@dataclass(slots=True)
class Injected:
    """The manifests afterwards, and what is to be told: warnings, and Pods that the webhook would refuse."""

    text: str = ""
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def read_accounts(sources: Iterable[tuple[bytes, str]]) -> dict[AccountKey, ServiceAccount]:
    """The service accounts of several files, by namespace and name.

    Args:
        sources: Each file's content and name.

    Raises:
        ManifestError: One cannot be read, or an account is there twice.
    """
    manifests: list[Manifest] = [manifest for content, where in sources for manifest in parse_manifests(content, where)]
    return index_accounts(manifests)


def inject_manifests(
    text: str, where: str, accounts: dict[AccountKey, ServiceAccount], settings: Settings, output: Output
) -> Injected:
    """Do to each labelled Pod and Pod template what the webhook would do.

    A Pod that would be refused stays as it is and is told. A Pod template that uses YAML's aliases is written out in
    full, because two containers may not share one list once one of them gets more.

    Args:
        text: YAML or JSON; one document, many, or Lists.
        where: The file's name, for errors.
        accounts: All service accounts that are known.
        settings: The webhook's.
        output: What to give.

    Raises:
        ManifestError: The text holds no manifests.
    """
    documents = [document for document in load_documents(text, where) if document is not None]
    if not documents:
        raise ManifestError(f"{where} holds no manifest")
    yaml = _round_trip(text)
    written = _load(yaml, text, where) if output is Output.YAML else []
    result, patches = Injected(), []
    for number, document in enumerate(documents, 1):
        place = f"{where}, document {number}"
        shared = has_shared_parts(document, place)
        templates = list(find_templates(document, place))
        pages = list(find_templates(written[number - 1], place)) if written else templates
        for template, page in zip(templates, pages, strict=True):
            if template.labelled:
                planned = _plan(template, accounts, settings, place, result)
                patches.append(planned)
                _change(template, page, planned.get("patch"), where=place, result=result, shared=shared)
    result.text = _print(yaml, documents, written, patches, output)
    return result


def _plan(
    template: PodTemplate,
    accounts: dict[AccountKey, ServiceAccount],
    settings: Settings,
    where: str,
    result: Injected,
) -> dict[str, Any]:
    """What is to be done to one template: its patch, or why it is refused, as -o patch prints it."""
    try:
        pod = msgspec.json.decode(_json(template.document, where), type=Pod)
    except msgspec.ValidationError as problem:
        raise ManifestError(f"{where}, {template.workload} cannot be read as a Pod: {problem}") from problem
    name = pod.service_account_name
    account = accounts.get((template.namespace, name))
    verdict = account_missing(template.namespace, name) if account is None else plan_injection(pod, account, settings)
    if isinstance(verdict, Refusal):
        result.refusals.append(f"{template.workload}: {verdict.message}")
        return {"workload": template.workload, "refused": verdict.message}
    result.warnings += [f"{template.workload}: {warning.text}" for warning in verdict.warnings]
    operations = json.loads(msgspec.json.encode(render_patch(pod, verdict)))
    return {"workload": template.workload, "patch": operations}


def _change(
    template: PodTemplate, page: PodTemplate, patch: list[Any] | None, *, where: str, result: Injected, shared: bool
) -> None:
    """Apply a patch to a template, and to the page of YAML that it is read from; they may be one."""
    if not patch:
        return
    if shared and has_shared_parts(template.document, where):
        plain = json.loads(_json(template.document, where))
        result.warnings.append(f"{template.workload}: its YAML aliases are written out")
        _replace(template.document, plain)
        if page is not template:
            _replace(page.document, _quoted(plain))
    jsonpatch.apply_patch(template.document, copy.deepcopy(patch), in_place=True)
    if page is not template:
        jsonpatch.apply_patch(page.document, _quoted(patch), in_place=True)


def _replace(document: MutableMapping[str, Any], instead: Mapping[str, Any]) -> None:
    document.clear()
    document.update(instead)


def _quoted(value: Any) -> Any:  # noqa: ANN401  # any JSON
    """The value with quotes around text that Kubernetes would read as something else without them."""
    if isinstance(value, dict):
        return {_quoted(name): _quoted(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_quoted(member) for member in value]
    return value if not isinstance(value, str) or reads_as_text(value) else DoubleQuotedScalarString(value)


def _json(document: object, where: str) -> str:
    try:
        return json.dumps(document, indent=2, default=_text, allow_nan=False)
    except ValueError as problem:
        raise ManifestError(f"{where} holds a number that JSON does not have") from problem


def _text(value: object) -> str:
    """What `!!binary` and other tags make, as text."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class _Resolver(VersionedResolver):
    """Times are text, so that they are written as they were read."""

    def add_version_implicit_resolver(self, version: Any, tag: Any, regexp: Any, first: Any) -> None:  # noqa: ANN401
        if not str(tag).endswith(":timestamp"):
            super().add_version_implicit_resolver(version, tag, regexp, first)


def _round_trip(text: str) -> YAML:
    """A YAML that writes as the text is written: quotes, line lengths, and how far lists are indented."""
    yaml = YAML()
    yaml.Resolver = _Resolver
    yaml.preserve_quotes = True
    yaml.width = _NEVER_WRAP
    first = _FIRST_LIST.search(text)
    offset = len(first[2]) - len(first[1]) if first else 0
    yaml.indent(mapping=2, sequence=2 + max(offset, 0), offset=max(offset, 0))
    yaml.explicit_start = text.startswith("---")
    return yaml


def _load(yaml: YAML, text: str, where: str) -> list[Any]:
    try:
        return [document for document in yaml.load_all(text) if document is not None]
    except (YAMLError, ValueError, RecursionError) as problem:
        detail = " ".join(str(problem).split()) or type(problem).__name__
        raise ManifestError(f"{where} is no YAML or JSON: {detail}") from problem


def _print(yaml: YAML, documents: list[Any], written: list[Any], patches: list[dict[str, Any]], output: Output) -> str:
    if output is Output.PATCH:
        return json.dumps(patches, indent=2) + "\n"
    if output is Output.JSON:
        whole = documents[0] if len(documents) == 1 else {"apiVersion": "v1", "kind": "List", "items": documents}
        return _json(whole, "the output") + "\n"
    stream = io.StringIO()
    yaml.dump_all(written, stream)
    return stream.getvalue()
