"""Admissions that go on while something happens: labelled Pods, asked for as a dry run again and again."""

from __future__ import annotations

import contextlib
import json
import threading
from typing import TYPE_CHECKING

from orders import PROXY, asking, pod, template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node import Node

PAUSE = 0.1  # seconds between two


class Admissions:
    """What was answered so far."""

    def __init__(self) -> None:
        self.injected = 0
        self.refused: list[str] = []
        self.bare: list[str] = []  # let in without an identity

    def check(self) -> None:
        """All were let in, each with an identity, one volume and one proxy."""
        said = self.refused[:3] + self.bare[:3]
        assert not said, f"{len(self.refused) + len(self.bare)} beside {self.injected}: {said}"
        assert self.injected > 5


def ask(node: Node, found: Admissions) -> None:
    """One admission."""
    made = pod("load", "shop", template(PROXY, asking("app", "workload")))
    run = node.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", text=json.dumps(made), check=False)
    if run.returncode:
        found.refused.append(run.stderr.strip())
        return
    spec = json.loads(run.stdout)["spec"]
    tokens = [one["name"] for one in spec["volumes"] if one["name"].startswith("azure-workload-identity-reserved")]
    proxies = [
        one["name"] for one in spec.get("initContainers", []) + spec["containers"] if one["name"] == "azwi-proxy"
    ]
    if (1, 1) == (len(tokens), len(proxies)):
        found.injected += 1
    else:
        found.bare.append(f"{tokens} {proxies}")


@contextlib.contextmanager
def going_on(node: Node) -> Iterator[Admissions]:
    """Admissions in two threads until the block ends."""
    found, stop = Admissions(), threading.Event()

    def repeat() -> None:
        while not stop.wait(PAUSE):
            ask(node, found)

    threads = [threading.Thread(target=repeat) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        stop.set()
        for thread in threads:
            thread.join()
