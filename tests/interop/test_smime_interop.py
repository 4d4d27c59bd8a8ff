"""Other people's readers open our mails, and we open theirs (OpenSSL, gpgsm, NSS)."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from connectors import _cms, _mime
from dlx.testing.mailreader import open_mail
from dlx.testing.pki import Identity, TestPki

pytestmark = pytest.mark.interop

CONTENT = b"Content-Type: text/plain\r\n\r\nDURAND-TEST\r\n" + b"0123456789\r\n" * 10_000
NOW = datetime.now(UTC)

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is absent")
needs_nss = pytest.mark.skipif(not shutil.which("cmsutil"), reason="NSS cmsutil is absent")


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module", params=["rsa", "curve"])
def identity(request: pytest.FixtureRequest, pki: TestPki) -> Identity:
    return pki.person(f"{request.param}@clinic.test", curve=request.param == "curve")


def _run(*command: str | Path, stdin: bytes = b"") -> bytes:
    run = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, timeout=60)
    assert run.returncode == 0, run.stderr.decode(errors="replace")
    return run.stdout


@needs_openssl
@pytest.mark.parametrize("suite", list(_cms.Suite))
def test_openssl_opens_what_we_seal(identity: Identity, suite: _cms.Suite, tmp_path: Path) -> None:
    sealed = tmp_path / "sealed"
    sealed.write_bytes(_cms.encrypt(CONTENT, [identity.certificate], suite))
    reader = ("-recip", identity.certificate_pem, "-inkey", identity.pem)
    opened = _run("openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", sealed, *reader)
    assert opened == CONTENT


@needs_openssl
def test_openssl_verifies_our_signature_and_we_verify_its(
    identity: Identity, pki: TestPki, tmp_path: Path
) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(CONTENT)
    signature = _cms.sign(CONTENT, identity.key, identity.certificate, identity.chain, at=NOW)
    ours.write_bytes(signature)
    cms = ("openssl", "cms", "-binary")
    anchored = ("-CAfile", pki.root_pem, "-purpose", "smimesign")
    judged = ("-inform", "DER", "-in", ours, "-content", plain)
    assert _run(*cms, "-verify", *judged, *anchored) == CONTENT
    for more in ((), ("-nodetach",), ("-keyid",), ("-cades",), ("-md", "sha512")):
        theirs = _run(
            *cms, "-sign", "-signer", identity.pem, "-outform", "DER", "-in", plain, *more
        )
        assert _cms.verify(theirs, CONTENT).certificate == identity.certificate


@needs_openssl
@pytest.mark.parametrize(
    "options",
    [
        ("-aes-128-cbc",),
        ("-aes-256-cbc",),
        ("-aes-256-cbc", "-stream"),
        ("-aes-256-gcm",),
        ("-aes-256-cbc", "-keyid"),
        ("-aes-256-cbc", "OAEP"),
        ("-aes-256-cbc", "SHA256KDF"),
    ],
)
def test_we_open_what_openssl_seals(
    identity: Identity, options: tuple[str, ...], tmp_path: Path
) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT)
    words = [word for word in options if word.startswith("-")]
    late = ["-recip", str(identity.certificate_pem)]
    curved = "curve" in identity.pem.name
    if "OAEP" in options:
        if curved:
            pytest.skip("OAEP is for RSA keys")
        late += ["-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"]
    if "SHA256KDF" in options:
        if not curved:
            pytest.skip("key derivation is for EC keys")
        late += ["-keyopt", "ecdh_kdf_md:sha256"]
    base = ("openssl", "cms", "-encrypt", "-binary", "-outform", "DER", "-in", plain)
    sealed = _run(*base, *words, *late)
    assert _cms.decrypt(sealed, identity.key, identity.certificate) == CONTENT


@pytest.fixture(scope="module")
def nss(tmp_path_factory: pytest.TempPathFactory, pki: TestPki) -> tuple[str, Identity]:
    """An NSS store holding the root and one RSA reader."""
    folder = tmp_path_factory.mktemp("nss")
    store, reader = f"sql:{folder}", pki.person("nss@clinic.test")
    _run("certutil", "-N", "-d", store, "--empty-password")
    _run("certutil", "-A", "-d", store, "-n", "root", "-t", "C,C,C", "-i", pki.root_pem)
    bundle = folder / "reader.p12"
    bundle.write_bytes(
        pkcs12.serialize_key_and_certificates(
            b"reader", reader.key, reader.certificate, reader.chain, BestAvailableEncryption(b"x")
        )
    )
    _run("pk12util", "-i", bundle, "-d", store, "-W", "x", "-K", "")
    return store, reader


@needs_nss
def test_nss_opens_the_default_suite_and_we_open_its_indefinite_lengths(
    nss: tuple[str, Identity], tmp_path: Path
) -> None:
    store, reader = nss
    sealed = tmp_path / "sealed"
    sealed.write_bytes(_cms.encrypt(CONTENT, [reader.certificate]))
    assert _run("cmsutil", "-D", "-d", store, "-i", sealed) == CONTENT
    plain = tmp_path / "plain"
    plain.write_bytes(CONTENT)
    theirs = _run("cmsutil", "-E", "-d", store, "-r", "nss@clinic.test", "-i", plain)
    assert theirs[1] == 0x80
    assert _cms.decrypt(theirs, reader.key, reader.certificate) == CONTENT


@pytest.mark.skipif(not shutil.which("gpgsm"), reason="gpgsm is absent")
def test_gpgsm_opens_the_default_suite(pki: TestPki, tmp_path: Path) -> None:
    reader = pki.person("gpg@clinic.test")
    home = Path(os.environ.get("XDG_RUNTIME_DIR", "/tmp")) / f"gpg-{os.getpid()}"
    home.mkdir(mode=0o700)
    try:
        (home / "gpgsm.conf").write_text("disable-crl-checks\ndisable-policy-checks\n")
        (home / "gpg-agent.conf").write_text("allow-loopback-pinentry\n")
        root = pki.root.fingerprint(hashes.SHA1()).hex().upper()
        (home / "trustlist.txt").write_text(f"{root} S\n")
        gpgsm = ("gpgsm", "--homedir", home, "--batch", "--pinentry-mode", "loopback")
        secret = ("--passphrase-fd", "0")
        bundle = tmp_path / "reader.p12"
        _run(
            "openssl", "pkcs12", "-export", "-legacy", "-in", reader.pem, "-out", bundle,
            "-passout", "pass:x",
        )  # fmt: skip
        _run("gpgsm", "--homedir", home, "--batch", "--import", pki.root_pem)
        _run(*gpgsm, *secret, "--import", bundle, stdin=b"x\n")
        sealed = tmp_path / "sealed"
        sealed.write_bytes(_cms.encrypt(CONTENT, [reader.certificate]))
        assert _run(*gpgsm, *secret, "--decrypt", sealed, stdin=b"x\n") == CONTENT
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
        shutil.rmtree(home, ignore_errors=True)


@needs_openssl
def test_whole_mail_opens_and_verifies(pki: TestPki, identity: Identity) -> None:
    letter = _mime.Letter(
        sender="rsa@clinic.test",
        to="x@clinic.test",
        date=NOW,
        message_id="<D1.1@labo.test>",
        subject="é" * 100,
        outer_subject="Compte rendu de biologie médicale",
        note="From now on\n.\nFrom « é »   \n" + "é" * 300,
        parts=[_mime.Part(media_type="application/pdf", name="D1.pdf", content=CONTENT)],
    )
    content = _mime.payload(letter, "=_p1")
    signature = _cms.sign(content, identity.key, identity.certificate, identity.chain, at=NOW)
    entity = _mime.signed_entity(content, signature, "sha-256", "=_s1")
    sealed = _cms.encrypt(entity, [identity.certificate])
    message = _mime.enveloped_message(letter, sealed, authenticated=False)
    opened = open_mail(message, identity, pki.root_pem)
    assert opened.payload == content
    assert opened.inner["Subject"] == letter.subject
    assert opened.note.replace("\r\n", "\n").rstrip("\n") == letter.note
