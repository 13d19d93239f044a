"""The documents say what the programs do: names, flags, warnings, and the demo's output in the README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from azwi import contract
from azwi.cli.main import azwi
from azwi.cli.reference import START, render_reference
from azwi.identity import manifest
from azwi.proxy.options import FLAGS as PROXY_FLAGS
from azwi.webhook.metrics import Metrics

ROOT = Path(__file__).parents[2]
WEBHOOK = (ROOT / "docs" / "webhook.md").read_text()
PROXY = (ROOT / "docs" / "proxy.md").read_text()
ADMISSION = "\n".join(path.read_text() for path in (ROOT / "src" / "azwi" / "admission").glob("*.py"))

ANNOTATIONS = sorted(value for name, value in vars(contract).items() if name.endswith("_ANNOTATION"))


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_every_annotation_is_documented(annotation: str) -> None:
    """Whoever looks for an annotation finds it in docs/webhook.md."""
    assert annotation.removeprefix(contract.PREFIX) in WEBHOOK


def test_every_warning_is_documented_and_every_documented_one_exists() -> None:
    """The table of warnings and the code know the same words."""
    table = WEBHOOK.partition("## Warnings")[2].partition("\n## ")[0]
    documented = {
        word for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for word in re.findall(r"`([\w-]+)`", row)
    }

    assert set(re.findall(r'warn\(\s*"([\w-]+)"', ADMISSION)) == documented


def test_the_proxys_flags_are_documented_with_their_defaults() -> None:
    """docs/proxy.md lists exactly the flags there are."""
    documented = set(re.findall(r"^\| `--([\w-]+)`", PROXY, re.MULTILINE))

    assert {flag.name for flag in PROXY_FLAGS} == documented


def test_every_metric_of_the_webhook_is_documented_and_every_documented_one_exists() -> None:
    """docs/webhook.md and the exposition have the same names."""
    documented = set(re.findall(r"^\| `(azwi_\w+)", WEBHOOK, re.MULTILINE))

    assert set(re.findall(r"^# HELP (\S+)", Metrics().render().decode(), re.MULTILINE)) == documented


def test_the_reference_of_azwi_is_what_its_commands_say() -> None:
    """docs/azwi.md shows every command's own help; `make docs` writes it."""
    written = (ROOT / "docs" / "azwi.md").read_text().partition(START)[2].strip()

    assert written == render_reference(azwi, "azwi").strip()


def test_the_file_of_apply_is_the_same_in_every_document() -> None:
    """The example of docs/azwi.md is the module's, which a test reads."""
    example = (manifest.__doc__ or "").partition("```yaml\n")[2].partition("```")[0]

    assert example in (ROOT / "docs" / "azwi.md").read_text()


def test_no_document_names_a_difference_that_is_not_listed() -> None:
    """Each "D n" in the code is an item of docs/differences.md."""
    listed = {
        int(number) for number in re.findall(r"^(\d+)\. ", (ROOT / "docs" / "differences.md").read_text(), re.MULTILINE)
    }
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))

    named = {int(number) for number in re.findall(r"\bD (\d+)\b", code)}

    assert named
    assert named <= listed


def test_no_source_names_a_section_that_does_not_exist() -> None:
    """Each "R n" in the code is a section of docs/reference-behaviour.md."""
    text = (ROOT / "docs" / "reference-behaviour.md").read_text()
    sections = set(re.findall(r"^##+ (\d+(?:\.\d+)?)", text, re.MULTILINE))
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))

    named = set(re.findall(r"\bR (\d+(?:\.\d+)?)\b", code))

    assert named
    assert named <= sections
