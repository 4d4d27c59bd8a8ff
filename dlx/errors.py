"""Every exception of DLX, in one tree.

Exception
├── DlxError
│   ├── ParseError            bytes that are not what they claim: quarantine
│   ├── RenderError           a report that a format cannot carry: this delivery fails
│   ├── DeliveryError
│   │   ├── TemporaryFailure  the same call may succeed later: wait and try again
│   │   ├── PermanentFailure  the same call will always fail: notice
│   │   └── InDoubt           may have arrived, the far side did not say: look, or ask a person
│   ├── LeaseLost             another worker owns this delivery now: drop the work
│   ├── NotFound              no such report, delivery, notice or profile
│   ├── Refused               a safety rule says no (reason or confirmation missing, wrong state)
│   └── StoreError            ledger, archive or spool cannot be trusted to go on
└── ConfigError               outside the tree, so that no `except DlxError` can swallow it
"""

from __future__ import annotations

from dataclasses import dataclass


class DlxError(Exception):
    """What DLX itself raises while it works."""


class ParseError(DlxError):
    """The bytes cannot be read as the format they claim to be; the caller quarantines them.

    Attributes:
        code: stable code, for example ``HM-E03`` or ``HL7-E02``; never contains medical data.
        message: what is wrong and how to mend it, in French, without any value of the report.
        line: 1-based line or segment number, or None.
        column: 1-based column or field number, or None.
        offset: byte offset, or None.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        line: int | None = None,
        column: int | None = None,
        offset: int | None = None,
    ) -> None:
        place = "".join(f"{name} {n}, " for name, n in (("ligne", line), ("champ", column)) if n)
        super().__init__(f"{code}: {place}{message}")
        self.code = code
        self.message = message
        self.line = line
        self.column = column
        self.offset = offset


class RenderError(DlxError):
    """The format cannot carry this report unchanged; this delivery fails with a notice."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class DeliveryError(DlxError):
    """A connector could not hand a delivery over.

    Attributes:
        code: our stable word for the cause: ``smtp-550``, ``host-key``, ``cert-expired``…
        message: French sentence for the operator: what, whom.
        words: the far side's own words, unchanged (without medical data), or "".
        cure: what the operator can do, or "".
        scope: ``delivery`` when only this one is concerned, ``channel`` when every delivery of
            the channel would fail the same way (peer down, key refused): the caller pauses it.
        phase: how far the attempt got (a value of ``delivery.Phase``), or "" when unknown.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        words: str = "",
        cure: str = "",
        scope: str = "delivery",
        phase: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.words = words
        self.cure = cure
        self.scope = scope
        self.phase = phase


class TemporaryFailure(DeliveryError):
    """The same call may succeed later. Nothing was left at the far side."""


class PermanentFailure(DeliveryError):
    """The same call will always fail until somebody changes something."""


class InDoubt(DeliveryError):
    """``committing`` was awaited and no complete answer came back: it may have arrived."""


class LeaseLost(DlxError):
    """The delivery belongs to a newer lease; whoever raised this must do nothing else."""


class NotFound(DlxError):
    """There is no such report, delivery, notice, channel or profile."""


class Refused(DlxError):
    """A safety rule refuses: a reason is missing, the state forbids it, a person must confirm."""


class StoreError(DlxError):
    """The ledger, the archive or the spool failed; the process must stop and recover."""


@dataclass(frozen=True, kw_only=True)
class ConfigProblem:
    """One mistake (or warning) in the configuration, with its place and its cure.

    Attributes:
        file: path as the operator knows it, relative to the configuration folder.
        line, column: 1-based place of the offending text.
        code: stable code, ``C011``; the severity is apart.
        severity: ``error`` or ``warning``.
        message: what is wrong; quotes the value.
        cure: what to write instead.
        context: where in the structure, for example ``fiche dr-lefevre (deliver[0])``.
        source: the line of the file, without its end.
        width: how many characters of it are at fault. label: what is said under them, or "".
    """

    file: str
    line: int
    column: int
    code: str
    severity: str
    message: str
    cure: str = ""
    context: str = ""
    source: str = ""
    width: int = 1
    label: str = ""


class ConfigError(Exception):
    """The configuration is refused; ``problems`` holds every mistake of every file."""

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        first = problems[0]
        more = f" (et {len(problems) - 1} autres)" if len(problems) > 1 else ""
        super().__init__(f"{first.file}:{first.line}:{first.column}: {first.message}{more}")
        self.problems = problems
