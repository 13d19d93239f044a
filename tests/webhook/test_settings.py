"""The webhook's flags and configuration keys: what they mean, and how mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from azwi.admission.settings import CustomEndpoint, InitPrivilege, LegacyTokenPath, NativeSidecar, Resources
from azwi.errors import ConfigurationError, FlagError
from azwi.webhook.main import main
from azwi.webhook.settings import FLAGS, Address, OwnNames, WebhookSettings, read_settings

TENANT = "11111111-1111-1111-1111-111111111111"
BINDING = (
    "--custom-token-endpoint-annotation-suffix=identity-binding",
    "--custom-token-endpoint-audience=api://AKSIdentityBinding",
)


def read(*flags: str, **environment: str) -> WebhookSettings:
    """The settings of these flags and variables, with a tenant unless one is given."""
    return read_settings(flags, {"AZURE_TENANT_ID": TENANT, **environment}, lambda path: Path(path).read_bytes())


def test_defaults_are_the_references() -> None:
    """R 3: ports, folder, TLS version, audience, cloud."""
    settings = read()

    assert settings.listen == Address("", 9443)
    assert settings.health == Address("", 9440)
    assert settings.metrics == Address("", 8095)
    assert settings.certificates == "/certs"
    assert settings.tls_min_version == "1.3"
    assert settings.native_sidecar is NativeSidecar.AUTO
    assert settings.admission.tenant_id == TENANT
    assert settings.admission.audience == "api://AzureADTokenExchange"
    assert settings.admission.authority_host == "https://login.microsoftonline.com/"
    assert settings.admission.custom_endpoint is None
    assert settings.admission.legacy_token_path is LegacyTokenPath.AUTO
    assert not settings.admission.strict


@pytest.mark.parametrize("form", [["--port=1234"], ["--port", "1234"], ["-port=1234"], ["-port", "1234"]])
def test_flags_take_one_dash_or_two_and_both_forms(form: list[str]) -> None:
    """R 3: as Go's flag package."""
    assert read(*form).listen.port == 1234


def test_every_flag_arrives() -> None:
    """Each flag changes what it names."""
    settings = read(
        "--audience=api://x",
        "--webhook-cert-dir=/x",
        "--disable-cert-rotation",
        "--tls-min-version=1.2",
        "--health-addr=127.0.0.1:1",
        "--metrics-addr=0",
        "--metrics-backend=Prometheus",
        "--log-level=DEBUG",
        "--kubeconfig=/k",
        "--bind-address=::1",
        "--service-accounts=/a",
        "--native-sidecar=never",
        "--strict",
        "--legacy-token-path=always",
        "--proxy-uid=1000",
        "--proxy-init-legacy",
        "--proxy-cpu-request=1m",
        "--proxy-cpu-limit=",
        "--proxy-memory-request=1Mi",
        "--proxy-memory-limit=2Mi",
        "--proxy-init-cpu-request=",
        "--proxy-init-cpu-limit=1",
        "--proxy-init-memory-request=.5Gi",
        "--proxy-init-memory-limit=1e9",
        PROXY_IMAGE="proxy:1",
        PROXY_INIT_IMAGE="init:1",
        PROXY_IMAGE_PULL_POLICY="Always",
    )

    assert settings.certificates == "/x"
    assert settings.admission.proxy.pull_policy == "Always"
    assert (settings.tls_min_version, settings.log_level, settings.accounts) == ("1.2", "debug", "/a")
    assert (settings.health, settings.metrics) == (Address("127.0.0.1", 1), None)
    assert settings.listen.host == "::1"
    assert settings.native_sidecar is NativeSidecar.NEVER
    admission = settings.admission
    assert (admission.audience, admission.strict) == ("api://x", True)
    assert admission.legacy_token_path is LegacyTokenPath.ALWAYS
    proxy = admission.proxy
    assert (proxy.image, proxy.init_image, proxy.uid, proxy.log_level) == ("proxy:1", "init:1", 1000, "debug")
    assert proxy.init_privilege is InitPrivilege.LEGACY
    assert proxy.resources == Resources("1m", "1Mi", "", "2Mi")
    assert proxy.init_resources == Resources("", ".5Gi", "1", "1e9")
    assert read("--proxy-init-privileged=true").admission.proxy.init_privilege is InitPrivilege.PRIVILEGED


def test_certificates_of_our_own() -> None:
    """D 21, D 23: by default, under the reference's names; not where they are somebody else's or without a cluster."""
    own = read().own
    assert own is not None
    assert ("azure-wi-webhook-server-cert", "azure-wi-webhook-mutating-webhook-configuration") == (
        own.secret,
        own.configuration,
    )
    assert ("azure-wi-webhook-webhook-service.azure-workload-identity-system.svc",) == own.hosts
    named = read(
        "--secret-name=s",
        "--webhook-config-name=c",
        "--service-name=v",
        "--lease-name=l",
        "--certificate-names=api.example,192.0.2.1",
        POD_NAMESPACE="azwi",
        HOSTNAME="azwi-1",
    )
    assert OwnNames("s", "c", ("v.azwi.svc", "api.example", "192.0.2.1")) == named.own
    assert ("azwi", "azwi-1", "l") == (named.namespace, named.replica, named.lease)
    assert "pod" == read(POD_NAME="pod", HOSTNAME="host").replica
    assert read("--disable-cert-rotation").own is None
    assert read("--service-accounts=/a").own is None


def test_signals() -> None:
    """Events and the namespace label are on, the look at Pods is off, unless flags say otherwise."""
    settings = read()
    assert (True, True, 0) == (settings.events, settings.metrics_by_namespace, settings.pod_check_interval)
    other = read("--events=false", "--metrics-namespace-label=false", "--pod-check-interval=300")
    assert (False, False, 300) == (other.events, other.metrics_by_namespace, other.pod_check_interval)


@pytest.mark.parametrize("text", ["[::1]:80", "[::]:80"])
def test_addresses_may_be_ipv6(text: str) -> None:
    """R 3: in brackets, as in Go."""
    assert read(f"--health-addr={text}").health == Address(text[1:-4], 80)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--port=70000", "0 to 65535"),
        ("--port=x", "0 to 65535"),
        ("--health-addr=9440", "host:port"),
        ("--health-addr=::1:80", "host:port"),
        ("--metrics-addr=:x", "host:port"),
        ("--metrics-backend=statsd", "allowed: prometheus"),
        ("--tls-min-version=1.4", "invalid TLS version. Must be one of: 1.0, 1.1, 1.2, 1.3"),
        ("--log-level=loud", "info, debug, trace, all"),
        ("--native-sidecar=yes", "auto, always, never"),
        ("--legacy-token-path=yes", "auto, always, never"),
        ("--proxy-uid=0", "1 to 2147483647"),
        ("--proxy-cpu-request=much", "a Kubernetes quantity"),
        ("--proxy-memory-request=1Gi", "at most --proxy-memory-limit, which is 96Mi"),
        ("--strict=perhaps", "true or false"),
        ("--secret-name=A b", "a name of a Kubernetes object"),
        ("--certificate-names=a,b c", "host names and addresses"),
        ("--pod-check-interval=-1", "0 to 86400"),
        ("--bogus", "unknown flag --bogus"),
        ("stray", "unexpected argument 'stray'"),
        ("---port=1", "unexpected argument"),
        ("--port", "needs a value"),
        ("--custom-token-endpoint-audience=x", "go together"),
        ("--custom-token-endpoint-annotation-suffix=x", "go together"),
    ],
)
def test_bad_flags_are_named_with_what_is_allowed(flag: str, words: str) -> None:
    """One sentence, exit code 2."""
    with pytest.raises(FlagError) as raised:
        read(flag)

    assert words in str(raised.value)
    assert raised.value.exit_code == 2
    if "=" in flag and "TLS" not in words and not flag.startswith("---"):
        assert flag.partition("=")[0].lstrip("-") in str(raised.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ((BINDING[0], "--custom-token-endpoint-audience=API://azureadtokenexchange"), "is the default audience"),
        (("--custom-token-endpoint-annotation-suffix=a b", BINDING[1]), 'is "a b"'),
        (("--custom-token-endpoint-annotation-suffix=" + "x" * 60, BINDING[1]), "at most 59"),
    ],
)
def test_bad_identity_binding_flags(flags: tuple[str, ...], words: str) -> None:
    """R 2.8: another audience than the default one, and a suffix that can be an annotation's name."""
    with pytest.raises(FlagError, match=words):
        read(*flags)


def test_all_problems_are_told_at_once() -> None:
    """A wrong flag and a wrong environment in one message; a wrong environment alone ends with 1."""
    with pytest.raises(FlagError) as raised:
        read("--port=x", "--proxy-uid=x", AZURE_TENANT_ID="", AZURE_ENVIRONMENT="Mars")

    assert all(
        words in str(raised.value) for words in ("--port", "--proxy-uid", "AZURE_TENANT_ID is required", '"MARS"')
    )
    with pytest.raises(ConfigurationError) as alone:
        read(AZURE_ENVIRONMENT="Mars")
    assert alone.value.exit_code == 1


def test_the_pull_policy_is_kubernetes_own() -> None:
    """The key, its value and what is allowed are in the message."""
    with pytest.raises(ConfigurationError, match='PROXY_IMAGE_PULL_POLICY is "always"; allowed: Always, IfNotPresent'):
        read(PROXY_IMAGE_PULL_POLICY="always")


def test_the_tenant_is_required() -> None:
    """R 4: the reference's texts; a blank is accepted."""
    for environment, words in (
        ({}, "required key AZURE_TENANT_ID missing value"),
        ({"AZURE_TENANT_ID": ""}, "is required"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            read_settings([], environment, lambda path: Path(path).read_bytes())
    assert read(AZURE_TENANT_ID=" ").admission.tenant_id == " "


def test_the_prefix_config_wins() -> None:
    """R 4: CONFIG_AZURE_TENANT_ID before AZURE_TENANT_ID, also when it is empty."""
    assert read(CONFIG_AZURE_TENANT_ID="other").admission.tenant_id == "other"
    with pytest.raises(ConfigurationError, match="AZURE_TENANT_ID is required"):
        read(CONFIG_AZURE_TENANT_ID="")


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({"AZURE_ENVIRONMENT": ""}, "https://login.microsoftonline.com/"),
        ({"AZURE_ENVIRONMENT": "azurecloud"}, "https://login.microsoftonline.com/"),
        ({"AZURE_ENVIRONMENT": "AzureUSGovernment"}, "https://login.microsoftonline.us/"),
        ({"AZURE_ENVIRONMENT": "AzureChinaCloud"}, "https://login.chinacloudapi.cn/"),
        ({"AZURE_ENVIRONMENT": "AzureGermanCloud"}, "https://login.microsoftonline.de/"),
        ({"AZURE_AUTHORITY_HOST": "https://entra.private", "AZURE_ENVIRONMENT": "Mars"}, "https://entra.private/"),
    ],
)
def test_clouds(environment: dict[str, str], host: str) -> None:
    """R 4.1 and D 39: by name, whatever the case, or by an authority of one's own."""
    assert read(**environment).admission.authority_host == host


def test_a_cloud_from_a_file(tmp_path: Path) -> None:
    """R 4.1: AzureStackCloud reads the file that AZURE_ENVIRONMENT_FILEPATH names; what is wrong with it is told."""
    file = tmp_path / "cloud.json"
    named: dict[str, Any] = {"AZURE_ENVIRONMENT": "azurestackcloud", "AZURE_ENVIRONMENT_FILEPATH": str(file)}

    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read(**named)
    for content, words in (("{", "describes no cloud"), ('{"activeDirectoryEndpoint": "http://x"}', "is no authority")):
        file.write_text(content)
        with pytest.raises(ConfigurationError, match=words):
            read(**named)
    file.write_text('{"activeDirectoryEndpoint": "https://login.stack"}')
    assert read(**named).admission.authority_host == "https://login.stack/"
    with pytest.raises(ConfigurationError, match="AZURE_ENVIRONMENT_FILEPATH is not set"):
        read(AZURE_ENVIRONMENT="AzureStackCloud")


@pytest.mark.parametrize(
    "host", ["http://x", "https://", "https://u@x", "https://x?q", "https://x:99999", "https://[", "x y"]
)
def test_bad_authorities_are_named(host: str) -> None:
    """D 18: https, a host, nothing else."""
    with pytest.raises(ConfigurationError, match=r"AZURE_AUTHORITY_HOST: .* is no authority"):
        read(AZURE_AUTHORITY_HOST=host)


def test_identity_binding() -> None:
    """R 2.8, R 4: flags and keys together; the selector is taken over without what it does not know."""
    endpoint = read(
        *BINDING,
        AZURE_KUBERNETES_TOKEN_PROXY="https://proxy",
        AZURE_KUBERNETES_SNI_NAME="sni",
        AZURE_KUBERNETES_CA_CTB_SIGNER_NAME="example.com/s",
        AZURE_KUBERNETES_CA_CTB_LABEL_SELECTOR=(
            '{"matchLabels":{"a":"b"},"x":1,"matchExpressions":[{"key":"k","operator":"Exists"}]}'
        ),
    ).admission.custom_endpoint

    selector = {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "Exists"}]}
    bundle = {"signerName": "example.com/s", "path": "ca-cert/ca.crt", "optional": False, "labelSelector": selector}
    assert endpoint == CustomEndpoint(
        annotation="azure.workload.identity/use-identity-binding",
        audience="api://AKSIdentityBinding",
        token_proxy="https://proxy",
        sni_name="sni",
        ca_source={"clusterTrustBundle": bundle},
    )


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"CA_DATA": "x", "CA_CONFIGMAP_NAME": "y"}, "only one of AZURE_KUBERNETES_CA_DATA"),
        ({"CA_CTB_SIGNER_NAME": "x", "CA_CONFIGMAP_NAME": "y"}, "only one of AZURE_KUBERNETES_CA_DATA"),
        ({"CA_CTB_LABEL_SELECTOR": "{}"}, "without AZURE_KUBERNETES_CA_CTB_SIGNER_NAME"),
        ({"CA_CTB_SIGNER_NAME": "x", "CA_CTB_LABEL_SELECTOR": "a=b"}, "no LabelSelector in JSON"),
    ],
)
def test_contradicting_cas_are_told_even_without_binding(keys: dict[str, str], words: str) -> None:
    """R 4: checked even when the endpoint is off."""
    with pytest.raises(ConfigurationError, match=words):
        read(**{f"AZURE_KUBERNETES_{name}": value for name, value in keys.items()})


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--bogus"], 2, "azwi-webhook: unknown flag --bogus; azwi-webhook --help lists the flags\n"),
        (["--webhook-cert-dir=/nonexistent", "--service-accounts=/nonexistent"], 1, "/nonexistent does not exist"),
        ([], 1, "no API server is known: no --kubeconfig, no KUBECONFIG"),
    ],
)
def test_the_program_tells_mistakes_in_one_line(
    arguments: list[str], code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence on stderr with the program's name; 2 for a bad flag, 1 for what is missing."""
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("KUBECONFIG", raising=False)

    assert main(arguments) == code

    told = capsys.readouterr().err
    assert words in told
    assert told.startswith("azwi-webhook: ")
    assert told.count("\n") == 1


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints one JSON line; --help every flag, and ends with 0."""
    assert main(["--version"]) == 0
    assert {"buildVersion", "gitCommit", "buildDate", "platform"} <= set(json.loads(capsys.readouterr().out))
    for word in ("-h", "--help"):
        with pytest.raises(SystemExit) as ended:
            main([word])
        assert ended.value.code == 0
        printed = capsys.readouterr().out
        assert all(f"--{flag.name}" in printed for flag in FLAGS)
