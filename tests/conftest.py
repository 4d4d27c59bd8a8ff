"""Fixtures: a real station in a process of its own, with scripted far sides on loopback.

``build`` makes a House from a configuration; everything it starts is ended with the module.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dlx import registry
from dlx.report import Person, Report
from dlx.testing.peers.sftp import SftpPeer
from dlx.testing.peers.smtp import SmtpPeer, server_context
from dlx.testing.pki import TestPki
from dlx.testing.reports import report_for
from dlx.testing.station import MOVING, RunningStation

Json = dict[str, Any]
SHARED = Path(__file__).parents[1].parent / "shared"
DOMAIN = "medecins.example"
QUICK = "{first: 1s, factor: 1.5, max: 2s, give_up: 1h}"


def oru(report: Report) -> bytes:
    """The report as the laboratory's system would write it (HL7 v2 ORU)."""
    written = registry.formats()["oru"]
    assert written.render is not None
    return written.render(report, Person(), written.options).content


def profile(
    id: str, code: str, via: str, *, to: str = "", formats: str = "hprim", more: str = ""
) -> str:
    """One item of ``profiles``; ``more``: further lines, indented by four."""
    address = f", to: {to}" if to else ""
    kind = "" if "kind:" in more else f"    name: {{family: {id.upper()}-TEST}}\n"
    return (
        f"  - id: {id}\n{kind}    lis_codes: [{code}]\n"
        f"    deliver:\n      - {{via: {via}{address}, formats: [{formats}]}}\n{more}"
    )


class House:
    """A station below ``root`` and the far sides it was given."""

    def __init__(self, root: Path, pki: TestPki, stack: ExitStack) -> None:
        self.root, self.pki, self._stack = root, pki, stack
        self.station = RunningStation(root)
        self.relay: SmtpPeer | None = None
        self.alerts: SmtpPeer | None = None
        self.clinic: SftpPeer | None = None

    # --- configuration -------------------------------------------------------------------------

    def with_relay(self, **arguments: Any) -> SmtpPeer:
        """An SMTP server behind a ``smime-mail`` channel; see ``mail_channel``."""
        tls = server_context(self.pki.server())
        self.relay = SmtpPeer(self.root / "relais", tls=tls, **arguments)
        self._stack.enter_context(self.relay)
        return self.relay

    def with_alerts(self) -> SmtpPeer:
        """The mailbox of the operators."""
        self.alerts = self._stack.enter_context(SmtpPeer(self.root / "alertes"))
        return self.alerts

    def with_clinic(self) -> SftpPeer:
        """An SFTP server; see ``clinic_channel``."""
        self.clinic = SftpPeer(self.root / "clinique").start()
        self._stack.callback(self.clinic.stop)
        self.clinic.write_client_key(self.station.folder / "keys" / "sftp")
        return self.clinic

    def station_yaml(self, *, retry: str = QUICK, pickup: str = "", more: str = "") -> str:
        """``dlx.yaml``; ``pickup``: further lines of its only pickup, indented by four."""
        text = (
            "laboratory: {name: Laboratoire TEST, finess: 999999999, timezone: Europe/Paris}\n"
            "pickup:\n  - name: sil\n    directory: var/spool/dlx/in\n"
            + (pickup or "    ready_when: rename\n    correction_wait: 1s\n")
            + f"defaults: {{retry: {retry}}}\n"
            + more
        )
        if self.alerts is not None:
            text += (
                "alerts:\n  mail_to: [operateurs@labo.example]\n"
                f"  smtp: {{host: localhost, port: {self.alerts.port},"
                " sender: dlx@labo.example, tls: off}\n"
            )
        return text

    def folder_channel(self, name: str = "cabinet", *, more: str = "") -> str:
        """A ``folder`` channel, its folder made."""
        self.out(name).mkdir(parents=True, exist_ok=True)
        return (
            f"  {name}:\n    type: folder\n    directory: var/spool/dlx/out/{name}\n"
            f'    filename: "{{report.ref}}_v{{version}}_{{delivery}}{{suffix}}"\n{more}'
        )

    def mail_channel(self, name: str = "courriel", *, port: int = 0, more: str = "") -> str:
        """A ``smime-mail`` channel to the relay, its keys written."""
        keys, certificates = self.station.folder / "keys", self.station.folder / "certificates"
        certificates.mkdir(parents=True, exist_ok=True)
        keys.chmod(0o700)
        if not (keys / "labo.pem").exists():
            laboratory = self.pki.person("resultats@labo.example", curve=True)
            (keys / "labo.pem").write_bytes(laboratory.pem.read_bytes())
            (keys / "labo.pem").chmod(0o600)
        (keys / "root.pem").write_bytes(self.pki.root_pem.read_bytes())
        port = port or (self.relay.port if self.relay else 1)
        return (
            f"  {name}:\n    type: smime-mail\n    smtp: smtps://localhost:{port}\n"
            "    ca: etc/dlx/keys/root.pem\n    sender: resultats@labo.example\n"
            "    identity: key:labo\n    smime: sign+encrypt\n    trust: etc/dlx/keys/root.pem\n"
            f"    certificates: etc/dlx/certificates\n{more}"
        )

    def certify(self, name: str, **arguments: Any) -> str:
        """A doctor's certificate in the folder of the mail channel; the address."""
        address = f"{name}@{DOMAIN}"
        identity = self.pki.person(address, curve=True, **arguments)
        folder = self.station.folder / "certificates"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{address}.pem").write_bytes(identity.certificate_pem.read_bytes())
        return address

    def clinic_channel(self, name: str = "clinique", *, more: str = "") -> str:
        """An ``sftp`` channel to the clinic."""
        assert self.clinic is not None
        return (
            f"  {name}:\n    type: sftp\n    host: 127.0.0.1\n    port: {self.clinic.port}\n"
            f'    user: dlx\n    host_key: "{self.clinic.fingerprint}"\n    identity: key:sftp\n'
            f"    directory: clinique-a\n"
            f'    filename: "{{report.ref}}_v{{version}}_{{delivery}}{{suffix}}"\n{more}'
        )

    def configure(
        self, *, station: str = "", channels: str, profiles: str, policies: str = ""
    ) -> None:
        """Write the files; ``channels`` and ``profiles``: items without their key."""
        files = {
            "dlx.yaml": station or self.station_yaml(),
            "channels.d/all.yaml": f"channels:\n{channels}",
            "profiles.d/all.yaml": f"profiles:\n{profiles}",
        }
        if policies:
            files["policies.yaml"] = f"policies:\n{policies}"
        self.station.configure(files)

    def start(self, **arguments: Any) -> House:
        """Start the station; it is killed with the module when a test has not stopped it."""
        self.station.start(**arguments)
        self._stack.callback(self.station.kill)
        return self

    # --- use -----------------------------------------------------------------------------------

    def out(self, channel: str = "cabinet") -> Path:
        """Where a folder channel delivers."""
        return self.station.spool / "out" / channel

    def drop(self, name: str, what: Report | bytes) -> None:
        """One careful drop of a report (as ORU) or of bytes."""
        self.station.drop(name, oru(what) if isinstance(what, Report) else what)

    def take(self, files: Mapping[str, Report | bytes], seconds: float = 12.0) -> None:
        """Drop files and wait until nothing moves any more."""
        for name, what in files.items():
            self.drop(name, what)
        self.rest(seconds)

    def take_one(self, number: str, what: Report, seconds: float = 12.0) -> None:
        """Drop one report and wait until it is delivered to everybody."""
        self.drop(f"{number}.hl7", what)
        self.wait(lambda: {d["state"] for d in self.of(number)} == {"delivered"}, seconds)

    def rest(self, seconds: float = 12.0) -> None:
        """Wait until nothing moves: a file goes from ``in/`` to ``claimed/`` to the ledger, and is
        looked for in that order, so that it cannot slip through between two looks.
        """
        self.wait(self._at_rest, seconds)

    def wait(self, condition: Callable[[], object], seconds: float = 12.0) -> None:
        """Until ``condition()`` is true; fails at once when the station is gone."""

        def met() -> object:
            process = self.station.process
            assert process is not None and process.poll() is None, self.station.tail()
            return condition()

        self.station.wait_for(met, seconds)

    def _at_rest(self) -> bool:
        left = [p for p in os.listdir(self.station.inbox) if not p.endswith(".tmp")]
        if left or os.listdir(self.station.spool / "claimed"):
            return False
        totals = self.station.ask("status")["totals"]
        return not any(totals.get(state, 0) for state in MOVING)

    def of(self, number: str, **wanted: Any) -> list[Json]:
        """Deliveries of a report by its number, oldest first, with members as wanted."""
        return [
            d
            for d in sorted(self.station.deliveries(), key=lambda d: (d["created_at"], d["id"]))
            if d["number"] == number and all(d[k] == v for k, v in wanted.items())
        ]

    def states(self, number: str) -> dict[tuple[str, int], str]:
        """(recipient, version) → state."""
        return {(d["recipient"], d["version"]): d["state"] for d in self.of(number)}

    def notices(self, kind: str = "", *, everything: bool = False) -> list[Json]:
        """Notices of a kind, open ones unless ``everything``."""
        rows = self.station.notices(everything=everything)
        return [n for n in rows if kind in ("", n["kind"])]

    def refusals(self) -> list[Json]:
        """What every ``.why`` says, with the bytes beside it under ``path``."""
        return [
            {**json.loads(path.read_text()), "path": path.with_suffix("")}
            for path in self.station.rejected()
            if not path.name.startswith(".") and os.path.lexists(path.with_suffix(""))
        ]

    def refusal(self, name: str) -> Json:
        """The only ``.why`` of a file dropped under ``name``; waits for it."""

        def found() -> list[Json]:
            return [r for r in self.refusals() if r["original_name"] == name]

        self.wait(found)
        (one,) = found()
        return one

    def dlx(self, *words: str, input: str = "", timeout: float = 60.0) -> Ran:
        """Run the command line on this root, as an operator would."""
        return run_dlx("--root", str(self.root), *words, input=input, timeout=timeout)


class Ran:
    """What a command did."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def record(self) -> Any:
        """The one JSON object printed."""
        return json.loads(self.out)

    @property
    def records(self) -> list[Any]:
        """One JSON object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    def __repr__(self) -> str:
        return f"<exit {self.code}>\n{self.out}\n{self.err}"


def run_dlx(*words: str, input: str = "", timeout: float = 60.0) -> Ran:
    """``dlx`` in a process of its own."""
    return Ran(
        subprocess.run(
            [sys.executable, "-m", "dlx", *words],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
    )


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> TestPki:
    """One authority for the whole run."""
    return TestPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, pki: TestPki) -> Iterator[Callable[[], House]]:
    """Make a House that is not configured nor started yet."""
    with ExitStack() as stack:
        yield lambda: House(tmp_path_factory.mktemp("station"), pki, stack)


@pytest.fixture(scope="module")
def plain(build: Callable[[], House]) -> House:
    """A running station with one folder channel, ``dr-bon`` (BONA) and ``dr-autre`` (AUTR)."""
    house = build()
    house.configure(
        channels=house.folder_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet") + profile("dr-autre", "AUTR", "cabinet"),
    )
    return house.start()


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The shared samples."""
    folder = SHARED / "corpus"
    if not folder.is_dir():
        pytest.skip("the shared corpus is not beside the repository")
    return folder


def good(seed: int, code: str = "BONA", **arguments: Any) -> Report:
    """A short final report for the good doctor."""
    return report_for(code, seed=seed, results=arguments.pop("results", 5), **arguments)
