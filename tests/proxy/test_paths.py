"""Which place a path means, however it is written."""

from __future__ import annotations

import pytest

from azwi.proxy.paths import Passthrough, Place, Route, find_route

TOKEN = "/metadata/identity/oauth2/token"  # noqa: S105 - a path


@pytest.mark.parametrize(
    "path",
    [
        TOKEN,
        TOKEN + "/",
        TOKEN + "extra/more",
        "/METADATA/identity/oauth2/token",
        "/metaData/identity/oauth2/token",
        "/metadata%2Fidentity/oauth2/token",
        "/%6detadata/identity/oauth2/token",
    ],
)
def test_the_token_path_is_known_in_all_its_forms(path: str) -> None:
    """The word metadata in any case, percent-encoding decoded, anything after the prefix."""
    assert find_route(path, Passthrough.INSTANCE).place is Place.TOKEN


@pytest.mark.parametrize(
    ("path", "clean"),
    [
        ("//metadata//identity/oauth2/token", TOKEN),
        ("/metadata/./identity/oauth2/token", TOKEN),
        ("/metadata/instance/../identity/oauth2/token", TOKEN),
        ("/metadata/instance/%2e%2e/identity/info", "/metadata/identity/info"),
        ("/metadata/instance/..%2fidentity/", "/metadata/identity/"),
        ("/../..", "/"),
        ("//evil.example/..", "/"),
        ("//evil.example/x", "/evil.example/x"),
        ("/a//%0ab", None),
    ],
)
def test_a_path_that_is_not_clean_is_asked_for_again(path: str, clean: str | None) -> None:
    """Empty and dot segments lead to a redirect within this server, and nowhere else."""
    expected = Route(Place.AMBIGUOUS, path) if clean is None else Route(Place.UNCLEAN, clean)
    assert expected == find_route(path, Passthrough.ALL)


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/identity",
        "/metadata/identity/info",
        "/metadata/IDENTITY/oauth2/token",
        "/MetaData/Identity/oauth2/token",
        "/metadata/identity%2Finfo",
        "/metadata/%69dentity/info",
        "/metadata/identityfoo",
        "/metadata/identity;x=1/oauth2/token",
    ],
)
@pytest.mark.parametrize("passthrough", list(Passthrough))
def test_the_nodes_identity_is_never_passed_on(path: str, passthrough: Passthrough) -> None:
    """Whatever the policy, /metadata/identity in any writing does not reach the real service."""
    assert find_route(path, passthrough).place is Place.OTHER_IDENTITY


@pytest.mark.parametrize(
    "path",
    [
        "/metadata/instance\\..\\identity",
        "/metadata\\identity\\oauth2\\token",
        "/metadata/instance%5c..%5cidentity",
        "/metadata/instance/%252e%252e/identity",
        "/metadata/instance/%00",
        "/metadata/instance/%ff",
        "/metadata/inst%61nce",
        "/metadata;x/identity/oauth2/token",
        "metadata/instance",
        "*",
        "https://169.254.169.254/metadata/instance",
        "",
    ],
)
def test_a_path_that_servers_may_read_differently_is_refused(path: str) -> None:
    """Backslashes, double encoding, control characters and the like go nowhere."""
    assert find_route(path, Passthrough.ALL).place is Place.AMBIGUOUS


@pytest.mark.parametrize(
    ("path", "instance", "everything"),
    [
        ("/metadata/instance", Place.UPSTREAM, Place.UPSTREAM),
        ("/metadata/instance/compute/location", Place.UPSTREAM, Place.UPSTREAM),
        ("/Metadata/Instance", Place.UPSTREAM, Place.UPSTREAM),
        ("/metadata/versions", Place.UPSTREAM, Place.UPSTREAM),
        ("/metadata/scheduledevents", Place.UPSTREAM, Place.UPSTREAM),
        ("/metadata/loadbalancer", Place.UPSTREAM, Place.UPSTREAM),
        ("/metadata/instancefoo", Place.REFUSED, Place.UPSTREAM),
        ("/metadata/attested/document", Place.REFUSED, Place.UPSTREAM),
        ("/machine/plugins", Place.REFUSED, Place.UPSTREAM),
        ("/", Place.REFUSED, Place.UPSTREAM),
        ("/readyz", Place.READY, Place.READY),
        ("/readyzfoo", Place.READY, Place.READY),
        ("/healthz", Place.READY, Place.READY),
    ],
)
def test_the_policy_says_what_is_passed_on(path: str, instance: Place, everything: Place) -> None:
    """By default only what tells about the virtual machine; with `none` nothing."""
    assert instance is find_route(path, Passthrough.INSTANCE).place
    assert everything is find_route(path, Passthrough.ALL).place
    assert find_route(path, Passthrough.NONE).place in (Place.READY, Place.REFUSED)
