"""Routing run for people, changing nothing: the route tests that operators write in YAML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from dlx.delivery import Route
from dlx.facts import Facts
from dlx.profiles import AGE_FACT, Book
from dlx.report import Identifier, Person, ReportStatus
from dlx.routing import routes_for
from dlx.settings.model import Expected, RouteTest

_TAGS = ("opposition", "opposes_prescriber", "invisible_to_patient", "secrecy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """The outcome of one route test; ``problems`` is empty when it does what it says."""

    name: str
    place: str
    problems: tuple[str, ...]


def rehearse(tests: Sequence[RouteTest], book: Book, now: datetime) -> list[Rehearsed]:
    """Play every route test against a book."""
    return [
        Rehearsed(name=test.name, place=test.place, problems=tuple(_problems(test, book, now)))
        for test in tests
    ]


def _problems(test: RouteTest, book: Book, now: datetime) -> list[str]:
    routes = routes_for(facts_of(test.given, book, now.date()), book, now).routes
    missing = [f"attendu et absent : {_said(e)}" for e in test.expect if not _any(routes, e)]
    unwanted = [f"présent et non voulu : {_said(e)}" for e in test.expect_not if _any(routes, e)]
    if missing:
        there = ", ".join(f"{r.recipient} par {r.channel}" for r in routes) or "aucun envoi"
        missing.append(f"il y a : {there}")
    return missing + unwanted


def _any(routes: Sequence[Route], wanted: Expected) -> bool:
    return any(_fits(route, wanted) for route in routes)


def _fits(route: Route, wanted: Expected) -> bool:
    if route.recipient != wanted.to or wanted.via not in ("", route.channel):
        return False
    if wanted.formats and tuple(route.formats) != wanted.formats:
        return False
    match wanted.when:
        case "now":
            return not route.hold and route.not_before is None
        case "held":
            return bool(route.hold)
        case "later":
            return not route.hold and route.not_before is not None
        case _:
            return True


def _said(wanted: Expected) -> str:
    parts = [f"vers {wanted.to}"]
    parts += [f"par {wanted.via}"] if wanted.via else []
    parts += [f"en {', '.join(wanted.formats)}"] if wanted.formats else []
    parts += [f"({wanted.when})"] if wanted.when else []
    return " ".join(parts)


def facts_of(given: Mapping[str, tuple[str, ...]], book: Book, today: date) -> Facts:
    """The facts of the imaginary report that ``given`` describes; persons are profile ids."""

    def persons(key: str) -> tuple[Person, ...]:
        return tuple(_person(book, id, key) for id in given.get(key, ()))

    def first(key: str) -> Person | None:
        return next(iter(persons(key)), None)

    def yes(key: str) -> bool:
        return given.get(key, ()) == ("yes",)

    status = ReportStatus(given.get("report.status", ("final",))[0])
    tags = [tag for tag in _TAGS if yes(f"patient.{tag}") or yes(f"report.{tag}")]
    tags += [f"origin:{word}" for word in given.get("report.origin", ())]
    tags += list(given.get("report.tag", ()))
    return Facts(
        number="ESSAI",
        issuer=next(iter(given.get("report.issuer", ())), ""),
        status=status,
        corrects=status is ReportStatus.CORRECTED or yes("report.corrects"),
        birth_date=_born(given.get(AGE_FACT, ()), today),
        prescriber=first("prescriber"),
        copies=persons("copies"),
        treating=first("treating_physician"),
        addressee=first("addressee"),
        establishment=first("establishment"),
        urgent=yes("report.urgent"),
        critical=yes("report.critical"),
        abnormal=yes("report.abnormal"),
        sections=given.get("report.section", ()),
        source_format=next(iter(given.get("report.format", ())), ""),
        tags=tuple(tags),
    )


def _person(book: Book, id: str, role: str) -> Person:
    profile = book.profiles[id]
    numbers = [("RPPS", profile.rpps), ("FINESS", profile.finess), ("ADELI", profile.adeli)]
    numbers += [("LIS", code) for code in profile.lis_codes]
    return Person(
        identifiers=tuple(Identifier(value=v, type=k) for k, v in numbers if v),
        family=profile.family,
        organisation=profile.organisation,
        role=role,
    )


def _born(age: tuple[str, ...], today: date) -> str:
    """A birth date of somebody who is that old today; "" when the test does not say."""
    years = "".join(c for c in next(iter(age), "") if c.isdigit())
    if not years:
        return ""
    return (today - timedelta(days=round(int(years) * 365.2425) + 1)).isoformat()
