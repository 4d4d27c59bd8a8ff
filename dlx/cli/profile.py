"""``dlx profile``: the prescribers as the configuration files say."""

from __future__ import annotations

from typing import Any

import click

from dlx.cli.output import Output
from dlx.errors import NotFound
from dlx.profiles import Profile


@click.group(
    epilog="\b\nExemples\n  dlx profile list\n  dlx profile show dr-lefevre\n"
    "  dlx profile new --lis-code LEFA --via mssante > etc/dlx/profiles.d/dr-nouveau.yaml"
)
def profile() -> None:
    """Les fiches des prescripteurs et établissements."""


@profile.command("list")
@click.pass_obj
def list_(out: Output) -> None:
    """Toutes les fiches : identifiants, canaux."""
    from dlx import daemon

    settings = daemon.read_settings(daemon.Place(prefix=out.root, folder=out.folder))
    rows: list[dict[str, Any]] = [
        {
            "id": p.id,
            "name": p.name,
            "kind": p.kind,
            "enabled": p.enabled,
            "rpps": p.rpps,
            "finess": p.finess,
            "lis_codes": list(p.lis_codes),
            "via": [rule.via for rule in p.deliver],
            "place": p.place,
        }
        for p in settings.book.profiles.values()
    ]
    if out.as_json:
        out.records(rows)
        return
    cells = [
        [
            r["id"],
            r["name"] if r["enabled"] else f"{r['name']} (désactivée)",
            r["rpps"] or r["finess"],
            " ".join(r["lis_codes"]),
            " ".join(r["via"]),
            r["place"],
        ]
        for r in rows
    ]
    out.table(["fiche", "nom", "RPPS/FINESS", "codes SIL", "canaux", "endroit"], cells)


@profile.command()
@click.argument("ids", nargs=-1, required=True)
@click.pass_obj
def show(out: Output, ids: tuple[str, ...]) -> None:
    """Des fiches : comment ces destinataires reçoivent, et d'après quelle ligne."""
    from dlx import daemon

    settings = daemon.read_settings(daemon.Place(prefix=out.root, folder=out.folder))
    for id in ids:
        found = settings.book.profiles.get(id)
        if found is None:
            raise NotFound(f"fiche {id} ; voir : dlx profile list")
        _print(out, found)


def _print(out: Output, found: Profile) -> None:
    out.line(f"{found.id}  {found.name}  {found.place}")
    out.line(f"  identifiants : {found.rpps} {found.finess} {' '.join(found.lis_codes)}".rstrip())
    out.line(f"  résultats partiels : {found.partial.value}")
    for rule in found.deliver:
        out.line(f"  → {rule.via} {rule.to}  {', '.join(rule.formats)}   {rule.place}")
    if found.fallback:
        hours = found.fallback.after_seconds / 3600
        out.line(f"  sinon, après {hours:g} h : {found.fallback.channel}   {found.fallback.why}")


@profile.command()
@click.option("--id", "id_", default="dr-nouveau", help="Nom court de la fiche.")
@click.option("--rpps", default="", help="Numéro RPPS.")
@click.option("--finess", default="", help="Numéro FINESS.")
@click.option("--adeli", default="", help="Numéro ADELI.")
@click.option("--lis-code", multiple=True, help="Code donné par le SIL (répétable).")
@click.option("--via", default="CANAL", help="Canal de diffusion.")
@click.option("--to", default="", help="Adresse, si le canal en demande une.")
@click.pass_obj
def new(
    out: Output,
    id_: str,
    rpps: str,
    finess: str,
    adeli: str,
    lis_code: tuple[str, ...],
    via: str,
    to: str,
) -> None:
    """Écrit le modèle d'une fiche, à compléter puis à ranger dans profiles.d/."""
    address = f", to: {to}" if to else ""
    lines = [
        "profiles:",
        f"  - id: {id_}",
        "    name: {family: NOM, given: Prénom, title: Dr}",
        *([f"    rpps: {rpps}"] if rpps else []),
        *([f"    finess: {finess}"] if finess else []),
        *([f"    adeli: {adeli}"] if adeli else []),
        *([f"    lis_codes: [{', '.join(lis_code)}]"] if lis_code else []),
        "    deliver:",
        f"      - {{via: {via}{address}, formats: pdf}}",
    ]
    for line in lines:
        out.line(line)
    out.say("complétez, puis : dlx check && dlx reload && dlx replay --since 1d")
