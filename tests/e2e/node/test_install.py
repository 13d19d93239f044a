"""The chart on a real node."""

from __future__ import annotations

from world import RELEASE, SYSTEM, World, report


def test_install_in_time(world: World) -> None:
    """Ready within 30 seconds."""
    report(f"helm install --wait: {world.installed:.1f} s")
    assert world.installed < 30


def test_helm_test(world: World) -> None:
    """`helm test` proves an injection."""
    run = world.node.helm("test", RELEASE, "--namespace", SYSTEM, check=False)
    assert 0 == run.returncode, run.stdout + run.stderr
    assert "Phase:          Succeeded" in run.stdout
