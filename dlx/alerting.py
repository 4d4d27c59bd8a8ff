"""What deserves a person: told once when it opens, once when it closes, without medical data."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.policy import SMTP

from dlx import ledger as store
from dlx.contracts import Connector, Expiry
from dlx.delivery import Notice, NoticeKind
from dlx.failpoints import failpoint
from dlx.ledger import Ledger, OutboxRow, Tx
from dlx.settings.model import Alerts

log = logging.getLogger("dlx.alerting")

WARN_DAYS = 30


def message_of(
    rows: Sequence[OutboxRow], notices: Mapping[str, Notice], alerts: Alerts, laboratory: str
) -> EmailMessage:
    """One mail for everything that opened or closed since the last one; ``notices`` by id."""
    told = [(row, notices[row.payload["notice"]]) for row in rows]
    opened = [_opened(notice) for row, notice in told if row.topic == "notice.opened"]
    closed = [_closed(notice) for row, notice in told if row.topic == "notice.closed"]
    parts = []
    if opened:
        parts.append(f"{len(opened)} avis ouvert{'s' if len(opened) > 1 else ''}")
    if closed:
        parts.append(f"{len(closed)} clos")
    assert alerts.mail is not None  # noqa: S101 - the caller looked
    mail = EmailMessage(policy=SMTP)
    mail["Subject"] = f"DLX {laboratory} : " + ", ".join(parts)
    mail["From"] = alerts.mail.sender
    mail["To"] = ", ".join(alerts.mail_to)
    mail["Message-ID"] = f"<avis.{rows[0].id}-{rows[-1].id}@{socket.gethostname()}>"
    mail["Auto-Submitted"] = "auto-generated"
    lines = []
    for title, chosen in (("Ouverts", opened), ("Clos", closed)):
        if chosen:
            lines += [f"{title} :", *chosen, ""]
    lines.append("Tout voir : dlx notices")
    mail.set_content("\n".join(lines))
    return mail


def _opened(notice: Notice) -> str:
    text = f"  {notice.id}  {notice.cause}"
    if notice.words:
        text += f"\n      réponse : {notice.words}"
    if notice.command:
        text += f"\n      → {notice.command}"
    return text


def _closed(notice: Notice) -> str:
    return f"  {notice.id}  {notice.cause}\n      motif : {notice.closing_reason}"


async def tell(ledger: Ledger, alerts: Alerts, laboratory: str, now: datetime) -> int:
    """Mail what is in the outbox; how many lines were told. At least once, in one mail a pass."""
    rows = ledger.read(store.outbox_pending)
    if not rows:
        return 0
    if alerts.mail is not None and alerts.mail_to:
        failpoint("notice.sending")
        ids = {row.payload["notice"] for row in rows}
        known = ledger.read(lambda tx: {id: store.notice(tx, id).notice for id in ids})
        if not await _send(message_of(rows, known, alerts, laboratory), alerts):
            return 0
    await ledger.write(lambda tx: store.outbox_done(tx, [row.id for row in rows], now))
    return len(rows)


async def _send(mail: EmailMessage, alerts: Alerts) -> bool:
    import aiosmtplib

    assert alerts.mail is not None  # noqa: S101 - the caller looked
    relay = alerts.mail
    try:
        await aiosmtplib.send(
            mail,
            hostname=relay.host,
            port=relay.port,
            use_tls=relay.tls == "tls",
            start_tls=relay.tls == "starttls",
            timeout=30,
        )
    except (aiosmtplib.SMTPException, OSError) as error:
        log.error("event=alert_not_sent error=%s", type(error).__name__)
        return False
    return True


def watch_certificates(tx: Tx, connectors: Mapping[str, Connector], now: datetime) -> None:
    """One notice for each certificate that ended or ends within 30 days; closed when renewed."""
    for channel, connector in connectors.items():
        for expiry in connector.expiries():
            subject = f"certificate:{channel}:{expiry.name}"
            if expiry.ends_at - now > timedelta(days=WARN_DAYS):
                store.clear_notice(tx, subject, NoticeKind.CERTIFICATE, "certificat renouvelé", now)
            else:
                store.open_notice(tx, _expiry_notice(subject, channel, expiry, now), now)


def _expiry_notice(subject: str, channel: str, expiry: Expiry, now: datetime) -> Notice:
    day = expiry.ends_at.strftime("%d/%m/%Y")
    left = (expiry.ends_at - now).days
    ended = f"a expiré le {day}" if expiry.ends_at <= now else f"expire le {day} ({left} jours)"
    return Notice(
        subject=subject,
        kind=NoticeKind.CERTIFICATE,
        cause=f"certificat {expiry.name} (canal {channel}) : {ended}",
        command="remplacez le certificat, puis : dlx reload",
    )
