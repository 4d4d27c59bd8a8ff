"""YAML files → trees of text that remember where each piece stood (operator-ux §5.2).

Only the YAML *composer* runs: no scalar is interpreted, so ``0412``, ``18:30`` and ``NO`` stay what
they are. Duplicate keys, tabs, tags and oversized files are refused here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from dlx.errors import ConfigProblem

MAX_NODES = 100_000  # security §4.2: after alias expansion
MAX_DEPTH = 40
MAX_BYTES = 20_000_000

Tree: TypeAlias = "str | list[Tree] | dict[str, Tree]"
Path: TypeAlias = Sequence[str | int]

_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_TAGS = {
    yaml.ScalarNode: "tag:yaml.org,2002:str",
    yaml.SequenceNode: "tag:yaml.org,2002:seq",
    yaml.MappingNode: "tag:yaml.org,2002:map",
}
_PLAIN_TAGS = frozenset(_TAGS.values())
_Parser: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)


class _Loader(_Parser):  # type: ignore[misc]
    """Resolves nothing: every scalar is text, which also saves a third of the time."""

    def resolve(self, kind: type[yaml.Node], value: object, implicit: object) -> str:
        return _TAGS[kind]

    def descend_resolver(self, current_node: object, current_index: object) -> None:
        pass

    def ascend_resolver(self) -> None:
        pass


_WORDS = {
    "mapping values are not allowed": "deux-points inattendu ; mettez la valeur entre guillemets",
    "could not find expected ':'": "il manque « : » après la clé",
    "did not find expected key": "clé attendue ; vérifiez le retrait et les guillemets",
    "did not find expected '-' indicator": "« - » attendu ; vérifiez le retrait de la liste",
    "did not find expected ',' or": "il manque une virgule, ou le crochet ou l'accolade de fin",
    "found unexpected end of stream": "guillemet ouvert et jamais fermé",
    "undefined alias": "« * » renvoie à une ancre qui n'existe pas",
    "duplicate anchor": "cette ancre est déjà définie",
    "expected a single document": "un seul document par fichier ; ôtez « --- »",
}


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file: 1-based line and column, and how many characters of that line."""

    line: int = 1
    column: int = 1
    width: int = 1


@dataclass(kw_only=True)
class Document:
    """One file: its lines, its tree of text, and the places of its parts.

    Attributes:
        name: as operators know it. lines: without their ends. tree: "" when unreadable.
    """

    name: str
    lines: list[str]
    tree: Tree = ""
    root: yaml.Node | None = None
    problems: list[ConfigProblem] = field(default_factory=list)

    def span(self, path: Path, *, key: bool = False) -> Span:
        """Place of the value at ``path`` (of its key with ``key``), or of the nearest parent."""
        node, last = self.root, None
        for step in path:
            found = _child(node, step)
            if found is None:
                break
            last, node = found
        if key and last is not None:
            return _span(last)
        return _span(node) if node is not None else Span()

    def problem(
        self,
        span: Span,
        code: str,
        message: str,
        *,
        cure: str = "",
        context: str = "",
        label: str = "",
        severity: str = "error",
    ) -> ConfigProblem:
        """A problem of this file, with its source line."""
        source = self.lines[span.line - 1] if span.line <= len(self.lines) else ""
        return ConfigProblem(
            file=self.name,
            line=span.line,
            column=span.column,
            code=code,
            severity=severity,
            message=message,
            cure=cure,
            context=context,
            source=source,
            width=max(1, min(span.width, len(source) - span.column + 1)),
            label=label,
        )

    def place(self, path: Path) -> str:
        """``file:line:column`` of the value at ``path``."""
        span = self.span(path)
        return f"{self.name}:{span.line}:{span.column}"

    def refuse(self, span: Span, code: str, message: str, cure: str = "") -> None:
        """Remember a problem found while reading."""
        self.problems.append(self.problem(span, code, message, cure=cure))


def _span(node: yaml.Node) -> Span:
    start, end = node.start_mark, node.end_mark
    width = end.column - start.column if end.line == start.line else 1
    return Span(start.line + 1, start.column + 1, max(1, width))


def _child(node: yaml.Node | None, step: str | int) -> tuple[yaml.Node | None, yaml.Node] | None:
    """(key node, value node) one step down, or None."""
    if isinstance(node, yaml.MappingNode) and isinstance(step, str):
        for key, value in node.value:
            if key.value == step:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return None, node.value[step]
    return None


def read(name: str, content: bytes) -> Document:
    """Read one file. What is wrong with it is in ``problems``; nothing is raised."""
    if len(content) > MAX_BYTES:
        document = Document(name=name, lines=[])
        document.refuse(Span(), "C005", "fichier de plus de 20 Mo", "répartissez en fichiers")
        return document
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        document = Document(name=name, lines=_BREAK.split(content.decode("utf-8", "replace")))
        lines = _BREAK.split(before)
        span = Span(len(lines), len(lines[-1]) + 1)
        document.refuse(span, "C002", "caractère illisible", "enregistrez le fichier en UTF-8")
        return document
    document = Document(name=name, lines=_BREAK.split(text))
    _refuse_tabs(document)
    if not document.problems:
        _compose(document, text)
    return document


def _refuse_tabs(document: Document) -> None:
    for number, line in enumerate(document.lines, 1):
        column = line.find("\t") + 1
        if column:
            cure = "remplacez la tabulation par des blancs"
            document.refuse(Span(number, column), "C003", "tabulation interdite", cure)


def _compose(document: Document, text: str) -> None:
    try:
        document.root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        span = Span(mark.line + 1, mark.column + 1) if mark else Span()
        said = error.problem or error.context or ""
        known = next((words for key, words in _WORDS.items() if key in said), said)
        document.refuse(span, "C002", f"YAML illisible : {known}")
        return
    except yaml.YAMLError:
        document.refuse(Span(), "C002", "YAML illisible : caractère de contrôle interdit")
        return
    except RecursionError:
        document.refuse(Span(), "C005", f"plus de {MAX_DEPTH} niveaux imbriqués")
        return
    if document.root is not None:
        document.tree = _Plain(document).tree_of(document.root, 1)


class _Plain:
    """Turns nodes into text trees, counting them after alias expansion."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.left = MAX_NODES

    def tree_of(self, node: yaml.Node, depth: int) -> Tree:
        self.left -= 1
        if self.left < 0 or depth > MAX_DEPTH:
            self._too_big(node, depth)
            return ""
        if node.tag not in _PLAIN_TAGS:
            cure = "écrivez la valeur sans étiquette"
            self.document.refuse(_span(node), "C004", f"étiquette YAML « {node.tag} »", cure)
            return ""
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.tree_of(child, depth + 1) for child in node.value if self.left >= 0]
        return str(node.value)

    def _mapping(self, node: yaml.MappingNode, depth: int) -> Tree:
        tree: dict[str, Tree] = {}
        first: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if self.left < 0:
                break
            self.left -= 1
            if not isinstance(key, yaml.ScalarNode):
                self.document.refuse(_span(key), "C004", "clé composée : attendu un mot")
            elif key.value in first:
                line = first[key.value].start_mark.line + 1
                message = f"clé « {key.value} » écrite deux fois (déjà ligne {line})"
                self.document.refuse(_span(key), "C006", message, "gardez une seule des deux")
            else:
                first[key.value] = key
                tree[key.value] = self.tree_of(value, depth + 1)
        return tree

    def _too_big(self, node: yaml.Node, depth: int) -> None:
        if self.left < 0:
            message, cure = f"plus de {MAX_NODES} éléments", "répartissez en plusieurs fichiers"
            self.left = -1
            if any(problem.code == "C005" for problem in self.document.problems):
                return
        else:
            message, cure = f"plus de {MAX_DEPTH} niveaux imbriqués", "aplatissez la structure"
        self.document.refuse(_span(node), "C005", message, cure)
