"""What the checks of one run share: documents, what exists, and the problems found so far."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from pydantic_core import PydanticCustomError

from dlx.contracts import Connector, Format
from dlx.errors import ConfigProblem
from dlx.profiles import AGE_FACT, FACTS, FLAG_FACTS, GROUP_FACTS, Condition, Group
from dlx.report import ReportStatus
from dlx.settings.explaining import Location, context_of, unknown_word, value_at
from dlx.settings.plugins import Places
from dlx.settings.reading import Document, Span
from dlx.settings.scalars import boolean

_STATUSES = frozenset(status.value for status in ReportStatus)
_GROUPS = frozenset(group.value for group in Group)
_AGE = re.compile(r"(<=|>=|<|>)?\s*(\d{1,3})")
_SECRET_KEY = re.compile(
    r"""(?:^|[\s{,"'])["']?[a-z_]*(?:password|passphrase|secret|token|api_?key|private_key|"""
    r"""mot_?de_?passe)["']?\s*:\s+(?!["']?(?:key|cred|file|env):)(?=[^\s#])""",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(r"-----BEGIN [A-Z ]*KEY|[a-z+]+://[^/\s:@]+:(?=[^/\s@]+@)")


@dataclass(kw_only=True)
class Run:
    """One ``load``: what is known, and what is wrong."""

    connectors: Mapping[str, type[Connector]]
    formats: Mapping[str, Format]
    places: Places
    problems: list[ConfigProblem] = field(default_factory=list)
    channel_places: dict[str, str] = field(default_factory=dict)
    profile_places: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        document: Document,
        path: Location,
        code: str,
        message: str,
        *,
        cure: str = "",
        severity: str = "error",
        key: bool = False,
    ) -> None:
        """Remember a problem at ``path``."""
        span = document.span(path, key=key)
        context = context_of(document, path)
        problem = document.problem(
            span, code, message, cure=cure, context=context, severity=severity
        )
        self.problems.append(problem)

    def warn(self, document: Document, path: Location, code: str, message: str) -> None:
        """Remember a warning at ``path``."""
        self.add(document, path, code, message, severity="warning")

    def known_channel(self, document: Document, path: Location, name: str) -> bool:
        """C011 when no channel bears this name."""
        if name in self.channel_places:
            return True
        places = self.channel_places
        self.problems.append(unknown_word(document, path, "C011", "canal", places))
        return False

    def known_profile(self, document: Document, path: Location, more: frozenset[str]) -> bool:
        """C054 when the value is neither a profile nor one of the words ``more``."""
        if str(value_at(document, path)) in self.profile_places.keys() | more:
            return True
        known = {**dict.fromkeys(more, ""), **self.profile_places}
        self.problems.append(unknown_word(document, path, "C054", "destinataire", known))
        return False

    def known_format(self, document: Document, path: Location, name: str, *, read: bool) -> bool:
        """C010 when no format bears this name, or when it does not go in this direction."""
        usable = {
            word: ""
            for word, format_ in self.formats.items()
            if (format_.parse if read else format_.render) is not None
        }
        if name in usable:
            return True
        if name in self.formats:
            verb = "lire" if read else "écrire"
            message = f"DLX ne sait pas {verb} le format « {name} »"
            self.add(document, path, "C010", message, cure=f"possibles : {', '.join(usable)}")
        else:
            self.problems.append(unknown_word(document, path, "C010", "format", usable))
        return False

    # conditions

    def conditions(
        self,
        document: Document,
        path: Location,
        when: Mapping[str, list[str]],
        written: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[Condition, ...]:
        """``when`` of a policy or of an item of ``deliver``; what is wrong is left out.

        ``written`` gives the key as it stands in the file, where it is not the fact itself.
        """
        found: list[Condition] = []
        for fact, values in when.items():
            at = (*path, written.get(fact, fact))
            if fact not in FACTS:
                known = ", ".join(sorted(FACTS))
                message = f"fait « {fact} » inconnu"
                self.add(document, at, "C060", message, cure=f"possibles : {known}", key=True)
            elif fact == AGE_FACT:
                found += self._ages(document, at, values)
            else:
                words = [
                    self._value(document, (*at, index), fact, value)
                    for index, value in enumerate(values)
                ]
                if None not in words:
                    found.append(Condition(fact=fact, values=tuple(w for w in words if w)))
        return tuple(found)

    def _ages(self, document: Document, at: Location, values: list[str]) -> list[Condition]:
        """Several ages must all hold: ``[">=12", "<18"]``."""
        found: list[Condition] = []
        for index, value in enumerate(values):
            match = _AGE.fullmatch(value)
            if match is None:
                message = f"âge « {value} » : attendu par exemple <18 ou >=65"
                self.add(document, (*at, index), "C060", message, cure='écrivez "<18"')
            else:
                condition = Condition(fact=AGE_FACT, operator=match[1] or "=", values=(match[2],))
                found.append(condition)
        return found

    def _value(self, document: Document, at: Location, fact: str, value: str) -> str | None:
        if fact in FLAG_FACTS:
            try:
                return "yes" if boolean(value) else "no"
            except PydanticCustomError as error:
                self.add(document, at, error.type, error.message(), cure="écrivez yes ou no")
                return None
        if fact in GROUP_FACTS:
            return value if self.known_profile(document, at, frozenset()) else None
        words = {"report.status": _STATUSES, "report.has": _GROUPS}.get(fact)
        if words is not None and value not in words:
            cure = f"possibles : {', '.join(sorted(words))}"
            self.add(document, at, "C015", f"« {value} » : valeur inconnue", cure=cure)
            return None
        return value


def inline_secrets(document: Document) -> list[ConfigProblem]:
    """C061 for each text that looks like a secret (security §4.6); its value is not shown."""
    found: list[ConfigProblem] = []
    for number, line in enumerate(document.lines, 1):
        if line.lstrip().startswith("#"):
            continue
        match = _SECRET_KEY.search(line) or _SECRET_VALUE.search(line)
        if match is not None:
            cure = "mettez-le dans etc/dlx/keys/NOM (droits 0600) et écrivez key:NOM"
            span = Span(number, match.end() + 1)
            message = "secret écrit dans la configuration"
            found.append(document.problem(span, "C061", message, cure=cure))
    return found


def settled(problems: list[ConfigProblem]) -> tuple[ConfigProblem, ...]:
    """Sorted, each place and code once, and no source line that shows a secret."""
    secret: dict[tuple[str, int], int] = {}
    for p in problems:
        if p.code == "C061":
            place = (p.file, p.line)
            secret[place] = min(p.column, secret.get(place, p.column))
    once: dict[tuple[str, int, int, str, str], ConfigProblem] = {}
    for p in problems:
        hidden = secret.get((p.file, p.line))
        if hidden is not None:
            p = replace(p, source=p.source[: hidden - 1] + "•••", width=min(p.width, 3))
        distinct = "" if p.code == "C061" else p.message
        once.setdefault((p.file, p.line, p.column, p.code, distinct), p)
    return tuple(once[key] for key in sorted(once))
