"""``profiles.d`` → profiles and practices, with every cross reference checked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_type_hints

from pydantic_core import PydanticCustomError

from dlx.delivery import Fallback
from dlx.profiles import Absence, DeliverRule, Group, Partial, Practice, Profile, identifiers_of
from dlx.settings import schema
from dlx.settings.channels import KnownDomains
from dlx.settings.checking import Run
from dlx.settings.explaining import Location, checked, context_of, unknown_key, validated
from dlx.settings.plugins import converted
from dlx.settings.reading import Document
from dlx.settings.scalars import mailbox

_RESERVED = frozenset(group.value for group in Group)
_NOT_YET = ("billing", "demographics", "trust_identity", "paper")
_NUMBERS = {"LIS": ("C052", "code SIL", "lis_codes"), "RPPS": ("C053", "numéro RPPS", "rpps")}
_NUMBERS |= {kind: ("C053", f"numéro {kind}", kind.lower()) for kind in ("FINESS", "ADELI")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One valid deliver item with its document, for the checks that connectors make later."""

    document: Document
    path: Location
    profile: str
    rule: DeliverRule


@dataclass(kw_only=True)
class ProfileReader:
    """Reads every profile of every file. ``declare`` all documents before ``read``ing them."""

    run: Run
    channel_types: Mapping[str, str]
    domains: Mapping[str, KnownDomains]
    defaults: schema.Defaults
    profiles: list[Profile] = field(default_factory=list)
    practices: dict[str, Practice] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    where: dict[str, tuple[Document, Location]] = field(default_factory=dict)
    _shapes: list[tuple[Document, Location, schema.Profile, str]] = field(default_factory=list)
    _numbers: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)

    def declare(self, document: Document) -> None:
        """Check the shapes of one file and note the ids it defines."""
        shape = validated(schema.Profiles, document, self.run.problems)
        if shape is None:
            return
        practice = self._practice(document, shape.practice) if shape.practice else ""
        for index, block in enumerate(shape.profiles):
            path: Location = ("profiles", index)
            if not isinstance(self._item(document, index), dict):
                path = ("profiles",)
            one = checked(schema.Profile, document, block, path, self.run.problems)
            if one is not None and self._new(document, path, one.id):
                self._shapes.append((document, path, one, practice))
                self.where[one.id] = (document, path)

    @staticmethod
    def _item(document: Document, index: int) -> object:
        tree = document.tree
        items = tree.get("profiles") if isinstance(tree, dict) else None
        return items[index] if isinstance(items, list) else None

    def _practice(self, document: Document, shape: schema.Practice) -> str:
        place = document.place(("practice", "id"))
        if shape.id in self.practices:
            first = self.practices[shape.id].place
            message = f"cabinet « {shape.id} » déjà défini ({first})"
            self.run.add(document, ("practice", "id"), "C051", message)
        group = shape.portal.group_account
        if group:
            self._warn_not_yet(document, ("practice", "portal"), "portal")
        self.practices[shape.id] = Practice(
            id=shape.id, name=shape.name, group_account=group, place=place
        )
        return shape.id

    def _new(self, document: Document, path: Location, name: str) -> bool:
        at = (*path, "id")
        if name in _RESERVED:
            self.run.add(document, at, "C047", f"« {name} » est un mot réservé aux règles")
        first = self.run.profile_places.get(name)
        if first is not None:
            self.run.add(document, at, "C051", f"fiche « {name} » déjà définie ({first})")
            return False
        self.run.profile_places[name] = document.place(at)
        return True

    def read(self) -> None:
        """Build every declared profile."""
        for document, path, shape, practice in self._shapes:
            self.profiles.append(self._profile(document, path, shape, practice))

    def _profile(
        self, document: Document, path: Location, shape: schema.Profile, practice: str
    ) -> Profile:
        rules = self.rules(document, path, shape.id, shape.deliver)
        profile = Profile(
            id=shape.id,
            kind=shape.kind,
            family=shape.name.family,
            given=shape.name.given,
            title=shape.name.title,
            organisation=shape.name.organisation,
            rpps=shape.rpps,
            adeli=shape.adeli,
            finess=shape.finess,
            lis_codes=tuple(shape.lis_codes),
            deliver=rules,
            partial=Partial(shape.partial or self.defaults.partial),
            urgent_now=shape.urgent == "now",
            skip_unchanged=shape.duplicates == "skip",
            fallback=self._fallback(document, (*path, "if_undelivered"), shape.if_undelivered),
            absences=self._absences(document, path, shape),
            enabled=shape.enabled,
            paper=shape.paper,
            practice=practice,
            trust_identity=shape.trust_identity is not None,
            place=document.place(path),
        )
        self._note_numbers(document, path, profile)
        self._look(document, path, shape, rules)
        return profile

    def _absences(
        self, document: Document, path: Location, shape: schema.Profile
    ) -> tuple[Absence, ...]:
        found: list[Absence] = []
        for index, absence in enumerate(shape.absence):
            at: Location = (*path, "absence", index)
            if absence.also_to == shape.id:
                self.run.add(document, (*at, "also_to"), "C059", "une fiche ne se remplace pas")
            elif self.run.known_profile(document, (*at, "also_to"), frozenset()):
                found.append(
                    Absence(
                        start=absence.from_,
                        until=absence.until,
                        also_to=absence.also_to,
                        place=document.place(at),
                    )
                )
        return tuple(found)

    def _note_numbers(self, document: Document, path: Location, profile: Profile) -> None:
        """C052, C053: an identifier may lead to one profile only."""
        seen: dict[str, int] = {}
        for kind, value in identifiers_of(profile):
            code, what, key = _NUMBERS[kind]
            position = seen.get(kind, 0)
            seen[kind] = position + 1
            at = (*path, key, position) if kind == "LIS" else (*path, key)
            first = self._numbers.get((kind, value))
            if first is not None:
                message = f"{what} « {value} » déjà donné à {first[0]} ({first[1]})"
                cure = "un numéro ne mène qu'à une fiche : gardez le bon"
                self.run.add(document, at, code, message, cure=cure)
            else:
                self._numbers[(kind, value)] = (profile.id, document.place(at))

    def _look(
        self,
        document: Document,
        path: Location,
        shape: schema.Profile,
        rules: tuple[DeliverRule, ...],
    ) -> None:
        """Warnings: allowed, and worth a look."""
        for key in _NOT_YET:
            if getattr(shape, key):
                self._warn_not_yet(document, (*path, key), key)
        if shape.billing is not None:
            self.run.known_channel(document, (*path, "billing", "via"), shape.billing.via)
        if shape.demographics is not None:
            at = (*path, "demographics", "from")
            self.run.known_channel(document, at, shape.demographics.from_)
        if shape.enabled and not shape.deliver:
            self.run.warn(document, path, "C101", f"{shape.id} ne reçoit rien : deliver est vide")
        if not identifiers_of_shape(shape):
            message = f"{shape.id} n'a ni RPPS, ni FINESS, ni code SIL : rien ne le désigne"
            self.run.warn(document, path, "C102", message)
        types = {self.channel_types.get(rule.via, "") for rule in rules}
        if types == {"mailbox"} and {f for rule in rules for f in rule.formats} == {"hprim"}:
            message = (
                f"{shape.id} ne reçoit que par HPRIM Médecin, sans chiffrement de bout en bout"
            )
            self.run.warn(document, path, "C105", message)

    def _warn_not_yet(self, document: Document, path: Location, key: str) -> None:
        message = f"« {key} » est lu et gardé, mais sans effet dans cette version"
        self.run.warn(document, path, "C106", message)

    def rules(
        self, document: Document, path: Location, profile: str, items: list[schema.Deliver]
    ) -> tuple[DeliverRule, ...]:
        """Every item of ``deliver``; what is wrong is left out."""
        found: list[DeliverRule] = []
        targets: dict[tuple[str, str, object], int] = {}
        for index, item in enumerate(items):
            at: Location = (*path, "deliver", index)
            rule = self._rule(document, at, index, item)
            if rule is None:
                continue
            target = (rule.via, rule.to, rule.when)
            if target in targets:
                message = f"même canal et même adresse que deliver[{targets[target]}]"
                cure = "réunissez leurs formats dans un seul élément : un seul envoi les porte"
                self.run.add(document, at, "C058", message, cure=cure)
            targets.setdefault(target, index)
            self.items.append(Item(document=document, path=at, profile=profile, rule=rule))
            found.append(rule)
        return tuple(found)

    def _rule(
        self, document: Document, path: Location, index: int, item: schema.Deliver
    ) -> DeliverRule | None:
        before = len(self.run.problems)
        formats = item.formats if item.formats is not None else self.defaults.formats
        for position, name in enumerate(item.formats or ()):
            self.run.known_format(document, (*path, "formats", position), name, read=False)
        per_format, options = self._extras(document, path, item, formats)
        self._nested(document, path, item, formats, per_format)
        self._check_address(document, path, item.via, item.to)
        when = self.run.conditions(document, (*path, "when"), item.when)
        if len(self.run.problems) > before:
            return None
        return DeliverRule(
            via=item.via,
            to=item.to,
            formats=tuple(dict.fromkeys(formats)),
            format_options=per_format,
            options=options,
            when=when,
            place=document.place(path),
            index=index,
        )

    def _address_fields(self, via: str) -> dict[str, dataclasses.Field[Any]]:
        address = self._address_of(via)
        return {f.name: f for f in dataclasses.fields(address)} if address else {}

    def _address_of(self, via: str) -> type[Any] | None:
        connector = self.run.connectors.get(self.channel_types.get(via, ""))
        return connector.Address if connector else None

    def _extras(
        self,
        document: Document,
        path: Location,
        item: schema.Deliver | schema.IfUndelivered,
        formats: list[str],
    ) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
        """Keys that are neither ours: of the connector's ``Address``, or options of formats."""
        fields = self._address_fields(item.via)
        known = self.run.formats
        per_format: dict[str, dict[str, str]] = {}
        options: dict[str, str] = {}
        for key, tree in (item.model_extra or {}).items():
            takers = [name for name in formats if name in known and key in known[name].options]
            if key in fields:
                hint = get_type_hints(self._address_of(item.via))[key]
                self._address_option(document, (*path, key), fields[key], hint, tree, options)
            elif takers and isinstance(tree, str):
                for name in takers:
                    per_format.setdefault(name, {})[key] = tree
            elif item.via in self.channel_types:
                ours = [*type(item).model_fields, *fields]
                ours += [o for name in formats if name in known for o in known[name].options]
                where = context_of(document, path)
                self.run.problems.append(
                    unknown_key(document, (*path, key), list(dict.fromkeys(ours)), where)
                )
        self._require(document, path, item, fields)
        return per_format, options

    def _require(
        self,
        document: Document,
        path: Location,
        item: schema.Deliver | schema.IfUndelivered,
        fields: Mapping[str, dataclasses.Field[Any]],
    ) -> None:
        missing = dataclasses.MISSING
        for name, one in fields.items():
            given = item.to if name == "address" else (item.model_extra or {}).get(name)
            if not given and one.default is missing and one.default_factory is missing:
                key = "to" if name == "address" else name
                cure = f"ajoutez « {key}: … » ({one.metadata.get('help', '')})"
                self.run.add(document, path, "C013", f"il manque la clé « {key} »", cure=cure)

    def _address_option(
        self,
        document: Document,
        path: Location,
        one: dataclasses.Field[Any],
        hint: Any,
        tree: object,
        options: dict[str, str],
    ) -> None:
        """Check the type; the connector gets the text itself, lists joined by commas."""
        try:
            converted(one, hint, tree, self.run.places)
        except PydanticCustomError as error:
            cure = str((error.context or {}).get("cure", ""))
            self.run.add(document, path, error.type, error.message(), cure=cure)
            return
        options[one.name] = ",".join(map(str, tree)) if isinstance(tree, list) else str(tree)

    def _nested(
        self,
        document: Document,
        path: Location,
        item: schema.Deliver,
        formats: list[str],
        per_format: dict[str, dict[str, str]],
    ) -> None:
        """``options: {hprim: {charset: …}}``, where several formats have the same option."""
        for name, options in item.options.items():
            at: Location = (*path, "options", name)
            if name not in formats or name not in self.run.formats:
                message = f"« {name} » n'est pas un format de cet envoi"
                self.run.add(document, at, "C010", message, key=True)
                continue
            known = list(self.run.formats[name].options)
            for key, value in options.items():
                if key in known:
                    per_format.setdefault(name, {})[key] = value
                else:
                    where = context_of(document, path)
                    self.run.problems.append(unknown_key(document, (*at, key), known, where))

    def _check_address(self, document: Document, path: Location, via: str, to: str) -> None:
        if not self.run.known_channel(document, (*path, "via"), via):
            return
        if via not in self.channel_types:  # its type is a problem already
            return
        at = (*path, "to")
        if to and self._address_of(via) is None:
            message = f"le canal « {via} » n'a pas d'adresse par fiche"
            self.run.add(document, at, "C016", message, cure="ôtez la clé « to »")
            return
        known = self.domains.get(via)
        if "@" in to or (known and to):
            try:
                mailbox(to)
            except PydanticCustomError as error:
                cure = str((error.context or {}).get("cure", ""))
                self.run.add(document, at, error.type, error.message(), cure=cure)
                return
        if known and to and to.rpartition("@")[2].lower() not in known.domains:
            dated = f", liste du {known.dated:%d/%m/%Y}" if known.dated else ""
            message = (
                f"« {to} » n'est pas dans un domaine connu de la liste {known.name}"
                f" ({len(known.domains)} domaines{dated})"
            )
            cure = "demandez l'adresse sûre, ou ajoutez le domaine à la liste"
            self.run.add(document, at, "C031", message, cure=cure)

    def _fallback(
        self, document: Document, path: Location, shape: schema.IfUndelivered | None
    ) -> Fallback | None:
        if shape is None:
            return None
        before = len(self.run.problems)
        for position, name in enumerate(shape.formats or ()):
            self.run.known_format(document, (*path, "formats", position), name, read=False)
        _, options = self._extras(document, path, shape, [])
        self._check_address(document, path, shape.via, shape.to)
        if len(self.run.problems) > before:
            return None
        return Fallback(
            after_seconds=shape.after,
            channel=shape.via,
            address=shape.to,
            formats=tuple(shape.formats or ()),
            options=options,
            why=f"{document.place(path)} if_undelivered",
        )


def identifiers_of_shape(shape: schema.Profile) -> bool:
    """True when a report can name this profile."""
    return bool(shape.rpps or shape.finess or shape.adeli or shape.lis_codes)
