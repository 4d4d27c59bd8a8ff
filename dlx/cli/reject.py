"""``dlx reject``: files that could not be taken."""

from __future__ import annotations

import click

from dlx.cli.output import Output


@click.group(
    invoke_without_command=True,
    epilog="\b\nExemples\n  dlx reject\n  dlx reject show 1M82EY7NWD54BX7HFHW\n"
    '  dlx reject retry 1M82EY7NWD54BX7HFHW --reason "fiche ajoutée"',
)
@click.pass_context
def reject(ctx: click.Context) -> None:
    """Les fichiers refusés, chacun avec son motif ; rien n'y disparaît sans quelqu'un."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@reject.command("list")
@click.pass_obj
def list_(out: Output) -> None:
    """Les fichiers refusés."""
    rows = out.ask("reject.list")
    if out.as_json:
        out.records(rows)
        return
    cells = [[r["claim"], r["first_seen"], r["pickup"], r["code"], r["place"]] for r in rows]
    notes = {n: r["message"] for n, r in enumerate(rows)}
    out.table(["prise", "vu", "collecte", "code", "endroit"], cells, notes)
    if not rows:
        out.say(out.t("aucun fichier refusé", "no rejected file"))


@reject.command()
@click.argument("claim")
@click.pass_obj
def show(out: Output, claim: str) -> None:
    """Le motif d'un refus, et où est le fichier."""
    out.record(out.ask("reject.show", claim=claim))


@reject.command()
@click.argument("claims", nargs=-1, required=True)
@click.option("--reason", required=True, help="Ce qui a été réparé.")
@click.pass_obj
def retry(out: Output, claims: tuple[str, ...], reason: str) -> None:
    """Reprend des fichiers refusés, comme s'ils venaient d'être déposés."""
    answer = out.ask("reject.retry", claims=list(claims), reason=reason)
    out.record(answer) if out.as_json else out.say(f"repris : {' '.join(answer['retried'])}")


@reject.command()
@click.argument("claims", nargs=-1, required=True)
@click.option("--reason", required=True, help="Pourquoi ces fichiers ne servent plus.")
@click.pass_obj
def discard(out: Output, claims: tuple[str, ...], reason: str) -> None:
    """Efface des fichiers refusés ; qui et pourquoi restent au journal."""
    answer = out.ask("reject.discard", claims=list(claims), reason=reason)
    out.record(answer) if out.as_json else out.say(f"effacés : {' '.join(answer['discarded'])}")
