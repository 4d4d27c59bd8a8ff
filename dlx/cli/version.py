"""``dlx version``."""

from __future__ import annotations

import platform

import click

from dlx import __version__
from dlx.cli.output import Output


@click.command(epilog="\b\nExemple\n  dlx version --json")
@click.pass_obj
def version(out: Output) -> None:
    """Version de DLX et de Python."""
    facts = {"dlx": __version__, "python": platform.python_version()}
    if out.as_json:
        out.record(facts)
    else:
        out.line(f"dlx {facts['dlx']} (Python {facts['python']})")
