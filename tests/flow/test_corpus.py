"""Every sample of the shared corpus through a real station, one after the other.

A policy adds ``dr-tout`` to every report, so that whatever can be read reaches somebody. Most
samples bear one and the same number of request; each gets its own here (same length, nothing else
is touched), because the second of them would rightly be refused as a conflict.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import House, profile

# What becomes of each file: the states of its deliveries to dr-tout (``held``: its sender marked it
# as a test, so a person must release it) or the code of its ``.why``; then the kinds of notices.
# « + unrouted »: the prescriber or a copy has no profile, which a person must see.
OUTCOMES = {
    "01-lab3-utf8.hl7": "delivered + unrouted",
    "01-medecin-nominal-latin1.hpr": "delivered + unrouted",
    "02-iso8859-1.hl7": "delivered + unrouted",
    "02-medecin-two-patients.hpr": "two_patients + rejected",
    "03-iso8859-15-euro.hl7": "delivered + unrouted",
    "03-medecin-cp850-ctrlz.hpr": "delivered + unrouted",
    "04-medecin-utf8-bom-lf.hpr": "delivered + unrouted",
    "04-no-charset-latin1.hl7": "delivered + unrouted",
    "05-declares-utf8-sends-latin1.hl7": "delivered + unrouted",
    "05-medecin-utf16le.hpr": "delivered + unrouted",
    "06-lf-line-ends.hl7": "delivered + unrouted",
    "06-medecin-macroman-cr.hpr": "delivered + unrouted",
    "07-crlf-line-ends.hl7": "delivered + unrouted",
    "07-medecin-letter-no-lab.hpr": "delivered + unrouted",
    "08-bom-utf8.hl7": "delivered + unrouted",
    "08-medecin-truncated-no-fin.hpr": "incomplete + rejected",
    "09-medecin-short-header.hpr": "delivered + unrouted",
    "09-mllp-framed.hl7": "delivered + unrouted",
    "10-five-encoding-chars.hl7": "delivered + unrouted",
    "10-medecin-long-header-odd-dates.hpr": "delivered + unrouted",
    "11-custom-separators.hl7": "delivered + unrouted",
    "11-medecin-irregular-res.hpr": "delivered + unrouted",
    "12-medecin-html-entities-trailer.hpr": "delivered + unrouted",
    "12-preliminary.hl7": "delivered + unrouted",
    "13-correction-of-12.hl7": "delivered + unrouted",
    "13-medecin-double-utf8.hpr": "delivered + unrouted",
    "14-cancelled-and-deleted.hl7": "delivered + unrouted",
    "14-not-hprim.txt": "unknown_format + rejected",
    "15-culture-parent-child.hl7": "delivered + unrouted",
    "15-medecin-no-identity.hpr": "HM-E03 + rejected",
    "16-embedded-pdf.hl7": "delivered + unrouted",
    "17-z-segments.hl7": "delivered + unrouted",
    # The README says that a station refuses 18 and 19 (a CDA without patient); they are taken.
    "18-cisis-initial.hl7": "delivered",
    "19-cisis-replace.hl7": "delivered",
    "20-cisis-orc-obx-disagree.hl7": "HL7-E11 + rejected",
    "20-sante-oru-h24.hpr": "delivered + unrouted",
    # Two messages that say the same: one version, one delivery.
    "21-batch-file.hl7": "delivered + unrouted",
    "21-sante-oru-pdf-base64.hpr": "delivered + unrouted",
    "22-batch-wrong-count.hl7": "delivered + rejected + unrouted",
    "22-sante-oru-swapped-separators-h21.hpr": "delivered + unrouted",
    "23-sante-adm.hpr": "HS-E10 + rejected",
    "23-truncated.hl7": "HL7-E06 + rejected",
    "24-sante-fac.hpr": "HS-E10 + rejected",
    "25-sante-err.hpr": "HS-E10 + rejected",
    "26-sante-truncated-no-l.hpr": "HS-E04 + rejected",
    "27-sante-hierarchy-error.hpr": "HS-E05 + rejected",
    "28-sante-two-patients-cr-count.hpr": "two_patients + rejected",
    "29-sante-oru-h22-max-compat.hpr": "delivered + unrouted",
    "fc-lab-oru-1.hl7": "incomplete + rejected",
    "fc-lab-oru-2.hl7": "incomplete + rejected",
    "fc-lri-cbc.hl7": "held + unrouted",
    "fc-oru-ed-rp-nte.hl7": "incomplete + rejected",
    "fc-oru-v24.hl7": "incomplete + rejected",
    "ipf-msg-02-v24-multi-obr.hl7": "held + unrouted",
    "ipf-msg-08-z-segment.hl7": "HL7-E09 + rejected",
    "ipf-msg-10.hl7": "delivered + unrouted",
    "ipf-oru-r01-25-spm.hl7": "incomplete + rejected",
    "ipf-pcd01-max-v26.hl7": "incomplete + rejected",
    "ipf-wan-invalid-glucose.hl7": "HL7-E10 + rejected",
    "lfh-oru-v26-mixed-nte.hl7": "incomplete + rejected",
    "rb-nist-elr-1.hl7": "delivered + unrouted",
    "rb-obx-obr-v22.hl7": "HL7-E06 + rejected",
    "rb-realm-bad-batch.hl7": "delivered + rejected + unrouted",
    "rb-realm-batch.hl7": "delivered + rejected + unrouted",
    "rb-realm-err.hl7": "delivered + unrouted",
}


def renumbered(data: bytes, n: int) -> bytes:
    """Give a sample a number of its own."""
    if data.startswith(b"\xff\xfe"):
        text = data.decode("utf-16-le").encode("utf-8")
        return renumbered(text, n).decode("utf-8").encode("utf-16-le")
    data = data.replace(b"B260112-042", b"B26%04d-042" % n)
    data = re.sub(rb"(?<!20)25013100", b"9%03d3100" % n, data)
    return data.replace(b"9700123", b"97%05d" % n)


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    house.configure(
        channels=house.folder_channel(),
        profiles=profile("dr-tout", "TOUT", "cabinet", formats="hprim, oru, pdf, text"),
        policies="  - name: tout pour un\n    also_to: [dr-tout]\n",
    )
    return house.start()


def samples(corpus: Path) -> list[Path]:
    hprim = [p for p in corpus.glob("hprim/*") if p.suffix in (".hpr", ".txt")]
    return sorted([*corpus.glob("hl7/*/*.hl7"), *hprim], key=lambda p: p.name)


def outcome(house: House, name: str, before: dict[str, set[str]]) -> str:
    """What the station says now that it did not say before."""
    sent = [d for d in house.station.deliveries() if d["id"] not in before["deliveries"]]
    notices = [n for n in house.notices() if n["id"] not in before["notices"]]
    refused = [r["code"] for r in house.refusals() if r["claim"] not in before["refusals"]]
    words = [*refused, *(d["state"] for d in sent)]
    kinds = sorted({n["kind"] for n in notices})
    for one in sent:
        before["deliveries"].add(one["id"])
    before["notices"] |= {n["id"] for n in notices}
    before["refusals"] |= {r["claim"] for r in house.refusals()}
    return " + ".join([", ".join(words) or "nothing", *kinds])


def test_every_sample_ends_where_the_table_says(house: House, corpus: Path) -> None:
    before: dict[str, set[str]] = {"deliveries": set(), "notices": set(), "refusals": set()}
    found = {}
    for n, path in enumerate(samples(corpus), start=1):
        house.take({path.name: renumbered(path.read_bytes(), n)})
        found[path.name] = outcome(house, path.name, before)
    assert found == OUTCOMES


def test_the_whole_corpus_at_once_is_accounted_for_file_by_file(house: House, corpus: Path) -> None:
    """Same numbers, other contents, corrections before originals: nothing is lost nor stuck."""
    before = house.station.ask("status")["intake"]
    refused = {r["claim"] for r in house.refusals()}
    files = {f"lot-{p.name}": p.read_bytes() for p in samples(corpus)}
    house.take(files)
    after = house.station.ask("status")["intake"]
    taken = after["received"] - before["received"]
    again = {r["original_name"] for r in house.refusals() if r["claim"] not in refused}
    duplicates = house.station.log.count("event=duplicate")
    assert taken + len(again) + duplicates == len(files)
    for one in house.refusals():
        name = one["original_name"]
        if name in files:
            assert one["path"].read_bytes() == files[name], "the bytes are kept as they came"
            assert one["code"] and len(one["message"].split()) > 2
    assert not [d for d in house.station.deliveries() if d["state"] == "failed"]
