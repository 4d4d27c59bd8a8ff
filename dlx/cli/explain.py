"""``dlx explain``: who got a report, who did not, and which rule decided."""

from __future__ import annotations

import click

from dlx.cli.output import Output


@click.command(
    epilog="\b\nExemples\n  dlx explain 26031234\n  dlx explain R5T2K9 --why-not clinique-a"
)
@click.argument("report")
@click.option("--to", help="Seulement ce destinataire.")
@click.option("--why-not", metavar="CANAL", help="Pourquoi pas par ce canal ?")
@click.pass_obj
def explain(out: Output, report: str, to: str | None, why_not: str | None) -> None:
    """Chaque envoi et chaque non-envoi d'un compte rendu, avec la règle qui a décidé."""
    facts = out.ask("explain", report=report, why_not=why_not)
    deliveries = [d for d in facts["deliveries"] if to in (None, d["recipient"])]
    withheld = [w for w in facts["withheld"] if to in (None, w["recipient"])]
    if out.as_json:
        out.record({**facts, "deliveries": deliveries, "withheld": withheld})
        return
    for version in facts["versions"]:
        replaces = " (remplace la précédente)" if version["supersedes"] else ""
        out.line(
            f"{version['id']} dossier {version['number']} v{version['version']}"
            f" {version['status']}{replaces}  reçu {version['registered_at']}"
        )
        for d in deliveries:
            if d["report"] != version["id"]:
                continue
            held = f"  ({d['hold_reason']})" if d["hold_reason"] else ""
            error = f"\n      {d['last_error']}" if d["last_error"] else ""
            again = f" duplicata {d['duplicata']}" if d["duplicata"] else ""
            out.line(
                f" {d['letter']} {d['id']} → {d['recipient']}  {d['channel']}  {d['state']}"
                f" {d['moved_at']}{again}{held}   {d['why']}{error}"
            )
        for w in withheld:
            if w["version"] == version["version"]:
                out.line(f" ✗ {w['recipient']}  {w['channel']}  écarté   {w['why']}")
    losses = {loss for r in facts["renditions"] for loss in r["losses"]}
    for loss in sorted(losses):
        out.line(f"   perte connue : {loss}")
    for n in facts["notices"]:
        out.line(f" ! {n['id']}  {n['cause']}  {n['words']}\n      → {n['command']}")
    for w in facts.get("why_not", []):
        out.line(f" ✗ {w['recipient']}  {why_not}  {w['why']}")
