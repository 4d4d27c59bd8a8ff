"""``dlx resend`` (same bytes again) and ``dlx replay`` (routed and rendered again)."""

from __future__ import annotations

import click

from dlx.cli.output import Output


@click.command(
    epilog="\b\nExemples\n"
    '  dlx resend 26031234 --to dr-lefevre --reason "non reçu"\n'
    '  dlx resend R5T2K9 --to dr-lefevre --via sftp-cabinet --reason "panne MSSanté"'
)
@click.argument("report")
@click.option("--to", required=True, help="Un seul destinataire, par sa fiche.")
@click.option("--via", help="Par un autre canal de sa fiche.")
@click.option("--reason", required=True, help="Motif, gardé au journal.")
@click.option("--dry-run", is_flag=True, help="Dit ce qui serait renvoyé.")
@click.pass_obj
def resend(out: Output, report: str, to: str, via: str | None, reason: str, dry_run: bool) -> None:
    """Renvoie les mêmes octets (« duplicata ») d'un compte rendu à un destinataire."""
    answer = out.ask("resend", report=report, to=to, via=via, reason=reason, dry_run=dry_run)
    if out.as_json:
        out.record(answer)
    elif dry_run:
        out.say(f"serait renvoyé : {answer['would_resend']} par {answer['via']}")
    else:
        out.line(answer["delivery"])
        out.say(f"duplicata de {answer['duplicata_of']} mis en file")


@click.command(
    epilog="\b\nExemples\n"
    "  dlx replay --report 26031234\n"
    '  dlx replay --since 2h --apply --reason "fiche corrigée"'
)
@click.option("--report", help="Ce compte rendu (R… ou numéro).")
@click.option("--since", help="Tous ceux reçus depuis : 2h, 2026-03-09, hier.")
@click.option("--until", help="Jusqu'à.")
@click.option("--limit", type=int, help="Au plus tant de comptes rendus.")
@click.option("--apply", is_flag=True, help="Fait les envois prévus (sinon, montre le plan).")
@click.option(
    "--even-if-delivered", is_flag=True, help="Aussi ce qui est déjà remis à l'identique."
)
@click.option("--reason", help="Motif, gardé au journal (nécessaire avec --apply).")
@click.pass_obj
def replay(out: Output, /, **options: object) -> None:
    """Route et rend à nouveau avec la configuration d'aujourd'hui ; un plan, sauf --apply."""
    answer = out.ask("replay", **options)
    if out.as_json:
        out.record(answer)
        return
    for row in answer["plan"]:
        out.line(f"{row['report']}  dossier {row['number']} v{row['version']}")
        for new in row["new"]:
            out.line(f"  + {new['recipient']} par {new['channel']}   {new['why']}")
        for kept in row["left_out"]:
            out.line(f"  = {kept['recipient']} par {kept['channel']}   {kept['reason']}")
        for problem in row["problems"]:
            out.line(f"  ! {problem}")
    if "made" in answer:
        out.say(f"{len(answer['made'])} envoi(s) mis en file")
    else:
        out.say(f"{answer['deliveries']} envoi(s) seraient faits ; rien n'est changé (--apply)")
