"""Workloads of each kind on a real node: each gets a token of Entra's, which accepts the cluster's own tokens."""

from __future__ import annotations

import json
import statistics
import time
from typing import TYPE_CHECKING, Any

import pytest
from orders import ENVIRONMENT, PLAIN_PROXY, PROXY, RESTRICTED, answers, asking, first_token, pod, template, wait
from world import IMAGE, report

from entra import manifest

if TYPE_CHECKING:
    from world import World


def controller(kind: str, name: str, made: dict[str, Any], api: str = "apps/v1", **spec: Any) -> dict[str, Any]:  # noqa: ANN401
    """A Deployment or its like of one replica."""
    made["metadata"]["labels"]["app"] = name
    selector = {} if kind == "Job" else {"selector": {"matchLabels": {"app": name}}}
    return manifest(api, kind, name, "shop", spec={"template": made} | selector | spec)


def test_a_deployment(world: World) -> None:
    """The SDK exchanges the projected token, by its defaults."""
    world.node.apply(controller("Deployment", "web", template({}, asking("app", "workload", "--every", "5"))))
    first_token(world, "shop", "deployment/web")


def test_a_stateful_set_through_the_redirect(world: World) -> None:
    """An SDK that only knows the metadata service: ManagedIdentityCredential in a container without the variables."""
    annotations = PROXY | {"azure.workload.identity/skip-containers": "app"}
    made = template(annotations, asking("app", "managed", "--every", "5"))
    world.node.apply(controller("StatefulSet", "ledger", made, serviceName="ledger"))
    first_token(world, "shop", "statefulset/ledger")


def test_a_job_completes(world: World) -> None:
    """With a native sidecar the Job is done when its program is."""
    made = template(PROXY, asking("app", "imds"), restartPolicy="Never")
    world.node.apply(controller("Job", "report", made, "batch/v1", backoffLimit=0))
    world.node.kubectl("-n", "shop", "wait", "job/report", "--for=condition=complete", "--timeout=55s")
    first_token(world, "shop", "job/report")


def test_a_cron_job(world: World) -> None:
    """Jobs that a CronJob makes are injected as all others."""
    made = template(PROXY, asking("app", "imds"), restartPolicy="Never")
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": made, "backoffLimit": 0}}}
    world.node.apply(manifest("batch/v1", "CronJob", "nightly", "shop", spec=spec))
    world.node.kubectl("-n", "shop", "create", "job", "tonight", "--from=cronjob/nightly")
    world.node.kubectl("-n", "shop", "wait", "job/tonight", "--for=condition=complete", "--timeout=55s")
    first_token(world, "shop", "job/tonight")


def test_an_init_container_that_asks(world: World) -> None:
    """The proxy answers before the first init container of the user's runs."""
    made = template(PROXY, asking("app", "imds", "--every", "5"), initContainers=[asking("early", "imds")])
    world.node.apply(pod("early", "shop", made))
    first_token(world, "shop", "pod/early", "early")
    first_token(world, "shop", "pod/early")


def test_read_only_root_as_user_1000(world: World) -> None:
    """The Pod's own security context neither breaks the proxy nor is loosened."""
    context = {"runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": True}
    app = asking("app", "imds", "--every", "5", securityContext={"readOnlyRootFilesystem": True})
    world.node.apply(pod("readonly", "shop", template(PROXY, app, securityContext=context)))
    first_token(world, "shop", "pod/readonly")


def test_pod_security_restricted(world: World) -> None:
    """In environment mode nothing asks for a privilege, so the namespace lets the Pod in."""
    app = asking("app", "managed", "--every", "5", securityContext=RESTRICTED)
    app["env"] = [{"name": "AZURE_FEDERATED_TOKEN_FILE", "value": ""}]
    world.node.apply(pod("restricted", "restricted", template(ENVIRONMENT, app)))
    first_token(world, "restricted", "pod/restricted")


def test_the_redirect_is_not_restricted(world: World) -> None:
    """And with the redirect it does not: NET_ADMIN is named in the refusal, not hidden."""
    app = asking("app", "imds", securityContext=RESTRICTED)
    refused = world.node.kubectl(
        "create", "-f", "-", text=json.dumps(pod("redirect", "restricted", template(PROXY, app))), check=False
    )
    assert "NET_ADMIN" in refused.stderr


def test_a_resource_quota(world: World) -> None:
    """Both injected containers say what they need, so a namespace that demands it lets the Pod in."""
    hard = {"requests.cpu": "1", "requests.memory": "1Gi", "limits.cpu": "2", "limits.memory": "1Gi"}
    world.node.apply(manifest("v1", "ResourceQuota", "all", "quota", spec={"hard": hard}))
    wait(lambda: world.node.get("-n", "quota", "resourcequota/all").get("status", {}).get("hard"))
    own = {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"cpu": "500m", "memory": "128Mi"}}
    world.node.apply(pod("quota", "quota", template(PROXY, asking("app", "imds", "--every", "5", resources=own))))
    first_token(world, "quota", "pod/quota")


def test_a_namespace_without_labels_on_pods(world: World) -> None:
    """The namespace takes part, and its annotated service account is enough."""
    label = "azure.workload.identity/use-annotated-serviceaccounts=true"
    world.node.kubectl("label", "namespace/annotated", label)
    made = template({}, asking("app", "workload", "--every", "5"))
    del made["metadata"]["labels"]["azure.workload.identity/use"]
    world.node.apply(pod("unlabelled", "annotated", made))
    first_token(world, "annotated", "pod/unlabelled")


def test_the_nodes_metadata_service_is_not_reached(world: World) -> None:
    """A Pod without the proxy asks the node, as the node's own journal shows; those with the proxy never do."""
    journal = world.metadata.journal()
    assert [] == [entry for entry in journal if "/identity" in entry["path"]], journal
    made = template({}, asking("app", "imds", "--every", "1"))
    world.node.apply(pod("bare", "shop", made))
    wait(lambda: [entry for entry in world.metadata.journal() if "/identity" in entry["path"]])
    world.node.kubectl("-n", "shop", "delete", "pod/bare", "--wait=true")
    before = len(world.metadata.journal())
    world.node.apply(pod("watched", "shop", template(PROXY, asking("app", "imds", "--every", "1"))))
    first_token(world, "shop", "pod/watched")
    wait(lambda: len(answers(world, "shop", "pod/watched", "app")) > 3)
    assert [] == [entry for entry in world.metadata.journal()[before:] if "/identity" in entry["path"]]


# The kubelet looks at the runtime once a second: for a container's end, for its start, and after a probe's success. So
# three looks pass for any init container with a sidecar behind it; these do nothing.
IDLE = [
    {"name": "first", "image": IMAGE, "command": ["iptables-nft", "--version"]},
    {
        "name": "beside",
        "image": IMAGE,
        "command": ["python3", "-c", "import signal; signal.pause()"],
        "restartPolicy": "Always",
        "startupProbe": {"exec": {"command": ["iptables-nft", "--version"]}, "periodSeconds": 1},
    },
]


TURNS = 5


def start(world: World, name: str, made: dict[str, Any]) -> float:
    """Seconds from its creation until a Pod runs."""
    began = time.monotonic()
    world.node.apply(pod(name, "shop", made))
    world.node.kubectl("-n", "shop", "wait", f"pod/{name}", "--for=jsonpath={.status.phase}=Running", "--timeout=55s")
    took = time.monotonic() - began
    world.node.kubectl("-n", "shop", "delete", f"pod/{name}", "--now")
    return took


def test_what_the_proxy_costs(world: World) -> None:
    """With a plain sidecar a Pod runs at most 1.5 s later, with a native one as with idle containers in its place.

    Means of Pods made in turns, at evenly spread moments between two looks of the kubelet.
    """
    app = asking("app", "workload", "--every", "60")
    shapes = {
        "without": template({}, app),
        "plain": template(PLAIN_PROXY, app),
        "native": template(PROXY, app),
        "idle": template({}, app, initContainers=IDLE),
    }
    times: dict[str, list[float]] = {shape: [] for shape in shapes}
    for turn in range(TURNS):
        for shape, made in shapes.items():
            time.sleep(turn / TURNS)
            times[shape].append(start(world, f"{shape}-{turn}", made))
    without, plain, native, idle = (statistics.mean(taken) for taken in times.values())
    report(
        f"a Pod runs after {without:.1f} s; later with a proxy: plain {plain - without:.1f} s, native "
        f"{native - without:.1f} s, idle containers like the native one {idle - without:.1f} s"
    )
    assert plain - without <= 1.5
    assert native - idle <= 0.7


@pytest.mark.parametrize("of", ["azwi-proxy", "manager"])
def test_memory_as_the_kubelet_counts_it(of: str, world: World) -> None:
    """Within what the chart requests, so that a node is not filled beyond what was promised."""
    summary = json.loads(world.node.kubectl("get", "--raw", "/api/v1/nodes/node1/proxy/stats/summary").stdout)
    counted = [
        (container["memory"]["workingSetBytes"], container["memory"].get("rssBytes", 0))
        for one in summary["pods"]
        for container in one["containers"]
        if container["name"] == of and container["memory"].get("workingSetBytes")
    ]
    assert counted
    working, resident = (max(values) / 2**20 for values in zip(*counted, strict=True))
    report(f"{of}: {working:.1f} MiB working set of its cgroup, {resident:.1f} MiB of it anonymous")
    assert working < {"azwi-proxy": 40, "manager": 64}[of]
