"""``dlx run``, the station, and ``dlx worker``, its hands."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import click

from dlx.cli.output import Output


@click.command(
    epilog="\b\nExemples\n  dlx run\n  dlx --root /srv/essai run\n\n"
    "Signaux : TERM arrête proprement, HUP relit la configuration."
)
@click.pass_obj
def run(out: Output) -> None:
    """La station elle-même, au premier plan (systemd la lance ainsi)."""
    from dlx import daemon

    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    place = daemon.Place(
        prefix=out.root,
        folder=out.folder,
        credentials=Path(credentials) if credentials else None,
    )
    daemon.run(place, verbose=out.verbose)


@click.command(hidden=True)
@click.option("--fd", type=int, default=None, help="Descripteur d'une ligne déjà ouverte.")
@click.option(
    "--listen", type=click.Path(path_type=Path), default=None, help="Socket à écouter (unité)."
)
@click.option("--memory", type=int, default=None, help="Mémoire au plus, en octets.")
def worker(fd: int | None, listen: Path | None, memory: int | None) -> None:
    """Un moteur de rendu, lancé par la station ou par dlx-render.service."""
    from dlx.registry import formats
    from dlx.worker import MEMORY_BYTES, limit_self, serve, serve_all

    if fd is not None:
        ready = formats()
        limit_self(memory or MEMORY_BYTES)
        with socket.socket(fileno=fd) as line:
            serve(line, ready)
    elif listen is not None:
        serve_all(listen, formats())
    else:
        raise click.UsageError("--fd ou --listen")
