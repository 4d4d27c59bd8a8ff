"""``dlx.yaml`` → the parts of Settings that speak of the station itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from dlx.settings import schema
from dlx.settings.channels import retry_of
from dlx.settings.checking import Run
from dlx.settings.explaining import Location, context_of, unknown_key
from dlx.settings.model import (
    AlertMail,
    Alerts,
    Laboratory,
    Limits,
    Pickup,
    ReadyWhen,
    Retention,
    Retry,
    Silence,
)
from dlx.settings.reading import Document

_DAY = 86_400


class StationParts(TypedDict):
    """What ``dlx.yaml`` gives to Settings, under the same names."""

    laboratory: Laboratory
    pickups: tuple[Pickup, ...]
    default_formats: tuple[str, ...]
    retry: Retry
    retention: Retention
    alerts: Alerts
    limits: Limits
    tests_required: bool
    database: str
    state: Path
    spool: Path
    control_socket: Path


@dataclass(kw_only=True)
class StationReader:
    """Checks and converts one valid ``dlx.yaml``."""

    run: Run
    document: Document
    shape: schema.Station

    def check(self) -> None:
        """Formats, reading options, and what must not be there twice."""
        for position, name in enumerate(self.shape.defaults.formats):
            if "formats" in self.shape.defaults.model_fields_set:
                at: Location = ("defaults", "formats", position)
                self.run.known_format(self.document, at, name, read=False)
        names: dict[object, str] = {}
        folders: dict[object, str] = {}
        for index, pickup in enumerate(self.shape.pickup):
            path: Location = ("pickup", index)
            self._unique(names, pickup.name, (*path, "name"), f"arrivée « {pickup.name} »")
            folder = (pickup.directory.rstrip("/"), pickup.pattern)
            self._unique(folders, folder, (*path, "directory"), "même dossier et même motif")
            self._check_format(path, pickup)
        if "://" in self.shape.database:
            message = "PostgreSQL n'est pas encore proposé : la base est un fichier SQLite"
            cure = "écrivez un chemin, ou retirez cette ligne"
            self.run.add(self.document, ("database",), "C044", message, cure=cure)
        for retention in ("delivered", "portal", "history_values", "audit"):
            if getattr(self.shape.retention, retention) < _DAY:
                at = ("retention", retention)
                self.run.add(self.document, at, "C043", "au moins un jour", cure="écrivez 100d")

    def _unique(self, seen: dict[object, str], key: object, path: Location, what: str) -> None:
        if key in seen:
            message = f"{what} : déjà défini ({seen[key]})"
            self.run.add(self.document, path, "C057", message)
        seen.setdefault(key, self.document.place(path))

    def _check_format(self, path: Location, pickup: schema.Pickup) -> None:
        """The expected format can be read, and knows the reading options."""
        formats = self.run.formats
        if pickup.format and not self.run.known_format(
            self.document, (*path, "format"), pickup.format, read=True
        ):
            return
        readers = [formats[pickup.format]] if pickup.format else list(formats.values())
        known = sorted({key for format_ in readers for key in format_.reading})
        for key in pickup.reading:
            if key not in known:
                at = (*path, "reading", key)
                where = context_of(self.document, path)
                self.run.problems.append(unknown_key(self.document, at, known, where))

    def values(self) -> StationParts:
        """The parts, converted."""
        shape, places = self.shape, self.run.places
        database = shape.database
        return StationParts(
            laboratory=Laboratory(
                name=shape.laboratory.name,
                finess=shape.laboratory.finess,
                timezone=shape.laboratory.timezone,
                language=shape.laboratory.language,
            ),
            pickups=tuple(self._pickup(pickup) for pickup in shape.pickup),
            default_formats=tuple(shape.defaults.formats),
            retry=retry_of(shape.defaults.retry),
            retention=_retention(shape.retention),
            alerts=_alerts(shape.alerts),
            limits=Limits(
                workers=shape.limits.workers,
                batch=shape.limits.batch,
                job_seconds=shape.limits.job_seconds,
                job_memory_bytes=shape.limits.job_memory,
            ),
            tests_required=shape.safety.tests == "required",
            database=database if "://" in database else str(places.path(database)),
            state=places.path(shape.state),
            spool=places.path(shape.spool),
            control_socket=places.path(shape.control_socket),
        )

    def _pickup(self, shape: schema.Pickup) -> Pickup:
        silence = shape.silence
        return Pickup(
            name=shape.name,
            directory=self.run.places.path(shape.directory),
            pattern=shape.pattern,
            format=shape.format,
            reading=dict(shape.reading),
            ready_when=_ready_when(shape.ready_when),
            max_size_bytes=shape.max_size,
            duplicates=shape.duplicates,
            patients=shape.patients,
            correction_wait_seconds=shape.correction_wait,
            silence=None
            if silence is None
            else Silence(
                expect=silence.expect,
                alert_after_seconds=silence.alert_after,
                start=silence.between[0],
                end=silence.between[1],
                days=silence.on,
            ),
            enabled=shape.enabled,
        )


def _ready_when(shape: schema.ReadyWhen) -> ReadyWhen:
    if shape.rename:
        return ReadyWhen(rule="rename")
    if shape.marker:
        return ReadyWhen(rule="marker", marker=shape.marker)
    return ReadyWhen(rule="quiet", quiet_seconds=shape.unchanged_for or shape.quiet or 10.0)


def _retention(shape: schema.Retention) -> Retention:
    return Retention(
        delivered_days=int(shape.delivered // _DAY),
        portal_days=int(shape.portal // _DAY),
        history_values_days=int(shape.history_values // _DAY),
        audit_days=int(shape.audit // _DAY),
    )


def _alerts(shape: schema.Alerts) -> Alerts:
    smtp = shape.smtp
    return Alerts(
        mail_to=tuple(shape.mail_to),
        mail=None
        if smtp is None
        else AlertMail(host=smtp.host, port=smtp.port, sender=smtp.sender, tls=smtp.tls),
        heartbeat=shape.heartbeat,
        channel_down_seconds=shape.open.channel_down,
        delivery_waiting_seconds=shape.open.delivery_waiting,
        notices_open=shape.open.notices_open,
        digest_at=shape.digest_at,
    )
