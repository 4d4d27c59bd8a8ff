"""Security §4.4: a report whose every field is a marker leaves no marker where none may be.

It goes through a folder, a clinic and sealed mail, is refused, conflicts, fails, kills a worker and
survives a power cut; then everything a stranger could see is searched. The search itself is proven
by a planted leak.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest
from conftest import House, good, oru, profile

from dlx.report import (
    Attachment,
    Code,
    Comment,
    Identifier,
    Observation,
    Patient,
    Quantity,
    Report,
    ResultStatus,
    Text,
)
from dlx.testing.reports import patient_for

MARKS = {
    "birth_name": "NAISSANCEKWX-TEST",
    "used_name": "USAGEKWX-TEST",
    "given_names": "PRENOMKWX",
    "address": "RUEKWX",
    "city": "VILLEKWX",
    "phone": "0699887766",
    "ipp": "IPPKWX7788",
    "ins": "299029912345678",
    "label": "ANALYSEKWX",
    "text": "RESULTATKWX",
    "number": "73519.8264",
    "comment": "REMARQUEKWX",
    "patient_comment": "CLINIQUEKWX",
    "unit": "UNITEKWX",
    "attachment": "PIECEKWX",
    "specimen": "PRELEVKWX",
}


def canary(code: str, number: str) -> Report:
    """The good report with a marker in every field that is about the patient."""
    m = MARKS
    patient = replace(
        patient_for(77),
        identifiers=(
            Identifier(value=m["ipp"], type="PI", authority="LABO-TEST"),
            Identifier(
                value=m["ins"],
                type="INS",
                authority="ASIP-SANTE-INS-NIR",
                oid="1.2.250.1.213.1.4.10",
            ),
        ),
        birth_name=m["birth_name"],
        used_name=m["used_name"],
        given_names=m["given_names"],
        first_given=m["given_names"],
        address=(m["address"],),
        city=m["city"],
        phones=(m["phone"],),
    )
    assert isinstance(patient, Patient)
    plain = good(77, code, number=number)
    line = Observation(
        codes=(Code(code="KWX", text=m["label"], system="L"),),
        label=m["label"],
        unit=m["unit"],
        values=(Quantity(number=m["number"]),),
        value_type="NM",
        status=ResultStatus.FINAL,
        comments=(Comment(text=m["comment"], source="L"),),
    )
    words = replace(line, values=(Text(text=m["text"]),), value_type="ST", unit="")
    battery = replace(plain.batteries[0], specimen=m["specimen"], observations=(line, words))
    document = Attachment(
        media_type="application/pdf", content=b"%PDF-1.4 PIECEKWX", title=m["attachment"]
    )
    return replace(
        plain,
        patient=patient,
        batteries=(battery,),
        patient_comments=(Comment(text=m["patient_comment"]),),
        attachments=(document,),
    )


def leaks(places: dict[str, bytes]) -> set[tuple[str, str]]:
    """(place, marker) of everything found."""
    return {
        (place, mark)
        for place, seen in places.items()
        for mark, text in MARKS.items()
        if text.encode() in seen.upper()
    }


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    house.with_relay(known=("dr@medecins.example",))
    house.with_clinic()
    house.with_alerts()
    address, lost = house.certify("dr"), house.certify("perdu")
    house.configure(
        station=house.station_yaml(more="limits: {workers: 1, job_seconds: 1s}\n"),
        channels=house.folder_channel() + house.mail_channel() + house.clinic_channel(),
        profiles=profile("dr-bon", "BONA", "cabinet", formats="hprim, oru, pdf, text")
        + profile("dr-mail", "MAIL", "courriel", to=address, formats="hprim, oru, pdf, text")
        + profile("dr-perdu", "PERD", "courriel", to=lost)
        + profile("clinique-a", "CLIN", "clinique", formats="oru, pdf"),
    )
    return house.start()


def through_everything(house: House) -> bytes:
    """Every way a report may go; returns the command lines of the processes meanwhile."""
    for n, code in enumerate(("BONA", "MAIL", "PERD", "CLIN", "ZZZZ")):
        house.drop(f"kwx-{n}.hl7", canary(code, f"KWX-{n}"))
    whole = oru(canary("BONA", "KWX-9"))
    house.drop("coupe.hl7", whole[: len(whole) * 2 // 3])
    house.drop("jeu.hl7", whole.replace(b"\r", b"\r\xff\xfe", 3))
    house.drop("deux.hl7", whole + oru(good(78, number="KWX-8")))
    house.drop("conflit.hl7", oru(canary("BONA", "KWX-0")).replace(b"73519.8264", b"73519.9"))
    house.drop("autre.hl7", oru(good(79, number="KWX-0")))
    words = running(house)
    house.rest(30)
    for pid in children(house):
        os.kill(pid, signal.SIGSTOP)
    house.drop("tue.hl7", canary("BONA", "KWX-7"))
    house.refusal("tue.hl7")
    house.drop("tard.hl7", canary("BONA", "KWX-6"))
    house.station.kill()
    house.start()
    house.rest(30)
    return words + running(house)


def children(house: House) -> Iterator[int]:
    """Every process below the station."""
    assert house.station.process is not None
    left = [house.station.process.pid]
    while left:
        pid = left.pop()
        try:
            below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except FileNotFoundError:
            continue
        left += map(int, below)
        yield from map(int, below)


def running(house: House) -> bytes:
    assert house.station.process is not None
    words = b""
    for pid in (house.station.process.pid, *children(house)):
        for name in ("cmdline", "environ"):
            try:
                words += Path(f"/proc/{pid}/{name}").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
    return words


def visible(house: House) -> dict[str, bytes]:
    """Everything somebody without keys, or beside the console, may see."""
    assert house.relay is not None and house.alerts is not None and house.clinic is not None
    seen: dict[str, bytes] = {"log": house.station.log.encode()}
    for words in (
        ("status",),
        ("queue", "list", "--all"),
        ("notices", "list", "--all"),
        ("reject", "list"),
        *(("explain", f"KWX-{n}") for n in range(5)),
        *(("queue", "show", d["id"]) for d in house.station.deliveries()),
        *(("reject", "show", r["claim"]) for r in house.refusals()),
    ):
        for form in ((), ("--json",)) if words[0] in ("queue", "notices", "explain") else ((),):
            ran = house.dlx(*form, *words)
            seen[f"dlx {' '.join((*form, *words))}"] = (ran.out + ran.err).encode()
    for n, mail in enumerate(house.relay.stored):
        outer = message_from_bytes(mail.message)
        seen[f"outer headers {n}"] = repr(outer.items()).encode() + repr(mail.rcpt).encode()
        seen[f"mail {n} in transit"] = mail.message
    seen["smtp dialogue"] = "\n".join(house.relay.commands).encode()
    seen["alerts"] = b"\n".join(m.message for m in house.alerts.stored).replace(b"=\r\n", b"")
    seen["sftp names"] = house.clinic.visible_text().encode()
    out = [p for p in house.root.rglob("*") if house.station.folder not in p.parents]
    seen["file names"] = "\n".join(str(p.relative_to(house.root)) for p in out).encode()
    for why in house.station.rejected():
        seen[f"why {why.name}"] = why.read_bytes()
    state = house.root / "var" / "lib" / "dlx"
    for path in state.rglob("*"):
        if path.is_file():
            seen[f"state {path.relative_to(state)}"] = path.read_bytes()
    return seen


def test_no_marker_is_seen_anywhere_and_a_planted_one_is(house: House) -> None:
    commands = through_everything(house)
    assert {d["recipient"] for d in house.station.deliveries()} >= {"dr-bon", "dr-mail", "dr-perdu"}
    assert len(house.refusals()) >= 4
    seen = {**visible(house), "processes": commands}
    assert any(place.endswith(".pack") for place in seen)
    assert any("-wal" in place or "dlx.db" in place or "sqlite" in place for place in seen), [
        place for place in seen if place.startswith("state")
    ]
    assert leaks(seen) == set()
    # The markers did travel: whoever may read them, does.
    delivered = b"".join(p.read_bytes() for p in house.out().iterdir() if p.suffix == ".hl7")
    travelled = {mark for _, mark in leaks({"delivered": delivered})}
    assert travelled >= {"birth_name", "ipp", "ins", "number", "text", "comment", "label", "city"}
    # And the search finds what is there: one leak planted in a real log line, and in the database.
    planted = {**seen, "log": seen["log"] + b'error cause="patient UsageKWX-Test"\n'}
    assert leaks(planted) == {("log", "used_name")}
