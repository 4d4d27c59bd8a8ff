"""HL7 v2 syntax on bytes: envelopes, separators, character sets, escapes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlx.errors import ParseError
from formats.hl7v2 import (
    NULL,
    STANDARD,
    Separators,
    escaped,
    read_message,
    split_file,
    unescaped,
    value,
)

HEADER = b"MSH|^~\\&|SIL|LABO|||20260112||ORU^R01|M1|P|2.5.1|||||FRA|"


def message(charset: str = "UNICODE UTF-8", *lines: bytes, end: bytes = b"\r") -> bytes:
    return end.join([HEADER + charset.encode(), *lines, b""])


def codes(data: bytes, **options: str) -> list[str]:
    return [d.code for d in read_message(data, **options).diagnostics]


# --- escapes -----------------------------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r")))
def test_whatever_is_escaped_is_read_back_the_same(text: str) -> None:
    assert unescaped(escaped(text), STANDARD) == text


@given(st.text("|^~\\&#\n\x00\x0b\x1c\x7fé"), st.permutations("$:*@!"))
def test_escaping_uses_the_separators_of_the_message(text: str, marks: list[str]) -> None:
    separators = Separators(*marks)
    written = escaped(text, separators)
    assert unescaped(written, separators) == text
    bare = marks[:3] + marks[4:]
    assert not set(written) & {*bare, *map(chr, range(32))}


def test_escaped_text_can_never_open_a_segment() -> None:
    assert "\r" not in escaped("fin\rOBX|1|NM") and "\n" not in escaped("fin\nOBX|1|NM")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r"a\F\b\S\c\T\d\R\e\E\f", "a|b^c&d~e\\f"),
        (r"ligne\.br\suite", "ligne\nsuite"),
        (r"x\.sp 2\y\.sp\z", "x\n\ny\nz"),
        (r"a\.sk 3\b\.in+4\\.ti2\c", "a   bc"),
        (r"\H\gras\N\ fini", "gras fini"),
        (r"\X0D0A\suite\X41\\X42\C", "\nsuiteABC"),
        (r"\XC3\\XA9\ en deux", "é en deux"),
        (r"100\200", r"100\200"),
        (r"\E\.br\E\ ", r"\.br\ "),
        (r"\Zlocal\ et \Q\ restent", r"\Zlocal\ et \Q\ restent"),
        ("\\XFF\\", "\\XFF\\"),
        ("fin\\", "fin\\"),
    ],
)
def test_escapes_are_decoded_once_from_left_to_right(written: str, meant: str) -> None:
    assert unescaped(written, STANDARD) == meant


def test_the_text_of_two_quotes_is_never_written_as_null() -> None:
    assert escaped(NULL) != NULL
    assert unescaped(escaped(NULL), STANDARD) == NULL


# --- separators --------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [b"^~\\&", b"^~\\&#", b"^~&", b":*\\@"])
def test_separators_are_those_of_the_message(encoding: bytes) -> None:
    data = b"MSH|" + encoding + b"|SIL||||||ORU|M1|P|2.5\rPID|1\r"
    read = read_message(data)
    assert read.separators.encoding == encoding.decode()
    assert value(read.segments[0], 9) == "ORU"
    assert read.encode() == data


@pytest.mark.parametrize("encoding", [b"^^\\&", b"^~", b"AB\\&", b"^~\\&#!", b""])
def test_unusable_separators_are_refused(encoding: bytes) -> None:
    with pytest.raises(ParseError) as refused:
        read_message(b"MSH|" + encoding + b"|SIL||||||ORU|M1|P|2.5\r")
    assert refused.value.code == "HL7-E02"


def test_without_escape_character_a_backslash_is_text() -> None:
    assert unescaped("a\\T\\b", Separators(escape="")) == "a\\T\\b"


# --- character sets ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("declared", "codec", "warned"),
    [
        ("UNICODE UTF-8", "utf-8", []),
        ("8859/1", "iso8859-1", []),
        ("8859/15", "iso8859-15", []),
        ("", "cp1252", ["HL7-W01"]),
        ("ASCII", "cp1252", ["HL7-W01"]),
        ("", "utf-8", ["HL7-W03"]),
        ("8859/1", "utf-8", ["HL7-W03"]),
        ("UNICODE UTF-8", "cp1252", ["HL7-W01"]),
        ("KLINGON", "cp1252", ["HL7-W02", "HL7-W01"]),
    ],
)
def test_accents_survive_and_every_departure_from_msh_18_is_said(
    declared: str, codec: str, warned: list[str]
) -> None:
    data = message(declared, "NTE|1||Élodie à 2 °C".encode(codec))
    read = read_message(data)
    assert value(read.segments[1], 3) == "Élodie à 2 °C"
    assert [d.code for d in read.diagnostics] == warned
    assert read.encode() == data


def test_windows_characters_in_a_declared_latin_1_are_read_as_windows() -> None:
    data = message("8859/1", "NTE|1||cœur – 5 €".encode("cp1252"))
    assert value(read_message(data).segments[1], 3) == "cœur – 5 €"
    assert codes(data) == ["HL7-W01"]


def test_bytes_that_fit_nothing_are_refused_not_replaced() -> None:
    with pytest.raises(ParseError) as refused:
        read_message(message("", b"NTE|1||\x81\xff"))
    assert refused.value.code == "HL7-E03"


def test_null_bytes_are_refused() -> None:
    with pytest.raises(ParseError, match="HL7-E03"):
        read_message(message("", b"NTE|1||a\0b"))


# --- lines and envelopes -----------------------------------------------------------------------


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_every_line_end_is_read_and_written_back(end: bytes) -> None:
    data = message("", b"PID|1", b"PV1", b"", end=end)
    read = read_message(data)
    assert [s[0] for s in read.segments] == ["MSH", "PID", "PV1", ""]
    assert read.encode() == data


def test_mixed_line_ends_are_read_with_a_warning_and_kept() -> None:
    data = HEADER + b"\r\nPID|1\nPV1|1\rOBR|1"
    read = read_message(data)
    assert [s[0] for s in read.segments] == ["MSH", "PID", "PV1", "OBR"]
    assert not read.terminated
    assert codes(data) == ["HL7-W05"]
    assert read.encode() == data


def test_a_line_that_is_no_segment_is_refused_with_its_number() -> None:
    with pytest.raises(ParseError) as refused:
        read_message(message("", b"PID|1", b"suite du texte"))
    assert (refused.value.code, refused.value.line) == ("HL7-E04", 3)


def test_a_header_cut_short_is_refused() -> None:
    with pytest.raises(ParseError, match="HL7-E05"):
        read_message(b"MSH|^~\\&|SIL|LABO\r")


@pytest.mark.parametrize("data", [b"", b"PID|1\r", b"%PDF-1.4", b"\xef\xbb\xbf", b"FHS|^~\\&\r"])
def test_what_has_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ParseError, match="HL7-E01"):
        split_file(data)


@pytest.mark.parametrize("tail", [b"\x1c\r", b"\x1c", b"\r\x1c\r\n"])
def test_frames_and_byte_order_mark_are_taken_off(tail: bytes) -> None:
    data = message("")
    framed = b"\xef\xbb\xbf\x0b" + data.rstrip(b"\r") + tail
    assert split_file(framed).messages == (data,)
    assert len(split_file(framed.replace(b"\xef\xbb\xbf", b"") * 2).messages) == 2


def test_a_batch_is_cut_into_its_messages_and_counted() -> None:
    one = message("")
    file = split_file(b"FHS|^~\\&\rBHS|^~\\&\r" + one * 2 + b"BTS|2\rFTS|1\r")
    assert (file.messages, file.batch, file.diagnostics) == ((one, one), True, ())


@pytest.mark.parametrize(
    ("trailer", "code"), [(b"BTS|3\rFTS|1\r", "HL7-W06"), (b"BTS|1\rFTS|2\r", "HL7-W06")]
)
def test_a_wrong_count_is_said_and_the_message_kept(trailer: bytes, code: str) -> None:
    file = split_file(b"FHS|^~\\&\rBHS|^~\\&\r" + message("") + trailer)
    assert [d.code for d in file.diagnostics] == [code]
    assert len(file.messages) == 1


def test_a_batch_without_trailer_may_be_incomplete() -> None:
    file = split_file(b"BHS|^~\\&\r" + message(""))
    assert [d.code for d in file.diagnostics] == ["HL7-W07"]


def test_text_between_the_messages_of_a_batch_is_refused() -> None:
    with pytest.raises(ParseError, match="HL7-E01"):
        split_file(b"FHS|^~\\&\rBHS|^~\\&\rPID|1\r" + message(""))


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0")).map(
            lambda text: f"ZZ1|{text}".encode()
        )
    )
)
def test_an_unmodified_message_gives_the_same_bytes(lines: list[bytes]) -> None:
    data = message("UNICODE UTF-8", *lines)
    assert read_message(data).encode() == data
