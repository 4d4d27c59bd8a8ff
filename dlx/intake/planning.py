"""What to promise for a parsed file: version, recipients, renditions wanted. No I/O.

Refusals that concern the whole file are raised as Refuse; the caller quarantines it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache

from pydantic import TypeAdapter

from dlx.contracts import Format, Options
from dlx.delivery import Notice, NoticeKind, Route
from dlx.facts import Facts, without_identity
from dlx.ledger import (
    Failure,
    LatestVersion,
    PlannedDelivery,
    PlannedRendition,
    ReportEntry,
)
from dlx.profiles import Book, Profile
from dlx.rendering import Finding, Made, ParsedFile, Wish
from dlx.report import Identifier, Person, ReportStatus
from dlx.routing import Routing, match, routes_for
from dlx.settings.model import Pickup

FACTS = TypeAdapter(Facts)
Key = tuple[str, str]


class Refuse(Exception):
    """The file cannot be taken; ``finding`` says why, in words for the ``.why`` file."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.code)
        self.finding = finding


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What the configuration in force says to intake.

    Attributes:
        give_up_seconds: by channel; a delivery expires so long after its creation.
        hash: of the configuration set.
        people: addressees made so far, by recipient and name; dropped with these rules.
    """

    book: Book
    formats: Mapping[str, Format]
    give_up_seconds: Mapping[str, float]
    hash: str
    people: dict[tuple[str, str], Person] = field(default_factory=dict)


@dataclass(kw_only=True)
class Plan:
    """One report version before its bytes are made.

    Attributes:
        token: (worker, token) where the parsed report is kept.
        wishes: renditions wanted, each once; ``wanted``: positions in it for each route.
    """

    facts: Facts
    token: tuple[int, int]
    patient_hash: str
    version: int = 1
    replaces: int = 0
    unchanged: bool = False
    late: timedelta = timedelta(0)
    routing: Routing = field(default_factory=Routing)
    wishes: list[Wish] = field(default_factory=list)
    wanted: list[list[int]] = field(default_factory=list)


def refuse_mixed_patients(parsed: ParsedFile, pickup: Pickup) -> None:
    """Raise Refuse when a file that is no batch holds several patients and nobody allowed it."""
    patients = {report.facts.patient_key for report in parsed.reports}
    if len(patients) > 1 and not parsed.several_expected and pickup.patients != "several":
        raise Refuse(
            Finding(
                code="two_patients",
                message=f"{len(patients)} patients dans un même fichier : rien n'est diffusé."
                " Si le SIL en écrit volontairement plusieurs, mettez « patients: several »"
                " sur ce point de collecte, puis : dlx reject retry",
            )
        )


def refuse_incomplete(facts: Facts, diagnostics: Sequence[Finding]) -> None:
    """Raise Refuse when a report was cut: it must never leave as if it were whole."""
    if facts.incomplete:
        marks = ", ".join(f"{d.code} {d.message}" for d in diagnostics[:3])
        raise Refuse(
            Finding(
                code="incomplete",
                message="fichier coupé ou sans marque de fin : rien n'est diffusé, le SIL doit le"
                f" produire à nouveau ({marks or 'fin absente'})",
            )
        )


def next_version(facts: Facts, latest: LatestVersion | None, patient_hash: str) -> tuple[int, bool]:
    """The number of this version, and whether it says the same as the last one.

    Raises Refuse: another patient under the same number, other content without being declared a
    correction, or a version older than what was already sent.
    """
    if latest is None:
        return 1, False
    if latest.patient_hash and patient_hash and latest.patient_hash != patient_hash:
        raise Refuse(
            Finding(
                code="identity_conflict",
                message="ce numéro de dossier existe déjà pour un autre patient : rien n'est"
                " diffusé. Vérifiez le dossier dans le SIL avant de le valider à nouveau",
            )
        )
    if latest.content_key == facts.content_key:
        return latest.version, True
    ended = latest.status in (ReportStatus.FINAL, ReportStatus.CORRECTED)
    if ended and facts.status is ReportStatus.PARTIAL:
        raise Refuse(
            Finding(
                code="outdated",
                message="résultats partiels d'un dossier déjà diffusé complet : version périmée,"
                " rien n'est diffusé",
            )
        )
    if latest.status is ReportStatus.CORRECTED and facts.status is ReportStatus.FINAL:
        raise Refuse(
            Finding(
                code="outdated",
                message="une correction de ce dossier a déjà été diffusée : cette version est plus"
                " ancienne, ou n'est pas déclarée comme correction",
            )
        )
    if ended and facts.status is ReportStatus.FINAL:
        raise Refuse(
            Finding(
                code="conflict",
                message="ce dossier a déjà été diffusé avec un autre contenu et ce fichier n'est"
                " pas déclaré comme correction : validez-le comme corrigé dans le SIL",
            )
        )
    return latest.version + 1, False


def route_plan(plan: Plan, rules: Rules, now: datetime, received_before: frozenset[str]) -> None:
    """Decide the recipients of a plan and the renditions they need."""
    plan.routing = routes_for(plan.facts, rules.book, now, received_before=received_before)
    index: dict[Hashable, int] = {}
    for route in plan.routing.routes:
        positions = []
        for name in route.formats:
            wish = _wish(name, route, rules)
            key = (name, tuple(sorted(wish.options.items())), wish.to)
            if key not in index:
                index[key] = len(plan.wishes)
                plan.wishes.append(wish)
            positions.append(index[key])
        plan.wanted.append(positions)


def _wish(name: str, route: Route, rules: Rules) -> Wish:
    options: Options = route.format_options.get(name, {})
    if not rules.formats[name].addressed:
        return Wish(format=name, options=options)
    person = rules.people.get((route.recipient, route.recipient_name))
    if person is None:
        person = addressee(route, rules.book)
        rules.people[route.recipient, route.recipient_name] = person
    return Wish(format=name, options=options, to=person)


def addressee(route: Route, book: Book) -> Person:
    """The recipient as a format may print it."""
    profile: Profile | None = book.profiles.get(route.recipient)
    numbers = tuple(Identifier(value=v, type=k) for k, v in route.identity.items())
    if profile is None:
        return Person(identifiers=numbers, family=route.recipient_name, role="addressee")
    codes = tuple(Identifier(value=code, type="LIS") for code in profile.lis_codes[:1])
    return Person(
        identifiers=codes + numbers,
        family=profile.family,
        given=profile.given,
        title=profile.title,
        organisation=profile.organisation,
        role="addressee",
    )


def entry_of(
    plan: Plan,
    made: Sequence[tuple[Made, bytes]],
    digests: Mapping[int, str],
    rules: Rules,
    now: datetime,
) -> ReportEntry:
    """The ledger's entry of one version, its renditions made and archived (``digests`` by wish)."""
    renditions = tuple(
        PlannedRendition(
            ref=str(position),
            format=done.format,
            options_hash=_options_hash(plan.wishes[position]),
            sha256=digests[position],
            size=len(content),
            suffix=done.suffix,
            media_type=done.media_type,
            losses=done.losses,
        )
        for position, (done, content) in enumerate(made)
        if done.refused is None
    )
    deliveries = tuple(
        _delivery(route, positions, made, plan, rules, now)
        for route, positions in zip(plan.routing.routes, plan.wanted, strict=True)
    )
    facts = plan.facts
    return ReportEntry(
        issuer=facts.issuer,
        number=facts.number,
        status=facts.status,
        facts=FACTS.dump_json(without_identity(facts), exclude_defaults=True).decode(),
        patient_hash=plan.patient_hash,
        content_key=facts.content_key,
        message_id=facts.message_id,
        renditions=renditions,
        deliveries=deliveries,
        notices=tuple(_notices(plan)),
        withheld=_withheld(plan.routing),
        unchanged=plan.unchanged,
        prescriber=_profile_of(facts.prescriber, "prescriber", rules.book),
        establishment=_profile_of(facts.establishment, "establishment", rules.book),
    )


def _profile_of(person: Person | None, role: str, book: Book) -> str:
    """Id of the profile that a report names, for the selections of the command line; or ""."""
    if person is None:
        return ""
    profile, _ = match(person, role, book)
    return profile.id if profile else ""


def _options_hash(wish: Wish) -> str:
    return _hashed(tuple(sorted(wish.options.items())), wish.to)


@lru_cache(maxsize=4096)
def _hashed(options: tuple[tuple[str, str], ...], to: Person) -> str:
    if not options and to == Person():
        return ""
    return hashlib.sha256(repr((options, to)).encode()).hexdigest()[:32]


def _delivery(
    route: Route,
    positions: Sequence[int],
    made: Sequence[tuple[Made, bytes]],
    plan: Plan,
    rules: Rules,
    now: datetime,
) -> PlannedDelivery:
    refused = next((made[p][0] for p in positions if made[p][0].refused), None)
    due = max(route.not_before or now, now + plan.late)
    return PlannedDelivery(
        recipient=route.recipient,
        recipient_name=route.recipient_name,
        channel=route.channel,
        address=route.address,
        options=route.options,
        why=route.why,
        renditions=() if refused else tuple(str(p) for p in positions),
        due_at=due,
        expires_at=due + timedelta(seconds=rules.give_up_seconds[route.channel]),
        hold=route.hold,
        urgent=route.urgent,
        failure=_render_failure(refused) if refused else None,
    )


def _render_failure(made: Made) -> Failure:
    assert made.refused is not None  # noqa: S101 - the caller looked
    return Failure(
        code=f"render-{made.refused.code}",
        message=f"rendu {made.format} impossible : {made.refused.message}",
        cure="choisissez un autre format dans la fiche, puis : dlx replay",
    )


def _notices(plan: Plan) -> list[Notice]:
    notices = [
        Notice(subject="", kind=p.kind, cause=p.cause, words=p.words, command=p.command)
        for p in plan.routing.problems
    ]
    # one open notice per subject and kind: several problems of one report are told together
    if len(notices) > 1:
        first = notices[0]
        by_kind: dict[NoticeKind, list[Notice]] = {}
        for notice in notices:
            by_kind.setdefault(notice.kind, []).append(notice)
        notices = [
            replace(
                group[0],
                cause=" ; ".join(dict.fromkeys(n.cause for n in group)),
                words=" ; ".join(dict.fromkeys(n.words for n in group if n.words)),
                command=group[0].command or first.command,
            )
            for group in by_kind.values()
        ]
    return notices


def _withheld(routing: Routing) -> str:
    rows = [[w.recipient, w.channel, w.why] for w in routing.withheld]
    return json.dumps(rows, ensure_ascii=False) if rows else ""
