"""The printed sheet: everything is on it, inside its margins, readable by machines, repeatable."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pikepdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlx.errors import RenderError
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Comment,
    Extra,
    Identifier,
    Observation,
    Person,
    Previous,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Text,
)
from dlx.testing.reports import microbiology, prescriber_for, report_for
from formats.pdf import FORMAT, composed, render
from formats.pdf._fonts import faces
from formats.pdf._model import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, Line, Page

NOBODY = Person()
OPTIONS = dict(FORMAT.options)


def pdf_of(report: Report, **options: str) -> bytes:
    return render(report, NOBODY, {**OPTIONS, **options}).content


def pages_of(report: Report) -> list[Page]:
    return composed(report, OPTIONS)[0]


def drawn_on(page: Page) -> str:
    """The page as one text, in drawing order."""
    return " ".join(run.text for _, line in page for run in line.runs)


def drawn(report: Report) -> str:
    return " ".join(map(drawn_on, pages_of(report)))


def squeezed(text: str) -> str:
    return re.sub(r"\s+", "", text)


def extracted(content: bytes, tmp_path: Path, *more: str) -> str:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext (poppler-utils) absent")
    file = tmp_path / "sheet.pdf"
    file.write_bytes(content)
    done = subprocess.run(
        ["pdftotext", *more, "-enc", "UTF-8", str(file), "-"], capture_output=True, check=True
    )
    return done.stdout.decode()


def with_line(**fields: object) -> Report:
    """A report whose first line is changed."""
    report = report_for(seed=4, results=6)
    battery = report.batteries[0]
    first = replace(battery.observations[0], **fields)  # type: ignore[arg-type]
    lines = (first, *battery.observations[1:])
    return replace(report, batteries=(replace(battery, observations=lines),))


def wanted(report: Report) -> list[str]:
    """Every label, value, unit and reference that the doctor must find."""
    words = [report.number]
    for line in report.observations():
        words += [line.label, line.unit, line.reference]
        words += [value.text for value in line.values if not isinstance(value, Attachment)]
        words += [previous.value for previous in line.previous]
        if line.second:
            words += [line.second.value.text, line.second.unit, line.second.reference]
        words += [comment.text for comment in line.comments]
    return words


def assert_inside(pages: list[Page]) -> None:
    """Every text fits its column and the margins; lines of a page do not overlap."""
    for page in pages:
        flowing, foot = page[:-1], page[-1]
        bottom = TOP
        for top, line in flowing:
            assert top >= bottom - 0.01
            bottom = top + line.height
        assert bottom <= foot[0]
        for top, line in page:
            assert top + line.height <= HEIGHT - BOTTOM + 0.01
            for run in line.runs:
                width = run.style.width(run.text)
                assert width <= run.limit + 0.02
                assert run.x >= LEFT - 0.02
                assert run.x + width <= RIGHT + 0.02
                assert 0 < run.y <= line.height


SAMPLES = {
    "ordinary": report_for(seed=3),
    "partial": report_for(seed=5, status=ReportStatus.PARTIAL, copies=("DUPO", "MART")),
    "corrected": report_for(seed=6, status=ReportStatus.CORRECTED, urgent=True),
    "cancelled": report_for(seed=7, results=5, status=ReportStatus.CANCELLED),
    "microbiology": microbiology(seed=2, germs=3),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_value_unit_and_reference_can_be_extracted(name: str, tmp_path: Path) -> None:
    report = SAMPLES[name]
    text = squeezed(extracted(pdf_of(report), tmp_path, "-layout"))
    assert [word for word in wanted(report) if squeezed(word) not in text] == []


def test_reading_order_is_label_value_unit_reference(tmp_path: Path) -> None:
    report = with_line(comments=(), second=None, previous=(), flags=("H",))
    line = report.observations()[0]
    value = line.values[0]
    assert isinstance(value, Quantity)
    text = squeezed(extracted(pdf_of(report), tmp_path, "-raw"))
    assert squeezed(f"{line.label}▲{value.text}{line.unit}{line.reference}") in text


@pytest.mark.parametrize("name", SAMPLES)
def test_qpdf_finds_no_error(name: str, tmp_path: Path) -> None:
    if shutil.which("qpdf") is None:
        pytest.skip("qpdf absent")
    file = tmp_path / "sheet.pdf"
    file.write_bytes(pdf_of(SAMPLES[name]))
    done = subprocess.run(["qpdf", "--check", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_same_report_gives_the_same_bytes_and_another_one_another_identifier() -> None:
    first, again, other = (pdf_of(report_for(seed=s)) for s in (1, 1, 2))
    assert first == again
    ids = [pikepdf.open(io.BytesIO(content)).trailer["/ID"][0] for content in (first, other)]
    assert bytes(ids[0]) != bytes(ids[1])


def test_fonts_are_all_embedded_with_their_unicode() -> None:
    report = with_line(comments=(Comment(text="Naïveté Жук Ελλάδα Ș ✓"),))
    with pikepdf.open(io.BytesIO(pdf_of(report))) as pdf:
        fonts = dict(pdf.pages[0].Resources.Font.items())
        assert len(fonts) > 4
        for font in fonts.values():
            assert "/ToUnicode" in font
            assert "/FontFile2" in font.FontDescriptor


def test_the_everyday_report_needs_two_fonts_and_less_than_60_kilobytes() -> None:
    content = pdf_of(report_for(seed=3))
    assert len(content) < 60_000
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert set(pdf.pages[0].Resources.Font.keys()) == {"/B0", "/R0"}


def test_no_identity_in_the_information_and_nothing_active() -> None:
    report = report_for(seed=11)
    with pikepdf.open(io.BytesIO(pdf_of(report))) as pdf:
        assert str(pdf.docinfo["/Title"]) == "Compte rendu de biologie médicale"
        told = " ".join(str(value) for value in pdf.docinfo.values())
        assert report.patient.family not in told
        assert report.number not in told
        active = {"/AA", "/OpenAction", "/AcroForm", "/Names", "/URI", "/JS", "/Annots", "/A"}
        for item in pdf.objects:
            if isinstance(item, pikepdf.Dictionary | pikepdf.Stream):
                assert not active & set(item.keys())


def test_identity_dossier_and_page_number_are_on_every_page() -> None:
    report = replace(report_for(seed=3), batteries=report_for(seed=3).batteries * 4)
    pages = pages_of(report)
    assert len(pages) > 3
    for number, page in enumerate(pages, start=1):
        text = drawn_on(page)
        assert f"page {number}/{len(pages)}" in text
        assert f"Dossier n° {report.number}" in text
        assert f"{report.patient.family} {report.patient.given_names}" in text


def test_forty_pages_are_laid_out_without_overlap() -> None:
    report = replace(report_for(seed=3), batteries=report_for(seed=3).batteries * 40)
    pages = pages_of(report)
    assert len(pages) >= 40
    assert_inside(pages)
    with pikepdf.open(io.BytesIO(pdf_of(report))) as pdf:
        assert len(pdf.pages) == len(pages)


def test_a_heading_is_never_last_on_a_page() -> None:
    for shift in range(30):
        remark = Comment(text="\n".join("ligne" for _ in range(shift)))
        report = report_for(seed=3)
        first = replace(report.batteries[0], comments=(remark,))
        for page in pages_of(replace(report, batteries=(first, *report.batteries[1:]))):
            last = _last_with_text(page[:-1])
            assert not last.keep


def _last_with_text(page: Page) -> Line:
    return [line for _, line in page if line.runs][-1]


def test_a_continued_battery_repeats_its_heading_and_the_column_heads() -> None:
    report = report_for(seed=3)
    lines = report.batteries[0].observations * 8
    report = replace(report, batteries=(replace(report.batteries[0], observations=lines),))
    later = drawn_on(pages_of(report)[1])
    assert "Biochimie du sang (suite)" in later
    assert "Valeurs de référence" in later


def test_a_battery_that_opens_a_page_is_not_said_to_be_continued() -> None:
    report = replace(report_for(seed=3), batteries=report_for(seed=3).batteries * 12)
    for page in pages_of(report):
        texts = [" ".join(run.text for run in line.runs) for _, line in page if line.runs]
        for text, following in pairwise(texts):
            assert not text.endswith("(suite)") or following != text.removesuffix(" (suite)")


def test_a_corrected_result_is_told_in_bold() -> None:
    runs = [
        run
        for page in pages_of(with_line(status=ResultStatus.CORRECTED))
        for _, line in page
        for run in line.runs
    ]
    assert next(run for run in runs if run.text == "résultat corrigé").style.face.bold


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (ReportStatus.PARTIAL, "Résultats partiels"),
        (ReportStatus.CORRECTED, "Annule et remplace la version 2"),
        (ReportStatus.CANCELLED, "Annulé"),
    ],
)
def test_status_is_announced_on_every_page(status: ReportStatus, words: str) -> None:
    report = replace(report_for(seed=8, status=status), replaces=2, version=3)
    report = replace(report, batteries=report.batteries * 2)
    assert all(words in drawn_on(page) for page in pages_of(report))


def test_test_report_is_marked_on_every_page() -> None:
    pages = pages_of(report_for(seed=3, test=True))
    assert len(pages) == 2
    assert all("TEST" in drawn_on(page).replace("-TEST", "") for page in pages)


@pytest.mark.parametrize(
    ("flag", "sign"), [("H", "▲"), ("HH", "▲▲"), ("L", "▼"), ("LL", "▼▼"), ("A", "*"), ("R", "R")]
)
def test_an_abnormal_value_has_a_sign_and_weight(flag: str, sign: str) -> None:
    report = with_line(flags=(flag,), values=(Quantity(number="7.77"),))
    runs = [run for page in pages_of(report) for _, line in page for run in line.runs]
    assert sign in [run.text for run in runs]
    assert next(run for run in runs if run.text == "7.77").style.face.bold


def test_greek_letters_and_arrows_are_shown_and_extracted(tmp_path: Path) -> None:
    text = "Récepteur α-β γδε ηθκλ στφχψω ΔΓΛΣΦ ↑ ↓ → ← µ Ω π ≤ ≥ ⁺⁻ CO₂ √ ∞ ½ ● ✓ □"
    rendition = render(with_line(comments=(Comment(text=text),)), NOBODY, OPTIONS)
    assert rendition.losses == ()
    assert squeezed(text) in squeezed(extracted(rendition.content, tmp_path, "-layout"))


@pytest.mark.parametrize(
    "unit", ["10⁹/L", "10¹²/L", "µmol/L", "μmol/L", "m²", "‰", "mL·min⁻¹", "°C", "×10³/mm³"]
)
def test_units_of_laboratories_are_shown_and_extracted(unit: str, tmp_path: Path) -> None:
    report = with_line(unit=unit, reference="≤ 5,0", second=None, previous=())
    text = squeezed(extracted(pdf_of(report), tmp_path, "-layout"))
    assert f"{unit}≤5,0" in text


@pytest.mark.parametrize(
    "name", ["ȘTEFĂNESCU", "ŐRSI", "ŁUKASZ", "ŽIŽEK", "Đorđe", "Ģirts", "Nguyễn", "Жуков", "Ελένη"]
)
def test_names_of_europe_are_shown_and_extracted(name: str, tmp_path: Path) -> None:
    report = report_for(seed=4, results=3)
    patient = replace(report.patient, used_name=f"{name}-TEST", given_names=name)
    text = extracted(pdf_of(replace(report, patient=patient)), tmp_path, "-layout")
    assert text.count(f"{name}-TEST {name}") == 2  # the box and the foot


def test_a_decomposed_letter_is_printed_composed() -> None:
    report = with_line(label="He\u0301moglobine S\u0326")
    assert "Hémoglobine Ș" in drawn(report)


def test_digits_align_in_every_face() -> None:
    for face in faces():
        assert len({face.width(digit, 10) for digit in "0123456789"}) == 1


@pytest.mark.parametrize("text", ["محمد", "דוד", "नमस्ते"])
def test_scripts_that_would_come_out_wrong_are_named_in_a_comment(text: str) -> None:
    losses = render(with_line(comments=(Comment(text=text),)), NOBODY, OPTIONS).losses
    assert losses == (
        "caractères absents des polices, imprimés par leur code : "
        + ", ".join(f"U+{ord(char):04X}" for char in sorted(set(text))),
    )
    patient = replace(report_for(seed=1).patient, used_name=text)
    with pytest.raises(RenderError, match="PDF-E01"):
        pdf_of(replace(report_for(seed=1, results=1), patient=patient))


def test_sender_specific_segments_are_told_by_name_only() -> None:
    extras = (
        Extra(place="after PID", kind="ZFD", text="ZFD|1|SECRET"),
        Extra(place="after OBX 3", kind="ZOB", text="ZOB|x"),
        Extra(place="after OBX 4", kind="ZFD", text="ZFD|y"),
        Extra(place="end", kind="DUPONT Jean", text=""),
    )
    losses = render(replace(report_for(seed=1, results=1), extras=extras), NOBODY, OPTIONS).losses
    assert losses == ("segments propres à l'émetteur non imprimés : ZFD, ZOB, sans nom",)


def test_the_strict_traits_of_the_identity_are_printed() -> None:
    report = report_for(seed=3, results=1)
    assert "Lieu de naissance : 99999" in drawn(report)


def test_unknown_character_of_a_comment_is_named_and_told() -> None:
    report = with_line(comments=(Comment(text="avis 中 demandé"),))
    rendition = render(report, NOBODY, OPTIONS)
    assert "‹U+4E2D›" in drawn(report)
    assert rendition.losses == ("caractères absents des polices, imprimés par leur code : U+4E2D",)


@pytest.mark.parametrize(
    "fields",
    [{"values": (Text(text="中"),)}, {"unit": "中/L"}, {"reference": "中"}],
)
def test_unknown_character_where_nobody_may_guess_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(RenderError) as caught:
        pdf_of(with_line(**fields))
    assert caught.value.code == "PDF-E01"
    assert "中" not in str(caught.value)


def test_ins_is_printed_only_when_the_identity_is_qualified() -> None:
    report = report_for(seed=3)
    number = report.patient.identifier("INS")
    assert f"INS : {number}" in drawn(report)
    assert "identité qualifiée" in drawn(report)
    unproven = replace(report, patient=replace(report.patient, reliability="PROV"))
    assert number not in drawn(unproven)
    losses = render(unproven, NOBODY, OPTIONS).losses
    assert losses == ("matricule INS non imprimé : identité non qualifiée",)
    assert number not in losses[0]


def test_text_report_keeps_its_columns_in_fixed_pitch(tmp_path: Path) -> None:
    text = "GLYCÉMIE ........   5.23   mmol/L\nMAGNÉSIUM .......   0.82   mmol/L\n\nIIII WWWW"
    text += "\n│ 10⁹/L │ Ș ⁺"
    report = replace(report_for(seed=1, results=0), text=text)
    runs = [run for page in pages_of(report) for _, line in page for run in line.runs]
    mono = [run for run in runs if run.style.face.fixed]
    assert [run.text for run in mono] == [line for line in text.split("\n") if line]
    width = {run.style.width(run.text) / len(run.text) for run in mono}
    assert max(width) - min(width) < 1e-6
    got = extracted(pdf_of(report), tmp_path, "-layout")
    assert "GLYCÉMIE" in got
    assert "WWWW" in got


def test_long_text_report_lines_shrink_then_wrap_inside_the_margins() -> None:
    text = "\n".join(["x" * 100, "mot " * 60, "y" * 300])
    report = replace(report_for(seed=1, results=0), text=text)
    assert_inside(pages_of(report))
    assert squeezed(text) in squeezed(drawn(report))


def test_attachments_are_listed_and_told_as_not_reproduced() -> None:
    document = Attachment(media_type="application/pdf", title="Caryotype", content=b"%PDF-")
    report = replace(report_for(seed=1, results=3), attachments=(document,))
    assert "Caryotype (PDF, 1 Ko)" in drawn(report)
    losses = render(report, NOBODY, OPTIONS).losses
    assert losses == ("documents joints cités, non reproduits dans le PDF",)


def test_antibiogram_shows_germ_susceptibility_and_concentration(tmp_path: Path) -> None:
    report = microbiology(seed=2, germs=2)
    text = extracted(pdf_of(report), tmp_path, "-layout")
    assert "Antibiogramme — Escherichia coli" in text
    line = report.batteries[1].observations[0]
    value = line.values[0]
    assert isinstance(value, Quantity)
    assert squeezed(f"{line.label}{line.flags[0]}{value.text}{line.unit}") in squeezed(text)


def test_result_without_value_says_why() -> None:
    report = with_line(values=(), status=ResultStatus.PENDING, flags=())
    assert "en cours" in drawn(report)


def test_laboratory_options_are_printed() -> None:
    options = {
        "laboratory.name": "Laboratoire des Essais",
        "laboratory.address": "1 rue A;69003 LYON",
        "accreditation": "Accréditation n° 8-0000",
    }
    text = drawn_on(composed(report_for(seed=1, results=1), {**OPTIONS, **options})[0][0])
    for words in ("Laboratoire des Essais", "1 rue A", "69003 LYON", "Accréditation n° 8-0000"):
        assert words in text


def test_every_previous_result_is_printed_with_its_date() -> None:
    earlier = tuple(
        Previous(value=f"{k}.5", unit="g/L", moment=Moment(f"2024010{k}")) for k in range(1, 6)
    )
    text = drawn(with_line(previous=earlier))
    assert all(f"0{k}/01/2024  {k}.5  g/L" in text for k in range(1, 6))


def test_very_long_names_and_numbers_stay_inside() -> None:
    report = report_for(seed=9, results=3, copies=tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    patient = replace(
        report.patient, used_name="DE-LA-MAISON-TEST" * 30, given_names="Anne-Sophie " * 40
    )
    report = replace(report, patient=patient, number="9" * 90)
    assert_inside(pages_of(report))


# --- golden --------------------------------------------------------------------------------------
# The layout as text, one file a sheet. ``DLX_GOLDEN=1 pytest tests/unit/test_format_pdf.py`` writes
# them anew, for review as a diff; without it they are only compared.

GOLDEN = Path(__file__).parents[1] / "golden" / "pdf"
RARE = (
    Observation(label="Leucocytes", values=(Quantity(number="7.31"),), unit="10⁹/L"),
    Observation(label="Hématies", values=(Quantity(number="4.55"),), unit="10¹²/L"),
    Observation(label="Anti-β2-glycoprotéine", values=(Text(text="≤ seuil"),), reference="≤ 5,0"),
)
TEXT = "HÉMATOLOGIE\n  Leucocytes .....   7.31 G/L    4.00 - 10.00\n\nBIOCHIMIE\n  Sodium ....  141"
GOLDEN_CASES = {
    **SAMPLES,
    "long": replace(report_for(seed=3), batteries=report_for(seed=3).batteries * 2),
    "text-only": replace(report_for(seed=1, results=0), text=TEXT),
    "rare-characters": replace(
        report_for(seed=4, results=0),
        patient=replace(report_for(seed=4).patient, used_name="ȘTEFĂNESCU-TEST"),
        batteries=(Battery(code=Code(text="Numération"), observations=RARE),),
    ),
}


def dumped(report: Report) -> str:
    """Every page: tops of its lines, then x, size, weight and text of each run."""
    rows: list[str] = []
    for number, page in enumerate(pages_of(report), start=1):
        rows.append(f"=== page {number}")
        for top, line in page:
            fills = f"  [{len(line.fills)} aplats]" if line.fills else ""
            rows.append(f"{top:6.1f} +{line.height:.1f}{' keep' if line.keep else ''}{fills}")
            for run in line.runs:
                weight = "bold" if run.style.face.bold else "mono" if run.style.face.fixed else ""
                rows.append(
                    f"    {run.x:6.1f} {run.y:5.1f} {run.style.size:4.1f} {weight:4} {run.text}"
                )
    return "\n".join(rows) + "\n"


@pytest.mark.parametrize("name", GOLDEN_CASES)
def test_layout_is_the_reviewed_one(name: str) -> None:
    file, made = GOLDEN / f"{name}.txt", dumped(GOLDEN_CASES[name])
    if os.environ.get("DLX_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(made, encoding="utf-8")
    assert made == file.read_text(encoding="utf-8")


# --- any text ------------------------------------------------------------------------------------

_CHARS = st.characters(codec="cp1252", exclude_categories=("Cc",)) | st.sampled_from("ȘŐŁ⁹β✓")
_TEXTS = st.text(_CHARS | st.sampled_from(" \n-/αβ▲"), max_size=160)
_SHORT = st.text(_CHARS, max_size=40)
_LINES = st.builds(
    Observation,
    label=_TEXTS,
    values=st.lists(
        st.builds(Text, text=_TEXTS) | st.builds(Quantity, number=_SHORT), max_size=2
    ).map(tuple),
    unit=_SHORT,
    reference=_TEXTS,
    flags=st.lists(st.sampled_from(["H", "LL", "A", "R", "N", "?"]), max_size=2).map(tuple),
    status=st.sampled_from(ResultStatus),
    comments=st.lists(st.builds(Comment, text=_TEXTS), max_size=2).map(tuple),
    previous=st.lists(st.builds(Previous, value=_SHORT, unit=_SHORT), max_size=3).map(tuple),
    is_title=st.booleans(),
)
_BATTERIES = st.builds(
    Battery,
    code=st.builds(Code, text=_TEXTS),
    section=_SHORT,
    specimen=_TEXTS,
    comments=st.lists(st.builds(Comment, text=_TEXTS), max_size=1).map(tuple),
    observations=st.lists(_LINES, max_size=12).map(tuple),
)
_PEOPLE = st.builds(
    Person,
    family=_SHORT,
    organisation=_TEXTS,
    identifiers=st.just((Identifier(value="99700000000", type="RPPS"),)),
)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(
    batteries=st.lists(_BATTERIES, max_size=5).map(tuple),
    name=_TEXTS,
    laboratory=_PEOPLE,
    copies=st.lists(_PEOPLE, max_size=30).map(tuple),
    text=_TEXTS,
    comments=st.lists(st.builds(Comment, text=_TEXTS), max_size=2).map(tuple),
)
def test_whatever_the_texts_nothing_leaves_its_column_or_page(
    batteries: tuple[Battery, ...],
    name: str,
    laboratory: Person,
    copies: tuple[Person, ...],
    text: str,
    comments: tuple[Comment, ...],
) -> None:
    report = replace(
        report_for(seed=1, results=0),
        batteries=batteries,
        laboratory=laboratory,
        copies=copies,
        text=text,
        comments=comments,
        prescriber=prescriber_for("LEFA"),
    )
    report = replace(report, patient=replace(report.patient, used_name=name))
    pages = pages_of(report)
    assert_inside(pages)
    together = squeezed("".join(drawn_on(page) for page in pages))
    for line in report.observations():
        for value in line.values:
            if not isinstance(value, Attachment):
                for part in squeezed(value.text.replace("\n", " ")).split("\u00ad"):
                    assert part in together


def test_recognises_only_pdf() -> None:
    assert FORMAT.recognises(pdf_of(report_for(seed=1, results=1))[:4096])
    assert not FORMAT.recognises(b"H|^~\\&|")
