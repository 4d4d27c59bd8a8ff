"""What the demo must show, each expectation judged on what was really observed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes
from functools import cached_property
from pathlib import Path
from typing import Any

from dlx.demo.scenes import Drop, medical_texts
from dlx.testing.peers.smtp import Stored

Json = dict[str, Any]
DONE = ("accepted", "delivered")


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """One thing that must have happened."""

    name: str
    observed: bool
    detail: str = ""


@dataclass(frozen=True)
class Evidence:
    """Everything the demo saw."""

    root: Path
    drops: list[Drop]
    deliveries: list[Json]
    notices: list[Json]
    status: Json
    chain: Json
    received: dict[str, Path]
    relay: list[Stored]
    alerts: list[Stored]
    log: str

    def rejected(self) -> list[Path]:
        """The ``.why`` files."""
        return list((self.root / "var" / "spool" / "dlx" / "reject").glob("*.why"))

    @cached_property
    def reasons(self) -> list[str]:
        """Code of every rejection."""
        import json

        return sorted(json.loads(path.read_text())["code"] for path in self.rejected())

    def to(self, recipient: str, **wanted: Any) -> list[Json]:
        """Deliveries to a recipient whose members equal ``wanted``."""
        return [
            d
            for d in self.deliveries
            if d["recipient"] == recipient and all(d[k] == v for k, v in wanted.items())
        ]

    def files(self, recipient: str, suffix: str) -> list[bytes]:
        """What a recipient holds, with this ending."""
        return [p.read_bytes() for p in sorted(self.received[recipient].glob(f"*{suffix}"))]

    def notice(self, kind: str) -> list[Json]:
        """Open notices of a kind."""
        return [n for n in self.notices if n["kind"] == kind]


def judged(e: Evidence) -> Iterator[Expectation]:
    """Every expectation, in the order of a report's life."""
    for name, test in CHECKS:
        try:
            found = test(e)
        except (LookupError, OSError, ValueError) as error:
            yield Expectation(name=name, observed=False, detail=type(error).__name__)
        else:
            yield Expectation(name=name, observed=bool(found))


def _one_notice_each(e: Evidence) -> bool:
    subjects = [(n["subject"], n["kind"]) for n in e.notices]
    return len(subjects) == len(set(subjects))


def _mails_open(e: Evidence) -> bool:
    wanted = sum(d["channel"] == "medecins-smime" and d["state"] in DONE for d in e.deliveries)
    return wanted == len(e.relay) and len(e.files("dr-lefevre", ".hpr")) == len(
        e.to("dr-lefevre", state="accepted")
    )


def _neutral_outside(e: Evidence) -> bool:
    outer = [message_from_bytes(mail.message) for mail in e.relay]
    names = medical_texts()
    visible = "\n".join(str(m["Subject"]) + str(m["Message-ID"]) + str(m["From"]) for m in outer)
    paths = "\n".join(p.name for folder in e.received.values() for p in folder.iterdir())
    return not any(name in visible or name in paths for name in names)


def _nothing_medical(e: Evidence) -> bool:
    alerts = b"\n".join(mail.message for mail in e.alerts).decode("utf-8", "replace")
    return not any(name in e.log or name in alerts for name in medical_texts())


def _told(e: Evidence) -> bool:
    text = b"\n".join(mail.message for mail in e.alerts).decode("utf-8", "replace")
    text = text.replace("=\r\n", "")
    return bool(e.notices) and all(text.count(n["id"]) == 1 for n in e.notices)


def _correction(e: Evidence) -> bool:
    both = e.to("dr-lefevre", number="26-CORR-1")
    sent = {d["version"] for d in both if d["state"] in DONE}
    texts = [f for f in e.files("dr-lefevre", ".hpr") if b"26-CORR-1" in f]
    return sent == {1, 2} and any(b"REMPLACE" in text.upper() for text in texts)


def _held_partial(e: Evidence) -> bool:
    states = {d["version"]: d["state"] for d in e.to("dr-girard", number="26-PART-2")}
    return states.get(1) == "superseded" and states.get(2) in DONE


def _all_at_rest(e: Evidence) -> bool:
    moving = {"waiting", "claimed", "sending", "in_doubt"}
    return not any(d["state"] in moving for d in e.deliveries)


def _failures_told(e: Evidence) -> bool:
    failed = [d["id"] for d in e.deliveries if d["state"] == "failed"]
    told = [n["delivery"] for n in e.notice("failed")]
    return bool(failed) and sorted(failed) == sorted(told)


def _intake_complete(e: Evidence) -> bool:
    taken = e.status["intake"]
    return len(list((e.root / "var/spool/dlx/in").iterdir())) == 0 and (
        taken["rejected"] == len(e.rejected())
    )


CHECKS: tuple[tuple[str, Callable[[Evidence], object]], ...] = (
    ("every-file-taken", _intake_complete),
    ("final-delivered", lambda e: len(e.files("dr-morel", ".hpr")) >= 3),
    ("hprim-sante-delivered", lambda e: len(e.files("clinique-tilleuls", ".hl7")) == 5),
    ("partial-sent", lambda e: e.to("dr-lefevre", number="26-PART-1")[0]["state"] in DONE),
    ("partial-held-then-superseded", _held_partial),
    ("correction-follows", _correction),
    ("critical-value-first", lambda e: any(d["urgent"] for d in e.to("dr-morel"))),
    (
        "microbiology-delivered",
        lambda e: any(b"ANTIBIOGRAMME" in f.upper() for f in e.files("dr-lefevre", ".hpr")),
    ),
    (
        "copy-delivered",
        lambda e: {d["recipient"] for d in _copied(e)} == {"dr-lefevre", "dr-morel"},
    ),
    ("refusal-noticed", lambda e: any("550" in n["words"] for n in e.notice("failed"))),
    ("fallback-used", lambda e: len(e.files("dr-plein", ".pdf")) == 1),
    ("unknown-prescriber-noticed", lambda e: len(e.notice("unrouted")) == 1),
    ("malformed-quarantined", lambda e: "incomplete" in e.reasons),
    ("binary-quarantined", lambda e: "unknown_format" in e.reasons),
    ("identity-conflict-quarantined", lambda e: "identity_conflict" in e.reasons),
    ("duplicate-ignored", lambda e: e.log.count("event=duplicate") == 1),
    ("mails-open-and-verify", _mails_open),
    ("nothing-medical-outside", _neutral_outside),
    ("nothing-medical-in-logs-and-alerts", _nothing_medical),
    ("every-delivery-at-rest", _all_at_rest),
    ("every-failure-has-one-notice", lambda e: _failures_told(e) and _one_notice_each(e)),
    ("operators-told-once", _told),
    ("journal-intact", lambda e: e.chain["broken_at"] is None),
)


def _copied(e: Evidence) -> list[Json]:
    numbers = {d["number"] for d in e.to("dr-morel")} & {d["number"] for d in e.to("dr-lefevre")}
    return [d for d in e.deliveries if d["number"] in numbers and d["state"] in DONE]
