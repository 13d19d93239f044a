"""The identity map file."""

from __future__ import annotations

import pytest

from azwi.errors import ConfigurationError
from azwi.proxy.identity_map import parse_identity_maps


def test_names_mean_client_ids() -> None:
    """Each line gives client ids for other names; comments and empty lines are nothing."""
    text = "# ours\n\nobject_id=O-1,client_id=c-1  # first\n client_id = c-2 , mi_res_id = /Subscriptions/S/x \n"
    identities = parse_identity_maps([(text, "map")])
    assert len(identities) == 2
    assert identities.find("object_id", "o-1") == "c-1"
    assert identities.find("msi_res_id", "/subscriptions/s/X") == "c-2"


def test_old_and_new_names_are_the_same() -> None:
    """principal_id is object_id, msi_res_id is mi_res_id, in whichever file; one kind is never taken for the other."""
    identities = parse_identity_maps([("principal_id=p,client_id=c", "a"), ("msi_res_id=r,client_id=c", "b")])
    assert identities.find("object_id", "p") == "c"
    assert identities.find("mi_res_id", "r") == "c"
    assert identities.find("object_id", "r") is None


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("object_id=o", "client_id is missing"),
        ("client_id=c", "one of object_id"),
        ("object_id=,client_id=c", "object_id has no value"),
        ("object_id,client_id=c", "object_id has no value"),
        ("objectid=o,client_id=c", "'objectid' is not one of client_id"),
        ("object_id=o,object_id=p,client_id=c", "object_id is there twice"),
        ("object_id=first,client_id=other", "object_id 'first' already means another client_id"),
    ],
)
def test_a_bad_line_is_named(line: str, complaint: str) -> None:
    """What is wrong is told with file and line."""
    with pytest.raises(ConfigurationError) as caught:
        parse_identity_maps([(f"object_id=first,client_id=c\n{line}\n", "/etc/map")])
    assert f"/etc/map, line 2: {complaint}" in str(caught.value)


def test_all_bad_lines_are_told_at_once() -> None:
    """A file with two mistakes is mended in one go."""
    with pytest.raises(ConfigurationError) as caught:
        parse_identity_maps([("x\ny", "map")])
    assert "line 1" in str(caught.value)
    assert "line 2" in str(caught.value)


def test_client_ids_are_the_same_in_any_case() -> None:
    """GUIDs are written in both."""
    identities = parse_identity_maps([("object_id=o,client_id=AB", "a"), ("object_id=O,client_id=ab", "b")])
    assert "AB" == identities.find("object_id", "o")
