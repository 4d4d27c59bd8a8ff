"""The demo's configuration, as an operator would write it, with the ports of the loopback peers."""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "medecins.example"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Where the peers listen, and the fingerprint of the clinic's SFTP server."""

    relay: int
    alerts: int
    sftp: int
    fingerprint: str


def files(ports: Ports) -> dict[str, str]:
    """Name below ``etc/dlx`` → content."""
    return {
        "dlx.yaml": _STATION.format(alerts=ports.alerts),
        "channels.d/mail.yaml": _MAIL.format(relay=ports.relay),
        "channels.d/clinique.yaml": _CLINIC.format(port=ports.sftp, key=ports.fingerprint),
        "channels.d/dossiers.yaml": _FOLDERS,
        "profiles.d/medecins.yaml": _PROFILES,
        "policies.yaml": _POLICIES,
    }


_STATION = """\
laboratory:
  name: Laboratoire de démonstration
  finess: 999999999
  timezone: Europe/Paris
pickup:
  - name: sil
    directory: var/spool/dlx/in
    ready_when: rename
    correction_wait: 1s
defaults:
  formats: [pdf]
  retry: {{first: 1s, factor: 2, max: 10s, give_up: 1h}}
alerts:
  mail_to: [operateurs@labo.example]
  smtp: {{host: localhost, port: {alerts}, sender: dlx@labo.example, tls: off}}
"""

_MAIL = """\
channels:
  medecins-smime:
    type: smime-mail
    smtp: smtps://localhost:{relay}
    ca: etc/dlx/keys/root.pem
    sender: resultats@labo.example
    identity: key:laboratoire
    smime: sign+encrypt
    trust: etc/dlx/keys/root.pem
    certificates: etc/dlx/certificates
"""

_CLINIC = """\
channels:
  clinique-tilleuls:
    type: sftp
    host: 127.0.0.1
    port: {port}
    user: dlx
    host_key: "{key}"
    identity: key:sftp-tilleuls
    directory: clinique-a
    filename: "{{report.ref}}_v{{version}}{{suffix}}"
"""

_FOLDERS = """\
channels:
  cabinet-hprim:
    type: folder
    directory: var/spool/dlx/out/cabinet
  repli-papier:
    type: folder
    directory: var/spool/dlx/out/papier
"""

_PROFILES = """\
profiles:
  - id: dr-lefevre
    name: {family: LEFEVRE-TEST, given: Anne, title: Dr}
    lis_codes: LEFA
    deliver:
      - {via: medecins-smime, to: lefevre@medecins.example, formats: [hprim, pdf]}

  - id: dr-girard
    name: {family: GIRARD-TEST, given: Luc, title: Dr}
    lis_codes: GIRL
    partial: hold-until-final
    deliver:
      - {via: medecins-smime, to: girard@medecins.example, formats: [oru, text]}

  - id: dr-morel
    name: {family: MOREL-TEST, given: Paul, title: Dr}
    lis_codes: MORP
    deliver:
      - {via: cabinet-hprim, formats: hprim}

  - id: dr-refus
    name: {family: REFUS-TEST, given: Yves, title: Dr}
    lis_codes: REFY
    deliver:
      - {via: medecins-smime, to: inconnu@medecins.example, formats: pdf}

  - id: dr-plein
    name: {family: PLEIN-TEST, given: Zoe, title: Dr}
    lis_codes: PLEZ
    deliver:
      - {via: medecins-smime, to: disparu@medecins.example, formats: pdf}
    if_undelivered: {after: 1h, via: repli-papier}

  - id: clinique-tilleuls
    name: Clinique des Tilleuls TEST
    kind: establishment
    lis_codes: C999
    deliver:
      - {via: clinique-tilleuls, formats: [oru, pdf]}
"""

_POLICIES = """\
policies:
  - name: résultat critique
    when: {report.critical: yes}
    priority: now
"""
