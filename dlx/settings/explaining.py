"""Pydantic's refusals → problems with their place in the file, in the operator's words."""

from __future__ import annotations

import copy
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dlx.errors import ConfigProblem
from dlx.settings.reading import Document
from dlx.settings.words import closest, nearest

M = TypeVar("M", bound=BaseModel)
Location = tuple[str | int, ...]

_SALVAGE_ROUNDS = 4  # a block without its needed key goes as a whole, then perhaps its parent
_NAMES = {"profiles": "fiche", "pickup": "arrivée", "policies": "règle", "tests": "test"}


def validated(model: type[M], document: Document, problems: list[ConfigProblem]) -> M | None:
    """Check the whole document against ``model``; an empty file counts as an empty block."""
    if document.problems:
        return None
    return checked(model, document, document.tree or {}, (), problems)


def checked(
    model: type[M],
    document: Document,
    tree: object,
    base: Location,
    problems: list[ConfigProblem],
) -> M | None:
    """Check a part of a document, which stands at ``base`` in it.

    When something is wrong, what is returned lacks it and serves only to find further mistakes.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as refused:
        errors = refused.errors(include_url=False)
        problems += [_problem(model, document, error, base) for error in errors]
        return _salvaged(model, tree, errors)


def _salvaged(model: type[M], tree: object, errors: list[ErrorDetails]) -> M | None:
    """What is left without the parts at fault, so that the rest is checked in the same run."""
    rest = copy.deepcopy(tree)
    for _ in range(_SALVAGE_ROUNDS):
        for error in errors:
            path = error["loc"][:-1] if error["type"] == "missing" else error["loc"]
            _drop(rest, [step for step in path if step != "[key]"])
        try:
            return model.model_validate(rest)
        except ValidationError as refused:
            errors = refused.errors(include_url=False)
    return None


def _drop(tree: object, path: Sequence[str | int]) -> None:
    """Remove the innermost key on the way; items of lists stay where they are."""
    last: tuple[dict[str, object], str] | None = None
    for step in path:
        if isinstance(tree, dict) and step in tree:
            last = (tree, str(step))
            tree = tree[step]
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
    if last is not None:
        last[0].pop(last[1], None)


def _problem(
    model: type[BaseModel], document: Document, error: ErrorDetails, base: Location
) -> ConfigProblem:
    at = error["loc"]
    path = (*base, *at)
    context = context_of(document, path)
    kind, given = error["type"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(document, path, keys_of(model, at[:-1]), context)
    if kind == "missing":
        message = f"il manque la clé « {at[-1]} »"
        cure = f"ajoutez « {at[-1]}: … »"
        return document.problem(
            document.span(path[:-1]), "C013", message, cure=cure, context=context
        )
    span = document.span(path, key="[key]" in at)
    if kind.startswith("C0"):
        cure = str(given.get("cure", ""))
        return document.problem(span, kind, error["msg"], cure=cure, context=context)
    expected = {"list_type": "une liste"}.get(kind, "un bloc de clés")
    return document.problem(span, "C014", f"attendu {expected}", context=context)


def unknown_key(
    document: Document, path: Location, known: list[str], context: str
) -> ConfigProblem:
    """C012, with the key that was probably meant."""
    key = str(path[-1])
    parent = next((step for step in reversed(path[:-1]) if isinstance(step, str)), "")
    where = f"dans « {parent} »" if parent else "dans ce fichier"
    near = nearest(key, known)
    asked = f"voulez-vous dire « {near} » ? " if near else ""
    return document.problem(
        document.span(path, key=True),
        "C012",
        f"clé « {key} » inconnue {where}",
        cure=f"{asked}Clés possibles : {', '.join(known)}",
        context=context,
        label="clé inconnue",
    )


def unknown_word(
    document: Document, path: Location, code: str, what: str, known: Mapping[str, str]
) -> ConfigProblem:
    """A name that nothing bears; ``known`` gives the place of each name, or ""."""
    text = str(value_at(document, path))
    near = nearest(text, known)
    place = f" ({known[near]})" if near and known[near] else ""
    asked = f" ; voulez-vous dire « {near} »{place} ?" if near else ""
    return document.problem(
        document.span(path),
        code,
        f"{what} « {text} » inconnu{asked}",
        cure=closest(text, known),
        context=context_of(document, path),
    )


def value_at(document: Document, path: Location) -> object:
    """The tree at ``path``, or "" where there is none; a single value stands for its list."""
    tree: object = document.tree
    for step in path:
        if isinstance(tree, dict):
            tree = tree.get(str(step), "")
        elif isinstance(tree, list) and isinstance(step, int) and step < len(tree):
            tree = tree[step]
        elif step != 0:
            return ""
    return tree


def context_of(document: Document, path: Location) -> str:
    """« fiche dr-lefevre (profiles[0].deliver[0]) »."""
    steps = [step for step in path if step != "[key]"]
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    if len(steps) < 2:
        return ""
    what = _NAMES.get(str(steps[0]), "")
    if steps[0] == "channels":
        return f"canal {steps[1]} ({text})"
    if not what:
        return text
    one = value_at(document, tuple(steps[:2]))
    name = (one.get("id") or one.get("name") or "") if isinstance(one, dict) else ""
    return f"{what} {name} ({text})" if isinstance(name, str) and name else text


def keys_of(model: type[BaseModel], at: Location) -> list[str]:
    """The keys that may stand in the block at ``at``."""
    here: type[BaseModel] | None = model
    for step in at:
        if here is None or isinstance(step, int):
            continue
        field = next((f for n, f in here.model_fields.items() if (f.alias or n) == step), None)
        here = next(_models_in(field.annotation), None) if field is not None else None
    return [f.alias or name for name, f in here.model_fields.items()] if here else []


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (list, dict, Annotated, Union, types.UnionType):
        for argument in get_args(annotation):
            yield from _models_in(argument)
