"""The order of rotation: no API server ever meets a certificate that it does not trust, whoever leads (D 21)."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import ssl
import time
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from azwi.webhook.certificates.issuance import DAY, Facts, Pair, issue_authority, issue_leaf, read_facts
from azwi.webhook.certificates.rotation import LONGEST_WAIT, Observed, Step, plan_step
from azwi.webhook.certificates.trust import SETTLE, wait_for_trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ("azure-wi-webhook-webhook-service.azure-workload-identity-system.svc", "192.0.2.1")
NOW = float(int(time.time()))  # OpenSSL, which is asked what it trusts, looks at the machine's clock
YEAR = 365 * DAY


def of_an_unknown_curve() -> bytes:
    """A certificate whose key is on a curve of another name, one that no library knows."""
    der = x509.load_pem_x509_certificate(issue_authority(NOW).certificate).public_bytes(serialization.Encoding.DER)
    p256 = bytes.fromhex("06082a8648ce3d030107")
    assert 1 == der.count(p256)
    body = base64.encodebytes(der.replace(p256, bytes.fromhex("06082a8648ce3d03017f"))).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n".encode()


UNSUPPORTED = of_an_unknown_curve()


class World:
    """Secret and configuration as the API server has them, a leader that may change at any step, and what is served."""

    def __init__(self, secret: dict[str, bytes] | None = None, bundles: tuple[bytes, ...] = (b"", b"")) -> None:
        self.secret = dict(secret or {})
        self.bundles = bundles
        self.now = NOW
        self.bundles_at = NOW
        self.steps: list[str] = []
        self.served: dict[str, bytes] = {}
        self.serve()

    def step(self, settled: float | None = None) -> Step:
        """One step of whoever leads; a new leader has seen the bundles for `settled` seconds only."""
        age = self.now - self.bundles_at if settled is None else settled
        serving = (self.served.get("ca.crt", b""), self.served.get("tls.crt", b""))
        step = plan_step(Observed(self.secret, self.bundles, age, NAMES, serving), self.now)
        for name, value in step.secret.items():
            if value is None:
                self.secret.pop(name, None)
            else:
                self.secret[name] = value
        self.serve()
        if step.bundle is not None and self.bundles != (bundles := (step.bundle,) * len(self.bundles)):
            self.bundles = bundles
            self.bundles_at = self.now
        self.serve()
        if step.why:
            self.steps.append(step.why)
        return step

    def serve(self) -> None:
        """What a replica does when Secret, configuration or time have changed."""
        authority, served = self.secret.get("ca.crt", b""), self.served.get("ca.crt", b"")
        wait = wait_for_trust(authority, served, self.bundles, self.now - self.bundles_at)
        if "tls.crt" in self.secret and wait == 0.0:
            self.served = dict(self.secret)

    def settle(self) -> None:
        """Steps until nothing is to be done for a while."""
        for _ in range(20):
            step = self.step()
            self.now += max(step.wait, 1.0) if step.wait <= SETTLE else 0.0
            self.serve()
            if not step.why and step.wait > SETTLE:
                return
        raise AssertionError(self.steps)

    def trusts(self, bundle: bytes) -> bool:
        """Whether an API server that knows this bundle accepts what is served, by OpenSSL's own rules."""
        return handshake(bundle, self.served["tls.crt"], self.served["tls.key"])


def handshake(bundle: bytes, certificate: bytes, key: bytes, name: str = NAMES[0]) -> bool:
    """Whether a TLS client that trusts the bundle accepts the certificate."""
    from azwi.webhook.certificates.tls import load_pair_bytes, make_context  # noqa: PLC0415

    server = make_context("1.3")
    load_pair_bytes(server, certificate, key)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=bundle.decode())
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=name)
    serving = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (asking, serving):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return True


def own(authority_age: float = 0.0, leaf_age: float = 0.0) -> dict[str, bytes]:
    """A Secret of ours whose certificates were made so long ago."""
    authority = issue_authority(NOW - authority_age)
    leaf = issue_leaf(authority, NAMES, NOW - leaf_age)
    return {
        "ca.crt": authority.certificate,
        "ca.key": authority.key,
        "tls.crt": leaf.certificate,
        "tls.key": leaf.key,
    }


def of_the_reference(authority_days: float = 3000, leaf_days: float = 300) -> dict[str, bytes]:
    """A Secret as the Go original leaves it: RSA, an authority with a name of its own, PKCS#1 keys (R 3.1)."""
    start = dt.datetime.fromtimestamp(NOW - DAY, dt.UTC)
    authority_key, leaf_key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "azure-workload-identity-ca")])

    def build(subject: x509.Name, key: rsa.RSAPrivateKey, days: float) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(start)
            .not_valid_after(start + dt.timedelta(days=days + 1))
        )

    authority = (
        build(issuer, authority_key, authority_days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    names = x509.SubjectAlternativeName([x509.DNSName(NAMES[0]), x509.IPAddress(ipaddress.ip_address(NAMES[1]))])
    leaf = (
        build(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook")]), leaf_key, leaf_days)
        .add_extension(names, critical=False)
        .sign(authority_key, hashes.SHA256())
    )

    def pem(key: rsa.RSAPrivateKey) -> bytes:
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())

    return {
        "ca.crt": authority.public_bytes(serialization.Encoding.PEM),
        "ca.key": pem(authority_key),
        "tls.crt": leaf.public_bytes(serialization.Encoding.PEM),
        "tls.key": pem(leaf_key),
    }


def facts(certificate: bytes) -> Facts:
    """What a certificate says."""
    found = read_facts(certificate)
    assert found is not None
    return found


def test_an_empty_secret_is_filled_at_once() -> None:
    """Authority, server certificate and bundle in one step; then there is nothing to do for twelve hours."""
    world = World()
    assert "begin" == world.step().why
    assert (LONGEST_WAIT, "") == ((step := world.step()).wait, step.why)
    assert (world.secret["ca.crt"],) * 2 == world.bundles
    authority, leaf = facts(world.secret["ca.crt"]), facts(world.secret["tls.crt"])
    assert (authority.authority, leaf.authority) == (True, False)
    assert authority.modern
    assert leaf.modern
    assert frozenset(NAMES) == leaf.names
    assert (NOW - 3600, NOW + YEAR) == (leaf.not_before, leaf.not_after)
    assert (NOW - 3600, NOW + 10 * YEAR) == (authority.not_before, authority.not_after)
    loaded = [x509.load_pem_x509_certificate(world.secret[name]) for name in ("ca.crt", "tls.crt")]
    identifiers = [one.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest for one in loaded]
    assert identifiers[0] != identifiers[1]
    issuer = loaded[1].extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert identifiers[0] == issuer


@pytest.mark.parametrize(
    ("what", "secret", "steps"),
    [
        ("all is well", lambda: own(), []),  # noqa: PLW0108  # made when it is needed
        ("the leaf is near its end", lambda: own(leaf_age=280 * DAY), ["renew"]),
        ("the authority is near its end", lambda: own(authority_age=3600 * DAY), ["prepare", "trust", "replace"]),
        ("the reference's", of_the_reference, ["prepare", "trust", "replace"]),
        ("an authority without its key", lambda: own() | {"ca.key": b""}, ["prepare", "trust", "replace"]),
        ("an authority with another key", lambda: own() | {"ca.key": own()["ca.key"]}, ["prepare", "trust", "replace"]),
        (
            "a next authority that is garbage",
            lambda: own(3600 * DAY) | {"next-ca.crt": b"x", "next-ca.key": b"y"},
            None,
        ),
    ],
)
def test_each_state_has_its_steps(what: str, secret: Callable[[], dict[str, bytes]], steps: list[str] | None) -> None:
    """A working certificate is replaced step by step, and API servers with the old bundle go on meanwhile."""
    made = secret()
    old = made["ca.crt"].strip() + b"\n"
    world = World(made, (old, old))
    world.settle()
    assert (steps if steps is not None else ["prepare", "trust", "replace"]) == world.steps, what
    assert facts(world.secret["tls.crt"]).not_after > NOW + 90 * DAY


@pytest.mark.parametrize(
    ("what", "secret"),
    [
        ("garbage", lambda: {"ca.crt": b"x", "ca.key": b"x", "tls.crt": b"x", "tls.key": b"x"}),
        ("no leaf", lambda: {name: value for name, value in own().items() if name.startswith("ca")}),
        ("a leaf without its key", lambda: own() | {"tls.key": b""}),
        ("a leaf with another key", lambda: own() | {"tls.key": own()["tls.key"]}),
        ("a leaf of another authority", lambda: own() | {k: v for k, v in own().items() if k.startswith("tls")}),
        ("an expired leaf", lambda: own(leaf_age=366 * DAY)),
        ("a leaf of a clock that was ahead", lambda: own(leaf_age=-3 * DAY)),
        ("certificates of a clock that was ahead", lambda: own(authority_age=-3 * DAY, leaf_age=-3 * DAY)),
        ("a key of a kind that nobody supports", lambda: own() | {"tls.crt": UNSUPPORTED}),
        ("an authority of a kind that nobody supports", lambda: own() | {"ca.crt": UNSUPPORTED}),
        ("an expired authority", lambda: own(authority_age=3651 * DAY, leaf_age=200 * DAY)),
        ("a leaf as authority", lambda: {**(made := own()), "ca.crt": made["tls.crt"], "ca.key": made["tls.key"]}),
        ("another key than a private one", lambda: own() | {"tls.key": own()["ca.crt"]}),
    ],
)
def test_what_does_not_work_is_made_anew_at_once(what: str, secret: Callable[[], dict[str, bytes]]) -> None:
    """Nobody could call us anyway, so there is no waiting."""
    world = World(secret())
    assert "begin" == world.step().why, what
    assert world.trusts(world.bundles[0])
    assert not world.step().why


def test_an_authority_that_can_sign_is_kept() -> None:
    """A lost server certificate alone changes no trust."""
    secret = own()
    world = World({name: secret[name] for name in ("ca.crt", "ca.key")}, (secret["ca.crt"],))
    world.step()
    assert secret["ca.crt"] == world.secret["ca.crt"]
    assert (secret["ca.crt"],) == world.bundles


def test_another_name_is_asked_for() -> None:
    """A certificate that lacks a name of ours is no use to API servers."""
    secret = own()
    step = plan_step(Observed(secret, (secret["ca.crt"],), 0.0, (*NAMES, "localhost")), NOW)
    assert "begin" == step.why
    assert step.secret["tls.crt"]
    assert facts(step.secret["tls.crt"]).names == {*NAMES, "localhost"}


def test_a_bundle_that_somebody_changed_is_mended() -> None:
    """One entry of two is enough; the Secret stays as it is."""
    secret = own()
    for damaged in (b"", b"garbage", secret["ca.crt"] + own()["ca.crt"]):
        step = plan_step(Observed(secret, (secret["ca.crt"], damaged), 0.0, NAMES), NOW)
        assert ("trust", secret["ca.crt"], {}) == (step.why, step.bundle, dict(step.secret))
    assert not plan_step(Observed(secret, (), 0.0, NAMES), NOW).why


def test_a_new_bundle_has_time_to_be_seen() -> None:
    """The next authority signs only when the bundle has been there for 60 s, also after a change of leaders."""
    secret = own(authority_age=3600 * DAY)
    world = World(secret, (secret["ca.crt"],))
    assert ["prepare", "trust"] == [world.step().why, world.step().why]
    for settled, wait in ((0.0, 60.0), (59.0, 1.0)):
        step = world.step(settled)
        assert ("", wait) == (step.why, step.wait)
    assert "replace" == world.step(60.0).why


def test_the_old_authority_goes_when_its_leaf_has_expired() -> None:
    """Until then somebody may serve it; afterwards Secret and bundle forget it."""
    secret = own(authority_age=3600 * DAY, leaf_age=200 * DAY)
    world = World(secret, (secret["ca.crt"],))
    world.settle()
    assert 2 == world.bundles[0].count(b"BEGIN CERTIFICATE")
    assert "previous-ca.key" not in world.secret
    world.now = NOW + 40 * DAY
    world.settle()
    assert 2 == world.bundles[0].count(b"BEGIN CERTIFICATE")
    world.now = NOW + 60 * DAY
    world.settle()
    assert (world.secret["ca.crt"],) == world.bundles
    assert {"ca.crt", "ca.key", "tls.crt", "tls.key"} == set(world.secret)


EVENTS = ["step", "step", "step", "new leader", "wait", "wait", "emptied", "put back", "put by somebody"]


@settings(max_examples=settings().max_examples // 2)  # each is a history of its own
@given(st.lists(st.sampled_from(EVENTS), max_size=20), st.sampled_from(["old", "the reference", "young"]))
def test_no_api_server_meets_a_stranger(happens: list[str], first: str) -> None:
    """Whatever order steps, waits, new leaders and hands on the Secret come in: old bundles trust what is served."""
    secret = {"old": OLD, "the reference": REFERENCE, "young": YOUNG}[first]
    world = World(secret, (secret["ca.crt"].strip() + b"\n",))
    history = [(NOW, world.bundles[0])]  # what API servers know may be a minute old
    settled: float | None = None
    for event in happens:
        if event == "wait":
            world.now += 30.0
            settled = None if settled is None else settled + 30.0
        elif event == "new leader":
            settled = 0.0
        elif event == "step":
            if world.step(settled).bundle is not None:
                settled = 0.0
        else:
            world.secret = dict({"emptied": {}, "put back": secret, "put by somebody": SOMEBODYS}[event])
        world.serve()
        if history[-1][1] != world.bundles[0]:
            history.append((world.now, world.bundles[0]))
        known = max((index for index, (at, _) in enumerate(history) if at <= world.now - SETTLE), default=0)
        for _, bundle in history[known:]:
            assert world.trusts(bundle)


@pytest.mark.parametrize("secret", [{}, own()], ids=["emptied", "put by somebody"])
def test_a_secret_that_somebody_changed(secret: dict[str, bytes]) -> None:
    """Its authority is trusted first, and used a minute later; the one before stays while its certificate lives."""
    old = own(leaf_age=200 * DAY)
    world = World(old, (old["ca.crt"],))
    world.secret = dict(secret)
    world.settle()
    assert old == world.served
    world.now += SETTLE
    world.serve()
    assert world.secret["tls.crt"] == world.served["tls.crt"]
    assert {"ca.crt", "ca.key", "tls.crt", "tls.key", "previous-ca.crt", "previous-tls.crt"} == set(world.secret)
    assert 2 == world.bundles[0].count(b"BEGIN CERTIFICATE")
    world.now = NOW + 166 * DAY
    world.settle()
    assert (world.secret["ca.crt"],) == world.bundles


@pytest.mark.parametrize(
    ("what", "authority", "served", "bundles", "settled", "wait"),
    [
        ("the first", b"new", b"", [], 0.0, 0.0),
        ("the same authority", b"old\n", b"old", [b"old"], 0.0, 0.0),
        ("not trusted yet", b"new", b"old", [b"old", b"old"], 90.0, None),
        ("trusted by one entry of two", b"new", b"old", [b"old", b"old new"], 90.0, None),
        ("trusted for ten seconds", b"new", b"old", [b"old new", b"new"], 10.0, SETTLE - 10),
        ("trusted for long", b"new", b"old", [b"old new"], 90.0, 0.0),
        ("nobody trusts what is served", b"new", b"old", [b"other"], 0.0, 0.0),
        ("no authority in the Secret", b"", b"old", [b"old"], 90.0, None),
        ("no configuration", b"new", b"old", [], 90.0, 0.0),
    ],
)
def test_when_the_next_certificate_is_served(
    what: str, authority: bytes, served: bytes, bundles: list[bytes], settled: float, wait: float | None
) -> None:
    """As soon as API servers trust it, and at once where they do not trust the one that is served either."""
    assert wait == wait_for_trust(authority, served, bundles, settled), what


YOUNG = own()
SOMEBODYS = own()
OLD = own(authority_age=3600 * DAY)
REFERENCE = of_the_reference()


def test_certificates_that_are_none_say_nothing() -> None:
    """Text, an empty text, and a certificate without extensions."""
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([])
    bare = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(dt.datetime.fromtimestamp(NOW, dt.UTC))
        .not_valid_after(dt.datetime.fromtimestamp(NOW + DAY, dt.UTC))
        .sign(key, hashes.SHA256())
    )
    found = facts(bare.public_bytes(serialization.Encoding.PEM))
    assert (False, False, frozenset()) == (found.modern, found.authority, found.names)
    assert read_facts(b"") is None
    assert read_facts(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") is None


def test_other_libraries_accept_what_is_issued(tmp_path: Path) -> None:
    """A certificate of ours serves under each of its names, and only where its authority is trusted."""
    authority = issue_authority(DAY * 20_000)
    leaf = issue_leaf(authority, NAMES, dt.datetime.now(dt.UTC).timestamp())
    assert tmp_path.exists()
    assert handshake(authority.certificate, leaf.certificate, leaf.key)
    assert handshake(authority.certificate, leaf.certificate, leaf.key, NAMES[1])
    assert not handshake(authority.certificate, leaf.certificate, leaf.key, "elsewhere.svc")
    assert not handshake(trustme.CA().cert_pem.bytes(), leaf.certificate, leaf.key)
    assert Pair(leaf.certificate, leaf.key) == leaf
