"""``policies.yaml`` and ``tests`` → policies and route tests, with their contradictions."""

from __future__ import annotations

import re
from itertools import combinations

from dlx.profiles import FACTS, Condition, Group, Policy
from dlx.settings import schema
from dlx.settings.checking import Run
from dlx.settings.explaining import Location, checked, validated
from dlx.settings.model import Expected, RouteTest
from dlx.settings.reading import Document

_GROUPS = frozenset(group.value for group in Group)
_NOT_ADDED = frozenset({Group.PARENTS.value})
# Besides the facts themselves: the persons named, and short forms of ``report.*``.
_GIVEN = {fact.removeprefix("report."): fact for fact in FACTS if fact.startswith("report.")}
_PERSONS = ("prescriber", "copies", "treating_physician", "addressee", "establishment")


def policies_of(run: Run, document: Document, *, patient: bool) -> tuple[Policy, ...]:
    """Read ``policies.yaml``; ``patient``: something may go to the patient."""
    shape = validated(schema.Policies, document, run.problems)
    found: list[Policy] = []
    for index, block in enumerate(shape.policies if shape else ()):
        path: Location = ("policies", index)
        one = checked(schema.Policy, document, block, path, run.problems)
        if one is not None:
            found.append(_policy(run, document, path, one, patient))
    names: dict[str, Policy] = {}
    for index, policy in enumerate(found):
        if policy.name in names:
            message = f"règle « {policy.name} » déjà définie ({names[policy.name].place})"
            run.add(document, ("policies", index, "name"), "C057", message)
        names.setdefault(policy.name, policy)
    _contradictions(run, document, found)
    return tuple(found)


def _policy(
    run: Run, document: Document, path: Location, one: schema.Policy, patient: bool
) -> Policy:
    for key in ("withhold_from", "only_to", "also_to", "hold_for"):
        for index, target in enumerate(getattr(one, key)):
            at: Location = (*path, key, index)
            if not run.known_profile(document, at, _GROUPS) or key != "also_to":
                continue
            if target in _NOT_ADDED:
                run.add(document, at, "C055", f"« {target} » ne peut pas être ajouté")
            elif target == Group.PATIENT.value and not patient:
                cure = "ajoutez « patient: {deliver: …} » à dlx.yaml"
                message = "aucun envoi au patient n'est configuré"
                run.add(document, at, "C055", message, cure=cure)
    both = set(one.withhold_from) & set(one.only_to)
    if both:
        message = f"la même règle réserve à et écarte : {', '.join(sorted(both))}"
        run.add(document, path, "C056", message)
    effects = (one.withhold_from, one.only_to, one.also_to, one.hold, one.delay, one.priority)
    if not any((*effects, one.acknowledge_within, one.patient_delivery)):
        run.warn(document, path, "C104", f"la règle « {one.name} » n'a aucun effet")
    return Policy(
        name=one.name,
        when=run.conditions(document, (*path, "when"), one.when),
        withhold_from=tuple(one.withhold_from),
        only_to=tuple(one.only_to),
        also_to=tuple(one.also_to),
        hold=one.hold,
        hold_for=tuple(one.hold_for),
        delay_seconds=one.delay,
        now=one.priority == "now",
        acknowledge_seconds=one.acknowledge_within,
        patient_delivery=one.patient_delivery,
        place=document.place(path),
    )


def _contradictions(run: Run, document: Document, policies: list[Policy]) -> None:
    """C056: two policies that may apply together and say the opposite at the same level."""
    for (_, first), (index, second) in combinations(enumerate(policies), 2):
        what = _opposed(first, second)
        if what and _may_meet(first.when, second.when):
            message = (
                f"les règles « {first.name} » ({first.place}) et « {second.name} »"
                f" se contredisent : {what}"
            )
            cure = "rendez leurs « when » exclusifs, ou gardez une seule des deux"
            run.add(document, ("policies", index), "C056", message, cure=cure)


def _opposed(first: Policy, second: Policy) -> str:
    if {first.patient_delivery, second.patient_delivery} == {"visible", "hidden"}:
        return "patient_delivery visible et hidden"
    if first.only_to and second.only_to and not set(first.only_to) & set(second.only_to):
        return "only_to ne laissent personne"
    delays = {first.delay_seconds, second.delay_seconds} - {None}
    return "delay différents" if len(delays) == 2 else ""


def _may_meet(first: tuple[Condition, ...], second: tuple[Condition, ...]) -> bool:
    """False only when some fact cannot be both; ages are taken to meet."""
    single = {"report.status", "report.issuer", "report.format"}
    for a in first:
        for b in second:
            exclusive = a.fact == b.fact and (a.fact in single or set(a.values) <= {"yes", "no"})
            if exclusive and not set(a.values) & set(b.values):
                return False
    return True


def tests_of(run: Run, document: Document) -> list[RouteTest]:
    """Read one file of route tests."""
    shape = validated(schema.RouteTests, document, run.problems)
    found: list[RouteTest] = []
    for index, block in enumerate(shape.tests if shape else ()):
        path: Location = ("tests", index)
        one = checked(schema.RouteTest, document, block, path, run.problems)
        if one is not None:
            found.append(
                RouteTest(
                    name=one.name,
                    given=_given(run, document, (*path, "given"), one.given),
                    expect=_expected(run, document, (*path, "expect"), one.expect),
                    expect_not=_expected(run, document, (*path, "expect_not"), one.expect_not),
                    place=document.place(path),
                )
            )
    return found


def _given(
    run: Run, document: Document, path: Location, given: dict[str, list[str]]
) -> dict[str, tuple[str, ...]]:
    """Facts by their full names; persons are profile ids."""
    found: dict[str, tuple[str, ...]] = {}
    for key, values in given.items():
        fact = _GIVEN.get(key, key)
        if key in _PERSONS:
            known = [
                run.known_profile(document, (*path, key, index), frozenset())
                for index in range(len(values))
            ]
            if all(known):
                found[key] = tuple(values)
        elif fact == "patient.age":
            if re.fullmatch(r"\d{1,3}", values[0]):
                found[fact] = tuple(values)
            else:
                message = f"âge « {values[0]} » : attendu un nombre d'années"
                run.add(document, (*path, key), "C046", message)
        else:
            for condition in _renamed(run, document, path, key, fact, values):
                found[fact] = condition.values
    return found


def _renamed(
    run: Run, document: Document, path: Location, key: str, fact: str, values: list[str]
) -> tuple[Condition, ...]:
    before = len(run.problems)
    conditions = run.conditions(document, path, {fact: values}, written={fact: key})
    return conditions if len(run.problems) == before else ()


def _expected(
    run: Run, document: Document, path: Location, items: list[schema.Expected]
) -> tuple[Expected, ...]:
    found: list[Expected] = []
    for index, item in enumerate(items):
        at: Location = (*path, index)
        run.known_profile(document, (*at, "to"), frozenset({Group.PATIENT.value}))
        if item.via:
            run.known_channel(document, (*at, "via"), item.via)
        for position, name in enumerate(item.formats):
            run.known_format(document, (*at, "formats", position), name, read=False)
        visible = "" if item.visible is None else "yes" if item.visible else "no"
        found.append(
            Expected(
                to=item.to,
                via=item.via,
                formats=tuple(item.formats),
                when=item.when,
                visible=visible,
            )
        )
    return tuple(found)
