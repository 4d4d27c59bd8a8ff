"""The segments of an ORU message in their groups, walked in order without demanding a structure.

An OBR opens an order; OBX, NTE and SPM attach to what stands before them (HL7 v2.5.1, 7.3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dlx.report import Extra
from formats.hl7v2 import Message, Segment, joined


@dataclass(slots=True)
class Line:
    """One OBX and its notes. ``number`` is the 1-based place of the segment in the message.

    ``obx`` has at least its 17 first fields, empty where the sender stopped before.
    """

    number: int
    obx: Segment
    notes: list[Segment]


@dataclass(slots=True)
class Order:
    """One OBR with what belongs to it.

    ``obr`` has at least its 32 first fields and ``orc`` 21, empty where the sender stopped before.
    """

    number: int
    obr: Segment
    orc: Segment
    notes: list[Segment] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    specimens: list[Segment] = field(default_factory=list)
    timings: list[Segment] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """One PATIENT_RESULT: a PID and its orders."""

    number: int
    pid: Segment
    pv1: Segment = field(default_factory=list)
    pd1: Segment = field(default_factory=list)
    notes: list[Segment] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    extras: list[Extra] = field(default_factory=list)
    stray_results: bool = False


def _filled(segment: Segment, last: int) -> Segment:
    """The segment with empty fields up to number ``last``."""
    missing = last + 1 - len(segment)
    return segment + [""] * missing if missing > 0 else segment


class Walk:
    """Groups the segments of one message.

    Attributes:
        groups: one for each PID. head_notes, head_extras: what stands before the first.
        continued: a DSC says that the rest is in another message.
    """

    def __init__(self, message: Message, is_flag: Callable[[Segment], bool] | None) -> None:
        self.groups: list[Group] = []
        self.head_notes: list[Segment] = []
        self.head_extras: list[Extra] = []
        self.continued = False
        self._message = message
        self._is_flag = is_flag
        self._notes = self.head_notes  # the list that the next NTE belongs to
        self._orc: Segment = []
        self._order: Order | None = None
        self._before: tuple[list[Segment], list[Segment]] = ([], [])  # notes, timings after ORC
        self._places: list[str] = []
        for number, segment in enumerate(message.segments, start=1):
            _TAKES.get(segment[0], Walk._extra)(self, number, segment)

    def _skip(self, number: int, segment: Segment) -> None:
        pass

    def _pid(self, number: int, segment: Segment) -> None:
        group = Group(number, segment)
        self.groups.append(group)
        self._notes = group.notes
        self._order, self._orc, self._before = None, [], ([], [])

    def _pv1(self, number: int, segment: Segment) -> None:
        if self.groups and not self.groups[-1].pv1:
            self.groups[-1].pv1 = segment
        else:
            self._extra(number, segment)

    def _pd1(self, number: int, segment: Segment) -> None:
        if self.groups and not self.groups[-1].pd1:
            self.groups[-1].pd1 = segment
        else:
            self._extra(number, segment)

    def _common_order(self, number: int, segment: Segment) -> None:
        self._orc = segment
        self._order = None
        self._before = ([], [])
        self._notes = self._before[0]

    def _request(self, number: int, segment: Segment) -> None:
        if not self.groups:
            self._extra(number, segment)
            return
        notes, timings = self._before
        obr, orc = _filled(segment, 32), _filled(self._orc, 21)
        self._order = Order(number, obr, orc, notes=notes, timings=timings)
        self._orc, self._before = [], ([], [])
        self.groups[-1].orders.append(self._order)
        self._notes = self._order.notes

    def _result(self, number: int, segment: Segment) -> None:
        if self._is_flag is not None and self._is_flag(segment):
            self._extra(number, segment)
        elif self._order is None:
            self._extra(number, segment)
            if self.groups:
                self.groups[-1].stray_results = True
        else:
            self._notes = []
            self._order.lines.append(Line(number, _filled(segment, 17), self._notes))

    def _note(self, number: int, segment: Segment) -> None:
        self._notes.append(segment)

    def _specimen(self, number: int, segment: Segment) -> None:
        if self._order is None:
            self._extra(number, segment)
        else:
            self._order.specimens.append(segment)

    def _timing(self, number: int, segment: Segment) -> None:
        (self._order.timings if self._order else self._before[1]).append(segment)

    def _continuation(self, number: int, segment: Segment) -> None:
        self.continued = self.continued or any(segment[1:])
        self._extra(number, segment)

    def _extra(self, number: int, segment: Segment) -> None:
        if segment[0].strip():
            text = joined(segment, self._message.separators)
            extra = Extra(place=self._place(number), kind=segment[0], text=text)
            (self.groups[-1].extras if self.groups else self.head_extras).append(extra)

    def _place(self, number: int) -> str:
        """``after OBX 3``: the third OBX of the message, whatever its set id says."""
        if not self._places:
            self._places = _places(self._message)
        return self._places[number - 1]


def _places(message: Message) -> list[str]:
    """For each segment, the last one before it that has a name."""
    seen: dict[str, int] = {}
    places, last = [], "first"
    for segment in message.segments:
        places.append(last)
        if name := segment[0].strip():
            seen[name] = seen.get(name, 0) + 1
            last = f"after {name} {seen[name]}"
    return places


_TAKES: Mapping[str, Callable[[Walk, int, Segment], None]] = {
    "MSH": Walk._skip,
    "PID": Walk._pid,
    "PV1": Walk._pv1,
    "PD1": Walk._pd1,
    "ORC": Walk._common_order,
    "OBR": Walk._request,
    "OBX": Walk._result,
    "NTE": Walk._note,
    "SPM": Walk._specimen,
    "TQ1": Walk._timing,
    "DSC": Walk._continuation,
}
