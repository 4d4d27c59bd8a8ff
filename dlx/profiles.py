"""What routing needs of the configuration: who wants reports how, and the exceptions.

A ``Book`` is built once by ``settings.load`` and never changes; a reload builds another. Each rule
keeps its place (``file:line:column``), so that every decision can be explained by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from types import MappingProxyType

from dlx.delivery import Fallback


class Partial(Enum):
    """What a recipient wants of a version that is not final."""

    SEND = "send"
    HOLD = "hold-until-final"
    SKIP = "skip"


class Group(Enum):
    """Who a policy speaks of; a profile id may stand wherever a group may."""

    PRESCRIBER = "prescriber"
    COPIES = "copies"
    TREATING = "treating_physician"
    ADDRESSEE = "addressee"
    ESTABLISHMENT = "establishment"
    PATIENT = "patient"
    PARENTS = "parents"


# What ``when`` may name. Flags are yes or no; group facts have profile ids as their values.
FLAG_FACTS = frozenset(
    {
        "patient.opposition",
        "patient.opposes_prescriber",
        "report.abnormal",
        "report.corrects",
        "report.critical",
        "report.invisible_to_patient",
        "report.secrecy",
        "report.urgent",
    }
)
WORD_FACTS = frozenset(
    {
        "report.format",
        "report.has",
        "report.issuer",
        "report.origin",
        "report.section",
        "report.status",
        "report.tag",
    }
)
GROUP_FACTS = frozenset({"prescriber", "establishment"})
AGE_FACT = "patient.age"
FACTS = FLAG_FACTS | WORD_FACTS | GROUP_FACTS | {AGE_FACT}

PATIENT = "patient"  # recipient id of what goes to the patient; no profile may bear it


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelRef:
    """A way out, as routing knows it. ``place`` is where it is declared."""

    name: str
    type: str
    enabled: bool = True
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One line of ``when``: a fact of the report and what it must be.

    Attributes:
        fact: ``report.urgent``, ``patient.age``… see ``FACTS``.
        operator: ``=`` or, for ages only, ``<``, ``<=``, ``>``, ``>=``.
        values: accepted values (one is enough); ``yes`` and ``no`` for flags.
    """

    fact: str
    operator: str = "="
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverRule:
    """One item of ``deliver``.

    Attributes:
        via: name of a channel. to: address, or "" where the channel knows it.
        formats: words of formats, in order; never empty.
        format_options: per format, what differs from its defaults.
        options: for the connector, as its ``Address`` declares.
        when: conditions that must all hold for this item; empty means always.
        place: ``file:line:column`` of the item. index: its position in the list, from 0.
    """

    via: str
    to: str = ""
    formats: tuple[str, ...]
    format_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    when: tuple[Condition, ...] = ()
    place: str
    index: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """Days (both included) on which somebody else receives too; both keep a copy.

    ``also_to`` is a profile id; ``until`` None means until further notice.
    """

    start: date
    until: date | None = None
    also_to: str
    place: str

    def covers(self, day: date) -> bool:
        """True on each day of the absence."""
        return self.start <= day and (self.until is None or day <= self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Practice:
    """A group of profiles that share one place of work."""

    id: str
    name: str = ""
    group_account: bool = False
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one recipient wants reports (« fiche »).

    Attributes:
        id: short word, unique. kind: ``person`` or ``establishment``.
        rpps (11 digits), adeli, finess (9 characters), lis_codes: how reports name it.
        partial: what to do with versions that are not final.
        urgent_now: urgent reports leave before the others.
        skip_unchanged: versions that say the same as before are not sent again.
        fallback: what to do when nothing proves the delivery, or None.
        practice: id of its practice, or "".
    """

    id: str
    kind: str = "person"
    family: str = ""
    given: str = ""
    title: str = ""
    organisation: str = ""
    rpps: str = ""
    adeli: str = ""
    finess: str = ""
    lis_codes: tuple[str, ...] = ()
    deliver: tuple[DeliverRule, ...] = ()
    partial: Partial = Partial.SEND
    urgent_now: bool = True
    skip_unchanged: bool = True
    fallback: Fallback | None = None
    absences: tuple[Absence, ...] = ()
    enabled: bool = True
    paper: bool = False
    practice: str = ""
    trust_identity: bool = False
    place: str

    @property
    def name(self) -> str:
        """« Dr LEFEVRE Anne », the organisation, or the id."""
        own = " ".join(part for part in (self.title, self.family, self.given) if part)
        return own or self.organisation or self.id

    @property
    def identity(self) -> Mapping[str, str]:
        """Identifiers for renditions: ``RPPS``, ``ADELI``, ``FINESS``, where known."""
        known = (("RPPS", self.rpps), ("ADELI", self.adeli), ("FINESS", self.finess))
        return {kind: value for kind, value in known if value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An exception that applies to many profiles (« règle »), operator-ux §5.6.

    Targets are words of ``Group`` or profile ids.

    Attributes:
        when: all must hold; empty means always.
        withhold_from: these get nothing. only_to: nobody else gets anything; empty = no limit.
        also_to: these get it too.
        hold: "" or the reason for which every delivery waits for a person; hold_for: targets that
            the hold concerns, empty = all.
        delay_seconds: leave this much later, or None. now: leave at once, before the others.
        acknowledge_seconds: a notice opens when nobody has read it by then, or None.
        patient_delivery: ``visible``, ``hidden`` (the portal holds it) or "" (not said).
    """

    name: str
    when: tuple[Condition, ...] = ()
    withhold_from: tuple[str, ...] = ()
    only_to: tuple[str, ...] = ()
    also_to: tuple[str, ...] = ()
    hold: str = ""
    hold_for: tuple[str, ...] = ()
    delay_seconds: float | None = None
    now: bool = False
    acknowledge_seconds: float | None = None
    patient_delivery: str = ""
    place: str


IdentifierKey = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Book:
    """Everything routing takes, frozen and indexed by ``book_of``.

    Attributes:
        profiles: by id, enabled or not. channels: by name. policies: in file order.
        patient: the profile of what goes to the patient (id ``patient``), or None.
        by_identifier: (``RPPS``|``FINESS``|``ADELI``|``LIS``, number) → profile id.
        zone: IANA name of the laboratory's time zone, for absences.
    """

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    practices: Mapping[str, Practice] = field(default_factory=dict)
    channels: Mapping[str, ChannelRef] = field(default_factory=dict)
    policies: tuple[Policy, ...] = ()
    patient: Profile | None = None
    by_identifier: Mapping[IdentifierKey, str] = field(default_factory=dict)
    zone: str = "Europe/Paris"

    def find(self, kind: str, value: str) -> Profile | None:
        """Return the profile that bears this identifier, enabled or not, or None."""
        found = self.by_identifier.get((kind, value))
        return self.profiles[found] if found is not None else None


def book_of(
    *,
    profiles: Iterable[Profile],
    channels: Iterable[ChannelRef],
    practices: Iterable[Practice] = (),
    policies: Iterable[Policy] = (),
    patient: Profile | None = None,
    zone: str = "Europe/Paris",
) -> Book:
    """Index the parts into a Book.

    Raises ValueError when two profiles share an id or an identifier: ``settings`` reports these
    with their places before it calls this, so a duplicate here can only be a mistake of the caller.
    """
    by_id: dict[str, Profile] = {}
    index: dict[IdentifierKey, str] = {}
    for profile in profiles:
        if profile.id in by_id:
            raise ValueError(f"two profiles are called {profile.id}")
        by_id[profile.id] = profile
        for key in identifiers_of(profile):
            if index.setdefault(key, profile.id) != profile.id:
                raise ValueError(f"{key[0]} {key[1]} belongs to two profiles")
    return Book(
        profiles=MappingProxyType(by_id),
        practices=MappingProxyType({practice.id: practice for practice in practices}),
        channels=MappingProxyType({channel.name: channel for channel in channels}),
        policies=tuple(policies),
        patient=patient,
        by_identifier=MappingProxyType(index),
        zone=zone,
    )


def identifiers_of(profile: Profile) -> tuple[IdentifierKey, ...]:
    """Every identifier under which reports may name this profile."""
    numbers = (("RPPS", profile.rpps), ("FINESS", profile.finess), ("ADELI", profile.adeli))
    named = tuple((kind, value) for kind, value in numbers if value)
    return named + tuple(("LIS", code) for code in profile.lis_codes)
