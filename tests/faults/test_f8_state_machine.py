"""F8: the ledger under every order of events that two workers, crashes and people can make.

A virtual clock, two workers that may stall, crash or lose their lease, a far side with scripted
replies, corrections (version n + 1), receipts, operators. The far side keeps the truth: what really
arrived. After every step the ledger is compared with it (P3, P4, P5, P7, P8), and at the end the
whole is run until it is quiet: every delivery must have come to rest.

The rules have preconditions: without them most steps do nothing and a missing fence is not found.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text

from dlx import ledger as store
from dlx.delivery import Accepted, Receipt, Result, State
from dlx.errors import LeaseLost, Refused
from dlx.ledger import Claimed, Deferred, Doubtful, DoubtPolicy, Failed, Failure, Ledger, Tx
from dlx.report import ReportStatus

START = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
LEASE = timedelta(seconds=60)
POLICY = DoubtPolicy(max_doubt=1)
CHANNEL = "mail"
RECIPIENTS = ("dr-a", "dr-b")
SHARED_MEMORY = Path("/dev/shm")
UNDER_WAY = {"claimed", "sending", "in_doubt"}
RESTS = {"accepted", "delivered", "failed", "cancelled", "superseded", "held"}
FAILURE = Failure(code="x", message="panne d'essai")


@dataclass
class Hand:
    """One delivery in a worker's hand, as the worker believes it to be."""

    claimed: Claimed
    intent: bool = False
    outcome: Any = None


@dataclass
class Peer:
    """What really happened over there, whatever the ledger says."""

    arrived: list[tuple[str, int]] = field(default_factory=list)  # (delivery, attempt)
    intents: dict[tuple[str, str], list[int]] = field(default_factory=lambda: defaultdict(list))
    confirmed: set[str] = field(default_factory=set)
    proven: set[str] = field(default_factory=set)
    leave: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # people's decisions


class Station(RuleBasedStateMachine):
    """Two workers on one ledger."""

    template: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        where = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
        self.folder = Path(tempfile.mkdtemp(prefix="dlx-f8-", dir=where))
        shutil.copy(self.template, self.folder / "l.sqlite3")
        self.ledger = Ledger.open(self.folder / "l.sqlite3", create=False)
        self.now = START
        self.peer = Peer()
        self.hands: dict[str, list[Hand]] = {"w1": [], "w2": []}
        self.files = 0
        self.rows: dict[str, Any] = {}

    # --- looking -------------------------------------------------------------------------------

    def write(self, work: Any) -> Any:
        return self.ledger.write_now(work)

    def look(self) -> None:
        """Read every delivery as it now stands."""

        def rows(tx: Tx) -> dict[str, Any]:
            return {row.id: row for row in tx.rows(text("SELECT * FROM delivery ORDER BY rowid"))}

        self.rows = self.ledger.read(rows)

    def in_state(self, *states: str) -> list[str]:
        return [id for id, row in self.rows.items() if row.state in states]

    def micro(self, when: datetime) -> int:
        return round((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1_000_000)

    # --- the laboratory ------------------------------------------------------------------------

    @precondition(lambda self: self.files < 8)
    @rule(report=st.integers(1, 2), recipients=st.sampled_from([("dr-a",), RECIPIENTS]))
    def a_file_comes_in(self, report: int, recipients: tuple[str, ...]) -> None:
        self.files += 1
        digest = f"{self.files:064d}"
        file = store.Registration(
            claim_id=f"c{self.files}",
            original_name="r.hpr",
            sha256=digest,
            size=1,
            pickup="p",
            first_seen=self.now,
            reports=(
                store.ReportEntry(
                    issuer="LAB",
                    number=f"{report}",
                    status=ReportStatus.FINAL,
                    facts="{}",
                    deliveries=tuple(
                        store.PlannedDelivery(
                            recipient=recipient,
                            channel=CHANNEL,
                            due_at=self.now,
                            expires_at=self.now + timedelta(hours=72),
                        )
                        for recipient in recipients
                    ),
                ),
            ),
        )
        made = self.write(lambda tx: store.register(tx, file, self.now))
        assert len(made.deliveries) == len(recipients)
        assert self.write(lambda tx: store.register(tx, file, self.now)).existed

    # --- workers -------------------------------------------------------------------------------

    @precondition(lambda self: self.in_state("waiting"))
    @rule(worker=st.sampled_from(["w1", "w2"]))
    def a_worker_claims(self, worker: str) -> None:
        got = self.write(
            lambda tx: store.claim_due(tx, CHANNEL, 50, self.now, worker, self.now + LEASE)
        )
        order = list(self.rows)  # ids are random: Hypothesis needs an order that is not
        got.sort(key=lambda claimed: order.index(claimed.delivery.id))
        self.hands[worker] += [Hand(claimed) for claimed in got]

    @precondition(lambda self: any(not h.intent and not h.outcome for h in self.all_hands()))
    @rule(data=st.data())
    def a_worker_writes_its_intent(self, data: st.DataObject) -> None:
        worker, hand = self.pick(data, lambda h: not h.intent and not h.outcome)
        delivery = hand.claimed.delivery
        row = self.rows[delivery.id]
        mine = row.state == "claimed" and row.lease_gen == delivery.generation
        try:
            self.write(
                lambda tx: store.commit_intent(tx, delivery.id, delivery.generation, self.now)
            )
        except LeaseLost:
            assert not mine
            self.hands[worker].remove(hand)
            return
        assert mine, f"P8: an intent was accepted under an old lease of {delivery.id}"
        hand.intent = True
        self.peer.intents[row.report_key, row.recipient].append(row.version)

    @precondition(lambda self: any(h.intent and not h.outcome for h in self.all_hands()))
    @rule(data=st.data(), reply=st.sampled_from(["yes", "proof", "no", "later", "cut", "lost"]))
    def the_peer_answers(self, data: st.DataObject, reply: str) -> None:
        _, hand = self.pick(data, lambda h: h.intent and not h.outcome)
        delivery = hand.claimed.delivery
        if reply in ("yes", "proof", "cut"):
            self.peer.arrived.append((delivery.id, delivery.attempts))
        due = self.now + timedelta(minutes=1)
        hand.outcome = {
            "yes": Accepted(remote_id=f"m-{delivery.id}"),
            "proof": Accepted(remote_id=f"m-{delivery.id}", proven=True),
            "no": Failed(failure=FAILURE),
            "later": Deferred(due_at=due, failure=FAILURE),
            "cut": Doubtful(failure=FAILURE, due_at=due, policy=POLICY),
            "lost": Doubtful(failure=FAILURE, due_at=due, policy=POLICY),
        }[reply]

    @precondition(lambda self: any(not h.intent and not h.outcome for h in self.all_hands()))
    @rule(data=st.data(), for_good=st.booleans())
    def the_line_breaks_early(self, data: st.DataObject, for_good: bool) -> None:
        _, hand = self.pick(data, lambda h: not h.intent and not h.outcome)
        later = Deferred(
            due_at=self.now + timedelta(minutes=1), failure=FAILURE, result=Result.NOT_SENT
        )
        hand.outcome = Failed(failure=FAILURE) if for_good else later

    @precondition(lambda self: any(h.outcome for h in self.all_hands()))
    @rule(data=st.data())
    def a_worker_writes_the_outcome(self, data: st.DataObject) -> None:
        worker, hand = self.pick(data, lambda h: h.outcome)
        delivery = hand.claimed.delivery
        row = self.rows[delivery.id]
        mine = row.state in ("claimed", "sending") and row.lease_gen == delivery.generation
        self.hands[worker].remove(hand)
        try:
            self.write(
                lambda tx: store.finish(
                    tx, delivery.id, delivery.generation, hand.outcome, self.now
                )
            )
        except LeaseLost:
            assert not mine
        else:
            assert mine, f"P8: an old worker changed the outcome of {delivery.id}"
            if isinstance(hand.outcome, Accepted) and hand.outcome.proven:
                self.peer.proven.add(delivery.id)

    @precondition(lambda self: any(not h.intent and not h.outcome for h in self.all_hands()))
    @rule(data=st.data())
    def a_worker_gives_back(self, data: st.DataObject) -> None:
        worker, hand = self.pick(data, lambda h: not h.intent and not h.outcome)
        delivery = hand.claimed.delivery
        self.hands[worker].remove(hand)
        row = self.rows[delivery.id]
        mine = row.state == "claimed" and row.lease_gen == delivery.generation
        try:
            self.write(
                lambda tx: store.release_claim(
                    tx, delivery.id, delivery.generation, self.now, "arrêt"
                )
            )
        except LeaseLost:
            assert not mine
        else:
            assert mine

    @precondition(lambda self: self.in_state("waiting"))
    @rule()
    def the_peer_never_answers(self) -> None:
        """A whole round of doubt in one step, so that three in a row are within reach."""
        self.now += timedelta(minutes=1)
        got = self.write(
            lambda tx: store.claim_due(tx, CHANNEL, 50, self.now, "w3", self.now + LEASE)
        )
        for claimed in got:
            self.bring(claimed, Doubtful(failure=FAILURE, due_at=self.now, policy=POLICY))

    @precondition(lambda self: self.all_hands())
    @rule(worker=st.sampled_from(["w1", "w2"]))
    def a_worker_crashes(self, worker: str) -> None:
        self.hands[worker] = []

    @precondition(lambda self: self.in_state("claimed", "sending"))
    @rule()
    def everything_crashes_and_recovers(self) -> None:
        self.hands = {"w1": [], "w2": []}
        self.write(lambda tx: store.recover(tx, "fresh", self.now, lambda _: POLICY))
        self.look()
        assert not self.in_state("claimed", "sending")

    @precondition(lambda self: self.in_state("claimed", "sending"))
    @rule(worker=st.sampled_from(["w1", "w2"]))
    def a_heart_beats(self, worker: str) -> None:
        self.write(lambda tx: store.heartbeat(tx, worker, self.now, self.now + LEASE))

    @precondition(lambda self: self.in_state("claimed", "sending"))
    @rule()
    def leases_end_and_the_reaper_comes(self) -> None:
        self.now += LEASE + timedelta(seconds=1)
        self.write(lambda tx: store.reap(tx, self.now, lambda _: POLICY))

    @rule(seconds=st.sampled_from([30, 70, 3600, 73 * 3600]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(
        lambda self: any(
            r.state == "waiting"
            and r.expires_at is not None
            and r.expires_at <= self.micro(self.now)
            for r in self.rows.values()
        )
    )
    @rule()
    def the_old_ones_are_given_up(self) -> None:
        assert self.write(lambda tx: store.expire(tx, self.now))

    # --- what comes back, and people -----------------------------------------------------------

    @precondition(lambda self: self.peer.arrived)
    @rule(data=st.data(), positive=st.booleans(), by_id=st.booleans())
    def a_receipt_comes(self, data: st.DataObject, positive: bool, by_id: bool) -> None:
        id, _ = data.draw(st.sampled_from(self.peer.arrived))
        receipt = Receipt(
            delivery=id if by_id else "",
            remote_id=f"m-{id}",
            positive=positive,
            kind="mdn",
            at=self.now,
        )
        done = self.write(lambda tx: store.record_receipt(tx, receipt, CHANNEL, self.now))
        again = self.write(lambda tx: store.record_receipt(tx, receipt, CHANNEL, self.now))
        assert not again.fresh
        if positive:
            self.peer.proven.add(id)
            if done.delivery and self.rows[id].state not in ("cancelled", "superseded"):
                assert done.after in (State.DELIVERED, State.CLAIMED, State.SENDING)

    @precondition(lambda self: self.in_state("accepted"))
    @rule()
    def silence_is_noticed(self) -> None:
        self.now += timedelta(days=3)
        self.write(lambda tx: store.silent(tx, CHANNEL, self.now - timedelta(days=2), self.now))

    @precondition(lambda self: self.in_state("waiting", "held", "failed"))
    @rule(data=st.data(), what=st.sampled_from(["hold", "release", "retry", "confirm", "cancel"]))
    def a_person_decides(self, data: st.DataObject, what: str) -> None:
        id = data.draw(st.sampled_from(self.in_state("waiting", "held", "failed")))
        act = getattr(store, what)
        try:
            self.write(lambda tx: act(tx, id, "op", "essai", self.now))
        except Refused:
            return
        self.peer.leave[id] += 1
        if what == "confirm":
            self.peer.confirmed.add(id)

    @precondition(lambda self: self.in_state("accepted", "failed", "held", "delivered"))
    @rule(data=st.data())
    def a_person_resends(self, data: st.DataObject) -> None:
        id = data.draw(st.sampled_from(self.in_state("accepted", "failed", "held", "delivered")))
        try:
            self.write(
                lambda tx: store.resend(tx, id, "op", "essai", self.now, even_if_delivered=True)
            )
        except Refused:
            row = self.rows[id]
            assert any(
                other.report_key == row.report_key
                and other.recipient == row.recipient
                and other.version > row.version
                for other in self.rows.values()
            )

    # --- what must hold ------------------------------------------------------------------------

    def all_hands(self) -> list[Hand]:
        return [hand for hands in self.hands.values() for hand in hands]

    def pick(self, data: st.DataObject, wanted: Any) -> tuple[str, Hand]:
        fitting = [
            (worker, hand) for worker, hands in self.hands.items() for hand in hands if wanted(hand)
        ]
        return fitting[data.draw(st.integers(0, len(fitting) - 1))]

    @invariant()
    def the_ledger_agrees_with_the_truth(self) -> None:
        self.look()
        attempts, notices = self.ledger.read(_attempts_and_notices)
        self.check_copies(attempts)
        for row in self.rows.values():
            kinds = notices.get(row.id, [])
            failed = [kind for kind in kinds if kind in ("failed", "silent")]
            if row.state == "failed":
                assert len(failed) == 1, f"P3: {row.id} failed with notices {kinds}"
            if row.state == "held" and row.doubts > POLICY.max_doubt + self.peer.leave[row.id]:
                assert "in_doubt" in kinds, f"P5: {row.id} held in doubt without a notice"
            allowed = POLICY.max_doubt + 1 + self.peer.leave[row.id]
            assert row.doubts <= allowed, f"P5: {row.id} is in doubt for the {row.doubts}-th time"
        self.check_versions()

    def check_copies(self, attempts: dict[tuple[str, int], str]) -> None:
        """P4: what arrived was attempted, and no attempt that brought it says « not sent »."""
        copies: dict[str, list[str]] = defaultdict(list)
        for id, n in self.peer.arrived:
            copies[id].append(attempts[id, n])
        for id, outcomes in copies.items():
            for outcome in outcomes:
                assert outcome in ("", "accepted", "in_doubt"), f"P4: {id} arrived, says {outcome}"
            sure = [outcome for outcome in outcomes if outcome == "accepted"]
            assert len(sure) <= 1 + self.peer.leave[id], f"P4: {id} accepted twice"

    def check_versions(self) -> None:
        """P7: never two versions under way at once, never an older one after a newer one."""
        families: dict[tuple[str, str], list[Any]] = defaultdict(list)
        for row in self.rows.values():
            families[row.report_key, row.recipient].append(row)
        for rows in families.values():
            under_way = {row.version for row in rows if row.state in UNDER_WAY}
            assert len(under_way) <= 1, f"P7: versions {under_way} are under way together"
            newest = max((row.version for row in rows if row.state != "cancelled"), default=0)
            for row in rows:
                if row.version < newest and row.state == "waiting":
                    raise AssertionError(f"P7: {row.id} v{row.version} waits, v{newest} exists")
        for versions in self.peer.intents.values():
            assert versions == sorted(versions), f"P7: sent in the order {versions}"

    def quiet(self) -> None:
        """No more faults: run until nothing is under way."""
        self.hands = {"w1": [], "w2": []}
        self.write(lambda tx: store.recover(tx, "last", self.now, lambda _: POLICY))
        for _ in range(40):
            self.now += timedelta(minutes=5)
            got = self.write(
                lambda tx: store.claim_due(tx, CHANNEL, 50, self.now, "last", self.now + LEASE)
            )
            for claimed in got:
                self.bring(claimed)
            self.look()
            self.write(lambda tx: store.expire(tx, self.now))
            if not got and not self.in_state("waiting", "claimed", "sending", "in_doubt"):
                break

    def bring(self, claimed: Claimed, outcome: Doubtful | None = None) -> None:
        """One delivery from claim to outcome, without any crash between."""
        d = claimed.delivery
        row = self.rows[d.id]
        self.write(lambda tx: store.commit_intent(tx, d.id, d.generation, self.now))
        self.peer.intents[row.report_key, row.recipient].append(row.version)
        self.peer.arrived.append((d.id, d.attempts))
        told = outcome or Accepted(remote_id=f"m-{d.id}")
        self.write(lambda tx: store.finish(tx, d.id, d.generation, told, self.now))

    def teardown(self) -> None:
        try:
            self.look()
            self.quiet()
            self.the_ledger_agrees_with_the_truth()
            arrived = {id for id, _ in self.peer.arrived}
            for row in self.rows.values():
                assert row.state in RESTS, f"P3: {row.id} never comes to rest: {row.state}"
                if row.state in ("accepted", "delivered"):
                    assert row.id in arrived | self.peer.confirmed, f"{row.id} never arrived"
            assert self.ledger.read(store.verify_chain) is None
            counted = {s.value: n for (s, _), n in self.ledger.read(store.counts).items()}
            states = [row.state for row in self.rows.values()]
            assert counted == {state: states.count(state) for state in set(states)}
        finally:
            self.ledger.close()
            shutil.rmtree(self.folder)


def _attempts_and_notices(tx: Tx) -> tuple[dict[tuple[str, int], str], dict[str, list[str]]]:
    attempts = {
        (row.delivery_id, row.n): row.outcome
        for row in tx.rows(text("SELECT delivery_id, n, outcome FROM attempt"))
    }
    notices: dict[str, list[str]] = defaultdict(list)
    for row in tx.rows(text("SELECT delivery_id, kind FROM notice WHERE closed_at IS NULL")):
        notices[row.delivery_id].append(row.kind)
    return attempts, notices


@pytest.mark.faults
def test_no_order_of_events_breaks_a_promise(tmp_path: Path) -> None:
    Station.template = tmp_path / "empty.sqlite3"
    Ledger.open(Station.template, create=True).close()
    run_state_machine_as_test(
        Station,
        settings=settings(
            max_examples=int(os.environ.get("F8_EXAMPLES", "40")),
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            report_multiple_bugs=False,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        ),
    )


KNOCK_OUTS = {
    "the fence": (
        "ledger/dispatch.py",
        "if row.lease_gen != generation or row.state not in",
        "if row.state not in",
        "P8",
    ),
    "the notice of a failure": (
        "ledger/moves.py",
        "    open_for_delivery(tx, row, notice or notice_of(row, failure, kind), now)\n",
        "",
        "P3",
    ),
    "the bound of doubt": (
        "ledger/words.py",
        "return self.finds_repeats or doubts <= self.max_doubt",
        "return True",
        "P5",
    ),
    "the wait for the older version": (
        "ledger/dispatch.py",
        "            ~_older_under_way(),\n",
        "",
        "P7",
    ),
    "superseding what comes back": (
        "ledger/moves.py",
        "return waiting if found is None else supersede(tx, waiting, found, now, actor)",
        "return waiting",
        "P7",
    ),
}


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", KNOCK_OUTS)
def test_it_turns_red_when_a_safeguard_is_knocked_out(name: str, tmp_path: Path) -> None:
    file, safeguard, replacement, promise = KNOCK_OUTS[name]
    package = Path(store.__file__).parents[1]
    shutil.copytree(package, tmp_path / "dlx", ignore=shutil.ignore_patterns("__pycache__"))
    mutated = tmp_path / "dlx" / file
    source = mutated.read_text()
    assert source.count(safeguard) == 1, "the safeguard was renamed: follow it here"
    mutated.write_text(source.replace(safeguard, replacement))
    shutil.copy(__file__, tmp_path / "test_f8_mutated.py")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."),
            "test_f8_mutated.py::test_no_order_of_events_breaks_a_promise",
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), "F8_EXAMPLES": "150"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 1, run.stdout[-2000:]
    assert f"AssertionError: {promise}: " in run.stdout, run.stdout[-2000:]
