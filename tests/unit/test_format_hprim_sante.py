"""HPRIM Santé: the corpus, and what an ORU message means."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlx.errors import ParseError
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Code,
    Coded,
    Comment,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Text,
    bounds,
)
from formats.hprim_medecin import FORMAT as MEDECIN
from formats.hprim_sante import FORMAT
from formats.hprim_sante.parsing import parse
from formats.hprim_sante.reading import Message, read
from formats.hprim_sante.syntax import Separators, Syntax

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "hprim"
CASES = [
    pytest.param(path, id=path.name.removesuffix(".json"))
    for path in sorted(CORPUS.glob("*.json"))
    if json.loads(path.read_text())["dialect"] == "sante"
]
needs_corpus = pytest.mark.skipif(not CASES, reason="the shared corpus is not beside the project")

HEAD = "H|~^\\&|LABT0001.HPR||LAB1~LABO-TEST||ORU|||CLI1~CLINIQUE-TEST||P|H2.4~C|202611031015"
PATIENT = "P|1|IPP1|L1|NDA1|DURAND-TEST~ANNE~MARIE~~Mme|MARTIN-TEST|19610315|F"
REQUEST = "OBR|1|E1~D1|~261103001|BIO~Biochimie~L|R||202611030805||||N|||202611030930"
POTASSIUM = "OBX|1|NM|K~Potassium~L||4.10|mmol/L|3.50-5.10|N|||F"


def message(*segments: str, head: str = HEAD, newline: str = "\r\n") -> bytes:
    """An ORU message of ``segments`` with its L."""
    return (newline.join([head, *segments, "L|1"]) + newline).encode("latin-1")


def only(*segments: str, head: str = HEAD) -> Report:
    """The one report of a message."""
    (report,) = parse(message(*segments, head=head), {}).reports
    return report


def _as_corpus(found: Message) -> dict[str, object]:
    iso = found.timestamp
    return {
        "encoding": found.encoding,
        "newline": found.newline,
        "diagnostics": sorted(d.code for d in found.diagnostics),
        "separators": found.separators._asdict(),
        "context": found.context,
        "version": found.version,
        "link": found.link,
        "processing": found.processing,
        "message_name": found.message_name,
        "sender": list(found.sender),
        "receiver": list(found.receiver),
        "timestamp": f"{iso}:00" if len(iso) == 16 else iso,
        "logical_segments": list(found.logical_segments),
    }


@needs_corpus
@pytest.mark.parametrize("path", CASES)
def test_reading_finds_exactly_what_the_corpus_says(path: Path) -> None:
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
def test_strict_reading_accepts_only_conforming_messages(path: Path) -> None:
    expected = json.loads(path.read_text())
    data = path.with_suffix("").read_bytes()
    if expected["strict"] == "accept":
        assert read(data, strict=True).diagnostics == ()
    else:
        with pytest.raises(ParseError):
            read(data, strict=True)


@needs_corpus
@pytest.mark.parametrize("path", CASES)
def test_the_two_dialects_are_never_mistaken_for_each_other(path: Path) -> None:
    data = path.with_suffix("").read_bytes()
    assert FORMAT.recognises(data[:4096])
    assert not MEDECIN.recognises(data[:4096])


@needs_corpus
def test_typed_facts_of_the_corpus_are_found() -> None:
    path = CORPUS / "20-sante-oru-h24.hpr"
    expected = json.loads(path.with_name(f"{path.name}.json").read_text())["extract"]["patients"][0]
    (report,) = parse(path.read_bytes(), {}).reports
    wanted = expected["requests"][0]
    assert report.number == wanted["lab_order_id"]
    assert report.visit == expected["visit"]
    assert report.patient.identifiers[0].value == expected["id"]
    assert report.patient.used_name == expected["family_name"]
    assert report.patient.birth_name == expected["birth_name"]
    assert report.collected == Moment("202501310800")
    (battery,) = report.batteries
    assert [code.code for code in battery.alternates] == wanted["tests"]
    assert battery.placer_number == wanted["order_id"]
    for line, result in zip(battery.observations, wanted["results"], strict=True):
        assert line.codes[0].code == result["code"]
        assert line.label == result["label"]
        assert line.value_type == result["type"]
        assert list(line.flags) == result.get("flags", [])
        assert line.status.value == result["status"]
        assert line.sub_id == result.get("sub_id", "")
        assert bounds(line.reference) == (
            (result["low"], result["high"]) if "low" in result else None
        )
        assert [text for c in line.comments for text in c.text.split("\n")] == result["comments"]
        if line.is_title:
            assert result["value"] == ["."]
        elif isinstance(line.values[0], Coded):
            assert [line.values[0].code.code] == result["value"]
        else:
            assert "\n".join(v.text for v in line.values if not isinstance(v, Attachment)) == (
                "\n".join(result["value"])
            )


@needs_corpus
def test_pdf_of_the_corpus_comes_back_byte_for_byte() -> None:
    path = CORPUS / "21-sante-oru-pdf-base64.hpr"
    expected = json.loads(path.with_name(f"{path.name}.json").read_text())["extract"]
    (report,) = parse(path.read_bytes(), {}).reports
    pdf, pointed = (line.values[0] for line in report.observations())
    assert isinstance(pdf, Attachment)
    assert isinstance(pointed, Attachment)
    assert len(pdf.content) == expected["pdf_bytes"]
    assert hashlib.sha256(pdf.content).hexdigest() == expected["pdf_sha256"]
    assert pdf.media_type == "application/pdf"
    assert [pointed.reference] == expected["attached_files"]


@needs_corpus
@pytest.mark.parametrize("number", ["23", "24", "25"])
def test_other_contexts_are_refused_by_name(number: str) -> None:
    (path,) = CORPUS.glob(f"{number}-*.hpr")
    with pytest.raises(ParseError, match="pas un compte rendu") as refused:
        parse(path.read_bytes(), {})
    assert refused.value.code == "HS-E10"


def test_each_patient_and_each_request_is_a_report_of_its_own() -> None:
    other = REQUEST.replace("261103001", "261103002").replace("OBR|1", "OBR|2")
    second = "P|2|IPP2|L2|NDA2|PETIT-TEST~LUC||19700101|M"
    third = REQUEST.replace("261103001", "261103003")
    parsed = parse(
        message(PATIENT, REQUEST, POTASSIUM, other, POTASSIUM, second, third, POTASSIUM), {}
    )
    assert [(r.number, r.patient.used_name) for r in parsed.reports] == [
        ("261103001", "DURAND-TEST"),
        ("261103002", "DURAND-TEST"),
        ("261103003", "PETIT-TEST"),
    ]
    assert not parsed.several_expected  # no envelope announces them: the pickup decides


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [("E1~D1|S9~R9", "R9"), ("E1~D1|S9", "S9"), ("E1~D1|", "D1")],
)
def test_number_is_the_laboratorys_request_else_its_sample_else_the_order(
    numbers: str, expected: str
) -> None:
    assert only(PATIENT, f"OBR|1|{numbers}|BIO~Biochimie~L", POTASSIUM).number == expected


def test_request_without_any_number_is_refused() -> None:
    with pytest.raises(ParseError) as refused:
        only(PATIENT, "OBR|1|||BIO~Biochimie~L", POTASSIUM)
    assert refused.value.code == "HS-E07"


@pytest.mark.parametrize(
    ("request_status", "result_status", "expected"),
    [
        ("F", "F", ReportStatus.FINAL),
        ("", "", ReportStatus.FINAL),
        ("M", "F", ReportStatus.PARTIAL),
        ("P", "P", ReportStatus.PARTIAL),
        ("F", "R", ReportStatus.PARTIAL),
        ("F", "Z", ReportStatus.PARTIAL),
        ("C", "C", ReportStatus.CORRECTED),
        ("", "C", ReportStatus.CORRECTED),
        ("X", "X", ReportStatus.CANCELLED),
    ],
)
def test_nothing_unvalidated_is_promoted_to_final(
    request_status: str, result_status: str, expected: ReportStatus
) -> None:
    request = REQUEST + "|" * 11 + request_status
    line = POTASSIUM[:-1] + result_status
    assert only(PATIENT, request, line).status is expected


def test_test_messages_are_marked() -> None:
    for processing, expected in (("P", False), ("T", True), ("D", True), ("", False)):
        head = HEAD.replace("||P|H2.4", f"||{processing}|H2.4")
        assert only(PATIENT, REQUEST, POTASSIUM, head=head).test is expected


def test_comments_belong_to_the_segment_above() -> None:
    report = only(
        "C|1|L|a", PATIENT, "C|1|P|b", REQUEST, "C|1|L|c", POTASSIUM, "C|1|L|d^e", "A|f^g"
    )
    assert report.comments == (Comment(text="a", source="L"),)
    assert report.patient_comments == (Comment(text="b", source="P"),)
    assert report.batteries[0].comments == (Comment(text="c", source="L"),)
    assert report.observations()[0].comments == (Comment(text="d\nef\ng", source="L"),)


def test_escapes_are_undone_once() -> None:
    line = "OBX|1|ST|K~Label \\S\\ x~L||a \\T\\ b \\| c \\^ d \\\\ e||||||F"
    report = only(PATIENT, REQUEST, line)
    assert report.observations()[0].label == "Label ~ x"
    assert report.observations()[0].values == (Text(text="a & b | c ^ d \\ e"),)


def test_values_are_typed_by_their_segment() -> None:
    lines = (
        "OBX|1|NM|A~A~L||5.80|g/L|-6.00|H|||F",
        "OBX|2|ST|B~B~L||< 0.60|mg/L||<|||F",
        "OBX|3|CE|C~C~L||ECOLI~Escherichia coli~L^KLEB~Klebsiella~L||||||F",
        "OBX|4|TX|T~TITRE~L||.||||||F",
        "OBX|5|NM|D~D~L||hémolysé||||||F",
    )
    values = [line.values for line in only(PATIENT, REQUEST, *lines).observations()]
    assert values == [
        (Quantity(number="5.80"),),
        (Quantity(number="0.60", comparator="<"),),
        (
            Coded(code=Code(code="ECOLI", text="Escherichia coli", system="L")),
            Coded(code=Code(code="KLEB", text="Klebsiella", system="L")),
        ),
        (),
        (Text(text="hémolysé"),),
    ]


def test_antibiotics_keep_the_key_of_their_germ() -> None:
    line = "OBX|1|ST|AMX~Amoxicilline~L||Sensible|||S|||F||||BACT~1~ATB~1~1~G1"
    assert only(PATIENT, REQUEST, line).observations()[0].sub_id == "G1"


def test_withdrawn_results_say_so() -> None:
    assert only(PATIENT, REQUEST, POTASSIUM[:-1] + "D").observations()[0].status is (
        ResultStatus.DELETED
    )


def test_national_identifiers_of_version_2_5_are_told_apart() -> None:
    patient = PATIENT.replace("|MARTIN-TEST|", "|MARTIN-TEST~ANNE~ANNE MARIE|") + (
        "|||261039999900111~INS-NIR~~~~1.2.250.1.213.1.4.10"
    )
    report = only(patient, REQUEST, POTASSIUM)
    assert report.patient.identifier("INS") == "261039999900111"
    assert report.patient.first_given == "ANNE"
    assert report.patient.given_names == "ANNE MARIE"


def test_fields_without_a_word_are_kept_as_extras() -> None:
    report = only(PATIENT, REQUEST, POTASSIUM, "ZZZ|1|x")
    assert [(e.kind, e.text) for e in report.extras] == [("ZZZ", "ZZZ|1|x")]


def test_damaged_document_is_refused_not_emptied() -> None:
    with pytest.raises(ParseError) as refused:
        only(PATIENT, REQUEST, "OBX|1|PDF|CRMPDF~CR~L||J@@||||||F")
    assert refused.value.code == "HS-E09"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "HS-E01"),
        (message(PATIENT).replace(b"|~^\\&", b"|~~\\&", 1), "HS-E02"),
        (message(PATIENT).replace(b"|ORU|", b"|ZZZ|"), "HS-E03"),
        (message(PATIENT, REQUEST).replace(b"L|1\r\n", b""), "HS-E04"),
        (message(REQUEST), "HS-E05"),
        (message(PATIENT, REQUEST, "OBX|1||K~Potassium~L||4"), "HS-E07"),
        (b"\xff\xfeH\x00|", "HS-E08"),
    ],
)
def test_each_error_has_its_code(data: bytes, code: str) -> None:
    with pytest.raises(ParseError) as refused:
        parse(data, {})
    assert refused.value.code == code


def test_continuation_before_any_segment_is_refused() -> None:
    with pytest.raises(ParseError):
        parse(b"A|x\r\n", {})


@given(st.text(alphabet="ab|~^\\&", max_size=12), st.sampled_from("|~^&"))
def test_splitting_loses_no_character(text: str, separator: str) -> None:
    syntax = Syntax(Separators("|", "~", "^", "\\", "&"))
    assert separator.join(syntax.split(text, separator)) == text


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_damaged_messages_never_raise_anything_but_parse_errors(data: st.DataObject) -> None:
    whole = bytearray(message(PATIENT, REQUEST, POTASSIUM, "C|1|L|x"))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(whole)))
        whole[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=8))
    with suppress(ParseError):
        parse(bytes(whole), {})
    assert FORMAT.recognises(bytes(whole)) in (True, False)
