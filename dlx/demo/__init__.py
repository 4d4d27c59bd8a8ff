"""``dlx demo``: a whole station on loopback, with invented reports and scripted far sides.

Nothing here is simulated but the people: the station is the real one in its own process, the mail
goes over TLS to an SMTP server, the clinic's files over SSH, and every mail is opened with the
recipient's key as its software would.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlx import registry
from dlx.demo.configuration import DOMAIN, Ports, files
from dlx.demo.judging import Evidence, Expectation, judged
from dlx.demo.scenes import Drop, drops
from dlx.testing.peers.sftp import SftpPeer
from dlx.testing.peers.smtp import SmtpPeer, server_context
from dlx.testing.pki import Identity, TestPki
from dlx.testing.station import RunningStation

DEADLINE_SECONDS = 100.0
DOCTORS = ("lefevre", "girard")

Say = Callable[[str], None]
Json = dict[str, Any]


@dataclass(kw_only=True)
class World:
    """The peers, the station and what the doctors hold."""

    station: RunningStation
    relay: SmtpPeer
    alerts: SmtpPeer
    clinic: SftpPeer
    pki: TestPki
    doctors: dict[str, Identity] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        """Everything is below."""
        return self.station.root


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the demo observed; ``json`` is what ``dlx demo --json`` prints."""

    expectations: tuple[Expectation, ...]
    deliveries: list[Json]
    notices: list[Json]
    received: dict[str, str]
    rejected: list[str]

    @property
    def complete(self) -> bool:
        """True when everything that was expected was seen."""
        return all(e.observed for e in self.expectations)

    def json(self) -> Json:
        """One object."""
        return {
            "expectations": [
                {"name": e.name, "observed": e.observed, "detail": e.detail}
                for e in self.expectations
            ],
            "deliveries": [
                {
                    "report": d["number"],
                    "version": d["version"],
                    "recipient": d["recipient"],
                    "channel": d["channel"],
                    "state": d["state"],
                }
                for d in self.deliveries
            ],
            "notices": [{"cause": n["cause"], "command": n["command"]} for n in self.notices],
            "received": self.received,
            "rejected": self.rejected,
        }


def play(root: Path, say: Say) -> Outcome:
    """Run the whole demo below ``root`` (made, must be empty); ``say`` gets progress lines."""
    with ExitStack() as stack:
        say("certificats de test et correspondants sur la boucle locale…")
        world = _world(root, stack)
        say("démarrage de la station…")
        with world.station:
            dropped = drops(registry.formats())
            _drop(world, dropped, say)
            status = world.station.ask("status")
            deliveries = world.station.ask("queue.list", every_state=True, states=[], limit=10_000)
            notices = world.station.ask("notices.list", all=False)
            chain = world.station.ask("audit.verify")
        say("ouverture de ce que chacun a reçu…")
        received = _open_mail(world)
        evidence = Evidence(
            root=root,
            drops=dropped,
            deliveries=deliveries,
            notices=notices,
            status=status,
            chain=chain,
            received=received,
            relay=world.relay.stored,
            alerts=world.alerts.stored,
            log=world.station.log,
        )
        return Outcome(
            expectations=tuple(judged(evidence)),
            deliveries=sorted(deliveries, key=lambda d: (d["number"], d["version"])),
            notices=notices,
            received={name: str(folder) for name, folder in sorted(received.items())},
            rejected=sorted(p.name for p in evidence.rejected()),
        )


def _world(root: Path, stack: ExitStack) -> World:
    folder = root / "etc" / "dlx"
    keys, certificates = folder / "keys", folder / "certificates"
    station = RunningStation(root)
    certificates.mkdir(parents=True)
    for name in ("cabinet", "papier"):
        (root / "var" / "spool" / "dlx" / "out" / name).mkdir(parents=True, exist_ok=True)
    keys.chmod(0o700)
    pki = TestPki(root / "pki")
    laboratory = pki.person("resultats@labo.example")
    (keys / "laboratoire.pem").write_bytes(laboratory.pem.read_bytes())
    (keys / "laboratoire.pem").chmod(0o600)
    (keys / "root.pem").write_bytes(pki.root_pem.read_bytes())
    tls = server_context(pki.server())
    known = tuple(f"{name}@{DOMAIN}" for name in DOCTORS)
    relay = stack.enter_context(SmtpPeer(root / "relais", tls=tls, known=known))
    alerts = stack.enter_context(SmtpPeer(root / "alertes"))
    clinic = SftpPeer(root / "clinique").start()
    stack.callback(clinic.stop)
    clinic.write_client_key(keys / "sftp-tilleuls")
    world = World(station=station, relay=relay, alerts=alerts, clinic=clinic, pki=pki)
    for name in (*DOCTORS, "inconnu", "disparu"):
        identity = pki.person(f"{name}@{DOMAIN}")
        world.doctors[name] = identity
        (certificates / f"{name}@{DOMAIN}.pem").write_bytes(identity.certificate_pem.read_bytes())
    ports = Ports(
        relay=relay.port, alerts=alerts.port, sftp=clinic.port, fingerprint=clinic.fingerprint
    )
    station.configure(files(ports))
    return world


def _drop(world: World, dropped: list[Drop], say: Say) -> None:
    for step in sorted({file.step for file in dropped}):
        chosen = [file for file in dropped if file.step == step]
        say(f"dépôt de {len(chosen)} fichiers (étape {step})…")
        for file in chosen:
            world.station.drop(file.name, file.content)
        _await_quiet(world, sum(f.step <= step for f in dropped), say)


def _await_quiet(world: World, dropped: int, say: Say) -> None:
    """Until every file is taken or refused and nothing is on its way any more."""
    end = time.monotonic() + DEADLINE_SECONDS / 2
    shown = 0.0
    while time.monotonic() < end:
        status = world.station.ask("status")
        totals, intake = status["totals"], status["intake"]
        busy = sum(totals.get(s, 0) for s in ("waiting", "claimed", "sending", "in_doubt"))
        left = len(list(world.station.inbox.iterdir()))
        claimed = len(list((world.station.spool / "claimed").iterdir()))
        if time.monotonic() - shown > 1:
            shown = time.monotonic()
            say(
                f"  {intake['received']} pris, {intake['rejected']} refusés,"
                f" {busy} envois en cours, {totals.get('accepted', 0) + totals.get('delivered', 0)}"
                " partis"
            )
        if left == claimed == busy == 0:
            time.sleep(1.5)  # alerts are grouped for a second before they are mailed
            return
        time.sleep(0.1)
    say(f"  délai dépassé pour {dropped} fichiers ; on juge ce qui est là")


def _open_mail(world: World) -> dict[str, Path]:
    """Decrypt each doctor's mail into a folder; name where every recipient's files are."""
    received = {
        "dr-morel": world.root / "var" / "spool" / "dlx" / "out" / "cabinet",
        "dr-plein": world.root / "var" / "spool" / "dlx" / "out" / "papier",
        "clinique-tilleuls": world.clinic.root / "clinique-a",
    }
    now = datetime.now(UTC)
    for name in DOCTORS:
        folder = world.root / "recus" / f"dr-{name}"
        folder.mkdir(parents=True, exist_ok=True)
        received[f"dr-{name}"] = folder
        mails = [m for m in world.relay.stored if f"<{name}@{DOMAIN}>" in m.rcpt[0]]
        for mail in mails:
            identity = world.doctors[name].pem
            opened = registry.open_mail(mail.message, identity, world.pki.root_pem, now)
            for file, _, content in opened.attachments:
                (folder / Path(file).name).write_bytes(content)
    return received
