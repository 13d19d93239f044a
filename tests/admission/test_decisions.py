"""The rules of docs/differences.md, one after another: what a Pod gets, is refused for, is warned about."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from pods import (
    CLIENT,
    MOUNT,
    PLAIN,
    PREFIX,
    SETTINGS,
    TENANT,
    VOLUME,
    JsonObject,
    make_pod,
    mutate,
    refusal,
    review,
    variables,
    warnings,
)

from azwi.admission.serviceaccount import read_service_account
from azwi.admission.settings import (
    CustomEndpoint,
    InitPrivilege,
    LegacyTokenPath,
    NativeSidecar,
    Resources,
    uses_native_sidecar,
)
from azwi.webhook.mutation import answer_defect, answer_review
from vectors import Known, containers, token_of

PROXY = {"inject-proxy-sidecar": "true"}
LEGACY = "/var/run/secrets/azure/tokens"
HASHED = "azure-workload-identity-reserved-5ea618a82d38c4b9d0322273f1b4b2"
GUID = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"


def token_volume(name: str, path: str = "token/azure-identity-token", **token: Any) -> JsonObject:  # noqa: ANN401
    """A projected volume with a service account token."""
    return {"name": name, "projected": {"sources": [{"serviceAccountToken": {"path": path, **token}}]}}


def mounted(volume: str, path: str, **more: Any) -> JsonObject:  # noqa: ANN401
    """A container that mounts a volume."""
    return {"volumeMounts": [{"name": volume, "mountPath": path, **more}]}


def app(pod: JsonObject) -> JsonObject:
    """The container `app`."""
    return next(container for _, container in containers(pod) if container["name"] == "app")


def names(pod: JsonObject, kind: str) -> list[str]:
    """The containers of a list, in order."""
    return [container["name"] for container in pod["spec"].get(kind) or ()]


# --- 2. Recognition -----------------------------------------------------------------------------------------


def test_a_plain_pod_gets_one_volume_of_a_fixed_name() -> None:
    """D 2: the volume's name, its one source, and the read-only mount."""
    pod = mutate(make_pod())

    assert pod["spec"]["volumes"] == [
        token_volume(VOLUME, audience="api://AzureADTokenExchange", expirationSeconds=3600),
    ]
    assert app(pod)["volumeMounts"] == [{"name": VOLUME, "mountPath": MOUNT, "readOnly": True}]


def test_an_injection_of_the_reference_is_brought_up_to_date() -> None:
    """D 2: a volume of the reserved prefix at our path stays, its audience and life become the right ones."""
    volume = token_volume(HASHED, audience="old", expirationSeconds=7200)
    volume["projected"]["defaultMode"] = 420

    pod = mutate(make_pod(container=mounted(HASHED, MOUNT), volumes=[{"name": "data"}, volume]))

    expected = token_volume(HASHED, audience="api://AzureADTokenExchange", expirationSeconds=3600)
    expected["projected"]["defaultMode"] = 420
    assert pod["spec"]["volumes"] == [{"name": "data"}, expected]


def test_the_users_own_equivalent_volume_is_used_as_it_is() -> None:
    """D 2: no second volume; another audience is warned about and stays."""
    volume = token_volume("mine", audience="other", expirationSeconds=7200)
    pod = make_pod(container=mounted("mine", MOUNT), volumes=[volume])

    assert mutate(pod)["spec"]["volumes"] == [volume]
    assert warnings(pod) == ["audience-differs"]
    volume["projected"]["sources"][0]["serviceAccountToken"]["audience"] = "api://AzureADTokenExchange"
    assert warnings(pod) == []


@pytest.mark.parametrize(
    ("path", "file", "expected"),
    [
        (f"{MOUNT}/token", "azure-identity-token", f"{MOUNT}/token/azure-identity-token"),
        ("/var/run/secrets/azure", "wi/token/azure-identity-token", f"{MOUNT}/token/azure-identity-token"),
        (f"{MOUNT}/5ea618a8/token", "azure-identity-token", f"{MOUNT}/5ea618a8/token/azure-identity-token"),
        (MOUNT, "other", f"{MOUNT}/other"),
    ],
)
def test_a_token_at_below_or_above_our_path_is_one(path: str, file: str, expected: str) -> None:
    """D 2 and 38: the variable names the file where it is, and nothing more is mounted."""
    volumes = [token_volume("mine", file, audience="api://AzureADTokenExchange", expirationSeconds=3600)]

    container = app(mutate(make_pod(container=mounted("mine", path), volumes=volumes)))

    assert variables(container)["AZURE_FEDERATED_TOKEN_FILE"] == expected
    assert len(container["volumeMounts"]) == 1


def test_a_dangling_mount_gets_its_volume_back() -> None:
    """D 2: a mount of an earlier injection whose volume is gone."""
    pod = mutate(make_pod(container=mounted(HASHED, MOUNT)))

    assert [volume["name"] for volume in pod["spec"]["volumes"]] == [HASHED]
    assert token_of(pod, app(pod))


def test_an_emptied_volume_gets_its_token_back() -> None:
    """D 2: a reserved volume at our path that holds no token any more."""
    pod = mutate(make_pod(container=mounted(VOLUME, MOUNT), volumes=[{"name": VOLUME, "projected": {"sources": []}}]))

    assert token_of(pod, app(pod))
    assert len(pod["spec"]["volumes"]) == 1


def test_an_unmounted_reserved_volume_is_not_ours() -> None:
    """D 2: it stays, and ours comes beside it."""
    volume = token_volume(HASHED, audience="x")

    pod = mutate(make_pod(volumes=[volume]))

    assert volume in pod["spec"]["volumes"]
    assert [volume["name"] for volume in pod["spec"]["volumes"]] == [HASHED, VOLUME]


def test_our_own_unmounted_volume_is_taken() -> None:
    """D 2: a volume of exactly our name is brought up to date instead of added twice."""
    pod = mutate(make_pod(volumes=[token_volume(VOLUME, audience="x")]))

    assert [volume["name"] for volume in pod["spec"]["volumes"]] == [VOLUME]
    assert token_of(pod, app(pod))[0]["audience"] == "api://AzureADTokenExchange"


@pytest.mark.parametrize(
    "path", [MOUNT, f"{MOUNT}/", f"{MOUNT}/token", "/var/run/secrets/azure", "/var//run/./secrets"]
)
def test_something_else_at_below_or_above_our_path_is_refused(path: str) -> None:
    """D 2: both names are in the message."""
    reason, message = refusal(make_pod(container=mounted("mine", path), volumes=[{"name": "mine", "emptyDir": {}}]))

    assert reason == "mount-conflict"
    assert '"mine"' in message
    assert f'"{VOLUME}"' in message
    assert path in message


def test_a_skipped_container_may_mount_what_it_likes() -> None:
    """R 2.5: a container that gets nothing is in nobody's way."""
    pod = make_pod({"skip-containers": "app"}, mounted("mine", MOUNT), volumes=[{"name": "mine", "emptyDir": {}}])

    assert app(mutate(pod)) == app(pod)


@pytest.mark.parametrize("path", ["/var/run", "/var", "/"])
def test_a_volume_far_above_our_path_is_let_in(path: str) -> None:
    """D 34: Kubernetes mounts its own token below such a volume, too; a projected one cannot be mounted into."""
    pod = make_pod(container=mounted("run", path), volumes=[{"name": "run", "emptyDir": {}}])

    assert token_of(mutate(pod), app(mutate(pod)))
    pod["spec"]["volumes"] = [{"name": "run", "projected": {"sources": []}}]
    assert refusal(pod)[0] == "mount-conflict"


@pytest.mark.parametrize("member", ["subPath", "subPathExpr"])
def test_a_sub_path_is_no_token(member: str) -> None:
    """D 2: a part of a volume is never refreshed, so it does not count as an injection."""
    pod = make_pod(container=mounted("mine", MOUNT, **{member: "x"}), volumes=[token_volume("mine")])

    assert refusal(pod)[0] == "mount-conflict"


def test_a_volume_of_our_name_that_is_no_projected_one_is_refused() -> None:
    """D 2: the name is reserved."""
    reason, message = refusal(make_pod(volumes=[{"name": VOLUME, "emptyDir": {}}]))

    assert reason == "volume-name-taken"
    assert f'"{VOLUME}"' in message


def test_a_pod_without_spec_and_metadata_still_gets_a_valid_patch() -> None:
    """R 2.1: what is absent is made; the service account is `default`."""
    body = {"request": {"uid": "u", "namespace": "ns", "object": {"kind": "Pod"}}}

    assert "sa" not in json.dumps(body)
    assert review({"kind": "Pod", "spec": {"serviceAccountName": "sa"}}).result == "mutated"


# --- 3. The old token path ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "annotation", "container", "expected"),
    [
        ("auto", None, {}, False),
        ("auto", None, {"args": [f"--file={LEGACY}/azure-identity-token"]}, True),
        ("auto", None, {"command": ["cat", f"{LEGACY}/azure-identity-token"]}, True),
        ("auto", None, {"env": [{"name": "F", "value": LEGACY}]}, True),
        ("auto", "always", {}, True),
        ("always", None, {}, True),
        ("always", "never", {"args": [LEGACY]}, False),
        ("never", None, {"args": [LEGACY]}, False),
        ("never", "auto", {"args": [LEGACY]}, True),
    ],
)
def test_the_token_also_stands_at_the_old_path(
    mode: str,
    annotation: str | None,
    container: JsonObject,
    expected: bool,  # noqa: FBT001
) -> None:
    """D 3: by flag, by annotation, or because the container names the folder; the same volume, mounted twice."""
    settings = replace(SETTINGS, legacy_token_path=LegacyTokenPath(mode))
    annotations = None if annotation is None else {"legacy-token-path": annotation}

    pod = mutate(make_pod(annotations, container), settings=settings)

    paths = [mount["mountPath"] for mount in app(pod)["volumeMounts"]]
    sources = [source["serviceAccountToken"]["path"] for source in pod["spec"]["volumes"][0]["projected"]["sources"]]
    assert paths == ([MOUNT, LEGACY] if expected else [MOUNT])
    assert sources == ["token/azure-identity-token", *(["azure-identity-token"] if expected else [])]


def test_the_old_path_is_left_to_what_the_pod_mounts_there() -> None:
    """D 3: no second mount, and no second source, where the Pod has its own."""
    container = {"args": [LEGACY], **mounted("mine", LEGACY)}

    pod = mutate(make_pod(container=container, volumes=[{"name": "mine", "emptyDir": {}}]))

    assert [mount["mountPath"] for mount in app(pod)["volumeMounts"]] == [LEGACY, MOUNT]
    assert len(pod["spec"]["volumes"][1]["projected"]["sources"]) == 1


def test_an_earlier_injection_gets_the_old_path_added() -> None:
    """D 3: the source joins the volume that is there."""
    container = {"args": [LEGACY], **mounted(HASHED, MOUNT)}
    volume = token_volume(HASHED, audience="api://AzureADTokenExchange", expirationSeconds=3600)

    pod = mutate(make_pod(container=container, volumes=[volume]))

    assert [mount["name"] for mount in app(pod)["volumeMounts"]] == [HASHED, HASHED]
    assert len(pod["spec"]["volumes"][0]["projected"]["sources"]) == 2


def test_an_unknown_legacy_token_path_is_refused_by_name() -> None:
    """D 6: annotation, value, and what is allowed."""
    reason, message = refusal(make_pod({"legacy-token-path": "yes"}))

    assert reason == "legacy-token-path"
    assert all(word in message for word in (PREFIX + "legacy-token-path", '"yes"', "auto, always or never"))


# --- 4. Variables -------------------------------------------------------------------------------------------


def test_our_variables_come_first_and_the_users_stay() -> None:
    """D 4: the user's own may refer to ours; one that is set stays where and what it is, also when empty."""
    env = [{"name": "X", "value": "$(AZURE_CLIENT_ID)"}, {"name": "AZURE_TENANT_ID", "value": ""}]

    container = app(mutate(make_pod(container={"env": env})))

    assert container["env"] == [
        {"name": "AZURE_CLIENT_ID", "value": CLIENT},
        {"name": "AZURE_FEDERATED_TOKEN_FILE", "value": f"{MOUNT}/token/azure-identity-token"},
        {"name": "AZURE_AUTHORITY_HOST", "value": "https://login.microsoftonline.com/"},
        *env,
    ]


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


# --- 8, 9, 10, 11, 12. The two containers -------------------------------------------------------------------


def test_the_redirect_comes_before_everything_else() -> None:
    """D 8: azwi-proxy-init, azwi-proxy, then the Pod's own init containers; plain: the proxy before the containers."""
    pod = make_pod(PROXY, initContainers=[{"name": "setup"}])

    assert names(mutate(pod), "initContainers") == ["azwi-proxy-init", "azwi-proxy", "setup"]
    assert names(mutate(pod, settings=PLAIN), "initContainers") == ["azwi-proxy-init", "setup"]
    assert names(mutate(pod, settings=PLAIN), "containers") == ["azwi-proxy", "app"]


def sidecar(pod: Any) -> Any:  # noqa: ANN401
    """The proxy of an admitted Pod, in whichever list it is."""
    spec = pod["spec"]
    return next(one for one in (*spec.get("initContainers", ()), *spec["containers"]) if one["name"] == "azwi-proxy")


@pytest.mark.parametrize(("grace", "seconds"), [(None, 25), (600, 595), (6, 1), (5, 0), (0, 0)])
def test_a_plain_sidecar_is_told_how_long_it_may_drain(grace: int | None, seconds: int) -> None:
    """D 30: the Pod's grace period less 5 s; a native one ends after the application and drains never."""
    pod = make_pod(PROXY)
    if grace is not None:
        pod["spec"]["terminationGracePeriodSeconds"] = grace
    flags = [flag for flag in sidecar(mutate(pod, settings=PLAIN))["args"] if flag.startswith("--drain-seconds")]
    assert ([f"--drain-seconds={seconds}"] if seconds else []) == flags
    assert not any("drain" in flag for flag in sidecar(mutate(pod))["args"])


@pytest.mark.parametrize(("value", "settings"), [("true", PLAIN), ("", PLAIN), ("off", SETTINGS)])
def test_a_pod_may_choose_its_kind_of_sidecar(value: str, settings: Any) -> None:  # noqa: ANN401
    """D 12: all that differs follows the Pod's annotation, and a second pass changes nothing."""
    pod = make_pod({**PROXY, "proxy-native-sidecar": value}, initContainers=[{"name": "setup"}])
    chosen = mutate(pod, settings=settings)
    otherwise = mutate(
        make_pod(PROXY, initContainers=[{"name": "setup"}]), settings=SETTINGS if value != "off" else PLAIN
    )

    assert chosen["spec"] == otherwise["spec"]
    assert mutate(chosen, settings=settings) == chosen
    assert warnings(pod, settings=settings) == (["proxy-plain-sidecar"] if value == "off" else [])


def test_a_job_may_end_its_sidecar() -> None:
    """D 30: only where the Pod's author says so."""
    assert "--allow-quit" in sidecar(mutate(make_pod({**PROXY, "proxy-quit": "true"})))["args"]
    assert "--allow-quit" not in sidecar(mutate(make_pod({**PROXY, "proxy-quit": "no"})))["args"]


@pytest.mark.parametrize("settings", [SETTINGS, PLAIN])
def test_the_identity_map_is_mounted(settings: Any) -> None:  # noqa: ANN401
    """D 26: the ConfigMap as a folder, into the proxy alone; a second pass changes nothing."""
    annotations = {**PROXY, "identity-map": "names"}
    pod = mutate(make_pod(annotations), settings=settings)
    proxy = sidecar(pod)
    mount = {"name": "azwi-identity-map", "mountPath": "/etc/azwi/identity-map", "readOnly": True}
    assert mount == proxy["volumeMounts"][-1]
    assert "--identity-map=/etc/azwi/identity-map" in proxy["args"]
    assert {"name": "azwi-identity-map", "configMap": {"name": "names"}} in pod["spec"]["volumes"]
    assert mount not in app(pod)["volumeMounts"]
    assert pod == mutate(pod, settings=settings)


def test_the_name_of_the_identity_maps_volume_is_reserved() -> None:
    """A volume of the author's under that name would be taken for it."""
    pod = make_pod({**PROXY, "identity-map": "names"}, volumes=[{"name": "azwi-identity-map", "emptyDir": {}}])
    _, message = refusal(pod)
    assert "azwi-identity-map" in message
    assert "rename it" in message


def proxy_settings(**changes: Any) -> Any:  # noqa: ANN401
    """Settings with other proxy settings."""
    return replace(SETTINGS, proxy=replace(SETTINGS.proxy, **changes))


def test_the_init_container_has_net_admin_and_nothing_else() -> None:
    """D 9: its whole document; no token, no identity."""
    init = mutate(make_pod(PROXY))["spec"]["initContainers"][0]

    assert init == {
        "name": "azwi-proxy-init",
        "image": SETTINGS.proxy.init_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["azwi-proxy-init"],
        "env": [{"name": "PROXY_PORT", "value": "8000"}, {"name": "PROXY_UID", "value": "1501"}],
        "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": False,
            "runAsUser": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }


def test_iptables_legacy_gets_net_raw_and_a_lock_file() -> None:
    """D 9: --proxy-init-legacy."""
    init = mutate(make_pod(PROXY), settings=proxy_settings(init_privilege=InitPrivilege.LEGACY))["spec"][
        "initContainers"
    ][0]

    assert init["securityContext"]["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]}
    assert variables(init)["XTABLES_LOCKFILE"].startswith("/dev/shm/")  # noqa: S108


def test_privileged_is_the_references_shape() -> None:
    """D 9: --proxy-init-privileged."""
    init = mutate(make_pod(PROXY), settings=proxy_settings(init_privilege=InitPrivilege.PRIVILEGED))["spec"][
        "initContainers"
    ][0]

    assert init["securityContext"] == {
        "capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]},
        "privileged": True,
        "runAsNonRoot": False,
        "runAsUser": 0,
    }


def test_the_proxys_container() -> None:
    """D 9 and 11: its whole document as a native sidecar, and what differs in a plain one."""
    pod = mutate(
        make_pod({**PROXY, "proxy-sidecar-port": "8001"}), settings=proxy_settings(uid=1000, log_level="debug")
    )
    proxy = pod["spec"]["initContainers"][1]

    assert variables(proxy) == variables(app(pod))
    del proxy["env"]
    assert proxy == {
        "name": "azwi-proxy",
        "image": SETTINGS.proxy.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["azwi-proxy"],
        "args": ["--proxy-port=8001", "--log-level=debug"],
        "ports": [{"containerPort": 8001}],
        "resources": {"requests": {"cpu": "10m", "memory": "40Mi"}, "limits": {"cpu": "500m", "memory": "96Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 1000,
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": VOLUME, "mountPath": MOUNT, "readOnly": True}],
        "restartPolicy": "Always",
        "startupProbe": {
            "exec": {"command": ["azwi-proxy", "--proxy-port=8001", "--probe", "--log-level=debug"]},
            "periodSeconds": 1,
            "timeoutSeconds": 5,
            "failureThreshold": 60,
        },
    }
    plain = mutate(make_pod(PROXY), settings=PLAIN)["spec"]["containers"][0]
    command = ["azwi-proxy", "--proxy-port=8000", "--probe", "--log-level="]
    assert plain["lifecycle"] == {"postStart": {"exec": {"command": command}}}
    assert {"restartPolicy", "startupProbe"} & set(plain) == set()


def test_resources_follow_the_pods_annotations() -> None:
    """D 11: each amount by annotation, empty for none."""
    annotations = {**PROXY, "proxy-cpu-limit": "", "proxy-memory-request": "50Mi", "proxy-init-cpu-request": ""}

    init, proxy = mutate(make_pod(annotations))["spec"]["initContainers"]

    assert proxy["resources"] == {"requests": {"cpu": "10m", "memory": "50Mi"}, "limits": {"memory": "96Mi"}}
    assert init["resources"]["requests"] == {"memory": "24Mi"}
    nothing = proxy_settings(resources=Resources("", "", "", ""))
    assert mutate(make_pod(PROXY), settings=nothing)["spec"]["initContainers"][1]["resources"] == {}


def test_environment_mode_needs_no_init_container() -> None:
    """D 10: the sidecar alone, and a variable for the programs, not for the proxy itself."""
    pod = mutate(make_pod({**PROXY, "proxy-mode": "environment"}, initContainers=[{"name": "setup"}]))

    assert names(pod, "initContainers") == ["azwi-proxy", "setup"]
    seen = {name: variables(container).get("AZURE_POD_IDENTITY_AUTHORITY_HOST") for name, container in containers(pod)}
    assert seen == {
        "initContainers/azwi-proxy": None,
        "initContainers/setup": "http://127.0.0.1:8000",
        "containers/app": "http://127.0.0.1:8000",
    }


@pytest.mark.parametrize("mode", ["redirect", "environment"])
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"hostNetwork": True}, "hostNetwork is set to true, cannot inject proxy sidecar"),
        ({"os": {"name": "windows"}}, "Windows"),
        ({"nodeSelector": {"kubernetes.io/os": "windows"}}, "Windows"),
    ],
)
def test_where_a_proxy_cannot_run_it_is_refused(mode: str, spec: JsonObject, words: str) -> None:
    """D 10 and 13: host network and Windows, in both modes; without the proxy such a Pod gets its token."""
    assert words in refusal(make_pod({**PROXY, "proxy-mode": mode}, **spec))[1]
    pod = mutate(make_pod(**spec))
    assert token_of(pod, app(pod))


@pytest.mark.parametrize("kind", ["initContainers", "containers"])
def test_a_proxy_that_is_there_is_not_added_again(kind: str) -> None:
    """D 12: in either list; skip-containers never applies to it, and it gets its token."""
    spec = {"initContainers": [{"name": "azwi-proxy-init"}], "containers": [{"name": "app"}]}
    spec[kind] = [*spec[kind], {"name": "azwi-proxy"}]

    pod = mutate(
        {
            **make_pod({**PROXY, "skip-containers": "azwi-proxy;azwi-proxy-init"}),
            "spec": {"serviceAccountName": "sa", **spec},
        }
    )

    assert [name for name, _ in containers(pod)].count(f"{kind}/azwi-proxy") == 1
    assert len(list(containers(pod))) == 3
    proxy = next(container for _, container in containers(pod) if container["name"] == "azwi-proxy")
    assert token_of(pod, proxy)
    assert pod["spec"]["initContainers"][0] == {"name": "azwi-proxy-init"}


@pytest.mark.parametrize(
    ("mode", "version", "native"),
    [
        ("auto", None, True),
        ("auto", "v1.32.0", True),
        ("auto", "v1.34.4+k3s1", True),
        ("auto", "v2.0.0", True),
        ("auto", "v1.32.0-gke.100", True),
        ("auto", "v1.31.9", False),
        ("auto", "v1.32.0-alpha.1", False),
        ("auto", "v1.32.0-rc.1", False),
        ("auto", "v1.33.0-rc.1", True),
        ("auto", "unknown", False),
        ("always", "v1.20.0", True),
        ("never", "v1.34.0", False),
    ],
)
def test_when_the_sidecar_is_native(mode: str, version: str | None, native: bool) -> None:  # noqa: FBT001
    """D 12 and 37: by flag, else from API server 1.32 on."""
    assert uses_native_sidecar(NativeSidecar(mode), version) == native


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
