"""Every recorded case of the Go reference, by effect; where ours differs on purpose, the table says how."""

from __future__ import annotations

import pytest

import vectors
from vectors import PROXIES, Vector, answer, apply, authors_part, containers, effect, preserved

CASES = vectors.load_all()
ALLOWED = [case for case in CASES if answer(case)["response"]["allowed"]]

# Cases where the reference lets a Pod in and ours does not: words that the message must hold (docs/differences.md).
NOW_REFUSED = {
    "proxy-port--1-native": ("azure.workload.identity/proxy-sidecar-port", '"-1"', "1 to 65535"),
    "proxy-port-0-classic": ("azure.workload.identity/proxy-sidecar-port", '"0"', "1 to 65535"),
    "proxy-windows-os-classic": ("Windows",),
    "proxy-windows-selector-native": ("Windows",),
    "volume-parent-mountpath": ('"mine"', '"azure-workload-identity-reserved-token"', "/var/run/secrets/azure"),
    "volume-same-mountpath-slash": ('"mine"', '"azure-workload-identity-reserved-token"', "/var/run/secrets/azure/wi/"),
}
# Cases where the reference refuses and ours lets in: `false` means no proxy.
NOW_ALLOWED = {"proxy-hostnetwork-false-value-classic", "proxy-hostnetwork-false-value-native"}
# The same for cases in which both let the Pod in, and the reference adds a proxy that nobody asked for.
NO_PROXY = NOW_ALLOWED | {"proxy-value-0-native", "proxy-value-false-native"}

# Refusals of both: words of ours. Bad values are told by annotation, value and what is allowed (D 6).
REFUSALS = {
    "serviceaccounts": ('serviceaccounts "sa" not found',),
    "hostNetwork": ("hostNetwork is set to true, cannot inject proxy sidecar",),
    "proxy sidecar port": ("azure.workload.identity/proxy-sidecar-port", "1 to 65535"),
    "token expiration": ("azure.workload.identity/service-account-token-expiration", "3600 and 86400"),
    "strconv.ParseInt": ("azure.workload.identity/service-account-token-expiration", "3600 and 86400"),
    "no content": ("there is no content to decode",),
    "json parse error": ("couldn't get version/kind; json parse error: ",),
    "unable to decode": ("unable to decode apps/v1, Kind=Deployment into *v1.Pod",),
}


def name(case: Vector) -> str:
    """The case's name, for pytest."""
    return case.id


@pytest.mark.parametrize("case", CASES, ids=name)
def test_lets_in_or_refuses_as_the_reference_except_on_purpose(case: Vector) -> None:
    """A Pod is let in exactly where the reference lets it in, but for the differences of the tables."""
    expected = (case.reference["allowed"] and case.id not in NOW_REFUSED) or case.id in NOW_ALLOWED

    answered = answer(case)["response"]

    assert expected == answered["allowed"], answered["status"]
    assert (200 if expected else 400) == answered["status"]["code"]


@pytest.mark.parametrize("case", [case for case in CASES if case not in ALLOWED], ids=name)
def test_refusals_say_what_where_and_what_is_allowed(case: Vector) -> None:
    """The message names the annotation or object, the value and what is allowed."""
    message = answer(case)["response"]["status"]["message"]
    theirs = case.reference["message"] or ""

    words = NOW_REFUSED.get(case.id) or next(ours for start, ours in REFUSALS.items() if start in theirs)

    assert all(word in message for word in words), message


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_programs_see_what_the_reference_shows_them(case: Vector) -> None:
    """Each container of the Pod has the same variables and finds the same token."""
    pod = apply(case.pod, answer(case))
    ours = effect(pod)
    if case.id in NOW_ALLOWED:
        assert all(seen["tokens"] for seen in ours.values())
        return
    theirs = effect(case.reference["mutatedPod"])
    if case.id == "cte-ca-data":
        # No CA file is projected, so none is named (D 17).
        for seen in theirs.values():
            del seen["variables"]["AZURE_KUBERNETES_CA_FILE"]
    if case.id == "unknown-big-int":
        # Its grace period is very long, so the token lives longer (D 14).
        for seen in theirs.values():
            seen["tokens"][0]["expiration"] = 86400
    if "rename" in case.id:
        # The reference mounts twice at one path, which the API server refuses; one mount is enough (D 2).
        for seen in theirs.values():
            seen["tokens"] = seen["tokens"][:1]
    assert theirs == ours


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_nothing_of_the_pod_is_lost(case: Vector) -> None:
    """Whatever the Pod held, known or unknown, is in it afterwards, in the same order."""
    assert preserved(authors_part(case.pod), apply(case.pod, answer(case)))


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_a_second_pass_changes_nothing(case: Vector) -> None:
    """The patched Pod, sent again, gets an answer without a patch."""
    pod = apply(case.pod, answer(case))

    again = answer(case, case.body_with(pod))["response"]

    assert "patch" not in again
    assert "patchType" not in again


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_a_renamed_pod_with_one_more_container_stays_valid(case: Vector) -> None:
    """After another webhook renamed the Pod and added a container, no path and no name stands twice."""
    pod = apply(case.pod, answer(case))
    pod = {**pod, "metadata": {**(pod.get("metadata") or {}), "name": "renamed", "generateName": "other-"}}
    pod["spec"] = {
        **pod["spec"],
        "containers": [*(pod["spec"].get("containers") or ()), {"name": "late", "image": "x"}],
    }

    pod = apply(pod, answer(case, case.body_with(pod)))

    assert all(
        len(paths) == len(set(paths))
        for _, container in containers(pod)
        for paths in [[mount["mountPath"].rstrip("/") for mount in container.get("volumeMounts") or ()]]
    )
    volumes = [volume["name"] for volume in pod["spec"].get("volumes") or ()]
    assert len(volumes) == len(set(volumes))
    assert effect(pod)["containers/late"]["tokens"]


@pytest.mark.parametrize("case", ALLOWED, ids=name)
def test_the_proxy_comes_once_and_where_it_was_asked_for(case: Vector) -> None:
    """azwi-proxy-init, then azwi-proxy, before all init containers; once; in the mode of the API server's version."""
    before = [container.get("name") for _, container in containers(case.pod)]
    pod = apply(case.pod, answer(case))
    places = [place for place, _ in containers(pod)]
    wanted = case.id not in NO_PROXY and any(
        container.get("name") in PROXIES for _, container in containers(case.reference["mutatedPod"])
    )

    for proxy in PROXIES:
        found = [place for place in places if place.endswith(f"/{proxy}")]
        assert (1 if wanted else before.count(proxy)) == len(found)
    if wanted and not set(PROXIES) & set(before):
        first = [f"initContainers/{PROXIES[1]}", f"initContainers/{PROXIES[0]}"]
        if not case.data["config"]["native_sidecar"]:
            first = [first[0]]
            assert PROXIES[0] == pod["spec"]["containers"][0]["name"]
        assert first == places[: len(first)]


def test_answers_repeat_version_kind_and_uid() -> None:
    """v1 and v1beta1 and unknown versions are answered in their own words; a review without uid gets an empty one."""
    for case in (
        vectors.load("transport-v1beta1"),
        vectors.load("transport-unknown-version"),
        vectors.load("basic-no-name"),
    ):
        answered = answer(case)

        assert case.data["review"]["apiVersion"] == answered["apiVersion"]
        assert case.data["review"]["kind"] == answered["kind"]
        assert case.data["review"]["request"]["uid"] == answered["response"]["uid"]
    assert answer(vectors.load("transport-no-uid"))["response"]["uid"] == ""
