"""The only place that prints: tables, ``--plain``, ``--json``; what was asked, once, for all."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dlx import control
from dlx.masking import printable

# What a foreign text (a server's answer, a file name) could do to a terminal: escape sequences
# other than our own colours, control characters, changes of writing direction.
_UNSAFE = re.compile(
    r"\x1b(?!\[[0-9;]*m)|[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
LETTER_COLORS = {"F": "red", "?": "red", "H": "yellow", "W": "cyan", "D": "green", "A": "green"}


@dataclass(frozen=True, kw_only=True)
class Output:
    """Global options and the means to answer."""

    root: Path
    config: Path | None = None
    as_json: bool = False
    plain: bool = False
    quiet: bool = False
    verbose: bool = False
    color: str = "auto"
    lang: str = "fr"
    yes: bool = False
    reveal: bool = False

    @property
    def folder(self) -> Path:
        """The configuration folder."""
        return self.config.absolute() if self.config else self.root / "etc" / "dlx"

    @property
    def socket(self) -> Path:
        """Where the station listens."""
        return self.root / "run" / "dlx" / "control.sock"

    def ask(self, verb: str, /, **arguments: Any) -> Any:
        """Ask the running station."""
        return control.ask(self.socket, verb, {"confirmed": self.yes, **arguments})

    def t(self, french: str, english: str) -> str:
        """The text in the chosen language."""
        return english if self.lang == "en" else french

    def say(self, text: str) -> None:
        """A message for people: stderr, silent with ``--quiet``."""
        if not self.quiet:
            click.echo(text, err=True)

    def line(self, text: str = "") -> None:
        """A line of data: stdout."""
        click.echo(_safe(text), color=self.color == "always" or None)

    def record(self, value: Any) -> None:
        """One JSON object."""
        click.echo(json.dumps(value, ensure_ascii=False, indent=None if self.plain else 1))

    def records(self, values: Iterable[Any]) -> None:
        """One JSON object a line."""
        for value in values:
            click.echo(json.dumps(value, ensure_ascii=False))

    @property
    def _colored(self) -> bool:
        if self.color != "auto":
            return self.color == "always"
        return sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, text: str, color: str | None) -> str:
        """Colour on a terminal; the text itself must say the same."""
        return click.style(text, fg=color) if color and self._colored else text

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        notes: Mapping[int, str] | None = None,
    ) -> None:
        """Aligned columns; ``--plain``: tab-separated without header. ``notes``: a line below."""
        texts = [[_cell(value) for value in row] for row in rows]
        if self.plain:
            for row in texts:
                click.echo("\t".join(cell.replace("\t", " ") for cell in row))
            return
        widths = [
            max([len(name), *(len(row[n]) for row in texts)]) for n, name in enumerate(columns)
        ]
        head = "  ".join(name.ljust(width) for name, width in zip(columns, widths, strict=True))
        click.echo(self.paint(head.rstrip(), "bright_black"))
        for number, row in enumerate(texts):
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            if cells and row[0] in LETTER_COLORS:
                cells[0] = self.paint(cells[0], LETTER_COLORS[row[0]])
            click.echo("  ".join(cells).rstrip())
            if notes and number in notes:
                click.echo("     " + _safe(notes[number]))


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _cell(value: object) -> str:
    return printable("" if value is None else str(value), 120)


def ago(stamp: str | None, *, now: datetime | None = None) -> str:
    """``3 min``, ``2 h``, ``5 j`` since (or until) an ISO time."""
    if not stamp:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(stamp)).total_seconds()
    return span(abs(seconds))


def span(seconds: float) -> str:
    """A duration in its largest unit."""
    for unit, size in (("j", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
