"""The rules without any process: recognise, parse, render. No clock, no disk, no network."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from dlx.contracts import Format, Options, Parsed
from dlx.delivery import Rendition
from dlx.errors import ParseError, RenderError
from dlx.report import Person, Report

HEAD_BYTES = 4096


def recognised(data: bytes, formats: Mapping[str, Format], only: Sequence[str] = ()) -> Format:
    """The one format that recognises the first 4096 bytes. Raises ParseError for none or several.

    ``only``: words a pickup is limited to; empty means every format that DLX reads.
    """
    head = data[:HEAD_BYTES]
    found = [f for f in formats.values() if f.parse is not None and f.recognises(head)]
    if not found:
        raise ParseError(
            "unknown_format",
            "format non reconnu : ni HL7 v2, ni HPRIM Médecin, ni HPRIM Santé ;"
            " vérifiez ce que le SIL dépose ici",
        )
    if len(found) > 1:
        names = ", ".join(f.name for f in found)
        raise ParseError("ambiguous_format", f"plusieurs formats reconnus ({names})")
    if only and found[0].name not in only:
        raise ParseError(
            "unexpected_format",
            f"format {found[0].name} inattendu : ce point de collecte accepte {', '.join(only)}",
        )
    return found[0]


def parse_file(
    data: bytes, formats: Mapping[str, Format], *, only: Sequence[str] = (), reading: Options
) -> Parsed:
    """Recognise and parse one file. Raises ParseError.

    ``reading``: options of the pickup; those that the recognised format does not know are for
    another format of the same pickup and are left out.
    """
    chosen = recognised(data, formats, only)
    assert chosen.parse is not None  # noqa: S101 - recognised() only returns readers
    options = {name: reading.get(name, value) for name, value in chosen.reading.items()}
    parsed = chosen.parse(data, options)
    reports = tuple(replace(report, source_format=chosen.name) for report in parsed.reports)
    return replace(parsed, reports=reports)


def content_key_of(report: Report, data: bytes, *, alone: bool) -> str:
    """SHA-256 of what a version says, whatever message id and time carried it.

    ``alone``: the file holds this report only; then everything after its first line (MSH or H, or
    the patient code of HPRIM Médecin) is the content. In a batch the parsed report is hashed.
    """
    if alone:
        lines = data.replace(b"\r\n", b"\r").replace(b"\n", b"\r")
        return hashlib.sha256(lines.partition(b"\r")[2].strip()).hexdigest()
    said = replace(report, version=0, replaces=0, message_id="", issued=None, extras=())
    return hashlib.sha256(repr(said).encode()).hexdigest()


def renditions_for(
    report: Report,
    to: Person,
    wishes: Sequence[tuple[str, Options]],
    formats: Mapping[str, Format],
) -> tuple[Rendition, ...]:
    """Make the wanted formats of one report for one addressee. Raises RenderError.

    ``wishes``: (format word, options that override its defaults), in order.
    """
    made = []
    for name, options in wishes:
        chosen = formats[name]
        if chosen.render is None:
            raise RenderError("read_only", f"le format {name} se lit mais ne s'écrit pas")
        made.append(chosen.render(report, to, {**chosen.options, **options}))
    return tuple(made)
