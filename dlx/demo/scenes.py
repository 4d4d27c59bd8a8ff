"""What the demo drops: invented reports, as a laboratory system would write them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dlx.contracts import Format
from dlx.moment import Moment
from dlx.report import Person, Quantity, Report, ReportStatus
from dlx.testing.reports import microbiology, patient_for, report_for

LABORATORY = "LABO-TEST"


@dataclass(frozen=True, kw_only=True)
class Drop:
    """One file: its name, bytes, what it shows, and after which others it is dropped."""

    name: str
    content: bytes
    shows: str
    step: int = 1


def drops(formats: dict[str, Format]) -> list[Drop]:
    """Every file of the demo, in order of dropping."""
    oru = _oru_writer(formats["oru"])
    made: list[Drop] = []

    def add(name: str, content: bytes, shows: str, step: int = 1) -> None:
        made.append(Drop(name=name, content=content, shows=shows, step=step))

    for seed in range(1, 7):
        code = ("LEFA", "MORP", "GIRL")[seed % 3]
        add(f"oru-{seed:02d}.hl7", oru(report_for(code, seed=seed)), "HL7 ORU final")
    partial = report_for("LEFA", seed=20, number="26-PART-1", status=ReportStatus.PARTIAL)
    held = report_for("GIRL", seed=21, number="26-PART-2", status=ReportStatus.PARTIAL)
    add("oru-partiel.hl7", oru(partial), "HL7 ORU partiel, envoyé")
    add("oru-partiel-retenu.hl7", oru(held), "HL7 ORU partiel, retenu par la fiche")
    add("oru-complet.hl7", oru(_later(held, ReportStatus.FINAL)), "la suite, complète", 2)
    first = report_for("LEFA", seed=22, number="26-CORR-1")
    add("oru-avant-correction.hl7", oru(first), "HL7 ORU final, qui sera corrigé")
    add("oru-correction.hl7", oru(_corrected(first)), "HL7 ORU corrigé", 2)
    add("oru-anormal.hl7", oru(_critical(report_for("MORP", seed=23))), "valeur critique")
    add("oru-microbio.hl7", oru(microbiology("LEFA", seed=24)), "germes et antibiogrammes")
    copied = report_for("LEFA", seed=25, copies=("MORP",))
    add("oru-copie.hl7", oru(copied), "copie à un confrère")
    add("oru-refus.hl7", oru(report_for("REFY", seed=26)), "destinataire refusé par le serveur")
    add("oru-repli.hl7", oru(report_for("PLEZ", seed=27)), "destinataire refusé, repli prévu")
    add("oru-inconnu.hl7", oru(report_for("ZZZZ", seed=28)), "prescripteur inconnu")
    add("doublon.hl7", oru(report_for("MORP", seed=1)), "le même fichier une seconde fois", 2)
    stolen = report_for("LEFA", seed=29, number=copied.number)
    add("meme-numero.hl7", oru(stolen), "même numéro, autre patient", 2)
    whole = oru(report_for("LEFA", seed=30))
    add("tronque.hl7", whole[: len(whole) * 2 // 3], "fichier coupé")
    add("illisible.bin", bytes(range(256)) * 40, "octets quelconques")
    for seed in range(40, 44):
        add(f"SANT{seed:04d}.HPR", hprim_sante(report_for("LEFA", seed=seed)), "HPRIM Santé final")
    sante = report_for("MORP", seed=45, status=ReportStatus.PARTIAL)
    add("SANT0045.HPR", hprim_sante(sante), "HPRIM Santé partiel")
    return made


def _oru_writer(oru: Format) -> Callable[[Report], bytes]:
    write = oru.render
    if write is None:
        raise RuntimeError("oru writes")
    return lambda report: write(report, Person(), oru.options).content


def _later(report: Report, status: ReportStatus) -> Report:
    """The same request, complete, issued one hour later."""
    final = report_for("GIRL", seed=21, number=report.number, status=status)
    return replace(final, issued=_hour_after(report.issued))


def _hour_after(moment: Moment | None) -> Moment | None:
    if moment is None:
        return None
    hour = (int(moment.digits[8:10]) + 1) % 24
    return replace(moment, digits=f"{moment.digits[:8]}{hour:02d}{moment.digits[10:]}")


def _corrected(report: Report) -> Report:
    corrected = report_for("LEFA", seed=22, number=report.number, status=ReportStatus.CORRECTED)
    return replace(corrected, issued=_hour_after(report.issued))


def _critical(report: Report) -> Report:
    battery = report.batteries[0]
    line = replace(battery.observations[0], values=(Quantity(number="2.10"),), flags=("LL",))
    changed = replace(battery, observations=(line, *battery.observations[1:]))
    return replace(report, batteries=(changed, *report.batteries[1:]))


def hprim_sante(report: Report) -> bytes:
    """An HPRIM Santé 2.2 ORU of the numeric lines of a report."""
    p, doctor = report.patient, report.prescriber or Person()
    code = _code_of(doctor)
    stamp = (report.issued or Moment("20260101")).digits[:12]
    partial = report.status is ReportStatus.PARTIAL
    born = p.birth_date.digits[:8] if p.birth_date else ""
    segments = [
        f"H|~^\\&|S{report.number[-7:]}.HPR||{LABORATORY}~LABO TEST||ORU|||"
        f"C999~CLINIQUE DES TILLEULS TEST||P|H2.2~C|{stamp}",
        f"P|1|IPP{report.number[-5:]}|L{report.number[-5:]}|NDA{report.number[-5:]}|"
        f"{p.family}~{p.given_names}|{p.birth_name}|{born}|{p.sex}|||||"
        f"{code}~{doctor.family}&{doctor.given}~L",
        f"OBR|1||ECH1~{report.number}|BIO~Bilan~L|R||{stamp}||||N|||{stamp}||"
        f"{code}~{doctor.family} {doctor.given}~L||||||{stamp}|||{'M' if partial else 'F'}",
    ]
    rank = 0
    for line in report.observations():
        value = line.values[0] if line.values else None
        if not isinstance(value, Quantity) or value.separator:
            continue
        rank += 1
        kind = "ST" if value.comparator else "NM"
        local = line.codes[0]
        segments.append(
            f"OBX|{rank}|{kind}|{local.code}~{line.label}~L||{value.text}|{line.unit}|"
            f"{line.reference}|{line.flags[0] if line.flags else ''}|||F"
        )
    segments.append(f"L|1||1|{len(segments) + 1}")
    return "".join(segment + "\r\n" for segment in segments).encode("iso-8859-1", "replace")


def _code_of(person: Person) -> str:
    found = [i.value for i in person.identifiers if i.type not in ("RPPS", "ADELI", "FINESS")]
    return found[0] if found else ""


def medical_texts() -> list[str]:
    """Names of every synthetic patient of the demo, to look for where they must not be."""
    names = []
    for seed in (*range(1, 7), *range(20, 31), *range(40, 46)):
        patient = patient_for(seed)
        names += [patient.birth_name, patient.family]
    return sorted({name for name in names if len(name) > 3})
