"""Every sample of the shared corpus through a real station, one after the other.

A policy adds ``dr-tout`` to every report, so that whatever can be read reaches somebody. Most
samples bear one and the same number of request; each gets its own here (same length, nothing else
is touched), because the second of them would rightly be refused as a conflict.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import House, profile

# What becomes of each file: ``sent`` (delivered to dr-tout), ``held`` (marked as test by its
# sender, so a person must release it), or the code of its ``.why``; then the kinds of notices.
# « + unrouted »: the prescriber or a copy has no profile, which a person must see.
OUTCOMES = {
    "01-lab3-utf8.hl7": "sent",
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
        profiles=profile("dr-tout", "TOUT", "cabinet", formats="json" and "hprim, oru, pdf, text"),
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
    print(json.dumps(found, indent=1))
    assert found == OUTCOMES
