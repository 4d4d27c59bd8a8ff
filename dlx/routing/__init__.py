"""Report facts + profiles + policies → routes, each with its reason. Pure: no clock, no disk.

1. Persons named in the report are matched to profiles by their numbers, never by their names.
2. Policies whose ``when`` holds add recipients, withhold, hold, delay or hasten (operator-ux §5.6).
3. Each profile says by which ways; what is not taken is ``Withheld``, what a person must know is a
   ``Problem``. A named recipient is never dropped without one of the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dlx.delivery import Route, Withheld
from dlx.facts import Facts
from dlx.profiles import PATIENT, Book, Condition, DeliverRule, Group, Partial, Policy, Profile
from dlx.report import ReportStatus
from dlx.routing.conditions import holds
from dlx.routing.matching import ROLE_WORDS, Problem, match, named

__all__ = ["Problem", "Routing", "match", "routes_for"]

_TEST = "compte rendu marqué « test » : retenu, jamais envoyé à un vrai destinataire sans personne"
_INCOMPLETE = "compte rendu incomplet (fichier coupé ou sans marque de fin) : retenu"
_TREATING_NOT_ADDED = (
    "médecin traitant nommé ; aucune règle ne l'ajoute (also_to: [treating_physician])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """The decision on one version of one report.

    Attributes:
        routes: at most one per (recipient, channel, address). withheld: considered, not taken.
        problems: never empty when ``routes`` is empty, unless every recipient is known and asked
            to skip partial versions.
        acknowledge_seconds: a notice is due when nobody has read it by then, or None.
        why: places and names of the policies that applied, in file order.
    """

    routes: tuple[Route, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    problems: tuple[Problem, ...] = ()
    acknowledge_seconds: float | None = None
    why: tuple[str, ...] = ()


@dataclass(slots=True)
class _Recipient:
    profile: Profile
    groups: set[str]
    reasons: list[str]
    earlier: bool = False


class _Decision:
    """One run of ``routes_for``: what it takes, and what it has found so far."""

    def __init__(self, facts: Facts, book: Book, now: datetime, earlier: frozenset[str]) -> None:
        self.facts, self.book, self.now = facts, book, now
        self.today = now.astimezone(ZoneInfo(book.zone)).date()
        self.corrects = facts.corrects or facts.status in (
            ReportStatus.CORRECTED,
            ReportStatus.CANCELLED,
        )
        self.earlier = earlier if self.corrects else frozenset()
        self.recipients: dict[str, _Recipient] = {}
        self.routes: dict[tuple[str, str, str], Route] = {}
        self.withheld: list[Withheld] = []
        self.problems: list[Problem] = []
        self.matched: dict[str, set[str]] = {}
        self.skipped_partial = False
        self.matches = [
            (group, person, *match(person, ROLE_WORDS[group], book))
            for group, person in named(facts)
        ]
        for group, _, profile, _ in self.matches:
            if profile is not None:
                self.matched.setdefault(group, set()).add(profile.id)
        self.policies = [policy for policy in book.policies if self.applies(policy)]

    def applies(self, policy: Policy) -> bool:
        """An unknown age counts as a match where the policy protects, else as none."""
        protects = bool(
            policy.withhold_from
            or policy.only_to
            or policy.hold
            or policy.delay_seconds is not None
            or policy.patient_delivery == "hidden"
        )
        return self.all_hold(policy.when, unknown=protects)

    def all_hold(self, when: Iterable[Condition], *, unknown: bool) -> bool:
        answers = [holds(one, self.facts, self.matched, self.today) for one in when]
        return all(unknown if answer is None else answer for answer in answers)

    # recipients

    def add(self, profile: Profile, groups: Iterable[str], reason: str) -> None:
        """Add somebody once; named twice, the groups and reasons add up. Locums follow."""
        known = self.recipients.get(profile.id)
        if known is None:
            known = _Recipient(profile, set(), [], profile.id in self.earlier)
            self.recipients[profile.id] = known
        new = set(groups) - known.groups
        if reason not in known.reasons:
            known.reasons.append(reason)
        known.groups |= new
        if not new:
            return
        for absence in profile.absences:
            locum = self.book.profiles.get(absence.also_to)
            if absence.covers(self.today) and locum is not None:
                why = f"remplace {profile.id} absent, {absence.place}"
                self.add(locum, known.groups, why)

    def gather(self) -> None:
        """Named persons, then those whom policies add, then those who got an earlier version."""
        added = {target for policy in self.policies for target in policy.also_to}
        for group, _, profile, problem in self.matches:
            if group == Group.TREATING.value and group not in added:
                continue
            if profile is not None:
                self.add(profile, [group], ROLE_WORDS[group])
            elif problem is not None:
                self.problems.append(problem)
        if self.book.patient is not None:
            self.add(self.book.patient, [PATIENT], "patient")
        for policy in self.policies:
            for target in policy.also_to:
                self.add_target(target, policy)
        for profile_id in sorted(self.earlier - self.recipients.keys()):
            self.add_earlier(profile_id)
        for profile_id in sorted(self.matched.get(Group.TREATING.value, set())):
            if profile_id not in self.recipients:
                self.withhold(profile_id, "", _TREATING_NOT_ADDED)

    def add_target(self, target: str, policy: Policy) -> None:
        why = f"ajouté par {_cited(policy)}"
        chosen = {target} | self.matched.get(target, set())
        for profile_id in sorted(chosen & self.book.profiles.keys()):
            self.add(self.book.profiles[profile_id], ["policy"], why)

    def add_earlier(self, profile_id: str) -> None:
        profile = self.book.profiles.get(profile_id)
        if profile is not None:
            self.add(profile, ["earlier"], "a reçu une version antérieure")
            return
        cause = f"correction non transmise : la fiche {profile_id} n'existe plus"
        words = f"{profile_id} a reçu une version antérieure"
        self.problems.append(Problem(cause=cause, words=words, command="dlx profile list"))

    # routes

    def decide(self, recipient: _Recipient) -> None:
        """Routes of one recipient, or what replaces them."""
        profile = recipient.profile
        policy = self.forbidding(recipient)
        if policy is not None or not profile.enabled or not profile.deliver:
            self.refuse(recipient, policy)
            return
        partial = self.facts.status is ReportStatus.PARTIAL and not recipient.earlier
        if partial and profile.partial is Partial.SKIP:
            self.skipped_partial = True
            why = f"{profile.place} fiche {profile.id}, partial: skip"
            self.withhold_all(profile, why)
            return
        taken = [self.take(rule, recipient, partial) for rule in profile.deliver]
        if not any(taken):
            cause = f"aucun envoi possible pour {profile.id} : canaux arrêtés ou conditions fausses"
            self.problems.append(Problem(cause=cause, command=f"dlx profile show {profile.id}"))

    def forbidding(self, recipient: _Recipient) -> Policy | None:
        """The first policy that withholds the report from this recipient."""
        own = recipient.groups | {recipient.profile.id}
        for policy in self.policies:
            if own & set(policy.withhold_from) or (
                policy.only_to and not own & set(policy.only_to)
            ):
                return policy
        return None

    def refuse(self, recipient: _Recipient, policy: Policy | None) -> None:
        """Nothing for this recipient; a person is told unless a policy wants it so."""
        profile = recipient.profile
        if policy is None:
            why = "fiche désactivée" if not profile.enabled else "fiche sans envoi (deliver vide)"
            self.withhold_all(profile, f"{profile.place} {why}")
            command = f"dlx profile show {profile.id}"
            self.problems.append(Problem(cause=f"{why} : {profile.id}", command=command))
            return
        self.withhold_all(profile, _cited(policy))
        if recipient.earlier:
            cause = f"correction non transmise à {profile.id}, qui a reçu une version antérieure"
            self.problems.append(Problem(cause=cause, words=_cited(policy)))

    def withhold_all(self, profile: Profile, why: str) -> None:
        for channel in dict.fromkeys(rule.via for rule in profile.deliver) or [""]:
            self.withhold(profile.id, channel, why)

    def withhold(self, recipient: str, channel: str, why: str) -> None:
        self.withheld.append(Withheld(recipient=recipient, channel=channel, why=why))

    def take(self, rule: DeliverRule, recipient: _Recipient, partial: bool) -> bool:
        """Turn one item of ``deliver`` into a route; False when it is withheld."""
        profile = recipient.profile
        said = f"{rule.place} fiche {profile.id}, deliver[{rule.index}]"
        channel = self.book.channels.get(rule.via)
        if channel is None or not channel.enabled:
            self.withhold(profile.id, rule.via, f"{said} : canal {rule.via} désactivé")
            return False
        if not self.all_hold(rule.when, unknown=False):
            self.withhold(profile.id, rule.via, f"{said} : condition « when » non remplie")
            return False
        key = (profile.id, rule.via, rule.to)
        if key in self.routes:  # two items for one address: one delivery carries all renditions
            first = self.routes[key]
            formats = tuple(dict.fromkeys(first.formats + rule.formats))
            options = {**rule.format_options, **first.format_options}
            self.routes[key] = replace(first, formats=formats, format_options=options)
            return True
        reasons = ", ".join(recipient.reasons)
        self.routes[key] = self.route(rule, recipient, f"{said} ({reasons})", partial)
        return True

    def route(self, rule: DeliverRule, recipient: _Recipient, why: str, partial: bool) -> Route:
        """The route with the effects of the policies: hold, then delay, then now."""
        profile = recipient.profile
        own = recipient.groups | {profile.id}
        holding = [p for p in self.policies if p.hold and (not p.hold_for or own & set(p.hold_for))]
        delaying = [p for p in self.policies if p.delay_seconds is not None]
        hastening = [p for p in self.policies if p.now]
        hold = self.hold(profile, partial) or (holding[0].hold if holding else "")
        wait = max((p.delay_seconds or 0.0 for p in delaying), default=None)
        shown = holding or delaying or hastening
        urgent = self.facts.urgent and profile.urgent_now
        options = dict(rule.options)
        if profile.id == PATIENT and any(p.patient_delivery == "hidden" for p in self.policies):
            options["visible"] = "no"
        return Route(
            recipient=profile.id,
            recipient_name=profile.name if profile.id != PATIENT else "",
            channel=rule.via,
            address=rule.to,
            formats=rule.formats,
            format_options=rule.format_options,
            options=options,
            why=" ; ".join([why, *(_cited(policy) for policy in shown)]),
            hold=hold,
            not_before=None if wait is None else self.now + timedelta(seconds=wait),
            urgent=urgent or (bool(hastening) and wait is None and not hold),
            identity=profile.identity,
            fallback=profile.fallback,
        )

    def hold(self, profile: Profile, partial: bool) -> str:
        """Why this report may not leave by itself, or ""."""
        if self.facts.test:
            return _TEST
        if self.facts.incomplete:
            return _INCOMPLETE
        if partial and profile.partial is Partial.HOLD:
            return f"compte rendu partiel ; la fiche {profile.id} attend le résultat final"
        return ""

    def conclude(self) -> Routing:
        """Add what concerns the whole report."""
        if self.facts.test:
            self.problems.append(Problem(cause=_TEST))
        if self.facts.incomplete:
            self.problems.append(Problem(cause=_INCOMPLETE))
        if not self.routes and not self.problems and not self.skipped_partial:
            cause = "aucun destinataire : personne ne recevra ce compte rendu"
            self.problems.append(Problem(cause=cause, command="dlx profile list"))
        within = [p.acknowledge_seconds for p in self.policies if p.acknowledge_seconds is not None]
        return Routing(
            routes=tuple(self.routes.values()),
            withheld=tuple(self.withheld),
            problems=tuple(dict.fromkeys(self.problems)),
            acknowledge_seconds=min(within, default=None),
            why=tuple(_cited(policy) for policy in self.policies),
        )


def _cited(policy: Policy) -> str:
    return f"{policy.place} règle « {policy.name} »"


def routes_for(
    facts: Facts, book: Book, now: datetime, *, received_before: frozenset[str] = frozenset()
) -> Routing:
    """Decide who gets this version, by which way, and why.

    Args:
        facts: of the version to send.
        book: profiles, policies and channels in force.
        now: aware; decides on absences, ages and delays.
        received_before: profile ids that got, or may have got, an earlier version: a correction or
            cancellation reaches them even when it does not name them, and is not held as partial.

    Test and incomplete reports are held for a person, always with a problem.
    """
    decision = _Decision(facts, book, now, received_before)
    decision.gather()
    for recipient in list(decision.recipients.values()):
        decision.decide(recipient)
    return decision.conclude()
