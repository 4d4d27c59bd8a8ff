"""``dlx migrate``: bring the database to this version's schema, after a backup."""

from __future__ import annotations

from pathlib import Path

import click

from dlx.cli.output import Output


@click.command(epilog="\b\nExemple\n  systemctl stop dlx && dlx migrate && systemctl start dlx")
@click.pass_obj
def migrate(out: Output) -> None:
    """Met la base au schéma de cette version, après une copie ; station arrêtée."""
    from dlx import daemon, ledger

    settings = daemon.read_settings(daemon.Place(prefix=out.root, folder=out.folder))
    ledger.migrate(Path(settings.database))
    out.say(out.t("base à jour", "database up to date"))
