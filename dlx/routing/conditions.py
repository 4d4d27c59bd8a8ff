"""What ``when`` may ask of a report, and the answers."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date

from dlx.facts import Facts, age_on
from dlx.profiles import AGE_FACT, GROUP_FACTS, Condition
from dlx.routing.matching import named


def _flag(tag: str) -> Callable[[Facts], set[str]]:
    return lambda facts: {"yes" if tag in facts.tags else "no"}


def _yes_no(value: bool) -> set[str]:
    return {"yes" if value else "no"}


def _has(facts: Facts) -> set[str]:
    return {group for group, _ in named(facts)}


def _origins(facts: Facts) -> set[str]:
    return {tag.removeprefix("origin:") for tag in facts.tags if tag.startswith("origin:")}


# One answer for each word of FLAG_FACTS and WORD_FACTS.
ANSWERS: Mapping[str, Callable[[Facts], set[str]]] = {
    "patient.opposition": _flag("opposition"),
    "patient.opposes_prescriber": _flag("opposes_prescriber"),
    "report.abnormal": lambda facts: _yes_no(facts.abnormal),
    "report.corrects": lambda facts: _yes_no(facts.corrects),
    "report.critical": lambda facts: _yes_no(facts.critical),
    "report.format": lambda facts: {facts.source_format},
    "report.has": _has,
    "report.invisible_to_patient": _flag("invisible_to_patient"),
    "report.issuer": lambda facts: {facts.issuer},
    "report.origin": _origins,
    "report.secrecy": _flag("secrecy"),
    "report.section": lambda facts: set(facts.sections),
    "report.status": lambda facts: {facts.status.value},
    "report.tag": lambda facts: set(facts.tags),
    "report.urgent": lambda facts: _yes_no(facts.urgent),
}
_COMPARE: Mapping[str, Callable[[int, int], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def holds(
    condition: Condition, facts: Facts, matched: Mapping[str, set[str]], today: date
) -> bool | None:
    """Answer one condition: True, False, or None when the report does not tell (no birth date).

    ``matched`` gives the profile ids found for each group of persons named.
    """
    if condition.fact == AGE_FACT:
        age = age_on(facts.birth_date, today)
        if age is None:
            return None
        compare = _COMPARE[condition.operator]
        return any(compare(age, int(value)) for value in condition.values)
    wanted = set(condition.values)
    if condition.fact in GROUP_FACTS:
        return bool(matched.get(condition.fact, set()) & wanted)
    return bool(ANSWERS[condition.fact](facts) & wanted)
