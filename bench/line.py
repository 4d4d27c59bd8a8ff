"""HL7 in, PDF in a signed and encrypted mail accepted by a small sink, against the naive line.

Naive: hl7apy, platypus, the library's S/MIME text encoders, an ORM commit, one connection a mail.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import ssl
import tempfile
import time
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiosmtplib
from hl7apy.parser import parse_message
from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from bench._measure import row, watched
from bench.pdf import platypus
from bench.pipeline import messages
from bench.smime import builders
from bench.smtp import Sink
from connectors import _mime
from dlx import registry
from dlx.testing.pki import Identity, TestPki
from dlx.testing.reports import report_for
from dlx.testing.station import RunningStation

CONFIGURATION = {
    "dlx.yaml": """\
laboratory: {{name: Banc, finess: 999999999}}
pickup:
  - {{name: sil, directory: var/spool/dlx/in, ready_when: rename}}
defaults: {{formats: [pdf]}}
limits: {{workers: 1, batch: 50}}
""",
    "channels.d/a.yaml": """\
channels:
  mail:
    type: smime-mail
    smtp: smtps://localhost:{port}
    ca: etc/dlx/keys/root.pem
    sender: labo@labo.example
    identity: key:labo
    smime: sign+encrypt
    trust: etc/dlx/keys/root.pem
    certificates: etc/dlx/keys
    concurrency: 8
""",
    "profiles.d/a.yaml": """\
profiles:
  - id: dr-lefevre
    name: {{family: LEFEVRE-TEST, given: Anne}}
    lis_codes: LEFA
    deliver:
      - {{via: mail, to: doc@clinic.example, formats: pdf}}
""",
}


class KeepingSink(Sink):
    """Counts what it accepted and keeps one mail in fifty."""

    folder: Path
    count = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        in_body = self._in_body
        super().data_received(data)
        if in_body:
            self._parts.append(data)
            if not self._in_body:
                if KeepingSink.count % 50 == 0:
                    content = b"".join(self._parts)[: -len(b".\r\n")]
                    name = KeepingSink.folder / f"{KeepingSink.count}.eml"
                    name.write_bytes(content.replace(b"\r\n..", b"\r\n."))
                self._parts = []
                KeepingSink.count += 1


def _serve(pem: Path, folder: Path, line: Connection) -> None:
    KeepingSink.folder = folder

    async def forever() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(KeepingSink, "127.0.0.1", 0, ssl=context)
        line.send(server.sockets[0].getsockname()[1])
        while not line.poll():
            await asyncio.sleep(0.05)
        line.send(KeepingSink.count)

    asyncio.run(forever())


class Base(DeclarativeBase):
    """Tables of the naive line."""


class Sent(Base):
    """One row a report."""

    __tablename__ = "sent"
    id: Mapped[int] = mapped_column(primary_key=True)
    number: Mapped[str]
    state: Mapped[str]


def naive(
    root: Path, port: int, pki: TestPki, lab: Identity, doctor: Identity, count: int
) -> float:
    """Seconds for ``count`` reports done the plain way."""
    engine = create_engine(f"sqlite:///{root / 'naive.sqlite3'}")
    Base.metadata.create_all(engine)
    tls = ssl.create_default_context(cafile=pki.root_pem)
    files = messages(count, first=90_001)
    started = time.perf_counter()
    for number, content in enumerate(files):
        parse_message(content.decode("utf-8"), find_groups=False)
        pdf = platypus(report_for("LEFA", seed=90_001 + number))
        letter = _mime.Letter(
            sender="labo@labo.example",
            to="doc@clinic.example",
            subject="Compte rendu",
            outer_subject="Compte rendu",
            message_id=f"<{number}@labo.example>",
            date=datetime.now(UTC),
            note="Compte rendu",
            parts=[_mime.Part(media_type="application/pdf", name="D1.pdf", content=pdf)],
        )
        with Session(engine) as session:
            session.add(Sent(number=str(number), state="waiting"))
            session.commit()
        mail = builders(letter, lab, doctor)
        asyncio.run(
            aiosmtplib.send(
                mail,
                sender="labo@labo.example",
                recipients=["doc@clinic.example"],
                hostname="localhost",
                port=port,
                use_tls=True,
                tls_context=tls,
            )
        )
        with Session(engine) as session:
            session.query(Sent).filter_by(number=str(number)).update({"state": "accepted"})
            session.commit()
    engine.dispose()
    return time.perf_counter() - started


def station(
    root: Path, port: int, pki: TestPki, lab: Identity, doctor: Identity, count: int
) -> float:
    """Seconds for ``count`` reports through the station, until all are accepted."""
    keys = root / "etc" / "dlx" / "keys"
    keys.mkdir(parents=True)
    for name, source, mode in (
        ("root.pem", pki.root_pem, 0o644),
        ("labo.pem", lab.pem, 0o600),
        ("doc@clinic.example.pem", doctor.certificate_pem, 0o644),
    ):
        (keys / name).write_bytes(source.read_bytes())
        (keys / name).chmod(mode)
    configuration = {name: text.format(port=port) for name, text in CONFIGURATION.items()}
    files = messages(count)
    with RunningStation(root, configuration) as running:
        waiting = root / "var" / "spool" / "dlx" / "ready"
        waiting.mkdir()
        for number, content in enumerate(files):
            (waiting / f"{number:06d}.hl7").write_bytes(content)
        started = time.perf_counter()
        for path in sorted(waiting.iterdir()):
            path.rename(running.inbox / path.name)
        while running.ask("status")["totals"].get("accepted", 0) < count:
            time.sleep(0.25)  # seldom: each question costs the station some milliseconds
            if time.perf_counter() - started > 240:
                raise RuntimeError("the station did not come to rest")
        return time.perf_counter() - started


def run(quick: bool) -> list[dict[str, Any]]:
    """Row ``pipeline.b``: rate of the station over the rate of the naive line."""
    few, many = (10, 300) if quick else (40, 2000)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="dlx-bench-") as name, watched() as load:
        root = Path(name)
        pki = TestPki(root / "pki")
        lab, doctor = pki.person("labo@labo.example"), pki.person("doc@clinic.example")
        near, far = context.Pipe()
        (root / "sink").mkdir()
        sink = context.Process(target=_serve, args=(pki.server().pem, root / "sink", far))
        sink.start()
        port = near.recv()
        slow = naive(root, port, pki, lab, doctor, few)
        fast = station(root / "station", port, pki, lab, doctor, many)
        near.send("end")
        accepted = near.recv()
        sink.join()
        if accepted != few + many:
            raise RuntimeError(f"{accepted} mails arrived, {few + many} expected")
        _check_sample(root / "sink", doctor, pki)
    return [
        row(
            "pipeline.b",
            gate=50,
            goal=100,
            ratio=(slow / few) / (fast / many),
            load=load,
            n=many,
            per_second=round(many / fast),
            ref="naive line",
            ref_per_second=round(few / slow, 2),
        )
    ]


def _check_sample(folder: Path, doctor: Identity, pki: TestPki) -> None:
    mails = sorted(folder.iterdir(), key=os.path.getmtime)
    opened = registry.open_mail(mails[-1].read_bytes(), doctor.pem, pki.root_pem, datetime.now(UTC))
    if not opened.attachments[0][2].startswith(b"%PDF-"):
        raise RuntimeError("the last mail holds no PDF")
