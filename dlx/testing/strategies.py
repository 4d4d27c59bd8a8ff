"""Hypothesis strategies for reports: every kind of value, awkward texts, empty things.

Needs ``hypothesis``. What they make is consistent (the status of a report follows from its lines)
and otherwise free: texts hold delimiters of every format, line breaks, accents and other scripts.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from dlx.moment import Moment
from dlx.report import (
    Attachment,
    Battery,
    Code,
    Coded,
    Comment,
    DateValue,
    Extra,
    Identifier,
    Observation,
    Parent,
    Patient,
    Person,
    Previous,
    Quantity,
    Report,
    ReportStatus,
    ResultStatus,
    Second,
    Text,
    Value,
)

_AWKWARD = "aZ9 |^~\\&\"'<>;,:./=@#$*\t\u00a0\u202féÉèçœŒ€µ≤→αΩŞ中…’"

WORDS = st.text("ABCDEabcdeéèçÀœ0123456789-", min_size=1, max_size=12)
NUMBERS = st.from_regex(r"[A-Z0-9]{1,4}-?[0-9]{1,6}", fullmatch=True)


def texts(*, lines: bool = False, min_size: int = 0) -> st.SearchStrategy[str]:
    """Texts full of delimiters; with ``lines`` also line breaks, alone, doubled and at the ends."""
    alphabet = _AWKWARD + "\n" if lines else _AWKWARD
    special = st.sampled_from(['""', "\\T\\", "\\.br\\", "\\X41\\", "a\\", "\\", "100\\200", "~~"])
    plain = st.text(alphabet, min_size=min_size, max_size=20)
    return st.one_of(plain, special) if min_size <= 1 else plain


def moments(*, time: bool = True) -> st.SearchStrategy[Moment]:
    """Real dates of every precision, some with seconds, fraction and zone."""
    date = st.dates().map(lambda d: f"{d.year:04d}{d.month:02d}{d.day:02d}")
    dates = st.builds(lambda d, n: Moment(d[:n]), date, st.sampled_from((4, 6, 8)))
    if not time:
        return dates
    clock = st.sampled_from(("08", "0805", "080559", "080559.123", "235959.999999"))
    zone = st.sampled_from(("", "+0100", "-0330"))
    return st.one_of(dates, st.builds(lambda d, c, z: Moment(d + c, z), date, clock, zone))


def codes() -> st.SearchStrategy[Code]:
    """Codes with or without text and table, never wholly empty."""
    return st.builds(
        Code, code=NUMBERS, text=texts(), system=st.sampled_from(("LN", "L", "SCT", "", "99&X"))
    )


def identifiers() -> st.SearchStrategy[Identifier]:
    """Numbers of patients: local and national (test authority)."""
    local = st.builds(Identifier, value=NUMBERS, type=st.just("PI"), authority=WORDS)
    national = st.builds(
        Identifier,
        value=st.from_regex(r"[12][0-9]{14}", fullmatch=True),
        type=st.just("INS"),
        authority=st.just("ASIP-SANTE-INS-NIR"),
        oid=st.just("1.2.250.1.213.1.4.10"),
    )
    return st.one_of(local, national)


def people(role: str = "") -> st.SearchStrategy[Person]:
    """Doctors with a name and none, one or two numbers; names end in -TEST, RPPS start with 997."""
    rpps = st.builds(
        Identifier,
        value=st.from_regex(r"997[0-9]{8}", fullmatch=True),
        type=st.just("RPPS"),
        authority=st.just("ASIP-SANTE-PS"),
        oid=st.just("1.2.250.1.71.4.2.1"),
    )
    local = st.builds(Identifier, value=NUMBERS)
    return st.builds(
        Person,
        identifiers=st.tuples() | st.tuples(rpps) | st.tuples(local) | st.tuples(rpps, local),
        family=texts(min_size=1).map(lambda name: f"{name}-TEST"),
        given=texts(),
        title=st.sampled_from(("", "Dr", "Pr")),
        role=st.just(role),
    )


def patients() -> st.SearchStrategy[Patient]:
    """Patients with a name and a birth date, sometimes an unreal one."""
    return st.builds(
        _patient,
        given=st.lists(WORDS, max_size=3),
        apart=st.booleans(),
        identifiers=st.lists(identifiers(), max_size=3).map(tuple),
        birth_name=texts(min_size=1).map(lambda name: f"{name}-TEST"),
        used_name=st.just("") | WORDS.map(lambda name: f"{name}-TEST"),
        birth_date=moments(time=False) | st.none(),
        sex=st.sampled_from(("M", "F", "U", "")),
        address=st.just(()) | st.tuples(WORDS) | st.tuples(WORDS, WORDS),
        postal_code=st.sampled_from(("", "69003", "2A004")),
        city=texts(),
        birth_place=st.sampled_from(("", "99999", "SAINT-ÉTIENNE & alentours")),
        phones=st.lists(st.sampled_from(("0612345678", "+33 4 01 23 45 67")), max_size=2).map(
            tuple
        ),
        reliability=st.sampled_from(("", "VALI", "PROV")),
    )


def _patient(given: list[str], apart: bool, **more: object) -> Patient:
    """Given names, the first one stated apart or not; a missing birth date is written as zeros."""
    return Patient(
        given_names=" ".join(given),
        first_given=given[0] if given and apart else "",
        birth_date_text="" if more["birth_date"] else "00000000",
        **more,  # type: ignore[arg-type]  # the fields are those of patients()
    )


def quantities() -> st.SearchStrategy[Quantity]:
    """Plain, signed, blank-grouped and comma numbers, with comparators; ratios and ranges."""
    number = st.sampled_from(("5.80", "0", "-1.5", "+3", "1 000", "5,80", "1\u202f000", ".5", "12"))
    plain = st.builds(
        Quantity, number=number, comparator=st.sampled_from(("", "<", ">", "<=", ">=", "<>"))
    )
    ratio = st.builds(
        Quantity, number=st.just("1"), separator=st.sampled_from((":", "-", "+")), second=number
    )
    return st.one_of(plain, ratio)


def attachments() -> st.SearchStrategy[Attachment]:
    """Documents carried (any bytes) or pointed to."""
    kinds = st.sampled_from(("application/pdf", "image/tiff", "text/xml", ""))
    carried = st.builds(
        Attachment,
        media_type=kinds,
        content=st.binary(min_size=1, max_size=40),
        title=texts(min_size=1),
    )
    pointed = st.builds(
        Attachment, media_type=kinds, title=texts(min_size=1), reference=texts(min_size=1)
    )
    return st.one_of(carried, pointed)


def value_sets() -> st.SearchStrategy[tuple[str, tuple[Value, ...]]]:
    """A value type with values that suit it: none, one, or several of one kind."""
    coded = st.builds(Coded, code=codes(), alternate=st.none() | codes())
    dates = st.sampled_from((("DT", "20250131"), ("TM", "1015"), ("TS", "202501311015+0100")))
    return st.one_of(
        st.tuples(st.sampled_from(("", "NM", "ST")), st.just(())),
        st.tuples(st.sampled_from(("NM", "SN", "N", "")), _several(quantities())),
        st.tuples(st.sampled_from(("ST", "A", "")), _several(st.builds(Text, text=texts()))),
        st.tuples(st.just("TX"), st.tuples(st.builds(Text, text=texts(lines=True, min_size=1)))),
        st.tuples(
            st.just("FT"),
            st.tuples(st.builds(Text, text=texts(lines=True, min_size=1), formatted=st.just(True))),
        ),
        st.tuples(st.sampled_from(("CE", "CWE", "C")), _several(coded)),
        dates.map(lambda d: (d[0], (DateValue(text=d[1], kind=d[0]),))),
        attachments().map(lambda a: ("RP" if a.reference else "ED", (a,))),
    )


def _several(one: st.SearchStrategy[Value]) -> st.SearchStrategy[tuple[Value, ...]]:
    return st.lists(one, min_size=1, max_size=3).map(tuple)


def comments() -> st.SearchStrategy[Comment]:
    """Remarks of one or several lines."""
    return st.builds(
        Comment,
        text=texts(lines=True, min_size=1),
        source=st.sampled_from(("", "L", "P")),
        kind=st.sampled_from(("", "RE", "FIN")),
    )


_FLAGS = ("", "N", "L", "H", "LL", "HH", "A", "S", "R", "I", "<", ">")
_SETTLED = (
    ResultStatus.FINAL,
    ResultStatus.UNCHANGED,
    ResultStatus.UNOBTAINABLE,
    ResultStatus.UNSTATED,
)


def observations(
    statuses: Sequence[ResultStatus] = _SETTLED,
) -> st.SearchStrategy[Observation]:
    """Lines of one of the statuses, with everything a line may have."""
    return st.builds(
        _observation,
        typed=value_sets(),
        title=st.booleans() | st.just(False),
        codes=st.lists(codes(), max_size=3).map(tuple),
        label=texts(min_size=1),
        unit=st.sampled_from(("", "mmol/L", "µmol/L", "10^9/L", "%")),
        reference=st.sampled_from(("", "3.60-5.20", "<5", "> 60", "négatif | absent")),
        flags=st.lists(st.sampled_from(_FLAGS[1:]), max_size=2, unique=True).map(tuple),
        status=st.sampled_from(statuses),
        sub_id=st.sampled_from(("", "1", "1.2")),
        method=texts(),
        moment=st.none() | moments(),
        validated_by=st.lists(people(), max_size=1).map(tuple),
        comments=st.lists(comments(), max_size=2).map(tuple),
        second=st.none() | st.builds(Second, value=quantities(), unit=WORDS),
        previous=st.lists(st.builds(Previous, value=WORDS, moment=moments()), max_size=1).map(
            tuple
        ),
    )


def _observation(
    typed: tuple[str, tuple[Value, ...]], title: bool, label: str, **more: object
) -> Observation:
    """A heading has a label only."""
    if title:
        return Observation(label=label, is_title=True)
    return Observation(
        value_type=typed[0],
        values=typed[1],
        label=label,
        **more,  # type: ignore[arg-type]  # the fields are those of observations()
    )


def batteries(
    statuses: Sequence[ResultStatus] = _SETTLED, order_status: str = "F"
) -> st.SearchStrategy[Battery]:
    """Examinations with none to three lines of the given statuses."""
    return st.builds(
        Battery,
        code=codes(),
        alternates=st.lists(codes(), max_size=1).map(tuple),
        number=st.just("") | NUMBERS,
        placer_number=st.just("") | NUMBERS,
        section=st.sampled_from(("", "CHEM", "MB")),
        status=st.just(order_status),
        specimen=texts(),
        collected=st.none() | moments(),
        received=st.none() | moments(),
        resulted=st.none() | moments(),
        comments=st.lists(comments(), max_size=1).map(tuple),
        observations=st.lists(observations(statuses), max_size=3).map(tuple),
        parent=st.none()
        | st.builds(Parent, code=codes(), sub_id=WORDS, text=texts(), number=NUMBERS),
        validated_by=st.lists(people(), max_size=1).map(tuple),
    )


_LINES = {
    ReportStatus.FINAL: (_SETTLED, "F"),
    ReportStatus.PARTIAL: ((ResultStatus.PRELIMINARY, ResultStatus.PENDING), "P"),
    ReportStatus.CORRECTED: ((ResultStatus.CORRECTED, ResultStatus.FINAL), "C"),
    ReportStatus.CANCELLED: ((ResultStatus.UNOBTAINABLE, ResultStatus.DELETED), "X"),
}


def reports(*, statuses: Sequence[ReportStatus] = tuple(ReportStatus)) -> st.SearchStrategy[Report]:
    """Whole reports of the given statuses, their lines in keeping."""
    return st.sampled_from(tuple(statuses)).flatmap(_reports)


def _reports(status: ReportStatus) -> st.SearchStrategy[Report]:
    lines, order_status = _LINES[status]
    return st.builds(
        Report,
        number=NUMBERS,
        issuer=st.just("") | WORDS,
        status=st.just(status),
        patient=patients(),
        laboratory=st.builds(Person, organisation=WORDS, role=st.just("laboratory")),
        prescriber=st.none() | people("prescriber"),
        copies=st.lists(people("copy"), max_size=2).map(tuple),
        treating=st.none() | people("treating"),
        visit=st.just("") | NUMBERS,
        ward=texts(),
        issued=st.none() | moments(),
        urgent=st.booleans(),
        test=st.booleans(),
        text=texts(lines=True),
        batteries=st.lists(batteries(lines, order_status), max_size=3).map(tuple),
        comments=st.lists(comments(), max_size=1).map(tuple),
        patient_comments=st.lists(comments(), max_size=1).map(tuple),
        attachments=st.lists(attachments(), max_size=1).map(tuple),
        extras=st.lists(
            st.just(Extra(place="after OBX 1", kind="ZLB", text="ZLB|1")), max_size=1
        ).map(tuple),
    )
