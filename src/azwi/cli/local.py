"""The commands that play the whole system on one machine: demo, emulator, inject."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from azwi.errors import ManifestError


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
@click.option("-f", "--filename", "source", required=True, help="File with the manifests, or - for standard input.")
@click.option("--service-accounts", type=click.Path(path_type=Path), help="File with more ServiceAccount manifests.")
@click.option("--tenant-id", help="Tenant of the Pods; AZURE_TENANT_ID when left out.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["yaml", "json", "patch"]),
    default="yaml",
    show_default=True,
    help="What to print.",
)
def inject(source: str, service_accounts: Path | None, tenant_id: str | None, output: str) -> int:
    """Do to manifests what the webhook would do, without a cluster.

    Pods, Deployments, StatefulSets, DaemonSets, ReplicaSets, ReplicationControllers, Jobs, CronJobs and Lists of
    them; the labelled ones change. Service accounts are taken from the manifests themselves, too. Warnings go to
    stderr; ends with 1 when a Pod would be refused.
    """
    import os  # noqa: PLC0415

    from azwi.cluster.manifests import read_file  # noqa: PLC0415
    from azwi.local.inject import Output, inject_manifests, read_accounts  # noqa: PLC0415
    from azwi.webhook.settings import read_settings  # noqa: PLC0415

    environment = dict(os.environ)
    if tenant_id is not None:
        environment["AZURE_TENANT_ID"] = environment["CONFIG_AZURE_TENANT_ID"] = tenant_id
    settings = read_settings([], environment, lambda path: Path(path).read_bytes()).admission
    where, content = ("standard input", _read_input()) if source == "-" else (source, read_file(Path(source)))
    sources = [(content, where)]
    if service_accounts is not None:
        sources.append((read_file(service_accounts), str(service_accounts)))
    try:
        text = content.decode()
    except UnicodeDecodeError as problem:
        raise ManifestError(f"{where} is no UTF-8 text") from problem
    result = inject_manifests(text, where, read_accounts(sources), settings, Output(output))
    for warning in result.warnings:
        click.echo(f"Warning: {warning}", err=True)
    click.echo(result.text, nl=False)
    for refusal in result.refusals:
        click.echo(f"Error: {refusal}", err=True)
    return 1 if result.refusals else 0


def _read_input() -> bytes:
    from azwi.cluster.manifests import MAX_FILE_BYTES  # noqa: PLC0415

    content = sys.stdin.buffer.read(MAX_FILE_BYTES + 1)
    if len(content) > MAX_FILE_BYTES:
        raise ManifestError(f"standard input is larger than {MAX_FILE_BYTES} bytes")
    return content


@click.command(context_settings={"ignore_unknown_options": False})
@click.option("-f", "--filename", required=True, help="File or folder with the manifests.")
@click.option("--container", default="", help="Name of the container; the first one when left out.")
@click.option("--workload", default="", help="KIND/NAME or NAME, where the file has several workloads.")
@click.option("--proxy", is_flag=True, help="Run the proxy beside it, for programs that only know IMDS.")
@click.option(
    "--isolated", is_flag=True, help="In namespaces of its own, where login.microsoftonline.com is the emulator."
)
@click.option("--emulator", default="", help="Folder of a running emulator; one is started when left out.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def run(
    filename: str,
    container: str,
    workload: str,
    emulator: str,
    command: tuple[str, ...],
    *,
    proxy: bool,
    isolated: bool,
) -> int:
    r"""Run a command as a container of a manifest would run, with a real identity of an emulated Entra.

    The Pod goes through the real webhook, its service account token stands in a private file and is renewed, and the
    container's variables are the command's. Without a COMMAND the container's own runs. Signals and the exit code pass
    through.

    \b
    azwi run -f orders.yaml -- python orders.py
    azwi run -f orders.yaml --isolated --proxy -- curl -H Metadata:true 'http://169.254.169.254/metadata/...'
    """
    from azwi.errors import FlagError  # noqa: PLC0415
    from azwi.local.run import RunOrder, run  # noqa: PLC0415

    if isolated and emulator:
        raise FlagError(
            "--isolated and --emulator exclude each other",
            hint="a namespace of its own cannot reach an emulator outside",
        )
    return run(RunOrder(filename, container, workload, proxy, isolated, emulator, command))


@click.command()
@click.option("--state", required=True, type=click.Path(path_type=Path), help="State file: tenants and applications.")
@click.option(
    "--dir", "folder", required=True, type=click.Path(path_type=Path), help="Folder for ca.crt and addresses."
)
@click.option("--port", default=0, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for any free one.")
@click.option(
    "--imds-port",
    type=click.IntRange(0, 65535),
    help="Port of a metadata service with the state's managed identities, in plain HTTP; none when left out.",
)
@click.option("--imds-host", default="127.0.0.1", hidden=True)  # only a namespace has the real address
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 in a Pod.")
@click.option("--name", default="localhost", show_default=True, help="Host name in all addresses.")
@click.option(
    "--once",
    is_flag=True,
    help="Leave it running in the background unless DIR has a running one, and print its environment for a shell.",
)
def emulator(
    state: Path, folder: Path, port: int, imds_port: int | None, imds_host: str, host: str, name: str, *, once: bool
) -> int:
    r"""Run a stand-in for Microsoft Entra on loopback.

    It knows the tenants, applications, managed identities and federated credentials of the state file, which it reads
    again when it changes, and issues service account tokens for an emulated cluster. It is no identity provider: use
    it for tests and to learn. Ends on SIGTERM or Ctrl-C.

    \b
    eval "$(azwi emulator --state entra.yaml --dir /tmp/entra --once)"
    kill $AZWI_EMULATOR_PID
    """
    from azwi.emulator.server import EmulatorSettings, run  # noqa: PLC0415

    settings = EmulatorSettings(
        state=state, folder=folder, port=port, imds_port=imds_port, imds_host=imds_host, name=name, host=host
    )
    if not once:
        return run(settings)
    from azwi.emulator.background import run_once  # noqa: PLC0415

    click.echo(run_once(settings), nl=False)
    return 0
