"""What an operator may write for a channel of ``type: smime-mail`` and for a route to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from connectors import _cms
from dlx.contracts import SecretFile, setting


@dataclass(frozen=True, kw_only=True)
class SmimeMailSettings:
    """What an operator may write in a channel of ``type: smime-mail``."""

    smtp: str = setting(
        "Relais de départ : smtps://hôte:port ou smtp+starttls://hôte:port ; jamais en clair",
        example="smtps://mail.labo.example:465",
    )
    user: str = setting("Compte du relais ; vide : sans authentification", "")
    password: SecretFile | None = setting("Fichier du mot de passe du compte", None)
    client_certificate: SecretFile | None = setting(
        "Clé et certificat TLS client (PEM), si le relais le demande", None
    )
    ca: Path | None = setting(
        "Autorités reconnues pour le certificat du relais (PEM) ; vide : celles du système", None
    )
    sender: str = setting("Adresse d'expéditeur du laboratoire", example="resultats@labo.example")
    reply_to: str = setting("Adresse de réponse, si elle diffère", "")
    identity: SecretFile = setting(
        "Clé de signature S/MIME suivie de son certificat et des intermédiaires (PEM, 0600)"
    )
    identity_password: SecretFile | None = setting("Fichier de la phrase de la clé", None)
    smime: str = setting(
        "Protection du message ; doit être écrit", choices=("off", "sign", "sign+encrypt")
    )
    form: str = setting("Présentation du message", "neutral", choices=("neutral", "mss"))
    subject: str = setting(
        "Objet visible de tous, sans donnée du patient", "Compte rendu de biologie médicale"
    )
    encrypt_to_self: bool = setting("Chiffrer aussi pour notre propre certificat", False)
    trust: tuple[Path, ...] = setting("Autorités reconnues pour les destinataires (PEM)", ())
    certificates: Path | None = setting(
        "Dossier des certificats des destinataires : <adresse>.pem", None
    )
    revocation: str = setting(
        "Révocation : require refuse sans liste à jour, soft refuse ce qui est révoqué, off",
        "soft",
        choices=("require", "soft", "off"),
    )
    crl: tuple[Path, ...] = setting("Listes de révocation (PEM ou DER)", ())
    receipts: bool = setting("Demander les avis de remise (DSN) au relais qui les offre", True)
    connections: int = setting("Connexions ouvertes au plus vers le relais", 4)
    idle: float = setting("Durée de garde d'une connexion inutilisée", 60.0)
    mails_per_connection: int = setting("Messages par connexion avant d'en ouvrir une autre", 100)
    connect_timeout: float = setting("Attente de la connexion et de l'accueil", 60.0)
    command_timeout: float = setting("Attente de la réponse à une commande", 300.0)
    data_timeout: float = setting("Attente de la réponse à DATA", 120.0)
    block_timeout: float = setting("Attente pendant l'écriture du message", 180.0)
    reply_timeout: float = setting("Attente de la réponse après la fin du message", 600.0)


@dataclass(frozen=True, kw_only=True)
class SmimeMailAddress:
    """What a route may say; ``to:`` is the mail address."""

    certificate: str = setting("Fichier du certificat, si ce n'est pas <adresse>.pem", "")
    fingerprint: str = setting("Empreinte SHA-256 du certificat attendu", "")
    cms: str = setting(
        "Chiffrement que le destinataire sait lire",
        "aes-cbc",
        choices=tuple(suite.value for suite in _cms.Suite),
    )
