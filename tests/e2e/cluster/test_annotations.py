"""Our annotations on a real API server: server-side apply, conflicts, deletion, and a token."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import jwt
import pytest
import yaml
from cluster_standin import Cluster as StandIn
from identity_lab import STATE, Lab, results

from azwi.cluster.annotations import AccountWriter, OwnershipError
from azwi.cluster.connection import Source, connect, load_config
from azwi.emulator.client import emulate
from azwi.errors import ClusterError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from kube import Cluster

P = "azure.workload.identity/"


def run(kubeconfig: Path, work: Callable[[AccountWriter], Awaitable[Any]]) -> Any:  # noqa: ANN401
    """Do something as the kubeconfig's user."""

    async def main() -> Any:  # noqa: ANN401
        async with connect(load_config(Source(str(kubeconfig), "--kubeconfig"), {})) as client:
            return await work(AccountWriter(client))

    return asyncio.run(main())


def test_an_account_is_made_changed_and_kept(cluster: Cluster, name: str) -> None:
    """What azwi applied and no longer names goes; what others wrote stays, whoever they are."""
    first = {f"{P}client-id": "a", f"{P}service-account-token-expiration": "7200"}
    made = run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, first, force=False))
    assert (first, frozenset(first)) == (made.annotations, made.applied)
    cluster.kubectl("label", "serviceaccount", name, "team=x")
    cluster.kubectl("annotate", "serviceaccount", name, "keep=me")

    run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, {f"{P}client-id": "b"}, force=False))

    metadata = cluster.get("serviceaccount", name)["metadata"]
    assert {f"{P}client-id": "b", "keep": "me"} == metadata["annotations"]
    assert {"team": "x"} == metadata["labels"]
    again = run(cluster.kubeconfig, lambda accounts: accounts.read("default", name))
    assert ({f"{P}client-id": "b"}, 2) == (again.annotations, again.foreign)


def test_a_conflict_names_the_owner(cluster: Cluster, name: str) -> None:
    """An annotation that another field manager applied is not taken, but with force; an equal value is no conflict."""
    theirs = {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": name, "annotations": {f"{P}client-id": "theirs", f"{P}tenant-id": "t"}},
    }
    cluster.kubectl("apply", "--server-side", "--field-manager=argocd-controller", "-f", "-", text=json.dumps(theirs))
    ours = {f"{P}client-id": "ours", f"{P}tenant-id": "t"}
    with pytest.raises(OwnershipError, match=f"{P}client-id is 'theirs', managed by argocd-controller") as problem:
        run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, ours, force=False))
    assert "tenant-id" not in problem.value.message
    assert "theirs" == cluster.get("serviceaccount", name)["metadata"]["annotations"][f"{P}client-id"]

    taken = run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, ours, force=True))

    assert ours == taken.annotations
    assert ("azwi",) == taken.owners[f"{P}client-id"]
    metadata = cluster.get("--show-managed-fields", "serviceaccount", name)["metadata"]
    managers = {one["manager"] for one in metadata["managedFields"]}
    assert {"azwi", "argocd-controller"} <= managers


def test_annotations_by_kubectl_apply_are_a_conflict_too(cluster: Cluster, name: str) -> None:
    """Client-side apply has an owner as well."""
    metadata = {"name": name, "annotations": {f"{P}client-id": "x"}}
    theirs = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
    cluster.kubectl("apply", "-f", "-", text=json.dumps(theirs))
    with pytest.raises(OwnershipError, match="managed by kubectl-client-side-apply"):
        run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, {f"{P}client-id": "y"}, force=False))


def test_exactly_the_account_that_was_seen_is_deleted(cluster: Cluster, name: str) -> None:
    """Another one that took its name meanwhile is not; what is gone is no error."""
    seen = run(cluster.kubeconfig, lambda accounts: accounts.apply("default", name, {}, force=False))
    cluster.kubectl("delete", "serviceaccount", name)
    assert not run(cluster.kubeconfig, lambda accounts: accounts.delete(seen))
    cluster.kubectl("create", "serviceaccount", name)
    with pytest.raises(ClusterError, match=r"(?i)uid"):
        run(cluster.kubeconfig, lambda accounts: accounts.delete(seen))
    there = run(cluster.kubeconfig, lambda accounts: accounts.read("default", name))
    assert run(cluster.kubeconfig, lambda accounts: accounts.delete(there))
    assert run(cluster.kubeconfig, lambda accounts: accounts.read("default", name)) is None


def test_a_token_of_an_account(cluster: Cluster, name: str) -> None:
    """For the audience that is asked for; the issuer is the cluster's."""
    cluster.kubectl("create", "serviceaccount", name)

    async def ask(accounts: AccountWriter) -> tuple[str, str]:
        return await accounts.issue_token("default", name, "api://x"), await accounts.read_issuer()

    token, issuer = run(cluster.kubeconfig, ask)
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (["api://x"], f"system:serviceaccount:default:{name}") == (claims["aud"], claims["sub"])
    assert issuer == claims["iss"]


def test_the_documented_rights_suffice(cluster: Cluster, name: str) -> None:
    """get, patch, create and delete of service accounts, create of their tokens; without them the hint names them."""
    nobody = cluster.write_config(f"nobody-{name}", {"token": cluster.token(f"nobody-{name}")})
    with pytest.raises(ClusterError, match="needs get, patch, create and delete of serviceaccounts"):
        run(nobody, lambda accounts: accounts.read("default", name))
    cluster.kubectl(
        "create",
        "clusterrole",
        name,
        "--verb=get,patch,create,delete",
        "--resource=serviceaccounts,serviceaccounts/token",
    )
    cluster.token(f"nobody-{name}", name)

    async def all_of_it(accounts: AccountWriter) -> bool:
        account = await accounts.apply("default", name, {f"{P}client-id": "a"}, force=False)
        await accounts.issue_token("default", name, "api://x")
        return await accounts.delete(account)

    assert run(nobody, all_of_it)


def test_a_namespace_that_is_missing(cluster: Cluster, name: str) -> None:
    """The API server's words, and what to do."""
    with pytest.raises(ClusterError, match="create the namespace first"):
        run(cluster.kubeconfig, lambda accounts: accounts.apply(f"no-{name}", name, {}, force=False))


def test_azwi_in_front_of_the_api_server(
    cluster: Cluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole command with a real kubeconfig: created, unchanged, a conflict told and taken over, deleted."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    (tmp_path / "state.yaml").write_text(yaml.safe_dump(STATE))
    with emulate(tmp_path / "state.yaml", tmp_path / "emulator") as emulator:
        lab = Lab(emulator, StandIn(emulator.service_account_token, emulator.issuer), tmp_path)
        lab.kubeconfig = cluster.kubeconfig
        account = lab.account(name, "default", "https://issuer.invalid")
        create = ("sa", "create", *account, "--identity-name=orders", "--resource-group=shop", "-ojson")
        for expected in ("created", "unchanged"):
            assert 0 == lab.run(*create)
            assert {expected} == {result for _, result in results(json.loads(capsys.readouterr().out))}
        cluster.kubectl("annotate", "--overwrite", "--field-manager=helm", "serviceaccount", name, f"{P}client-id=x")
        assert 1 == lab.run(*create)
        assert "managed by helm" in capsys.readouterr().err
        assert 0 == lab.run(*create, "--overwrite")
        assert 0 == lab.run("sa", "delete", *account, "--identity-name=orders", "--resource-group=shop")
        assert [] == lab.identities()
    assert cluster.kubectl("get", "serviceaccount", name, check=False).returncode
