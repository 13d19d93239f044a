"""azwi apply: many service accounts and identities from one file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from azwi.cli.options import CLUSTER, DRY_RUN, OUTPUT, SIGN_IN, YES, Duration, apply_options, sign_in_options

if TYPE_CHECKING:
    from azwi.cli.options import SignInOptions


@click.command()
@click.option("-f", "--filename", required=True, help="YAML file with the identities, or - for standard input.")
@click.option("--overwrite", is_flag=True, help="Take over annotations that somebody else manages.")
@click.option("--wait", is_flag=True, help="Go on until each service account gets an access token.")
@click.option("--wait-timeout", type=Duration(), default="5m", show_default=True, help="For how long, with --wait.")
@apply_options(DRY_RUN, OUTPUT, YES, SIGN_IN, CLUSTER)
@click.pass_context
def apply(ctx: click.Context, /, **values: Any) -> int:  # noqa: ANN401
    r"""Give many service accounts their identities, as a file says.

    Shows the plan, then does what is missing; on a terminal it asks in between. Nothing is ever removed. Applying the
    same file again changes nothing.

    \b
    issuer: https://oidc.example/abc/
    identities:
      - application: orders
        serviceAccounts: [{namespace: shop, name: orders}]
        roles: [{role: Reader, scope: /subscriptions/…/resourceGroups/shop}]
      - managedIdentity: catalogue
        resourceGroup: shop
        serviceAccounts: [{namespace: shop, name: catalogue, tokenExpiration: 2h}]
        credentials: [{name: ci-shop, issuer: "https://ci.example", subject: "repo:shop"}]

    \b
    Examples:
      azwi apply -f identities.yaml --dry-run
      azwi apply -f identities.yaml --yes --wait -o json
    """
    import asyncio  # noqa: PLC0415

    return asyncio.run(_apply(sign_in_options(ctx), values))


async def _apply(options: SignInOptions, values: dict[str, Any]) -> int:
    from dataclasses import replace  # noqa: PLC0415

    from azwi.cli.output import Progress, print_document  # noqa: PLC0415
    from azwi.cli.session import check_options, open_session, read_cluster_issuer  # noqa: PLC0415
    from azwi.cli.work import ask, plan_target, run_all  # noqa: PLC0415
    from azwi.identity.manifest import parse_targets  # noqa: PLC0415

    checked = check_options(options)
    document, where = _read(values["filename"])
    if isinstance(document, dict) and not document.get("issuer"):
        document["issuer"] = await read_cluster_issuer(options)
    targets = parse_targets(document, where, checked.subscription_id)
    progress = Progress()
    async with open_session(options, checked) as session:
        works = [await plan_target(session, replace(one, overwrite=values["overwrite"])) for one in targets]
        for target, work in zip(targets, works, strict=True):
            progress.plan(f"Plan for {target.identity.title}", work.steps)
        try:
            if not values["dry_run"]:
                ask(works, "Do that?", yes=values["yes"])
                await run_all(works, progress)
                if values["wait"]:
                    for target, work in zip(targets, works, strict=True):
                        await work.prove(progress, target.audience_of, values["wait_timeout"])
        finally:
            if values["output"] != "table":
                documents = [work.document() for work in works]
                result = {"command": "apply", "dryRun": values["dry_run"], "identities": documents}
                print_document(result, values["output"])
    return 0


def _read(filename: str) -> tuple[object, str]:
    """The document in a file, and what to call it."""
    import sys  # noqa: PLC0415
    from pathlib import Path  # noqa: PLC0415

    from azwi.cluster.manifests import load_documents, read_file  # noqa: PLC0415
    from azwi.errors import ManifestError  # noqa: PLC0415

    where = "standard input" if filename == "-" else filename
    content = sys.stdin.buffer.read() if filename == "-" else read_file(Path(filename))
    documents = load_documents(content, where)
    if len(documents) > 1:
        raise ManifestError(f"{where} holds {len(documents)} documents; it must be one")
    return documents[0] if documents else None, where
