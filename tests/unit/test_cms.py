"""The CMS layer: what it writes opens, what was changed never does, one exception leaves it."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import _cms
from connectors._cms import der
from dlx.testing.pki import Identity, TestPki

CONTENT = b"Content-Type: text/plain\r\n\r\nDURAND-TEST 5,80 mmol/L\r\n" * 20
NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def rsa(pki: TestPki) -> Identity:
    return pki.person("rsa@labo.test")


@pytest.fixture(scope="module")
def curve(pki: TestPki) -> Identity:
    return pki.person("courbe@labo.test", curve=True)


def _signed(identity: Identity, *, detached: bool = True) -> bytes:
    return _cms.sign(
        CONTENT, identity.key, identity.certificate, identity.chain, at=NOW, detached=detached
    )


@pytest.mark.parametrize("who", ["rsa", "curve", "p384"])
@pytest.mark.parametrize("detached", [True, False])
def test_own_signature_verifies(
    who: str, detached: bool, rsa: Identity, curve: Identity, pki: TestPki
) -> None:
    large = pki.person("p384@labo.test", key=ec.generate_private_key(ec.SECP384R1()))
    identity = {"rsa": rsa, "curve": curve, "p384": large}[who]
    verified = _cms.verify(_signed(identity, detached=detached), CONTENT if detached else None)
    assert verified.content == CONTENT
    assert verified.certificate == identity.certificate
    assert set(verified.certificates) == {identity.certificate, *identity.chain}
    assert verified.signed_at == NOW.replace(microsecond=0)


def test_other_content_does_not_verify(rsa: Identity) -> None:
    with pytest.raises(_cms.CmsError):
        _cms.verify(_signed(rsa), CONTENT + b"\r\n")
    with pytest.raises(_cms.CmsError):
        _cms.verify(_signed(rsa))


def test_sha1_signature_is_refused(rsa: Identity, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT)
    weak = subprocess.run(
        [
            "openssl",
            "cms",
            "-sign",
            "-binary",
            "-md",
            "sha1",
            "-signer",
            rsa.pem,
            "-in",
            plain,
            "-outform",
            "DER",
        ],
        capture_output=True,
        check=True,
    ).stdout
    with pytest.raises(_cms.CmsError, match="empreinte"):
        _cms.verify(weak, CONTENT)


@pytest.mark.parametrize("suite", list(_cms.Suite))
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 100_000])
def test_every_suite_opens_for_its_reader(
    suite: _cms.Suite, size: int, rsa: Identity, curve: Identity
) -> None:
    content = b"x" * size
    for identity in (rsa, curve):
        sealed = _cms.encrypt(content, [identity.certificate], suite)
        assert _cms.decrypt(sealed, identity.key, identity.certificate) == content


def test_message_for_another_cannot_be_opened_and_the_words_tell_nothing(
    rsa: Identity, curve: Identity
) -> None:
    for mine, other in ((rsa, curve), (curve, rsa)):
        sealed = _cms.encrypt(CONTENT, [mine.certificate])
        with pytest.raises(_cms.CmsError, match=r"^le message ne peut pas être ouvert$"):
            _cms.decrypt(sealed, other.key, other.certificate)


def test_laboratory_reads_its_own_copy(rsa: Identity, curve: Identity) -> None:
    sealed = _cms.encrypt(CONTENT, [rsa.certificate, curve.certificate])
    for identity in (rsa, curve):
        assert _cms.decrypt(sealed, identity.key, identity.certificate) == CONTENT


def test_two_runs_share_no_key_nor_vector(rsa: Identity) -> None:
    first, second = (_cms.encrypt(CONTENT, [rsa.certificate]) for _ in range(2))
    assert first[-len(CONTENT) :] != second[-len(CONTENT) :]
    assert len(first) == len(second)


def test_cryptography_reads_what_we_write(rsa: Identity) -> None:
    sealed = _cms.encrypt(CONTENT, [rsa.certificate])
    opened = pkcs7.pkcs7_decrypt_der(sealed, rsa.certificate, rsa.key, [])  # type: ignore[arg-type]
    assert opened == CONTENT


def test_we_read_what_cryptography_writes(rsa: Identity) -> None:
    builder = pkcs7.PKCS7EnvelopeBuilder().set_data(CONTENT).add_recipient(rsa.certificate)
    sealed = builder.encrypt(Encoding.DER, [pkcs7.PKCS7Options.Binary])
    assert _cms.decrypt(sealed, rsa.key, rsa.certificate) == CONTENT


def test_no_change_of_a_signed_message_is_ever_accepted(rsa: Identity, curve: Identity) -> None:
    for identity in (rsa, curve):
        data = _signed(identity, detached=False)
        _attack(data, lambda changed: _cms.verify(changed).content, CONTENT)


def test_no_change_of_a_sealed_message_is_ever_accepted(rsa: Identity, curve: Identity) -> None:
    """CBC alone can be changed: what counts is that the signature inside catches it."""
    for identity in (rsa, curve):
        signed = _signed(identity, detached=False)
        for suite in (_cms.Suite.CBC, _cms.Suite.GCM):
            data = _cms.encrypt(signed, [identity.certificate], suite)

            def read(changed: bytes, who: Identity = identity) -> bytes:
                return _cms.verify(_cms.decrypt(changed, who.key, who.certificate)).content

            _attack(data, read, CONTENT, places=60)


def _attack(
    data: bytes, read: Callable[[bytes], bytes], truth: bytes, *, places: int = 512
) -> None:
    """Flip, cut and repeat: either our exception, or the very same content."""
    chance = random.Random(5652)
    spots = [*range(min(places, len(data))), *(chance.randrange(len(data)) for _ in range(200))]
    refused = 0
    for spot in spots:
        flipped = bytearray(data)
        flipped[spot] ^= 1 << chance.randrange(8)
        for changed in (bytes(flipped), data[:spot], data[:spot] + data[spot + 1 :]):
            try:
                assert read(changed) == truth
            except _cms.CmsError:
                refused += 1
    assert refused > len(spots) * 2


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_give_our_exception_and_no_other(data: bytes) -> None:
    with pytest.raises(_cms.CmsError):
        _cms.verify(data, b"")


@given(st.integers(0, 2**70))
def test_integers_are_read_as_written(value: int) -> None:
    assert der.Reader(der.integer(value)).next().number() == value


@given(st.binary(max_size=70_000))
def test_lengths_are_minimal_and_read_back(content: bytes) -> None:
    encoded = der.octets(content)
    reader = der.Reader(encoded)
    assert reader.next(der.OCTET_STRING).content == content
    reader.end()
    assert der.normalised(encoded) == encoded


@pytest.mark.parametrize(
    "data",
    [b"", b"\x30", b"\x30\x81\x01\x00", b"\x30\x80\x00\x00", b"\x30\x02\x05", b"\x1f\x81\x01\x00"],
)
def test_strict_reader_refuses_what_is_not_der(data: bytes) -> None:
    with pytest.raises(_cms.CmsError):
        der.Reader(data).next()


def test_indefinite_lengths_and_strings_in_pieces_are_normalised() -> None:
    pieces = b"\x24\x80" + der.octets(b"ab") + b"\x24\x03\x04\x01c" + b"\x00\x00"
    indefinite = b"\x30\x80" + pieces + der.integer(5) + b"\x00\x00"
    assert der.normalised(indefinite) == der.sequence(der.octets(b"abc"), der.integer(5))


@pytest.mark.parametrize("depth", [40, 20_000])
def test_deep_nesting_is_refused_without_exhausting_the_stack(depth: int) -> None:
    with pytest.raises(_cms.CmsError):
        der.normalised(b"\x30\x80" * depth)


def test_swarm_of_empty_elements_is_refused() -> None:
    with pytest.raises(_cms.CmsError, match="profonde"):
        der.normalised(der.sequence(b"\x05\x00" * 200_000))


@pytest.mark.parametrize("who", ["rsa", "curve"])
def test_streamed_message_of_openssl_is_read(
    who: str, rsa: Identity, curve: Identity, tmp_path: Path
) -> None:
    """``-stream`` writes indefinite lengths and content in 4 kB strings."""
    identity = rsa if who == "rsa" else curve
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT * 50)
    sealed = subprocess.run(
        [
            "openssl",
            "cms",
            "-encrypt",
            "-stream",
            "-binary",
            "-aes-256-cbc",
            "-outform",
            "DER",
            "-in",
            plain,
            identity.certificate_pem,
        ],
        capture_output=True,
        check=True,
    ).stdout
    assert sealed[1] == 0x80
    assert _cms.decrypt(sealed, identity.key, identity.certificate) == CONTENT * 50
