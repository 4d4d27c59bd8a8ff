"""When a delivery is tried again: growing waits, a bounded spread, an end."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlx.retry import RetryPolicy, first_expiry, jitter_of, next_try, warn_after

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
POLICY = RetryPolicy()


@pytest.mark.parametrize(("tries", "minutes"), [(1, 1), (2, 3), (3, 9), (4, 27), (5, 81), (6, 240)])
def test_waits_grow_by_the_factor_up_to_the_longest(tries: int, minutes: int) -> None:
    assert POLICY.wait_after(tries) == timedelta(minutes=minutes)


@pytest.mark.parametrize(("tries", "minutes"), [(1, 1), (2, 2), (3, 5), (4, 10), (5, 10), (99, 10)])
def test_urgent_deliveries_come_back_after_1_2_5_and_10_minutes(tries: int, minutes: int) -> None:
    assert POLICY.wait_after(tries, urgent=True) == timedelta(minutes=minutes)


def test_thousands_of_tries_do_not_overflow() -> None:
    assert POLICY.wait_after(100_000) == timedelta(hours=4)


@given(st.integers(1, 500), st.booleans(), st.floats(-1, 1))
def test_the_spread_stays_within_twenty_percent(tries: int, urgent: bool, jitter: float) -> None:
    due = next_try(POLICY, attempts=tries, created_at=NOW, now=NOW, urgent=urgent, jitter=jitter)
    wait = POLICY.wait_after(tries, urgent=urgent)
    assert due is not None
    assert wait * 0.8 <= due - NOW <= wait * 1.2


@given(st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=9, max_size=9), st.integers(1, 50))
def test_the_spread_depends_only_on_the_delivery_and_the_try(delivery: str, tries: int) -> None:
    assert -1 <= jitter_of(delivery, tries) <= 1
    assert jitter_of(delivery, tries) == jitter_of(delivery, tries)


def test_deliveries_that_failed_together_do_not_come_back_together() -> None:
    assert len({round(jitter_of(f"D{n:09d}", 1), 6) for n in range(200)}) > 190


def test_it_is_given_up_after_its_end() -> None:
    assert next_try(POLICY, attempts=1, created_at=NOW, expires_at=NOW, now=NOW) is None


@given(st.integers(1, 20), st.integers(0, 72 * 3600), st.floats(-1, 1), st.booleans())
def test_no_try_is_planned_at_or_after_the_end(
    tries: int, seconds: int, jitter: float, urgent: bool
) -> None:
    end = NOW + timedelta(seconds=seconds)
    due = next_try(
        POLICY,
        attempts=tries,
        created_at=NOW,
        expires_at=end,
        now=NOW,
        urgent=urgent,
        jitter=jitter,
    )
    assert due is None or NOW < due < end


def test_every_sequence_of_tries_comes_to_an_end() -> None:
    end, now, tries = first_expiry(POLICY, NOW), NOW, 0
    while True:
        tries += 1
        due = next_try(
            POLICY, attempts=tries, created_at=NOW, now=now, jitter=jitter_of("D1", tries)
        )
        if due is None:
            break
        assert due > now
        now = due
    assert NOW + timedelta(hours=71) < now < end
    assert 20 < tries < 40


def test_people_are_warned_after_four_hours_and_after_thirty_minutes_when_urgent() -> None:
    assert warn_after(urgent=False) == timedelta(hours=4)
    assert warn_after(urgent=True) == timedelta(minutes=30)
