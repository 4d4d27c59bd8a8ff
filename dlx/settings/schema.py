"""The shape of each file, as typed models that refuse unknown keys.

The description of each field is what operators read (docs/configuration.md is made from it).
"""

from __future__ import annotations

from datetime import time
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dlx.settings import scalars as s
from dlx.settings.scalars import AsList, Bool, Day, Duration, Hour, Size, Text, Word

Texts = Annotated[list[Text], AsList]
Words = Annotated[list[Word], AsList]
Block = dict[str, Any]  # checked apart, so that one mistake does not hide those of its neighbours


def _key(sentence: str, default: Any = None, **more: Any) -> Any:
    return Field(default=default, description=sentence, **more)


def _needed(sentence: str) -> Any:
    return Field(description=sentence)


class Strict(BaseModel):
    """Unknown keys are errors; nothing changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Open(BaseModel):
    """Further keys belong to a format or a connector and are checked against them."""

    model_config = ConfigDict(extra="allow", frozen=True)


# — dlx.yaml ——————————————————————————————————————————————————————————————————


class Laboratory(Strict):
    """``laboratory``."""

    name: Text = _needed("Nom du laboratoire, tel qu'il est imprimé")
    finess: s.Finess = _key("Numéro FINESS du laboratoire", "")
    timezone: s.Zone = _key("Fuseau horaire des heures de la configuration", "Europe/Paris")
    language: Annotated[str, s.typed(s.one_of("fr", "en"))] = _key("Langue : fr ou en", "fr")


def _ready(value: object) -> object:
    match value:
        case "rename":
            return {"rename": "yes"}
        case "quiet":
            return {"quiet": "10s"}
    return value


class ReadyWhen(Strict):
    """``ready_when`` of an item of ``pickup``."""

    rename: Bool = _key("Le fichier est renommé quand il est complet (le plus sûr)", False)
    marker: Text | None = _key("Terminaison du témoin déposé après le fichier, par exemple .ok")
    unchanged_for: Duration | None = _key("Taille et date inchangées depuis cette durée")
    quiet: Duration | None = _key("Autre nom de unchanged_for")

    @model_validator(mode="after")
    def _one_rule(self) -> ReadyWhen:
        chosen = [self.rename, self.marker, self.unchanged_for, self.quiet]
        if sum(1 for rule in chosen if rule) != 1:
            cure = "écrivez rename, ou {marker: .ok}, ou {unchanged_for: 10s}"
            raise s.wrong("C019", "une règle et une seule dit quand un fichier est complet", cure)
        return self


class Silence(Strict):
    """``silence`` of an item of ``pickup``."""

    expect: Annotated[str, s.typed(s.one_of("learned", "off"))] = _key(
        "Volume attendu : learned (appris) ou off", "learned"
    )
    alert_after: Duration = _key("Alerte après ce silence", 2700.0)
    between: s.Hours = _key("Heures surveillées, HH:MM-HH:MM", (time(7), time(20)))
    on: Annotated[str, s.typed(s.one_of("working-days", "every-day"))] = _key(
        "Jours surveillés : working-days ou every-day", "working-days"
    )


class Pickup(Strict):
    """An item of ``pickup``."""

    name: Word = _needed("Nom court de l'arrivée")
    directory: Text = _needed("Dossier où le SIL dépose, sous le préfixe de la station")
    pattern: Text = _key("Noms de fichiers à prendre", "*")
    format: Text = _key("Seul format attendu ; vide : reconnu au contenu", "")
    reading: dict[str, Text] = _key("Options de lecture du format (charset…)", {})
    ready_when: Annotated[ReadyWhen, BeforeValidator(_ready)] = _key(
        "Quand un fichier est complet : rename, {marker: .ok} ou {unchanged_for: 10s}",
        ReadyWhen.model_validate({"rename": "yes"}),
    )
    max_size: Size = _key("Taille au-delà de laquelle un fichier est refusé", 20_000_000)
    duplicates: Annotated[str, s.typed(s.one_of("archive", "reject"))] = _key(
        "Fichier identique déjà reçu : archive (sans avis) ou reject", "archive"
    )
    patients: Annotated[str, s.typed(s.one_of("one", "several"))] = _key(
        "one : un fichier de deux patients, hors lot déclaré, est mis de côté ; several", "one"
    )
    correction_wait: Duration = _key("Attente de l'original par une correction", 300.0)
    silence: Silence | None = _key("Alerte quand rien n'arrive")
    enabled: Bool = _key("no : arrivée arrêtée", True)


class Retry(Strict):
    """``retry``."""

    first: Duration = _key("Premier nouvel essai après", 60.0)
    factor: Annotated[float, s.typed(s.factor)] = _key("Chaque attente est multipliée par", 3.0)
    max: Duration = _key("Attente la plus longue", 14_400.0)
    give_up: Duration = _key("Échec définitif et avis après", 259_200.0)


class Defaults(Strict):
    """``defaults``."""

    formats: Texts = _key("Formats d'un envoi qui n'en nomme pas", ["pdf"])
    partial: Annotated[str, s.typed(s.one_of("send", "hold-until-final", "skip"))] = _key(
        "Comptes rendus partiels : send, hold-until-final ou skip", "send"
    )
    retry: Retry = _key("Nouveaux essais", Retry())


class Retention(Strict):
    """``retention``."""

    delivered: Duration = _key("Contenu gardé après la fin du dernier envoi", 100 * 86_400.0)
    portal: Duration = _key("Comptes rendus visibles sur le portail", 100 * 86_400.0)
    history_values: Duration = _key("Valeurs antérieures gardées", 5 * 31_557_600.0)
    audit: Duration = _key("Traces et preuves gardées", 10 * 31_557_600.0)


class OpenAfter(Strict):
    """``alerts.open``."""

    channel_down: Duration = _key("Avis quand un canal est arrêté depuis", 600.0)
    delivery_waiting: Duration = _key("Avis quand un envoi attend depuis", 7200.0)
    notices_open: Annotated[int, s.typed(s.whole(1, 10_000))] = _key(
        "Message quand tant d'avis sont ouverts", 1
    )


class AlertSmtp(Strict):
    """``alerts.smtp``."""

    host: Text = _needed("Relais des alertes, qui ne contiennent aucune donnée de patient")
    port: Annotated[int, s.typed(s.whole(1, 65_535))] = _key("Port", 587)
    sender: s.Mailbox = _needed("Adresse de l'expéditeur")
    tls: Annotated[str, s.typed(s.one_of("starttls", "tls", "off"))] = _key(
        "starttls, tls, ou off (seulement vers localhost)", "starttls"
    )

    @model_validator(mode="after")
    def _protected(self) -> AlertSmtp:
        if self.tls == "off" and self.host not in ("localhost", "127.0.0.1", "::1"):
            cure = "écrivez tls: starttls, ou host: localhost"
            raise s.wrong("C034", "tls: off n'est permis que vers localhost", cure)
        return self


class Alerts(Strict):
    """``alerts``."""

    mail_to: Annotated[list[s.Mailbox], AsList] = _key("Qui est prévenu", [])
    smtp: AlertSmtp | None = _key("Par où partent les alertes")
    heartbeat: Annotated[str, s.typed(s.web_address)] = _key("Adresse appelée chaque minute", "")
    digest_at: Hour = _key("Heure du résumé de ce qui reste ouvert", time(7, 30))
    open: OpenAfter = _key("Seuils d'ouverture", OpenAfter())


class Limits(Strict):
    """``limits``."""

    workers: Annotated[int, s.typed(s.whole(1, 64))] = _key("Processus de mise en forme", 2)
    batch: Annotated[int, s.typed(s.whole(1, 1000))] = _key("Fichiers traités ensemble", 50)
    job_seconds: Duration = _key("Durée au plus pour un fichier", 20.0)
    job_memory: Size = _key("Mémoire au plus d'un processus de mise en forme", 512_000_000)


class Safety(Strict):
    """``safety``."""

    tests: Annotated[str, s.typed(s.one_of("required", "advised"))] = _key(
        "required : un rechargement est refusé quand un test de routage échoue", "advised"
    )


class Deliver(Open):
    """An item of ``deliver``."""

    via: Word = _needed("Canal")
    to: Text = _key("Adresse chez le destinataire, si le canal ne la connaît pas", "")
    formats: Texts | None = _key("Formats, dans l'ordre ; tous partent dans un seul envoi")
    when: dict[str, Texts] = _key("Conditions de cet envoi ; mêmes mots que les règles", {})
    options: dict[str, dict[str, Text]] = _key("Options par format : {hprim: {charset: …}}", {})


class Patient(Strict):
    """``patient``."""

    deliver: Annotated[list[Deliver], AsList] = _needed("Voies vers le patient")
    partial: Annotated[str, s.typed(s.one_of("send", "hold-until-final", "skip"))] = _key(
        "Comptes rendus partiels", "hold-until-final"
    )


class Station(Strict):
    """``dlx.yaml``."""

    laboratory: Laboratory = _needed("Le laboratoire")
    pickup: Annotated[list[Pickup], AsList] = _needed("Arrivées des fichiers")
    defaults: Defaults = _key("Valeurs quand une fiche ne dit rien", Defaults())
    patient: Patient | None = _key("Envois au patient ; absent : aucun")
    retention: Retention = _key("Durées de conservation", Retention())
    alerts: Alerts = _key("Alertes aux opérateurs", Alerts())
    limits: Limits = _key("Moyens accordés", Limits())
    safety: Safety = _key("Sécurités", Safety())
    database: Text = _key("Fichier SQLite, ou adresse postgresql://", "var/lib/dlx/db/dlx.sqlite3")
    state: Text = _key("Dossier des données", "var/lib/dlx")
    spool: Text = _key("Dossier de la file de fichiers", "var/spool/dlx")
    control_socket: Text = _key("Prise de la ligne de commande", "run/dlx/control.sock")


# — channels.d ————————————————————————————————————————————————————————————————


class Channel(Strict):
    """What every channel may say, whatever its type."""

    type: Text = _needed("Type de connecteur")
    enabled: Bool = _key("no : canal arrêté", True)
    critical: Bool = _key("yes : son arrêt est urgent", False)
    retry: Retry | None = _key("Nouveaux essais, à la place de defaults.retry")
    concurrency: Annotated[int, s.typed(s.whole(1, 100))] | None = _key(
        "Envois menés de front ; absent : selon le connecteur"
    )
    receipt_within: Duration | None = _key(
        "Délai de la preuve après prise en charge ; absent : pas de preuve attendue"
    )
    rate: Annotated[tuple[int, float], s.typed(s.rate)] | None = _key("Débit au plus : 60/min")
    window: s.Hours | None = _key("Heures d'envoi, HH:MM-HH:MM ou always")
    max_doubt: Annotated[int, s.typed(s.whole(0, 5))] = _key(
        "Répétitions automatiques d'un envoi dont l'arrivée est incertaine", 1
    )
    recipients_in: Word | None = _key("Liste de lists.d hors de laquelle rien n'est adressé")
    domains: Annotated[list[Text], AsList] = _key("Domaines permis, à la place d'une liste", [])


class Channels(Strict):
    """A file of ``channels.d``."""

    channels: dict[Word, Block] = _key("Canaux, par leur nom", {})


class DomainList(Strict):
    """A file of ``lists.d``."""

    dated: Day | None = _key("Date de la liste")
    domains: Annotated[list[Text], AsList] = _needed("Domaines, un par ligne")


# — profiles.d ————————————————————————————————————————————————————————————————


class Name(Strict):
    """``name`` of a profile."""

    family: Text = _key("Nom", "")
    given: Text = _key("Prénom", "")
    title: Text = _key("Titre : Dr, Pr…", "")
    organisation: Text = _key("Raison sociale d'un établissement", "")


def _organisation(value: object) -> object:
    return {"organisation": value} if isinstance(value, str) else value


class Absence(Strict):
    """An item of ``absence``."""

    from_: Day = Field(alias="from", description="Premier jour, compris")
    until: Day | None = _key("Dernier jour, compris ; absent : jusqu'à nouvel ordre")
    also_to: Word = _needed("Fiche du remplaçant ; les deux reçoivent")

    @model_validator(mode="after")
    def _in_order(self) -> Absence:
        if self.until is not None and self.until < self.from_:
            raise s.wrong("C045", f"absence qui finit le {self.until} avant de commencer")
        return self


class IfUndelivered(Open):
    """``if_undelivered``."""

    after: Duration = _needed("Sans preuve après ce délai…")
    via: Word = _needed("…envoyer par ce canal")
    to: Text = _key("Adresse sur ce canal", "")
    formats: Texts | None = _key("Formats ; absent : les mêmes")


class Billing(Strict):
    """``billing``."""

    daily_at: Hour = _needed("Heure de l'export")
    format: Text = _key("Format", "csv")
    via: Word = _needed("Canal")
    empty: Annotated[str, s.typed(s.one_of("send-header-only", "skip"))] = _key(
        "Jour sans acte : send-header-only ou skip", "send-header-only"
    )


class Demographics(Strict):
    """``demographics``."""

    from_: Word = Field(alias="from", description="Canal où l'établissement dépose")
    directory: Text = _key("Dossier", "")
    format: Text = _key("Format", "adt")


class TrustIdentity(Strict):
    """``trust_identity``."""

    contract: Text = _needed("Numéro du contrat")
    since: Day = _needed("Date d'effet")


class PracticePortal(Strict):
    """``practice.portal``."""

    group_account: Bool = _key("Compte commun du cabinet", False)


class Practice(Strict):
    """``practice``."""

    id: Word = _needed("Identifiant court")
    name: Text = _key("Nom du cabinet", "")
    portal: PracticePortal = _key("Portail", PracticePortal())


class Profile(Strict):
    """An item of ``profiles``."""

    id: Word = _needed("Identifiant court, unique")
    kind: Annotated[str, s.typed(s.one_of("person", "establishment"))] = _key(
        "person ou establishment", "person"
    )
    name: Annotated[Name, BeforeValidator(_organisation)] = _key("Nom", Name())
    rpps: s.Rpps = _key("Numéro RPPS, 11 chiffres", "")
    adeli: s.Adeli = _key("Numéro ADELI, 9 caractères", "")
    finess: s.Finess = _key("Numéro FINESS, 9 caractères", "")
    lis_codes: Texts = _key("Codes sous lesquels le SIL le nomme", [])
    deliver: Annotated[list[Deliver], AsList] = _key("Envois", [])
    partial: Annotated[str, s.typed(s.one_of("send", "hold-until-final", "skip"))] | None = _key(
        "Comptes rendus partiels : send, hold-until-final ou skip"
    )
    urgent: Annotated[str, s.typed(s.one_of("now", "as-others"))] = _key(
        "Comptes rendus urgents : now ou as-others", "now"
    )
    duplicates: Annotated[str, s.typed(s.one_of("skip", "send"))] = _key(
        "Version qui ne change rien : skip ou send", "skip"
    )
    if_undelivered: IfUndelivered | None = _key("Autre voie quand rien ne prouve l'envoi")
    absence: Annotated[list[Absence], AsList] = _key("Absences et remplaçants", [])
    enabled: Bool = _key("no : fiche désactivée", True)
    paper: Bool = _key("Reçoit aussi le papier (pour mémoire)", False)
    billing: Billing | None = _key("Export de facturation")
    demographics: Demographics | None = _key("Identités reçues de l'établissement")
    trust_identity: TrustIdentity | None = _key("Identités de l'établissement tenues pour sûres")
    notes: Text = _key("Remarque libre", "")


class Profiles(Strict):
    """A file of ``profiles.d``."""

    practice: Practice | None = _key("Cabinet des fiches de ce fichier")
    profiles: Annotated[list[Block], AsList] = _key("Fiches", [])


# — policies.yaml, schedules.yaml, tests ———————————————————————————————————————


class Policy(Strict):
    """An item of ``policies``."""

    name: Text = _needed("Nom de la règle, affiché par explain")
    when: dict[str, Texts] = _key("Conditions, toutes nécessaires ; absent : toujours", {})
    withhold_from: Words = _key("Ne reçoivent rien", [])
    only_to: Words = _key("Personne d'autre ne reçoit", [])
    also_to: Words = _key("Reçoivent aussi", [])
    hold: Text = _key("Raison pour laquelle l'envoi attend une personne", "")
    hold_for: Words = _key("Envois que hold retient ; absent : tous", [])
    delay: Duration | None = _key("Départ retardé de")
    priority: Annotated[str, s.typed(s.one_of("now"))] = _key("now : part avant les autres", "")
    acknowledge_within: Duration | None = _key("Avis au biologiste sans lecture dans ce délai")
    patient_delivery: Annotated[str, s.typed(s.one_of("visible", "hidden"))] = _key(
        "visible, ou hidden : le portail garde sans montrer", ""
    )


class Policies(Strict):
    """``policies.yaml``."""

    policies: Annotated[list[Block], AsList] = _key("Règles ; toutes celles qui valent", [])


class Schedules(Strict):
    """``schedules.yaml``."""

    holidays: Annotated[list[Day], AsList] = _key("Jours fériés, AAAA-MM-JJ", [])


class Expected(Strict):
    """An item of ``expect`` or ``expect_not``."""

    to: Word = _needed("Destinataire : fiche, ou patient")
    via: Text = _key("Canal", "")
    formats: Texts = _key("Formats", [])
    when: Annotated[str, s.typed(s.one_of("now", "later", "held"))] = _key(
        "now, later (retardé) ou held (retenu)", ""
    )
    visible: Bool | None = _key("Visible du patient")


class RouteTest(Strict):
    """An item of ``tests``."""

    name: Text = _needed("Nom du test")
    given: dict[str, Texts] = _needed("Faits du compte rendu imaginaire")
    expect: Annotated[list[Expected], AsList] = _key("Envois attendus", [])
    expect_not: Annotated[list[Expected], AsList] = _key("Envois interdits", [])


class RouteTests(Strict):
    """A file of ``tests``."""

    tests: Annotated[list[Block], AsList] = _key("Tests de routage", [])
