"""Plain text: everything that a report holds is on the sheet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dlx.errors import RenderError
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Comment,
    Extra,
    Observation,
    Person,
    Previous,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Text,
)
from dlx.testing.reports import microbiology, report_for
from formats._sheet import wrapped
from formats.text import FORMAT, render

NOBODY = Person()


def sheet(report: Report, **options: str) -> str:
    """The sheet as text."""
    return render(report, NOBODY, options).content.decode()


def of(*lines: Observation, **more: object) -> Report:
    """A report with these lines."""
    battery = Battery(code=Code(text="Ionogramme"), observations=lines)
    return replace(report_for(seed=2, results=0), batteries=(battery,), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
def test_every_value_unit_reference_and_remark_is_printed(seed: int) -> None:
    report = report_for(seed=seed, results=35)
    text = sheet(report)
    words = " ".join(text.split())
    for line in report.observations():
        assert line.label in text
        assert f"{line.values[0].text} {line.unit}".strip() in words  # type: ignore[union-attr]
        assert f"({line.reference})" in text
        for comment in line.comments:
            assert " ".join(comment.text.split()) in words
        for previous in line.previous:
            assert f"Antériorité : {previous.value}" in text
        if line.second:
            assert f"{line.second.value.text} {line.second.unit}" in words
    assert report.number in text
    assert report.patient.family in text
    assert report.patient.birth_date is not None
    assert report.patient.birth_date.french in text


def test_line_of_a_result_has_fixed_columns() -> None:
    line = Observation(
        label="Potassium",
        values=(Quantity(number="2.40"),),
        unit="mmol/L",
        reference="3.50-4.80",
        flags=("LL",),
        status=ResultStatus.CORRECTED,
        second=Second(value=Quantity(number="9.38"), unit="mg/dL", reference="13.7-18.8"),
        comments=(Comment(text="Contrôlé."),),
        previous=(Previous(value="3.9", unit="mmol/L"),),
    )
    assert sheet(of(line), newline="lf").split("Ionogramme\n")[1] == (
        "Potassium                              2.40 mmol/L     LL  (3.50-4.80) [corrigé]\n"
        "                                       9.38 mg/dL          (13.7-18.8)\n"
        "Contrôlé.\n"
        "Antériorité : 3.9 mmol/L\n"
    )


def test_long_texts_are_wrapped_and_nothing_is_cut() -> None:
    words = " ".join(f"mot{n}" for n in range(120))
    text = sheet(of(Observation(label="Conclusion", values=(Text(text=words),))))
    assert words in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 90


def test_partial_corrected_cancelled_and_test_reports_say_so_first() -> None:
    for status, words in (
        (ReportStatus.PARTIAL, "RÉSULTATS PARTIELS"),
        (ReportStatus.CORRECTED, "ANNULE ET REMPLACE"),
        (ReportStatus.CANCELLED, "ANNULÉ"),
    ):
        assert words in sheet(report_for(seed=1, results=3, status=status))
    assert "MESSAGE DE TEST" in sheet(report_for(seed=1, results=3, test=True))
    assert "INCOMPLET" in sheet(replace(report_for(seed=1, results=3), incomplete=True))


def test_withdrawn_value_is_not_shown_as_valid() -> None:
    line = Observation(label="Sodium", values=(Quantity(number="199"),), status=ResultStatus.WRONG)
    assert "199" not in sheet(of(line)).split("Ionogramme")[1]
    assert "RÉSULTAT ANNULÉ" in sheet(of(line))


def test_susceptibility_is_written_in_words() -> None:
    text = sheet(microbiology(seed=3))
    assert "S Sensible" in text or "R Résistant" in text


def test_printed_text_of_the_laboratory_is_kept() -> None:
    report = of(text="Cher confrère,\n\nExamen normal.")
    assert "Cher confrère,\r\n\r\nExamen normal." in sheet(report)


def test_documents_are_named_and_listed_as_losses() -> None:
    rendition = render(of(attachments=(Attachment(content=b"x", title="Courbe"),)), NOBODY, {})
    assert "Document joint : Courbe" in rendition.content.decode()
    assert rendition.losses == ("1 document(s) joint(s) nommé(s) mais non transmis",)


def test_parts_without_a_word_are_printed() -> None:
    assert "ZFU|x" in sheet(of(extras=(Extra(place="après OBX 1", kind="ZFU", text="ZFU|x"),)))


def test_control_characters_never_reach_the_printer() -> None:
    text = sheet(of(Observation(label="A\x1b[2J", values=(Text(text="x\x00y"),))))
    assert "\x1b" not in text
    assert "\x00" not in text


@pytest.mark.parametrize("options", [{"width": "9"}, {"width": "x"}, {"newline": "cr"}])
def test_unknown_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(RenderError):
        render(of(), NOBODY, options)


def test_plain_text_recognises_nothing() -> None:
    assert not FORMAT.recognises(b"Bonjour")


@pytest.mark.parametrize("text", ["", "a", "a " * 200, "x" * 300, "  indented " + "y " * 90])
def test_wrapping_keeps_every_word_in_order(text: str) -> None:
    assert " ".join(wrapped(text, 80)).split() == text.split()
