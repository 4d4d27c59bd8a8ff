"""Stage ``smime.sign_encrypt`` against cryptography's builders with ``Encoding.SMIME``."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import algorithms
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from connectors import _cms, _mime
from dlx.testing.mailreader import open_mail
from dlx.testing.pki import Identity, TestPki

GATE, GOAL = 5.0, 10.0
SIZE = 120_000


def ours(letter: _mime.Letter, lab: Identity, doctor: Identity) -> bytes:
    """Payload, signature, envelope, headers: what the channel does for one mail."""
    content = _mime.payload(letter, "=_p0123456789abcdef")
    signature = _cms.sign(content, lab.key, lab.certificate, lab.chain, at=datetime.now(UTC))
    entity = _mime.signed_entity(content, signature, "sha-256", "=_s0123456789abcdef")
    sealed = _cms.encrypt(entity, [doctor.certificate])
    return _mime.enveloped_message(letter, sealed, authenticated=False)


def builders(letter: _mime.Letter, lab: Identity, doctor: Identity) -> bytes:
    """The reference: both builders asked for S/MIME text, over the same payload."""
    signer = (
        pkcs7.PKCS7SignatureBuilder()
        .set_data(_mime.payload(letter, "=_p0123456789abcdef"))
        .add_signer(lab.certificate, lab.key, hashes.SHA256())
    )
    signed = signer.sign(Encoding.SMIME, [pkcs7.PKCS7Options.DetachedSignature])
    envelope = (
        pkcs7.PKCS7EnvelopeBuilder()
        .set_data(signed)
        .add_recipient(doctor.certificate)
        .set_content_encryption_algorithm(algorithms.AES256)
    )
    return envelope.encrypt(Encoding.SMIME, [])


def run(quick: bool) -> list[dict[str, object]]:
    """Rows of performance.md §5. Raises ValueError when a mail cannot be opened and verified."""
    rounds, count = (5, 20) if quick else (10, 100)
    with tempfile.TemporaryDirectory() as folder:
        pki = TestPki(Path(folder))
        lab, doctor = pki.person("labo@labo.test"), pki.person("doc@clinic.test")
        letter = _letter()
        opened = open_mail(ours(letter, lab, doctor), doctor, pki.root_pem)
        assert opened.attachments[0][2] == letter.parts[0].content
        stage: list[float] = []
        reference: list[float] = []
        for _ in range(rounds):
            for times, work in ((reference, builders), (stage, ours)):
                for _ in range(count):
                    times.append(_timed(lambda work=work: work(letter, lab, doctor)))  # type: ignore[misc]
    return [_row(stage, reference, count * rounds, rounds)]


def _letter() -> _mime.Letter:
    part = _mime.Part(media_type="application/pdf", name="D1.pdf", content=os.urandom(SIZE))
    return _mime.Letter(
        sender="labo@labo.test",
        to="doc@clinic.test",
        date=datetime.now(UTC),
        message_id="<D1.1@labo.test>",
        subject="Compte rendu (envoi D1)",
        outer_subject="Compte rendu",
        note="Bonjour,\n",
        parts=[part],
    )


def _timed(work: Callable[[], bytes]) -> float:
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1000


def _row(stage: list[float], reference: list[float], count: int, rounds: int) -> dict[str, object]:
    ratio = min(reference) / min(stage)
    return {
        "stage": "smime.sign_encrypt",
        "n": count,
        "rounds": rounds,
        "min_ms": round(min(stage), 3),
        "median_ms": round(statistics.median(stage), 3),
        "p99_ms": round(sorted(stage)[int(len(stage) * 0.99)], 3),
        "cpu_ms": round(min(stage), 3),
        "ref": "cryptography.pkcs7.SMIME",
        "ref_ms": round(min(reference), 3),
        "ratio": round(ratio, 1),
        "gate": GATE,
        "goal": GOAL,
        "pass": ratio >= GATE,
        "env": {
            "cores": os.cpu_count(),
            "python": platform.python_version(),
            "libs": {"cryptography": version("cryptography")},
        },
    }
