"""``dlx queue …``: look at deliveries; hold, release, cancel, retry them; ``dlx hold CHANNEL``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from dlx.cli.output import Output, ago
from dlx.cli.selection import chosen, selection


@click.group(
    invoke_without_command=True,
    epilog="\b\nExemples\n  dlx queue\n  dlx queue list --state failed --since hier\n"
    "  dlx queue show D7KQ2M\n"
    '  dlx queue list --json | jq -r .id | dlx queue hold - --reason "panne annoncée"',
)
@click.pass_context
def queue(ctx: click.Context) -> None:
    """La file des envois."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@queue.command("list")
@selection
@click.option("--all", "every_state", is_flag=True, help="Aussi ceux qui sont terminés.")
@click.pass_obj
def list_(out: Output, /, every_state: bool = False, **options: Any) -> None:
    """Les envois non terminés ; la dernière erreur sous chacun."""
    rows = out.ask("queue.list", every_state=every_state, **chosen(options))
    if out.as_json:
        out.records(rows)
        return
    cells = [
        [
            r["letter"],
            r["id"],
            ago(r["created_at"]),
            r["number"],
            f"v{r['version']}",
            r["recipient"],
            r["channel"],
            ago(r["due_at"]) if r["due_at"] and r["attempts"] else "",
        ]
        for r in rows
    ]
    notes = {n: note for n, r in enumerate(rows) if (note := r["hold_reason"] or r["last_error"])}
    names = ["", "envoi", "âge", "dossier", "vers.", "destinataire", "canal", "prochain essai"]
    out.table(names, cells, notes)
    if not rows:
        out.say(out.t("aucun envoi en cours", "no delivery under way"))


@queue.command()
@click.argument("id")
@click.option(
    "--part", help="Un rendu : hprim, oru, pdf, text… ; demande --reveal et -o.", metavar="FORMAT"
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Fichier à écrire.")
@click.pass_obj
def show(out: Output, id: str, part: str | None, output: Path | None) -> None:
    """Un envoi : essais, réponses, empreintes, avis."""
    if part:
        _save_part(out, id, part, output)
        return
    facts = out.ask("queue.show", id=id)
    if out.as_json:
        out.record(facts)
        return
    out.line(
        f"{facts['letter']} {facts['id']}  {facts['state']}  dossier {facts['number']}"
        f" v{facts['version']} → {facts['recipient']} par {facts['channel']} {facts['address']}"
    )
    out.line(f"  décidé par {facts['why']}  (configuration {facts['config_hash'][:12]})")
    for r in facts["renditions"]:
        losses = f"  pertes : {' ; '.join(r['losses'])}" if r["losses"] else ""
        out.line(f"  {r['format']:<12} {r['size']:>8} octets  sha256 {r['sha256'][:16]}…{losses}")
    for a in facts["attempts_made"]:
        answer = f"  « {a['words']} »" if a["words"] else ""
        out.line(
            f"  essai {a['number']}  {a['started_at']}  {a['phase']}"
            f"  {a['result'] or 'en cours'}  {a['code']}{answer}"
        )
    for r in facts["receipts"]:
        out.line(f"  preuve {r['kind']}  {r['at']}  {r['words']}")
    for n in facts["notices"]:
        out.line(f"  avis {n['id']}  {n['cause']}  → {n['command']}")


def _save_part(out: Output, id: str, part: str, output: Path | None) -> None:
    if not out.reveal or output is None:
        raise click.UsageError("--part demande --reveal et -o FICHIER : la lecture est tracée")
    answer = out.ask("queue.part", id=id, part=part)
    output.write_bytes(bytes.fromhex(answer["content"]))
    out.say(f"écrit : {output}")


def _ids(words: tuple[str, ...]) -> dict[str, Any]:
    """Ids given, from stdin with ``-``, or every one with ``ALL`` in capitals."""
    if words == ("ALL",):
        return {"all": True}
    if words == ("-",):
        words = tuple(line.strip() for line in sys.stdin if line.strip())
    return {"ids": list(words)}


def _change(out: Output, verb: str, words: tuple[str, ...], options: dict[str, Any]) -> None:
    answer = out.ask(verb, **_ids(words), **chosen(options))
    if out.as_json:
        out.record(answer)
        return
    would = "would_change" in answer
    ids = answer["would_change"] if would else answer["changed"]
    for id in ids:
        out.line(id)
    out.say(f"{len(ids)} envoi(s) {'concernés (rien n’est changé)' if would else 'changés'}")


_dry = click.option("--dry-run", is_flag=True, help="Dit ce qui changerait, sans rien changer.")
_why = click.option("--reason", help="Motif, gardé au journal.")


CHANGES = {
    "hold": "Retient des envois jusqu'à « release » (--reason nécessaire).",
    "release": "Laisse repartir des envois retenus.",
    "cancel": "Renonce à des envois (--reason nécessaire).",
    "retry": "Réessaie maintenant les mêmes envois.",
    "confirm": "Quelqu'un sait que ces envois retenus sont arrivés (--reason nécessaire).",
}


def _changing(name: str, help: str) -> None:
    """Add ``dlx queue NAME``: five commands of one shape, on ids or on a selection with ALL."""

    @queue.command(name, help=help)
    @click.argument("ids", nargs=-1, required=True)
    @_why
    @_dry
    @selection
    @click.pass_obj
    def command(out: Output, /, ids: tuple[str, ...], **options: Any) -> None:
        _change(out, f"queue.{name}", ids, options)


for _name, _help in CHANGES.items():
    _changing(_name, _help)


@click.command("hold", epilog='\b\nExemple\n  dlx hold clinique-a --reason "clé changée"')
@click.argument("channel")
@_why
@click.pass_obj
def hold_channel(out: Output, channel: str, reason: str | None) -> None:
    """Arrête un canal sans arrêter la station ; survit à un redémarrage."""
    answer = out.ask("channel.hold", channel=channel, reason=reason)
    out.record(answer) if out.as_json else out.say(f"canal retenu : {channel}")


@click.command("release", epilog="\b\nExemple\n  dlx release clinique-a")
@click.argument("channel")
@_why
@click.pass_obj
def release_channel(out: Output, channel: str, reason: str | None) -> None:
    """Remet en route un canal retenu."""
    answer = out.ask("channel.release", channel=channel, reason=reason)
    out.record(answer) if out.as_json else out.say(f"canal remis en route : {channel}")
