"""A cluster's token proxy in front of Entra: what variables mean, where requests go, who is trusted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from azure.identity import WorkloadIdentityCredential
from tests.proxy.entra_standin import TENANT, StandIn

from azwi.entra.binding import TokenProxy, read_token_proxy
from azwi.entra.http import Transport
from azwi.entra.tokens import AccessToken, TokenExchanger
from azwi.entra.trust import ClusterTrust
from azwi.errors import ConfigurationError
from azwi.proxy.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.proxy.proxy_process import ProxyProcess

URL, SNI = "AZURE_KUBERNETES_TOKEN_PROXY", "AZURE_KUBERNETES_SNI_NAME"
FILE, DATA = "AZURE_KUBERNETES_CA_FILE", "AZURE_KUBERNETES_CA_DATA"
SCOPE = "https://vault.azure.net/.default"


@pytest.fixture
def token_proxy(tmp_path: Path) -> Iterator[StandIn]:
    """A token proxy, which answers as the Entra behind it."""
    (tmp_path / "token").write_text("a.b.c")
    with StandIn(tmp_path) as standin:
        standin.endpoint_host = "login.microsoftonline.com"  # discovery is Entra's own document
        yield standin


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({URL: "", FILE: ""}, None),
        ({URL: "https://t.svc"}, TokenProxy("t.svc", 443, "", "t.svc")),
        ({URL: "https://t.svc:8443/", SNI: "n"}, TokenProxy("t.svc", 8443, "", "n")),
        ({URL: "https://t.svc/a/b/", FILE: "/f"}, TokenProxy("t.svc", 443, "/a/b", "t.svc", "/f")),
        ({URL: "https://[::1]:1", DATA: "pem"}, TokenProxy("::1", 1, "", "::1", "", "pem")),
    ],
)
def test_the_variables(environment: dict[str, str], expected: TokenProxy | None) -> None:
    """An address with a path, a name in TLS of its own, an authority as file or data."""
    problems: list[str] = []
    assert (expected, []) == (read_token_proxy(environment, problems), problems)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({URL: "http://t"}, URL),
        ({URL: "https://"}, URL),
        ({URL: "https://t?x=1"}, URL),
        ({URL: "https://t?"}, URL),
        ({URL: "https://t#x"}, URL),
        ({URL: "https://u:p@t"}, URL),
        ({URL: "https://t:99999"}, URL),
        ({URL: "https://t/a b"}, URL),
        ({URL: "https://[::1"}, URL),
        ({URL: "t"}, URL),
        ({URL: "https://t", FILE: "/f", DATA: "d"}, f"{FILE} and {DATA}"),
        ({SNI: "n", FILE: "/f"}, f"{SNI} and {FILE} set without {URL}"),
    ],
)
def test_variables_that_cannot_be(environment: dict[str, str], named: str) -> None:
    """Each mistake is told by the variable's name."""
    problems: list[str] = []
    read_token_proxy(environment, problems)
    assert len(problems) == 1
    assert named in problems[0]


def test_our_proxy_asks_as_the_sdk_does(
    token_proxy: StandIn,
    start_proxy: Callable[..., ProxyProcess],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Same address, same paths, same name in TLS; nobody else is asked, and no other authority trusted."""
    variables = {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": "c",
        "AZURE_FEDERATED_TOKEN_FILE": str(tmp_path / "token"),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
        URL: f"{token_proxy.url}behind/it",
        SNI: "token.example",
        FILE: str(token_proxy.ca_file),
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with WorkloadIdentityCredential(enable_azure_proxy=True, disable_instance_discovery=True) as credential:
        credential.get_token(SCOPE)
    theirs = token_proxy.paths[-1]
    token_proxy.paths.clear()
    token_proxy.server_names.clear()

    response = start_proxy(**variables, SSL_CERT_FILE=os.devnull).ask_token("resource=https://vault.azure.net")
    assert response.status == 200
    assert token_proxy.verify(response.document["access_token"], "https://vault.azure.net")["appid"] == "c"
    assert f"/behind/it/{TENANT}/oauth2/v2.0/token" == theirs == token_proxy.paths[-1]
    assert f"/behind/it/{TENANT}/v2.0/.well-known/openid-configuration" == token_proxy.paths[0]
    assert {"token.example"} == set(token_proxy.server_names)
    assert len(token_proxy.paths) == 2


def make_exchanger(standin: StandIn, tmp_path: Path, **proxy: str) -> TokenExchanger:
    """An exchanger whose way to Entra leads over the token proxy."""
    found = TokenProxy("127.0.0.1", standin.port, "", "localhost", **proxy)
    transport = Transport(ClusterTrust(found).find_context, "login.microsoftonline.com", "x", found)
    return TokenExchanger("https://login.microsoftonline.com/", str(tmp_path / "token"), transport, lambda: 0)


def test_the_authority_file_is_followed(token_proxy: StandIn, tmp_path: Path) -> None:
    """A new authority counts at once; an empty, missing or broken file in between changes nothing."""
    path = tmp_path / "cluster.crt"
    path.write_bytes(token_proxy.ca_file.read_bytes())
    exchanger = make_exchanger(token_proxy, tmp_path, ca_file=str(path))
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)
    for content in (b"", b"-----BEGIN CERTIFICATE-----\nbroken", b"\xff"):
        path.write_bytes(content)
        assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)
    path.unlink()
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)
    new = token_proxy.renew_certificate()
    assert "certificate verify failed" in str(exchanger.acquire("c", TENANT, SCOPE))
    path.write_bytes(new)
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)


def test_an_authority_as_data(token_proxy: StandIn, tmp_path: Path) -> None:
    """It is trusted, and the one behind another name is not."""
    exchanger = make_exchanger(token_proxy, tmp_path, ca_data="Behörde: öffentlich\n" + token_proxy.ca_file.read_text())
    assert isinstance(exchanger.acquire("c", TENANT, SCOPE), AccessToken)
    token_proxy.renew_certificate()
    assert "certificate verify failed" in str(exchanger.acquire("c", TENANT, SCOPE))


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_an_authority_that_is_none_to_begin_with(tmp_path: Path, content: bytes | None) -> None:
    """The variable and the file are named."""
    path = tmp_path / "ca"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f"{FILE}: {path}"):
        ClusterTrust(TokenProxy("t", 443, "", "t", ca_file=str(path)))
    if content:
        with pytest.raises(ConfigurationError, match=DATA):
            ClusterTrust(TokenProxy("t", 443, "", "t", ca_data=content.decode()))


def test_a_bad_binding_ends_the_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 1 with the variable's name, rather than tokens from somebody else."""
    monkeypatch.setenv("AZURE_TENANT_ID", "t")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", "/token")
    monkeypatch.setenv(URL, "http://insecure")
    assert main([]) == 1
    assert f"azwi-proxy: {URL} is 'http://insecure'" in capsys.readouterr().err
