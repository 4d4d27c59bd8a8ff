"""HPRIM Médecin: the corpus, the writer's rules, and what four foreign readers see of our files."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlx.contracts import Parsed
from dlx.errors import ParseError, RenderError
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Comment,
    Identifier,
    Observation,
    Patient,
    Person,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Text,
    bounds,
)
from dlx.testing.reports import microbiology, report_for
from formats.hprim_medecin import FORMAT
from formats.hprim_medecin.charset import strict_name, transliterated
from formats.hprim_medecin.coded import plain_number
from formats.hprim_medecin.header import nir_key
from formats.hprim_medecin.parsing import parse
from formats.hprim_medecin.reading import Dossier, HprimFile, Record, Tex, Unknown, read
from formats.hprim_medecin.rendering import render

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "hprim"
GOLDEN = Path(__file__).parents[1] / "golden" / "hprim"
CASES = [
    pytest.param(path, id=path.name.removesuffix(".json"))
    for path in sorted(CORPUS.glob("*.json"))
    if json.loads(path.read_text())["dialect"] == "medecin"
]
needs_corpus = pytest.mark.skipif(not CASES, reason="the shared corpus is not beside the project")

DOCTOR = Person(
    identifiers=(
        Identifier(value="99700000001", type="RPPS"),
        Identifier(value="LEFA"),
    ),
    family="LEFEVRE-TEST",
    given="Anne",
    title="Dr",
)


def line(**more: Any) -> Observation:
    """One result line, a potassium unless told otherwise."""
    basis: dict[str, Any] = {
        "codes": (Code(code="K", system="L"),),
        "label": "Potassium",
        "values": (Quantity(number="4.10"),),
        "unit": "mmol/L",
        "reference": "3.50-5.10",
        "status": ResultStatus.FINAL,
    }
    return Observation(**(basis | more))


def report(*lines: Observation, **more: Any) -> Report:
    """A small report of synthetic patient DURAND-TEST."""
    basis: dict[str, Any] = {
        "number": "26110001",
        "issuer": "LABO-TEST",
        "patient": Patient(
            identifiers=(Identifier(value="P0001", type="PI"),),
            used_name="DURAND-TEST",
            given_names="ANNE MARIE",
            birth_date=Moment("19610315"),
            postal_code="99999",
            city="VILLEFICTIVE",
            address=("1 RUE DE L'ESSAI",),
            nir="2610399999001",
            nir_key=nir_key("2610399999001"),
        ),
        "laboratory": Person(organisation="LABORATOIRE DES ESSAIS"),
        "collected": Moment("202611030805"),
        "batteries": (Battery(code=Code(text="Ionogramme"), observations=lines),),
    }
    return Report(**(basis | more))


def rendered(one: Report, **options: str) -> str:
    """The text of the rendition, line ends untouched."""
    encoding = options.get("encoding", "iso-8859-1")
    return render(one, DOCTOR, options).content.decode(encoding)


def reread(one: Report, **options: str) -> Report:
    """parse(render(report))."""
    return parse(render(one, DOCTOR, options).content, {}).reports[0]


# --- reading: the corpus -------------------------------------------------------------------------


def _record(record: Record) -> dict[str, object]:
    if isinstance(record, Tex):
        return {"k": "TEX", "t": record.text}
    if isinstance(record, Unknown):
        return {"k": "?", "t": record.text}
    fields = record._asdict()
    del fields["line"], fields["surplus"]
    return {"k": "RES", **fields}


def _dossier(dossier: Dossier) -> dict[str, object]:
    header = dossier.header._asdict()
    del header["birth_text"], header["first_line_rest"]
    lab = None if dossier.lab is None else [_record(record) for record in dossier.lab]
    return {"header": header, "text": list(dossier.text), "lab": lab, "end": dossier.end}


def _as_corpus(file: HprimFile) -> dict[str, object]:
    return {
        "encoding": file.encoding,
        "newline": file.newline,
        "diagnostics": sorted(d.code for d in file.diagnostics),
        "dossiers": [_dossier(dossier) for dossier in file.dossiers],
        "trailer": list(file.trailer),
    }


@needs_corpus
@pytest.mark.parametrize("path", CASES)
def test_lenient_reading_finds_exactly_what_the_corpus_says(path: Path) -> None:
    expected = json.loads(path.read_text())
    data = path.with_suffix("").read_bytes()
    if expected["error"]:
        with pytest.raises(ParseError) as refused:
            read(data)
        assert refused.value.code == expected["error"]
        return
    found = _as_corpus(read(data))
    assert found == {key: expected[key] for key in found}


@needs_corpus
@pytest.mark.parametrize("path", CASES)
def test_strict_reading_accepts_only_what_the_norm_says(path: Path) -> None:
    expected = json.loads(path.read_text())
    data = path.with_suffix("").read_bytes()
    if expected["strict"] == "accept":
        assert read(data, strict=True).diagnostics == ()
    else:
        with pytest.raises(ParseError):
            read(data, strict=True)


@needs_corpus
def test_corpus_file_that_obeys_the_rules_is_written_again_byte_for_byte() -> None:
    data = (CORPUS / "01-medecin-nominal-latin1.hpr").read_bytes()
    one = parse(data, {}).reports[0]
    assert one.addressee is not None
    again = render(one, one.addressee, {})
    assert again.content == data
    assert again.losses == ()


# --- reading: dangers ----------------------------------------------------------------------------


def test_cut_file_gives_an_incomplete_report() -> None:
    whole = rendered(report(line()))
    cut = whole[: whole.index("****FIN")]
    assert parse(cut.encode(), {}).reports[0].incomplete
    assert not parse(whole.encode("latin-1"), {}).reports[0].incomplete


def test_only_the_last_dossier_is_incomplete_when_finfichier_is_missing() -> None:
    one = rendered(report(line())).replace("****FINFICHIER****\r\n", "")
    both = parse((one + one.replace("26110001", "26110002")).encode(), {})
    assert [r.incomplete for r in both.reports] == [False, True]
    assert not both.several_expected  # no envelope announces them: the pickup decides


def test_surplus_header_line_after_the_names_never_moves_the_names() -> None:
    """An address line too many shifts the names out when the header is counted from its end."""
    lines = rendered(report(line())).split("\r\n")
    lines.insert(4, "RESIDENCE FICTIVE, 3EME ETAGE")
    with pytest.raises(ParseError) as refused:
        parse("\r\n".join(lines).encode(), {})
    assert refused.value.code == "HM-E03"


def test_second_file_behind_the_end_mark_is_refused_not_dropped() -> None:
    one = rendered(report(line()))
    with pytest.raises(ParseError) as refused:
        parse((one + one).encode(), {})
    assert refused.value.code == "HM-E02"


def test_dossier_without_number_is_refused_alone() -> None:
    one = rendered(report(line())).replace("****FINFICHIER****\r\n", "")
    other = one.replace("26110001", "")
    both = parse((one + other + "****FINFICHIER****\r\n").encode(), {})
    assert [r.number for r in both.reports] == ["26110001"]
    assert [(p.position, p.error.code) for p in both.refused] == [(2, "HM-E06")]


def test_unvalidated_or_unknown_status_makes_the_report_partial() -> None:
    text = rendered(report(line()))
    for status in ("R", "V"):
        changed = text.replace(
            "|N|4.10|mmol/L|3.50|5.10||F|", f"|N|4.10|mmol/L|3.50|5.10||{status}|"
        )
        assert parse(changed.encode(), {}).reports[0].status is ReportStatus.PARTIAL


def test_unprinted_text_lines_become_comments_of_the_result_above() -> None:
    text = rendered(report(line())).replace("****FIN*", "TEX|Tube coagulé\r\n****FIN*", 1)
    assert parse(text.encode("latin-1"), {}).reports[0].observations()[0].comments == (
        Comment(text="Tube coagulé"),
    )


def test_unknown_lines_and_trailers_are_kept() -> None:
    text = rendered(report(line())).replace("****FIN*", "COM|Tube coagule\r\n****FIN*", 1)
    one = parse((text + "Bonne réception").encode("latin-1"), {}).reports[0]
    assert [extra.text for extra in one.extras] == ["COM|Tube coagule", "Bonne réception"]


@given(st.binary(max_size=400))
def test_any_bytes_give_a_report_or_a_parse_error(data: bytes) -> None:
    with suppress(ParseError):
        parse(data, {})
    assert FORMAT.recognises(data) in (True, False)


@given(st.data())
@settings(max_examples=80, deadline=None)
def test_damaged_files_never_raise_anything_but_parse_errors(data: st.DataObject) -> None:
    whole = bytearray(rendered(report(line(), line(label="Sodium"))).encode("latin-1"))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=12))
        whole = whole or bytearray(b"x")
    try:
        assert isinstance(parse(bytes(whole), {}), Parsed)
    except ParseError as error:
        assert error.code.startswith("HM-E")
        assert "DURAND" not in str(error)


# --- writing: the rules, one by one --------------------------------------------------------------


def test_header_has_twelve_lines_in_the_forms_that_every_reader_takes() -> None:
    assert rendered(report(line())).split("\r\n")[:13] == [
        "P0001",
        "DURAND-TEST",
        "ANNE MARIE",
        "1 RUE DE L'ESSAI",
        "",
        "99999 VILLEFICTIVE",
        "15/03/1961",
        "261039999900111",
        "26110001",
        "03/11/2026",
        "LABO-TEST  LABORATOIRE DES ESSAIS",
        "LEFA       Dr LEFEVRE-TEST Anne",
        "",
    ]


def test_no_line_ends_with_a_blank_and_every_line_ends_with_crlf() -> None:
    text = rendered(report_for(seed=5))
    assert not re.search(r"[ \t]\r?\n", text)
    assert text.count("\n") == text.count("\r\n") == text.count("\r")
    assert text.endswith("****FIN****\r\n****FINFICHIER****\r\n")


def test_every_res_has_fourteen_fields_and_a_closing_bar() -> None:
    for seed in range(8):
        res = [one for one in rendered(report_for(seed=seed)).split("\r\n") if one[:4] == "RES|"]
        assert res
        assert all(one.count("|") == 14 and one.endswith("|") for one in res)


def test_every_text_line_is_repeated_as_tex_and_res_labels_begin_a_tex() -> None:
    text = rendered(report_for(seed=2))
    body, _, lab = text.partition("****LAB****\r\n")
    tex = [one[4:] for one in lab.split("\r\n") if one[:3] == "TEX"]
    assert tex == body.split("\r\n")[13:-1]
    for res in (one.split("|") for one in lab.split("\r\n") if one[:4] == "RES|"):
        assert any(one.startswith(res[1]) for one in tex)


def test_names_are_written_in_plain_capitals() -> None:
    patient = replace(report().patient, used_name="d'Œstré-Tést", given_names="Zoë  François")
    rendition = render(report(line(), patient=patient), DOCTOR, {})
    assert rendition.content.decode("latin-1").split("\r\n")[1:3] == [
        "D OESTRE-TEST",
        "ZOE FRANCOIS",
    ]
    assert any("sans accent" in loss for loss in rendition.losses)


@pytest.mark.parametrize(
    "gap",
    [
        {"used_name": ""},
        {"given_names": ""},
        {"birth_date": None},
    ],
)
def test_report_without_full_identity_is_not_written(gap: dict[str, Any]) -> None:
    with pytest.raises(RenderError) as refused:
        render(report(line(), patient=replace(report().patient, **gap)), DOCTOR, {})
    assert refused.value.code == "HM-R02"


def test_addressee_without_short_code_is_named_behind_a_dot() -> None:
    to = replace(DOCTOR, identifiers=DOCTOR.identifiers[:1])
    text = render(report(line()), to, {}).content.decode("latin-1")
    assert text.split("\r\n")[11] == ".          Dr LEFEVRE-TEST Anne"
    text = render(report(line()), to, {"addressee": "rpps"}).content.decode("latin-1")
    assert text.split("\r\n")[11] == "99700000001 Dr LEFEVRE-TEST Anne"


def test_bars_and_end_marks_inside_texts_cannot_break_the_file() -> None:
    bad = line(
        values=(Text(text="trouble | épais"),),
        comments=(Comment(text="****FIN****\n****FINFICHIER****"),),
    )
    rendition = render(report(bad, line(label="Sodium")), DOCTOR, {})
    again = parse(rendition.content, {}).reports[0]
    assert [o.label for o in again.observations()] == ["Potassium", "Sodium"]
    assert rendition.content.count(b"****FIN") == 2
    assert len(rendition.losses) == 2


def test_withdrawn_result_is_shown_but_never_coded() -> None:
    rendition = render(report(line(status=ResultStatus.DELETED)), DOCTOR, {})
    text = rendition.content.decode("latin-1")
    assert "RÉSULTAT ANNULÉ" in text
    assert "4.10" not in text
    assert "RES|" not in text
    assert rendition.losses == ("résultat annulé imprimé dans le texte, sans ligne codée",)


def test_partial_and_corrected_reports_say_so_in_their_text() -> None:
    assert "RÉSULTATS PARTIELS" in rendered(report(line(), status=ReportStatus.PARTIAL))
    corrected = report(line(), status=ReportStatus.CORRECTED, replaces=2)
    assert "ANNULE ET REMPLACE LA VERSION 2" in rendered(corrected)


def test_antibiogram_is_printed_and_named_as_uncoded() -> None:
    rendition = render(microbiology(seed=4), DOCTOR, {})
    text = rendition.content.decode("latin-1")
    assert "Antibiogramme" in text
    assert not re.search(r"RES\|Amoxicilline", text)
    assert any("antibiogramme" in loss for loss in rendition.losses)


def test_documents_are_named_in_the_losses() -> None:
    one = report(line(), attachments=(Attachment(media_type="application/pdf", content=b"%PDF"),))
    assert render(one, DOCTOR, {}).losses == ("1 document(s) joint(s) non transmis",)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8", "cp850", "ascii"])
def test_each_character_set_carries_values_and_units_unchanged(encoding: str) -> None:
    one = report(line(label="Ferritine", unit="µg/L"), line(label="Urée"))
    again = reread(one, encoding=encoding)
    assert [o.values for o in again.observations()] == [(Quantity(number="4.10"),)] * 2
    expected = "ug/L" if encoding == "ascii" else "µg/L"
    assert again.observations()[0].unit == expected


def test_character_without_equivalent_in_a_value_refuses_the_rendition() -> None:
    with pytest.raises(RenderError) as refused:
        render(report(line(values=(Text(text="≠ 3"),))), DOCTOR, {})
    assert refused.value.code == "HM-R03"
    assert "≠" in rendered(report(line(values=(Text(text="≠ 3"),))), encoding="utf-8")


def test_character_without_equivalent_in_a_remark_is_named() -> None:
    rendition = render(report(line(comments=(Comment(text="a ≠ b"),))), DOCTOR, {})
    assert b"a ? b" in rendition.content
    assert any("sans équivalent" in loss for loss in rendition.losses)


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("œdème – 5 €", "oedème - 5 EUR"),
        ("≤ 5,0", "<= 5,0"),
        ("10⁹/L", "10^9/L"),
        ("10⁻³", "10^-3"),
        ("α1-globulines", "alpha1-globulines"),
        ("μg", "µg"),
        ("m²", "m²"),
    ],
)
def test_transliteration_says_the_same(text: str, written: str) -> None:
    assert transliterated(text, "iso-8859-1") == (written, True)


@pytest.mark.parametrize(
    "options",
    [{"encoding": "ebcdic"}, {"width": "5"}, {"extension": "../x"}, {"coded": "maybe"}],
)
def test_unknown_option_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(RenderError) as refused:
        render(report(line()), DOCTOR, options)
    assert refused.value.code == "HM-R01"


def test_letter_has_no_coded_part() -> None:
    text = rendered(report(line()), coded="no")
    assert "****LAB****" not in text
    assert "Potassium" in text


def test_printed_text_of_the_laboratory_is_kept_line_by_line() -> None:
    text = "Cher confrère,\n\n   Potassium            4.10 mmol/L\nBien à vous."
    again = rendered(report(line(), text=text)).split("\r\n")
    assert again[13:17] == text.split("\n")
    assert again.count("   Potassium            4.10 mmol/L") == 1


def test_result_that_the_printed_text_does_not_show_is_added_below_it() -> None:
    again = rendered(report(line(), text="Bien à vous."))
    assert again.index("Bien à vous.") < again.index("Potassium   ")


# --- round trip ----------------------------------------------------------------------------------

number = st.from_regex(r"[+-]?[0-9]{1,6}([.][0-9]{1,4})?", fullmatch=True)
word = st.text(alphabet="ABCDEFabcdefé0123456789 /%()+-µ,.'", min_size=1, max_size=60).filter(
    lambda text: bool(text.strip())
)
label = word.map(lambda text: "A" + " ".join(text.split()))
quantity = st.builds(
    Quantity, number=number, comparator=st.sampled_from(["", "", "<", ">", "<=", ">="])
)
value = st.one_of(quantity, word.map(lambda text: Text(text="t" + " ".join(text.split()))))
interval = st.one_of(
    st.just(""),
    st.tuples(number, number).map("-".join),
    number.map(lambda n: f"{n}-"),
    number.map(lambda n: f"-{n}"),
)
observation = st.builds(
    Observation,
    codes=st.sampled_from([(), (Code(code="K1"),)]),
    label=label,
    values=value.map(lambda one: (one,)),
    unit=st.sampled_from(["", "mmol/L", "µg/L", "10*9/L", "%"]),
    reference=interval,
    flags=st.sampled_from([(), ("N",), ("L",), ("H",), ("LL",), ("HH",)]),
    status=st.sampled_from(
        [ResultStatus.FINAL, ResultStatus.CORRECTED, ResultStatus.UNVERIFIED, ResultStatus.UNSTATED]
    ),
    comments=st.lists(word.map(lambda text: Comment(text=text)), max_size=2).map(tuple),
    second=st.one_of(
        st.none(), st.builds(Second, value=quantity, unit=st.just("g/L"), reference=interval)
    ),
)
reports = st.lists(observation, min_size=1, max_size=6).map(lambda lines: report(*lines))


def _facts(one: Observation) -> tuple[object, ...]:
    return (
        one.label,
        tuple(code.code for code in one.codes),
        one.values,
        one.unit,
        bounds(one.reference) if one.reference else None,
        one.flags,
        one.status,
        (one.second.value, one.second.unit, one.second.reference) if one.second else None,
    )


@given(reports)
@settings(max_examples=70, deadline=None)
def test_round_trip_keeps_identity_and_every_result(one: Report) -> None:
    again = reread(one)
    assert (again.number, again.issuer) == (one.number, one.issuer)
    assert again.patient.family == one.patient.family
    assert again.patient.birth_date == one.patient.birth_date
    assert (again.patient.nir, again.patient.nir_key) == (one.patient.nir, one.patient.nir_key)
    assert [_facts(o) for o in again.observations()] == [_facts(o) for o in one.observations()]


@pytest.mark.parametrize("seed", range(6))
def test_synthetic_reports_survive_the_round_trip(seed: int) -> None:
    one = report_for(seed=seed)
    again = reread(one)
    assert [(o.label, o.values, o.unit, o.flags) for o in again.observations()] == [
        (o.label, o.values, o.unit, o.flags) for o in one.observations()
    ]
    assert again.status is one.status


@given(reports)
@settings(max_examples=30, deadline=None)
def test_same_arguments_give_the_same_bytes(one: Report) -> None:
    assert render(one, DOCTOR, {}).content == render(one, DOCTOR, {}).content


def test_french_decimals_are_coded_with_a_point_and_printed_as_written() -> None:
    text = rendered(report(line(values=(Quantity(number="1 013,50"),))))
    assert "|N|1013.50|" in text
    assert " 1 013,50 mmol/L" in text
    assert plain_number("1 013,50") == "1013.50"


@given(st.text(max_size=30))
def test_strict_names_hold_capitals_blanks_and_hyphens_only(text: str) -> None:
    assert re.fullmatch(r"[A-Z -]*", strict_name(text))


# --- four foreign readers, modelled on the habits of the known ones ------------------------------


def _numbered(data: bytes) -> list[str]:
    return re.split(r"\r\n|\n|\r", data.decode("latin-1"))


def columns_reader(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Cuts codes at column 10; splits RES at each bar."""
    lines = _numbered(data)
    header = [one.strip() for one in lines[:10]]
    header += [lines[10][:10].strip(), lines[10][10:].strip()]
    header += [lines[11][:10].strip(), lines[11][10:].strip()]
    return header, [one.split("|")[1:14] for one in lines if one.startswith("RES|")]


def separators_reader(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Splits codes at the first blank; drops a RES that lacks its fourteenth bar."""
    lines = _numbered(data)
    assert re.fullmatch(r"\d\d/\d\d/\d{4}", lines[6])
    assert re.fullmatch(r"\d\d/\d\d/\d{4}", lines[9])
    header = lines[:10]
    for one in lines[10:12]:
        code, _, name = one.partition(" ")
        header += [code, name.strip()]
    found = [re.match(r"RES\|" + r"([^|]*)\|" * 13, one) for one in lines]
    return header, [list(res.groups()) for res in found if res]


def tags_reader(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Wants FIN then FINFICHIER with nothing behind; walks the part between LAB and FIN."""
    text = data.decode("latin-1")
    whole = re.fullmatch(
        r"(.*?)(?:\*{4}LAB\*{4}\r\n(.*))?\*{4}FIN\*{4}\s*\*{4}FINFICHIER\*{4}\s*", text, re.DOTALL
    )
    assert whole is not None
    lines = whole[1].split("\r\n")
    header = lines[:10] + [part.strip() for one in lines[10:12] for part in (one[:10], one[10:])]
    lab = (whole[2] or "").split("\r\n")
    return header, [one.split("|")[1:14] for one in lab if one.split("|")[0] == "RES"]


def letters_reader(data: bytes) -> tuple[list[str], list[list[str]]]:
    """Takes names of A-Z, blank and hyphen only, and at least eight fields a RES."""
    lines = _numbered(data)
    assert re.fullmatch(r"[A-Z][A-Z \-]*", lines[1])
    assert re.fullmatch(r"[A-Z][A-Z \-]*", lines[2])
    header = lines[:10]
    for one in lines[10:12]:
        code, name = one.split(maxsplit=1)
        header += [code, name]
    res = [one.split("|") for one in lines if one.startswith("RES|")]
    assert all(fields[3] in ("N", "A") for fields in res)
    return header, [fields[1:14] for fields in res if len(fields) >= 8 and fields[4]]


READERS = (columns_reader, separators_reader, tags_reader, letters_reader)


def _read_alike(one: Report) -> None:
    data = render(one, DOCTOR, {}).content
    results = [reader(data) for reader in READERS]
    assert all(found == results[0] for found in results)
    header, res = results[0]
    assert header[1] == strict_name(one.patient.family)
    assert header[8] == one.number
    assert header[12:] == ["LEFA", "Dr LEFEVRE-TEST Anne"]
    values = [o.values[0] for o in one.observations() if o.values]
    assert [fields[3] for fields in res] == [value.text for value in values]  # type: ignore[union-attr]


@given(reports)
@settings(max_examples=40, deadline=None)
def test_four_foreign_readers_see_the_same_header_and_results(one: Report) -> None:
    _read_alike(one)


@pytest.mark.parametrize("seed", range(6))
def test_four_foreign_readers_agree_on_synthetic_reports(seed: int) -> None:
    _read_alike(report_for(seed=seed))


# --- golden --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["final", "corrected", "microbiology"])
def test_rendition_is_the_reviewed_one(name: str) -> None:
    made = {
        "final": report_for(seed=1, results=12),
        "corrected": replace(
            report_for(seed=2, results=5, status=ReportStatus.CORRECTED), replaces=1
        ),
        "microbiology": microbiology(seed=1),
    }[name]
    assert render(made, DOCTOR, {}).content == (GOLDEN / f"{name}.hpr").read_bytes()
