"""Every way an upload fails, as the operator reads it. One function each; codes are stable."""

from __future__ import annotations

from connectors.sftp.wire import Broken, SftpRefusal, Status
from dlx.delivery import Phase
from dlx.errors import InDoubt, PermanentFailure, TemporaryFailure
from dlx.masking import printable

FULL = frozenset({Status.NO_SPACE, Status.QUOTA_EXCEEDED})
DENIED = frozenset({Status.PERMISSION_DENIED, Status.WRITE_PROTECT})


def _scope(channel: bool) -> str:
    return "channel" if channel else "delivery"


def no_directory(
    folder: str, refusal: SftpRefusal, *, channel: bool
) -> TemporaryFailure | PermanentFailure:
    """The folder of the channel is missing (everything waits), or that of one address."""
    kind = TemporaryFailure if channel else PermanentFailure
    return kind(
        f"Le dossier {folder or '.'} n'existe pas sur le serveur",
        code="no-directory",
        words=printable(refusal.words),
        cure="faire créer le dossier (et celui des noms provisoires), ou corriger directory:",
        scope=_scope(channel),
        phase=Phase.ENVELOPE.value,
    )


def denied(folder: str, refusal: SftpRefusal, *, channel: bool) -> TemporaryFailure:
    """The server does not let us write there."""
    return TemporaryFailure(
        f"Le serveur refuse l'écriture dans {folder or '.'}",
        code="permission",
        words=printable(refusal.words),
        cure="faire corriger les droits du dossier",
        scope=_scope(channel),
        phase=Phase.ENVELOPE.value,
    )


def disk_full(host: str, refusal: SftpRefusal) -> TemporaryFailure:
    """No room over there."""
    return TemporaryFailure(
        f"Plus de place sur {host}",
        code="disk-full",
        words=printable(refusal.words),
        cure="prévenir le responsable du serveur",
        scope="channel",
        phase=Phase.DATA.value,
    )


def refused(host: str, refusal: SftpRefusal) -> TemporaryFailure:
    """A refusal whose cause the server does not tell: unknown means temporary."""
    return TemporaryFailure(
        f"{host} a refusé le fichier sans dire pourquoi",
        code=f"sftp-{refusal.status}",
        words=printable(refusal.words),
        cure="demander au responsable du serveur",
        phase=Phase.DATA.value,
    )


def wrong_size(host: str) -> TemporaryFailure:
    """What the server holds is not as long as what was sent."""
    return TemporaryFailure(
        f"{host} n'a pas gardé tout le fichier", code="size", phase=Phase.DATA.value
    )


def no_fsync(host: str) -> TemporaryFailure:
    """``fsync: require`` and a server that cannot."""
    return TemporaryFailure(
        f"{host} ne sait pas écrire sur disque à la demande (fsync@openssh.com)",
        code="no-fsync",
        cure="écrire fsync: auto si le site l'accepte",
        scope="channel",
        phase=Phase.ENVELOPE.value,
    )


def name_taken(path: str) -> PermanentFailure:
    """Another content bears our name, and ``overwrite: refuse``."""
    return PermanentFailure(
        f"Le fichier {path} existe déjà avec un autre contenu",
        code="name-taken",
        cure="ajouter {delivery} au modèle filename:, ou choisir overwrite: unique",
        phase=Phase.DATA.value,
    )


def looked_gone() -> InDoubt:
    """After a doubt the file is not there, and the reader removes what it read."""
    return InDoubt(
        "Le fichier n'est plus sur le serveur : déjà lu, ou jamais arrivé",
        code="looked-gone",
        cure="demander au site s'il l'a reçu",
        phase=Phase.COMMITTED_TO.value,
    )


def in_doubt(host: str, code: str, words: str) -> InDoubt:
    """The rename was asked for and its answer did not come, or was odd."""
    return InDoubt(
        f"{host} n'a pas confirmé le nom final du fichier",
        code=code,
        words=printable(words),
        phase=Phase.COMMITTED_TO.value,
    )


def cut(host: str, broken: Broken) -> TemporaryFailure:
    """The line went away, or the server fell silent, before anything could arrive."""
    silent = broken.timed_out
    return TemporaryFailure(
        f"{host} ne répond plus" if silent else f"La connexion avec {host} s'est rompue",
        code=code_of(broken),
        words=printable(broken.words),
        cure="vérifier le réseau, puis appeler le responsable du serveur",
        scope="channel",
        phase=Phase.DATA.value,
    )


def closed(host: str) -> TemporaryFailure:
    """The channel was closed (a reload) while this delivery waited for its turn."""
    return TemporaryFailure(
        f"Le canal vers {host} a été fermé avant le dépôt",
        code="closed",
        phase=Phase.ENVELOPE.value,
    )


def code_of(broken: Broken) -> str:
    """``timeout`` for silence, ``route-down`` for a cut."""
    return "timeout" if broken.timed_out else "route-down"
