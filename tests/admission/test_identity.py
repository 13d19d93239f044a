"""Token, client id, tenant, stamp and binding: items 14 to 18 of docs/differences.md; what cannot be read."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pods import (
    CLIENT,
    GUID,
    MOUNT,
    PREFIX,
    SETTINGS,
    TENANT,
    JsonObject,
    app,
    make_pod,
    mutate,
    refusal,
    review,
    variables,
    warnings,
)

from azwi.admission.settings import (
    CustomEndpoint,
)
from azwi.webhook.mutation import answer_defect, answer_review
from vectors import Known, token_of

# --- 14, 15, 16, 17, 18. Token, identity, stamp, binding ----------------------------------------------------


@pytest.mark.parametrize(
    ("on_pod", "on_account", "grace", "seconds"),
    [
        (None, None, None, 3600),
        ("", "", 0, 3600),
        ("+7200", "5000", None, 7200),
        ("", "007200", None, 7200),
        (None, None, 600, 3600),
        (None, None, 601, 3605),
        (None, None, 10**9, 86400),
        ("3600", None, 10**9, 3600),
    ],
)
def test_the_life_of_the_token(on_pod: str | None, on_account: str | None, grace: int | None, seconds: int) -> None:
    """R 2.7 and D 14: the Pod's annotation, the account's, else five times the grace period and a margin."""
    annotation = "service-account-token-expiration"
    annotations = {} if on_pod is None else {annotation: on_pod}
    account = {"client-id": CLIENT, **({} if on_account is None else {annotation: on_account})}
    spec: JsonObject = {} if grace is None else {"terminationGracePeriodSeconds": grace}

    pod = mutate(make_pod(annotations, **spec), account)

    assert token_of(pod, app(pod))[0]["expiration"] == seconds


def test_only_the_expiration_that_counts_is_read() -> None:
    """R 2.7: a bad value on the account is harmless beside one on the Pod, and named when it counts."""
    bad = {"client-id": CLIENT, "service-account-token-expiration": "soon"}

    mutate(make_pod({"service-account-token-expiration": "7200"}), bad)

    assert 'on the service account is "soon"' in refusal(make_pod(), bad)[1]


def test_the_client_id_by_reference() -> None:
    """D 15: a key of a ConfigMap; its form is checked, and client-id wins over it."""
    account = {"client-id-from": "configmap/identities/orders.client-id"}

    container = app(mutate(make_pod(), account))

    reference = {"configMapKeyRef": {"name": "identities", "key": "orders.client-id"}}
    assert container["env"][0] == {"name": "AZURE_CLIENT_ID", "valueFrom": reference}
    assert warnings(make_pod(), account) == []
    assert variables(app(mutate(make_pod(), {**account, "client-id": CLIENT})))["AZURE_CLIENT_ID"] == CLIENT


@pytest.mark.parametrize("text", ["", "secret/a/b", "configmap/a", "configmap/A/b", "configmap/a/b/c", "configmap//b"])
def test_a_reference_of_another_form_is_refused(text: str) -> None:
    """D 40: the annotation and its form are named."""
    reason, message = refusal(make_pod(), {"client-id-from": text})

    assert reason == "client-id-from"
    assert "configmap/<name>/<key>" in message


def test_the_tenant_of_the_account_wins_unless_empty() -> None:
    """R 2.5 and D 7: an empty one counts as absent."""
    for tenant, expected in ((GUID, GUID), ("", TENANT)):
        container = app(mutate(make_pod(), {"client-id": CLIENT, "tenant-id": tenant}))

        assert variables(container)["AZURE_TENANT_ID"] == expected


def stamp_of(pod: JsonObject) -> JsonObject:
    """What the stamp says."""
    stamp: JsonObject = json.loads(pod["metadata"]["annotations"][PREFIX + "injected"])
    return stamp


def test_the_stamp_says_what_the_pod_got() -> None:
    """D 16: version, client id, tenant id, audience and expiration."""
    stamp = stamp_of(mutate(make_pod()))

    assert stamp.pop("version")
    assert stamp == {
        "clientId": CLIENT,
        "tenantId": TENANT,
        "audience": "api://AzureADTokenExchange",
        "expirationSeconds": 3600,
    }
    by_reference = stamp_of(mutate(make_pod(), {"client-id-from": "configmap/a/b"}))
    assert by_reference["clientIdFrom"] == "configmap/a/b"


def test_the_stamp_stays_with_its_injection_and_goes_with_a_copied_template() -> None:
    """D 16: kept when another container is added, also if the account changed; replaced where no injection is."""
    once = mutate(make_pod())
    once["spec"]["containers"].append({"name": "late"})

    twice = mutate(once, {"client-id": GUID})

    assert stamp_of(twice)["clientId"] == CLIENT
    template = make_pod()
    template["metadata"]["annotations"] = {PREFIX + "injected": '{"clientId":"old"}', "other": "kept"}
    copied = mutate(template)
    assert stamp_of(copied)["clientId"] == CLIENT
    assert copied["metadata"]["annotations"]["other"] == "kept"


BINDING = CustomEndpoint(
    PREFIX + "use-identity-binding", "api://AKSIdentityBinding", "https://proxy.example", "sni.example", "", None
)
CA_SOURCES: list[JsonObject] = [
    {"configMap": {"name": "root", "items": [{"key": "ca.crt", "path": "ca-cert/ca.crt"}], "optional": False}},
    {"clusterTrustBundle": {"signerName": "example.com/s", "path": "ca-cert/ca.crt", "optional": False}},
]


@pytest.mark.parametrize("source", CA_SOURCES)
def test_identity_binding_projects_its_ca(source: JsonObject) -> None:
    """D 17: audience, variables and CA file; a second pass with another CA brings it up to date."""
    settings = replace(SETTINGS, custom_endpoint=replace(BINDING, ca_source=source))

    pod = mutate(make_pod({"use-identity-binding": "TRUE"}), settings=settings)

    assert token_of(pod, app(pod))[0]["audience"] == "api://AKSIdentityBinding"
    assert source in pod["spec"]["volumes"][0]["projected"]["sources"]
    found = variables(app(pod))
    assert found["AZURE_KUBERNETES_TOKEN_PROXY"] == BINDING.token_proxy
    assert found["AZURE_KUBERNETES_SNI_NAME"] == "sni.example"
    assert found["AZURE_KUBERNETES_CA_FILE"] == f"{MOUNT}/ca-cert/ca.crt"
    for other in CA_SOURCES:
        changed = mutate(pod, settings=replace(SETTINGS, custom_endpoint=replace(BINDING, ca_source=other)))
        assert changed["spec"]["volumes"][0]["projected"]["sources"][1] == other


def test_identity_binding_without_a_ca_file_names_none() -> None:
    """D 17: CA data is handed over; the CA file is named only where one is projected."""
    settings = replace(SETTINGS, custom_endpoint=replace(BINDING, ca_data="PEM"))

    found = variables(app(mutate(make_pod({"use-identity-binding": "true"}), settings=settings)))

    assert found["AZURE_KUBERNETES_CA_DATA"] == "PEM"
    assert "AZURE_KUBERNETES_CA_FILE" not in found


@pytest.mark.parametrize("value", ["false", "1", "yes", " true", ""])
def test_pods_outside_identity_binding(value: str) -> None:
    """R 2.8: only `true`, whatever the case, takes part."""
    pod = mutate(make_pod({"use-identity-binding": value}), settings=replace(SETTINGS, custom_endpoint=BINDING))

    assert token_of(pod, app(pod))[0]["audience"] == "api://AzureADTokenExchange"
    assert "AZURE_KUBERNETES_TOKEN_PROXY" not in variables(app(pod))


def test_an_older_injection_gets_its_ca_added() -> None:
    """D 17: a Pod that joins later; a CA file that is already there under other defaults stays."""
    settings = replace(SETTINGS, custom_endpoint=replace(BINDING, ca_source=CA_SOURCES[0]))
    once = mutate(make_pod())
    once["metadata"]["annotations"][PREFIX + "use-identity-binding"] = "true"

    twice = mutate(once, settings=settings)

    sources = twice["spec"]["volumes"][0]["projected"]["sources"]
    assert sources[1] == CA_SOURCES[0]
    sources[1] = {"configMap": {**CA_SOURCES[0]["configMap"], "defaultMode": 420}}
    assert review(twice, settings=settings).result == "unchanged"


def test_the_audience_is_the_operators() -> None:
    """D 18: the flag's, for every Pod outside identity binding."""
    pod = mutate(make_pod(), settings=replace(SETTINGS, audience="api://other"))

    assert token_of(pod, app(pod))[0]["audience"] == "api://other"


# --- What cannot be read ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason", "words"),
    [
        (b"", "empty-body", "request body is empty"),
        (b"{", "bad-json", "couldn't get version/kind; json parse error"),
        (b'{"a":' * 100_000, "bad-json", "json parse error"),
        (b'{"request": 7}', "bad-review", "AdmissionReview cannot be read"),
        (b'{"kind": 7}', "bad-review", "AdmissionReview cannot be read"),
        (b'{"request": null, "kind": "AdmissionReview"}', "no-request", "there is no content to decode"),
        (b'{"request": {"object": null}}', "no-object", "there is no content to decode"),
        (b'{"request": {"uid": "u", "object": 7}}', "wrong-type", "the Pod cannot be read"),
        (b'{"request": {"object": {"spec": {"containers": 7}}}}', "wrong-type", "spec.containers"),
        (b'{"request": {"namespace": 7, "object": {}}}', "wrong-type", "namespace"),
        (
            b'{"request": {"object": {"kind": "ConfigMap"}}}',
            "other-kind",
            "unable to decode /v1, Kind=ConfigMap into *v1.Pod",
        ),
        (
            b'{"request": {"object": {"kind": "Deployment", "apiVersion": "apps/v1", "spec": 7}}}',
            "other-kind",
            "apps/v1, Kind=",
        ),
        (b'{"request": {"object": {"kind": "Pod"}}}', "service-account-missing", 'serviceaccounts "default" not found'),
    ],
)
def test_what_cannot_be_read_is_told(body: bytes, reason: str, words: str) -> None:
    """R 2.2, 2.3: each with the reference's code and, where they are for people, its words."""
    answer = answer_review(body, Known(), SETTINGS)

    response = json.loads(answer.body)["response"]
    assert answer.reason == reason
    assert response["status"]["code"] == 400
    assert words in response["status"]["message"]


def test_a_review_of_nothing_with_a_wrong_field_is_told() -> None:
    """R 2.3: `request` null beside a field of a wrong type."""
    answer = answer_review(b'{"request": null, "apiVersion": 7}', Known(), SETTINGS)

    assert answer.reason == "bad-review"


def test_a_defect_is_answered_about_its_review() -> None:
    """What cannot be read is answered as ever; what can, with the review's uid."""
    for body, uid in ((b"{", ""), (b'{"request": {"uid": "u", "object": {}}}', "u")):
        response = json.loads(answer_defect(body).body)["response"]

        assert (response["uid"], response["status"]["code"]) == (uid, 500)
