"""The promises of ``dlx.testing.format_contract`` on every format that is registered."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlx.contracts import Format
from dlx.testing.format_contract import (
    FOREIGN,
    FormatContract,
    assert_exclusive,
    renditions,
)
from dlx.testing.reports import prescriber_for
from formats import FORMATS

SHARED = Path(__file__).parents[2].parent / "shared" / "corpus"


class TestEveryFormat(FormatContract):
    """Everything is inherited; the parameters say which format."""

    @pytest.fixture(params=sorted(FORMATS))
    def fmt(self, request: pytest.FixtureRequest) -> Format:
        return FORMATS[request.param]


def test_every_format_is_registered_under_its_own_word() -> None:
    assert {word: fmt.name for word, fmt in FORMATS.items()} == {word: word for word in FORMATS}


def test_no_two_formats_take_the_same_rendition() -> None:
    samples = {f"foreign {n}": data for n, data in enumerate(FOREIGN)}
    for word, fmt in FORMATS.items():
        for n, (_, rendition) in enumerate(renditions(fmt, prescriber_for())):
            samples[f"{word} {n}"] = rendition.content
    assert_exclusive(FORMATS, samples)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared corpus is not beside the project")
def test_no_two_formats_take_the_same_file_of_the_corpus() -> None:
    files = [
        p for p in sorted(SHARED.rglob("*")) if p.is_file() and p.suffix in (".hpr", ".hl7", ".txt")
    ]
    assert files
    assert_exclusive(FORMATS, {path.name: path.read_bytes() for path in files})
