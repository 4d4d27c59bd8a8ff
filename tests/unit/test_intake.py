"""The planning rules: versions, mixed patients, cut reports."""

from __future__ import annotations

import pytest

from dlx.facts import Facts, facts_of
from dlx.intake import Refuse
from dlx.intake.planning import next_version, refuse_incomplete, refuse_mixed_patients
from dlx.ledger import LatestVersion
from dlx.rendering import ParsedFile, ParsedReport
from dlx.report import ReportStatus
from dlx.settings.model import Pickup
from dlx.testing.reports import report_for

PARTIAL, FINAL = ReportStatus.PARTIAL, ReportStatus.FINAL
CORRECTED, CANCELLED = ReportStatus.CORRECTED, ReportStatus.CANCELLED


def facts(status: ReportStatus = FINAL, content: str = "neuf", seed: int = 1) -> Facts:
    return facts_of(report_for(seed=seed, results=1, status=status), content_key=content)


def latest(status: ReportStatus, patient: str = "p") -> LatestVersion:
    return LatestVersion(
        report="R1",
        version=3,
        status=status,
        patient_hash=patient,
        content_key="ancien",
        message_id="",
    )


def test_first_version_is_number_one() -> None:
    assert next_version(facts(), None, "p") == (1, False)


@pytest.mark.parametrize(
    ("before", "now", "outcome"),
    [
        (PARTIAL, PARTIAL, 4),
        (PARTIAL, FINAL, 4),
        (PARTIAL, CORRECTED, 4),
        (PARTIAL, CANCELLED, 4),
        (FINAL, PARTIAL, "outdated"),
        (FINAL, FINAL, "conflict"),
        (FINAL, CORRECTED, 4),
        (FINAL, CANCELLED, 4),
        (CORRECTED, PARTIAL, "outdated"),
        (CORRECTED, FINAL, "outdated"),
        (CORRECTED, CORRECTED, 4),
        (CORRECTED, CANCELLED, 4),
        (CANCELLED, CORRECTED, 4),
        (CANCELLED, CANCELLED, 4),
    ],
)
def test_what_may_follow_what(before: ReportStatus, now: ReportStatus, outcome: object) -> None:
    try:
        found: object = next_version(facts(now), latest(before), "p")[0]
    except Refuse as refusal:
        found = refusal.finding.code
    assert found == outcome


@pytest.mark.parametrize("status", list(ReportStatus))
def test_same_content_is_no_new_version(status: ReportStatus) -> None:
    assert next_version(facts(status, "ancien"), latest(FINAL), "p") == (3, True)


@pytest.mark.parametrize("status", list(ReportStatus))
def test_other_patient_is_refused_before_anything_else(status: ReportStatus) -> None:
    for content in ("ancien", "neuf"):
        with pytest.raises(Refuse) as caught:
            next_version(facts(status, content), latest(FINAL, "autre"), "p")
        assert caught.value.finding.code == "identity_conflict"


def parsed(*seeds: int, several: bool = False, incomplete: bool = False) -> ParsedFile:
    from dataclasses import replace

    reports = tuple(
        ParsedReport(token=n, facts=replace(facts(seed=seed), incomplete=incomplete))
        for n, seed in enumerate(seeds)
    )
    return ParsedFile(reports=reports, several_expected=several)


def pickup(patients: str) -> Pickup:
    from pathlib import Path

    return Pickup(name="p", directory=Path("in"), patients=patients)


def test_two_patients_need_a_batch_or_a_setting() -> None:
    refuse_mixed_patients(parsed(1, 1), pickup("one"))
    refuse_mixed_patients(parsed(1, 2, several=True), pickup("one"))
    refuse_mixed_patients(parsed(1, 2), pickup("several"))
    with pytest.raises(Refuse) as caught:
        refuse_mixed_patients(parsed(1, 2), pickup("one"))
    assert caught.value.finding.code == "two_patients"


def test_cut_report_is_refused() -> None:
    refuse_incomplete(parsed(1).reports[0].facts, ())
    with pytest.raises(Refuse) as caught:
        refuse_incomplete(parsed(1, incomplete=True).reports[0].facts, ())
    assert caught.value.finding.code == "incomplete"
