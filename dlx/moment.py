"""Dates and times as laboratories write them: with less precision than a datetime, often no zone.

A ``Moment`` keeps the digits it was given, so that 31 January 2025 does not become midnight and
10:15 does not become 10:15:00. Readers fill it, writers ask it for the form their standard wants.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_SHAPE = re.compile(
    r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,6})?)?)?)?)?)?([+-]\d{4})?"
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or a time of reduced precision.

    Attributes:
        digits: ``YYYY[MM[DD[HH[MM[SS[.ffffff]]]]]]``, as in HL7 v2 chapter 2.A (DTM).
        zone: ``+HHMM`` or ``-HHMM`` when the source said so, else "" (the laboratory's own).
    """

    digits: str
    zone: str = ""

    @classmethod
    def read(cls, text: str) -> Moment | None:
        """Read the HL7/HPRIM form. None when ``text`` is not such a date (also 30 February)."""
        found = _SHAPE.fullmatch(text)
        if found is None:
            return None
        zone = found[8] or ""
        moment = cls(text[: len(text) - len(zone)], zone)
        try:
            moment.at(UTC)
        except ValueError:
            return None
        return moment

    @classmethod
    def of(cls, when: datetime) -> Moment:
        """Write an aware datetime, to the second."""
        return cls(when.strftime("%Y%m%d%H%M%S"), when.strftime("%z")[:5])

    def at(self, default_zone: tzinfo) -> datetime:
        """Return the first instant of this moment; ``default_zone`` is used when none was given."""
        d = self.digits
        zone: tzinfo = default_zone
        if self.zone:
            minutes = int(self.zone[1:3]) * 60 + int(self.zone[3:5])
            zone = timezone(timedelta(minutes=-minutes if self.zone[0] == "-" else minutes))
        whole, _, fraction = d.partition(".")
        return datetime(
            int(whole[0:4]),
            int(whole[4:6] or 1),
            int(whole[6:8] or 1),
            int(whole[8:10] or 0),
            int(whole[10:12] or 0),
            int(whole[12:14] or 0),
            int(fraction.ljust(6, "0")) if fraction else 0,
            tzinfo=zone,
        )

    @property
    def hl7(self) -> str:
        """The HL7 v2 form, exactly as precise as it was given."""
        return self.digits + self.zone

    @property
    def iso(self) -> str:
        """ISO 8601 of the same precision, for example ``2025-01-31T10:15``."""
        d = self.digits
        date = "-".join(part for part in (d[0:4], d[4:6], d[6:8]) if part)
        time = ":".join(part for part in (d[8:10], d[10:12], d[12:]) if part)
        zone = f"{self.zone[:3]}:{self.zone[3:]}" if self.zone else ""
        return f"{date}T{time}{zone}" if time else date

    @property
    def french_date(self) -> str:
        """``31/01/2025``, ``01/2025`` or ``2025``."""
        d = self.digits
        return "/".join(part for part in (d[6:8], d[4:6], d[0:4]) if part)

    @property
    def french(self) -> str:
        """``31/01/2025 à 10:15``; the date alone when no time was given."""
        d = self.digits
        time = ":".join(part for part in (d[8:10], d[10:12] or "00") if part) if d[8:10] else ""
        return f"{self.french_date} à {time}" if time else self.french_date
