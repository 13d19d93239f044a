"""azwi-proxy: answers the metadata token requests of one Pod with tokens for its service account. Only wires.

Imports stand where they are needed: `--probe` and `--version` load a fraction of what the server does.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import os
import sys

from azwi.errors import AzwiError, ConfigurationError

TYPE_CHECKING = False  # as type checkers know it; the probe does without `typing`
if TYPE_CHECKING:
    from collections.abc import Callable
    from ssl import SSLContext
    from typing import Final

    from azwi.proxy.identity_map import IdentityMap
    from azwi.proxy.options import Options
    from azwi.proxy.settings import Settings

PROGRAM: Final = "azwi-proxy"
ADDRESS: Final = "127.0.0.1"  # [D 25] nothing outside of the Pod may ask
_OTHER_FLOWS: Final = (
    "msal.managed_identity",
    "msal.mex",
    "msal.oauth2cli.authcode",
    "msal.wstrust_request",
    "msal.wstrust_response",
)
_MAX_MAP_BYTES: Final = 1_048_576  # what a ConfigMap holds at most


def main(argv: list[str] | None = None) -> int:
    """Run the program; its exit code."""
    from azwi.proxy.probe import find_probed_port

    arguments = sys.argv[1:] if argv is None else argv
    if (port := find_probed_port(arguments)) is not None:
        return _probe(port)

    from azwi.proxy.options import parse_options

    try:
        options = parse_options(arguments)
        if options.version:
            return _print_version()
        if options.probe:
            return _probe(options.port)
        return _serve(options)
    except AzwiError as problem:
        sys.stderr.write(f"{PROGRAM}: {problem}\n")
        return problem.exit_code


def _print_version() -> int:
    import json

    from azwi.version import describe

    sys.stdout.write(json.dumps(describe()) + "\n")
    return 0


def _probe(port: int) -> int:
    from azwi.proxy.probe import probe

    if probe(port):
        return 0
    sys.stderr.write(f"{PROGRAM}: no proxy on {ADDRESS}:{port} says that it is ready\n")
    return 1


def _serve(options: Options) -> int:
    _end_early_on_sigterm()
    _leave_out_other_flows()
    import asyncio
    import time
    from urllib.parse import urlsplit

    from azwi import log
    from azwi.entra.http import Transport
    from azwi.entra.tokens import TokenExchanger
    from azwi.proxy.cache import TokenCache
    from azwi.proxy.endpoint import Endpoint, MetricsEndpoint
    from azwi.proxy.imds import Rules
    from azwi.proxy.life import Life, Listener
    from azwi.proxy.metrics import Metrics
    from azwi.proxy.passthrough import Upstream
    from azwi.proxy.paths import Passthrough
    from azwi.proxy.server import HttpServer
    from azwi.proxy.settings import read_settings
    from azwi.version import user_agent

    settings = read_settings(os.environ)
    rules = Rules(
        client_id=settings.client_id,
        require_metadata_header=options.require_metadata_header,
        passthrough=Passthrough(options.passthrough),
        identities=_read_identity_map(options.identity_map),
        allow_quit=options.allow_quit,
    )
    log.configure(options.log_level)

    name = user_agent("proxy")
    transport = Transport(
        _make_trust(settings), urlsplit(settings.authority_host).hostname or "", name, settings.token_proxy
    )
    exchanger = TokenExchanger(settings.authority_host, settings.token_file, transport, time.time)
    life, metrics = Life(options.drain_seconds), Metrics()
    tokens = TokenCache(
        lambda key, seconds: exchanger.acquire(key.client_id, key.tenant_id, key.scope, seconds), metrics
    )
    metrics.tokens = tokens.seconds_left
    endpoint = Endpoint(rules, settings.tenant_id, tokens, Upstream(), metrics, time.time, life.end)
    listeners = [Listener(HttpServer(endpoint.handle, name), ADDRESS, options.port, "--proxy-port")]
    if options.metrics is not None:
        listeners.append(
            Listener(HttpServer(MetricsEndpoint(metrics).handle, name), *options.metrics, "--metrics-addr")
        )
    asyncio.run(life.serve(listeners))
    return 0


def _end_early_on_sigterm() -> None:
    """End at a SIGTERM before the servers are there.

    As the first process of a container we would not get one that nobody waits for (pid_namespaces(7)), and the kubelet
    would wait for the whole grace period.
    """
    import signal

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def _make_trust(settings: Settings) -> Callable[[], SSLContext]:
    """How the server is verified that tokens come from.

    Raises:
        ConfigurationError: The certificates that are named cannot be used.
    """
    from azwi.entra.trust import ClusterTrust, make_ssl_context

    proxy = settings.token_proxy
    if proxy is not None and (proxy.ca_file or proxy.ca_data):
        return ClusterTrust(proxy).find_context
    context = make_ssl_context(settings.ca_file)
    return lambda: context


def _read_identity_map(path: str) -> IdentityMap:
    """The identity map in a file, or in all files of a folder, as a ConfigMap is mounted; empty where none is named.

    Raises:
        ConfigurationError: It cannot be read, or holds lines that are no entries.
    """
    from azwi.proxy.identity_map import IdentityMap, parse_identity_maps

    if not path:
        return IdentityMap()
    try:
        # A mounted ConfigMap has hidden folders, too, which its files lead through.
        names = sorted(name for name in os.listdir(path) if not name.startswith("."))  # noqa: PTH208 - as below
        files = [f"{path.rstrip('/')}/{name}" for name in names]
    except NotADirectoryError:
        files = [path]
    except OSError as problem:
        raise ConfigurationError(f"flag --identity-map: {path} cannot be read: {problem.strerror}") from problem
    return parse_identity_maps([(_read_text(file), file) for file in files])


def _read_text(path: str) -> str:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs each Pod memory
            content = file.read(_MAX_MAP_BYTES + 1)
    except OSError as problem:
        raise ConfigurationError(f"flag --identity-map: {path} cannot be read: {problem.strerror}") from problem
    if len(content) > _MAX_MAP_BYTES:
        raise ConfigurationError(f"flag --identity-map: {path} is larger than {_MAX_MAP_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise ConfigurationError(f"flag --identity-map: {path} is no UTF-8 text") from problem


def _leave_out_other_flows() -> None:
    """Keep MSAL from loading what it needs for other ways to sign in: 8 MiB and 100 ms in each Pod.

    Its managed identity client loads `requests`, its browser flow a web server, its password flow XML. MSAL imports
    these modules for their names only. Nowhere else may this be done, since it breaks those flows.
    """
    if "msal" in sys.modules:
        return
    import types

    def placeholder(name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})

    for name in _OTHER_FLOWS:
        stub = types.ModuleType(name)
        stub.__getattr__ = placeholder  # type: ignore[method-assign]
        sys.modules[name] = stub


if __name__ == "__main__":
    sys.exit(main())
