"""The national clouds: every address of a cloud is in that cloud."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from azwi.entra.clouds import CHINA, GERMAN, PUBLIC, US_GOVERNMENT, Cloud, find_cloud, parse_authority_host


@pytest.mark.parametrize(
    ("cloud", "domain"),
    [(PUBLIC, ".com"), (US_GOVERNMENT, (".us", ".net")), (CHINA, ".cn"), (GERMAN, ".de")],
    ids=lambda value: value.name if isinstance(value, Cloud) else "",
)
def test_no_address_leaves_its_cloud(cloud: Cloud, domain: str | tuple[str, ...]) -> None:
    """Authority, Graph and Resource Manager are https addresses of the same cloud."""
    for address in (cloud.authority_host, cloud.graph, cloud.resource_manager):
        assert urlsplit(address).scheme == "https"
        assert (urlsplit(address).hostname or "").endswith(domain)


def test_a_cloud_is_found_by_its_own_name() -> None:
    """Whatever the case; the empty name is the public cloud."""
    for cloud in (PUBLIC, US_GOVERNMENT, CHINA, GERMAN):
        assert find_cloud(cloud.name) is cloud
        assert find_cloud(cloud.name.lower()) is cloud
    assert find_cloud("") is PUBLIC


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("https://login.microsoftonline.com", "https://login.microsoftonline.com/"),
        ("https://localhost:8443//", "https://localhost:8443/"),
        ("https://stack/adfs", "https://stack/adfs/"),
    ],
)
def test_authorities_end_with_one_slash(given: str, expected: str) -> None:
    """As the SDKs' variable does; a port and a path are allowed."""
    assert parse_authority_host(given, "X") == expected
