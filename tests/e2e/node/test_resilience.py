"""What applications see when something fails: the webhook's Pod, Entra, the kubelet, the certificate, an old token."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest
from admissions import going_on
from cryptography import x509
from orders import PROXY, answers, asking, first_token, pod, read_token, template, wait
from world import FULL, SYSTEM, report

from entra import ACCOUNT

if TYPE_CHECKING:
    from world import World

DOWN = 60.0  # seconds that Entra is away
SETTLED = 75.0  # seconds after which a new authority's certificate is served by every replica


def client(world: World, name: str, *, every: float = 1) -> None:
    """A Pod that asks its proxy again and again."""
    app = asking("app", "imds", "--every", str(every))
    world.node.apply(pod(name, "shop", template(PROXY, app)))
    first_token(world, "shop", f"pod/{name}")


def since(world: World, name: str, moment: float) -> list[dict[str, Any]]:
    """What that Pod's program was answered from then on."""
    return [one for one in answers(world, "shop", f"pod/{name}", "app") if one["at"] > moment]


def test_the_kubelet_is_restarted_and_renews_tokens(world: World) -> None:
    """Programs notice nothing, and the kubelet, which has forgotten the tokens it got, writes new ones."""
    client(world, "steady")
    old = read_token(world, "steady")
    began = time.time()
    world.node.stop_kubelet()
    time.sleep(5)
    world.node.start_kubelet()
    new = wait(lambda: found if (found := read_token(world, "steady")) not in {"", old} else None, 120)
    claims = [jwt.decode(one, options={"verify_signature": False}) for one in (old, new)]
    assert claims[0]["iat"] < claims[1]["iat"]
    assert f"system:serviceaccount:shop:{ACCOUNT}" == claims[1]["sub"]
    assert [] == [one for one in since(world, "steady", began) if "error" in one]
    # A kubelet that was restarted says of its Pods that they are unready until it has asked them again
    # (kubernetes/kubernetes#100277); on this one node these are both replicas of the webhook.
    time.sleep(5)
    world.node.kubectl("-n", SYSTEM, "wait", "pods", "--all", "--for=condition=Ready", "--timeout=30s")


@pytest.mark.usefixtures("elder")  # from here on, with a kubelet that remembers
def test_a_webhook_pod_is_killed(world: World) -> None:
    """No admission fails: the other replica answers, and a new one comes."""
    with going_on(world.node) as admissions:
        time.sleep(2)
        victim = world.node.get("-n", SYSTEM, "pods", "-l", "app.kubernetes.io/instance=azwi")["items"][0]["metadata"]
        world.node.kubectl("-n", SYSTEM, "delete", "pod", victim["name"])
        world.node.kubectl("-n", SYSTEM, "rollout", "status", f"deployment/{FULL}", "--timeout=55s")
        time.sleep(2)
    admissions.check()
    report(f"a webhook Pod deleted: {admissions.injected} admissions meanwhile, none failed")


def test_entra_is_away_for_a_minute(world: World) -> None:
    """Who has a token keeps getting it from the proxy's memory; afterwards new ones come by themselves."""
    client(world, "patient")
    began = time.time()
    world.entra.reachable(yes=False)
    try:
        time.sleep(DOWN)
        during = since(world, "patient", began + 2)
    finally:
        world.entra.reachable(yes=True)
    assert len(during) > DOWN / 4
    assert [] == [one for one in during if "error" in one]
    report(f"Entra away for {DOWN:.0f} s: {len(during)} tokens served from memory, no error")
    client(world, "latecomer")


def certificate(world: World) -> x509.Certificate | None:
    """The server certificate in the Secret."""
    data = world.node.get("-n", SYSTEM, f"secret/{FULL}-server-cert").get("data") or {}
    pem = base64.b64decode(data.get("tls.crt", ""))
    return x509.load_pem_x509_certificate(pem) if pem else None


def test_certificates_are_made_anew(world: World) -> None:
    """An emptied Secret means a new authority, in the caBundle before it is used: no admission fails meanwhile."""
    old = certificate(world)
    assert old is not None
    empty = json.dumps([{"op": "remove", "path": "/data"}])
    with going_on(world.node) as admissions:
        time.sleep(1)
        world.node.kubectl("-n", SYSTEM, "patch", f"secret/{FULL}-server-cert", "--type=json", "-p", empty)
        new = wait(lambda: found if (found := certificate(world)) not in {None, old} else None, 150)
        time.sleep(SETTLED)
    admissions.check()
    bundle = world.node.get("mutatingwebhookconfiguration", f"{FULL}-{SYSTEM}")["webhooks"][0]["clientConfig"][
        "caBundle"
    ]
    authorities = x509.load_pem_x509_certificates(base64.b64decode(bundle))
    assert new.issuer in {one.subject for one in authorities}
    report(f"certificates made anew: {admissions.injected} admissions meanwhile, none failed")
