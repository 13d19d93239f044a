"""A token that grows old while the other tests run: the last of them all, since the kubelet takes its time."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import jwt
from elder import LIFE, NAME
from orders import read_token, wait
from world import report

from entra import CLIENT

if TYPE_CHECKING:
    from elder import Elder
    from world import World

ASK = (
    "import sys, urllib.request as r; sys.stdout.write(r.urlopen(r.Request('http://169.254.169.254/metadata/identity/"
    f"oauth2/token?api-version=2018-02-01&client_id={CLIENT}&resource=' + sys.argv[1], headers={{'Metadata': 'true'}}),"
    " timeout=60).read().decode())"
)
STALE = 400.0  # seconds after its end at which Entra, which allows for five minutes, takes a token no more


def test_the_kubelet_renews_a_token_and_the_proxy_uses_it(world: World, elder: Elder) -> None:
    """At four fifths of its life; an Entra whose clock is past the end of the old one answers a new exchange."""
    old, token = elder.token, wait(lambda: renewed(world, elder), LIFE)
    claims = [jwt.decode(one, options={"verify_signature": False}) for one in (old, token)]
    age = claims[1]["iat"] - claims[0]["iat"]
    assert 0.7 * LIFE < age < LIFE
    report(f"a service account token renewed by the kubelet after {age} s of {LIFE}")
    world.entra.tell("clock", skew=claims[0]["exp"] + STALE - time.time())
    try:
        answer = world.node.kubectl(
            "-n", "shop", "exec", NAME, "-c", "app", "--", "python3", "-c", ASK, "https://storage.azure.com"
        )
        found = jwt.decode(json.loads(answer.stdout)["access_token"], options={"verify_signature": False})
        assert ("https://storage.azure.com", CLIENT) == (found["aud"], found["appid"])
        last = world.entra.journal()[-1]
        assert ("ok", f"system:serviceaccount:shop:{elder.account}") == (last["outcome"], last["subject"])
    finally:
        world.entra.tell("clock", skew=0)


def renewed(world: World, elder: Elder) -> str:
    """The Pod's service account token, once it is another; empty before."""
    found = read_token(world, NAME)
    return "" if found == elder.token else found
