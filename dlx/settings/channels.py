"""``channels.d`` and ``lists.d`` → channels."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from dlx.settings import schema
from dlx.settings.checking import Run
from dlx.settings.explaining import Location, checked, unknown_word, validated
from dlx.settings.model import ChannelSettings, Rate, Retry, Window
from dlx.settings.plugins import Declared
from dlx.settings.reading import Document
from dlx.settings.scalars import DOMAIN

# Not a list of domains: the connector addresses only those whose certificate it has checked.
WITH_CERTIFICATE = "recipients-with-certificate"
_PLAIN_MAIL = frozenset({"mail", "email", "e-mail", "smtp", "courriel", "plain-mail", "smtp-mail"})
_COMMON = frozenset(schema.Channel.model_fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDomains:
    """A list of domains that may be addressed. ``dated`` is None when the list does not say."""

    name: str
    domains: frozenset[str]
    dated: date | None = None


def lists_of(run: Run, documents: Mapping[str, Document]) -> dict[str, KnownDomains]:
    """Read ``lists.d``; a list is named after its file."""
    found: dict[str, KnownDomains] = {}
    for name, document in documents.items():
        word = name.removeprefix("lists.d/").removesuffix(".yaml")
        shape = validated(schema.DomainList, document, run.problems)
        if shape is not None:
            domains = domains_of(run, document, ("domains",), shape.domains)
            found[word] = KnownDomains(name=word, domains=domains, dated=shape.dated)
    return found


def domains_of(run: Run, document: Document, path: Location, texts: list[str]) -> frozenset[str]:
    """Lower-case domains; what is not one is a problem."""
    for index, text in enumerate(texts):
        if not DOMAIN.fullmatch(text):
            message = f"« {text} » n'est pas un nom de domaine"
            run.add(document, (*path, index), "C035", message)
    return frozenset(text.lower() for text in texts)


@dataclass(kw_only=True)
class ChannelReader:
    """Reads every channel of every file, once."""

    run: Run
    lists: Mapping[str, KnownDomains]
    retry: Retry
    channels: dict[str, ChannelSettings] = dataclasses.field(default_factory=dict)
    known: dict[str, KnownDomains] = dataclasses.field(default_factory=dict)

    def read(self, document: Document) -> None:
        """Take the channels of one file."""
        shape = validated(schema.Channels, document, self.run.problems)
        for name, block in (shape.channels if shape else {}).items():
            path: Location = ("channels", name)
            place = document.span(path, key=True)
            first = self.run.channel_places.get(name)
            if first is not None:
                message = f"canal « {name} » déjà défini ({first})"
                self.run.add(document, path, "C057", message, key=True)
                continue
            self.run.channel_places[name] = f"{document.name}:{place.line}:{place.column}"
            self._channel(document, path, name, block)

    def _channel(
        self, document: Document, path: Location, name: str, block: dict[str, object]
    ) -> None:
        run = self.run
        shared = {key: value for key, value in block.items() if key in _COMMON}
        common = checked(schema.Channel, document, shared, path, run.problems)
        connector = run.connectors.get(common.type) if common else None
        if common is None:
            return
        if connector is None:
            self._refuse_type(document, (*path, "type"), common.type)
            return
        settings = Declared(
            of=connector.Settings, document=document, places=run.places, problems=run.problems
        ).built(block, path, _COMMON)
        known = self._domains(document, path, common)
        if known is not None:
            self.known[name] = known
        if common.receipt_within is not None and not connector.gives_receipts:
            message = (
                "« receipt_within » : ce type de canal ne rend pas encore de preuve, sans effet"
            )
            run.warn(document, (*path, "receipt_within"), "C107", message)
        if settings is not None:
            self.channels[name] = ChannelSettings(
                name=name,
                type=common.type,
                connector=settings,
                enabled=common.enabled,
                critical=common.critical,
                retry=retry_of(common.retry) if common.retry else self.retry,
                concurrency=common.concurrency,
                receipt_within_seconds=common.receipt_within,
                rate=Rate(count=common.rate[0], seconds=common.rate[1]) if common.rate else None,
                window=Window(start=common.window[0], end=common.window[1])
                if common.window
                else None,
                max_doubt=common.max_doubt,
                recipients_in=common.recipients_in or "",
                domains=known.domains if known else frozenset(),
                place=run.channel_places[name],
            )

    def _refuse_type(self, document: Document, path: Location, word: str) -> None:
        if word.lower() in _PLAIN_MAIL:
            message = (
                "l'envoi de résultats par courriel non chiffré est interdit ;"
                " aucun réglage ne le permet"
            )
            self.run.add(document, path, "C001", message, cure="utilisez type: smime-mail")
            return
        places = dict.fromkeys(self.run.connectors, "")
        self.run.problems.append(unknown_word(document, path, "C018", "type de canal", places))

    def _domains(
        self, document: Document, path: Location, common: schema.Channel
    ) -> KnownDomains | None:
        name = common.recipients_in
        if common.domains:
            domains = domains_of(self.run, document, (*path, "domains"), common.domains)
            return KnownDomains(name=name or "domains", domains=domains)
        if name is None or name == WITH_CERTIFICATE:
            return None
        if name not in self.lists:
            at = (*path, "recipients_in")
            places = {word: f"lists.d/{word}.yaml" for word in self.lists} | {WITH_CERTIFICATE: ""}
            self.run.problems.append(unknown_word(document, at, "C020", "liste", places))
            return None
        return self.lists[name]


def retry_of(shape: schema.Retry) -> Retry:
    """The back-off as the rest of the station reads it."""
    return Retry(
        first_seconds=shape.first,
        factor=shape.factor,
        max_seconds=shape.max,
        give_up_seconds=shape.give_up,
    )
