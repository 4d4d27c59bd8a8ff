"""``dlx check`` and ``dlx reload``."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dlx.cli.output import Output
from dlx.errors import ConfigError, ConfigProblem, DeliveryError, NotFound

if TYPE_CHECKING:
    from dlx.contracts import Connector


@click.command(
    epilog="\b\nExemples\n  dlx check\n  dlx check --connect\n  dlx check --strict --json"
)
@click.option(
    "--connect", is_flag=True, help="Appelle aussi chaque correspondant, sans rien envoyer."
)
@click.argument("channels", nargs=-1)
@click.option("--strict", is_flag=True, help="Sort en 1 s'il y a des avertissements.")
@click.pass_obj
def check(out: Output, channels: tuple[str, ...], connect: bool, strict: bool) -> int:
    """Vérifie toute la configuration : chaque faute, avec son fichier, sa ligne et son remède.

    Avec des noms de canaux, --connect n'appelle que ceux-là.
    """
    from dlx import daemon
    from dlx.settings import check_routes

    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    place = daemon.Place(
        prefix=out.root,
        folder=out.folder,
        credentials=Path(credentials) if credentials else None,
    )
    problems: list[ConfigProblem] = []
    unusable: list[dict[str, str]] = []
    profiles = 0
    try:
        settings = daemon.read_settings(place)
        problems += settings.warnings
        profiles = len(settings.book.profiles)
        connectors = daemon.build_connectors(settings)
        if unknown := set(channels) - set(connectors):
            raise NotFound(f"canal {', '.join(sorted(unknown))}")
        problems += check_routes(settings, connectors)
        chosen = {n: c for n, c in connectors.items() if not channels or n in channels}
        unusable = _channels(chosen, connect)
    except ConfigError as error:
        problems += error.problems
    problems.sort(key=lambda p: (p.file, p.line, p.column))
    wrong = any(p.severity == "error" for p in problems) or any(
        not row["problem"].startswith("attention") for row in unusable
    )
    _print(out, problems, unusable, profiles)
    if wrong:
        return 78
    return 1 if strict and (problems or unusable) else 0


def _channels(connectors: dict[str, Connector], connect: bool) -> list[dict[str, str]]:
    """Open keys, and with ``connect`` dial each peer; what cannot be used."""
    found = [
        {"channel": name, "problem": text}
        for name, connector in connectors.items()
        for text in connector.check()
    ]
    if connect:
        import asyncio

        broken = {row["channel"] for row in found}
        found += asyncio.run(_probe({n: c for n, c in connectors.items() if n not in broken}))
    return found


async def _probe(connectors: dict[str, Connector]) -> list[dict[str, str]]:
    import asyncio

    async def one(name: str, connector: Connector) -> dict[str, str] | None:
        try:
            await connector.probe()
        except DeliveryError as error:
            words = f" — réponse : {error.words}" if error.words else ""
            cure = f" → {error.cure}" if error.cure else ""
            return {"channel": name, "problem": f"{error.message}{words}{cure}"}
        finally:
            await connector.close()
        return None

    results = await asyncio.gather(*(one(n, c) for n, c in connectors.items()))
    return [r for r in results if r is not None]


def _print(
    out: Output, problems: list[ConfigProblem], unusable: list[dict[str, str]], profiles: int
) -> None:
    from dlx.settings import format_problem

    soft = sum(row["problem"].startswith("attention") for row in unusable)
    errors = sum(p.severity == "error" for p in problems) + len(unusable) - soft
    warnings = len(problems) - sum(p.severity == "error" for p in problems) + soft
    if out.as_json:
        rows: list[dict[str, Any]] = [asdict(p) for p in problems]
        out.record({"errors": errors, "warnings": warnings, "problems": rows, "channels": unusable})
        return
    for problem in problems:
        out.line(format_problem(problem))
    for row in unusable:
        word = "warning" if row["problem"].startswith("attention") else "error"
        out.line(f"canal {row['channel']}: {word}: {row['problem']}")
    out.say(
        out.t(
            f"{profiles} fiches, {errors} erreur(s), {warnings} avertissement(s)",
            f"{profiles} profiles, {errors} error(s), {warnings} warning(s)",
        )
    )


@click.command(epilog="\b\nExemple\n  dlx check && dlx reload")
@click.pass_obj
def reload(out: Output) -> None:
    """Vérifie puis met en service la configuration ; une mauvaise est refusée."""
    answer = out.ask("reload")
    if out.as_json:
        out.record(answer)
    elif answer["changed"]:
        out.say(out.t(f"en service : {answer['config']}", f"in force: {answer['config']}"))
    else:
        out.say(out.t("rien n'a changé", "nothing changed"))
