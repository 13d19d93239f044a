"""A scripted Entra and running proxies for the tests of the proxy."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # for the two modules beside this one

from tests.proxy.entra_standin import TENANT, StandIn
from tests.proxy.proxy_process import ProxyProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ASSERTION = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW06c2VydmljZWFjY291bnQ6YTpiIn0.c2VjcmV0LXNpZ25hdHVyZQ"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a service account token in `token`."""
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "token").write_text(ASSERTION + "\n")
    return folder


@pytest.fixture(scope="session")
def standin(folder: Path) -> Iterator[StandIn]:
    """One scripted Entra for all tests; they use client ids of their own."""
    with StandIn(folder) as standin:
        yield standin


@pytest.fixture(scope="session")
def environment(folder: Path, standin: StandIn) -> dict[str, str]:
    """What the webhook sets, for that Entra."""
    return {
        "AZURE_TENANT_ID": TENANT,
        "AZURE_CLIENT_ID": "c-default",
        "AZURE_FEDERATED_TOKEN_FILE": str(folder / "token"),
        "AZURE_AUTHORITY_HOST": standin.url,
        "SSL_CERT_FILE": str(standin.ca_file),
    }


@pytest.fixture(scope="session")
def proxy(folder: Path, environment: dict[str, str]) -> Iterator[ProxyProcess]:
    """One proxy with every default but the log level, for all tests that need no other."""
    with ProxyProcess(folder, environment, ["--log-level=debug"]) as proxy:
        yield proxy


@pytest.fixture
def start_proxy(tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., ProxyProcess]]:
    """Starts a proxy with flags and changed variables; a variable that is empty is left out."""
    with ExitStack() as stack:

        def start(*arguments: str, **variables: str) -> ProxyProcess:
            changed = {name: value for name, value in {**environment, **variables}.items() if value}
            return stack.enter_context(ProxyProcess(tmp_path, changed, arguments))

        yield start
