"""The two containers that are injected: items 8 to 12, 26 and 30 of docs/differences.md."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pods import (
    MOUNT,
    PLAIN,
    PROXY,
    SETTINGS,
    VOLUME,
    JsonObject,
    app,
    make_pod,
    mutate,
    names,
    refusal,
    variables,
    warnings,
)

from azwi.admission.settings import (
    InitPrivilege,
    NativeSidecar,
    Resources,
    uses_native_sidecar,
)
from vectors import containers, token_of

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
