"""``dlx notices``: what somebody must see."""

from __future__ import annotations

import click

from dlx.cli.output import Output, ago


@click.group(
    invoke_without_command=True,
    epilog="\b\nExemples\n  dlx notices\n  dlx notices take N4F7KQ\n"
    '  dlx notices close N4F7KQ --reason "envoyé par porteur"',
)
@click.pass_context
def notices(ctx: click.Context) -> None:
    """Les avis de non-remise et autres ennuis ouverts."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@notices.command("list")
@click.option("--all", "everything", is_flag=True, help="Aussi ceux qui sont clos.")
@click.pass_obj
def list_(out: Output, everything: bool = False) -> None:
    """Les avis ouverts : cause, réponse de l'autre bout, commande suggérée."""
    rows = out.ask("notices.list", all=everything)
    if out.as_json:
        out.records(rows)
        return
    for row in rows:
        _print(out, row)
    if not rows:
        out.say(out.t("aucun avis ouvert", "no open notice"))


def _print(out: Output, row: dict[str, str]) -> None:
    owner = f"  pris par {row['owner']}" if row["owner"] else ""
    closed = f"  clos : {row['closing_reason']}" if row["closed_at"] else ""
    repeats = f"  ({row['repeats']} fois)" if int(row["repeats"] or 0) > 1 else ""
    out.line(
        f"{out.paint(row['id'], 'red')}  {row['kind']}  {row['subject']}"
        f"  depuis {ago(row['opened_at'])}{repeats}{owner}{closed}"
    )
    out.line(f"        {row['cause']}")
    if row["words"]:
        out.line(f"        réponse : {row['words']}")
    if row["command"]:
        out.line(f"        → {row['command']}")


@notices.command()
@click.argument("id")
@click.pass_obj
def show(out: Output, id: str) -> None:
    """Un avis."""
    row = out.ask("notices.show", id=id)
    out.record(row) if out.as_json else _print(out, row)


@notices.command()
@click.argument("ids", nargs=-1, required=True)
@click.pass_obj
def take(out: Output, ids: tuple[str, ...]) -> None:
    """Je m'en occupe."""
    answer = out.ask("notices.take", ids=list(ids))
    out.record(answer) if out.as_json else out.say(f"pris : {' '.join(ids)}")


@notices.command()
@click.argument("ids", nargs=-1, required=True)
@click.option("--reason", required=True, help="Comment cela s'est terminé.")
@click.pass_obj
def close(out: Output, ids: tuple[str, ...], reason: str) -> None:
    """C'est réglé."""
    answer = out.ask("notices.close", ids=list(ids), reason=reason)
    out.record(answer) if out.as_json else out.say(f"clos : {' '.join(ids)}")
