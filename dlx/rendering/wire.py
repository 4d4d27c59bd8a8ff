"""What the station and its render workers say to each other over a Unix socket.

A message is: length of the text (4 bytes), number of blobs (4), length of each blob (4 each), the
text (JSON, checked against the dataclasses below), the blobs. Both ends check everything: the
worker reads hostile files, so the station trusts nothing it answers but well-formed values.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter

from dlx.facts import Facts
from dlx.report import Person

MAX_TEXT = 32 << 20
MAX_BLOB = 64 << 20
MAX_BLOBS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FileToParse:
    """One claimed file; its bytes are blob number ``blob``."""

    blob: int
    only: tuple[str, ...] = ()
    reading: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A diagnostic or a refusal, with its place; never a value."""

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedReport:
    """A report that the worker keeps under ``token`` until it is rendered or dropped."""

    token: int
    facts: Facts


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedFile:
    """Answer for one file: reports, or the refusal of the whole file."""

    reports: tuple[ParsedReport, ...] = ()
    diagnostics: tuple[Finding, ...] = ()
    refused_parts: tuple[Finding, ...] = ()
    several_expected: bool = False
    refused: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """One rendition wanted: a format, its options, and whom it is addressed to."""

    format: str
    options: Mapping[str, str] = field(default_factory=dict)
    to: Person = field(default_factory=Person)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportToRender:
    """Render a parsed report as this version; the token is forgotten afterwards."""

    token: int
    version: int
    replaces: int = 0
    wishes: tuple[Wish, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """One wish fulfilled (``blob`` holds the bytes) or refused."""

    format: str
    blob: int = -1
    suffix: str = ""
    media_type: str = ""
    losses: tuple[str, ...] = ()
    refused: Finding | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Exactly one of the two lists is filled. ``drop``: tokens nobody will ask for."""

    parse: tuple[FileToParse, ...] = ()
    render: tuple[ReportToRender, ...] = ()
    drop: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """In the order of the request."""

    parsed: tuple[ParsedFile, ...] = ()
    made: tuple[tuple[Made, ...], ...] = ()


REQUEST = TypeAdapter(Request)
ANSWER = TypeAdapter(Answer)


class WireError(Exception):
    """The other end does not speak as agreed; close the line."""


def packed(text: bytes, blobs: Sequence[bytes]) -> list[bytes]:
    """The parts to write, without copying the blobs."""
    head = struct.pack(f">II{len(blobs)}I", len(text), len(blobs), *(len(b) for b in blobs))
    return [head, text, *blobs]


def sizes(head: bytes) -> tuple[int, int]:
    """Length of the text and number of blobs, from the first 8 bytes. Raises WireError."""
    text, blobs = struct.unpack(">II", head)
    if text > MAX_TEXT or blobs > MAX_BLOBS:
        raise WireError("message trop grand")
    return text, blobs


def blob_sizes(data: bytes) -> tuple[int, ...]:
    """Lengths of the blobs. Raises WireError beyond 64 MB in all."""
    lengths = struct.unpack(f">{len(data) // 4}I", data)
    if sum(lengths) > MAX_BLOB * 4:
        raise WireError("contenu trop grand")
    return lengths
