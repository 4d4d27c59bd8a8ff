"""HL7 v2 results: what is read, what is refused, and that nothing is lost in silence."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import hl7
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlx.contracts import Parsed
from dlx.errors import ParseError, RenderError
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Code,
    Coded,
    DateValue,
    Observation,
    Parent,
    Person,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Text,
    Value,
)
from dlx.testing.reports import microbiology, report_for
from dlx.testing.strategies import reports
from formats.hl7v2 import read_message, split_file
from formats.hl7v2_oru import FORMAT, parse, render
from formats.hl7v2_oru._fields import Fields

CORPUS = Path(__file__).parents[2].parent / "shared" / "corpus" / "hl7"
needs_corpus = pytest.mark.skipif(not CORPUS.is_dir(), reason="shared corpus not beside the repo")
NOBODY = Person()
SLOW_DATA = [HealthCheck.too_slow, HealthCheck.data_too_large]

MSH = r"MSH|^~\&|SIL|LABO-TEST|||20260112101500+0100||ORU^R01^ORU_R01|M1|P|2.5.1||||||UNICODE UTF-8"
PID = "PID|1||42^^^LABO&1.2.250.1.999.1&ISO^PI||DURAND-TEST^Zoé^Zoé Anne^^^^L||19790328|F"
OBR = "OBR|1|P1|B1^LABO|24331-1^Bilan^LN|||202601120805||||||||||||||||||F"


def message(*lines: str, header: str = MSH, pid: str = PID) -> bytes:
    return "\r".join([header, pid, *lines, ""]).encode()


def only(*lines: str, header: str = MSH, pid: str = PID) -> Report:
    (report,) = parse(message(*lines, header=header, pid=pid), {}).reports
    return report


def line(*segments: str) -> Observation:
    (observation,) = only(OBR, *segments).observations()
    return observation


def refusal(data: bytes) -> ParseError:
    with pytest.raises(ParseError) as refused:
        parse(data, {})
    return refused.value


def codes(parsed: Parsed) -> set[str]:
    return {d.code for d in parsed.diagnostics}


# --- the corpus: one row of its README each ------------------------------------------------------


def corpus(name: str) -> bytes:
    return (CORPUS / name).read_bytes()


def corpus_report(name: str) -> Report:
    (report,) = parse(corpus(name), {}).reports
    return report


def told(report: Report) -> Report:
    """The report without the id of its message."""
    return replace(report, message_id="")


@needs_corpus
def test_plain_report_is_read_with_every_value_and_escape() -> None:
    report = corpus_report("made/01-lab3-utf8.hl7")
    assert (report.number, report.issuer) == ("B260112-042", "LABO-EXEMPLE")
    assert report.status is ReportStatus.FINAL
    p = report.patient
    assert (p.birth_name, p.used_name) == ("TESTPATIENT", "EXEMPLE")
    assert (p.first_given, p.given_names) == ("ÉLODIE", "ÉLODIE MARIE")
    assert (p.birth_place, p.city, p.phones) == ("69383", "LYON", ("33 4 0123456",))
    assert p.identifier("INS") == "299999999999999"
    assert report.prescriber and report.prescriber.identifiers[0].type == "RPPS"
    assert report.copies and report.visit == "V100042"
    total, _, ldl = report.observations()
    assert total.values == (Quantity(number="5.80"),)
    assert total.codes[1] == Code(code="CHOL", text="Cholestérol", system="L")
    assert (total.unit, total.reference, total.flags) == ("mmol/L", "3.60-5.20", ("H",))
    assert ldl.values == (Quantity(number="0.50", comparator="<"),)
    (comment,) = ldl.comments
    assert comment.text == "Contrôle conseillé à 3 mois.\nSeuil > 5 & < 10 g^2, voir | fiche"
    assert comment.source == "L"


@needs_corpus
@pytest.mark.parametrize(
    ("name", "warned"),
    [
        ("02-iso8859-1", set()),
        ("04-no-charset-latin1", {"HL7-W01"}),
        ("05-declares-utf8-sends-latin1", {"HL7-W01"}),
        ("06-lf-line-ends", set()),
        ("07-crlf-line-ends", set()),
        ("08-bom-utf8", set()),
        ("09-mllp-framed", set()),
        ("10-five-encoding-chars", set()),
    ],
)
def test_other_envelopes_and_charsets_give_the_same_report(name: str, warned: set[str]) -> None:
    parsed = parse(corpus(f"made/{name}.hl7"), {})
    assert [told(r) for r in parsed.reports] == [told(corpus_report("made/01-lab3-utf8.hl7"))]
    assert codes(parsed) == warned


@needs_corpus
def test_custom_separators_give_the_same_report_and_escapes_mean_them() -> None:
    report = corpus_report("made/11-custom-separators.hl7")
    usual = corpus_report("made/01-lab3-utf8.hl7")
    assert report.patient == usual.patient and report.prescriber == usual.prescriber
    assert [o.values for o in report.observations()] == [o.values for o in usual.observations()]
    assert "5 @ < 10 g:2, voir $ fiche" in report.observations()[-1].comments[0].text


@needs_corpus
def test_the_euro_sign_of_8859_15_is_read() -> None:
    comments = corpus_report("made/03-iso8859-15-euro.hl7").observations()[-1].comments
    assert comments[-1].text == "Hors nomenclature : 27 €"


@needs_corpus
def test_a_correction_has_the_key_of_the_preliminary_report() -> None:
    first = corpus_report("made/12-preliminary.hl7")
    second = corpus_report("made/13-correction-of-12.hl7")
    assert (first.number, first.issuer) == (second.number, second.issuer)
    assert (first.status, second.status) == (ReportStatus.PARTIAL, ReportStatus.CORRECTED)
    assert [o.status.value for o in first.observations()] == ["P", "I"]
    assert [o.status.value for o in second.observations()] == ["C", "F"]


@needs_corpus
def test_a_cancelled_report_shows_no_value_and_null_is_not_text() -> None:
    report = corpus_report("made/14-cancelled-and-deleted.hl7")
    assert report.status is ReportStatus.CANCELLED
    assert [o.values for o in report.observations()] == [(), ()]
    assert [o.status for o in report.observations()] == [
        ResultStatus.UNOBTAINABLE,
        ResultStatus.DELETED,
    ]


@needs_corpus
def test_the_antibiogram_is_linked_to_its_germ() -> None:
    culture, antibiogram = corpus_report("made/15-culture-parent-child.hl7").batteries
    assert culture.parent is None
    assert antibiogram.parent == Parent(
        code=Code(code="11475-1", text="Micro-organisme", system="LN"),
        sub_id="1",
        text="Escherichia coli",
        number="B260112-042",
    )
    assert [o.flags for o in antibiogram.observations] == [("S",), ("R",), ("I",)]


@needs_corpus
def test_the_embedded_pdf_is_an_attachment_byte_for_byte() -> None:
    (pdf,) = corpus_report("made/16-embedded-pdf.hl7").attachments
    assert pdf.media_type == "application/pdf"
    assert pdf.content.startswith(b"%PDF-1.4") and pdf.content.rstrip().endswith(b"%%EOF")
    assert pdf.title == "CR d'examens biologiques"


@needs_corpus
def test_z_segments_are_kept_with_their_place() -> None:
    report = corpus_report("made/17-z-segments.hl7")
    assert [(e.place, e.kind, e.text) for e in report.extras] == [
        ("after OBX 1", "ZLB", "ZLB|1|note interne|~répété"),
        ("after NTE 1", "ZFX", "ZFX|fin"),
    ]
    assert len(report.observations()) == 3


@needs_corpus
@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("18-cisis-initial", ReportStatus.FINAL),
        ("19-cisis-replace", ReportStatus.CORRECTED),
    ],
)
def test_the_document_carrier_gives_its_cda_and_keeps_participants(
    name: str, status: ReportStatus
) -> None:
    report = corpus_report(f"made/{name}.hl7")
    assert (report.number, report.status) == ("1001", status)
    (cda,) = report.attachments
    assert cda.media_type == "text/xml" and cda.content.startswith(b"<ClinicalDocument")
    assert report.observations() == ()
    assert [e.kind for e in report.extras].count("PRT") == 4
    assert [e.kind for e in report.extras].count("OBX") == 10


@needs_corpus
def test_a_document_whose_actions_contradict_each_other_is_refused() -> None:
    assert refusal(corpus("made/20-cisis-orc-obx-disagree.hl7")).code == "HL7-E11"


@needs_corpus
def test_a_batch_gives_its_two_messages() -> None:
    parsed = parse(corpus("made/21-batch-file.hl7"), {})
    assert [r.message_id for r in parsed.reports] == ["M21A", "M21B"]
    assert parsed.several_expected and not parsed.diagnostics


@needs_corpus
def test_a_batch_with_a_wrong_count_is_reported_and_its_message_kept() -> None:
    parsed = parse(corpus("made/22-batch-wrong-count.hl7"), {})
    assert len(parsed.reports) == 1
    assert codes(parsed) == {"HL7-W06"}


@needs_corpus
def test_a_message_cut_in_mid_segment_is_refused_with_its_segment() -> None:
    error = refusal(corpus("made/23-truncated.hl7"))
    assert (error.code, error.line) == ("HL7-E06", 6)


PUBLIC = {  # number, status, lines, test
    "fc-lab-oru-1": ("82503246", ReportStatus.PARTIAL, 10, True),
    "fc-lab-oru-2": ("890775544", ReportStatus.FINAL, 10, True),
    "fc-lri-cbc": ("R-991133", ReportStatus.FINAL, 28, True),
    "fc-oru-ed-rp-nte": ("986", ReportStatus.PARTIAL, 3, True),
    "fc-oru-v24": ("1045813", ReportStatus.FINAL, 1, False),
    "ipf-msg-02-v24-multi-obr": ("HL007545P", ReportStatus.FINAL, 3, True),
    "ipf-msg-10": ("2007070111132896", ReportStatus.FINAL, 1, False),
    "ipf-oru-r01-25-spm": ("434241", ReportStatus.FINAL, 4, True),
    "ipf-pcd01-max-v26": ("CD12345", ReportStatus.PARTIAL, 10, False),
    "lfh-oru-v26-mixed-nte": ("FON_0d70c6c8", ReportStatus.FINAL, 4, True),
    "rb-nist-elr-1": ("9700123", ReportStatus.FINAL, 1, False),
    "rb-realm-err": ("9700123", ReportStatus.FINAL, 1, True),
}


@needs_corpus
@pytest.mark.parametrize("name", PUBLIC)
def test_public_messages_are_read(name: str) -> None:
    report = corpus_report(f"public/{name}.hl7")
    told_of = (report.number, report.status, len(report.observations()), report.test)
    expected = PUBLIC[name]
    if name in ("rb-nist-elr-1", "rb-realm-err"):  # judged on content, not on the mode
        told_of, expected = told_of[:3], expected[:3]
    assert told_of == expected


@needs_corpus
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("ipf-msg-08-z-segment", "HL7-E09"),  # results without an OBR: no number
        ("ipf-wan-invalid-glucose", "HL7-E10"),  # no birth date
        ("rb-obx-obr-v22", "HL7-E06"),  # no final CR, last OBX without status
    ],
)
def test_public_messages_that_cannot_be_trusted_are_refused(name: str, code: str) -> None:
    assert refusal(corpus(f"public/{name}.hl7")).code == code


@needs_corpus
@pytest.mark.parametrize("name", ["rb-realm-batch", "rb-realm-bad-batch"])
def test_public_batches_give_two_reports(name: str) -> None:
    parsed = parse(corpus(f"public/{name}.hl7"), {})
    assert len(parsed.reports) == 2 and parsed.several_expected


@needs_corpus
def test_every_file_is_recognised_and_written_back_byte_for_byte() -> None:
    files = sorted(CORPUS.glob("*/*.hl7"))
    assert len(files) >= 40
    for path in files:
        data = path.read_bytes()
        assert FORMAT.recognises(data[:4096]), path.name
        for part in split_file(data).messages:
            assert read_message(part).encode() == part, path.name


# --- reading, one rule at a time -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        ("NM", "5.80", (Quantity(number="5.80"),)),
        ("NM", "1 000", (Quantity(number="1 000"),)),
        ("NM", "<5", (Quantity(number="5", comparator="<"),)),
        ("NM", "1~2", (Quantity(number="1"), Quantity(number="2"))),
        ("SN", ">=^10", (Quantity(number="10", comparator=">="),)),
        ("SN", "^1^:^128", (Quantity(number="1", separator=":", second="128"),)),
        ("ST", "négatif & clair", (Text(text="négatif & clair"),)),
        ("TX", "un~~deux", (Text(text="un\n\ndeux"),)),
        ("FT", r"un\.br\deux", (Text(text="un\ndeux", formatted=True),)),
        (
            "CE",
            "1^E. coli^SCT^EC^coli^L",
            (
                Coded(
                    code=Code(code="1", text="E. coli", system="SCT"),
                    alternate=Code(code="EC", text="coli", system="L"),
                ),
            ),
        ),
        ("CWE", "1^^SCT^^^^^^dit", (Coded(code=Code(code="1", text="dit", system="SCT")),)),
        ("CX", "12^^^LABO", (Text(text="12^^^LABO"),)),
        ("XX", "a^b", (Text(text="a^b"),)),
        ("DT", "20260112", (DateValue(text="20260112", kind="DT"),)),
        ("TM", "1015", (DateValue(text="1015", kind="TM"),)),
        ("TS", "202601121015", (DateValue(text="202601121015", kind="TS"),)),
        (
            "ED",
            "labo^AP^PDF^Base64^JVBERg==",
            (Attachment(media_type="application/pdf", content=b"%PDF", title="labo"),),
        ),
        (
            "RP",
            "images/1.png^visu^image^png",
            (Attachment(media_type="image/png", title="visu", reference="images/1.png"),),
        ),
        ("NM", '""', ()),
        ("NM", "", ()),
    ],
)
def test_every_value_type_is_read(kind: str, field: str, values: tuple[Value, ...]) -> None:
    assert line(f"OBX|1|{kind}|X^x^L||{field}||||||F").values == values


def test_text_in_a_number_field_stays_text_with_a_warning() -> None:
    data = message(OBR, "OBX|1|NM|X^x^L||positif||||||F")
    assert codes(parse(data, {})) == {"HL7-W11"}
    assert line("OBX|1|NM|X^x^L||positif||||||F").values == (Text(text="positif"),)


@pytest.mark.parametrize("data", ["JVBER", "JV*ERg==", "J"])
def test_a_damaged_document_is_refused_with_its_segment(data: str) -> None:
    error = refusal(message(OBR, f"OBX|1|ED|IMG^x^L||^image^png^Base64^{data}||||||F"))
    assert (error.code, error.line) == ("HL7-E08", 4)


def test_base64_without_padding_is_completed_with_a_warning() -> None:
    data = message(OBR, "OBX|1|ED|IMG^x^L||^image^png^Base64^JVBERg||||||F")
    parsed = parse(data, {})
    assert codes(parsed) == {"HL7-W10"}
    (value,) = parsed.reports[0].observations()[0].values
    assert isinstance(value, Attachment) and value.content == b"%PDF"


@pytest.mark.parametrize(
    ("order", "letters", "status"),
    [
        ("F", "FF", ReportStatus.FINAL),
        ("", "FU", ReportStatus.FINAL),
        ("F", "FX", ReportStatus.FINAL),
        ("F", "FP", ReportStatus.PARTIAL),
        ("F", "FI", ReportStatus.PARTIAL),
        ("F", "FR", ReportStatus.PARTIAL),
        ("F", "FS", ReportStatus.PARTIAL),
        ("P", "FF", ReportStatus.PARTIAL),
        ("A", "FF", ReportStatus.PARTIAL),
        ("?", "FF", ReportStatus.PARTIAL),
        ("F", "F?", ReportStatus.PARTIAL),
        ("", "F", ReportStatus.FINAL),
        ("", "", ReportStatus.PARTIAL),
        ("C", "FF", ReportStatus.CORRECTED),
        ("F", "FC", ReportStatus.CORRECTED),
        ("F", "FD", ReportStatus.CORRECTED),
        ("F", "FW", ReportStatus.CORRECTED),
        ("C", "CP", ReportStatus.PARTIAL),
        ("X", "XD", ReportStatus.CANCELLED),
        ("X", "", ReportStatus.CANCELLED),
        ("X", "XF", ReportStatus.FINAL),
        ("", "DD", ReportStatus.CANCELLED),
    ],
)
def test_the_status_follows_every_line_and_order(
    order: str, letters: str, status: ReportStatus
) -> None:
    lines = [f"OBX|{n}|NM|X^x^L||1||||||{letter}" for n, letter in enumerate(letters, start=1)]
    assert only(OBR.removesuffix("F") + order, *lines).status is status


def test_a_line_without_status_never_releases_by_itself() -> None:
    bare = "OBX|1|NM|X^x^L||1"
    assert only(OBR.removesuffix("F"), bare).status is ReportStatus.PARTIAL
    parsed = parse(message(OBR, bare), {})
    assert parsed.reports[0].status is ReportStatus.FINAL
    assert codes(parsed) == {"HL7-W20"}


def test_notes_belong_to_what_stands_before_them() -> None:
    report = only(
        "NTE|1||du patient",
        "ORC|RE",
        "NTE|1||de la demande",
        OBR,
        "NTE|2||aussi~et encore",
        "OBX|1|NM|X^x^L||1||||||F",
        "NTE|1|L|de la ligne|RE^Remark",
        "NTE|2||",
        'NTE|3||""',
    )
    assert [c.text for c in report.patient_comments] == ["du patient"]
    assert [c.text for c in report.batteries[0].comments] == ["de la demande", "aussi\net encore"]
    (comment,) = report.observations()[0].comments
    assert (comment.text, comment.source, comment.kind) == ("de la ligne", "L", "RE")


def test_several_patients_give_several_reports() -> None:
    other = PID.replace("DURAND", "MARTIN").replace("42^", "43^")
    data = message(OBR, "OBX|1|NM|X||1||||||F", other, OBR.replace("B1", "B2"))
    first, second = parse(data, {}).reports
    assert (first.number, second.number) == ("B1", "B2")
    assert (len(first.observations()), len(second.observations())) == (1, 0)
    assert second.patient.birth_name == "MARTIN-TEST"


def test_orders_with_different_numbers_take_the_common_one_else_the_first() -> None:
    second = OBR.replace("B1", "B2")
    report = only(OBR, second)
    assert (report.number, [b.number for b in report.batteries]) == ("B1", ["", "B2"])
    assert codes(parse(message(OBR, second), {})) == {"HL7-W09"}
    together = only("ORC|RE|||G1^LABO", OBR, "ORC|RE|||G1^LABO", second)
    assert (together.number, [b.number for b in together.batteries]) == ("G1", ["B1", "B2"])


def test_the_number_may_stand_in_orc_and_its_issuer_in_msh() -> None:
    report = only("ORC|RE||B9", OBR.replace("B1^LABO", ""))
    assert (report.number, report.issuer) == ("B9", "LABO-TEST")


def test_a_report_without_number_is_refused() -> None:
    error = refusal(message(OBR.replace("B1^LABO", "")))
    assert error.code == "HL7-E09" and "numéro de dossier absent" in error.message


@pytest.mark.parametrize(
    "pid",
    [
        PID.replace("DURAND-TEST^Zoé^Zoé Anne^^^^L", ""),
        PID.replace("19790328", ""),
        PID.replace("19790328", '""'),
        "ZZZ|1",
    ],
)
def test_a_report_without_identity_is_refused_without_naming_it(pid: str) -> None:
    error = refusal(message(OBR, pid=pid))
    assert error.code == "HL7-E10"
    assert "DURAND" not in str(error) and "Zoé" not in str(error)


def test_an_unreal_birth_date_is_kept_as_text() -> None:
    patient = only(OBR, pid=PID.replace("19790328", "19790230")).patient
    assert (patient.birth_date, patient.birth_date_text) == (None, "19790230")


def test_the_ins_is_told_by_its_oid_and_keeps_its_place() -> None:
    pid = PID.replace("42^^^", "299999999999999^^^&1.2.250.1.213.1.4.8&ISO~42^^^")
    assert [i.type for i in only(OBR, pid=pid).patient.identifiers] == ["INS", "PI"]


@pytest.mark.parametrize(
    ("xcn", "kind", "number"),
    [
        ("99700000001^A^B^^^^^^^^^^RPPS", "RPPS", "99700000001"),
        ("99700000001^A^B^^^^^^ASIP&1.2.250.1.71.4.2.1&ISO", "RPPS", "99700000001"),
        ("899700000001^A^B^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS", "RPPS", "99700000001"),
        ("0691234567^A^B^^^^^^&1.2.250.1.71.4.2.1&ISO^D^^^IDNPS", "ADELI", "691234567"),
        ("99700000001^A^B", "", "99700000001"),
        ("LEFA^A^B", "", "LEFA"),
    ],
)
def test_the_rpps_is_read_only_where_it_is_declared(xcn: str, kind: str, number: str) -> None:
    order = OBR.replace("202601120805|||||||||", f"202601120805|||||||||{xcn}")
    prescriber = only(order).prescriber
    assert prescriber is not None
    assert [(i.type, i.value) for i in prescriber.identifiers] == [(kind, number)]


def test_two_numbers_under_one_name_are_one_prescriber() -> None:
    xcn = "LEFA^LEFEVRE^Anne~99700000001^LEFEVRE^Anne^^^^^^^^^^RPPS~X^AUTRE^Paul"
    report = only(OBR.replace("202601120805|||||||||", f"202601120805|||||||||{xcn}"))
    assert report.prescriber and len(report.prescriber.identifiers) == 2
    assert [c.family for c in report.copies] == ["AUTRE"]


@pytest.mark.parametrize(
    "lines",
    [
        (OBR.replace("^LN|", "^LN|S"),),
        (OBR + "||^^^^^S",),
        (OBR, "TQ1|1||||||||S^Stat"),
        ("ORC|RE", "TQ1|1||||||||A", OBR),
    ],
)
def test_urgency_is_read_wherever_it_is_said(lines: tuple[str, ...]) -> None:
    assert only(*lines).urgent
    assert not only(OBR).urgent


@pytest.mark.parametrize("mode", ["T", "D"])
def test_test_messages_are_marked(mode: str) -> None:
    assert only(OBR, header=MSH.replace("|P|", f"|{mode}|")).test


def test_a_message_without_final_end_is_held_unless_the_feed_says_otherwise() -> None:
    data = message(OBR, "OBX|1|NM|X||1||||||F").removesuffix(b"\r")
    (held,) = parse(data, {}).reports
    (accepted,) = parse(data, {"unterminated": "accept"}).reports
    assert held.incomplete and not accepted.incomplete


def test_a_continued_message_is_incomplete() -> None:
    assert only(OBR, "DSC|suite|I").incomplete


def test_other_message_types_are_refused() -> None:
    error = refusal(message(OBR, header=MSH.replace("ORU^R01^ORU_R01", "ADT^A01")))
    assert (error.code, error.line, error.column) == ("HL7-E07", 1, 9)


def test_one_bad_message_of_a_batch_does_not_lose_the_others() -> None:
    good = message(OBR)
    parsed = parse(b"BHS|^~\\&\r" + good + message("ZZZ") + good + b"BTS|3\r", {})
    assert len(parsed.reports) == 2
    assert [(r.position, r.error.code) for r in parsed.refused] == [(2, "HL7-E09")]


def test_an_unknown_fallback_charset_is_a_parse_error() -> None:
    with pytest.raises(ParseError, match="HL7-E03"):
        parse(message(OBR), {"charset": "latin-martien"})


# --- writing -------------------------------------------------------------------------------------


def back(report: Report, **options: str) -> Report:
    (read,) = parse(render(report, NOBODY, options).content, {}).reports
    return told(read)


def plain(report: Report) -> Report:
    """A synthetic report without what ORU has no field for."""
    batteries = tuple(
        replace(b, observations=tuple(replace(o, second=None, previous=()) for o in b.observations))
        for b in report.batteries
    )
    return replace(report, batteries=batteries, source_format="oru")


@pytest.mark.parametrize("status", ReportStatus)
def test_the_reference_report_comes_back_unchanged(status: ReportStatus) -> None:
    for seed in range(5):
        report = plain(report_for(seed=seed, status=status, urgent=True, copies=("A", "B")))
        assert render(report, NOBODY, {}).losses == ()
        assert back(report) == report


def test_a_culture_comes_back_with_its_links() -> None:
    report = replace(microbiology(germs=3), source_format="oru")
    assert back(report) == replace(report, validated_by=())


VERSIONS = st.sampled_from(("2.5.1", "2.4", "2.3.1"))


@settings(max_examples=10, deadline=None, suppress_health_check=SLOW_DATA)
@given(reports(), VERSIONS)
def test_nothing_is_lost_in_silence(report: Report, version: str) -> None:
    check_that_nothing_is_lost_in_silence(report, version)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_DATA)
@given(reports(), VERSIONS)
def test_nothing_is_lost_in_silence_in_many_reports(report: Report, version: str) -> None:
    check_that_nothing_is_lost_in_silence(report, version)


def check_that_nothing_is_lost_in_silence(report: Report, version: str) -> None:
    rendition = render(report, NOBODY, {"version": version})
    (read,) = parse(rendition.content, {}).reports
    sent = replace(report, version=0, replaces=0, source_format="oru")
    assert rendition.losses or told(read) == sent
    assert read.number == report.number and read.status is report.status


@settings(max_examples=10, deadline=None, suppress_health_check=SLOW_DATA)
@given(reports())
def test_what_was_read_from_oru_is_carried_by_oru_without_loss(report: Report) -> None:
    check_that_what_was_read_is_carried_without_loss(report)


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=SLOW_DATA)
@given(reports())
def test_what_was_read_from_oru_is_carried_by_oru_in_many_reports(report: Report) -> None:
    check_that_what_was_read_is_carried_without_loss(report)


def check_that_what_was_read_is_carried_without_loss(report: Report) -> None:
    carried = back(report)
    again = render(carried, NOBODY, {})
    assert again.losses == ()
    assert told(parse(again.content, {}).reports[0]) == carried
    assert again.content == render(carried, NOBODY, {}).content


def test_what_is_remembered_from_one_message_to_the_next_names_no_patient_and_no_value() -> None:
    report = plain(report_for(seed=7))
    line = replace(report.batteries[0].observations[0], values=(Quantity(number="4321.123"),))
    report = replace(report, batteries=(replace(report.batteries[0], observations=(line,)),))
    fields = Fields(read_message(render(report, NOBODY, {}).content))
    parse(render(report, NOBODY, {}).content, {})
    terms = fields.terms
    people = terms.people.values()
    memories = (terms.codes, terms.analytes, terms.units, terms.flags, terms.laboratories, *people)
    known = repr(memories)
    assert "Glyc" in known and "LEFEVRE-TEST" in known  # analytes and doctors are
    patient = report.patient
    for said in (patient.birth_name, patient.identifiers[1].value, report.number, "4321.123"):
        assert said not in known


def with_text(text: str) -> Report:
    report = plain(report_for(results=1))
    (battery,) = report.batteries
    entry = replace(battery.observations[0], values=(Text(text=text),), value_type="ST", unit="")
    return replace(report, batteries=(replace(battery, observations=(entry,)),))


def test_a_text_can_never_inject_a_segment() -> None:
    report = with_text("fin\nOBX|2|NM|FAUX||999||||||F\x0b\x1c")
    rendition = render(report, NOBODY, {})
    assert rendition.content.count(b"\rOBX|") == 1
    assert not {0x0B, 0x1C, 0x0A} & set(rendition.content)
    assert back(report).observations()[0].values == report.observations()[0].values


def test_a_lone_carriage_return_in_a_value_is_refused_rather_than_changed() -> None:
    with pytest.raises(RenderError, match="HL7-R03"):
        render(with_text("un\rdeux"), NOBODY, {})


def test_latin_sets_are_written_and_declared() -> None:
    report = plain(report_for())
    for charset in ("8859/1", "8859/15"):
        rendition = render(report, NOBODY, {"charset": charset})
        assert f"|{charset}\r".encode() in rendition.content
        assert rendition.losses == ()
        assert back(report, charset=charset) == report


def test_a_value_that_the_charset_lacks_is_refused() -> None:
    with pytest.raises(RenderError, match="HL7-R04"):
        render(with_text("≤ 5"), NOBODY, {"charset": "8859/1"})


def test_typography_that_the_charset_lacks_is_replaced_and_said() -> None:
    report = plain(report_for(results=1))
    entry = replace(report.batteries[0].observations[0], label="Dosage de l’œstradiol", codes=())
    report = replace(report, batteries=(replace(report.batteries[0], observations=(entry,)),))
    rendition = render(report, NOBODY, {"charset": "8859/1"})
    assert [loss for loss in rendition.losses if "U+2019" in loss]
    assert b"Dosage de l'oestradiol" in rendition.content


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"incomplete": True}, "HL7-R01"),
        ({"number": ""}, "HL7-R02"),
        ({"number": " 12"}, "HL7-R03"),
    ],
)
def test_a_report_that_cannot_be_written_is_refused(change: dict[str, object], code: str) -> None:
    with pytest.raises(RenderError, match=code):
        render(replace(report_for(), **change), NOBODY, {})  # type: ignore[arg-type]


def test_a_report_of_one_printable_text_carries_it_as_a_result() -> None:
    report = replace(report_for(results=0), text="Compte rendu\nlibre")
    rendition = render(report, NOBODY, {})
    assert b"|Compte rendu\\.br\\libre|" in rendition.content
    assert rendition.losses


def test_the_control_id_changes_with_the_version_only() -> None:
    report = report_for()

    def control_id(r: Report) -> str:
        return parse(render(r, NOBODY, {}).content, {}).reports[0].message_id

    assert control_id(report) == control_id(report_for())
    assert len({control_id(replace(report, version=n)) for n in range(3)}) == 3
    assert len(control_id(report)) <= 20


def test_moments_keep_their_precision() -> None:
    report = replace(plain(report_for(results=1)), issued=Moment("202601"))
    assert back(report).issued == Moment("202601")


# --- other people's readers agree ----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_python_hl7_reads_the_values_that_we_wrote(seed: int) -> None:
    report = report_for(seed=seed)
    read = hl7.parse(render(report, NOBODY, {}).content.decode())
    for segment, entry in zip(read.segments("OBX"), report.observations(), strict=True):
        (value,) = entry.values
        assert isinstance(value, Quantity)
        written = str(segment[5]).split("^")
        assert written == ([value.comparator, value.number] if value.comparator else [value.number])
        assert str(segment[3][0][0]) == entry.codes[0].code
        assert read.unescape(str(segment[3][0][1])) == entry.label
        assert str(segment[7]) == entry.reference


@pytest.mark.slow
@pytest.mark.parametrize("version", ["2.5.1", "2.4", "2.3.1"])
def test_hl7apy_reads_the_values_that_we_wrote(version: str) -> None:
    from hl7apy.parser import parse_message

    report = report_for(results=12, urgent=True, copies=("B",))
    text = render(report, NOBODY, {"version": version}).content.decode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = parse_message(text, find_groups=False)
    segments = [child.to_er7().split("|") for child in tree.children]
    assert [f[5].split("^")[0] for f in segments if f[0] == "PID"] == [report.patient.birth_name]
    results = [fields for fields in segments if fields[0] == "OBX"]
    for fields, entry in zip(results, report.observations(), strict=True):
        (value,) = entry.values
        assert isinstance(value, Quantity)
        assert fields[5].split("^")[-1] == value.number
        assert (fields[7], fields[11]) == (entry.reference, entry.status.value)
        assert fields[8] == "".join(entry.flags)


# --- hostile bytes -------------------------------------------------------------------------------


def samples() -> list[bytes]:
    files = sorted(CORPUS.glob("*/*.hl7")) if CORPUS.is_dir() else []
    return [path.read_bytes() for path in files] or [message(OBR, "OBX|1|NM|X||1||||||F")]


SAMPLES = samples()


@settings(max_examples=120, deadline=2000, suppress_health_check=SLOW_DATA)
@given(
    st.sampled_from(SAMPLES),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=3)), max_size=4),
)
def test_damaged_files_give_reports_or_parse_errors_and_nothing_else(
    data: bytes, kept: float, edits: list[tuple[float, bytes]]
) -> None:
    damaged = bytearray(data[: int(len(data) * kept)])
    for place, new in edits:
        at = int(len(damaged) * place)
        damaged[at : at + len(new)] = new
    FORMAT.recognises(bytes(damaged[:4096]))
    try:
        parsed = parse(bytes(damaged), {})
    except ParseError as error:
        assert error.code.startswith("HL7-E")
    else:
        assert all(r.number and r.patient.family for r in parsed.reports)


@settings(max_examples=40, deadline=2000)
@given(st.integers(1, 400))
def test_a_cut_message_is_never_taken_for_a_complete_one(cut: int) -> None:
    whole = message(OBR, "OBX|1|NM|X^x^L||12345||||||F", "NTE|1||remarque")
    try:
        parsed = parse(whole[: max(0, len(whole) - cut)], {})
    except ParseError:
        return
    # A cut exactly between two segments cannot be seen; any other is held.
    cut_at_end = whole[len(whole) - cut - 1 : len(whole) - cut] == b"\r"
    assert cut_at_end or all(r.incomplete for r in parsed.reports)


def test_a_file_of_nothing_but_unknown_segments_is_read_in_linear_time() -> None:
    data = message(OBR, *["ZZZ|1"] * 20_000)
    assert len(parse(data, {}).reports[0].extras) == 20_000
