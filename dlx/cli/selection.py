"""The selection options, the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option("--state", "states", multiple=True, help="waiting, held, failed… (répétable)."),
    click.option("--channel", help="Par ce canal."),
    click.option("--to", help="Vers ce destinataire (identifiant de fiche)."),
    click.option("--prescriber", help="Prescrits par cette fiche."),
    click.option("--establishment", help="De cet établissement."),
    click.option("--report", help="De ce compte rendu (R… ou numéro)."),
    click.option("--since", help="Depuis : 2h, 30d, 2026-03-09, hier."),
    click.option("--until", help="Jusqu'à."),
    click.option("--older-than", help="Créés il y a plus de : 2h, 3d."),
    click.option("--error", help="Dont la dernière erreur contient ce texte."),
    click.option("--limit", type=int, help="Au plus tant (200)."),
)


def selection(command: F) -> F:
    """Add the selection options to a command; they arrive as keyword arguments."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def chosen(options: dict[str, Any]) -> dict[str, Any]:
    """Only what was given, ready for the control socket."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in options.items() if v}
