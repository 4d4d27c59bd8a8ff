"""docs/configuration.md and docs/routing.md say what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import BaseModel

from dlx import registry
from dlx.profiles import FACTS
from dlx.settings import load, schema
from dlx.settings.reference import _PARTS, reference

DOCS = Path(__file__).parents[2] / "docs"
START, END = "<!-- generated: settings -->\n", "<!-- end of generated -->"


def test_every_setting_is_documented_as_the_models_say() -> None:
    text = (DOCS / "configuration.md").read_text()
    assert text.split(START)[1].split(END)[0].strip() == reference().strip()


def test_reference_forgets_no_model() -> None:
    models = {
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, BaseModel)
    }
    assert models - {BaseModel, schema.Strict, schema.Open} == set(_PARTS)


def test_every_setting_has_a_sentence() -> None:
    for model in _PARTS:
        assert all(field.description for field in model.model_fields.values()), model


def test_every_fact_is_documented() -> None:
    text = (DOCS / "routing.md").read_text()
    assert {fact for fact in FACTS if f"`{fact}`" not in text} == set()


def test_every_error_code_is_documented() -> None:
    folder = Path(__file__).parents[2] / "dlx/settings"
    used = {c for f in folder.glob("*.py") for c in re.findall(r'"(C[01]\d\d)"', f.read_text())}
    text = (DOCS / "configuration.md").read_text()
    assert {code for code in used if f"| {code} |" not in text} == set()


def test_route_to_two_destinations_takes_at_most_thirty_lines(tmp_path: Path) -> None:
    text = (DOCS / "routing.md").read_text()
    blocks = re.findall(r"```yaml\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert sum(block.count("\n") for _, block in blocks) <= 30
    station = "laboratory: {name: L}\npickup: [{name: sil, directory: in}]\n"
    for name, block in [("dlx.yaml", station), *blocks]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(block)
    settings = load(
        tmp_path,
        connectors=registry.connectors(),
        formats=registry.formats(),
        prefix=tmp_path,
    )
    (profile,) = settings.book.profiles.values()
    assert len(profile.deliver) == 2
