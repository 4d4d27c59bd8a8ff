"""Batteries and their results as lines of a table: chapters, headings, rows, remarks below."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dlx.report import Attachment, Battery, Comment, Observation, Report, Second
from formats.pdf import _table as table
from formats.pdf._model import (
    Cell,
    Flowing,
    Line,
    Run,
    Style,
    bound,
    gap,
    kept,
    run_in,
    stacked,
    wrapped,
)
from formats.pdf._table import (
    FLAG,
    FULL,
    HAIRLINE,
    LABEL,
    NOTE_PITCH,
    PITCH,
    PREVIOUS,
    SMALL_PITCH,
    UNDER,
    VALUE,
    WIDE,
    WORD,
)
from formats.pdf._text import Scribe
from formats.pdf._words import EMPTY, SECTIONS, STATES, SUSCEPTIBILITY


class Results:
    """Writes the batteries of one report.

    Attributes:
        flags: those that were met, for the legend.
    """

    def __init__(self, report: Report, scribe: Scribe) -> None:
        self.report = report
        self.scribe = scribe
        self.styles = table.styles()
        self.flags: set[str] = set()

    def lines(self) -> list[Flowing]:
        """Every line of the table, with what to repeat above it on top of a new page."""
        head = table.column_heads()
        flowing: list[Flowing] = [(head, ())] if self.report.batteries else []
        section = None
        for battery in self.report.batteries:
            if battery.section != section:
                section = battery.section
                if section:
                    flowing += [(line, (head,)) for line in self._chapter(section)]
            title = self._title(battery)
            if title:
                flowing += [(line, (head,)) for line in (gap(6, keep=True), *table.heading(title))]
            above = (head, *table.heading(title, " (suite)")[:2]) if title else (head,)
            flowing += [(line, above) for line in self._battery(battery)]
        return flowing

    def _chapter(self, section: str) -> Sequence[Line]:
        name = self.scribe.remark(SECTIONS.get(section, section))
        return table.chapter(self.scribe.remark(name.upper()))

    def _title(self, battery: Battery) -> str:
        """Heading of a battery; "" when its only result says the same."""
        title = battery.code.text or battery.code.code
        lines = battery.observations
        alone = len(lines) == 1 and lines[0].label == title
        if alone and not (battery.specimen or battery.comments or battery.parent):
            return ""
        parent = battery.parent
        whole = " — ".join(part for part in (title, parent.text if parent else "") if part)
        return self.scribe.remark(whole)

    def _battery(self, battery: Battery) -> list[Line]:
        lines: list[Line] = []
        if circumstances := self._circumstances(battery):
            lines += table.small_print(circumstances)
        lines += self._remarks(battery.comments, keep_last=bool(battery.observations))
        for observation in battery.observations:
            lines += self._observation(observation, battery)
        return lines

    def _circumstances(self, battery: Battery) -> str:
        """Specimen, and the times that differ from the report's own."""
        parts = [self.scribe.remark(battery.specimen)] if battery.specimen else []
        if battery.collected and battery.collected != self.report.collected:
            parts.append(f"prélevé le {battery.collected.french}")
        if battery.received and battery.received != self.report.received:
            parts.append(f"reçu le {battery.received.french}")
        return " · ".join(parts)

    def _observation(self, line: Observation, battery: Battery) -> list[Line]:
        if not line.is_title:
            rows = self._row(line, line.label or _code(line))
            rows += self._below(line, battery)
            return kept(rows) if len(rows) > 1 else rows
        bold = self.styles.bold
        texts = wrapped(self.scribe.remark(line.label), bold, FULL.width)
        title = [gap(3, keep=True), *bound(stacked([Cell(FULL, bold, texts)], PITCH))]
        if not line.values:
            return title + self._remarks(line.comments)
        return title + kept(self._row(line, "") + self._below(line, battery))

    def _row(self, line: Observation, label: str) -> list[Line]:
        styles = self.styles
        sign, value_style = self._marked(line) if line.flags else ("", styles.text)
        value = _value_text(line)
        if table.NUMBER(value):
            run: Run | None = table.number_run(value_style, value, PITCH)
        else:
            value = self.scribe.exact(value)
            run = table.value_run(value_style, value, PITCH, VALUE if sign else WORD)
        earlier = self._previous(line) if line.previous else ()
        terms = table.terms(label, line.unit, line.reference)
        if terms.unknown:
            self.scribe.unknown |= terms.unknown
        if run and terms.label and len(earlier) < 2:
            runs = list(terms.label)
            if sign:
                runs.append(run_in(FLAG, styles.bold, sign, PITCH))
            if value:
                runs.append(run)
            runs += terms.others
            if earlier:
                runs.append(run_in(PREVIOUS, styles.small, earlier[0], PITCH))
            return [Line(PITCH, tuple(runs), HAIRLINE)]
        label_cell, *others = terms.cells
        cells = [label_cell]
        if run:
            column = VALUE if sign else WORD
            cells += [Cell(FLAG, styles.bold, [sign]), Cell(column, value_style, [value])]
        cells += [*others, Cell(PREVIOUS, styles.small, earlier)]
        if run:
            return stacked(cells, PITCH, HAIRLINE)
        return self._long_value(cells, f"{sign} {value}" if sign else value, value_style, line)

    def _long_value(
        self, cells: list[Cell], text: str, bold: Style, line: Observation
    ) -> list[Line]:
        """A text: beside the label when the columns are free, else on lines of its own."""
        if not (line.unit or line.reference or line.previous):
            cells.append(Cell(WIDE, bold, wrapped(text, bold, WIDE.width)))
            return stacked(cells, PITCH, HAIRLINE)
        own = Cell(UNDER, bold, wrapped(text, bold, UNDER.width))
        return stacked(cells, PITCH, HAIRLINE) + stacked([own], PITCH)

    def _marked(self, line: Observation) -> tuple[str, Style]:
        """Sign and style of the value; an antibiogram's letter is not said twice."""
        sign, flag, value_style = table.mark(line.flags)
        if flag:
            self.flags.add(flag)
        if flag in SUSCEPTIBILITY and _value_text(line).strip() == flag:
            return "", value_style
        return sign, value_style

    def _previous(self, line: Observation) -> Sequence[str]:
        texts = []
        for earlier in line.previous:
            unit = earlier.unit if earlier.unit != line.unit else ""
            text = f"{earlier.value}  {unit}" if unit else earlier.value
            if earlier.moment:
                text = f"{table.french_date(earlier.moment.digits)}  {text}"
            texts.append(text)
        text = texts[0] if len(texts) == 1 else "\n".join(texts)
        return wrapped(self.scribe.exact(text), self.styles.small, PREVIOUS.width)

    def _below(self, line: Observation, battery: Battery) -> list[Line]:
        second = self._second(line.second) if line.second else []
        small = self.styles.warning if line.status in table.STRIKING else self.styles.small
        known = line.moment in (battery.collected, self.report.collected, None)
        plain = known and not line.method and line.status in table.PLAIN
        if not plain and (notes := self._notes(line, battery)):
            if second and small.width(notes) <= LABEL.width - 10:
                run = Run(UNDER.x, SMALL_PITCH - 2.9, small, notes, LABEL.width)
                second[0] = second[0]._replace(runs=(run, *second[0].runs))
            else:
                texts = wrapped(notes, small, UNDER.width)
                second += stacked([Cell(UNDER, small, texts)], SMALL_PITCH)
        return second + self._remarks(line.comments) if line.comments else second

    def _notes(self, line: Observation, battery: Battery) -> str:
        """Method, state and a time of its own, as one text below the label."""
        notes = [self.scribe.remark(line.method)] if line.method else []
        state = STATES.get(line.status, "")
        if state and (line.values or line.status not in EMPTY):
            notes.append(state)
        if line.moment and line.moment not in (self.report.collected, battery.collected):
            notes.append(f"le {line.moment.french}")
        return " · ".join(notes)

    def _second(self, second: Second) -> list[Line]:
        value = self.scribe.exact(second.value.text)
        small = self.styles.small
        cells, runs = table.second_terms(second.unit, second.reference)
        run = table.value_run(small, value, SMALL_PITCH)
        if run and runs is not None:
            return [Line(SMALL_PITCH, (run, *runs) if value else runs)]
        if run:
            return stacked([Cell(VALUE, small, [value]), *cells], SMALL_PITCH)
        own = Cell(UNDER, small, wrapped(value, small, UNDER.width))
        return stacked([own], SMALL_PITCH) + stacked(cells, SMALL_PITCH)

    def _remarks(self, comments: Iterable[Comment], *, keep_last: bool = False) -> list[Line]:
        rows: list[Line] = []
        for comment in comments:
            note = self.styles.note
            texts = wrapped(self.scribe.remark(comment.text), note, UNDER.width)
            rows += stacked([Cell(UNDER, note, texts)], NOTE_PITCH)
        if rows and keep_last:
            rows = kept(rows)
            rows[-1:] = bound(rows[-1:])
        return rows


def _code(line: Observation) -> str:
    return next((code.text or code.code for code in line.codes if code.text or code.code), "")


def _value_text(line: Observation) -> str:
    """The values as printed, one a line; the state when there is none."""
    if len(line.values) == 1 and not isinstance(line.values[0], Attachment):
        return line.values[0].text
    texts = []
    for value in line.values:
        if isinstance(value, Attachment):
            texts.append(f"voir le document joint {value.title or value.reference}".rstrip())
        else:
            texts.append(value.text)
    if not line.values and line.status in EMPTY:
        return STATES[line.status]
    return "\n".join(texts)
