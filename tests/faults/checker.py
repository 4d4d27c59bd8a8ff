"""The one checker of the fault tests: what the station believes, held against what really arrived.

A ``Site`` is a station with three ways out (S/MIME mail, SFTP, folder) and the far sides that keep
the truth. ``verdict`` takes it at rest and stopped, and says every promise (P1 to P9 of the
reliability rules) that does not hold::

    site = Site(tmp_path, peers)
    site.drop(*wave(0))
    ...kill, start, wait...
    site.station.stop()
    assert not verdict(site).broken
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from email import message_from_bytes
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import text

from dlx import ledger as store
from dlx import registry, spool
from dlx.archive import Archive, MasterKey
from dlx.archive import Place as Kept
from dlx.delivery import NoticeKind, Result, State
from dlx.ledger import DeliveryView, Ledger, NoticeRow, Selection, Tx
from dlx.moment import Moment
from dlx.report import Person, Report, ReportStatus
from dlx.testing.mailreader import open_mail
from dlx.testing.peers.sftp import SftpPeer
from dlx.testing.peers.smtp import SmtpPeer, Stored, server_context
from dlx.testing.pki import Identity, TestPki
from dlx.testing.reports import report_for
from dlx.testing.station import RunningStation

MAIL, CLINIC, FOLDER = "courriel", "clinique", "dossier"
DOCTOR, UNKNOWN = "lefevre@medecins.example", "inconnu@medecins.example"
RESTS = {State.ACCEPTED, State.DELIVERED, State.FAILED, State.HELD, State.SUPERSEDED}
MAX_DOUBT = 1

CONFIGURATION = {
    "dlx.yaml": """\
laboratory: {{name: Laboratoire TEST, finess: 999999999, timezone: Europe/Paris}}
pickup:
  - {{name: sil, directory: var/spool/dlx/in, ready_when: rename, correction_wait: 1s}}
defaults:
  formats: [hprim]
  retry: {{first: 1s, factor: 2, max: 5s, give_up: 1h}}
limits: {{workers: 1, batch: {batch}}}
alerts:
  mail_to: [operateurs@labo.example]
  smtp: {{host: localhost, port: {alerts}, sender: dlx@labo.example, tls: off}}
""",
    "channels.d/voies.yaml": """\
channels:
  courriel:
    type: smime-mail
    smtp: smtps://localhost:{relay}
    ca: etc/dlx/keys/root.pem
    sender: resultats@labo.example
    identity: key:laboratoire
    smime: sign+encrypt
    trust: etc/dlx/keys/root.pem
    certificates: etc/dlx/certificates
  clinique:
    type: sftp
    host: 127.0.0.1
    port: {sftp}
    user: dlx
    host_key: "{fingerprint}"
    identity: key:sftp
    directory: {clinic}
  dossier: {{type: folder, directory: var/spool/dlx/out}}
""",
    "profiles.d/medecins.yaml": """\
profiles:
  - id: dr-lefevre
    name: {{family: LEFEVRE-TEST, given: Anne}}
    lis_codes: LEFA
    deliver: [{{via: courriel, to: lefevre@medecins.example}}]
  - id: dr-girard
    name: {{family: GIRARD-TEST, given: Luc}}
    lis_codes: GIRL
    deliver: [{{via: clinique}}]
  - id: dr-morel
    name: {{family: MOREL-TEST, given: Paul}}
    lis_codes: MORP
    deliver: [{{via: dossier}}]
  - id: dr-refus
    name: {{family: REFUS-TEST, given: Yves}}
    lis_codes: REFY
    deliver: [{{via: courriel, to: inconnu@medecins.example}}]
""",
}


# --- what is dropped ----------------------------------------------------------------------------


def written(report: Report) -> bytes:
    """A report as the laboratory writes it: HL7 ORU."""
    oru = registry.formats()["oru"]
    assert oru.render is not None
    return oru.render(report, Person(), oru.options).content


def corrected(report: Report, code: str, seed: int) -> Report:
    """The same request, corrected a year later."""
    assert report.issued is not None
    later = Moment(f"{int(report.issued.digits[:4]) + 1}{report.issued.digits[4:]}")
    newer = report_for(code, seed=seed, results=3, number=report.number)
    return replace(newer, status=ReportStatus.CORRECTED, issued=later)


def flow(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """``count`` files, a third of the reports for each way out; a few of every awkward kind.

    Out of ten reports one goes to all three, one is refused by the relay, one is corrected (the
    correction is a file of its own); one file in twenty cannot be read.
    """
    files: list[tuple[str, bytes]] = []
    seed = first
    while len(files) < count:
        seed += 1
        name = f"f{seed:06d}"
        if seed % 20 == 19:
            files.append((f"{name}.bin", bytes(range(256)) + str(seed).encode()))
            continue
        code = "REFY" if seed % 10 == 4 else ("LEFA", "GIRL", "MORP")[seed % 3]
        copies = ("LEFA", "GIRL", "MORP") if seed % 10 == 1 else ()
        report = report_for(
            code, seed=seed, results=3, copies=tuple(c for c in copies if c != code)
        )
        files.append((f"{name}.hl7", written(report)))
        if seed % 10 == 6:
            files.append((f"{name}-c.hl7", written(corrected(report, code, seed))))
    return files[:count]


def wave(number: int) -> list[tuple[str, bytes]]:
    """Six files that reach every fail point: all ways out, a refusal, a rejected file."""
    seed = 1000 * (number + 1)
    files = [(f"w{number}-refus.hl7", written(report_for("REFY", seed=seed, results=3)))]
    for code in ("LEFA", "GIRL", "MORP"):
        copies = ("GIRL", "MORP") if code == "LEFA" else ()
        seed += 1
        report = report_for(code, seed=seed, results=3, copies=copies)
        files.append((f"w{number}-{code}.hl7", written(report)))
    files.append((f"w{number}.bin", bytes(range(256)) + str(seed).encode()))
    fixed = corrected(report_for("MORP", seed=seed, results=3), "MORP", seed)
    files.append((f"w{number}-MORP-corrige.hl7", written(fixed)))
    return files


# --- the world ----------------------------------------------------------------------------------


class Peers:
    """The far sides, made once for many stations; each keeps its truth before it answers."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.pki = TestPki(folder / "pki")
        self.laboratory = self.pki.person("resultats@labo.example")
        self.doctors: dict[str, Identity] = {
            address: self.pki.person(address) for address in (DOCTOR, UNKNOWN)
        }
        tls = server_context(self.pki.server())
        self.relay = SmtpPeer(folder / "relais", tls=tls, known=(DOCTOR,))
        self.alerts = SmtpPeer(folder / "alertes")
        self.clinic = SftpPeer(folder / "clinique")

    def __enter__(self) -> Self:
        self._stack.enter_context(self.relay)
        self._stack.enter_context(self.alerts)
        self._stack.callback(self.clinic.stop)
        self.clinic.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()


class Site:
    """One station on these peers, with what was dropped on it.

    Args:
        root: of the station.
        peers: shared; what they received before this station began is not counted.
        batch: files taken together.
    """

    def __init__(self, root: Path, peers: Peers, *, batch: int = 50) -> None:
        self.root = root
        self.peers = peers
        self.dropped: dict[str, bytes] = {}
        self.status: dict[str, Any] = {}
        self.clinic = f"c{secrets.token_hex(6)}"
        (peers.clinic.root / self.clinic).mkdir()
        self._mails, self._alerts = len(peers.relay.stored), len(peers.alerts.stored)
        self._renames = len(peers.clinic.renames)
        self.station = RunningStation(root)
        self.out = self.station.spool / "out"
        self.out.mkdir(parents=True)
        self._keys()
        told = {
            "batch": batch,
            "alerts": peers.alerts.port,
            "relay": peers.relay.port,
            "sftp": peers.clinic.port,
            "fingerprint": peers.clinic.fingerprint,
            "clinic": self.clinic,
        }
        self.station.configure({n: t.format(**told) for n, t in CONFIGURATION.items()})

    def _keys(self) -> None:
        keys, certificates = self.station.folder / "keys", self.station.folder / "certificates"
        certificates.mkdir()
        keys.chmod(0o700)
        (keys / "laboratoire.pem").write_bytes(self.peers.laboratory.pem.read_bytes())
        (keys / "laboratoire.pem").chmod(0o600)
        (keys / "root.pem").write_bytes(self.peers.pki.root_pem.read_bytes())
        self.peers.clinic.write_client_key(keys / "sftp")
        for address, identity in self.peers.doctors.items():
            pem = identity.certificate_pem.read_bytes()
            (certificates / f"{address}.pem").write_bytes(pem)

    def drop(self, *files: tuple[str, bytes]) -> None:
        """Drop files as a careful LIS does."""
        for name, content in files:
            self.dropped[name] = content
            self.station.drop(name, content)

    def armed(self, point: str) -> None:
        """From the next start on, die at this fail point ("" for never)."""
        self.station.environment = {"DLX_FAILPOINT": point} if point else {}

    def come_to_rest(self, seconds: float = 60.0) -> None:
        """Start without faults, wait until nothing moves and operators were told, stop."""
        self.armed("")
        self.station.start()
        self.station.wait_quiet(seconds)
        self.station.wait_for(self._all_told, 20)
        self.status = self.station.ask("status")
        assert self.station.stop() == 0, self.station.tail()

    def _all_told(self) -> bool:
        told = b"".join(mail.message for mail in self.alert_mails())
        return all(n["id"].encode() in told for n in self.station.notices(everything=True))

    # --- the truth ------------------------------------------------------------------------------

    def mails(self) -> list[Stored]:
        """What the relay took responsibility for, in order."""
        return self.peers.relay.stored[self._mails :]

    def alert_mails(self) -> list[Stored]:
        """What operators were told."""
        return self.peers.alerts.stored[self._alerts :]

    def renames(self) -> list[str]:
        """Final names at the clinic, one for each rename that was done there."""
        done = self.peers.clinic.renames[self._renames :]
        mine = [Path(new) for _, new in done if Path(new).parent.name == self.clinic]
        return [path.name for path in mine]

    def clinic_files(self) -> dict[str, bytes]:
        """Everything in our folder at the clinic."""
        folder = self.peers.clinic.root / self.clinic
        return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def folder_files(self) -> dict[str, bytes]:
        """Everything in the local folder."""
        return {path.name: path.read_bytes() for path in self.out.rglob("*") if path.is_file()}


# --- the verdict --------------------------------------------------------------------------------


@dataclass
class Verdict:
    """What was found.

    Attributes:
        broken: sentences that begin with the promise they break; empty when all is well.
        lost, duplicates, repeats: files lost; second copies where none may be; second copies by
            mail that the ledger announces as a doubt.
    """

    broken: list[str] = field(default_factory=list)
    lost: int = 0
    duplicates: int = 0
    repeats: int = 0
    doubts: int = 0
    counters_exact: bool = True
    states: Counter[str] = field(default_factory=Counter)

    def demand(self, truth: object, sentence: str) -> None:
        """``truth`` must hold, else ``sentence`` is one more broken promise."""
        if not truth:
            self.broken.append(sentence)


@dataclass(frozen=True, kw_only=True)
class _Book:
    """The ledger of a stopped station, read once."""

    intake: dict[str, list[Any]]
    deliveries: list[DeliveryView]
    notices: list[NoticeRow]
    counts: dict[tuple[str, str], int]
    received: dict[str, int]
    broken_at: int | None
    read: Callable[[str], bytes]


def verdict(site: Site) -> Verdict:
    """Hold a station that came to rest and was stopped against everything that really happened."""
    found = Verdict()
    database = site.root / "var" / "lib" / "dlx" / "db" / "dlx.sqlite3"
    ledger = Ledger.open(database, create=False)
    try:
        book = _book(ledger, site)
        _taken(found, site, book)
        _ended(found, book)
        _told(found, site, book)
        _figures(found, site, book)
        _at_folders(found, site, book)
        _by_mail(found, site, book)
    finally:
        ledger.close()
    return found


def _book(ledger: Ledger, site: Site) -> _Book:
    state = site.root / "var" / "lib" / "dlx"
    master = MasterKey.load(state / "keys" / "kek")
    archive = Archive(state / "archive")

    def content(digest: str) -> bytes:
        place = ledger.read(lambda tx: store.place_of(tx, digest))
        if place is None:
            raise LookupError(digest)
        key = ledger.read(lambda tx: store.data_key(tx, place.data_key))
        kept = Kept(
            sha256=digest,
            key=key.id,
            pack=place.pack,
            offset=place.offset,
            length=place.length,
        )
        return archive.read(kept, master.unwrap(key.id, key.wrapped))

    def rows(tx: Tx) -> dict[str, list[Any]]:
        intake: dict[str, list[Any]] = defaultdict(list)
        for row in tx.rows(text("SELECT sha256, state, claim_id FROM intake")):
            intake[row.sha256].append(row)
        return intake

    every = ledger.read(lambda tx: store.deliveries(tx, Selection(limit=1_000_000)))
    return _Book(
        intake=ledger.read(rows),
        deliveries=[
            ledger.read(lambda tx, id=row.delivery.id: store.delivery(tx, id))  # type: ignore[misc]
            for row in every
        ],
        notices=ledger.read(lambda tx: store.notices(tx, open_only=False, limit=1_000_000)),
        counts={(s.value, c): n for (s, c), n in ledger.read(store.counts).items()},
        received=dict(ledger.read(store.intake_counts)),
        broken_at=ledger.read(store.verify_chain),
        read=content,
    )


def _taken(found: Verdict, site: Site, book: _Book) -> None:
    """P1: every file is in the archive and the ledger, or in reject with its reason; once."""
    left = [p.name for p in site.station.inbox.iterdir()]
    claimed = [p.name for p in (site.station.spool / "claimed").iterdir()]
    found.demand(not left and not claimed, f"P1: left behind in={left} claimed={claimed}")
    reject = site.station.spool / "reject"
    refused: dict[str, list[Path]] = defaultdict(list)
    for path in reject.iterdir():
        if path.suffix != ".why":
            refused[sha256(path.read_bytes()).hexdigest()].append(path)
            found.demand(Path(f"{path}.why").exists(), f"P1: {path.name} has no .why")
    for name, content in site.dropped.items():
        digest = sha256(content).hexdigest()
        states = [row.state for row in book.intake.get(digest, ())]
        if states == ["rejected"] and len(refused[digest]) == 1:
            continue
        try:
            good = states == ["registered"] and not refused[digest]
            good = good and book.read(digest) == content
        except LookupError:
            good = False
        if not good:
            found.lost += not states and not refused[digest]
            found.broken.append(f"P1: {name}: ledger {states}, reject {len(refused[digest])}")
    unknown = set(book.intake) - {sha256(c).hexdigest() for c in site.dropped.values()}
    found.demand(not unknown, f"P1: {len(unknown)} files nobody dropped")
    torn = [p for room in (site.station.spool, site.root / "var/lib") for p in room.rglob(".tmp-*")]
    found.demand(not torn, f"P1: unfinished files stay behind: {[p.name for p in torn]}")


def _ended(found: Verdict, book: _Book) -> None:
    """P3, P4, P5 and P9 as far as the ledger itself can tell."""
    for view in book.deliveries:
        one = view.row.delivery
        results = [a.result for a in view.attempts]
        found.demand(one.state in RESTS, f"P3: {one.id} never comes to rest: {one.state}")
        found.demand(None not in results, f"P9: {one.id} has an attempt that never ended")
        found.demand(results.count(Result.ACCEPTED) <= 1, f"P4: {one.id} was accepted twice")
        done = one.state in (State.ACCEPTED, State.DELIVERED)
        last = results[-1] if results else None
        found.demand(not done or last is Result.ACCEPTED, f"P9: {one.id} {one.state} after {last}")
        doubts = results.count(Result.IN_DOUBT)
        found.demand(one.doubts == doubts, f"P5: {one.id} counts {one.doubts} doubts of {doubts}")
        if one.channel == MAIL:
            found.demand(doubts <= MAX_DOUBT + 1, f"P5: {one.id} was in doubt {doubts} times")
            held = doubts > MAX_DOUBT
            found.demand(held == (one.state is State.HELD), f"P5: {one.id}: {doubts}, {one.state}")
        state = ""
        for event in view.events:
            if event.new:
                found.demand(event.old == state, f"P9: {one.id}: {state} then from {event.old}")
                state = event.new
        found.demand(state == one.state.value, f"P9: {one.id}: journal ends with {state}")
        found.states[one.state.value] += 1
        found.doubts += doubts
    found.demand(book.broken_at is None, f"P9: the chain is broken at event {book.broken_at}")


def _told(found: Verdict, site: Site, book: _Book) -> None:
    """P3: one notice for each failure, doubt and rejection, no other; each told outside."""
    wanted = Counter[tuple[str, NoticeKind]]()
    for view in book.deliveries:
        one = view.row.delivery
        kind = {State.FAILED: NoticeKind.FAILED, State.HELD: NoticeKind.IN_DOUBT}.get(one.state)
        if kind is not None:
            wanted[f"delivery:{one.id}", kind] += 1
    made = Counter(
        (row.notice.subject, row.notice.kind)
        for row in book.notices
        if row.notice.kind in (NoticeKind.FAILED, NoticeKind.IN_DOUBT)
    )
    for subject, kind in wanted.keys() | made.keys():
        count = made[subject, kind]
        found.demand(count == 1, f"P3: {subject} has {count} notices {kind.value}, not one")
        found.demand((subject, kind) in wanted, f"P3: {subject}: a notice {kind.value} for nothing")
    rejected = sum(row.notice.kind is NoticeKind.REJECTED for row in book.notices)
    count = sum(row.state == "rejected" for rows in book.intake.values() for row in rows)
    found.demand(rejected == count, f"P3: {rejected} notices for {count} rejected files")
    mails = b"".join(mail.message for mail in site.alert_mails())
    untold = [r.notice.id for r in book.notices if (r.notice.id or "").encode() not in mails]
    found.demand(not untold, f"P3: {len(untold)} notices were never told: {untold}")


def _figures(found: Verdict, site: Site, book: _Book) -> None:
    """Every counter is what counting gives: in the ledger and in what ``dlx status`` says."""
    counted = Counter(
        (view.row.delivery.state.value, view.row.delivery.channel) for view in book.deliveries
    )
    files = Counter(row.state for rows in book.intake.values() for row in rows)
    totals = Counter(view.row.delivery.state.value for view in book.deliveries)
    shown = site.status["intake"]
    pairs = (
        ("deliveries", book.counts, dict(counted)),
        ("files", book.received, dict(files)),
        ("status", site.status["totals"], dict(totals)),
        ("received", shown["received"], files["registered"]),
        ("rejected", shown["rejected"], files["rejected"]),
    )
    for name, told, real in pairs:
        found.counters_exact &= told == real
        found.demand(told == real, f"counters: {name}: {told} are really {real}")


def _at_folders(found: Verdict, site: Site, book: _Book) -> None:
    """P6: in the folder and at the clinic one whole file for each delivery, renamed once."""
    renames = Counter(site.renames())
    for channel, files in ((FOLDER, site.folder_files()), (CLINIC, site.clinic_files())):
        expected: dict[str, str] = {}
        for view in book.deliveries:
            one = view.row.delivery
            if one.channel != channel:
                continue
            found.demand(
                one.state in (State.DELIVERED, State.SUPERSEDED), f"P6: {one.id} is {one.state}"
            )
            if one.state is State.DELIVERED:
                for rendition in view.renditions:
                    expected[f"{one.id}{rendition.suffix}"] = rendition.sha256
        there = {name: sha256(content).hexdigest() for name, content in files.items()}
        lost, more = expected.keys() - there.keys(), there.keys() - expected.keys()
        found.lost += len(lost)
        found.duplicates += len(more)
        found.demand(not lost, f"P6: {channel}: delivered but not there: {sorted(lost)}")
        found.demand(not more, f"P6: {channel}: there but not delivered: {sorted(more)}")
        altered = [name for name in expected.keys() & there if expected[name] != there[name]]
        found.demand(not altered, f"P6: {channel}: other bytes: {altered}")
    twice = [name for name, count in renames.items() if count > 1]
    found.duplicates += len(twice)
    found.demand(not twice, f"P6: {CLINIC}: put in place more than once: {twice}")


def _by_mail(found: Verdict, site: Site, book: _Book) -> None:
    """P4, P5, P6, P7 by mail: repeats only where the ledger says so, and then the same mail."""
    sent: dict[str, list[Stored]] = defaultdict(list)
    for mail in site.mails():
        sent[_delivery_of(mail)].append(mail)
    known = {v.row.delivery.id: v for v in book.deliveries if v.row.delivery.channel == MAIL}
    found.demand(not sent.keys() - known.keys(), "P4: mails that no delivery explains")
    for id, view in known.items():
        one, copies = view.row.delivery, sent.get(id, [])
        results = Counter(a.result for a in view.attempts)
        announced = results[Result.ACCEPTED] + results[Result.IN_DOUBT]
        found.repeats += max(len(copies) - 1, 0)
        if len(copies) > announced:
            found.duplicates += len(copies) - announced
            found.broken.append(f"P4: {id} left {len(copies)} times, the ledger says {announced}")
        if one.state is State.ACCEPTED and not copies:
            found.lost += 1
            found.broken.append(f"P4: {id} is accepted but never arrived")
        found.demand(one.state is not State.FAILED or not copies, f"P4: {id} failed, yet arrived")
        if copies:
            _same_mail(found, site, view, copies)
    order: dict[tuple[str, str], list[int]] = defaultdict(list)
    for mail in site.mails():
        view = known[_delivery_of(mail)]
        order[view.row.number, view.row.delivery.recipient].append(view.row.delivery.version)
    for key, versions in order.items():
        found.demand(versions == sorted(versions), f"P7: {key[1]} got versions {versions}")


def _same_mail(found: Verdict, site: Site, view: DeliveryView, copies: Sequence[Stored]) -> None:
    headers = [message_from_bytes(mail.message) for mail in copies]
    for name in ("Message-ID", "Date"):
        values = {header[name] for header in headers}
        found.demand(len(values) == 1, f"P6: {view.row.delivery.id}: {name} differs: {values}")
    if len(copies) == 1 and not view.row.delivery.doubts:
        return  # opening each of thousands takes too long; the demo opens them all
    wanted = [rendition.sha256 for rendition in view.renditions]
    for mail in copies:
        opened = open_mail(mail.message, site.peers.doctors[DOCTOR], site.peers.pki.root_pem)
        carried = [sha256(content).hexdigest() for _, _, content in opened.attachments]
        found.demand(carried == wanted, f"P6: {view.row.delivery.id}: a repeat with other bytes")


def _delivery_of(mail: Stored) -> str:
    message = message_from_bytes(mail.message)
    match = re.search(r"D[0-9A-Z]{9}", message["Message-ID"].upper())
    return match.group() if match else message["Message-ID"]


def reasons(site: Site) -> Iterator[str]:
    """Codes of the rejected files."""
    for why in site.station.rejected():
        yield json.loads(why.read_bytes())["code"]


__all__ = ["Peers", "Site", "Verdict", "flow", "spool", "verdict", "wave"]
