"""Synthetic French reports: deterministic, obviously invented, as varied as the real ones.

Every family name ends in ``-TEST``, every RPPS number starts with 997 and every INS is of the test
authority (OID ending in .10). The same arguments always give the same report.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from zlib import crc32

from dlx.moment import Moment
from dlx.report import (
    Battery,
    Code,
    Coded,
    Comment,
    Identifier,
    Observation,
    Parent,
    Patient,
    Person,
    Previous,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Text,
)

RPPS_OID = "1.2.250.1.71.4.2.1"
FINESS_OID = "1.2.250.1.71.4.2.2"
TEST_INS_OID = "1.2.250.1.213.1.4.10"
LABORATORY_OID = "1.2.250.1.999.1"


@dataclass(frozen=True, slots=True)
class _Analyte:
    local: str
    loinc: str
    label: str
    unit: str
    low: str
    high: str
    factor: str = ""  # to the second unit
    second_unit: str = ""


@dataclass(frozen=True, slots=True)
class _Chapter:
    local: str
    loinc: str
    label: str
    section: str
    specimen: str
    analytes: tuple[_Analyte, ...]


_CHAPTERS = (
    _Chapter(
        "BIOCH",
        "24323-8",
        "Biochimie du sang",
        "CHEM",
        "Sérum",
        (
            _Analyte("GLY", "14749-6", "Glycémie à jeun", "mmol/L", "3.90", "5.80", "0.18", "g/L"),
            _Analyte("CREA", "14682-9", "Créatinine", "µmol/L", "45", "84", "0.113", "mg/L"),
            _Analyte("UREE", "22664-7", "Urée", "mmol/L", "2.50", "7.50", "0.06", "g/L"),
            _Analyte("NA", "2951-2", "Sodium", "mmol/L", "136", "145"),
            _Analyte("K", "2823-3", "Potassium", "mmol/L", "3.50", "5.10"),
            _Analyte("CL", "2075-0", "Chlorure", "mmol/L", "98", "107"),
            _Analyte("CA", "2000-8", "Calcium", "mmol/L", "2.15", "2.50", "40", "mg/L"),
            _Analyte("PROT", "2885-2", "Protéines totales", "g/L", "64", "83"),
            _Analyte("AU", "14933-6", "Acide urique", "µmol/L", "155", "357", "0.168", "mg/L"),
            _Analyte("CRP", "1988-5", "Protéine C réactive", "mg/L", "0.0", "5.0"),
        ),
    ),
    _Chapter(
        "LIPID",
        "24331-1",
        "Bilan lipidique",
        "CHEM",
        "Sérum",
        (
            _Analyte("CHOL", "14647-2", "Cholestérol total", "mmol/L", "3.60", "5.20"),
            _Analyte("HDL", "14646-4", "Cholestérol HDL", "mmol/L", "1.00", "1.90"),
            _Analyte("LDL", "39469-2", "Cholestérol LDL calculé", "mmol/L", "1.00", "3.40"),
            _Analyte("TRIG", "14927-8", "Triglycérides", "mmol/L", "0.40", "1.70"),
        ),
    ),
    _Chapter(
        "NFS",
        "58410-2",
        "Hématologie : numération formule",
        "HM",
        "Sang total (EDTA)",
        (
            _Analyte("GR", "789-8", "Hématies", "T/L", "3.80", "5.20"),
            _Analyte("HB", "718-7", "Hémoglobine", "g/dL", "11.5", "16.0"),
            _Analyte("HT", "4544-3", "Hématocrite", "%", "35.0", "47.0"),
            _Analyte("VGM", "787-2", "Volume globulaire moyen", "fL", "80", "100"),
            _Analyte("TCMH", "785-6", "T.C.M.H.", "pg", "27.0", "33.0"),
            _Analyte("CCMH", "786-4", "C.C.M.H.", "g/dL", "31.0", "36.0"),
            _Analyte("GB", "6690-2", "Leucocytes", "G/L", "4.00", "10.00"),
            _Analyte("PNN", "751-8", "Polynucléaires neutrophiles", "G/L", "1.50", "7.50"),
            _Analyte("LYM", "731-0", "Lymphocytes", "G/L", "1.00", "4.00"),
            _Analyte("PLQ", "777-3", "Plaquettes", "G/L", "150", "400"),
        ),
    ),
    _Chapter(
        "HEMOST",
        "34528-0",
        "Hémostase",
        "COAG",
        "Plasma citraté",
        (
            _Analyte("TP", "5894-1", "Taux de prothrombine", "%", "70", "120"),
            _Analyte("INR", "6301-6", "INR", "", "0.90", "1.20"),
            _Analyte("TCA", "14979-9", "Temps de céphaline activée", "s", "24.0", "36.0"),
            _Analyte("FIB", "3255-7", "Fibrinogène", "g/L", "2.00", "4.00"),
        ),
    ),
    _Chapter(
        "ENZHOR",
        "24325-3",
        "Enzymes, hormones et vitamines",
        "CHEM",
        "Sérum",
        (
            _Analyte("ASAT", "1920-8", "Aspartate aminotransférase", "U/L", "10", "35"),
            _Analyte("ALAT", "1742-6", "Alanine aminotransférase", "U/L", "10", "35"),
            _Analyte("GGT", "2324-2", "Gamma-glutamyltransférase", "U/L", "6", "42"),
            _Analyte("PAL", "6768-6", "Phosphatases alcalines", "U/L", "35", "104"),
            _Analyte("TSH", "3016-3", "TSH ultrasensible", "mUI/L", "0.27", "4.20"),
            _Analyte("FERR", "20567-4", "Ferritine", "µg/L", "15", "150"),
            _Analyte("VITD", "35365-6", "25-OH vitamine D", "nmol/L", "75", "200", "0.40", "ng/mL"),
        ),
    ),
)

_SYLLABLES = "BA BER BOU CHE CLÉ DEL DU FER GAU GIR HÉ JO LA LE MAR MOR NO PEL RI ROU SA TIS VA VI"
_GIVEN = {
    "F": "Élodie Anaïs Chloé Zoé Françoise Marie-Noëlle Inès Agnès Maëva Hélène Aïcha Béatrice",
    "M": "Gaël Jérôme François Loïc Noël André Jean-René Théo Rémi Cédric Mickaël Aurélien",
}
_CITIES = (
    ("69003", "LYON"),
    ("42000", "SAINT-ÉTIENNE"),
    ("67000", "STRASBOURG"),
    ("29200", "BREST"),
)
_REMARKS = (
    "Contrôle conseillé à 3 mois.",
    "Résultat vérifié ; à interpréter en fonction du contexte clinique.",
    "Sérum légèrement hémolysé : résultat sous réserve.\nÀ contrôler sur un nouveau prélèvement.",
    "Valeur contrôlée < 2 fois la normale & cohérente avec l'antériorité | série du jour.",
)


def rpps_of(code: str) -> str:
    """An RPPS number for a prescriber code: 11 digits, starts with 997, valid Luhn key."""
    body = f"997{crc32(code.encode()) % 10_000_000:07d}"
    total = 0
    for position, digit in enumerate(reversed(body)):
        n = int(digit) * (2 if position % 2 == 0 else 1)
        total += n - 9 if n > 9 else n
    return f"{body}{-total % 10}"


def prescriber_for(code: str = "LEFA", *, role: str = "prescriber") -> Person:
    """A doctor known to the laboratory as ``code``, with an RPPS number."""
    chance = random.Random(f"prescriber {code}")
    family = "LEFEVRE" if code == "LEFA" else _family(chance)
    given = "Anne" if code == "LEFA" else chance.choice(_GIVEN["F"].split())
    return Person(
        identifiers=(
            Identifier(value=rpps_of(code), type="RPPS", authority="ASIP-SANTE-PS", oid=RPPS_OID),
            Identifier(value=code),
        ),
        family=f"{family}-TEST",
        given=given,
        title="Dr",
        role=role,
    )


def patient_for(seed: int = 1) -> Patient:
    """One of many thousands of invented patients; the same seed is the same person."""
    chance = random.Random(f"patient {seed}")
    sex = chance.choice("FM")
    given = chance.sample(_GIVEN[sex].split(), 2)
    postal_code, city = chance.choice(_CITIES)
    born = f"{chance.randint(1930, 2019)}{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"
    matricule = f"{'1' if sex == 'M' else '2'}{born[2:6]}99{seed % 1_000_000:06d}"
    key = 97 - int(matricule) % 97
    birth_name = f"{_family(chance)}-TEST"
    married = sex == "F" and chance.random() < 0.4
    return Patient(
        identifiers=(
            Identifier(
                value=f"{matricule}{key:02d}",
                type="INS",
                authority="ASIP-SANTE-INS-NIR",
                oid=TEST_INS_OID,
            ),
            Identifier(
                value=f"{100_000 + seed}", type="PI", authority="LABO-TEST", oid=LABORATORY_OID
            ),
        ),
        birth_name=birth_name,
        used_name=f"{_family(chance)}-TEST" if married else "",
        given_names=f"{given[0]} {given[1]}",
        first_given=given[0],
        birth_date=Moment(born),
        sex=sex,
        address=(f"{chance.randint(1, 99)} rue de l'Essai",),
        postal_code=postal_code,
        city=city,
        birth_place="99999",
        phones=(f"06{chance.randint(0, 99_999_999):08d}",),
        reliability="VALI",
    )


def report_for(
    prescriber_code: str = "LEFA",
    *,
    seed: int = 1,
    results: int = 35,
    status: ReportStatus = ReportStatus.FINAL,
    number: str | None = None,
    issuer: str = "LABO-TEST",
    patient: Patient | None = None,
    copies: tuple[str, ...] = (),
    urgent: bool = False,
    test: bool = False,
) -> Report:
    """The reference report R35: ``results`` lines (0 to 35) in up to five chapters.

    Args:
        prescriber_code: the laboratory's code of the prescriber; see ``prescriber_for``.
        seed: chooses patient, values, flags and comments.
        results: how many lines; a chapter without a line is left out.
        status: of the report; the lines follow (P and I in a partial one, one C in a corrected
            one, X without value in a cancelled one).
        number: of the request, else made from the seed.
        copies: codes of further doctors.
    """
    chance = random.Random(f"report {seed}")
    issued = _issued(chance)
    biologist = replace(prescriber_for("BIO1"), role="")
    batteries = tuple(
        _chapter_battery(chapter, count, chance, issued, status, biologist, seed)
        for chapter, count in _shares(results)
    )
    first = batteries[0] if batteries else None
    return Report(
        number=number or f"{issued.digits[2:8]}-{seed:05d}",
        issuer=issuer,
        status=status,
        patient=patient or patient_for(seed),
        laboratory=laboratory(),
        prescriber=prescriber_for(prescriber_code),
        copies=tuple(prescriber_for(code, role="copy") for code in copies),
        collected=first.collected if first else None,
        received=first.received if first else None,
        issued=issued,
        validated_by=(biologist,) if batteries else (),
        urgent=urgent,
        test=test,
        batteries=batteries,
    )


def laboratory() -> Person:
    """The laboratory of every synthetic report."""
    return Person(
        identifiers=(Identifier(value="999999999", type="FINESS"),),
        organisation="LABO-TEST",
        role="laboratory",
    )


def microbiology(
    prescriber_code: str = "LEFA",
    *,
    seed: int = 1,
    germs: int = 2,
    status: ReportStatus = ReportStatus.FINAL,
    number: str | None = None,
) -> Report:
    """A urine culture with ``germs`` germs (0 to 3) and one antibiogram for each (OBR-26, -29)."""
    chance = random.Random(f"microbiology {seed}")
    plain = report_for(prescriber_code, seed=seed, results=0, status=status, number=number)
    culture = _culture(germs, chance, plain)
    antibiograms = tuple(
        _antibiogram(line, chance, plain) for line in culture.observations if line.sub_id
    )
    return replace(
        plain,
        collected=culture.collected,
        received=culture.received,
        batteries=(culture, *antibiograms),
    )


def _family(chance: random.Random) -> str:
    return "".join(chance.choice(_SYLLABLES.split()) for _ in range(3))


def _issued(chance: random.Random) -> Moment:
    day = f"2026{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}"
    return Moment(f"{day}{chance.randint(13, 19):02d}{chance.randint(0, 59):02d}00", "+0100")


def _shares(results: int) -> Iterator[tuple[_Chapter, int]]:
    left = results
    for chapter in _CHAPTERS:
        count = min(left, len(chapter.analytes))
        if count:
            yield chapter, count
        left -= count


def _chapter_battery(
    chapter: _Chapter,
    count: int,
    chance: random.Random,
    issued: Moment,
    status: ReportStatus,
    biologist: Person,
    seed: int,
) -> Battery:
    day = issued.digits[:8]
    lines = [_line(a, chance, day, status) for a in chapter.analytes[:count]]
    lines = [replace(line, validated_by=(biologist,)) for line in lines]
    if status is ReportStatus.CORRECTED:
        lines[0] = replace(lines[0], status=ResultStatus.CORRECTED)
    remark = Comment(text="Prélèvement reçu conforme, à température ambiante.", source="L")
    return Battery(
        code=Code(code=chapter.loinc, text=chapter.label, system="LN"),
        alternates=(Code(code=chapter.local, text=chapter.label, system="L"),),
        placer_number=f"P{seed:06d}",
        section=chapter.section,
        status=_ORDER_STATUS[status],
        specimen=chapter.specimen,
        collected=Moment(f"{day}0805"),
        received=Moment(f"{day}0930"),
        resulted=Moment(f"{day}1210"),
        comments=(remark,) if chapter.local == "NFS" else (),
        observations=tuple(lines),
    )


_ORDER_STATUS = {
    ReportStatus.PARTIAL: "P",
    ReportStatus.FINAL: "F",
    ReportStatus.CORRECTED: "C",
    ReportStatus.CANCELLED: "X",
}


def _line(analyte: _Analyte, chance: random.Random, day: str, status: ReportStatus) -> Observation:
    low, high = float(analyte.low), float(analyte.high)
    decimals = len(analyte.high.partition(".")[2])
    measured = max(0.0, chance.gauss((low + high) / 2, (high - low) / 3))
    number = f"{measured:.{decimals}f}"
    bare = Observation(
        codes=(
            Code(code=analyte.loinc, text=analyte.label, system="LN"),
            Code(code=analyte.local, text=analyte.label, system="L"),
        ),
        label=analyte.label,
        unit=analyte.unit,
        reference=f"{analyte.low}-{analyte.high}",
    )
    if status is ReportStatus.CANCELLED:
        return replace(bare, value_type="NM", status=ResultStatus.UNOBTAINABLE)
    if status is ReportStatus.PARTIAL and chance.random() < 0.3:
        return replace(bare, value_type="NM", status=ResultStatus.PENDING)
    censored = analyte.local in ("CRP", "TSH") and chance.random() < 0.3
    value = Quantity(number=analyte.high if analyte.local == "CRP" else "0.01", comparator="<")
    flags = _flags(measured, low, high)
    return replace(
        bare,
        value_type="SN" if censored else "NM",
        values=(value if censored else Quantity(number=number),),
        flags=() if censored else flags,
        status=(ResultStatus.PRELIMINARY if status is ReportStatus.PARTIAL else ResultStatus.FINAL),
        moment=Moment(f"{day}0805"),
        comments=_remarks(chance, flags),
        second=_second(analyte, measured) if not censored else None,
        previous=_previous(analyte, chance, decimals),
    )


def _flags(measured: float, low: float, high: float) -> tuple[str, ...]:
    width = high - low
    if measured > high:
        return ("HH",) if measured > high + width * 0.35 else ("H",)
    if measured < low:
        return ("LL",) if measured < low - width * 0.35 else ("L",)
    return ("N",)


def _remarks(chance: random.Random, flags: tuple[str, ...]) -> tuple[Comment, ...]:
    if flags == ("N",) and chance.random() > 0.05:
        return ()
    return (Comment(text=chance.choice(_REMARKS), source="L"),) if chance.random() < 0.4 else ()


def _second(analyte: _Analyte, measured: float) -> Second | None:
    if not analyte.factor:
        return None
    factor = float(analyte.factor)
    low, high = float(analyte.low) * factor, float(analyte.high) * factor
    return Second(
        value=Quantity(number=f"{measured * factor:.2f}"),
        unit=analyte.second_unit,
        reference=f"{low:.2f}-{high:.2f}",
    )


def _previous(analyte: _Analyte, chance: random.Random, decimals: int) -> tuple[Previous, ...]:
    if chance.random() < 0.4:
        return ()
    low, high = float(analyte.low), float(analyte.high)
    value = max(0.0, chance.gauss((low + high) / 2, (high - low) / 4))
    moment = Moment(f"2025{chance.randint(1, 12):02d}{chance.randint(1, 28):02d}")
    return (Previous(value=f"{value:.{decimals}f}", unit=analyte.unit, moment=moment),)


_GERMS = (
    ("112283007", "Escherichia coli"),
    ("56415008", "Klebsiella pneumoniae"),
    ("78065002", "Enterococcus faecalis"),
)
_ANTIBIOTICS = (
    ("18864-9", "Amoxicilline"),
    ("18862-3", "Amoxicilline + acide clavulanique"),
    ("18895-3", "Céfotaxime"),
    ("18906-8", "Ciprofloxacine"),
    ("18928-2", "Gentamicine"),
    ("18955-5", "Nitrofurantoïne"),
    ("18998-5", "Triméthoprime + sulfaméthoxazole"),
)
_GERM_CODE = Code(code="11475-1", text="Germe identifié", system="LN")


def _culture(germs: int, chance: random.Random, plain: Report) -> Battery:
    day = plain.issued.digits[:8] if plain.issued else "20260101"
    status = ResultStatus.PARTIAL if plain.status is ReportStatus.PARTIAL else ResultStatus.FINAL
    aspect = Observation(
        codes=(Code(code="5767-9", text="Aspect des urines", system="LN"),),
        label="Aspect des urines",
        values=(Text(text="Trouble, légèrement hématique"),),
        value_type="ST",
        status=status,
    )
    lines = [aspect]
    for rank, (snomed, name) in enumerate(_GERMS[:germs], start=1):
        lines.append(
            Observation(
                codes=(_GERM_CODE,),
                label="Germe identifié",
                values=(Coded(code=Code(code=snomed, text=name, system="SCT")),),
                value_type="CWE",
                flags=("A",),
                status=status,
                sub_id=str(rank),
                comments=(Comment(text=f"Numération : 10^{chance.randint(4, 7)} UFC/mL"),),
            )
        )
    return Battery(
        code=Code(code="630-4", text="Examen cytobactériologique des urines", system="LN"),
        section="MB",
        status=_ORDER_STATUS[plain.status],
        specimen="Urines du milieu de jet",
        collected=Moment(f"{day}0715"),
        received=Moment(f"{day}0840"),
        observations=tuple(lines),
    )


def _antibiogram(germ: Observation, chance: random.Random, plain: Report) -> Battery:
    day = plain.issued.digits[:8] if plain.issued else "20260101"
    name = germ.values[0].text if isinstance(germ.values[0], Coded) else ""
    lines = tuple(
        Observation(
            codes=(Code(code=loinc, text=label, system="LN"),),
            label=label,
            values=(
                Quantity(number=chance.choice(("0.5", "1", "8")), comparator=chance.choice("<>")),
            ),
            value_type="SN",
            unit="mg/L",
            flags=(chance.choice(("S", "S", "S", "I", "R")),),
            status=germ.status,
        )
        for loinc, label in _ANTIBIOTICS
    )
    return Battery(
        code=Code(code="29576-6", text="Antibiogramme", system="LN"),
        section="MB",
        status=_ORDER_STATUS[plain.status],
        collected=Moment(f"{day}0715"),
        received=Moment(f"{day}0840"),
        observations=lines,
        parent=Parent(code=_GERM_CODE, sub_id=germ.sub_id, text=name, number=plain.number),
    )
