"""Which workload of a file is meant, and the Pod that comes of it."""

from __future__ import annotations

from typing import Any

import pytest

from azwi.errors import ManifestError
from azwi.local.workloads import PodTemplate, choose_template, find_templates, make_pod


def template(workload: str, *containers: str, labelled: bool = True) -> PodTemplate:
    """A template with these containers."""
    labels = {"azure.workload.identity/use": "true"} if labelled else {}
    document: dict[str, Any] = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": name} for name in containers]},
    }
    return PodTemplate(workload, "shop", document)


TWO = [template("Deployment shop/orders", "app", "log"), template("Job shop/report", "app", "print")]


@pytest.mark.parametrize(
    ("expected", "workload", "container"),
    [
        ("Deployment shop/orders", "orders", ""),
        ("Deployment shop/orders", "deployment/orders", "app"),
        ("Job shop/report", "Job/shop/report", ""),
        ("Job shop/report", "", "print"),
    ],
)
def test_a_workload_is_found(expected: str, workload: str, container: str) -> None:
    """By name, by kind and name, by a container that only it has."""
    assert expected == choose_template(TWO, workload, container, "f").workload


def test_the_labelled_one_is_meant() -> None:
    """Of several, the only one with the label."""
    several = [template("Pod shop/a", "app", labelled=False), template("Pod shop/b", "app")]
    assert "Pod shop/b" == choose_template(several, "", "", "f").workload


@pytest.mark.parametrize(
    ("expected", "templates", "workload", "container"),
    [
        (r"f has Deployment shop/orders \(app, log\), Job shop/report .*say which with --workload", TWO, "", "app"),
        (r"f has no workload nobody with a container x; it has Deployment", TWO, "nobody", "x"),
        (r"f has no workload with a container x; it has Deployment", TWO, "", "x"),
        (r"it has no workload", [], "", ""),
        (r"f has Pod shop/empty \(\)", [template("Pod shop/empty")], "", ""),
    ],
)
def test_an_unclear_choice_is_told(expected: str, templates: list[PodTemplate], workload: str, container: str) -> None:
    """What there is stands in the message."""
    with pytest.raises(ManifestError, match=expected):
        choose_template(templates, workload, container, "f")


def test_a_pod_is_made_of_a_template() -> None:
    """Name and namespace are the workload's; labels and spec the template's; the account is the default one."""
    pod = make_pod(TWO[0])
    assert ("orders", "shop") == (pod["metadata"]["name"], pod["metadata"]["namespace"])
    assert {"azure.workload.identity/use": "true"} == pod["metadata"]["labels"]
    assert "default" == TWO[0].service_account
    (generated,) = find_templates({"kind": "Pod", "metadata": {"generateName": "orders-"}, "spec": {}}, "f")
    assert "orders-local" == make_pod(generated)["metadata"]["name"]
    broken = next(iter(find_templates({"kind": "Pod", "spec": 7}, "f")))
    assert ("default", []) == (broken.service_account, broken.containers)
