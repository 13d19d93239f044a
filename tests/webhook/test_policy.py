"""The identity policy, and Pods that nobody labelled."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from azwi.admission.serviceaccount import ServiceAccount, read_service_account
from azwi.admission.settings import Settings
from azwi.errors import ConfigurationError
from azwi.webhook.mutation import answer_review
from azwi.webhook.policy import IdentityPolicy, parse_policy
from azwi.webhook.policyfile import PolicyFile

if TYPE_CHECKING:
    from pathlib import Path

ORDERS = "22222222-2222-2222-2222-222222222222"
BILLING = "33333333-3333-3333-3333-333333333333"
SETTINGS = Settings(tenant_id=ORDERS, authority_host="https://login.microsoftonline.com/")
DOCUMENT: dict[str, Any] = {
    "rules": [
        {"namespaces": ["shop", "team-*"], "clientIds": [ORDERS.upper()]},
        {"namespaces": ["team-a"], "clientIds": [BILLING]},
        {"namespaces": ["sandbox-?"], "clientIds": ["*"]},
    ]
}
POLICY = parse_policy(DOCUMENT, "policy.yaml")


def account(client_id: str = "", reference: str = "") -> ServiceAccount:
    """A service account with a client id, or with a reference to one."""
    annotations = {"client-id": client_id, "client-id-from": reference}
    return read_service_account(
        {f"azure.workload.identity/{key}": value for key, value in annotations.items() if value}
    )


class One:
    """A cluster with one service account, or none."""

    def __init__(self, found: ServiceAccount | None) -> None:
        self._found = found

    def find(self, _: str, __: str) -> ServiceAccount | None:
        """It."""
        return self._found


def ask(found: ServiceAccount | None, namespace: str = "shop", **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """The response to a Pod of that account."""
    pod = {"metadata": {"name": "x"}, "spec": {"serviceAccountName": "sa", "containers": [{"name": "app"}]}}
    request = {"uid": "u", "kind": {"kind": "Pod"}, "namespace": namespace, "operation": "CREATE", "object": pod}
    body = json.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}).encode()
    response: dict[str, Any] = json.loads(answer_review(body, One(found), SETTINGS, **more).body)["response"]
    return response


@pytest.mark.parametrize(
    ("allowed", "namespace", "found"),
    [
        (True, "shop", account(ORDERS)),
        (True, "shop", account(ORDERS.upper())),
        (False, "shop", account(BILLING)),
        (True, "team-a", account(BILLING)),
        (True, "team-a", account(ORDERS)),
        (False, "team-b", account(BILLING)),
        (False, "elsewhere", account(ORDERS)),
        (False, "Shop", account(ORDERS)),
        (True, "sandbox-1", account(BILLING)),
        (False, "sandbox-12", account(BILLING)),
        (False, "shop", account(reference="configmap/ids/orders")),
        (True, "sandbox-1", account(reference="configmap/ids/orders")),
        (True, "elsewhere", account()),
    ],
)
def test_rules_allow(allowed: bool, namespace: str, found: ServiceAccount) -> None:  # noqa: FBT001
    """Names and globs; client ids whatever their case; what cannot be known needs `*`; nothing asked is allowed."""
    assert allowed == ask(found, namespace, policy=POLICY)["allowed"]


def test_a_refusal_names_all_of_it() -> None:
    """Service account, client id, namespace, and what is allowed there; a long list is cut."""
    message = ask(account(BILLING), policy=POLICY)["status"]["message"]
    for word in ('"sa"', BILLING, '"shop"', ORDERS, "ask whoever runs the cluster"):
        assert word in message
    assert "allows none there" in ask(account(BILLING), policy=IdentityPolicy(()))["status"]["message"]
    many = {"rules": [{"namespaces": ["*"], "clientIds": [f"{n:08}-2222-2222-2222-222222222222" for n in range(9)]}]}
    assert ", … there" in ask(account(BILLING), policy=parse_policy(many, "p"))["status"]["message"]


@pytest.mark.parametrize(
    ("words", "document"),
    [
        ("Expected `object`", None),
        ("missing required field `rules`", {}),
        ("unknown field `rule`", {"rules": [], "rule": 1}),
        ("missing required field `clientIds`", {"rules": [{"namespaces": ["a"]}]}),
        ("rules[0].namespaces: names or globs are needed", {"rules": [{"namespaces": [], "clientIds": []}]}),
        ("rules[0].clientIds: 'x' is neither a GUID nor *", {"rules": [{"namespaces": ["a"], "clientIds": ["x"]}]}),
    ],
)
def test_a_policy_that_is_none_is_told(words: str, document: object) -> None:
    """With the field, and what is allowed."""
    with pytest.raises(ConfigurationError) as raised:
        parse_policy(document, "policy.yaml")
    assert words in str(raised.value)
    assert "policy.yaml" in str(raised.value)


def test_the_file_is_followed(tmp_path: Path) -> None:
    """A change counts; a broken file leaves the last policy in force; one that is broken at the start is told."""
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps(DOCUMENT))
    followed = PolicyFile(path)
    assert POLICY == followed.policy
    path.write_text("rules: []")
    followed.refresh()
    assert IdentityPolicy(()) == followed.policy
    for broken in ("rules: [}", "rules: !!bool maybe", "rules: !!timestamp x", "? [a]\n: b", "&a [*a]"):
        path.write_text(broken)
        followed.refresh()
        assert IdentityPolicy(()) == followed.policy
    path.write_text("rules: !!bool maybe")
    with pytest.raises(ConfigurationError, match="is no YAML"):
        PolicyFile(path)
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        PolicyFile(tmp_path / "none")
    path.write_text("#" * ((1 << 20) + 1))
    with pytest.raises(ConfigurationError, match="larger than"):
        PolicyFile(path)


@pytest.mark.parametrize(
    ("injected", "found"),
    [
        (True, account(ORDERS)),
        (True, account(reference="configmap/ids/orders")),
        (False, account()),
        (False, None),
    ],
)
def test_pods_that_nobody_labelled(injected: bool, found: ServiceAccount | None) -> None:  # noqa: FBT001
    """Only an annotated service account counts; every other Pod passes without a word."""
    response = ask(found, annotated_only=True)
    assert response["allowed"]
    assert injected == ("patch" in response)
    if injected:
        assert "azure-workload-identity-reserved-token" in base64.b64decode(response["patch"]).decode()
    else:
        assert "warnings" not in response
