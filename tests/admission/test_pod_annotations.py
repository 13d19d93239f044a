"""What annotations may say, and what is warned about: items 5, 6 and 7 of docs/differences.md."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pods import (
    CLIENT,
    GUID,
    PLAIN,
    PREFIX,
    PROXY,
    SETTINGS,
    TENANT,
    JsonObject,
    make_pod,
    mutate,
    names,
    refusal,
    review,
    warnings,
)

from azwi.admission.serviceaccount import read_service_account

# --- 5, 6. The proxy's annotations --------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", "On", ""])
def test_words_that_switch_the_proxy_on(word: str) -> None:
    """D 5, whatever the case."""
    assert "azwi-proxy" in names(mutate(make_pod({"inject-proxy-sidecar": word})), "initContainers")


@pytest.mark.parametrize("word", ["false", "False", "0", "no", "OFF"])
def test_words_that_switch_the_proxy_off(word: str) -> None:
    """D 5; then the other annotations are not read, not even for errors."""
    pod = mutate(make_pod({"inject-proxy-sidecar": word, "proxy-sidecar-port": "x", "proxy-mode": "x"}))

    assert "initContainers" not in pod["spec"]


@pytest.mark.parametrize(
    ("annotation", "value", "allowed"),
    [
        ("inject-proxy-sidecar", "maybe", "true, 1, yes, on"),
        ("proxy-sidecar-port", "0", "1 to 65535"),
        ("proxy-sidecar-port", "65536", "1 to 65535"),
        ("proxy-sidecar-port", "80.5", "1 to 65535"),
        ("proxy-sidecar-port", "9" * 99, "1 to 65535"),
        ("proxy-mode", "Redirect", "redirect or environment"),
        ("proxy-quit", "maybe", "true, 1, yes, on"),
        ("proxy-native-sidecar", "auto", "true, 1, yes, on"),
        ("identity-map", "a/b", "the name of a ConfigMap"),
        ("proxy-cpu-request", "lots", "a Kubernetes quantity"),
        ("proxy-init-memory-limit", "1 Gi", "a Kubernetes quantity"),
        ("proxy-cpu-request", "2", "at most the cpu limit 500m"),
        ("service-account-token-expiration", "3599", "3600 and 86400"),
        ("service-account-token-expiration", "one hour", "3600 and 86400"),
    ],
)
def test_bad_values_are_refused_by_name(annotation: str, value: str, allowed: str) -> None:
    """D 6: the annotation, the value and what is allowed are in the message, and the message is not endless."""
    _, message = refusal(make_pod({**PROXY, annotation: value}))

    assert PREFIX + annotation in message
    assert allowed in message
    assert len(message) < 400


def test_a_limit_below_the_request_is_refused() -> None:
    """D 41: named by the request's annotation, with the limit's beside it."""
    _, message = refusal(make_pod({**PROXY, "proxy-memory-limit": "10Mi"}))

    assert "at most the memory limit 10Mi; azure.workload.identity/proxy-memory-limit raises it" in message


@pytest.mark.parametrize(("text", "port"), [("+8080", 8080), ("08080", 8080), ("1", 1), ("65535", 65535)])
def test_ports_follow_the_references_syntax(text: str, port: int) -> None:
    """R 2.4: a sign and leading zeros are fine."""
    proxy = mutate(make_pod({**PROXY, "proxy-sidecar-port": text}))["spec"]["initContainers"][1]

    assert proxy["ports"] == [{"containerPort": port}]


# --- 7. Warnings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("account", "annotations", "spec", "expected"),
    [
        ({}, None, {}, ["no-client-id"]),
        ({"client-id": ""}, None, {}, ["no-client-id"]),
        ({"client_id": CLIENT}, None, {}, ["near-miss", "no-client-id"]),
        ({"clientId": CLIENT}, None, {}, ["near-miss", "no-client-id"]),
        ({"azure.workload-identity/client-id": CLIENT}, None, {}, ["near-miss", "no-client-id"]),
        ({"azure.com/tenantId": TENANT, "client-id": CLIENT}, None, {}, ["near-miss"]),
        ({"client-id": CLIENT, "aws.example/client-id": "x"}, None, {}, []),
        ({"client-id": "my-app"}, None, {}, ["client-id-not-guid"]),
        ({"client-id": CLIENT, "client-id-from": "configmap/a/b"}, None, {}, ["client-id-twice"]),
        ({"client-id": CLIENT, "client-id-from": "nonsense"}, None, {}, ["client-id-twice"]),
        ({"client-id": CLIENT, "tenant-id": ""}, None, {}, ["empty-tenant-id"]),
        ({"client-id": CLIENT, "tenant-id": "contoso.com"}, None, {}, ["tenant-id-not-guid"]),
        ({"client-id": CLIENT, "tenant-id": GUID}, None, {}, []),
        (None, {"client-id": CLIENT}, {}, ["annotation-on-pod"]),
        (None, {"tenant-id": TENANT}, {}, ["annotation-on-pod"]),
        (None, {**PROXY, "proxy-sidecar-port": "443"}, {}, ["proxy-port-privileged"]),
        (None, None, {"terminationGracePeriodSeconds": 3600}, ["expiration-raised"]),
        (
            None,
            {"service-account-token-expiration": "3600"},
            {"terminationGracePeriodSeconds": 3600},
            ["expiration-short"],
        ),
        (None, None, {"nodeSelector": {"kubernetes.io/os": "windows"}}, ["windows-os-name"]),
        (None, None, {"os": {"name": "windows"}, "nodeSelector": {"kubernetes.io/os": "windows"}}, []),
        (None, PROXY, {"initContainers": [{"name": "setup"}]}, []),
    ],
)
def test_warnings(
    account: dict[str, str] | None, annotations: dict[str, str] | None, spec: JsonObject, expected: list[str]
) -> None:
    """D 7: each doubt has its word."""
    assert warnings(make_pod(annotations, **spec), account) == expected


def test_a_forgotten_slash_is_a_near_miss() -> None:
    """D 7: our prefix and name with a dot between them."""
    account = read_service_account({"azure.workload.identity.client-id": CLIENT, "other": "x"})

    assert [warning.reason for warning in account.warnings] == ["near-miss", "no-client-id"]


def test_a_long_value_is_cut_in_a_warning() -> None:
    """D 7: one line of 120 characters, whatever the annotation holds."""
    (warning,) = review(make_pod(), {"client-id": "x\n" * 200}).warnings

    assert len(warning.text) == 120
    assert warning.text.endswith("…")
    assert "\n" not in warning.text


def test_a_port_of_another_container_is_warned_about() -> None:
    """D 6: the proxy cannot listen where another container of the Pod does."""
    pod = make_pod(PROXY, {"ports": [{"containerPort": 8000}]})

    assert warnings(pod) == ["proxy-port-taken"]


def test_init_containers_before_a_plain_sidecar_are_warned_about() -> None:
    """D 8: unless the Pod has a native proxy of an earlier pass."""
    pod = make_pod(PROXY, initContainers=[{"name": "setup"}])

    assert warnings(pod, settings=PLAIN) == ["proxy-plain-sidecar"]
    pod["spec"]["initContainers"].insert(0, {"name": "azwi-proxy", "restartPolicy": "Always"})
    assert warnings(pod, settings=PLAIN) == []


@pytest.mark.parametrize("policy", ["Never", "OnFailure"])
def test_a_pod_that_should_end_is_warned_about_a_plain_sidecar(policy: str) -> None:
    """D 12: its proxy goes on, unless the Pod may end it, or it is a native one."""
    pod = make_pod(PROXY, restartPolicy=policy)

    assert warnings(pod, settings=PLAIN) == ["proxy-never-ends"]
    assert warnings(make_pod({**PROXY, "proxy-quit": "true"}, restartPolicy=policy), settings=PLAIN) == []
    assert warnings(pod) == []


@pytest.mark.parametrize(
    ("account", "refused"),
    [
        ({}, True),
        ({"client-id": "x"}, True),
        ({"client-id": CLIENT, "tenant-id": "x y"}, True),
        ({"client-id": CLIENT, "tenant-id": "contoso.com"}, False),
        ({"client-id": CLIENT, "clientId": "x"}, False),
    ],
)
def test_strict_refuses_what_cannot_work(account: dict[str, str], refused: bool) -> None:  # noqa: FBT001
    """D 7: only warnings about what cannot work become refusals, with their texts."""
    answer = review(make_pod(), account, replace(SETTINGS, strict=True))

    assert (answer.reason == "strict") == refused
    assert review(make_pod(), account).result == "warned"
