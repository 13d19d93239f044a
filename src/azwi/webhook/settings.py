"""The settings of azwi-webhook: flags and environment, read once, every problem reported together.

Source: R 3 (flags), R 4 (configuration keys), D 3, 7, 9, 11, 12.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from azwi import contract
from azwi.admission.settings import InitPrivilege, LegacyTokenPath, NativeSidecar, ProxySettings, Resources, Settings
from azwi.admission.sidecar import MAX_PORT, QUANTITIES, exceeds
from azwi.admission.values import is_object_name, parse_integer, parse_quantity
from azwi.entra.clouds import STACK_CLOUD, find_cloud, parse_authority_host, parse_stack_cloud
from azwi.errors import AzwiError, ConfigurationError, FlagError, sentence
from azwi.flags import Flag, parse_flags
from azwi.log import LEVELS
from azwi.webhook.binding import read_custom_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TLS_VERSIONS: Final = ("1.0", "1.1", "1.2", "1.3")
PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")  # Kubernetes' own
PROGRAM: Final = "azwi-webhook"

_T = TypeVar("_T")
_PART: Final = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}$)(\*\.)?{_PART}(\.{_PART})*", re.ASCII)
_DEFAULTS: Final = ProxySettings()
_MAX_UID: Final = 2**31 - 1  # Kubernetes' own limit of runAsUser
_RESOURCE_NAMES: Final = ("cpu-request", "cpu-limit", "memory-request", "memory-limit")


def _resource_flags(prefix: str, container: str, defaults: Resources) -> list[Flag]:
    return [
        Flag(
            f"{prefix}-{name}",
            getattr(defaults, name.replace("-", "_")),
            f"{name.replace('-', ' ')} of {container}, a Kubernetes quantity; empty for none.",
        )
        for name in _RESOURCE_NAMES
    ]


FLAGS: Final = (
    Flag("audience", "", f"Audience of the token; empty for {contract.DEFAULT_AUDIENCE}."),
    Flag("webhook-cert-dir", contract.CERTIFICATE_FOLDER, "Folder with tls.crt and tls.key of somebody else."),
    Flag(
        "disable-cert-rotation",
        "false",
        "Certificates are somebody else's: follow --webhook-cert-dir, keep none in a Secret.",
        boolean=True,
    ),
    Flag("webhook-config-name", contract.WEBHOOK_CONFIGURATION, "The MutatingWebhookConfiguration that is ours."),
    Flag("secret-name", contract.CERTIFICATE_SECRET, "Secret of our namespace with our certificates."),
    Flag("service-name", contract.WEBHOOK_SERVICE, "Service of our namespace by which API servers call."),
    Flag("lease-name", contract.LEASE, "Lease of our namespace that one replica holds."),
    Flag("certificate-names", "", "More host names and addresses by which API servers call, separated by commas."),
    Flag("tls-min-version", "1.3", f"Lowest TLS version: {', '.join(TLS_VERSIONS)}."),
    Flag("health-addr", contract.HEALTH_ADDRESS, "Address of /healthz and /readyz."),
    Flag("metrics-addr", contract.METRICS_ADDRESS, "Address of /metrics; 0 for none."),
    Flag("metrics-backend", "prometheus", "Only prometheus."),
    Flag("metrics-namespace-label", "true", "Tell the latency of reviews by namespace.", boolean=True),
    Flag("events", "true", "Write warnings as Events, too.", boolean=True),
    Flag("pod-check-interval", "0", "Seconds between two looks at all Pods for missing or old identities; 0 for none."),
    Flag("log-level", "", f"One of {', '.join(level for level in LEVELS if level)}; also handed to injected proxies."),
    Flag("shutdown-delay", "10", "Seconds that reviews are answered after SIGTERM, while API servers turn elsewhere."),
    Flag("version", "false", "Print the version as JSON and exit.", boolean=True),
    Flag("custom-token-endpoint-annotation-suffix", "", "Identity binding: Pods take part by annotation use-<suffix>."),
    Flag("custom-token-endpoint-audience", "", "Identity binding: audience of the token."),
    Flag("kubeconfig", "", "Kubeconfig of the API server; else KUBECONFIG, the Pod's account, or ~/.kube/config."),
    Flag("port", str(contract.WEBHOOK_PORT), "Port of the webhook; 0 for any free one."),
    Flag("bind-address", "", "Address that the webhook listens on; empty for all."),
    Flag("service-accounts", "", "File or folder with ServiceAccount manifests, in place of an API server."),
    Flag("identity-policy", "", "File that says which namespaces may use which client ids; empty for no policy."),
    Flag("native-sidecar", "auto", "Whether azwi-proxy is a native sidecar: auto (API server 1.32+), always, never."),
    Flag("strict", "false", "Refuse Pods for warnings about what cannot work.", boolean=True),
    Flag("legacy-token-path", "auto", f"Keep the token at {contract.LEGACY_MOUNT_PATH} too: auto, always, never."),
    Flag("proxy-uid", str(contract.DEFAULT_PROXY_UID), "User and group of azwi-proxy, the one the redirect exempts."),
    Flag("proxy-init-legacy", "false", "Let azwi-proxy-init use iptables-legacy (adds NET_RAW).", boolean=True),
    Flag("proxy-init-privileged", "false", "Run azwi-proxy-init privileged, as the Go reference does.", boolean=True),
    *_resource_flags("proxy", contract.PROXY_CONTAINER, _DEFAULTS.resources),
    *_resource_flags("proxy-init", contract.PROXY_INIT_CONTAINER, _DEFAULTS.init_resources),
)


_MAX_INTERVAL: Final = 86400  # seconds
_MAX_DELAY: Final = 600  # seconds; more than any grace period that somebody would give


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens: the host is empty for all interfaces, the port 0 for any free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class OwnNames:
    """Where certificates of our own are kept: Secret, configuration, and what they are for."""

    secret: str
    configuration: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """Everything azwi-webhook is told.

    An address of None is not served, empty `accounts` mean an API server. `own` is None where certificates are
    somebody else's. `namespace` and `replica` are our Pod's.
    """

    listen: Address
    health: Address | None
    metrics: Address | None
    certificates: str
    own: OwnNames | None
    namespace: str
    replica: str
    lease: str
    tls_min_version: str
    metrics_by_namespace: bool
    events: bool
    pod_check_interval: int
    log_level: str
    accounts: str
    kubeconfig: str
    identity_policy: str
    shutdown_delay: int
    native_sidecar: NativeSidecar
    admission: Settings


def _canonical_host(host: str) -> str:
    """A host name, or an address as certificates show it; empty for neither."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host if _HOST.fullmatch(host) else ""


def read_settings(
    argv: Sequence[str], environment: Mapping[str, str], read_file: Callable[[str], bytes]
) -> WebhookSettings:
    """The settings that flags and environment give.

    Args:
        argv: The arguments without the program's name.
        environment: The process's variables.
        read_file: Gives the content of the file that AZURE_ENVIRONMENT_FILEPATH names; may raise OSError.

    Raises:
        FlagError: A flag is wrong; what is wrong in the environment is told too.
        ConfigurationError: The environment alone is wrong.
    """
    flags = _Flags(parse_flags(PROGRAM, FLAGS, argv))
    configuration = _Configuration(environment, read_file)
    settings = WebhookSettings(
        listen=Address(flags.text("bind-address"), flags.number("port", 0, MAX_PORT)),
        health=flags.address("health-addr"),
        metrics=flags.address("metrics-addr"),
        certificates=flags.text("webhook-cert-dir"),
        own=flags.own_names(configuration.namespace()),
        namespace=configuration.namespace(),
        replica=configuration.replica(),
        lease=flags.name("lease-name"),
        tls_min_version=flags.tls_version(),
        metrics_by_namespace=flags.on("metrics-namespace-label"),
        events=flags.on("events"),
        pod_check_interval=flags.number("pod-check-interval", 0, _MAX_INTERVAL),
        log_level=flags.log_level(),
        accounts=flags.text("service-accounts"),
        kubeconfig=flags.text("kubeconfig"),
        identity_policy=flags.text("identity-policy"),
        shutdown_delay=flags.number("shutdown-delay", 0, _MAX_DELAY),
        native_sidecar=NativeSidecar(flags.choice("native-sidecar", tuple(NativeSidecar))),
        admission=Settings(
            tenant_id=configuration.tenant_id(),
            authority_host=configuration.authority_host(),
            audience=flags.text("audience") or contract.DEFAULT_AUDIENCE,
            strict=flags.on("strict"),
            legacy_token_path=LegacyTokenPath(flags.choice("legacy-token-path", tuple(LegacyTokenPath))),
            custom_endpoint=configuration.attempt(
                lambda: read_custom_endpoint(
                    flags.text("custom-token-endpoint-annotation-suffix"),
                    flags.text("custom-token-endpoint-audience"),
                    configuration.get,
                ),
                None,
                flags.problems,
            ),
            proxy=ProxySettings(
                image=configuration.get("PROXY_IMAGE") or _DEFAULTS.image,
                init_image=configuration.get("PROXY_INIT_IMAGE") or _DEFAULTS.init_image,
                pull_policy=configuration.pull_policy(),
                log_level=flags.log_level(),
                uid=flags.number("proxy-uid", 1, _MAX_UID),
                init_privilege=flags.init_privilege(),
                resources=flags.resources("proxy"),
                init_resources=flags.resources("proxy-init"),
            ),
        ),
    )
    flags.choice("metrics-backend", ("prometheus",))
    if flags.problems:
        raise FlagError(sentence(flags.problems + configuration.problems))
    if configuration.problems:
        raise ConfigurationError(sentence(configuration.problems))
    return settings


class _Flags:
    """The flags' texts read one by one; what is wrong is kept in `problems`, and a default stands in."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self.problems: list[str] = []

    def text(self, name: str) -> str:
        return self._values[name]

    def on(self, name: str) -> bool:
        return self._values[name] == "true"

    def _wrong(self, name: str, allowed: str) -> None:
        self.problems.append(f'flag --{name} is "{self._values[name]}"; allowed: {allowed}')

    def choice(self, name: str, allowed: Sequence[str]) -> str:
        value = self._values[name].lower()
        if value not in allowed:
            self._wrong(name, ", ".join(allowed))
            return allowed[0]
        return value

    def number(self, name: str, lowest: int, highest: int) -> int:
        number = parse_integer(self._values[name])
        if number is None or not lowest <= number <= highest:
            self._wrong(name, f"{lowest} to {highest}")
            return lowest
        return number

    def tls_version(self) -> str:
        version = self._values["tls-min-version"]
        if version not in TLS_VERSIONS:
            self.problems.append(f"invalid TLS version. Must be one of: {', '.join(TLS_VERSIONS)}")
        return version

    def log_level(self) -> str:
        return self.choice("log-level", tuple(LEVELS))

    def address(self, name: str) -> Address | None:
        """`host:port`, `:port` or `[IPv6]:port`; None for `0` and the empty text."""
        text = self._values[name]
        if text in {"", "0"}:
            return None
        host, colon, port = text.rpartition(":")
        number = parse_integer(port)
        if not colon or number is None or not 0 <= number <= MAX_PORT or (":" in host and not host.startswith("[")):
            self._wrong(name, "host:port or :port with a port from 0 to 65535, or 0 for none")
            return None
        return Address(host.strip("[]"), number)

    def init_privilege(self) -> InitPrivilege:
        if self.on("proxy-init-privileged"):
            return InitPrivilege.PRIVILEGED
        return InitPrivilege.LEGACY if self.on("proxy-init-legacy") else InitPrivilege.NFT

    def name(self, name: str) -> str:
        """A name of a Kubernetes object."""
        value = self._values[name]
        if not is_object_name(value):
            self._wrong(name, "a name of a Kubernetes object: lower-case letters, digits, - and .")
        return value

    def own_names(self, namespace: str) -> OwnNames | None:
        """Where certificates of our own are kept, None where there are none."""
        names = (self.name("secret-name"), self.name("webhook-config-name"), self.name("service-name"))
        more = [_canonical_host(host) for host in self._values["certificate-names"].split(",") if host]
        if not all(more):
            self._wrong("certificate-names", "host names and addresses, separated by commas")
        if self.on("disable-cert-rotation") or self._values["service-accounts"]:
            return None
        return OwnNames(names[0], names[1], (f"{names[2]}.{namespace}.svc", *more))

    def resources(self, prefix: str) -> Resources:
        amounts = {name: self._values[f"{prefix}-{name}"] for name in _RESOURCE_NAMES}
        for name, amount in amounts.items():
            if amount and parse_quantity(amount) is None:
                self._wrong(f"{prefix}-{name}", QUANTITIES)
        for kind in ("cpu", "memory"):
            limit = amounts[f"{kind}-limit"]
            if exceeds(amounts[f"{kind}-request"], limit):
                self._wrong(f"{prefix}-{kind}-request", f"at most --{prefix}-{kind}-limit, which is {limit}")
        return Resources(
            cpu_request=amounts["cpu-request"],
            memory_request=amounts["memory-request"],
            cpu_limit=amounts["cpu-limit"],
            memory_limit=amounts["memory-limit"],
        )


class _Configuration:
    """The configuration keys read one by one; what is wrong is kept in `problems`."""

    def __init__(self, environment: Mapping[str, str], read_file: Callable[[str], bytes]) -> None:
        self._environment = environment
        self._read_file = read_file
        self.problems: list[str] = []

    def find(self, key: str) -> str | None:
        """A key's value; the one with the prefix CONFIG_ wins, also when empty (R 4)."""
        return self._environment.get(f"CONFIG_{key}", self._environment.get(key))

    def get(self, key: str) -> str:
        """A key's value, empty when it is not set."""
        return self.find(key) or ""

    def attempt(self, read: Callable[[], _T], default: _T, flag_problems: list[str]) -> _T:
        """What `read` gives; its error becomes a problem, of the flags where it is a FlagError."""
        try:
            return read()
        except FlagError as problem:
            flag_problems.append(str(problem))
        except AzwiError as problem:
            self.problems.append(str(problem))
        return default

    def namespace(self) -> str:
        """The namespace of our Pod."""
        return self.get(contract.POD_NAMESPACE_VARIABLE) or contract.DEFAULT_NAMESPACE

    def replica(self) -> str:
        """The name of our Pod; else the machine's, which is the same in a Pod."""
        return self.get(contract.POD_NAME_VARIABLE) or self.get("HOSTNAME") or contract.WEBHOOK_SERVICE

    def tenant_id(self) -> str:
        tenant_id = self.find(contract.TENANT_ID_VARIABLE)
        if tenant_id is None:
            self.problems.append("required key AZURE_TENANT_ID missing value")
        elif not tenant_id:
            self.problems.append("AZURE_TENANT_ID is required")
        return tenant_id or ""

    def pull_policy(self) -> str:
        policy = self.get("PROXY_IMAGE_PULL_POLICY") or _DEFAULTS.pull_policy
        if policy not in PULL_POLICIES:
            self.problems.append(f'PROXY_IMAGE_PULL_POLICY is "{policy}"; allowed: {", ".join(PULL_POLICIES)}')
        return policy

    def authority_host(self) -> str:
        return self.attempt(self._find_authority_host, "", self.problems)

    def _find_authority_host(self) -> str:
        """AZURE_AUTHORITY_HOST names a private cloud (D 18); else AZURE_ENVIRONMENT names one of the table."""
        explicit = self.get(contract.AUTHORITY_HOST_VARIABLE)
        if explicit:
            return parse_authority_host(explicit, contract.AUTHORITY_HOST_VARIABLE)
        name = self.get("AZURE_ENVIRONMENT")
        if name.upper() != STACK_CLOUD:
            return find_cloud(name).authority_host
        path = self.get("AZURE_ENVIRONMENT_FILEPATH")
        if not path:
            raise ConfigurationError("AZURE_ENVIRONMENT_FILEPATH is not set", hint="AzureStackCloud needs that file")
        try:
            document = self._read_file(path)
        except OSError as problem:
            message = f"{path} (named by AZURE_ENVIRONMENT_FILEPATH) cannot be read: {problem.strerror}"
            raise ConfigurationError(message) from problem
        return parse_stack_cloud(document, path).authority_host
