"""``dlx demo``: a whole station on loopback."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from dlx.cli.output import Output


@click.command(
    epilog="\b\nExemples\n  dlx demo\n  dlx demo --json --root essai-dlx",
)
@click.pass_obj
def demo(out: Output) -> int:
    """Une station complète sur la boucle locale, avec des comptes rendus inventés.

    Avec --root DIR (vide ou absent), tout reste dans DIR pour être regardé ensuite ; sinon un
    dossier temporaire est choisi, et gardé.
    """
    try:
        from dlx.demo import play
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"la démonstration demande {error.name} : pip install 'dlx-labo[testing]'"
        ) from error
    chosen = out.root != Path("/")
    root = out.root if chosen else Path(tempfile.mkdtemp(prefix="dlx-demo-"))
    if root.exists() and any(root.iterdir()):
        raise click.UsageError(f"{root} n'est pas vide")
    root.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    outcome = play(root, lambda text: out.say(f"[{time.monotonic() - started:5.1f} s] {text}"))
    if out.as_json:
        out.record(outcome.json())
    else:
        _print(out, outcome)
        out.line(f"\nTout est dans {root} ({time.monotonic() - started:.0f} s)")
    sys.stdout.flush()
    return 0 if outcome.complete else 1


def _print(out: Output, outcome: Any) -> None:
    rows = [
        [
            d["letter"],
            d["number"],
            f"v{d['version']}",
            d["status"],
            d["recipient"],
            d["channel"],
            d["state"],
        ]
        for d in outcome.deliveries
    ]
    out.line("\nEnvois")
    out.table(["", "dossier", "vers.", "statut", "destinataire", "canal", "état"], rows)
    out.line("\nAvis ouverts")
    for n in outcome.notices:
        out.line(f"  {n['id']}  {n['cause']}")
        if n["words"]:
            out.line(f"              réponse : {n['words']}")
        if n["command"]:
            out.line(f"              → {n['command']}")
    out.line("\nCe que chacun a reçu, tel que son logiciel le voit")
    for recipient, folder in outcome.received.items():
        count = len(list(Path(folder).iterdir()))
        out.line(f"  {recipient:<20} {count:>3} fichiers  {folder}")
    out.line("\nAttendu")
    for e in outcome.expectations:
        out.line(f"  {'vu    ' if e.observed else 'ABSENT'}  {e.name}  {e.detail}")
