"""Settings that belong to connectors and formats: keys and types come from their declarations."""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic_core import PydanticCustomError

from dlx.contracts import SecretFile
from dlx.errors import ConfigProblem
from dlx.settings.explaining import Location, context_of, unknown_key
from dlx.settings.reading import Document
from dlx.settings.scalars import boolean, duration, filled, one_of, wrong

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where relative paths and secrets are found."""

    prefix: Path
    keys: Path
    credentials: Path | None

    def path(self, text: str) -> Path:
        """A path of the configuration; relative ones are below the prefix."""
        return self.prefix / text

    def secret(self, text: str) -> SecretFile:
        """``key:NAME``, ``cred:NAME`` or ``file:PATH``; anything else is refused unseen."""
        kind, colon, name = text.partition(":")
        if kind == "env":
            cure = "écrivez cred:NOM (LoadCredential= de systemd) ou key:NOM"
            raise wrong("C062", "un secret n'est jamais lu dans l'environnement", cure)
        if not colon or kind not in ("key", "cred", "file") or not name:
            cure = "mettez-le dans etc/dlx/keys/NOM (droits 0600) et écrivez key:NOM"
            raise wrong("C061", "secret écrit dans la configuration", cure)
        if kind == "file":
            return SecretFile(text, self.path(name))
        if not _NAME.fullmatch(name):
            raise wrong("C063", f"« {text} » : le nom d'un secret n'est pas un chemin")
        if kind == "key":
            plain = self.keys / name
            return SecretFile(text, plain if plain.exists() else _with_pem(plain))
        if self.credentials is None:
            cure = "lancez la station par systemd, avec LoadCredential="
            raise wrong("C064", f"« {text} » : aucun dossier de secrets fourni", cure)
        return SecretFile(text, self.credentials / name)


def _with_pem(plain: Path) -> Path:
    pem = plain.with_name(plain.name + ".pem")
    return pem if pem.exists() else plain


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,12}", text):
        raise wrong("C046", f"« {text} » : attendu un nombre entier")
    return int(text)


def _unwrapped(annotation: Any) -> Any:
    """``X | None`` → ``X``."""
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None))
    return annotation


def _converter(
    annotation: Any, field: dataclasses.Field[Any], places: Places
) -> Callable[..., Any]:
    if choices := field.metadata.get("choices"):
        return one_of(*choices)
    known: dict[Any, Callable[[str], Any]] = {
        str: str,
        int: _whole,
        bool: boolean,
        float: duration,
        Path: places.path,
        SecretFile: places.secret,
    }
    return known[annotation]


def converted(field: dataclasses.Field[Any], annotation: Any, tree: object, places: Places) -> Any:
    """One value as the field wants it. Raises PydanticCustomError."""
    kind = _unwrapped(annotation)
    listed = get_origin(kind) is tuple
    convert = _converter(get_args(kind)[0] if listed else kind, field, places)
    parts: list[object] = tree if listed and isinstance(tree, list) else [tree]
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) != len(parts):
        raise wrong("C014", f"attendu {'une liste de valeurs simples' if listed else 'une valeur'}")
    values = [convert(filled(part)) for part in texts]
    return tuple(values) if listed else values[0]


@dataclass(kw_only=True)
class Declared:
    """The settings that one connector declares, and how to read them from a document."""

    of: type[Any]
    document: Document
    places: Places
    problems: list[ConfigProblem]

    def built(
        self, tree: Mapping[str, object], path: Location, common: Iterable[str]
    ) -> Any | None:
        """An instance of ``of`` from a block; None when anything is wrong.

        Keys in ``common`` belong to every block of this kind, and to the connector as well where
        it declares them.
        """
        before = len(self.problems)
        values = self._values(tree, path, frozenset(common))
        for field in dataclasses.fields(self.of):
            if field.name not in tree and _required(field):
                self._refuse_missing(field, path)
        if len(self.problems) > before:
            return None
        try:
            return self.of(**values)
        except ValueError as error:
            self._add(path, "C015", str(error))
            return None

    def _values(
        self, tree: Mapping[str, object], path: Location, common: frozenset[str]
    ) -> dict[str, Any]:
        fields = {field.name: field for field in dataclasses.fields(self.of)}
        hints = get_type_hints(self.of)
        values: dict[str, Any] = {}
        for key, part in tree.items():
            if key in fields:
                try:
                    values[key] = converted(fields[key], hints[key], part, self.places)
                except PydanticCustomError as error:
                    cure = str((error.context or {}).get("cure", ""))
                    self._add((*path, key), error.type, error.message(), cure)
            elif key not in common:
                known = sorted({*fields, *common})
                at = (*path, key)
                where = context_of(self.document, path)
                self.problems.append(unknown_key(self.document, at, known, where))
        return values

    def _refuse_missing(self, field: dataclasses.Field[Any], path: Location) -> None:
        example = field.metadata.get("example", "…")
        cure = f"ajoutez « {field.name}: {example} » ({field.metadata.get('help', '')})"
        message = f"il manque la clé « {field.name} »"
        span = self.document.span(path, key=isinstance(path[-1], str))
        context = context_of(self.document, path)
        self.problems.append(
            self.document.problem(span, "C013", message, cure=cure, context=context)
        )

    def _add(self, path: Location, code: str, message: str, cure: str = "") -> None:
        context = context_of(self.document, path)
        span = self.document.span(path)
        self.problems.append(self.document.problem(span, code, message, cure=cure, context=context))


def _required(field: dataclasses.Field[Any]) -> bool:
    missing = dataclasses.MISSING
    return field.default is missing and field.default_factory is missing
