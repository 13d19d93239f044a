"""The commands that play the whole system on one machine: demo and emulator."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--examples",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the manifests; the project's examples when left out.",
)
def demo(examples: Path | None) -> int:
    """Show the main job on this machine: a Pod goes in, a token comes out.

    The webhook, the proxy and the containers' programs are real processes; Microsoft Entra is the emulator, on
    loopback. Ends with 1 if any step fails.
    """
    from rich.console import Console  # noqa: PLC0415

    from azwi.local.demo import find_examples, run_demo  # noqa: PLC0415

    return run_demo(examples or find_examples(), Console(highlight=False))


@click.command()
@click.option("--state", required=True, type=click.Path(path_type=Path), help="State file: tenants and applications.")
@click.option(
    "--dir", "folder", required=True, type=click.Path(path_type=Path), help="Folder for ca.crt and addresses."
)
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any free one.")
def emulator(state: Path, folder: Path, port: int) -> int:
    """Run a stand-in for Microsoft Entra on loopback.

    It knows the tenants, applications and federated credentials of the state file, and issues service account tokens
    for an emulated cluster. It is no identity provider: use it for tests and to learn. Ends on SIGTERM or Ctrl-C.
    """
    from azwi.emulator.server import EmulatorSettings, run  # noqa: PLC0415

    return run(EmulatorSettings(state=state, folder=folder, port=port))
