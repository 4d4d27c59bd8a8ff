"""Security §4.1: each bad file gets a clear reason, its bytes are kept, nothing else suffers.

One station for all of it: after each attack the next good file must still be delivered.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import House, good, oru, profile

from dlx.testing.reports import patient_for

pytestmark = pytest.mark.slow

GOOD = iter(range(1000, 2000))


@pytest.fixture(scope="module")
def house(build: Callable[[], House]) -> House:
    house = build()
    house.configure(channels=house.folder_channel(), profiles=profile("dr-bon", "BONA", "cabinet"))
    return house.start()


@pytest.fixture(autouse=True)
def unharmed(house: House) -> Iterator[None]:
    """Whatever was dropped, the same process delivers the next good file within seconds."""
    assert house.station.process is not None
    before = house.station.process.pid
    yield
    seed = next(GOOD)
    house.drop(f"bon-{seed}.hl7", good(seed, number=f"BON-{seed}"))
    house.wait(lambda: house.states(f"BON-{seed}") == {("dr-bon", 1): "delivered"})
    assert house.station.process.pid == before
    assert house.station.process.poll() is None


def rejected(house: House, name: str, code: str, content: bytes | None) -> dict[str, object]:
    """The refusal of a file: its code, a sentence, one notice, the very bytes."""
    why = house.refusal(name)
    assert why["code"] == code
    assert len(why["message"].split()) >= 3
    told = [
        n for n in house.notices("rejected") if code in n["cause"] or why["message"] in n["cause"]
    ]
    assert told, "a person is told"
    if content is not None:
        assert why["path"].read_bytes() == content
    return why


@pytest.mark.parametrize("content", [b"", b"\n\r\n \x00\x1a"], ids=["nothing", "blanks"])
def test_empty_file_is_refused_with_a_reason(house: House, content: bytes) -> None:
    name = f"vide-{len(content)}.hl7"
    house.drop(name, content)
    rejected(house, name, "empty", content)


def test_huge_file_is_refused_unread(house: House) -> None:
    """200 MB, sparse: the limit of the pickup is looked at before the content."""
    assert house.station.process is not None
    before = memory(house.station.process.pid)
    unfinished = house.station.inbox / "enorme.hl7.tmp"
    with unfinished.open("wb") as file:
        file.truncate(200_000_000)
    unfinished.rename(house.station.inbox / "enorme.hl7")
    why = rejected(house, "enorme.hl7", "too_large", None)
    assert "200000000" in str(why["message"])
    assert os.stat(str(why["path"])).st_size == 200_000_000
    assert memory(house.station.process.pid) - before < 30 << 20


def memory(pid: int) -> int:
    """Resident bytes at the highest since the start."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) << 10


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("octets.bin", bytes(range(256)) * 40, "unknown_format"),
        ("hasard.hl7", b"MSH|^~\\&|" + bytes(range(128, 256)) * 10, None),
        ("zip.hl7", b"PK\x03\x04" + b"\0" * 100, "unknown_format"),
        ("html.hl7", b"<!DOCTYPE html><html><body>404</body></html>", "unknown_format"),
    ],
)
def test_binary_rubbish_is_refused(
    house: House, name: str, content: bytes, code: str | None
) -> None:
    house.drop(name, content)
    why = house.refusal(name)
    assert code is None or why["code"] == code
    assert why["path"].read_bytes() == content


def test_truncated_hl7_is_refused_at_every_length(house: House) -> None:
    """A cut anywhere is seen: no half report is ever delivered."""
    whole = oru(good(1, number="COUPE-1"))
    cuts = [len(whole) * part // 12 for part in range(1, 12)]
    for cut in cuts:
        house.drop(f"coupe-{cut}.hl7", whole[:cut])
    for cut in cuts:
        assert house.refusal(f"coupe-{cut}.hl7")["path"].read_bytes() == whole[:cut]
    assert house.of("COUPE-1") == []


def test_wrong_charset_never_mangles_in_silence(house: House) -> None:
    """Declared UTF-8, written in Latin-1: read as the feed's own set, and said."""
    content = oru(good(2, number="JEU-1")).decode().encode("iso-8859-1", "replace")
    assert b"UNICODE UTF-8" in content
    house.drop("jeu.hl7", content)
    house.wait(lambda: house.of("JEU-1") or "jeu.hl7" in str(house.refusals()))
    if house.of("JEU-1"):
        assert "HL7-W01" in house.station.log
        (delivered,) = (p for p in house.out().iterdir() if house.of("JEU-1")[0]["id"] in p.name)
        assert "\ufffd".encode() not in delivered.read_bytes()


ODD_NAMES = [
    b"_..%2f..%2fetc%2fpasswd",
    b"a\nb\x1b[31m\x07.hl7",
    "rtl\u202egpj.hl7".encode(),
    b"\xff\xfe\xe9.hl7",
    b"x" * 255,
    b"-rf.hl7",
    b"$(touch x);`id`.hl7",
    b"a~b~c.hl7",
    b" .hl7",
    "é".encode() * 120 + b".hl7",
]


@pytest.mark.parametrize(
    "name",
    [n for n in ODD_NAMES if not n.startswith(b".")],
    ids=lambda name: f"name{ODD_NAMES.index(name)}",
)
def test_strange_names_are_taken_and_used_in_no_path(house: House, name: bytes) -> None:
    number = f"NOM-{ODD_NAMES.index(name)}"
    drop_raw(house, name, oru(good(3000 + ODD_NAMES.index(name), number=number)))
    house.wait(lambda: house.states(number) == {("dr-bon", 1): "delivered"})
    everything = [str(p) for p in house.root.rglob("*")]
    assert not any(re.search(r"[\x00-\x1f\u202e]|NOM|xxxxx", Path(p).name) for p in everything)


@pytest.mark.parametrize(
    "name",
    [n for n in ODD_NAMES if not n.startswith(b".")],
    ids=lambda name: f"name{ODD_NAMES.index(name)}",
)
def test_strange_names_are_shown_escaped_when_refused(house: House, name: bytes) -> None:
    content = b"rien de lisible " + name
    drop_raw(house, name, content)
    house.wait(lambda: any(r["path"].read_bytes() == content for r in house.refusals()))
    (why,) = (r for r in house.refusals() if r["path"].read_bytes() == content)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\udc80-\udcff]", why["original_name"])
    assert re.fullmatch(r"[0-9A-Z]{19}~sil~[A-Za-z0-9._-]{1,100}", why["path"].name)
    shown = house.dlx("reject", "show", why["claim"])
    assert shown.code == 0, shown
    assert "\x1b" not in shown.out


def drop_raw(house: House, name: bytes, content: bytes) -> None:
    """Drop under a name of bytes, as a foreign system may."""
    folder = os.fsencode(house.station.inbox)
    unfinished = folder + b"/brut.tmp"
    Path(os.fsdecode(unfinished)).write_bytes(content)
    os.rename(unfinished, folder + b"/" + name)


def test_hidden_and_unfinished_names_are_never_taken(house: House) -> None:
    names = [".hl7", "..hl7", "a.hl7.tmp", "a.part", "a.filepart", "a.why"]
    for name in names:
        (house.station.inbox / name).write_bytes(oru(good(4000, number="CACHE-1")))
    house.take_one("CACHE-2", good(4001, number="CACHE-2"))
    assert house.of("CACHE-1") == []
    for name in names:
        (house.station.inbox / name).unlink()


def test_symlink_is_refused_and_its_target_untouched(house: House, tmp_path: Path) -> None:
    target = tmp_path / "secret.hl7"
    target.write_bytes(oru(good(5000, number="LIEN-1")))
    (house.station.inbox / "lien.hl7").symlink_to(target)
    rejected(house, "lien.hl7", "not_plain_file", None)
    assert target.exists() and house.of("LIEN-1") == []


def test_fifo_is_refused_without_waiting_for_a_writer(house: House) -> None:
    os.mkfifo(house.station.inbox / "tube.hl7")
    rejected(house, "tube.hl7", "not_plain_file", None)


def test_directory_is_refused_with_all_it_holds(house: House) -> None:
    folder = house.station.inbox / "dossier.hl7"
    folder.mkdir()
    (folder / "dedans.hl7").write_bytes(b"dedans")
    why = rejected(house, "dossier.hl7", "not_plain_file", None)
    assert (Path(str(why["path"])) / "dedans.hl7").read_bytes() == b"dedans"


def test_hard_link_is_refused(house: House, tmp_path: Path) -> None:
    """A second name lets its owner change the content after it was read."""
    first = house.station.spool / "ailleurs.hl7"
    first.write_bytes(oru(good(5001, number="LIEN-2")))
    os.link(first, house.station.inbox / "double.hl7")
    rejected(house, "double.hl7", "not_plain_file", first.read_bytes())
    assert house.of("LIEN-2") == []


def test_two_patients_in_one_plain_file_are_refused(house: House) -> None:
    """Two messages pasted together without batch segments: nobody said that there would be two."""
    one, other = good(6000, number="DEUX-1"), good(6001, number="DEUX-2")
    content = oru(one) + oru(other)
    house.drop("deux.hl7", content)
    rejected(house, "deux.hl7", "two_patients", content)
    assert house.of("DEUX-1") == house.of("DEUX-2") == []


def test_known_number_with_another_patient_is_refused(house: House) -> None:
    house.take({"premier.hl7": good(7000, number="MEME-1")})
    content = oru(good(7000, number="MEME-1", patient=patient_for(7001)))
    house.drop("autre-patient.hl7", content)
    rejected(house, "autre-patient.hl7", "identity_conflict", content)
    assert [d["version"] for d in house.of("MEME-1")] == [1]


def test_million_fields_end_with_a_reason_or_a_delivery(house: House) -> None:
    """19 MB of separators: refused or taken, within the limits of the worker, never in silence."""
    head = oru(good(8000, number="CHAMPS-1"))
    line = b"OBX|99|ST|X^Y||" + b"a~" * 1_000_000 + b"|" * 1_000_000 + b"\r"
    house.drop("champs.hl7", head + line)
    house.wait(
        lambda: house.of("CHAMPS-1", state="delivered") or "champs.hl7" in str(house.refusals()), 60
    )


def test_thousands_of_segments_and_deep_separators(house: House) -> None:
    head = oru(good(8001, number="PROFOND-1"))
    for n, tail in enumerate((b"NTE|1||" + b"\\T\\" * 300_000 + b"\r", b"ZZZ|^&~\\|\r" * 200_000)):
        name = f"profond-{n}.hl7"
        house.drop(name, head.replace(b"PROFOND-1", b"PROFOND-%d" % (n + 1)) + tail)
        house.wait(
            lambda n=n, name=name: (
                house.of(f"PROFOND-{n + 1}", state="delivered") or name in str(house.refusals())
            ),
            60,
        )


def test_no_refusal_tells_a_name_or_a_value(house: House) -> None:
    """The last of the module: everything refused so far, read again."""
    assert house.refusals()
    for one in house.refusals():
        assert "-TEST" not in json.dumps(one, default=str)
    assert "-TEST" not in house.station.log
