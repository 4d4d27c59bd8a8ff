"""The promises every format keeps, as a suite to inherit.

A test file gives the format and inherits the tests::

    class TestKmehr(FormatContract):
        @pytest.fixture
        def fmt(self) -> Format:
            return KMEHR

1. Only ParseError leaves ``parse``, whatever the bytes; only RenderError leaves ``render``.
2. The same arguments give the same bytes.
3. Nothing is lost in silence: what comes back equals what went in, or ``losses`` says it.
4. Neither errors nor losses quote the patient.
5. A format recognises its own renditions; no two formats recognise the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

import pytest

from dlx.contracts import Format
from dlx.delivery import Rendition
from dlx.errors import ParseError, RenderError
from dlx.facts import normalised
from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Coded,
    Comment,
    DateValue,
    Extra,
    Observation,
    Patient,
    Person,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Text,
    Value,
)
from dlx.testing.reports import microbiology, patient_for, prescriber_for, report_for

HEAD_BYTES = 4096

FOREIGN = (
    b"",
    b"\x00",
    b"\r\n",
    b"Bonjour,\r\nceci est un courriel ordinaire.\r\n",
    b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    b"PK\x03\x04" + bytes(60),
    b"\x7fELF" + bytes(200),
    b"<?xml version='1.0'?>\n<a/>\n",
    b"{}",
    b"From: a@example.org\r\nDate: 31/01/2025\r\n\r\nx\r\n",
    bytes(range(256)) * 4,
)


def usual_reports() -> Iterator[Report]:
    """Reports as laboratories send them."""
    for seed, status in enumerate(ReportStatus, 1):
        yield report_for(seed=seed, results=12, status=status)
    yield report_for(seed=7, results=35, copies=("DUPO",), urgent=True)
    yield microbiology(seed=8)


def hostile_reports() -> Iterator[Report]:
    """Reports that hold everything the types allow."""
    nasty = "é|^~\\&\r\n****FIN****\x00\x1b<b>&amp;≠\u2028\U0001f9ea" + "x" * 300
    values: tuple[Value, ...] = (
        Quantity(number="1 000,50", comparator="<="),
        Quantity(number="1", separator=":", second="128"),
        Text(text=nasty),
        Coded(code=Code(code="A", text=nasty)),
        DateValue(text="20250230", kind="DT"),
        Attachment(media_type="application/pdf", content=b"%PDF-1.4", title=nasty),
    )
    yield Report(number="", patient=Patient())
    for value in values:
        line = Observation(label=nasty, values=(value, value), unit=nasty, flags=(nasty,))
        battery = Battery(code=Code(text=nasty), observations=(line, Observation()))
        yield replace(report_for(seed=3, results=2), batteries=(battery,), text=nasty)
        yield replace(
            report_for(seed=3, results=0),
            patient=replace(patient_for(3), used_name=nasty, given_names=nasty, city=nasty),
            batteries=(battery,),
            comments=(Comment(text=nasty),),
            extras=(Extra(place="x", kind="y", text=nasty),),
            issued=Moment("2025"),
        )
    for status in ResultStatus:
        line = Observation(label="Sodium", values=(Quantity(number="140"),), status=status)
        yield replace(
            report_for(seed=4, results=0), batteries=(Battery(code=Code(), observations=(line,)),)
        )


def damaged(data: bytes, count: int) -> Iterator[bytes]:
    """Copies of ``data`` cut, overwritten or with bytes removed; always the same ones."""
    chance = random.Random(len(data))
    for _ in range(count):
        copy = bytearray(data)
        for _ in range(chance.randint(1, 5)):
            at = chance.randrange(len(copy) + 1)
            copy[at : at + chance.randrange(40)] = chance.randbytes(chance.randrange(10))
        yield (
            bytes(copy[: chance.randrange(len(copy) + 1)]) if chance.random() < 0.3 else bytes(copy)
        )


def renditions(fmt: Format, to: Person) -> Iterator[tuple[Report, Rendition]]:
    """The usual reports that ``fmt`` can carry, rendered with its default options."""
    if fmt.render is None:
        return
    for report in usual_reports():
        with suppress(RenderError):
            yield report, fmt.render(report, to, fmt.options)


def results_of(report: Report) -> list[tuple[str, tuple[str, ...], str]]:
    """Label, printed values and unit of each line that has a value."""
    return [
        (
            line.label,
            tuple("" if isinstance(v, Attachment) else v.text for v in line.values),
            line.unit,
        )
        for line in report.observations()
        if line.values
    ]


def assert_exclusive(formats: Mapping[str, Format], samples: Mapping[str, bytes]) -> None:
    """No sample is recognised by two formats."""
    for name, data in samples.items():
        takers = [word for word, fmt in formats.items() if fmt.recognises(data[:HEAD_BYTES])]
        assert len(takers) <= 1, f"{name} is taken by {takers}"


class FormatContract:
    """Inherit, and provide the fixture ``fmt``."""

    @pytest.fixture
    def fmt(self) -> Format:
        """The format under test; every subclass says which."""
        raise NotImplementedError

    @pytest.fixture
    def to(self) -> Person:
        """A recipient."""
        return prescriber_for("LEFA")

    def test_its_words_are_usable(self, fmt: Format) -> None:
        """Operators write the name; files get the suffix."""
        assert fmt.name == fmt.name.lower().strip()
        assert fmt.suffix.startswith(".")
        assert fmt.parse or fmt.render

    def test_any_bytes_are_recognised_or_not_without_error(self, fmt: Format) -> None:
        """Recognition runs on every file that falls into the spool."""
        chance = random.Random(fmt.name)
        for data in (*FOREIGN, *(chance.randbytes(n) for n in range(0, 600, 7))):
            assert fmt.recognises(data) in (True, False)

    def test_foreign_bytes_are_not_recognised(self, fmt: Format) -> None:
        """Empty, binary and everyday files belong to nobody."""
        if fmt.parse is None:
            pytest.skip("only written")
        assert [data for data in FOREIGN if fmt.recognises(data)] in ([], [b"{}"])

    def test_any_bytes_raise_nothing_but_parse_errors(self, fmt: Format, to: Person) -> None:
        """A hostile file must end in the reject folder, not in a traceback."""
        if fmt.parse is None:
            pytest.skip("only written")
        chance = random.Random(fmt.name)
        samples = [*FOREIGN, *(chance.randbytes(n) for n in range(0, 600, 7))]
        for _, rendition in renditions(fmt, to):
            samples += damaged(rendition.content, 25)
        for data in samples:
            with suppress(ParseError):
                fmt.parse(data, fmt.reading)

    def test_errors_and_losses_never_quote_the_patient(self, fmt: Format, to: Person) -> None:
        """They go to logs, mails and screens."""
        for report, rendition in renditions(fmt, to):
            names = (report.patient.family, report.patient.given_names.split()[0])
            said = list(rendition.losses)
            for data in damaged(rendition.content, 25) if fmt.parse else ():
                try:
                    fmt.parse(data, fmt.reading) if fmt.parse else None
                except ParseError as error:
                    said.append(str(error))
            assert not [text for text in said if any(name in text for name in names)]

    def test_any_report_raises_nothing_but_render_errors(self, fmt: Format, to: Person) -> None:
        """One delivery fails with a notice; the others still leave."""
        if fmt.render is None:
            pytest.skip("only read")
        for report in hostile_reports():
            for person in (to, Person()):
                with suppress(RenderError):
                    rendition = fmt.render(report, person, fmt.options)
                    assert rendition.format == fmt.name

    def test_same_arguments_give_the_same_bytes(self, fmt: Format, to: Person) -> None:
        """A repeat after a crash must be recognisable: no clock, no chance in a format."""
        if fmt.render is None:
            pytest.skip("only read")
        for report, rendition in renditions(fmt, to):
            assert fmt.render(report, to, dict(reversed(list(fmt.options.items())))) == rendition

    def test_an_unaddressed_format_does_not_name_its_addressee(self, fmt: Format) -> None:
        """One rendition then serves every recipient."""
        if fmt.render is None or fmt.addressed:
            pytest.skip("only read, or addressed")
        report = report_for(seed=2, results=4)
        ours, theirs = (fmt.render(report, prescriber_for(c), fmt.options) for c in ("AA", "BB"))
        assert ours.content == theirs.content

    def test_final_reports_can_be_written(self, fmt: Format, to: Person) -> None:
        """The everyday report is carried; anything else would be a fake success of this suite."""
        if fmt.render is None:
            pytest.skip("only read")
        rendition = fmt.render(report_for(seed=2, results=12), to, fmt.options)
        assert rendition.content
        assert rendition.suffix.startswith(".")

    def test_nothing_is_lost_in_silence(self, fmt: Format, to: Person) -> None:
        """What is read back equals what was written, or ``losses`` says what differs."""
        if fmt.render is None or fmt.parse is None:
            pytest.skip("only one way")
        for report, rendition in renditions(fmt, to):
            (again,) = fmt.parse(rendition.content, fmt.reading).reports
            assert again.number == report.number
            assert normalised(again.patient.family) == normalised(report.patient.family)
            assert not again.incomplete
            missing = [one for one in results_of(report) if one not in results_of(again)]
            assert not missing or rendition.losses
            if report.status is ReportStatus.PARTIAL:
                assert again.status is not ReportStatus.FINAL or not results_of(report)

    def test_its_own_renditions_are_recognised(self, fmt: Format, to: Person) -> None:
        """What we write and read, we also know when we see it."""
        if fmt.render is None or fmt.parse is None:
            pytest.skip("only one way")
        for _, rendition in renditions(fmt, to):
            assert fmt.recognises(rendition.content[:HEAD_BYTES])
