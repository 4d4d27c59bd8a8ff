"""Routing decides on facts alone: every rule of the sheet as a sentence, then as properties."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlx.delivery import NoticeKind
from dlx.facts import Facts
from dlx.profiles import (
    FLAG_FACTS,
    WORD_FACTS,
    Absence,
    Book,
    ChannelRef,
    Condition,
    DeliverRule,
    Group,
    Partial,
    Policy,
    Profile,
    book_of,
)
from dlx.report import Identifier, Person, ReportStatus
from dlx.routing import Routing, routes_for
from dlx.routing.conditions import ANSWERS

NOW = datetime(2026, 8, 10, 9, 0, tzinfo=UTC)
CHANNELS = [ChannelRef(name="mssante", type="smime-mail"), ChannelRef(name="sftp", type="sftp")]


def rule(via: str = "mssante", to: str = "", index: int = 0, **more: object) -> DeliverRule:
    words: dict[str, object] = {"formats": ("pdf",), "place": f"a.yaml:{index + 9}:9", **more}
    return DeliverRule(via=via, to=to, index=index, **words)  # type: ignore[arg-type]


def profile(name: str, **more: object) -> Profile:
    words: dict[str, object] = {
        "lis_codes": (name.upper(),),
        "deliver": (rule(to=f"{name}@x.example"),),
        "place": "a.yaml:3:5",
        **more,
    }
    return Profile(id=name, **words)  # type: ignore[arg-type]


def person(code: str, kind: str = "") -> Person:
    return Person(identifiers=(Identifier(value=code, type=kind),), family="X-TEST")


LEFEVRE = profile("lefevre", rpps="99700000013")
MOREL = profile("morel", rpps="99700000021")
CLINIC = profile(
    "clinique", kind="establishment", finess="017777764", deliver=(rule("sftp", "in/"),)
)
FACTS = Facts(number="1", prescriber=person("LEFEVRE"))


def book(*profiles: Profile, policies: tuple[Policy, ...] = (), **more: object) -> Book:
    everybody = profiles or (LEFEVRE, MOREL, CLINIC)
    return book_of(profiles=everybody, channels=CHANNELS, policies=policies, **more)  # type: ignore[arg-type]


def policy(**more: object) -> Policy:
    return Policy(**{"name": "règle", "place": "policies.yaml:3:5", **more})  # type: ignore[arg-type]


def when(fact: str, *values: str, operator: str = "=") -> tuple[Condition, ...]:
    return (Condition(fact=fact, operator=operator, values=values),)


def decide(facts: Facts = FACTS, known: Book | None = None, earlier: str = "") -> Routing:
    before = frozenset(earlier.split())
    return routes_for(facts, known or book(), NOW, received_before=before)


def reached(routing: Routing) -> list[str]:
    return [route.recipient for route in routing.routes]


def test_prescriber_gets_the_report_as_the_profile_says_and_why_names_the_rule() -> None:
    (route,) = decide().routes
    assert (route.recipient, route.channel, route.address) == (
        "lefevre",
        "mssante",
        "lefevre@x.example",
    )
    assert route.why == "a.yaml:9:9 fiche lefevre, deliver[0] (prescripteur)"
    assert route.identity == {"RPPS": "99700000013"}
    assert not route.hold
    assert route.not_before is None


@pytest.mark.parametrize(
    ("code", "kind"),
    [("99700000013", "RPPS"), ("99700000013", ""), ("LEFEVRE", ""), ("LEFEVRE", "PI")],
)
def test_person_is_found_by_any_number_of_hers(code: str, kind: str) -> None:
    assert reached(decide(replace(FACTS, prescriber=person(code, kind)))) == ["lefevre"]


@pytest.mark.parametrize("kind", ["FINESS", "FINEG", "FINEJ"])
def test_establishment_is_found_by_finess(kind: str) -> None:
    facts = replace(FACTS, establishment=person("017777764", kind))
    assert reached(decide(facts)) == ["lefevre", "clinique"]


def test_rpps_and_code_of_two_profiles_are_a_problem_and_nobody_gets_it() -> None:
    two = Person(
        identifiers=(Identifier(value="99700000013", type="RPPS"), Identifier(value="MOREL"))
    )
    routing = decide(replace(FACTS, prescriber=two))
    assert routing.routes == ()
    assert "ambigu" in routing.problems[0].cause


def test_code_of_a_profile_with_another_rpps_is_a_problem_and_nobody_gets_it() -> None:
    other = Person(
        identifiers=(Identifier(value="99700000099", type="RPPS"), Identifier(value="LEFEVRE"))
    )
    routing = decide(replace(FACTS, prescriber=other))
    assert routing.routes == ()
    assert "contradictoire" in routing.problems[0].cause


def test_unknown_prescriber_is_a_problem_and_the_known_copy_still_gets_hers() -> None:
    routing = decide(replace(FACTS, prescriber=person("0412"), copies=(person("MOREL"),)))
    assert reached(routing) == ["morel"]
    (problem,) = routing.problems
    assert problem.kind is NoticeKind.UNROUTED
    assert problem.cause == "prescripteur inconnu : code SIL 0412"
    assert problem.command == "dlx profile new --lis-code 0412"


def test_report_that_names_nobody_is_a_problem() -> None:
    routing = decide(Facts(number="1"))
    assert routing.routes == ()
    assert "aucun destinataire" in routing.problems[0].cause


def test_person_named_twice_gets_one_delivery() -> None:
    routing = decide(replace(FACTS, copies=(person("99700000013", "RPPS"),)))
    (route,) = routing.routes
    assert "(prescripteur, copie)" in route.why


def test_two_items_for_one_address_make_one_delivery_with_both_formats() -> None:
    both = (rule(), rule(index=1, formats=("oru",)))
    (route,) = decide(known=book(replace(LEFEVRE, deliver=both))).routes
    assert route.formats == ("pdf", "oru")


@pytest.mark.parametrize(("partial", "count"), [("send", 1), ("hold-until-final", 1), ("skip", 0)])
def test_partial_report_follows_the_profile(partial: str, count: int) -> None:
    facts = replace(FACTS, status=ReportStatus.PARTIAL)
    routing = decide(facts, book(replace(LEFEVRE, partial=Partial(partial))))
    assert len(routing.routes) == count
    assert [bool(r.hold) for r in routing.routes] == [partial != "send"] * count
    assert bool(routing.withheld) is (partial == "skip")
    assert routing.problems == ()


@pytest.mark.parametrize("status", [ReportStatus.CORRECTED, ReportStatus.CANCELLED])
def test_correction_reaches_whoever_got_an_earlier_version(status: ReportStatus) -> None:
    assert reached(decide(replace(FACTS, status=status), earlier="morel")) == ["lefevre", "morel"]
    assert reached(decide(FACTS, earlier="morel")) == ["lefevre"]


def test_corrected_partial_is_not_held_from_who_got_an_earlier_version() -> None:
    facts = replace(FACTS, status=ReportStatus.PARTIAL, corrects=True)
    known = book(replace(LEFEVRE, partial=Partial.HOLD))
    assert decide(facts, known, "lefevre").routes[0].hold == ""
    assert decide(facts, known).routes[0].hold != ""


def test_correction_for_a_vanished_profile_is_a_problem() -> None:
    routing = decide(replace(FACTS, status=ReportStatus.CORRECTED), earlier="parti")
    assert "parti n'existe plus" in routing.problems[0].cause


def test_correction_that_a_policy_withholds_is_a_problem() -> None:
    facts = replace(FACTS, status=ReportStatus.CORRECTED)
    routing = decide(facts, book(policies=(policy(withhold_from=("prescriber",)),)), "lefevre")
    assert reached(routing) == []
    assert "correction non transmise à lefevre" in routing.problems[0].cause


@pytest.mark.parametrize(
    ("day", "expected"),
    [(1, ["lefevre", "morel"]), (21, ["lefevre", "morel"]), (22, ["lefevre"])],
)
def test_locum_gets_it_too_on_each_day_of_the_absence(day: int, expected: list[str]) -> None:
    away = Absence(
        start=date(2026, 8, 1), until=date(2026, 8, 21), also_to="morel", place="a.yaml:15:9"
    )
    known = book(replace(LEFEVRE, absences=(away,)), MOREL)
    now = datetime(2026, 8, day, 12, tzinfo=UTC)
    assert reached(routes_for(FACTS, known, now)) == expected


def test_absences_that_point_at_each_other_end() -> None:
    first = Absence(start=date(2026, 8, 1), also_to="morel", place="a.yaml:1:1")
    second = replace(first, also_to="lefevre")
    known = book(replace(LEFEVRE, absences=(first,)), replace(MOREL, absences=(second,)))
    assert reached(decide(known=known)) == ["lefevre", "morel"]


def test_locum_is_withheld_with_the_prescriber_she_replaces() -> None:
    away = Absence(start=date(2026, 8, 1), also_to="morel", place="a.yaml:15:9")
    known = book(
        replace(LEFEVRE, absences=(away,)),
        MOREL,
        policies=(policy(withhold_from=("prescriber",)),),
    )
    assert decide(known=known).routes == ()


def test_disabled_profile_and_disabled_channel_are_told() -> None:
    routing = decide(known=book(replace(LEFEVRE, enabled=False)))
    assert (routing.routes, len(routing.withheld), len(routing.problems)) == ((), 1, 1)
    off = book_of(profiles=[LEFEVRE], channels=[replace(CHANNELS[0], enabled=False)])
    routing = decide(known=off)
    assert (routing.routes, len(routing.withheld), len(routing.problems)) == ((), 1, 1)


@pytest.mark.parametrize("flag", ["test", "incomplete"])
def test_test_and_incomplete_reports_are_held_with_a_problem(flag: str) -> None:
    routing = decide(replace(FACTS, **{flag: True}))
    assert routing.routes
    assert all(route.hold for route in routing.routes)
    assert routing.problems


def test_treating_physician_is_withheld_until_a_policy_adds_him() -> None:
    facts = replace(FACTS, treating=person("MOREL"))
    routing = decide(facts)
    assert reached(routing) == ["lefevre"]
    assert [w.recipient for w in routing.withheld] == ["morel"]
    adds = policy(when=when("report.has", "treating_physician"), also_to=("treating_physician",))
    assert reached(decide(facts, book(policies=(adds,)))) == ["lefevre", "morel"]
    same = replace(FACTS, treating=person("LEFEVRE"))
    assert reached(decide(same, book(policies=(adds,)))) == ["lefevre"]


def test_only_to_prescriber_withholds_the_copies() -> None:
    facts = replace(FACTS, copies=(person("MOREL"),), tags=("origin:occupational",))
    only = policy(when=when("report.origin", "occupational"), only_to=("prescriber",))
    routing = decide(facts, book(policies=(only,)))
    assert reached(routing) == ["lefevre"]
    assert routing.withheld[0].recipient == "morel"
    assert routing.withheld[0].why == "policies.yaml:3:5 règle « règle »"


def test_effects_combine_as_withhold_hold_delay_now() -> None:
    now = policy(name="n", now=True)
    delay = policy(name="d", delay_seconds=3600.0)
    hold = policy(name="h", hold="à relire")
    (urgent,) = decide(known=book(policies=(now,))).routes
    assert (urgent.urgent, urgent.not_before) == (True, None)
    (delayed,) = decide(known=book(policies=(now, delay))).routes
    assert (delayed.urgent, delayed.not_before) == (False, NOW + timedelta(hours=1))
    (held,) = decide(known=book(policies=(now, delay, hold))).routes
    assert (held.hold, held.urgent) == ("à relire", False)
    assert "règle « h »" in held.why


def test_unknown_age_counts_where_the_policy_protects_and_nowhere_else() -> None:
    minor = when("patient.age", "18", operator="<")
    protects = book(policies=(policy(when=minor, hold="mineur"),))
    assert decide(FACTS, protects).routes[0].hold == "mineur"
    assert decide(replace(FACTS, birth_date="1961-03-09"), protects).routes[0].hold == ""
    assert decide(replace(FACTS, birth_date="2015-03-09"), protects).routes[0].hold == "mineur"
    adds = book(policies=(policy(when=minor, also_to=("morel",)),))
    assert reached(decide(FACTS, adds)) == ["lefevre"]


def test_item_with_a_false_condition_is_withheld() -> None:
    items = (rule(), rule("sftp", index=1, when=when("report.urgent", "yes")))
    known = book(replace(LEFEVRE, deliver=items))
    assert [r.channel for r in decide(known=known).routes] == ["mssante"]
    urgent = decide(replace(FACTS, urgent=True), known).routes
    assert [(r.channel, r.urgent) for r in urgent] == [("mssante", True), ("sftp", True)]


def test_patient_gets_it_unless_a_policy_withholds_or_hides() -> None:
    patient = profile("patient", lis_codes=())
    known = book(patient=patient)
    assert reached(decide(known=known)) == ["lefevre", "patient"]
    opposed = policy(when=when("patient.opposition", "yes"), withhold_from=("patient",))
    facts = replace(FACTS, tags=("opposition",))
    routing = decide(facts, book(patient=patient, policies=(opposed,)))
    assert (reached(routing), routing.problems) == (["lefevre"], ())
    hidden = policy(patient_delivery="hidden")
    last = decide(known=book(patient=patient, policies=(hidden,))).routes[-1]
    assert last.options == {"visible": "no"}


def test_every_fact_that_a_policy_may_name_has_an_answer() -> None:
    assert set(ANSWERS) == FLAG_FACTS | WORD_FACTS


# — properties —————————————————————————————————————————————————————————————————

IDS = ["a", "b", "c", "d"]
CODES = st.sampled_from([*(name.upper() for name in IDS), "UNKNOWN"])
PERSONS = st.builds(person, CODES)
TARGETS = st.lists(
    st.sampled_from([*IDS, "prescriber", "copies", "treating_physician"]), max_size=2
).map(tuple)
POLICIES = st.lists(
    st.builds(
        policy,
        when=st.sampled_from([(), when("report.urgent", "yes"), when("report.critical", "yes")]),
        withhold_from=TARGETS,
        only_to=TARGETS,
        also_to=TARGETS,
        hold=st.sampled_from(["", "à relire"]),
        delay_seconds=st.sampled_from([None, 60.0]),
        now=st.booleans(),
    ),
    max_size=3,
).map(tuple)


@st.composite
def books(draw: st.DrawFn) -> Book:
    everybody = []
    for name in IDS:
        locum = draw(st.sampled_from([None, *IDS]))
        away = (
            ()
            if locum is None
            else (Absence(start=date(2026, 8, 1), also_to=locum, place="a.yaml:1:1"),)
        )
        everybody.append(
            profile(
                name,
                absences=away,
                enabled=draw(st.booleans()),
                partial=draw(st.sampled_from(Partial)),
                deliver=draw(st.sampled_from([(), (rule(),), (rule(), rule("off", index=1))])),
            )
        )
    channels = [*CHANNELS, ChannelRef(name="off", type="sftp", enabled=False)]
    return book_of(profiles=everybody, channels=channels, policies=draw(POLICIES))


FACT_SETS = st.builds(
    Facts,
    number=st.just("1"),
    status=st.sampled_from(ReportStatus),
    prescriber=st.none() | PERSONS,
    copies=st.lists(PERSONS, max_size=3).map(tuple),
    treating=st.none() | PERSONS,
    addressee=st.none() | PERSONS,
    urgent=st.booleans(),
    critical=st.booleans(),
    test=st.booleans(),
    incomplete=st.booleans(),
)
EARLIER = st.frozensets(st.sampled_from(IDS))


def _named_codes(facts: Facts) -> list[str]:
    persons = [facts.prescriber, facts.addressee, facts.treating, *facts.copies]
    return [p.identifiers[0].value for p in persons if p is not None]


@given(FACT_SETS, books(), EARLIER)
def test_nobody_known_and_named_is_lost(facts: Facts, known: Book, earlier: frozenset[str]) -> None:
    routing = routes_for(facts, known, NOW, received_before=earlier)
    told = set(reached(routing)) | {w.recipient for w in routing.withheld}
    codes = set(_named_codes(facts))
    assert {name for name in IDS if name.upper() in codes} <= told
    corrects = facts.status in (ReportStatus.CORRECTED, ReportStatus.CANCELLED)
    assert not corrects or earlier <= told
    unknown = {p.identifiers[0].value for p in (facts.prescriber, *facts.copies) if p is not None}
    assert ("UNKNOWN" not in unknown) or any("inconnu" in p.cause for p in routing.problems)


@given(FACT_SETS, books(), EARLIER)
def test_nobody_gets_it_who_is_not_named_added_locum_or_earlier(
    facts: Facts, known: Book, earlier: frozenset[str]
) -> None:
    routing = routes_for(facts, known, NOW, received_before=earlier)
    added = {target for one in known.policies for target in one.also_to}
    allowed = {name for name in IDS if name.upper() in _named_codes(facts)} | added | earlier
    for _ in IDS:
        allowed |= {
            away.also_to for name in allowed & set(IDS) for away in known.profiles[name].absences
        }
    assert set(reached(routing)) <= allowed
    assert all(known.profiles[name].enabled for name in reached(routing))


@given(FACT_SETS, books(), EARLIER)
def test_decision_is_repeatable_unique_and_never_silent(
    facts: Facts, known: Book, earlier: frozenset[str]
) -> None:
    routing = routes_for(facts, known, NOW, received_before=earlier)
    assert routing == routes_for(facts, known, NOW, received_before=earlier)
    keys = [(r.recipient, r.channel, r.address) for r in routing.routes]
    assert len(keys) == len(set(keys))
    assert all(route.channel != "off" and route.why and route.formats for route in routing.routes)
    skipped = any("partial: skip" in w.why for w in routing.withheld)
    assert routing.routes or routing.problems or skipped
    if facts.test or facts.incomplete:
        assert all(route.hold for route in routing.routes)


@given(FACT_SETS, books())
def test_withheld_group_gets_nothing(facts: Facts, known: Book) -> None:
    rules = (*known.policies, policy(withhold_from=(Group.PRESCRIBER.value,)))
    routing = routes_for(facts, replace(known, policies=rules), NOW)
    code = facts.prescriber.identifiers[0].value if facts.prescriber else ""
    assert code.lower() not in reached(routing)
