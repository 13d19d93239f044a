"""From sign-in options to services: who signs in, in which cloud and tenant, and the way to the cluster."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from azwi import log
from azwi.contract import TOKEN_FILE_VARIABLE
from azwi.entra.arm import SERVICE, ResourceManager, discover_tenant
from azwi.entra.azurecli import home_folder, selected_subscription
from azwi.entra.clouds import STACK_CLOUD, Cloud, find_cloud, parse_authority_host, parse_stack_cloud
from azwi.entra.graph import Graph
from azwi.entra.hosts import hosts_of, open_http, trust
from azwi.entra.rest import RestClient
from azwi.entra.signin import METHODS, PAUSES, Credentials, EntraHttp, exchange, metadata_hosts, sign_in
from azwi.errors import ClusterError, ConfigurationError
from azwi.identity.model import OrderError
from azwi.identity.services import Services
from azwi.identity.values import is_guid
from azwi.version import user_agent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from azwi.cli.options import SignInOptions
    from azwi.cluster.annotations import AccountWriter
    from azwi.entra.faults import EntraFault
    from azwi.entra.signin import Method
    from azwi.entra.tokens import AccessToken

_NOBODY: Final = "00000000-0000-0000-0000-000000000000"
_MAX_SECRET: Final = 65_536  # bytes


@dataclass(frozen=True, slots=True)
class Session:
    """An open session: the services, the cloud, and one exchange of a service account token for an identity."""

    services: Services
    cloud: Cloud
    exchange: Callable[[str, str], AccessToken | EntraFault]


@dataclass(frozen=True, slots=True)
class SignInPlan:
    """Sign-in options that were found to be good, before anything is asked."""

    credentials: Credentials
    subscription_id: str
    tenant_id: str
    cloud: Cloud


def check_options(options: SignInOptions) -> SignInPlan:
    """Read the options, this process's environment and the Azure CLI's folder; raises as `plan_sign_in`."""
    return plan_sign_in(options, dict(os.environ), home_folder())


def plan_sign_in(options: SignInOptions, environment: Mapping[str, str], home: Path) -> SignInPlan:
    """Read the options in the reference's order (R 7.1), without a request.

    Raises:
        OrderError: One is missing or wrong, with the reference's text.
        ConfigurationError: A file cannot be read, or the cloud is none.
    """
    credentials = _read_credentials(options, environment)
    subscription = _find_subscription(options, environment, home)
    cloud = find_place(options, environment)
    tenant = options.tenant_id
    if not tenant and (not subscription or credentials.method == "workload_identity"):
        tenant = environment.get("AZURE_TENANT_ID", "")
    if not subscription and not tenant:
        raise OrderError(
            "--subscription-id is required (and must be a valid UUID)",
            hint="give it, select one with az account set, or name the tenant with --tenant-id",
        )
    return SignInPlan(credentials, subscription, tenant, cloud)


def _read_credentials(options: SignInOptions, environment: Mapping[str, str]) -> Credentials:
    method = options.auth_method
    if not method:
        raise OrderError("--auth-method is a required parameter")
    secret = _read_secret(options)
    if method == "cli" and options.client_id and secret:
        method = "client_secret"
    known: dict[str, Method] = {name: name for name in METHODS}
    if method not in known:
        raise OrderError(f"--auth-method {method!r} is not known", hint=f"methods are {', '.join(METHODS)}")
    client_id = options.client_id or (environment.get("AZURE_CLIENT_ID", "") if method != "cli" else "")
    credentials = Credentials(known[method], client_id)
    if method in {"client_secret", "client_certificate", "workload_identity"} and not is_guid(client_id):
        raise OrderError(f"parsing --client-id: {client_id!r} is no UUID")
    if method == "client_secret":
        secret = secret or environment.get("AZURE_CLIENT_SECRET", "")
        if not secret:
            raise OrderError('--client-secret must be specified when --auth-method="client_secret"')
        return replace(credentials, secret=secret)
    if method == "client_certificate":
        return _read_certificate(options, environment, credentials)
    if method == "workload_identity":
        token_file = environment.get(TOKEN_FILE_VARIABLE, "")
        if not token_file:
            raise OrderError(f"{TOKEN_FILE_VARIABLE} is not set, which --auth-method=workload_identity needs")
        return replace(credentials, token_file=token_file)
    return credentials


def _read_secret(options: SignInOptions) -> str:
    """The client secret that flags give; empty where none does."""
    if options.client_secret:
        click.echo(
            "Warning: everybody on this machine can see --client-secret while azwi runs; "
            "use --client-secret-file or AZURE_CLIENT_SECRET",
            err=True,
        )
    return options.client_secret or _read(options.client_secret_file, "--client-secret-file")


def _read_certificate(options: SignInOptions, environment: Mapping[str, str], credentials: Credentials) -> Credentials:
    if not (options.certificate_path and options.private_key_path):
        raise OrderError(
            '--certificate-path and --private-key-path must be specified when --auth-method="client_certificate"'
        )
    return replace(
        credentials,
        certificate=_read(options.certificate_path, "--certificate-path"),
        private_key=_read(options.private_key_path, "--private-key-path"),
        passphrase=environment.get("AZURE_CLIENT_CERTIFICATE_PASSWORD", ""),
    )


def _read(path: str, flag: str) -> str:
    """A small text file, without the line's end; empty where no path is given."""
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_SECRET + 1)
        text = content.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        words = problem.strerror if isinstance(problem, OSError) else "it is no text"
        raise ConfigurationError(f"{flag} {path} cannot be read: {words}") from problem
    if not text or len(content) > _MAX_SECRET:
        raise ConfigurationError(f"{flag} {path} is empty, or larger than {_MAX_SECRET} bytes")
    return text


def _find_subscription(options: SignInOptions, environment: Mapping[str, str], home: Path) -> str:
    given = options.subscription_id or environment.get("AZURE_SUBSCRIPTION_ID", "")
    if given and not is_guid(given):
        raise OrderError(f"parsing --subscription-id: {given!r} is no UUID")
    found = given or selected_subscription(environment, home)
    return found.lower() if is_guid(found) and found != _NOBODY else ""


def find_place(options: SignInOptions, environment: Mapping[str, str]) -> Cloud:
    """The cloud, with the addresses that flags give it.

    Raises:
        OrderError: There is none of that name.
        ConfigurationError: An address or the environment file is wrong.
    """
    if options.azure_env.upper() == STACK_CLOUD:
        path = environment.get("AZURE_ENVIRONMENT_FILEPATH", "")
        cloud = parse_stack_cloud(_read(path, "AZURE_ENVIRONMENT_FILEPATH").encode(), path)
        cloud = replace(
            cloud,
            graph=_endpoint(cloud.graph, f"graphEndpoint in {path}"),
            resource_manager=_endpoint(cloud.resource_manager, f"resourceManagerEndpoint in {path}"),
        )
    else:
        try:
            cloud = find_cloud(options.azure_env)
        except ConfigurationError as problem:
            said = f"failed to parse --azure-env as a valid target Azure cloud environment: {problem.message}"
            raise OrderError(said, hint=problem.hint.replace("AZURE_ENVIRONMENT", "--azure-env")) from problem
    if options.authority_host:
        # A private cloud is named whole: nothing of it may fall back to a public address.
        missing = [
            flag
            for flag, value in (
                ("--graph-endpoint", options.graph_endpoint),
                ("--resource-manager-endpoint", options.resource_manager_endpoint),
            )
            if not value
        ]
        cloud = Cloud("private", parse_authority_host(options.authority_host, "--authority-host"), "", "")
        if len(missing) == 2:  # noqa: PLR2004  # both
            raise OrderError(f"--authority-host names a private cloud, which also needs {' and '.join(missing)}")
    graph = _endpoint(options.graph_endpoint, "--graph-endpoint")
    manager = _endpoint(options.resource_manager_endpoint, "--resource-manager-endpoint")
    return replace(cloud, graph=graph or cloud.graph, resource_manager=manager or cloud.resource_manager)


def _endpoint(address: str, where: str) -> str:
    """An https address without a slash at its end; empty where none is given.

    Raises:
        ConfigurationError: It is another.
    """
    return parse_authority_host(address, where).rstrip("/") if address else ""


@asynccontextmanager
async def open_session(options: SignInOptions, plan: SignInPlan) -> AsyncIterator[Session]:
    """A session with options that were checked; its connections are closed at the end.

    Raises:
        ConfigurationError: The authorities' file cannot be used.
        EntraError: The tenant cannot be found out.
    """
    environment = dict(os.environ)
    log.configure("debug" if options.debug else "info", text=True)
    cloud = plan.cloud
    context = trust(options.ca_file)
    hosts = hosts_of(cloud.authority_host, cloud.graph, cloud.resource_manager)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(context, hosts))
        tenant = plan.tenant_id or await discover_tenant(http, cloud.resource_manager, plan.subscription_id)
        managed = plan.credentials.method == "managed_identity"
        allowed = hosts_of(cloud.authority_host) | (metadata_hosts(environment) if managed else frozenset())
        patient, entra = EntraHttp(context, allowed, pauses=PAUSES), EntraHttp(context, allowed)
        stack.callback(patient.close)
        stack.callback(entra.close)
        cache: dict[str, object] = {}
        who = sign_in(plan.credentials, cloud.authority_host, tenant, patient, cache)
        services = Services(
            graph=Graph(RestClient("Microsoft Graph", cloud.graph, http, who)),
            resource_manager=ResourceManager(RestClient(SERVICE, cloud.resource_manager, http, who)),
            accounts=_cluster(options, environment, stack),
            tenant_id=tenant,
            subscription_id=plan.subscription_id,
        )

        def exchange_one(client_id: str, assertion: str) -> AccessToken | EntraFault:
            scope = f"{cloud.resource_manager or cloud.graph}/.default"
            return exchange(assertion, client_id, cloud.authority_host + tenant, scope, entra, cache)

        yield Session(services, cloud, exchange_one)


async def read_cluster_issuer(options: SignInOptions) -> str:
    """The issuer of the cluster's tokens, by its own word; empty where it cannot be asked."""
    async with AsyncExitStack() as stack:
        try:
            return await _cluster(options, dict(os.environ), stack)().read_issuer()
        except (ClusterError, ConfigurationError):
            return ""


def _cluster(
    options: SignInOptions, environment: Mapping[str, str], stack: AsyncExitStack
) -> Callable[[], AccountWriter]:
    """The way to the cluster, which is opened when it is first needed."""
    opened: list[AccountWriter] = []

    def connected() -> AccountWriter:
        if not opened:
            # Half of the time to start, and not every command needs a cluster.
            from azwi.cluster.annotations import AccountWriter  # noqa: PLC0415
            from azwi.cluster.connection import connect, find_source, load_config  # noqa: PLC0415

            try:
                source = find_source(options.kubeconfig, environment, home_folder())
            except ConfigurationError as problem:
                raise ConfigurationError(problem.message, hint="name a kubeconfig with --kubeconfig") from problem
            context = {"AZWI_KUBE_CONTEXT": options.context} if options.context else environment
            client = connect(load_config(source, context))
            client.headers["User-Agent"] = user_agent("azwi")
            stack.push_async_callback(client.aclose)
            opened.append(AccountWriter(client))
        return opened[0]

    return connected
