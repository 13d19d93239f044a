"""Options that several commands share, and the groups that behave as the reference's. Imports nothing heavy.

Sign-in options are the reference's persistent flags: they may stand before or after a subcommand; the last one counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click
from click.core import ParameterSource

from azwi.identity.values import parse_duration

if TYPE_CHECKING:
    from collections.abc import Callable

    _Seconds = click.ParamType[int]
    _Names = click.ParamType[tuple[str, ...]]
else:  # older releases of click have no parameter there
    _Seconds = _Names = click.ParamType

METHODS: Final = ("cli", "client_secret", "client_certificate", "workload_identity", "managed_identity")
OUTPUTS: Final = ("table", "json", "yaml")
_META: Final = "azwi.sign-in"


@dataclass(frozen=True, slots=True)
class SignInOptions:
    """What was said about whom to sign in as and where; names are the flags'."""

    azure_env: str = "AzurePublicCloud"
    subscription_id: str = ""
    tenant_id: str = ""
    auth_method: str = "cli"
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    client_secret_file: str = ""
    certificate_path: str = ""
    private_key_path: str = ""
    authority_host: str = ""
    graph_endpoint: str = ""
    resource_manager_endpoint: str = ""
    ca_file: str = ""
    kubeconfig: str = ""
    context: str = ""
    debug: bool = False


class Duration(_Seconds):
    """A duration with units, as Go writes it: 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401
        """Whole seconds."""
        if isinstance(value, int):
            return value
        seconds = parse_duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration; write a number with a unit, such as 1h or 90m", param, ctx)
        return seconds


class CommaSeparated(_Names):
    """Values between commas; the option may be repeated as well."""

    name = "names"

    def convert(
        self,
        value: Any,  # noqa: ANN401  # click's signature
        param: click.Parameter | None,  # noqa: ARG002
        ctx: click.Context | None,  # noqa: ARG002
    ) -> tuple[str, ...]:
        """The values without blanks around them."""
        if isinstance(value, tuple):
            return value
        return tuple(part.strip() for part in str(value).split(",") if part.strip())


class ReferenceGroup(click.Group):
    """A group as the reference's: alone, or with an unknown subcommand, it shows its usage on stderr; exit code 0."""

    def __init__(self, *arguments: Any, aliases: dict[str, str] | None = None, **how: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **how)
        self.aliases = aliases or {}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Also by alias."""
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; an unknown one shows the usage."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            show_usage(ctx)
        return super().resolve_command(ctx, args)


def show_usage(ctx: click.Context) -> NoReturn:
    """Show a group's help on stderr and end with 0, as the reference does."""
    click.echo(ctx.get_help(), err=True)
    ctx.exit(0)


def remember(ctx: click.Context, param: click.Parameter, value: Any) -> Any:  # noqa: ANN401
    """Keep a sign-in option for the command that is reached in the end; what stands later counts more."""
    kept: dict[str, Any] = ctx.meta.setdefault(_META, {})
    name = param.name or ""
    if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE or name not in kept:
        kept[name] = value
    return value


def sign_in_options(ctx: click.Context) -> SignInOptions:
    """What the options of all levels said together."""
    kept = ctx.meta.get(_META, {})
    return SignInOptions(**{one.name: kept[one.name] for one in fields(SignInOptions) if one.name in kept})


def _option(*names: str, text: str, **how: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    return click.option(*names, help=text, **how)


def _kept(*names: str, text: str, **how: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    return click.option(*names, help=text, expose_value=False, callback=remember, **({"default": ""} | how))


DEBUG: Final = (_kept("--debug", is_flag=True, default=False, text="Log each request, without its content."),)
_SIGN_IN: Final = (
    _kept("--azure-env", default="AzurePublicCloud", show_default=True, text="The Azure cloud."),
    _kept("-s", "--subscription-id", text="Azure subscription; the Azure CLI's selected one when left out."),
    _kept("--tenant-id", text="Entra tenant; the subscription's when left out."),
    _kept("--auth-method", default="cli", show_default=True, text=f"How to sign in: {', '.join(METHODS)}."),
    _kept("--client-id", text="Client id to sign in with; AZURE_CLIENT_ID when left out."),
    _kept("--client-secret", text="Client secret. Everybody on this machine can see it: better use a file."),
    _kept("--client-secret-file", text="File with the client secret; AZURE_CLIENT_SECRET when left out."),
    _kept("--certificate-path", text="PEM file with the client certificate."),
    _kept("--private-key-path", text="PEM file with its private key; AZURE_CLIENT_CERTIFICATE_PASSWORD opens it."),
    _kept("--authority-host", text="Entra's address in a private cloud."),
    _kept("--graph-endpoint", text="Microsoft Graph's address in a private cloud."),
    _kept("--resource-manager-endpoint", text="Azure Resource Manager's address in a private cloud."),
    _kept("--ca-file", text="PEM file of the authorities to trust for all three; SSL_CERT_FILE when left out."),
    *DEBUG,
)
_CLUSTER: Final = (
    _kept("--kubeconfig", text="Kubeconfig; KUBECONFIG, the Pod's account or ~/.kube/config when left out."),
    _kept("--context", text="Context of the kubeconfig; its current one when left out."),
)
_IDENTITY: Final = (
    _option("--aad-application-name", default="", text="Display name of the application."),
    _option("--aad-application-client-id", default="", text="Client id of the application."),
    _option("--aad-application-object-id", default="", text="Object id of the application."),
    _option("--identity-name", default="", text="Name of a user-assigned managed identity; needs --resource-group."),
    _option("--identity-resource-id", default="", text="Resource id of a user-assigned managed identity."),
    _option("--resource-group", default="", text="Resource group of the managed identity."),
)
_OUTPUT: Final = (
    _option(
        "-o", "--output", type=click.Choice(OUTPUTS), default="table", show_default=True, text="How to print results."
    ),
)


def apply_options(*families: tuple[Callable[[Any], Any], ...]) -> Callable[[Any], Any]:
    """One decorator for several families of options, shown in this order."""

    def decorate(command: Any) -> Any:  # noqa: ANN401
        for decorator in reversed([one for family in families for one in family]):
            command = decorator(command)
        return command

    return decorate


SIGN_IN, CLUSTER, IDENTITY, OUTPUT = _SIGN_IN, _CLUSTER, _IDENTITY, _OUTPUT
YES: Final = (click.option("-y", "--yes", is_flag=True, help="Do not ask before something is removed."),)
DRY_RUN: Final = (click.option("--dry-run", is_flag=True, help="Show what would be done, and do nothing."),)
