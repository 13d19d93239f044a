"""Which API server, and signed in as whom."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
import yaml
from lightkube.config.models import Cluster, UserExec

from azwi.cluster.connection import Source, connect, find_source, load_config
from azwi.cluster.credentials import ExecPlugin, read_credential, render_exec_info
from azwi.errors import ClusterError, ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

V1 = "client.authentication.k8s.io/v1"


def kubeconfig(path: Path, **user: object) -> Path:
    """A kubeconfig with that user."""
    document = {
        "clusters": [{"name": "c", "cluster": {"server": "https://api.invalid:6443"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    path.write_text(yaml.safe_dump(document))
    return path


def test_the_source_is_found_in_order(tmp_path: Path) -> None:
    """Flag, KUBECONFIG (its first path that exists), home folder; else it says what there could be."""
    there = kubeconfig(tmp_path / "there")
    several = {"KUBECONFIG": f"/no/such/file:{there}"}
    assert Source("flag", "--kubeconfig") == find_source("flag", several, tmp_path)
    assert Source(str(there), "KUBECONFIG") == find_source("", several, tmp_path)
    assert Source("/none", "KUBECONFIG") == find_source("", {"KUBECONFIG": "/none"}, tmp_path)
    with pytest.raises(ConfigurationError, match="no API server is known"):
        find_source("", {}, tmp_path)
    (tmp_path / ".kube").mkdir()
    kubeconfig(tmp_path / ".kube" / "config")
    assert "the home folder" == find_source("", {}, tmp_path).named_by


@pytest.mark.parametrize(
    "text", ["a: [}", "7", "[]", "clusters: 7", "current-context: x\n", "contexts: []\nclusters: []\nusers: []\n"]
)
def test_a_kubeconfig_that_cannot_be_used_is_told(text: str, tmp_path: Path) -> None:
    """One sentence with the file and who named it."""
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"config, named by --kubeconfig, (cannot be used|has no current)"):
        load_config(Source(str(path), "--kubeconfig"), {})
    with pytest.raises(ConfigurationError, match="cannot be used"):
        load_config(Source(str(tmp_path / "none"), "--kubeconfig"), {})


def test_a_token_is_sent(tmp_path: Path) -> None:
    """The connection goes to the context's server with the user's token."""

    async def run() -> httpx2.Request:
        config = load_config(Source(str(kubeconfig(tmp_path / "c", token="t0")), "flag"), {})  # a mark
        async with connect(config) as client:
            assert client.auth is not None
            return next(client.auth.sync_auth_flow(client.build_request("GET", "/version")))

    request = asyncio.run(run())
    assert ("https://api.invalid:6443/version", "Bearer t0") == (str(request.url), request.headers["authorization"])


def plugin(tmp_path: Path, script: str, version: str = V1) -> UserExec:
    """A plugin that is a shell script."""
    path = tmp_path / "plugin"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return UserExec(apiVersion=version, command=str(path), args=["a"])


def credential(**status: object) -> str:
    """What a plugin prints."""
    return json.dumps({"apiVersion": V1, "kind": "ExecCredential", "status": status})


def send(auth: ExecPlugin, *codes: int) -> list[str]:
    """The Authorization of each request that is made where the server answers with these codes."""
    seen: list[str] = []
    left = list(codes)

    def handle(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(left.pop(0))

    async def run() -> None:
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(handle), auth=auth) as client:
            while left:
                await client.get("https://api.invalid")

    asyncio.run(run())
    return seen


def test_a_plugin_is_asked_when_it_must_be(tmp_path: Path) -> None:
    """Once for many requests; again where its token is refused; again where its token is at its end."""
    counting = f"echo x >> {tmp_path}/count; n=$(wc -l < {tmp_path}/count); "
    lasting = counting + 'printf \'{"apiVersion":"%s","status":{"token":"t%s"}}\' ' + V1 + " $n"
    assert ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"] == send(
        ExecPlugin(plugin(tmp_path, lasting), Cluster()), 200, 200, 401, 200, 200
    )
    (tmp_path / "count").unlink()
    ended = lasting.replace('"t%s"', '"t%s","expirationTimestamp":"2020-01-01T00:00:00Z"')
    assert ["Bearer t1", "Bearer t2"] == send(ExecPlugin(plugin(tmp_path, ended), Cluster()), 200, 200)


@pytest.mark.parametrize(
    ("words", "script"),
    [
        ("ended with 3: no luck", "echo no luck >&2; exit 3"),
        ("printed no ExecCredential", "echo garbage"),
        ("whose expirationTimestamp is no time", f"echo '{credential(token='t', expirationTimestamp='soon')}'"),
        ("answered in v0, not in", f"echo '{credential(token='t').replace(V1, 'v0')}'"),
        ("gave no token; plugins that give a client certificate", f"echo '{credential(clientCertificateData='x')}'"),
    ],
)
def test_a_plugin_that_fails_is_told(words: str, script: str, tmp_path: Path) -> None:
    """By its command, with its own words."""
    with pytest.raises(ClusterError, match=words):
        send(ExecPlugin(plugin(tmp_path, script), Cluster()), 200)


def test_a_slow_plugin_runs_once_for_all_who_give_up(tmp_path: Path) -> None:
    """Reviews wait for a second; the plugin goes on, and its token is there for the next one."""
    script = f"echo x >> {tmp_path}/count; sleep 0.6; echo '{credential(token='t')}'"
    auth = ExecPlugin(plugin(tmp_path, script), Cluster())

    async def run() -> list[int]:
        transport = httpx2.MockTransport(lambda _: httpx2.Response(200))
        async with httpx2.AsyncClient(transport=transport, auth=auth) as client:
            for _ in range(3):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await client.get("https://api.invalid")
            answers = await asyncio.gather(*(client.get("https://api.invalid") for _ in range(3)))
            return [answer.status_code for answer in answers]

    assert [200] * 3 == asyncio.run(run())
    assert "x\n" == (tmp_path / "count").read_text()


def test_a_missing_plugin_is_told_with_its_hint() -> None:
    """As kubectl does, the kubeconfig's installHint is shown; an unknown version is refused at once."""
    missing = UserExec(apiVersion=V1, command="/no/such/plugin", installHint="install kubelogin")
    with pytest.raises(ClusterError, match="No such file or directory; install kubelogin"):
        send(ExecPlugin(missing, Cluster()), 200)
    with pytest.raises(ClusterError, match="v1alpha1 is not known; known are"):
        ExecPlugin(UserExec(apiVersion="client.authentication.k8s.io/v1alpha1", command="x"), Cluster())


def test_the_plugin_knows_for_which_cluster() -> None:
    """KUBERNETES_EXEC_INFO has the server and its authority."""
    asked = UserExec(apiVersion=V1, command="x")
    cluster = Cluster(server="https://api.invalid", certificate_auth_data="Q0E=", insecure=True)
    info: dict[str, Any] = render_exec_info(asked, cluster)
    assert {
        "server": "https://api.invalid",
        "certificate-authority-data": "Q0E=",
        "insecure-skip-tls-verify": True,
    } == info["spec"]["cluster"]
    assert (V1, False) == (info["apiVersion"], info["spec"]["interactive"])
    assert "t" == read_credential(credential(token="t").encode(), asked).token  # a mark
