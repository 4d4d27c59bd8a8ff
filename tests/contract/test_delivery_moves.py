"""The table of moves: the code, the documentation and the ledger say the same."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from dlx import ledger as store
from dlx.delivery import ENDS, LETTERS, MOVES, OPEN, State
from dlx.errors import LeaseLost, Refused
from dlx.ledger import Ledger, Tx
from dlx.ledger.moves import move, moving
from dlx.ledger.tables import delivery as table
from dlx.report import ReportStatus

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
DOCUMENT = Path(__file__).parents[2] / "docs" / "ledger.md"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    opened = Ledger.open(tmp_path_factory.mktemp("moves") / "l.sqlite3", create=True)
    yield opened
    opened.close()


def one_delivery(tx: Tx, name: str) -> str:
    planned = store.PlannedDelivery(recipient="dr-a", channel="c", due_at=NOW)
    entry = store.ReportEntry(
        issuer="L", number=name, status=ReportStatus.FINAL, facts="{}", deliveries=(planned,)
    )
    file = store.Registration(
        claim_id=name,
        original_name="x",
        sha256=name,
        size=1,
        pickup="p",
        first_seen=NOW,
        reports=(entry,),
    )
    return store.register(tx, file, NOW).deliveries[0]


def put_in(tx: Tx, id: str, state: State) -> None:
    tx.connection.execute(update(table).where(table.c.id == id).values(state=state.value))


@pytest.mark.parametrize("old", State)
@pytest.mark.parametrize("new", State)
def test_the_ledger_makes_exactly_the_moves_of_the_table(
    ledger: Ledger, old: State, new: State
) -> None:
    id = ledger.write_now(lambda tx: one_delivery(tx, f"{old.value}-{new.value}"))
    ledger.write_now(lambda tx: put_in(tx, id, old))

    def attempt(tx: Tx) -> str:
        return move(tx, moving(tx, id), new, NOW, actor="test", action="test").state

    if new in MOVES[old]:
        assert ledger.write_now(attempt) == new.value
    else:
        with pytest.raises(Refused, match=f"« {old.value} » ne peut pas devenir « {new.value} »"):
            ledger.write_now(attempt)
    expected = new if new in MOVES[old] else old
    assert ledger.read(lambda tx: moving(tx, id)).state == expected.value


def test_a_move_from_a_state_that_was_left_meanwhile_is_a_lost_lease(ledger: Ledger) -> None:
    id = ledger.write_now(lambda tx: one_delivery(tx, "stale"))
    stale = ledger.read(lambda tx: moving(tx, id))
    ledger.write_now(lambda tx: store.hold(tx, id, "op", "essai", NOW))
    with pytest.raises(LeaseLost):
        ledger.write_now(
            lambda tx: move(tx, stale, State.CLAIMED, NOW, actor="w", action="claimed")
        )
    assert ledger.read(lambda tx: moving(tx, id)).state == "held"


def test_a_generation_that_was_passed_is_a_lost_lease(ledger: Ledger) -> None:
    id = ledger.write_now(lambda tx: one_delivery(tx, "generation"))
    until = NOW + timedelta(seconds=60)
    ledger.write_now(lambda tx: store.claim_due(tx, "c", 500, NOW, "w", until))
    stale = ledger.read(lambda tx: moving(tx, id))._replace(lease_gen=0)
    with pytest.raises(LeaseLost):
        ledger.write_now(
            lambda tx: move(tx, stale, State.SENDING, NOW, actor="w", action="sending")
        )


def test_every_state_can_be_reached_from_the_first_ones() -> None:
    reached, queue = {State.WAITING, State.HELD, State.FAILED}, [State.WAITING]
    while queue:
        fresh = MOVES[queue.pop()] - reached
        reached |= fresh
        queue += fresh
    assert reached == set(State)


def test_only_three_states_are_ends() -> None:
    assert {State.DELIVERED, State.CANCELLED, State.SUPERSEDED} == ENDS
    assert OPEN.isdisjoint(ENDS)
    assert set(LETTERS) == set(State)


def test_nothing_leaves_without_the_intent_being_written() -> None:
    senders = {old for old, moves in MOVES.items() if State.IN_DOUBT in moves}
    assert senders == {State.SENDING}
    assert {old for old, moves in MOVES.items() if State.SENDING in moves} == {State.CLAIMED}


def test_the_documented_table_is_the_one_in_the_code() -> None:
    lines = re.findall(r"^\| `(\w+)` \| (.*) \|$", DOCUMENT.read_text(), re.MULTILINE)
    documented = {
        State(old): frozenset(State(word) for word in re.findall(r"`(\w+)`", moves))
        for old, moves in lines
        if old in {state.value for state in State}
    }
    assert documented == dict(MOVES)
