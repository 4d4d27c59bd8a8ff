"""The words of a report: what they refuse, whatever they are built with."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass, replace

import pytest

from dlx.report import Code, Observation, Quantity, Report, ResultStatus, bounds
from dlx.testing.reports import report_for

WORDS = (Code(code="2951-2"), Quantity(number="142"), Observation(label="Sodium"), report_for())


@pytest.mark.parametrize("word", WORDS, ids=lambda word: type(word).__name__)
def test_no_word_of_a_report_can_be_changed(
    word: Code | Quantity | Observation | Report,
) -> None:
    name = fields(word)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(word, name, "autre")
    with pytest.raises(FrozenInstanceError):
        delattr(word, name)
    with pytest.raises((FrozenInstanceError, TypeError, AttributeError)):
        setattr(word, "nouveau", "autre")  # noqa: B010 - a name that the class does not have
    assert not hasattr(word, "__dict__")


def test_an_observation_behaves_like_any_frozen_dataclass() -> None:
    one = Observation(label="Sodium", values=(Quantity(number="142"),))
    other = replace(one, unit="mmol/L")
    assert is_dataclass(one) and isinstance(one, Observation)
    assert (one.unit, other.unit, other.label) == ("", "mmol/L", "Sodium")
    assert one != other and replace(other, unit="") == one
    assert hash(replace(other, unit="")) == hash(one)
    assert type(one) is type(other)
    assert repr(one).startswith("Observation(codes=(), label='Sodium', values=(Quantity(")
    with pytest.raises(TypeError):
        Observation(libelle="Sodium")  # type: ignore[call-arg]


def test_a_status_is_found_in_a_table_by_its_letter() -> None:
    table = {status: status.value for status in ResultStatus}
    assert all(table[ResultStatus(letter)] == letter for letter in table.values())


def test_an_interval_is_split_and_anything_else_is_left_alone() -> None:
    assert bounds("3.60-5.20") == ("3.60", "5.20")
    assert (bounds("3.60-"), bounds("-5.20")) == (("3.60", ""), ("", "5.20"))
    assert bounds("<5") is None
