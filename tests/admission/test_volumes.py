"""Volumes, mounts and variables that a Pod gets: items 2, 3 and 4 of docs/differences.md."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from pods import (
    CLIENT,
    HASHED,
    LEGACY,
    MOUNT,
    PREFIX,
    SETTINGS,
    VOLUME,
    JsonObject,
    app,
    make_pod,
    mounted,
    mutate,
    refusal,
    review,
    token_volume,
    variables,
    warnings,
)

from azwi.admission.settings import (
    LegacyTokenPath,
)
from vectors import token_of

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
