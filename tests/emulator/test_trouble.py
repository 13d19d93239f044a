"""The verbs: what is told to go wrong goes wrong, exactly as often, and the journal says so."""

from __future__ import annotations

import ssl
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx2
import jwt
import pytest
import yaml

from azwi.emulator import faults
from azwi.emulator.client import EmulatorClient, emulate, read_addresses
from azwi.emulator.state import parse_state
from azwi.emulator.trouble import Propagation, Reset, Trouble, parse_verb
from azwi.errors import LocalError, ManifestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from azwi.emulator.directory import Directory

TENANT = "11111111-1111-1111-1111-111111111111"
ORDERS = "22222222-2222-2222-2222-222222222222"
AUDIENCE = "api://AzureADTokenExchange"


def state(*names: str, **more: object) -> dict[str, Any]:
    """A state in which `orders` trusts these service accounts of namespace shop."""
    credentials = [
        {"name": name, "issuer": "cluster", "subject": f"system:serviceaccount:shop:{name}"} for name in names
    ]
    return {
        "tenants": [{"id": TENANT, "applications": [{"clientId": ORDERS, "federatedCredentials": credentials}]}]
    } | more


@contextmanager
def running(folder: Path, document: dict[str, Any]) -> Iterator[tuple[EmulatorClient, Path]]:
    """An emulator of the test's own, and its state file."""
    path = folder / "state.yaml"
    path.write_text(yaml.safe_dump(document))
    with emulate(path, folder / "emulator") as emulator:
        yield emulator, path


def exchange(emulator: EmulatorClient, name: str = "orders", token: str = "") -> httpx2.Response:
    """One token request."""
    form = {
        "grant_type": "client_credentials",
        "client_id": ORDERS,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": token or emulator.service_account_token("shop", name, AUDIENCE),
        "scope": "https://vault.azure.net/.default",
    }
    return post(emulator, form)


def post(emulator: EmulatorClient, form: dict[str, str]) -> httpx2.Response:
    """A token request with this form."""
    return httpx2.post(
        f"{emulator.authority}{TENANT}/oauth2/v2.0/token",
        data=form,
        verify=ssl.create_default_context(cafile=emulator.ca_file),
        trust_env=False,
    )


def codes(answer: httpx2.Response) -> list[int]:
    """The AADSTS codes of a refusal; none of a granted request."""
    found: list[int] = answer.json().get("error_codes", [])
    return found


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorClient]:
    """An emulator that other files of this folder do not share."""
    with running(tmp_path_factory.mktemp("trouble"), state("orders")) as (client, _):
        yield client


@pytest.fixture(autouse=True)
def _calm(emulator: EmulatorClient) -> None:
    """Each test starts with nothing wrong and an empty journal."""
    emulator.reset()


def test_throttling_counts_down(emulator: EmulatorClient) -> None:
    """Two answers of 429 with Retry-After, then a token; the journal has all three and no token."""
    emulator.throttle(2, retry_after=7)

    answers = [exchange(emulator) for _ in range(3)]

    assert [429, 429, 200] == [answer.status_code for answer in answers]
    assert ["7", "7", None] == [answer.headers.get("retry-after") for answer in answers]
    journal = emulator.journal("entra")
    assert ["AADSTS90055", "AADSTS90055", "ok"] == [entry["outcome"] for entry in journal]
    assert (ORDERS, "system:serviceaccount:shop:orders") == (journal[2]["client_id"], journal[2]["subject"])
    assert "eyJ" not in str(emulator.journal())


@pytest.mark.parametrize("code", sorted(faults.BY_CODE))
def test_every_code_can_be_asked_for(code: int, emulator: EmulatorClient) -> None:
    """Each code that the emulator has a source for, once, with its own status."""
    emulator.fail(code=code)

    refused = exchange(emulator)

    assert ([code], faults.BY_CODE[code].status) == (codes(refused), refused.status_code)
    assert f"AADSTS{code}: " in refused.json()["error_description"]
    assert 200 == exchange(emulator).status_code


def test_a_gateway_fails_without_json(emulator: EmulatorClient) -> None:
    """A bare status with HTML, as something before Entra answers; failures queue up."""
    emulator.fail(2, status=502)
    emulator.fail(status=503)

    answers = [exchange(emulator) for _ in range(4)]

    assert [502, 502, 503, 200] == [answer.status_code for answer in answers]
    assert "<html>" in answers[0].text


def test_slowness_lasts_until_it_is_ended(emulator: EmulatorClient) -> None:
    """Every token request takes longer."""
    emulator.slow(0.3)
    before = time.monotonic()
    assert 200 == exchange(emulator).status_code
    assert time.monotonic() - before >= 0.3
    emulator.slow(0)
    assert 200 == exchange(emulator).status_code


def test_a_skewed_clock_refuses_tokens_out_of_time(emulator: EmulatorClient) -> None:
    """A token of now is expired for an Entra of tomorrow; the cluster's tokens follow the same clock."""
    token = emulator.service_account_token("shop", "orders", AUDIENCE)
    emulator.skew_clock(7200)
    assert [700024] == codes(exchange(emulator, token=token))
    assert 200 == exchange(emulator).status_code
    emulator.skew_clock(-7200)
    assert [700024] == codes(exchange(emulator, token=token))


@pytest.mark.parametrize(("forget", "expected"), [(False, []), (True, [7000272])])
def test_cluster_keys_rotate(forget: bool, expected: list[int], emulator: EmulatorClient) -> None:  # noqa: FBT001
    """A token of the old key is good as long as the key is published; new tokens are always good."""
    token = emulator.service_account_token("shop", "orders", AUDIENCE)
    emulator.rotate_keys("cluster", forget=forget)
    assert [] == codes(exchange(emulator))
    assert expected == codes(exchange(emulator, token=token))


def test_entra_keys_rotate(emulator: EmulatorClient) -> None:
    """The new key signs; the old one stays published until it is forgotten."""
    context = ssl.create_default_context(cafile=emulator.ca_file)

    def published() -> list[str]:
        keys = httpx2.get(f"{emulator.authority}{TENANT}/discovery/v2.0/keys", verify=context, trust_env=False)
        return [key["kid"] for key in keys.json()["keys"]]

    before = published()
    emulator.rotate_keys("entra")
    assert before == published()[:-1]
    emulator.rotate_keys("entra", forget=True)
    assert 1 == len(published())
    assert not set(before) & set(published())


@pytest.mark.parametrize(
    ("expected", "verb", "body"),
    [
        ("there is no verb 'explode'", "explode", {}),
        ("give either code", "fail", {}),
        ("give either code", "fail", {"code": 70021, "status": 500}),
        ("status 200 is no error", "fail", {"status": 200}),
        ("code 1 is none", "fail", {"code": 1}),
        ("throttle: Expected `int` >= 1", "throttle", {"count": 0}),
        ("unknown field `counts`", "throttle", {"counts": 1}),
        ("missing required field `seconds`", "slow", {}),
        ("rotate-keys: Invalid enum value", "rotate-keys", {"of": "all"}),
    ],
)
def test_a_wrong_verb_is_told(expected: str, verb: str, body: dict[str, object], emulator: EmulatorClient) -> None:
    """What is allowed stands in the message, and nothing changes."""
    with pytest.raises(LocalError) as raised:
        emulator._post(verb, **body)
    assert expected in str(raised.value)
    assert 200 == exchange(emulator).status_code


def test_a_body_that_is_no_json_is_told() -> None:
    """Garbage is one sentence."""
    assert "slow: " in str(parse_verb("slow", b"{"))


def test_the_state_is_read_again(tmp_path: Path) -> None:
    """An application that is added works at once; a broken file changes nothing; the mended one counts again."""
    with running(tmp_path, state()) as (emulator, path):
        assert [70025] == codes(exchange(emulator))
        path.write_text(yaml.safe_dump(state("orders")))
        assert [] == codes(exchange(emulator))
        path.write_text("tenants: 7\n")
        assert [] == codes(exchange(emulator))
        path.unlink()
        assert [] == codes(exchange(emulator))
        path.write_text(yaml.safe_dump(state("other")))
        assert [700213] == codes(exchange(emulator))


def test_new_credentials_propagate_when_told(tmp_path: Path) -> None:
    """What is added is not known at first; what was there stays known; a reset knows everything."""
    with running(tmp_path, state("orders")) as (emulator, path):
        emulator.delay_propagation(3600)
        assert [] == codes(exchange(emulator))
        path.write_text(yaml.safe_dump(state("orders", "late")))
        assert [700213] == codes(exchange(emulator, "late"))
        assert [] == codes(exchange(emulator))
        emulator.reset()
        assert [] == codes(exchange(emulator, "late"))


def parsed(*names: str) -> Directory:
    """A directory without I/O."""
    return parse_state(state(*names), "state.yaml")


def test_propagation_ends_by_itself() -> None:
    """A credential is hidden for exactly as long as told, and only if it is new."""
    trouble = Trouble()
    trouble.take(Propagation(seconds=30))
    trouble.learn(parsed("orders"), parsed("orders", "late"), 1000)

    def known(now: float) -> list[str]:
        return [credential.name for _, credential in trouble.known(parsed("orders", "late"), now).credentials()]

    assert ["orders"] == known(1029)
    assert ["orders", "late"] == known(1030)
    trouble.take(Reset())
    trouble.learn(parsed(), parsed("orders"), 1000)
    assert ["orders", "late"] == known(1001)


def test_only_listed_service_accounts_exist(tmp_path: Path) -> None:
    """With a list of service accounts, another one has no token; the longest life is a bound."""
    more = {
        "serviceAccounts": [{"namespace": "shop", "name": "orders"}],
        "cluster": {"maxTokenExpirationSeconds": 5},
    }
    with running(tmp_path, state("orders", **more)) as (emulator, _):
        token = emulator.service_account_token("shop", "orders", AUDIENCE)
        claims = jwt.decode(token, options={"verify_signature": False})
        assert 5 == claims["exp"] - claims["iat"]
        with pytest.raises(httpx2.HTTPStatusError, match="404"):
            emulator.service_account_token("shop", "stranger", AUDIENCE)


def test_two_emulators_at_once(tmp_path: Path, emulator: EmulatorClient) -> None:
    """Each has its own keys: the token of one is nothing to the other."""
    with running(tmp_path, state("orders")) as (other, _):
        token = other.service_account_token("shop", "orders", AUDIENCE)
        assert [] == codes(exchange(other, token=token))
        assert [700211] == codes(exchange(emulator, token=token))
        assert other.is_running()
        addresses = read_addresses(tmp_path / "emulator")
    gone = EmulatorClient(addresses)
    assert not gone.is_running()
    gone.close()


def test_addresses_that_are_none_are_told(tmp_path: Path) -> None:
    """A folder without an emulator, and one with another file of that name."""
    with pytest.raises(LocalError, match=r"no emulator runs in .*: emulator.json: No such file"):
        read_addresses(tmp_path)
    (tmp_path / "emulator.json").write_text("garbage")
    with pytest.raises(LocalError, match=r"is no file of the emulator's"):
        read_addresses(tmp_path)


def test_what_cannot_start_is_told(tmp_path: Path) -> None:
    """An emulator in a thread raises what one in a process says."""
    with pytest.raises(ManifestError, match="cannot read the state file"), emulate(tmp_path / "none", tmp_path):
        pass
