"""``dlx status``: one screen; ends with what to type next."""

from __future__ import annotations

from typing import Any

import click

from dlx.cli.output import Output, ago, span


@click.command(epilog="\b\nExemples\n  dlx status\n  dlx status --json | jq .totals")
@click.pass_obj
def status(out: Output) -> int:
    """Tout va-t-il bien ? Sort en 1 si quelque chose demande quelqu'un."""
    facts = out.ask("status")
    if out.as_json:
        out.record(facts)
    else:
        _print(out, facts)
    return 1 if facts["attention"] else 0


def _print(out: Output, facts: dict[str, Any]) -> None:
    out.line(
        f"{facts['laboratory']} — dlx {facts['version']},"
        f" en marche depuis {ago(facts['started_at'])}, configuration {facts['config']}"
    )
    intake = facts["intake"]
    paused = f" — ARRÊTÉE : {intake['paused']}" if intake["paused"] else ""
    out.line(f"collecte : {intake['received']} reçus, {intake['rejected']} rejetés{paused}")
    out.line()
    rows = []
    for c in facts["channels"]:
        states = c["states"]
        doing = states.get("claimed", 0) + states.get("sending", 0)
        done = states.get("accepted", 0) + states.get("delivered", 0)
        oldest = c["oldest_waiting_seconds"]
        rows.append(
            [
                c["name"],
                c["word"],
                states.get("waiting", 0),
                doing,
                states.get("held", 0),
                states.get("in_doubt", 0),
                states.get("failed", 0),
                done,
                span(oldest) if oldest is not None else "",
                c["last_error"],
            ]
        )
    names = "canal|état|attente|en cours|retenus|douteux|échecs|partis|plus ancien|dernière erreur"
    out.table(names.split("|"), rows)
    notices = facts["notices"]
    out.line()
    if notices:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(notices.items()))
        out.line(out.paint(f"avis ouverts : {kinds}", "red"))
        out.line("  → dlx notices")
    else:
        out.line("aucun avis ouvert")
    for channel in facts["channels"]:
        if channel["word"] == "en panne":
            out.line(f"  → dlx check --connect        (canal {channel['name']})")
        if channel["held"]:
            out.line(f"  → dlx release {channel['name']}        (retenu : {channel['held']})")
