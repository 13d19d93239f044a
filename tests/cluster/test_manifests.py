"""Manifests are read as Kubernetes reads them."""

from __future__ import annotations

import json

import pytest

from azwi.cluster.manifests import load_documents, reads_as_text
from azwi.errors import ManifestError


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        (420, "0644"),
        (420, "0o644"),
        (31, "0x1F"),
        (5, "0b101"),
        (1000, "1_000"),
        (1000.0, "1e3"),
        (89.0, "089"),
        (1.1, "1.10"),
        (True, "y"),
        (True, "on"),
        (False, "No"),
        (None, "~"),
        ("yEs", "yEs"),
        ("22:22", "22:22"),
        ("1:30:45", "1:30:45"),
        ("1.2.3", "1.2.3"),
        ("2024-01-01", "2024-01-01"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("2024-01-01", "!!timestamp 2024-01-01"),
        ("0o", "0o"),
        ("=x", "=x"),
    ],
)
def test_a_value_is_what_kubernetes_makes_of_it(expected: object, text: str) -> None:
    """The expected values are what sigs.k8s.io/yaml v1.6.0 printed for the same lines."""
    (document,) = load_documents(f"a: {text}", "f")

    assert json.dumps({"a": expected}) == json.dumps(document)
    if "!" not in text:
        assert isinstance(expected, str) == reads_as_text(text)


@pytest.mark.parametrize("text", ["!!timestamp [a]", "!!bool x", "!!int ''", "!!float x", "!!python/name:os.system"])
def test_a_value_that_does_not_fit_its_tag_is_told(text: str) -> None:
    """One sentence with the file's name, whatever the parser makes of it."""
    with pytest.raises(ManifestError, match=r"^f is no YAML or JSON"):
        load_documents(f"a: {text}", "f")
