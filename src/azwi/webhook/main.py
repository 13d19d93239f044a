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
from azwi.errors import AzwiError, ConfigurationError
from azwi.flags import parse_flags
from azwi.version import describe
from azwi.webhook.settings import FLAGS, PROGRAM, WebhookSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from azwi.webhook.accounts import ManifestAccounts

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
    from azwi.webhook.certificates import CertificateFiles  # noqa: PLC0415
    from azwi.webhook.metrics import Metrics  # noqa: PLC0415
    from azwi.webhook.server import AdmissionApp, StatusApp  # noqa: PLC0415

    life.keep_heap()
    accounts = _read_accounts(settings)
    certificates = CertificateFiles(Path(settings.certificates), settings.tls_min_version)
    metrics = Metrics()
    metrics.set_accounts(len(accounts))
    status = StatusApp(metrics)
    admission = AdmissionApp(accounts, _with_native_sidecar(settings), metrics)
    webhook = life.listen(settings.listen, "port")
    ports = [life.Port(webhook, admission, certificates.context)]
    if settings.health is not None:
        ports.append(life.Port(life.listen(settings.health, "health-addr"), status.health))
    if settings.metrics is not None:
        ports.append(life.Port(life.listen(settings.metrics, "metrics-addr"), status.metrics))

    def refresh_accounts() -> None:
        accounts.refresh()
        metrics.set_accounts(len(accounts))

    def started() -> None:
        status.ready = True
        fields = {"port": webhook.getsockname()[1], "accounts": len(accounts)}
        log.info("webhook serves", extra={"fields": fields})

    def stopping() -> None:
        status.ready = False
        log.info("webhook stops")

    serving = life.serve(ports, started, stopping, [certificates.refresh, refresh_accounts])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


def _read_accounts(settings: WebhookSettings) -> ManifestAccounts:
    from azwi.webhook.accounts import ManifestAccounts  # noqa: PLC0415

    if not settings.accounts:
        raise ConfigurationError(
            "there is nothing to read service accounts from; this version cannot ask an API server yet",
            hint="name manifests with --service-accounts FILE|DIR",
        )
    return ManifestAccounts(Path(settings.accounts))


def _with_native_sidecar(settings: WebhookSettings) -> Settings:
    """The admission settings with auto decided: without an API server native sidecars are taken for given (D 12)."""
    native = uses_native_sidecar(settings.native_sidecar, git_version=None)
    return replace(settings.admission, proxy=replace(settings.admission.proxy, native_sidecar=native))
