"""From the folder of files to Settings: reads all of it, checks all of it, builds once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from dlx.contracts import Connector, Format
from dlx.profiles import PATIENT, ChannelRef, Partial, Policy, Profile, book_of
from dlx.settings import schema
from dlx.settings.channels import ChannelReader, lists_of, retry_of
from dlx.settings.checking import Run, inline_secrets, settled
from dlx.settings.exceptions import policies_of, tests_of
from dlx.settings.explaining import validated
from dlx.settings.model import RouteTest, Settings
from dlx.settings.plugins import Places
from dlx.settings.reading import Document, Span, read
from dlx.settings.recipients import ProfileReader
from dlx.settings.station import StationReader
from dlx.settings.words import nearest

STATION = "dlx.yaml"
POLICIES = "policies.yaml"
SCHEDULES = "schedules.yaml"
_FOLDERS = ("channels.d", "lists.d", "profiles.d", "tests")
_SINGLE = (STATION, POLICIES, SCHEDULES)
_KNOWN = (*_SINGLE, *(f"{folder}/*.yaml" for folder in _FOLDERS))


@dataclass(kw_only=True)
class Assembly:
    """One reading of the configuration; ``run.problems`` tells what is wrong with it."""

    folder: Path
    prefix: Path
    connectors: Mapping[str, type[Connector]]
    formats: Mapping[str, Format]
    credentials: Path | None
    run: Run = field(init=False)
    documents: dict[str, Document] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        keys = self.folder / "keys"
        places = Places(prefix=self.prefix, keys=keys, credentials=self.credentials)
        self.run = Run(connectors=self.connectors, formats=self.formats, places=places)

    def settings(self) -> Settings | None:
        """Check everything; None when there is any error."""
        run = self.run
        self._read_files()
        station = self._station()
        defaults = station.defaults if station else schema.Defaults()
        reader = ChannelReader(
            run=run, lists=lists_of(run, self._in("lists.d")), retry=retry_of(defaults.retry)
        )
        for document in self._in("channels.d").values():
            reader.read(document)
        profiles = ProfileReader(
            run=run,
            channel_types={name: channel.type for name, channel in reader.channels.items()},
            domains=reader.known,
            defaults=defaults,
        )
        for document in self._in("profiles.d").values():
            profiles.declare(document)
        profiles.read()
        patient = self._patient(station, profiles)
        policies = self._policies(patient is not None)
        tests = [test for d in self._in("tests").values() for test in tests_of(run, d)]
        self._warn_untested(profiles, tests)
        calendar = self._calendar()
        if station is None or any(problem.severity == "error" for problem in run.problems):
            return None
        book = book_of(
            profiles=profiles.profiles,
            practices=profiles.practices.values(),
            channels=_references(reader),
            policies=policies,
            patient=patient,
            zone=station.laboratory.timezone,
        )
        parts = StationReader(run=run, document=self.documents[STATION], shape=station)
        return Settings(
            folder=self.folder,
            prefix=self.prefix,
            hash=hash_of(self.files),
            files=self.files,
            channels=reader.channels,
            book=book,
            holidays=frozenset(calendar.holidays),
            tests=tuple(tests),
            warnings=settled(run.problems),
            **parts.values(),
        )

    # files

    def _read_files(self) -> None:
        for path in self._paths():
            name = path.relative_to(self.folder).as_posix()
            try:
                content = path.read_bytes()
            except OSError as error:
                document = Document(name=name, lines=[])
                document.refuse(Span(), "C008", f"fichier illisible : {error.strerror}")
            else:
                self.files[name] = content
                document = read(name, content)
            self.documents[name] = document
            self.run.problems += document.problems
            self.run.problems += inline_secrets(document)

    def _paths(self) -> Iterator[Path]:
        candidates = [*self.folder.glob("*.y*ml"), *self.folder.glob("*/*.y*ml")]
        for path in sorted(candidates):
            name = path.relative_to(self.folder).as_posix()
            if any(part.startswith(".") for part in name.split("/")) or name.startswith(
                "templates/"
            ):
                continue
            if any(fnmatchcase(name, known) for known in _KNOWN):
                yield path
            else:
                self._warn_ignored(name)

    def _warn_ignored(self, name: str) -> None:
        near = nearest(name, _KNOWN)
        document = Document(name=name, lines=[])
        message = "fichier ignoré : ce n'est pas un fichier de configuration connu"
        cure = f"voulez-vous dire « {near} » ? " if near else ""
        cure += f"Attendus : {', '.join(_KNOWN)}"
        self.run.problems.append(
            document.problem(Span(), "C107", message, cure=cure, severity="warning")
        )

    def _in(self, folder: str) -> dict[str, Document]:
        start = f"{folder}/"
        return {name: d for name, d in self.documents.items() if name.startswith(start)}

    # parts

    def _station(self) -> schema.Station | None:
        document = self.documents.get(STATION)
        if document is None:
            document = Document(name=STATION, lines=[])
            cure = "copiez l'exemple livré, ou lancez dlx install-files"
            problem = document.problem(Span(), "C009", "fichier absent", cure=cure)
            self.run.problems.append(problem)
            return None
        shape = validated(schema.Station, document, self.run.problems)
        if shape is not None:
            StationReader(run=self.run, document=document, shape=shape).check()
        return shape

    def _patient(self, station: schema.Station | None, reader: ProfileReader) -> Profile | None:
        if station is None or station.patient is None:
            return None
        document = self.documents[STATION]
        rules = reader.rules(document, ("patient",), PATIENT, station.patient.deliver)
        return Profile(
            id=PATIENT,
            deliver=rules,
            partial=Partial(station.patient.partial),
            place=document.place(("patient",)),
        )

    def _policies(self, patient: bool) -> tuple[Policy, ...]:
        document = self.documents.get(POLICIES)
        return policies_of(self.run, document, patient=patient) if document else ()

    def _calendar(self) -> schema.Schedules:
        document = self.documents.get(SCHEDULES)
        shape = validated(schema.Schedules, document, self.run.problems) if document else None
        return shape or schema.Schedules()

    def _warn_untested(self, reader: ProfileReader, tests: list[RouteTest]) -> None:
        """C103: a live profile that no route test names (operator-ux §5.7)."""
        named = {name for test in tests for values in test.given.values() for name in values}
        named |= {item.to for test in tests for item in (*test.expect, *test.expect_not)}
        for profile in reader.profiles:
            if profile.enabled and profile.id not in named:
                document, path = reader.where[profile.id]
                message = f"aucun test de routage ne nomme {profile.id}"
                self.run.warn(document, path, "C103", message)


def _references(reader: ChannelReader) -> list[ChannelRef]:
    return [
        ChannelRef(name=c.name, type=c.type, enabled=c.enabled, place=c.place)
        for c in reader.channels.values()
    ]


def hash_of(files: Mapping[str, bytes]) -> str:
    """SHA-256 of all names and contents, in the order of names."""
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{hashlib.sha256(files[name]).hexdigest()}\n".encode())
    return whole.hexdigest()
