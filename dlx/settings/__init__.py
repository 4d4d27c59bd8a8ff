"""YAML → frozen settings; every mistake of every file at once, with file:line:column and a cure.

``reading`` composes files into trees of text with positions, ``schema`` gives them types,
``explaining`` turns refusals into problems, ``channels``, ``recipients`` and ``exceptions`` check
what refers to what, ``model`` is the result.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from pathlib import Path

from dlx.contracts import Connector, Format
from dlx.errors import ConfigError, ConfigProblem
from dlx.settings.assembling import Assembly
from dlx.settings.checking import settled
from dlx.settings.model import ChannelSettings, Settings
from dlx.settings.words import format_problem

__all__ = ["ChannelSettings", "Settings", "check_routes", "format_problem", "load"]


def load(
    folder: Path,
    *,
    connectors: Mapping[str, type[Connector]],
    formats: Mapping[str, Format],
    prefix: Path,
    credentials: Path | None = None,
) -> Settings:
    """Read the configuration below ``folder`` (``etc/dlx``) and check all of it.

    Args:
        folder: holds ``dlx.yaml``, ``channels.d/``, ``profiles.d/``…
        connectors: what exists, by the word that operators write after ``type:``.
        formats: what exists, by the word that operators write.
        prefix: root prefix; relative paths of the files are below it.
        credentials: ``$CREDENTIALS_DIRECTORY``, where ``cred:NAME`` is found, or None.

    Raises:
        ConfigError: with every mistake of every file, sorted by file and line.
    """
    assembly = Assembly(
        folder=folder,
        prefix=prefix,
        connectors=connectors,
        formats=formats,
        credentials=credentials,
    )
    collecting = gc.isenabled()
    gc.disable()  # half a million nodes and no garbage: the collector would cost 60 % of the time
    try:
        settings = assembly.settings()
    finally:
        if collecting:
            gc.enable()
    problems = settled(assembly.run.problems)
    errors = tuple(problem for problem in problems if problem.severity == "error")
    if errors or settings is None:
        raise ConfigError(errors)
    return settings


def check_routes(
    settings: Settings, connectors_by_channel: Mapping[str, Connector]
) -> tuple[ConfigProblem, ...]:
    """Ask each connector about each route of each profile (``check_address``); sorted problems.

    Channels without a connector in the mapping are passed over.
    """
    problems: list[ConfigProblem] = []
    everybody = [*settings.book.profiles.values()]
    if settings.book.patient is not None:
        everybody.append(settings.book.patient)
    for profile in everybody:
        for rule in profile.deliver:
            connector = connectors_by_channel.get(rule.via)
            if connector is None:
                continue
            for sentence in connector.check_address(rule.to, rule.options):
                context = f"fiche {profile.id} (deliver[{rule.index}])"
                problems.append(_at(settings, rule.place, sentence, context))
    return settled(problems)


def _at(settings: Settings, place: str, message: str, context: str) -> ConfigProblem:
    file, line, column = place.rsplit(":", 2)
    lines = settings.files[file].decode().split("\n")
    return ConfigProblem(
        file=file,
        line=int(line),
        column=int(column),
        code="C036",
        severity="warning" if message.startswith("attention") else "error",
        message=message,
        context=context,
        source=lines[int(line) - 1].rstrip("\r"),
    )
