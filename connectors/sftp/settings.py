"""What an operator may write in a channel of ``type: sftp``, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from connectors._naming import template_problems
from connectors.sftp.hostkeys import PinError, pin_of
from dlx.contracts import SecretFile, setting

_END = re.compile(r"[A-Za-z0-9._-]{1,20}")
_FOLDER = re.compile(r"\.?[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class SftpSettings:
    """One clinic's server. Directories are relative to where the server puts us at login."""

    host: str = setting("Nom ou adresse du serveur", example="sftp.clinique.example")
    port: int = setting("Port", 22)
    user: str = setting("Compte sur le serveur", example="dlx")
    host_key: tuple[str, ...] = setting(
        "Clés du serveur acceptées : empreinte SHA256:… ou clé publique entière ; plusieurs"
        " pendant un changement, chacune avec « from=AAAA-MM-JJ » ou « until=AAAA-MM-JJ » au"
        " besoin. Lues au téléphone, jamais apprises du réseau",
        example="SHA256:Jq1examplefingerprintexamplefingerprintexamp",
    )
    identity: SecretFile | None = setting(
        "Notre clé privée (Ed25519, ECDSA ou RSA 3072 et plus), droits 0600", None
    )
    passphrase: SecretFile | None = setting("Phrase secrète de cette clé", None)
    password: SecretFile | None = setting(
        "Mot de passe, si le serveur n'accepte pas de clé (moins sûr)", None
    )
    directory: str = setting("Dossier de dépôt", "")
    filename: str = setting(
        "Modèle du nom de fichier ; jamais de donnée du patient",
        "{delivery}{suffix}",
        example="{report.ref}_v{version}.{ext}",
    )
    atomic: str = setting(
        "Comment le lecteur reconnaît un fichier complet : rename (nom provisoire puis renommage),"
        " marker (nom final d'emblée, témoin après), rename+marker (les deux)",
        "rename",
        choices=("rename", "marker", "rename+marker"),
    )
    temporary: str = setting(
        "Nom provisoire : suffix (nom.tmp), prefix (.nom), dir (autre dossier du même disque)",
        "suffix",
        choices=("suffix", "prefix", "dir"),
    )
    temporary_text: str = setting(
        "Le suffixe, le préfixe ou le dossier provisoire ; vide : .tmp, un point, tmp", ""
    )
    marker: str = setting("Terminaison du témoin", ".ok")
    marker_content: str = setting(
        "Contenu du témoin : empty (vide) ou sum (nom;taille;sha256)",
        "empty",
        choices=("empty", "sum"),
    )
    overwrite: str = setting(
        "Nom déjà pris par un autre contenu : refuse (échec), replace (remplacer),"
        " unique (ajouter le numéro d'envoi)",
        "refuse",
        choices=("refuse", "replace", "unique"),
    )
    fsync: str = setting(
        "Écriture sur disque chez eux avant le nom final : auto (si le serveur sait), require, off",
        "auto",
        choices=("auto", "require", "off"),
    )
    mode: str = setting("Droits du fichier chez eux, en octal ; vide : ceux du serveur", "")
    reader_removes: bool = setting(
        "Le lecteur retire les fichiers : après un doute, un fichier absent a peut-être été lu ;"
        " une personne décide au lieu d'un second envoi",
        False,
    )
    connections: int = setting("Connexions au plus, 1 à 4 ; la deuxième s'ouvre en file longue", 1)
    timeout: float = setting("Délai de chaque réponse du serveur", 30.0)
    keepalive: float = setting("Intervalle des signes de vie quand rien ne passe", 30.0)
    idle: float = setting("Connexion gardée après le dernier fichier", 60.0)

    @property
    def temporary_word(self) -> str:
        """The suffix, prefix or folder of temporary names, default included."""
        return (
            self.temporary_text or {"suffix": ".tmp", "prefix": ".", "dir": "tmp"}[self.temporary]
        )

    @property
    def renames(self) -> bool:
        """True when a file is written under another name first."""
        return self.atomic != "marker"

    @property
    def marks(self) -> bool:
        """True when each file is followed by its marker."""
        return self.atomic != "rename"

    @property
    def file_mode(self) -> int | None:
        """Permissions to set, or None."""
        return int(self.mode, 8) if self.mode else None


def problems_of(settings: SftpSettings) -> Sequence[str]:
    """French sentences of what is wrong, without touching keys or network."""
    problems = template_problems(settings.filename)
    if not settings.host_key:
        problems.append(
            "host_key : aucune clé de serveur ; lisez-la avec le responsable du site au téléphone"
        )
    for text in settings.host_key:
        try:
            pin_of(text)
        except PinError as error:
            problems.append(f"host_key : {error}")
    if settings.identity is None and settings.password is None:
        problems.append("identity : ni clé ni mot de passe ; la connexion serait refusée")
    if settings.password is not None:
        problems.append(
            "attention : password : un mot de passe protège moins qu'une clé ; préférez identity:"
        )
    if settings.mode and not (settings.mode.isdigit() and set(settings.mode) <= set("01234567")):
        problems.append(f"mode : « {settings.mode} » n'est pas un mode octal (par exemple 640)")
    if not 1 <= settings.connections <= 4:
        problems.append(f"connections : {settings.connections} ; de 1 à 4")
    if settings.marks and _END.fullmatch(settings.marker) is None:
        problems.append(f"marker : « {settings.marker} » doit ressembler à .ok")
    if settings.renames and not _is_temporary_word(settings):
        problems.append(
            f"temporary_text : « {settings.temporary_word} » n'est pas un {settings.temporary}"
            " permis (A-Z a-z 0-9 . _ -)"
        )
    return problems


def _is_temporary_word(settings: SftpSettings) -> bool:
    word = settings.temporary_word
    if settings.temporary != "dir":
        return _END.fullmatch(word) is not None
    return all(_FOLDER.fullmatch(part) for part in word.strip("/").split("/"))
