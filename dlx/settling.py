"""From receipts to proof: what came back, what never came, what waited for too long."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from dlx import ledger as store
from dlx.contracts import Connector
from dlx.delivery import Fallback, State
from dlx.errors import DeliveryError
from dlx.ledger import Ledger, Selection, Tx
from dlx.profiles import Profile
from dlx.settings.model import ChannelSettings

log = logging.getLogger("dlx.settling")

UNPROVEN = frozenset({State.WAITING, State.IN_DOUBT, State.ACCEPTED})


async def collect(ledger: Ledger, channel: str, connector: Connector, now: datetime) -> int:
    """Record the receipts of one channel; how many. A channel that cannot be asked is skipped."""
    count = 0
    try:
        async for receipt in connector.receipts():
            recorded = await ledger.write(
                lambda tx, r=receipt: store.record_receipt(tx, r, channel, now)  # type: ignore[misc]
            )
            count += 1
            log.info(
                "delivery=%s event=receipt kind=%s positive=%s matched=%s",
                recorded.delivery or "-",
                receipt.kind,
                receipt.positive,
                bool(recorded.delivery),
            )
    except DeliveryError as error:
        log.warning("channel=%s event=receipts_unavailable code=%s", channel, error.code)
    return count


def overdue(
    tx: Tx, channels: Iterable[ChannelSettings], proving: frozenset[str], now: datetime
) -> list[str]:
    """Fail what expired and what was accepted but never confirmed in time; ids of both."""
    moved = store.expire(tx, now)
    for channel in channels:
        if channel.receipt_within_seconds is not None and channel.name in proving:
            before = now - timedelta(seconds=channel.receipt_within_seconds)
            moved += store.silent(tx, channel.name, before, now)
    return moved


def late_for_fallback(
    tx: Tx, profiles: Mapping[str, Profile], proving: frozenset[str], now: datetime
) -> list[tuple[str, Fallback]]:
    """Deliveries nothing proves within the time of their profile's ``if_undelivered``.

    ``proving``: channels that can prove a delivery later; on the others acceptance is the end, and
    must not bring a second copy.
    """
    late: list[tuple[str, Fallback]] = []
    for profile in profiles.values():
        rule = profile.fallback
        if rule is None:
            continue
        rows = store.deliveries(
            tx,
            Selection(
                recipient=profile.id,
                states=UNPROVEN,
                older_than=now - timedelta(seconds=rule.after_seconds),
                limit=1000,
            ),
        )
        late += [
            (row.delivery.id, rule)
            for row in rows
            if (row.delivery.state is not State.ACCEPTED or row.delivery.channel in proving)
            and row.delivery.channel != rule.channel
            and not row.delivery.options.get("fallback_of")
        ]
    return late
