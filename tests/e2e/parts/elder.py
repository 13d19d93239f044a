"""A Pod with the shortest token that Kubernetes issues, made early and looked at late."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from orders import PROXY, asking, first_token, pod, read_token, template

from entra import ACCOUNT

if TYPE_CHECKING:
    from world import World

NAME = "elder"
LIFE = 600  # seconds; the API server issues no shorter one, and the webhook asks for an hour at least


@dataclass(frozen=True)
class Elder:
    """The Pod as it was when it had got its first access token."""

    account: str
    token: str  # the kubelet's, for its service account


def start(world: World) -> Elder:
    """What the webhook makes of a Pod, with that life, and without the label that would have it made again."""
    asked = pod(NAME, "shop", template(PROXY, asking("app", "imds", "--every", "30")))
    create = ["create", "--dry-run=server", "-o", "json", "-f", "-"]
    made = json.loads(world.node.kubectl(*create, text=json.dumps(asked)).stdout)
    for volume in made["spec"]["volumes"]:
        for source in volume.get("projected", {}).get("sources", []):
            if source.get("serviceAccountToken", {}).get("audience"):
                source["serviceAccountToken"]["expirationSeconds"] = LIFE
    made["metadata"] = {"name": NAME, "namespace": "shop"}
    world.node.apply(made)
    first_token(world, "shop", f"pod/{NAME}")
    return Elder(ACCOUNT, read_token(world, NAME))
