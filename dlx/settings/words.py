"""The words around a problem: suggestions, and the printed block (operator-ux §6)."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from dlx.errors import ConfigProblem


def closest(text: str, words: Iterable[str]) -> str:
    """« voulez-vous dire … ? » when something is near, then all that is possible."""
    known = sorted(words)
    near = get_close_matches(text, known, n=1, cutoff=0.6)
    asked = f"voulez-vous dire « {near[0]} » ? " if near else ""
    shown = ", ".join(known[:30]) + (", …" if len(known) > 30 else "")
    return f"{asked}Possibles : {shown}" if known else "rien n'est possible ici"


def nearest(text: str, words: Iterable[str]) -> str:
    """The word that was probably meant, or ""."""
    return next(iter(get_close_matches(text, list(words), n=1, cutoff=0.6)), "")


def format_problem(problem: ConfigProblem) -> str:
    """Return the block of operator-ux §6: place, source line with carets, cure, context, help."""
    p = problem
    number = str(p.line)
    margin = " " * len(number)
    lines = [f"{p.file}:{p.line}:{p.column}: {p.severity}[{p.code}]: {p.message}"]
    if p.source:
        carets = " " * (p.column - 1) + "^" * p.width
        lines += [f"{margin} |", f"{number} | {p.source}"]
        lines += [f"{margin} | {carets} {p.label}".rstrip()]
    for word, text in (("pour réparer", p.cure), ("contexte", p.context)):
        if text:
            lines.append(f"{margin} = {word} : {text}")
    return "\n".join(lines)
