"""A report as an HPRIM Médecin file that every known reader takes the same way.

The rules are those of docs/formats/hprim.md: one dossier a file, twelve header lines, CRLF, no
blank at the end of a line, every RES padded to 14 fields and closed by a bar.
"""

from __future__ import annotations

import re

from dlx.contracts import Options
from dlx.delivery import Rendition
from dlx.errors import RenderError
from dlx.report import Attachment, Person, Report
from formats import _sheet
from formats.hprim_medecin.charset import fits, transliterated
from formats.hprim_medecin.coded import res_line
from formats.hprim_medecin.header_out import header_lines

OPTIONS: Options = {
    "encoding": "iso-8859-1",
    "extension": ".hpr",
    "newline": "crlf",
    "coded": "yes",
    "code": "local",
    "addressee": "code",
    "width": "80",
    "nir": "joined",
}

_CHOICES = {
    "encoding": ("iso-8859-1", "utf-8", "cp850", "ascii"),
    "newline": ("crlf", "lf", "cr"),
    "coded": ("yes", "no"),
    "code": ("local", "loinc"),
    "addressee": ("code", "rpps"),
    "nir": ("joined", "spaced", "none"),
}
_NEWLINES = {"crlf": "\r\n", "lf": "\n", "cr": "\r"}
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_STARS = re.compile(r"\*{3,}")

BARS = "barre verticale d'un texte écrite « / »"
CONTROLS = "caractères de contrôle remplacés par un blanc"


def render(report: Report, to: Person, options: Options) -> Rendition:
    """Write the report for ``to``.

    Raises RenderError HM-R01 (unusable option), HM-R02 (a trait of identity, the number or every
    date is missing), HM-R03 (a value or a unit cannot be written in the character set).
    """
    chosen = checked(options)
    losses: dict[str, None] = dict.fromkeys(_left_out(report))
    header, more = header_lines(report, to, chosen, losses)
    body = [_sheet.Line(text) for text in _opening(report, to, more)]
    body += _sheet.printed(report, int(chosen["width"]))
    texts = _cleaned([line.text for line in body], losses)
    coded = _coded_lines(report, body, texts, chosen, losses) if chosen["coded"] == "yes" else []
    lines = [*header, "", *texts, *coded, "****FIN****", "****FINFICHIER****"]
    content = _encoded(report, lines, chosen, losses)
    encoding = chosen["encoding"]
    return Rendition(
        format="hprim",
        suffix=chosen["extension"],
        media_type=f"text/plain; charset={'us-ascii' if encoding == 'ascii' else encoding}",
        content=content,
        losses=tuple(losses),
    )


def checked(options: Options) -> dict[str, str]:
    """The options with their defaults. Raises RenderError HM-R01."""
    chosen = {**OPTIONS, **options}
    for word, allowed in _CHOICES.items():
        if chosen[word] not in allowed:
            raise RenderError("HM-R01", f"option {word} : {', '.join(allowed)} attendu")
    width = chosen["width"]
    if not (width.isascii() and width.isdigit() and 60 <= int(width) <= 200):
        raise RenderError("HM-R01", "option width : un nombre de 60 à 200 attendu")
    if not _EXTENSION.fullmatch(chosen["extension"]):
        raise RenderError("HM-R01", "option extension : un point puis 1 à 8 lettres ou chiffres")
    return chosen


def _left_out(report: Report) -> list[str]:
    """What the format has no place for; said once each."""
    losses = []
    documents = len(report.attachments) + sum(
        isinstance(value, Attachment) for line in report.observations() for value in line.values
    )
    if documents:
        losses.append(f"{documents} document(s) joint(s) non transmis")
    if report.extras:
        losses.append("éléments du fichier d'origine sans équivalent HPRIM")
    return losses


def _opening(report: Report, to: Person, more: list[str]) -> list[str]:
    """Warnings, then what the header cannot say; nothing that the printed text already says."""
    lines = _sheet.warnings(report)
    if report.text:
        printed = set(report.text.split("\n"))
        return [line for line in [*lines, *more] if line not in printed]
    lines += more
    lines += _sheet.circumstances(report, addressee=to)
    return [*lines, ""] if lines else []


def _cleaned(texts: list[str], losses: dict[str, None]) -> list[str]:
    """Every text line as ``_clean`` makes it; nearly all reports have nothing to clean."""
    whole = " ".join(texts)
    if "|" not in whole and "***" not in whole and whole.isprintable():
        return [text.rstrip() for text in texts]
    return [_clean(text, losses) for text in texts]


def _clean(text: str, losses: dict[str, None]) -> str:
    """A text line without bar, control character, tag or closing blank."""
    if "|" in text:
        text = text.replace("|", "/")
        losses[BARS] = None
    if "***" in text:
        # Some readers look for « ****FIN » anywhere in the file.
        text = _STARS.sub(lambda run: "-" * len(run[0]), text)
        losses["suite d'astérisques écrite en tirets"] = None
    if not text.isprintable():
        text = without_controls(text, losses)
    return text.rstrip()


def without_controls(text: str, losses: dict[str, None]) -> str:
    """Blanks for control characters and line ends; other white space stays."""
    kept = _CONTROL.sub(" ", text)
    if kept != text:
        losses[CONTROLS] = None
    return kept


def _coded_lines(
    report: Report,
    body: list[_sheet.Line],
    texts: list[str],
    options: Options,
    losses: dict[str, None],
) -> list[str]:
    """The part after ``****LAB****``; nothing when there is no result to code."""
    antibiotics = {id(o) for b in report.batteries if b.parent is not None for o in b.observations}
    prefer = options["code"]
    lines, found, pending = ["****LAB****"], False, ""
    for (_, observation, continues), text in zip(body, texts, strict=True):
        # A RES comes after the last line of its result: some readers take what follows for remarks.
        if pending and not (continues or (observation is None and text.startswith("  "))):
            lines.append(pending)
            pending = ""
        lines.append(f"TEX|{text}" if text else "TEX")
        if observation is not None:
            grown = id(observation) in antibiotics
            pending = res_line(observation, prefer, losses, grown=grown)
            found = found or bool(pending)
    if pending:
        lines.append(pending)
    return lines if found else []


def _encoded(report: Report, lines: list[str], options: Options, losses: dict[str, None]) -> bytes:
    encoding = options["encoding"]
    newline = _NEWLINES[options["newline"]]
    whole = newline.join(lines) + newline
    try:
        return whole.encode(encoding)
    except UnicodeEncodeError:
        pass
    _require_values(report, encoding)
    written, equivalent = [], True
    for line in lines:
        text, same = transliterated(line, encoding)
        equivalent = equivalent and same
        written.append(text.rstrip())
    losses[f"caractères absents de {encoding} transcrits"] = None
    if not equivalent:
        losses[f"caractères sans équivalent en {encoding} écrits « ? »"] = None
    return (newline.join(written) + newline).encode(encoding, "replace")


def _require_values(report: Report, encoding: str) -> None:
    """A value or a unit is never written with a ``?``. Raises RenderError HM-R03."""
    for line in report.observations():
        texts = [_sheet.value_text(v) for v in line.values if not isinstance(v, Attachment)]
        texts += [line.unit, line.reference]
        if line.second:
            texts += [line.second.value.text, line.second.unit, line.second.reference]
        texts += [part for p in line.previous for part in (p.value, p.unit)]
        for text in texts:
            if not fits(text, encoding) and not transliterated(text, encoding)[1]:
                raise RenderError(
                    "HM-R03", f"un résultat ou une unité ne peut s'écrire en {encoding}"
                )
