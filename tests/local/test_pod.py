"""A Pod on this machine, as documents: reviews, answers, token requests, a container's environment."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from azwi.errors import LocalError
from azwi.local.pod import (
    ProjectedToken,
    apply_answer,
    find_container,
    projected_tokens,
    render_review,
    render_token_request,
)

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "app", "namespace": "shop"},
    "spec": {
        "initContainers": [{"name": "setup"}],
        "containers": [{"name": "app"}],
        "volumes": [
            {"name": "scratch", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"configMap": {}}, {"serviceAccountToken": {"path": "a/b"}}]}},
        ],
    },
}


def test_a_review_names_the_pod_and_its_namespace() -> None:
    """The review is one that an API server could send; a Pod without namespace goes to default."""
    request = render_review(POD)["request"]

    assert ("app", "shop", "CREATE") == (request["name"], request["namespace"], request["operation"])
    assert render_review({"spec": {}})["request"]["namespace"] == "default"


def test_an_answer_with_a_patch_changes_the_pod() -> None:
    """The patch is applied to a copy, and the warnings are kept."""
    patch = [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]
    response = {
        "allowed": True,
        "patch": base64.b64encode(json.dumps(patch).encode()).decode(),
        "warnings": ["careful"],
    }

    admitted = apply_answer(POD, {"response": response})

    assert admitted.pod["metadata"]["labels"] == {"a": "b"}
    assert "labels" not in POD["metadata"]
    assert admitted.warnings == ["careful"]


def test_an_answer_without_a_patch_leaves_the_pod() -> None:
    """A Pod that needs nothing stays as it is."""
    assert apply_answer(POD, {"response": {"allowed": True}}).pod is POD


def test_a_refusal_is_an_error_with_the_webhooks_words() -> None:
    """The message of the refusal is what is told."""
    answer = {"response": {"allowed": False, "status": {"message": "no such account"}}}

    with pytest.raises(LocalError, match="refused the Pod: no such account"):
        apply_answer(POD, answer)


def test_containers_are_found_in_both_lists() -> None:
    """Init containers and ordinary ones; a name that is in neither is an error."""
    assert find_container(POD, "setup") == {"name": "setup"}
    assert find_container(POD, "app") == {"name": "app"}
    with pytest.raises(LocalError, match="no container other"):
        find_container(POD, "other")


def test_projected_tokens_become_token_requests() -> None:
    """Only service account tokens are asked for, bound to the Pod, with Kubernetes' default life."""
    (token,) = projected_tokens(POD)

    assert token == ProjectedToken("token", "a/b", "", 3600)
    assert render_token_request(POD, token)["spec"]["audiences"] == []
    assert render_token_request(POD, token)["spec"]["boundObjectRef"]["name"] == "app"
