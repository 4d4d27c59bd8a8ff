"""The ``dlx`` command: global options, exit codes, and one module per word, imported when used."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any, ClassVar

import click

from dlx import __version__
from dlx.cli.output import Output
from dlx.control import ConfigRefused, StationBusy, StationDown
from dlx.errors import ConfigError, NotFound, Refused, StoreError

EXIT_ATTENTION, EXIT_USAGE, EXIT_ABSENT, EXIT_DOWN, EXIT_PARTLY = 1, 2, 4, 5, 6
EXIT_REFUSED, EXIT_DATA, EXIT_TEMPORARY, EXIT_CONFIG = 7, 65, 75, 78

COMMANDS: dict[str, str] = {
    "audit": "dlx.cli.audit:audit",
    "check": "dlx.cli.check:check",
    "demo": "dlx.cli.demo:demo",
    "explain": "dlx.cli.explain:explain",
    "hold": "dlx.cli.queue:hold_channel",
    "migrate": "dlx.cli.migrate:migrate",
    "notices": "dlx.cli.notices:notices",
    "profile": "dlx.cli.profile:profile",
    "queue": "dlx.cli.queue:queue",
    "reject": "dlx.cli.reject:reject",
    "release": "dlx.cli.queue:release_channel",
    "reload": "dlx.cli.check:reload",
    "replay": "dlx.cli.resend:replay",
    "resend": "dlx.cli.resend:resend",
    "run": "dlx.cli.run:run",
    "status": "dlx.cli.status:status",
    "test": "dlx.cli.test:test",
    "version": "dlx.cli.version:version",
    "worker": "dlx.cli.run:worker",
}
HIDDEN = frozenset({"worker"})

EPILOG = """\b
Exemples
  dlx demo                               une station complète sur cette machine
  dlx check                              la configuration est-elle juste ?
  dlx status                             tout va-t-il bien ?
  dlx queue                              ce qui n'est pas encore parti
  dlx notices                            ce qui demande quelqu'un
  dlx explain 26031234                   qui a reçu ce compte rendu, et pourquoi
  dlx resend 26031234 --to dr-lefevre --reason "boîte pleine hier"

Codes de sortie : 0 fait · 1 quelque chose demande attention · 2 mauvais usage · 4 introuvable ·
5 station injoignable · 6 fait en partie · 7 refusé par une règle de sûreté · 65 donnée illisible ·
75 échec passager · 78 configuration invalide
"""


class Lazy(click.Group):
    """Imports a command's module only when it is asked for; suggests for a mistyped one."""

    table: ClassVar[dict[str, str]] = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every word, in alphabetical order, but the station's own."""
        return sorted(set(self.table) - HIDDEN)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Import the module that holds the command."""
        place = self.table.get(name)
        if place is None:
            return None
        module, _, attribute = place.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)  # noqa: S101 - our own table
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Refuse an unknown word with what it may have meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near:
                raise
            hint = f"{error.message} Vouliez-vous dire « {near[0]} » ?"
            raise click.UsageError(hint, ctx) from error


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"dlx {__version__}")
        ctx.exit()


@click.group(
    cls=Lazy,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    envvar="DLX_ROOT",
    default=Path("/"),
    help="Préfixe de tous les chemins (par défaut : /).",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=None,
    help="Dossier de configuration (par défaut : <root>/etc/dlx).",
)
@click.option("--json", "as_json", is_flag=True, help="Une réponse lisible par un programme.")
@click.option("--plain", is_flag=True, help="Colonnes séparées par des tabulations, sans couleur.")
@click.option("--quiet", "-q", is_flag=True, help="Seulement les erreurs.")
@click.option("--verbose", "-v", is_flag=True, help="Davantage de détails.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto")
@click.option("--lang", type=click.Choice(["fr", "en"]), default="fr", help="Langue des messages.")
@click.option("--yes", "-y", is_flag=True, help="Confirme sans demander.")
@click.option("--reveal", is_flag=True, help="Montre les contenus (tracé dans le journal).")
@click.option("--debug", is_flag=True, help="Montre la trace d'un défaut interne.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="La version.",
)
@click.pass_context
def cli(ctx: click.Context, /, **options: Any) -> None:
    """DLX, la station de diffusion des comptes rendus de biologie médicale."""
    ctx.obj = Output(
        root=options["root"].absolute(),
        config=options["config"],
        as_json=options["as_json"],
        plain=options["plain"],
        quiet=options["quiet"],
        verbose=options["verbose"],
        color=options["color"],
        lang=options["lang"],
        yes=options["yes"],
        reveal=options["reveal"],
    )


def main() -> None:
    """Entry point: run a command and end with its exit code (operator-ux §4)."""
    try:
        sys.exit(_run(sys.argv[1:]))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


GLOBAL_FLAGS = frozenset(
    {"--json", "--plain", "--quiet", "-q", "--verbose", "-v", "--yes", "-y", "--reveal", "--debug"}
)
GLOBAL_VALUES = frozenset({"--root", "--config", "--lang", "--color"})


def hoisted(arguments: list[str]) -> list[str]:
    """Global options may stand anywhere (``dlx status --json``): move them to the front."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word in GLOBAL_FLAGS or (word.partition("=")[0] in GLOBAL_VALUES and "=" in word):
            front.append(word)
        elif word in GLOBAL_VALUES:
            front += [word, next(words, "")]
        else:
            rest.append(word)
    return front + rest


def _run(arguments: list[str]) -> int:
    arguments = hoisted(arguments)
    if arguments and arguments[0] == "help":
        arguments = [*arguments[1:], "--help"]
    if not arguments:
        arguments = ["--help"]
    try:
        result = cli.main(args=arguments, prog_name="dlx", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        code, message = explained(error)
        if code is None or "--debug" in arguments:
            raise
        click.echo(message, err=True)
        return code


def explained(error: Exception) -> tuple[int | None, str]:
    """Exit code and message for what a command may raise; None for a defect of ours."""
    match error:
        case StationDown():
            return EXIT_DOWN, (
                f"station injoignable ({error}).\n"
                "  → démarrez-la : systemctl start dlx   (ou : dlx run)"
            )
        case StationBusy():
            return EXIT_TEMPORARY, f"la station n'a pas pu répondre : {error or 'trop lente'}"
        case NotFound():
            return EXIT_ABSENT, f"introuvable : {error}"
        case Refused():
            return EXIT_REFUSED, f"refusé : {error}"
        case ConfigRefused():
            return EXIT_CONFIG, "\n".join([*error.problems, str(error)])
        case ConfigError():
            from dlx.settings import format_problem

            return EXIT_CONFIG, "\n".join(format_problem(p) for p in error.problems)
        case StoreError():
            return EXIT_ATTENTION, f"erreur : {error}"
        case _:
            return None, ""
