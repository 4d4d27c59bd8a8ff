"""``dlx audit verify``: is the journal what it was?"""

from __future__ import annotations

import click

from dlx.cli.output import Output


@click.group(epilog="\b\nExemple\n  dlx audit verify")
def audit() -> None:
    """Le journal chaîné des événements."""


@audit.command()
@click.pass_obj
def verify(out: Output) -> int:
    """Recalcule la chaîne des empreintes ; sort en 1 si une ligne a été changée."""
    answer = out.ask("audit.verify")
    if out.as_json:
        out.record(answer)
    elif answer["broken_at"] is None:
        out.line(f"{answer['last']} événements, chaîne intacte, tête {answer['hash'][:16]}…")
    else:
        out.line(f"chaîne rompue à l'événement {answer['broken_at']}")
    return 0 if answer["broken_at"] is None else 1
