"""Route tests that operators write: what passes, what fails, and what is said of it."""

from __future__ import annotations

from datetime import UTC, datetime

from dlx.profiles import Book, ChannelRef, DeliverRule, Partial, Profile, book_of
from dlx.rehearsing import rehearse
from dlx.settings.model import Expected, RouteTest

NOW = datetime(2026, 11, 22, 7, tzinfo=UTC)


def rule(via: str) -> DeliverRule:
    return DeliverRule(via=via, formats=("pdf",), place="a.yaml:1:1")


def book() -> Book:
    return book_of(
        channels=[ChannelRef(name="depot", type="folder")],
        profiles=[
            Profile(
                id="dr-un",
                lis_codes=("UN",),
                deliver=(rule("depot"),),
                partial=Partial.HOLD,
                place="a.yaml:1:1",
            ),
            Profile(id="dr-deux", lis_codes=("DX",), deliver=(rule("depot"),), place="a.yaml:9:1"),
        ],
    )


def problems(**test: object) -> tuple[str, ...]:
    given = {"prescriber": ("dr-un",), **test.pop("given", {})}  # type: ignore[dict-item]
    one = RouteTest(name="essai", given=given, place="t.yaml:2:5", **test)  # type: ignore[arg-type]
    (result,) = rehearse([one], book(), NOW)
    assert (result.name, result.place) == ("essai", "t.yaml:2:5")
    return result.problems


def test_what_the_rules_do_passes() -> None:
    wanted = Expected(to="dr-un", via="depot", formats=("pdf",), when="now")
    assert problems(expect=(wanted,), expect_not=(Expected(to="dr-deux"),)) == ()


def test_partial_report_is_seen_as_held() -> None:
    held = Expected(to="dr-un", when="held")
    partial = {"report.status": ("partial",)}
    assert problems(given=partial, expect=(held,)) == ()
    assert problems(given=partial, expect=(Expected(to="dr-un", when="now"),)) != ()


def test_copy_reaches_the_colleague_and_an_unwanted_delivery_is_named() -> None:
    copies = {"copies": ("dr-deux",)}
    assert problems(given=copies, expect=(Expected(to="dr-deux"),)) == ()
    (said,) = problems(given=copies, expect_not=(Expected(to="dr-deux", via="depot"),))
    assert "vers dr-deux par depot" in said


def test_missing_delivery_is_told_with_what_is_there() -> None:
    missing, there = problems(expect=(Expected(to="dr-un", formats=("hprim",)),))
    assert "attendu et absent : vers dr-un en hprim" in missing
    assert "dr-un par depot" in there
