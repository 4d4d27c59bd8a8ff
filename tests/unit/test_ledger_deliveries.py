"""What the ledger does with files, deliveries, receipts, notices and people's decisions."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from dlx import ledger as store
from dlx.delivery import Accepted, Notice, NoticeKind, Phase, Receipt, Result, State
from dlx.errors import LeaseLost, NotFound, Refused
from dlx.ledger import (
    Claimed,
    Deferred,
    Doubtful,
    DoubtPolicy,
    Failed,
    Failure,
    Ledger,
    PlannedDelivery,
    Registered,
    Registration,
    ReportEntry,
    Selection,
    Tx,
    attempts,
    contents,
    dispatch,
    ids,
    leases,
    moves,
    promises,
    receipts,
    reports,
)
from dlx.ledger.tx import Prepared
from dlx.report import ReportStatus

NOW = datetime(2026, 3, 9, 8, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
END = NOW + timedelta(hours=72)
BROKEN = Failure(code="smtp-connect", message="relais injoignable", words="connection refused")


@dataclass
class House:
    """A ledger with the few gestures that these tests need."""

    ledger: Ledger

    def do(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self.ledger.write_now(lambda tx: function(tx, *arguments, **named))

    def see(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return self.ledger.read(lambda tx: function(tx, *arguments, **named))

    def file(
        self, name: str, *planned: PlannedDelivery, number: str = "24C0117", **more: Any
    ) -> Registered:
        entry = ReportEntry(
            issuer="LAB",
            number=number,
            status=ReportStatus.FINAL,
            facts='{"number":"24C0117"}',
            renditions=(
                store.PlannedRendition(
                    ref="pdf",
                    format="pdf",
                    sha256=f"pdf-{name}",
                    size=3,
                    suffix=".pdf",
                    media_type="application/pdf",
                    losses=("une image n'est pas transportée",),
                ),
                store.PlannedRendition(
                    ref="hprim",
                    format="hprim",
                    sha256=f"hprim-{name}",
                    size=4,
                    suffix=".hpr",
                    media_type="text/plain",
                ),
            ),
            deliveries=planned or (plan(),),
        )
        registration = Registration(
            claim_id=f"claim-{name}",
            original_name="24C0117.hpr",
            sha256=f"sha-{name}",
            size=10,
            pickup="sil",
            first_seen=NOW,
            config_hash="conf",
            reports=(replace(entry, **more),),
            data_keys=(store.DataKey(id=f"key-{name}", wrapped=b"w", kek_id="kek"),),
            places=(
                store.Place(
                    sha256=f"pdf-{name}", data_key=f"key-{name}", pack="p1", offset=7, length=9
                ),
            ),
        )
        made: Registered = self.do(store.register, registration, NOW)
        return made

    def claim(self, now: datetime = NOW, owner: str = "w1", channel: str = "mail") -> list[Claimed]:
        got: list[Claimed] = self.do(
            store.claim_due, channel, 50, now, owner, now + timedelta(seconds=60)
        )
        return got

    def attempt(self, outcome: Any, now: datetime = NOW, *, intent: bool = True) -> str:
        (claimed,) = self.claim(now)
        delivery = claimed.delivery
        if intent:
            self.do(store.commit_intent, delivery.id, delivery.generation, now)
        self.do(store.finish, delivery.id, delivery.generation, outcome, now)
        return delivery.id

    def state(self, id: str) -> State:
        state: State = self.see(store.delivery, id).row.delivery.state
        return state

    def open_kinds(self, id: str) -> list[NoticeKind]:
        return [n.notice.kind for n in self.see(store.notices, subject=f"delivery:{id}")]


def plan(recipient: str = "dr-a", channel: str = "mail", **more: Any) -> PlannedDelivery:
    return PlannedDelivery(
        **{
            "recipient": recipient,
            "channel": channel,
            "address": f"{recipient}@test.example",
            "renditions": ("pdf", "hprim"),
            "due_at": NOW,
            "expires_at": END,
            "why": "profiles.d/a.yaml:3:5",
            **more,
        }
    )


def doubt(now: datetime, **policy: Any) -> Doubtful:
    return Doubtful(failure=BROKEN, due_at=now, policy=DoubtPolicy(**policy))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    ledger = Ledger.open(tmp_path / "l.sqlite3", create=True)
    yield House(ledger)
    assert ledger.read(store.verify_chain) is None
    counted = {(s.value, c): n for (s, c), n in ledger.read(store.counts).items()}
    query = text("SELECT state, channel, count(*) FROM delivery GROUP BY 1, 2")
    assert counted == {(s, c): n for s, c, n in ledger.read(lambda tx: tx.rows(query))}
    ledger.close()


# --- files and versions -------------------------------------------------------------------------


def test_the_same_content_registered_again_adds_nothing(house: House) -> None:
    first, again = house.file("a"), house.file("a")
    assert again.existed
    assert (again.intake, again.reports) == (first.intake, first.reports)
    assert again.deliveries == ()
    assert len(house.see(store.deliveries, Selection())) == 1


def test_a_correction_supersedes_what_waits_or_is_held_on_any_channel(house: House) -> None:
    first = house.file("a", plan(), plan(channel="sftp", hold="partiel"), plan("dr-b"))
    second = house.file("b", plan(channel="portal"))
    assert set(second.superseded) == set(first.deliveries[:2])
    assert [house.state(id) for id in first.deliveries] == [
        State.SUPERSEDED,
        State.SUPERSEDED,
        State.WAITING,
    ]
    assert house.see(store.latest, [("LAB", "24C0117")])["LAB", "24C0117"].version == 2
    assert house.see(store.delivery, second.deliveries[0]).row.delivery.replaces


def test_two_versions_in_one_batch_follow_each_other(house: House) -> None:
    entry = ReportEntry(
        issuer="L",
        number="1",
        status=ReportStatus.FINAL,
        facts="{}",
        deliveries=(plan(renditions=()),),
    )
    files = [
        Registration(
            claim_id=n, original_name=n, sha256=n, size=1, pickup="p", first_seen=NOW,
            reports=(entry,),
        )
        for n in ("v1", "v2")
    ]  # fmt: skip
    first, second = house.do(store.register_many, files, NOW)
    assert second.superseded == first.deliveries


def test_an_unchanged_repeat_makes_no_version(house: House) -> None:
    first = house.file("a")
    again = house.file("b", unchanged=True)
    assert again.reports == first.reports
    assert again.deliveries == ()
    assert len(house.see(store.report, "24C0117").versions) == 1


def test_two_routes_to_one_address_make_one_delivery(house: House) -> None:
    assert len(house.file("a", plan(), plan()).deliveries) == 1


def test_a_delivery_that_could_not_be_rendered_fails_with_its_notice(house: House) -> None:
    failure = Failure(code="pdf-E1", message="feuille impossible")
    made = house.file("a", plan(renditions=(), failure=failure))
    assert house.state(made.deliveries[0]) is State.FAILED
    assert house.open_kinds(made.deliveries[0]) == [NoticeKind.FAILED]


def test_a_rejected_file_has_a_notice_and_may_come_back(house: House) -> None:
    bad = store.Rejection(
        claim_id="c", original_name="x", sha256="sha-a", size=1, pickup="p", first_seen=NOW,
        code="HM-E03", message="fin de fichier absente",
    )  # fmt: skip
    id = house.do(store.reject, bad, NOW)
    assert house.do(store.reject, bad, NOW) == id
    assert [n.notice.kind for n in house.see(store.notices)] == [NoticeKind.REJECTED]
    assert house.see(store.known, ["sha-a"]) == {}
    assert not house.file("a").existed
    assert set(house.see(store.known, ["sha-a"])) == {"sha-a"}


def test_what_is_found_after_a_restore_is_held(house: House) -> None:
    entry = ReportEntry(
        issuer="L",
        number="1",
        status=ReportStatus.FINAL,
        facts="{}",
        deliveries=(plan(renditions=()),),
    )
    file = Registration(
        claim_id="c", original_name="x", sha256="s", size=1, pickup="p", first_seen=NOW,
        reports=(entry,), origin="reconciled",
    )  # fmt: skip
    made = house.do(store.register, file, NOW)
    assert house.state(made.deliveries[0]) is State.HELD


def test_content_is_unreadable_once_its_key_is_destroyed(house: House) -> None:
    house.file("a")
    assert house.see(store.place_of, "pdf-a").offset == 7
    house.do(store.destroy_key, "key-a", "op", "purge", NOW)
    assert house.see(store.place_of, "pdf-a") is None
    assert house.see(store.data_key, "key-a").wrapped == b""


# --- on the way out -----------------------------------------------------------------------------


def test_a_claim_carries_the_renditions_in_the_order_of_the_formats(house: House) -> None:
    house.file("a", plan(renditions=("hprim", "pdf"), options={"certificate": "x"}))
    (claimed,) = house.claim()
    assert [r.format for r in claimed.renditions] == ["hprim", "pdf"]
    assert claimed.renditions[1].losses == ("une image n'est pas transportée",)
    assert claimed.delivery.options == {"certificate": "x"}
    assert (claimed.delivery.generation, claimed.tries, claimed.number) == (1, 1, "24C0117")


def test_urgent_deliveries_leave_first_then_by_due_time(house: House) -> None:
    for n, (minutes, urgent) in enumerate([(3, False), (5, False), (1, True)]):
        due = NOW - minutes * MINUTE
        house.file(str(n), plan(f"dr-{n}", urgent=urgent, due_at=due), number=str(n))
    assert [c.delivery.recipient for c in house.claim()] == ["dr-2", "dr-1", "dr-0"]


def test_what_is_not_due_or_belongs_to_another_channel_stays(house: House) -> None:
    house.file("a", plan(due_at=NOW + MINUTE))
    assert house.claim() == []
    assert house.claim(NOW + MINUTE, channel="sftp") == []
    assert house.see(store.next_due) == {"mail": NOW + MINUTE}


def test_a_newer_version_waits_until_the_older_one_is_settled(house: House) -> None:
    house.file("a")
    (old,) = house.claim()
    new = house.file("b").deliveries[0]
    assert house.claim() == []
    later = Deferred(due_at=NOW, failure=BROKEN)
    house.do(store.finish, old.delivery.id, 1, later, NOW)
    assert house.state(old.delivery.id) is State.SUPERSEDED
    assert [c.delivery.id for c in house.claim()] == [new]


def test_the_intent_and_the_outcome_close_the_attempt_with_all_that_is_known(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="<m@x>", words="250 ok", peer="mx", tls="TLSv1.3"))
    (attempt,) = house.see(store.delivery, id).attempts
    assert (attempt.result, attempt.phase, attempt.words) == (
        Result.ACCEPTED,
        Phase.REPLIED,
        "250 ok",
    )
    assert (attempt.remote_id, attempt.peer, attempt.tls) == ("<m@x>", "mx", "TLSv1.3")


def test_an_old_lease_can_change_nothing(house: House) -> None:
    id = house.file("a").deliveries[0]
    house.claim()
    late = NOW + 2 * MINUTE
    assert house.do(store.reap, late, lambda _: DoubtPolicy()) == [id]
    (again,) = house.claim(late, "w2")
    assert again.delivery.generation > 1
    for act in (
        lambda tx: store.commit_intent(tx, id, 1, late),
        lambda tx: store.finish(tx, id, 1, Accepted(remote_id="x"), late),
        lambda tx: store.release_claim(tx, id, 1, late, "arrêt"),
    ):
        with pytest.raises(LeaseLost):
            house.ledger.write_now(act)
    assert house.state(id) is State.CLAIMED


def test_a_heartbeat_keeps_the_lease_of_its_owner_only(house: House) -> None:
    house.file("a")
    house.claim()
    house.file("b", plan("dr-b"), number="2")
    (other,) = house.claim(owner="w2")
    late = NOW + 2 * MINUTE
    house.do(store.heartbeat, "w1", NOW, late + MINUTE)
    assert house.do(store.reap, late, lambda _: DoubtPolicy()) == [other.delivery.id]


def test_one_doubt_is_repeated_and_the_second_is_for_a_person(house: House) -> None:
    house.file("a")
    id = house.attempt(doubt(NOW))
    assert house.state(id) is State.WAITING
    house.attempt(doubt(NOW))
    assert house.state(id) is State.HELD
    assert house.open_kinds(id) == [NoticeKind.IN_DOUBT]
    assert [a.result for a in house.see(store.delivery, id).attempts] == [Result.IN_DOUBT] * 2
    house.do(store.confirm, id, "op", "le médecin l'a reçu", NOW)
    assert house.state(id) is State.ACCEPTED
    assert house.open_kinds(id) == []


def test_a_channel_that_finds_its_repeats_looks_again_without_bound(house: House) -> None:
    house.file("a")
    for _ in range(5):
        id = house.attempt(doubt(NOW, finds_repeats=True))
        assert house.state(id) is State.WAITING


def test_recovery_takes_back_what_a_dead_worker_had(house: House) -> None:
    sent = house.file("a").deliveries[0]
    (claimed,) = house.claim()
    house.do(store.commit_intent, sent, claimed.delivery.generation, NOW)
    kept = house.file("b", plan("dr-b"), number="2").deliveries[0]
    house.claim()
    house.do(store.recover, "w2", NOW, lambda _: DoubtPolicy(max_doubt=0))
    assert (house.state(sent), house.state(kept)) == (State.HELD, State.WAITING)
    (attempt,) = house.see(store.delivery, kept).attempts
    assert attempt.result is Result.NOT_SENT


def test_what_waits_too_long_fails_with_a_notice_and_time_held_does_not_count(house: House) -> None:
    id = house.file("a").deliveries[0]
    house.do(store.hold, id, "op", "absence", NOW)
    assert house.do(store.expire, END) == []
    house.do(store.release, id, "op", "retour", END)
    assert house.do(store.expire, END + timedelta(hours=71)) == []
    assert house.do(store.expire, END + timedelta(hours=72)) == [id]
    assert house.open_kinds(id) == [NoticeKind.FAILED]


def test_a_warning_is_closed_when_the_delivery_leaves(house: House) -> None:
    house.file("a")
    warning = Notice(subject="", kind=NoticeKind.DELAYED, cause="en retard")
    id = house.see(store.deliveries, Selection())[0].delivery.id
    told = replace(warning, subject=f"delivery:{id}")
    house.attempt(Deferred(due_at=NOW, failure=BROKEN, notice=told))
    assert house.open_kinds(id) == [NoticeKind.DELAYED]
    house.attempt(Accepted(remote_id="m"))
    assert house.open_kinds(id) == []


# --- what comes back ----------------------------------------------------------------------------


def receipt(positive: bool = True, **more: Any) -> Receipt:
    return Receipt(**{"remote_id": "m", "positive": positive, "kind": "mdn", "at": NOW, **more})


def test_a_receipt_matches_by_what_it_quotes_and_only_on_its_own_channel(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="m"))
    assert house.do(store.record_receipt, receipt(), "sftp", NOW).delivery == ""
    assert house.do(store.record_receipt, receipt(), "mail", NOW).after is State.DELIVERED
    assert not house.do(store.record_receipt, receipt(), "mail", NOW).fresh
    assert house.state(id) is State.DELIVERED


def test_proof_counts_however_late_and_closes_the_notice(house: House) -> None:
    house.file("a")
    id = house.attempt(Failed(failure=BROKEN))
    assert house.open_kinds(id) == [NoticeKind.FAILED]
    house.do(store.record_receipt, receipt(delivery=id), "mail", NOW)
    assert house.state(id) is State.DELIVERED
    assert house.open_kinds(id) == []


def test_a_refusal_after_acceptance_fails_with_a_notice(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="m"))
    house.do(store.record_receipt, receipt(positive=False), "mail", NOW)
    assert house.state(id) is State.FAILED
    assert house.open_kinds(id) == [NoticeKind.FAILED]


def test_a_refusal_after_proof_keeps_the_state_and_opens_a_notice(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="m", proven=True))
    house.do(store.record_receipt, receipt(positive=False), "mail", NOW)
    assert house.state(id) is State.DELIVERED
    assert house.open_kinds(id) == [NoticeKind.FAILED]


@pytest.mark.parametrize(("positive", "expected"), [(True, State.DELIVERED), (False, State.FAILED)])
@pytest.mark.parametrize("quoting_the_id", [True, False])
def test_a_receipt_read_before_our_own_outcome_is_written_counts(
    house: House, positive: bool, expected: State, quoting_the_id: bool
) -> None:
    id = house.file("a").deliveries[0]
    house.claim()
    house.do(store.commit_intent, id, 1, NOW)
    early = receipt(positive, delivery=id if quoting_the_id else "")
    assert house.do(store.record_receipt, early, "mail", NOW).after in (State.SENDING, None)
    house.do(store.finish, id, 1, Accepted(remote_id="m"), NOW)
    assert house.state(id) is expected


def test_silence_after_acceptance_fails_with_its_own_notice(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="m"))
    assert house.do(store.silent, "mail", NOW - MINUTE, NOW) == []
    assert house.do(store.silent, "mail", NOW, NOW + timedelta(days=3)) == [id]
    assert house.open_kinds(id) == [NoticeKind.SILENT]


# --- people -------------------------------------------------------------------------------------


def test_decisions_need_a_reason_and_the_right_state(house: House) -> None:
    id = house.file("a").deliveries[0]
    for act in (store.hold, store.cancel):
        with pytest.raises(Refused, match="motif"):
            house.do(act, id, "op", " ", NOW)
    for act in (store.release, store.confirm):
        with pytest.raises(Refused):
            house.do(act, id, "op", "essai", NOW)
    with pytest.raises(NotFound):
        house.do(store.hold, "D0", "op", "essai", NOW)
    assert house.state(id) is State.WAITING


def test_release_is_not_a_way_round_retry(house: House) -> None:
    """Found by F8: a failed delivery was « released » although a newer version had left."""
    house.file("a")
    id = house.attempt(Failed(failure=BROKEN))
    house.file("b")
    for act in (store.release, store.retry):
        with pytest.raises(Refused):
            house.do(act, id, "op", "essai", NOW)


def test_retry_resets_the_back_off_and_closes_the_notice(house: House) -> None:
    house.file("a")
    id = house.attempt(Failed(failure=BROKEN))
    house.do(store.retry, id, "op", "relais réparé", NOW)
    assert house.open_kinds(id) == []
    (claimed,) = house.claim()
    assert (claimed.tries, claimed.delivery.attempts) == (1, 2)


def test_a_resend_is_a_new_delivery_of_the_same_renditions(house: House) -> None:
    house.file("a")
    id = house.attempt(Accepted(remote_id="m", proven=True))
    with pytest.raises(Refused, match="déjà remis"):
        house.do(store.resend, id, "op", "perdu", NOW)
    again = house.do(store.resend, id, "op", "perdu", NOW, even_if_delivered=True)
    other = house.do(store.resend, id, "op", "perdu", NOW, channel="sftp", even_if_delivered=True)
    views = [house.see(store.delivery, one) for one in (id, again, other)]
    assert [view.row.delivery.number for view in views] == [0, 1, 2]
    assert views[0].renditions == views[1].renditions == views[2].renditions
    assert views[2].row.delivery.channel == "sftp"


def test_a_replay_promises_more_of_a_version_and_never_of_an_old_one(house: House) -> None:
    made = house.file("a")
    again = {"actor": "op", "reason": "fiche corrigée", "config_hash": "c2", "now": NOW}
    new = store.PlannedRendition(
        ref="pdf", format="pdf", sha256="pdf-2", size=3, suffix=".pdf", media_type="application/pdf"
    )
    (id,) = house.do(
        store.promise,
        made.reports[0],
        renditions=[new],
        deliveries=[plan(renditions=("pdf",))],
        **again,
    )
    view = house.see(store.delivery, id)
    assert [r.sha256 for r in view.renditions] == ["pdf-2"]
    assert view.row.delivery.number == 1
    house.file("b")
    with pytest.raises(Refused, match="version 2"):
        house.do(store.promise, made.reports[0], renditions=[], deliveries=[plan()], **again)


def test_a_stopped_profile_is_not_claimed(house: House) -> None:
    house.file("a")
    house.do(store.stop, "profile:dr-a", "op", "cabinet fermé", NOW)
    assert house.claim() == []
    house.do(store.resume, "profile:dr-a", "op", "rouvert", NOW)
    assert len(house.claim()) == 1


def test_a_notice_is_open_once_and_told_at_opening_and_closing(house: House) -> None:
    down = Notice(subject="channel:mail", kind=NoticeKind.CHANNEL, cause="injoignable")
    id = house.do(store.open_notice, down, NOW)
    assert house.do(store.open_notice, down, NOW + MINUTE) == id
    assert house.see(store.notice, id[:5]).repeats == 1
    house.do(store.take_notice, id, "op", NOW)
    house.do(store.close_notice, id, "op", "réparé", NOW)
    assert house.do(store.open_notice, down, NOW) != id
    told = house.see(store.outbox_pending)
    assert [row.topic for row in told] == ["notice.opened", "notice.closed", "notice.opened"]
    house.do(store.outbox_done, [told[0].id, told[1].id], NOW)
    assert [row.id for row in house.see(store.outbox_pending)] == [told[2].id]


def test_selections_combine(house: House) -> None:
    house.file("a", plan(), plan("dr-b", "sftp"), number="1")
    failed = house.attempt(Failed(failure=BROKEN))
    for chosen, expected in [
        (Selection(states=frozenset({State.FAILED})), [failed]),
        (Selection(error="REFUSED"), [failed]),
        (Selection(error="100%"), []),
        (Selection(channel="mail", recipient="dr-a", report="1"), [failed]),
        (Selection(ids=(failed[:7],)), [failed]),
        (Selection(since=NOW + MINUTE), []),
        (Selection(older_than=NOW), []),
    ]:
        assert [r.delivery.id for r in house.see(store.deliveries, chosen)] == expected


def test_ids_may_be_shortened_only_while_unique(house: House) -> None:
    made = house.file("a", plan(), plan("dr-b"))
    id = made.deliveries[0]
    assert house.see(ids.full_id, "D", id[:8].lower()) == id
    with pytest.raises(NotFound, match="plusieurs"):
        house.see(ids.full_id, "D", "D")


# --- no scan on the hot path --------------------------------------------------------------------


def prepared() -> dict[str, Prepared]:
    found: dict[str, Prepared] = {}
    for module in (attempts, contents, dispatch, ids, leases, moves, promises, receipts, reports):
        for name, value in vars(module).items():
            several = value if isinstance(value, tuple) else None
            several = tuple(value.values()) if isinstance(value, dict) else several
            for n, one in enumerate(several if several is not None else (value,)):
                if isinstance(one, Prepared):
                    found[f"{module.__name__}.{name}.{n}"] = one
    return found


def test_no_statement_of_the_hot_path_scans_a_table(house: House) -> None:
    def plans(tx: Tx) -> dict[str, list[str]]:
        shown = {}
        for name, one in prepared().items():
            sql, _, _ = one.compiled(tx.connection.dialect)
            rows = tx.cursor.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))
            shown[name] = [row[3] for row in rows.fetchall()]
        return shown

    shown = house.ledger.write_now(plans)
    assert len(shown) > 50
    scans = {
        (name, line) for name, lines in shown.items() for line in lines if line.startswith("SCAN")
    }
    # recovery reads the few rows of a partial index: those that are under way
    few = ("dlx.ledger.leases._OF_OTHERS.0", "SCAN delivery USING INDEX ix_delivery_owner")
    assert scans <= {few}
    due = [line for name, lines in shown.items() if "dispatch._DUE" in name for line in lines]
    assert sum("ix_delivery_due" in line for line in due) == 2
    assert not any("TEMP B-TREE" in line for line in due)
