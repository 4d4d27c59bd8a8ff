"""From the spool to promises: claim, read, parse, route, render, keep, promise, then finish.

Two steps run side by side: while one batch is written (route, render, archive, ledger), the next is
claimed and parsed. The order of the writing is the safety: the archive holds the bytes before the
ledger promises them, and the claimed file goes only after both.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dlx import ledger as store
from dlx import spool
from dlx.archive import Archive, DataKey, MasterKey
from dlx.archive import Place as Kept
from dlx.delivery import Notice, NoticeKind
from dlx.intake.planning import (
    FACTS,
    Key,
    Plan,
    Refuse,
    Rules,
    addressee,
    entry_of,
    next_version,
    refuse_incomplete,
    refuse_mixed_patients,
    route_plan,
)
from dlx.ledger import LatestVersion, Ledger, Registration, Rejection
from dlx.rendering import (
    FileToParse,
    Finding,
    Made,
    ParsedFile,
    ParsedReport,
    RenderFailure,
    RenderPool,
    ReportToRender,
)
from dlx.report import ReportStatus
from dlx.settings.model import Pickup

__all__ = ["FACTS", "Intake", "Plan", "Refuse", "Rules", "Source", "addressee", "route_plan"]

log = logging.getLogger("dlx.intake")
UNSTABLE_WAIT = 60.0
BATCH_COUNTS = frozenset({"HL7-W06"})  # BTS-1 or FTS-1 says another number


@dataclass(frozen=True, kw_only=True)
class Source:
    """A pickup of the configuration and its folder queue."""

    settings: Pickup
    queue: spool.Pickup


@dataclass(kw_only=True)
class _Taken:
    """A file on its way: its bytes, what the worker found in it, where its reports are kept."""

    content: spool.Content
    source: Source
    worker: int
    parsed: ParsedFile
    plans: list[Plan] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)
    alone: bool = False  # the worker died on its batch: it is rendered by itself, once


@dataclass(kw_only=True)
class Intake:
    """Takes batches of files through to promises. One instance, one event loop.

    Attributes:
        rules: the configuration in force; replaced as a whole by a reload.
        promised: called with the channels that have new deliveries.
        prime: told of each data key and what was kept under it: the deliveries need both at once.
    """

    ledger: Ledger
    archive: Archive
    master: MasterKey
    renderers: RenderPool
    rooms: spool.Rooms
    rules: Rules
    clock: Callable[[], datetime]
    promised: Callable[[set[str]], None]
    prime: Callable[[DataKey, Sequence[tuple[str, bytes]]], None]
    _unstable: dict[str, float] = field(default_factory=dict)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def take(self, source: Source, files: Sequence[spool.Claimed]) -> Awaitable[None]:
        """Read and parse claimed files; the returned awaitable does the rest (await it, in order).

        Raises StoreError, OSError: the station must pause or stop; the files stay in ``claimed/``.
        """
        contents = await self._read(source, files)
        taken, _ = await asyncio.gather(
            self._parse(source, contents), asyncio.to_thread(source.queue.settle)
        )
        return self._write(taken)

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, source: Source, files: Sequence[spool.Claimed]) -> list[spool.Content]:
        contents: list[spool.Content] = []
        for file in files:
            try:
                content = source.queue.read(file)
            except FileNotFoundError:
                continue  # finished by an earlier pass
            except spool.Unfit as unfit:
                await self._refuse(file, Finding(code=unfit.code, message=unfit.message), b"")
            except spool.Unstable:
                await self._unstable_again(file)
            else:
                contents.append(content)
        return await self._without_duplicates(source, contents)

    async def _unstable_again(self, file: spool.Claimed) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._unstable.setdefault(file.claim, now) < UNSTABLE_WAIT:
            return  # stays in claimed/; the caller looks again
        del self._unstable[file.claim]
        message = "fichier encore modifié une minute après sa prise : le SIL doit le fermer"
        await self._refuse(file, Finding(code="unstable", message=message), b"")

    @property
    def unstable(self) -> bool:
        """True while a claimed file is still being written by somebody."""
        return bool(self._unstable)

    async def _without_duplicates(
        self, source: Source, contents: Sequence[spool.Content]
    ) -> list[spool.Content]:
        known = self.ledger.read(lambda tx: store.known(tx, [c.sha256 for c in contents]))
        fresh: list[spool.Content] = []
        seen: set[str] = set()
        for content in contents:
            self._unstable.pop(content.file.claim, None)
            row = known.get(content.sha256)
            if row is None and content.sha256 not in seen:
                seen.add(content.sha256)
                fresh.append(content)
            elif row is not None and row.claim_id == content.file.claim:
                spool.finish([content.file])  # registered before a crash: only the end was missing
            else:
                await self._duplicate(source, content, row.id if row else content.sha256)
        return fresh

    async def _duplicate(self, source: Source, content: spool.Content, first: str) -> None:
        if source.settings.duplicates == "reject":
            message = f"fichier identique à {first}, déjà reçu"
            await self._refuse(
                content.file, Finding(code="duplicate", message=message), content.data
            )
            return
        now = self.clock()
        await self.ledger.write(
            lambda tx: store.record(
                tx,
                subject=f"intake:{first}",
                action="duplicate",
                actor="station",
                now=now,
                detail={"claim": content.file.claim},
            )
        )
        log.info("intake=%s event=duplicate claim=%s", first, content.file.claim)
        spool.finish([content.file])

    async def _parse(self, source: Source, contents: Sequence[spool.Content]) -> list[_Taken]:
        pickup = source.settings
        only = (pickup.format,) if pickup.format else ()
        jobs = [
            (FileToParse(blob=0, only=only, reading=pickup.reading), content.data)
            for content in contents
        ]
        answers = await self.renderers.parse(jobs) if jobs else []
        return [
            _Taken(content=content, source=source, worker=worker, parsed=parsed)
            for content, (worker, parsed) in zip(contents, answers, strict=True)
        ]

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, taken: list[_Taken]) -> None:
        async with self._writing:
            await self._write_batch(taken)

    async def _write_batch(self, taken: list[_Taken]) -> None:
        now = self.clock()
        kept = await self._plan(_in_order(taken), now)
        if not kept:
            return
        try:
            made = await self._render(kept)
        except RenderFailure:
            await self._one_by_one(kept)
            return
        registrations, names = await self._keep(kept, made, now)
        results = await self.ledger.write(lambda tx: store.register_many(tx, registrations, now))
        spool.finish(one.content.file for one in kept)
        for one, result in zip(kept, results, strict=True):
            log.info(
                "intake=%s event=registered reports=%d deliveries=%d claim=%s",
                result.intake,
                len(result.reports),
                len(result.deliveries),
                one.content.file.claim,
            )
            if one.parsed.diagnostics:
                codes = ",".join(dict.fromkeys(d.code for d in one.parsed.diagnostics))
                log.warning("intake=%s event=diagnostics codes=%s", result.intake, codes)
        self.promised(names)

    async def _one_by_one(self, kept: Sequence[_Taken]) -> None:
        """The worker died on this batch: find the file that kills it."""
        for one in kept:
            (again,) = await self._parse(one.source, [one.content])
            if not one.alone:
                again.alone = True
                await self._write_batch([again])
                continue
            message = "ce compte rendu a fait tomber le moteur de rendu"
            await self._refuse(
                one.content.file, Finding(code="renderer_died", message=message), one.content.data
            )

    async def _plan(self, taken: Sequence[_Taken], now: datetime) -> list[_Taken]:
        keys = [(r.facts.issuer, r.facts.number) for one in taken for r in one.parsed.reports]
        latest = dict(self.ledger.read(lambda tx: store.latest(tx, keys))) if keys else {}
        kept: list[_Taken] = []
        for one in taken:
            try:
                self._plan_file(one, latest, now)
            except Refuse as refusal:
                await self.renderers.drop([(one.worker, r.token) for r in one.parsed.reports])
                await self._refuse(one.content.file, refusal.finding, one.content.data)
            else:
                kept.append(one)
        return kept

    def _plan_file(self, one: _Taken, latest: dict[Key, LatestVersion], now: datetime) -> None:
        if one.parsed.refused is not None:
            raise Refuse(one.parsed.refused)
        if not one.parsed.reports:
            raise Refuse(
                one.parsed.refused_parts[0]
                if one.parsed.refused_parts
                else Finding(code="no_report", message="aucun compte rendu dans ce fichier")
            )
        refuse_mixed_patients(one.parsed, one.source.settings)
        versions: dict[Key, LatestVersion] = {}
        for parsed in one.parsed.reports:
            try:
                self._plan_report(one, parsed, versions, latest, now)
            except Refuse as refusal:
                # one bad message of a batch must not lose the others
                if not one.parsed.several_expected or len(one.parsed.reports) == 1:
                    raise
                one.refused.append(refusal.finding)
        if not one.plans:
            raise Refuse(one.refused[0])
        latest.update(versions)

    def _plan_report(
        self,
        one: _Taken,
        parsed: ParsedReport,
        versions: dict[Key, LatestVersion],
        latest: Mapping[Key, LatestVersion],
        now: datetime,
    ) -> None:
        """Plan one report of a file. Raises Refuse."""
        facts = parsed.facts
        refuse_incomplete(facts, one.parsed.diagnostics)
        key = (facts.issuer, facts.number)
        before = versions.get(key) or latest.get(key)
        patient = self.master.lookup_hash(facts.patient_key) if facts.patient_key else ""
        version, unchanged = next_version(facts, before, patient)
        plan = Plan(
            facts=facts,
            token=(one.worker, parsed.token),
            patient_hash=patient,
            version=version,
            replaces=before.version if before and not unchanged else 0,
            unchanged=unchanged,
        )
        if not unchanged:
            if facts.corrects and before is None:
                plan.late = timedelta(seconds=one.source.settings.correction_wait_seconds)
            route_plan(plan, self.rules, now, self._received_before(before))
        one.plans.append(plan)
        versions[key] = LatestVersion(
            report=before.report if before else "",
            version=version,
            status=facts.status if not unchanged or before is None else before.status,
            patient_hash=patient,
            content_key=facts.content_key,
            message_id=facts.message_id,
        )

    def _received_before(self, before: LatestVersion | None) -> frozenset[str]:
        if before is None or not before.report:
            return frozenset()
        view = self.ledger.read(lambda tx: store.report(tx, before.report))
        return frozenset(row.delivery.recipient for row in view.deliveries)

    async def _render(self, kept: Sequence[_Taken]) -> list[list[list[tuple[Made, bytes]]]]:
        plans = [(one, plan) for one in kept for plan in one.plans]
        jobs = [
            (
                plan.token[0],
                ReportToRender(
                    token=plan.token[1],
                    version=plan.version,
                    replaces=plan.replaces,
                    wishes=tuple(plan.wishes),
                ),
            )
            for _, plan in plans
        ]
        answers = iter(await self.renderers.render(jobs))
        return [[next(answers) for _ in one.plans] for one in kept]

    async def _keep(
        self,
        kept: Sequence[_Taken],
        made: Sequence[Sequence[Sequence[tuple[Made, bytes]]]],
        now: datetime,
    ) -> tuple[list[Registration], set[str]]:
        """Archive originals and renditions of the batch in one pack; the rows to register."""
        bundle: list[tuple[DataKey, bytes]] = []
        keys: list[DataKey] = []
        spans: list[tuple[int, int]] = []
        for one, reports in zip(kept, made, strict=True):
            key = self.master.new_key()
            keys.append(key)
            start = len(bundle)
            bundle.append((key, one.content.data))
            bundle.extend((key, b) for report in reports for m, b in report if m.refused is None)
            spans.append((start, len(bundle)))
        places = await asyncio.to_thread(self.archive.keep, bundle, kept[0].content.file.claim, now)
        channels: set[str] = set()
        registrations = []
        for one, reports, key, (start, end) in zip(kept, made, keys, spans, strict=True):
            mine = places[start:end]
            contents = [content for _, content in bundle[start + 1 : end]]
            self.prime(key, [(p.sha256, c) for p, c in zip(mine[1:], contents, strict=True)])
            registrations.append(self._registration(one, reports, key, mine, now))
            channels.update(r.channel for plan in one.plans for r in plan.routing.routes)
        return registrations, channels

    def _registration(
        self,
        one: _Taken,
        reports: Sequence[Sequence[tuple[Made, bytes]]],
        key: DataKey,
        places: Sequence[Kept],
        now: datetime,
    ) -> Registration:
        digests = iter(place.sha256 for place in places[1:])
        entries = []
        for plan, made in zip(one.plans, reports, strict=True):
            mine = {n: next(digests) for n, (m, _) in enumerate(made) if m.refused is None}
            entries.append(entry_of(plan, made, mine, self.rules, now))
        file = one.content.file
        return Registration(
            claim_id=file.claim,
            original_name=file.original_name,
            sha256=one.content.sha256,
            size=len(one.content.data),
            pickup=file.pickup,
            first_seen=now,
            config_hash=self.rules.hash,
            reports=tuple(entries),
            places=tuple(
                store.Place(
                    sha256=p.sha256, data_key=p.key, pack=p.pack, offset=p.offset, length=p.length
                )
                for p in places
            ),
            data_keys=(store.DataKey(id=key.id, wrapped=key.wrapped, kek_id=key.master),),
            notices=_batch_notices(one),
        )

    # --- refusing ------------------------------------------------------------------------------

    async def _refuse(self, file: spool.Claimed, finding: Finding, data: bytes) -> None:
        """``.why`` and file to ``reject/``, then the ledger's row and notice; safe to repeat."""
        now = self.clock()
        digest = hashlib.sha256(data).hexdigest() if data else ""
        why = spool.Why(
            code=finding.code,
            message=finding.message,
            line=finding.line,
            column=finding.column,
            offset=finding.offset,
        )
        rejection = Rejection(
            claim_id=file.claim,
            original_name=file.original_name,
            sha256=digest,
            size=len(data),
            pickup=file.pickup,
            first_seen=now,
            code=finding.code,
            message=finding.message,
        )
        # the row first: a crash in between finds the file in claimed/ and comes back here
        intake = await self.ledger.write(lambda tx: store.reject(tx, rejection, now))
        await asyncio.to_thread(spool.reject, file, why, self.rooms.reject, now, sha256=digest)
        self.promised(set())  # nothing to send, but people are to be told
        log.warning("intake=%s event=rejected code=%s claim=%s", intake, finding.code, file.claim)


def _batch_notices(one: _Taken) -> tuple[Notice, ...]:
    """What a person must see of a batch whose other messages went on."""
    refused = [*one.parsed.refused_parts, *one.refused]
    causes = []
    if refused:
        codes = ", ".join(dict.fromkeys(f"{f.code} {f.message}" for f in refused))
        causes.append(f"{len(refused)} message(s) du lot refusés : {codes}")
    causes += [d.message for d in one.parsed.diagnostics if d.code in BATCH_COUNTS]
    if not causes:
        return ()
    return (
        Notice(
            subject="",
            kind=NoticeKind.REJECTED,
            cause=" ; ".join(causes),
            command="à corriger dans le SIL, qui les produira à nouveau",
        ),
    )


def _in_order(taken: list[_Taken]) -> list[_Taken]:
    """Versions of one report in the order in which the laboratory issued them."""
    seen: dict[Key, int] = {}
    for one in taken:
        for report in one.parsed.reports:
            key = (report.facts.issuer, report.facts.number)
            seen[key] = seen.get(key, 0) + 1
    if all(count == 1 for count in seen.values()):
        return taken
    return sorted(taken, key=_issued)


def _issued(one: _Taken) -> tuple[str, int]:
    first = one.parsed.reports[0].facts if one.parsed.reports else None
    rank = {ReportStatus.PARTIAL: 0, ReportStatus.FINAL: 1}
    return (first.issued if first else "", rank.get(first.status, 2) if first else 0)
