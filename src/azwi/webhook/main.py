"""The program azwi-webhook: settings, accounts, certificate, ports, life. It only wires."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from azwi import log as logs
from azwi.admission.settings import Settings, uses_native_sidecar
from azwi.errors import AzwiError
from azwi.flags import parse_flags
from azwi.version import describe
from azwi.webhook.settings import FLAGS, PROGRAM, WebhookSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azwi.webhook.accounts import KnownAccounts, ManifestAccounts
    from azwi.webhook.certificates.files import CertificateFiles
    from azwi.webhook.cluster import Cluster
    from azwi.webhook.life import Port
    from azwi.webhook.policyfile import PolicyFile
    from azwi.webhook.server import StatusApp

log = logs.logger("webhook")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the webhook until it is told to stop; gives the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        if parse_flags(PROGRAM, FLAGS, arguments)["version"] == "true":
            sys.stdout.write(msgspec.json.encode(describe()).decode() + "\n")
            return 0
        settings = read_settings(arguments, os.environ, lambda path: Path(path).read_bytes())
        logs.configure(settings.log_level)
        _run(settings)
    except AzwiError as problem:
        sys.stderr.write(f"{PROGRAM}: {problem}\n")
        return problem.exit_code
    return 0


def _run(settings: WebhookSettings) -> None:
    # Imported once the settings are known to be right: a mistake in a flag is told in a tenth of the time.
    import asyncio  # noqa: PLC0415

    import uvloop  # noqa: PLC0415

    from azwi.webhook import life  # noqa: PLC0415
    from azwi.webhook.metrics import Metrics  # noqa: PLC0415
    from azwi.webhook.server import AdmissionApp, StatusApp  # noqa: PLC0415

    life.keep_heap()
    cluster = None if settings.accounts else _follow_cluster(settings)
    accounts: KnownAccounts = _read_accounts(settings) if cluster is None else cluster.accounts
    own = None if cluster is None else cluster.certificates
    certificates = own or _read_certificates(settings)
    policy = _read_policy(settings)
    metrics = Metrics(by_namespace=settings.metrics_by_namespace)
    status = StatusApp(metrics)
    webhook = life.listen(settings.listen, "port")
    look, tell = (None, None) if cluster is None else (cluster.accounts, cluster.events)
    admission = AdmissionApp(accounts, _with_native_sidecar(settings, None), metrics, look, policy, tell)
    ports = [life.Port(webhook, admission, certificates.context), *_status_ports(settings, status)]

    def report() -> None:
        metrics.set_accounts(len(accounts))
        metrics.set_expiry(certificates.expiry.ends)
        if cluster is not None:
            cluster.report(metrics)

    def started() -> None:
        report()
        fields = {"port": webhook.getsockname()[1], "accounts": len(accounts)}
        log.info("webhook serves", extra={"fields": fields})
        if cluster is None:
            ready()

    def ready() -> None:
        status.ready = True
        log.info("webhook is ready", extra={"fields": {"accounts": len(accounts)}})

    def stopping() -> None:
        status.ready = False
        admission.closing = True
        log.info("webhook stops", extra={"fields": {"after": settings.shutdown_delay}})

    def use_version(git_version: str) -> None:
        admission.settings = _with_native_sidecar(settings, git_version)

    beside = [certificates.expiry.run] + ([] if cluster is None else cluster.tasks(use_version, ready))
    followed = [certificates, accounts] + ([] if policy is None else [policy])
    refresh = [*(one.refresh for one in followed), report]
    serving = life.serve(ports, started, stopping, refresh, beside, settings.shutdown_delay)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _status_ports(settings: WebhookSettings, status: StatusApp) -> list[Port]:
    from azwi.webhook import life  # noqa: PLC0415

    wanted = (
        (settings.health, "health-addr", status.health),
        (settings.metrics, "metrics-addr", status.metrics),
    )
    return [life.Port(life.listen(address, flag), app) for address, flag, app in wanted if address is not None]


def _read_certificates(settings: WebhookSettings) -> CertificateFiles:
    from azwi.webhook.certificates.files import CertificateFiles  # noqa: PLC0415

    return CertificateFiles(Path(settings.certificates), settings.tls_min_version)


def _read_accounts(settings: WebhookSettings) -> ManifestAccounts:
    from azwi.webhook.accounts import ManifestAccounts  # noqa: PLC0415

    return ManifestAccounts(Path(settings.accounts))


def _read_policy(settings: WebhookSettings) -> PolicyFile | None:
    if not settings.identity_policy:
        return None
    from azwi.webhook.policyfile import PolicyFile  # noqa: PLC0415  # it brings YAML

    return PolicyFile(Path(settings.identity_policy))


def _follow_cluster(settings: WebhookSettings) -> Cluster:
    # lightkube and httpx2 are not small, and only needed with an API server.
    from azwi.webhook.cluster import Cluster  # noqa: PLC0415

    return Cluster(settings, os.environ)


def _with_native_sidecar(settings: WebhookSettings, git_version: str | None) -> Settings:
    """The admission settings with auto decided by the API server's version (D 12)."""
    native = uses_native_sidecar(settings.native_sidecar, git_version)
    return replace(settings.admission, proxy=replace(settings.admission.proxy, native_sidecar=native))
