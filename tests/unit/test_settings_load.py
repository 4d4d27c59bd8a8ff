"""The configuration, read from real folders with a registry of invented connectors and formats."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from dlx.contracts import Connector, Format, SecretFile, setting
from dlx.errors import ConfigError, ConfigProblem
from dlx.settings import check_routes, format_problem, load
from dlx.settings.model import Settings

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True, kw_only=True)
class MailSettings:
    smtp: str = setting("Relais")
    sender: str = setting("Expéditeur")
    identity: SecretFile = setting("Clé")
    smime: str = setting("Protection", choices=("off", "sign", "sign+encrypt"))
    form: str = setting("Forme", "neutral", choices=("mss", "neutral"))
    environment: str = setting("Espace", "production", choices=("production", "test"))
    verp: bool = setting("VERP", False)
    timeout: float = setting("Délai", 30.0)


@dataclass(frozen=True, kw_only=True)
class MailAddress:
    certificate: SecretFile | None = setting("Certificat", None)


@dataclass(frozen=True, kw_only=True)
class SftpSettings:
    host: str = setting("Serveur")
    user: str = setting("Compte")
    host_key: tuple[str, ...] = setting("Empreintes")
    identity: SecretFile = setting("Clé")
    directory: str = setting("Dossier", "")
    filename: str = setting("Nom", "{delivery}{suffix}")
    atomic: str = setting("Fin", "rename", choices=("rename", "marker"))
    port: int = setting("Port", 22)


@dataclass(frozen=True, kw_only=True)
class RelaySettings:
    engine: str = setting("Moteur", "relay")


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    pass


@dataclass(frozen=True, kw_only=True)
class PeerAddress:
    peer: str = setting("Correspondant")


class FakeMail(Connector):
    name = "smime-mail"
    Settings: ClassVar[type] = MailSettings
    Address: ClassVar[type | None] = MailAddress

    def __init__(self, settings):
        self.settings = settings

    async def deliver(self, delivery, renditions, committing):
        raise AssertionError("never called")

    def check_address(self, address, options):
        return ("adresse interdite",) if address.startswith("interdit") else ()


class FakeSftp(FakeMail):
    name = "sftp"
    Settings: ClassVar[type] = SftpSettings
    Address: ClassVar[type | None] = NoSettings


class FakeRelay(FakeMail):
    name = "apicrypt-mail"
    Settings: ClassVar[type] = RelaySettings


class FakePortal(FakeMail):
    name = "portal"
    Settings: ClassVar[type] = NoSettings
    Address: ClassVar[type | None] = None


class FakeHprimNet(FakeMail):
    name = "hprim-net"
    Settings: ClassVar[type] = NoSettings
    Address: ClassVar[type | None] = PeerAddress


CONNECTORS = {c.name: c for c in (FakeMail, FakeSftp, FakeRelay, FakePortal, FakeHprimNet)}


def _format(name: str, **more: object) -> Format:
    return Format(
        name=name,
        suffix=f".{name}",
        recognises=lambda head: False,
        parse=lambda content, options: pytest.fail("never called"),
        render=lambda report, to, options: pytest.fail("never called"),
        **more,  # type: ignore[arg-type]
    )


FORMATS = {
    "hprim": _format("hprim", options={"encoding": "cp850"}, reading={"charset": "auto"}),
    **{name: _format(name) for name in ("pdf", "oru", "cda", "csv")},
}

STATION = """\
laboratory: {name: Laboratoire Exemple}
pickup:
  - {name: sil, directory: var/spool/dlx/in}
"""
CHANNELS = """\
channels:
  mssante:
    type: smime-mail
    smtp: smtps://relais.operateur.example:465
    sender: resultats@labo-exemple.mssante.example
    identity: key:labo-smime
    recipients_in: mssante
    smime: off
  portal: {type: portal}
  hprimnet: {type: hprim-net}
  clinique-tilleuls:
    type: sftp
    host: sftp.example
    user: dlx
    host_key: SHA256:abc
    identity: key:sftp
"""
LIST = "dated: 2026-03-02\ndomains: [medecin.mssante.example, medecin.example]\n"
PROFILES = """\
profiles:
  - id: dr-lefevre
    rpps: 99700000013
    finess: 017777772
    lis_codes: [0412, NO]
    deliver:
      - via: mssante
        to: anne.lefevre@medecin.mssante.example
        formats: [cda, pdf]
"""
BASE = {
    "dlx.yaml": STATION,
    "channels.d/a.yaml": CHANNELS,
    "lists.d/mssante.yaml": LIST,
    "profiles.d/a.yaml": PROFILES,
}

Loader = Callable[..., Settings]


@pytest.fixture
def written(tmp_path: Path) -> Loader:
    def run(changes: dict[str, str] | None = None) -> Settings:
        folder = tmp_path / "etc/dlx"
        for name, text in {**BASE, **(changes or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text.encode())
        return load(folder, connectors=CONNECTORS, formats=FORMATS, prefix=tmp_path)

    return run


def refused(run: Loader, changes: dict[str, str]) -> tuple[ConfigProblem, ...]:
    with pytest.raises(ConfigError) as caught:
        run(changes)
    return tuple(p for p in caught.value.problems if p.severity == "error")


def places(problems: tuple[ConfigProblem, ...]) -> list[tuple[str, int, int, str]]:
    return [(p.file, p.line, p.column, p.code) for p in problems]


def test_four_mistakes_give_four_messages_with_exact_places(written: Loader) -> None:
    bad = """\
profiles:
  - id: dr-lefevre
    rpps: 1000123456
    deliver:
      - via: mssant
        formats: pdf
      - via: mssante
        too: anne.lefevre@medecin.mssante.example
    billing: {daily_at: 25:30, via: mssante}
"""
    problems = refused(written, {"profiles.d/a.yaml": bad})
    assert places(problems) == [
        ("profiles.d/a.yaml", 3, 11, "C021"),
        ("profiles.d/a.yaml", 5, 14, "C011"),
        ("profiles.d/a.yaml", 8, 9, "C012"),
        ("profiles.d/a.yaml", 9, 25, "C041"),
    ]
    assert problems[0].message == "numéro RPPS « 1000123456 » : 10 chiffres au lieu de 11"
    assert problems[1].message == (
        "canal « mssant » inconnu ; voulez-vous dire « mssante » (channels.d/a.yaml:2:3) ?"
    )
    assert problems[3].message == "heure « 25:30 » : attendu HH:MM, de 00:00 à 23:59"


def test_block_shows_line_carets_cure_context_and_help(written: Loader) -> None:
    bad = PROFILES.replace("        to:", "        too:")
    (problem,) = refused(written, {"profiles.d/a.yaml": bad})
    assert format_problem(problem).split("\n") == [
        "profiles.d/a.yaml:8:9: error[C012]: clé « too » inconnue dans « deliver »",
        "  |",
        "8 |         too: anne.lefevre@medecin.mssante.example",
        "  |         ^^^ clé inconnue",
        "  = pour réparer : voulez-vous dire « to » ? Clés possibles : via, to, formats, when,"
        " options, certificate",
        "  = contexte : fiche dr-lefevre (profiles[0].deliver[0])",
    ]


def test_unquoted_numbers_words_and_times_read_back_as_the_same_characters(written: Loader) -> None:
    book = written().book
    profile = book.profiles["dr-lefevre"]
    assert profile.rpps == "99700000013"
    assert profile.finess == "017777772"
    assert profile.lis_codes == ("0412", "NO")
    billing = PROFILES + "    billing: {daily_at: 18:30, via: clinique-tilleuls}\n"
    assert written({"profiles.d/a.yaml": billing}).warnings


def test_shipped_example_is_accepted_without_a_warning(tmp_path: Path) -> None:
    from dlx import registry

    settings = load(
        REPOSITORY / "config",
        connectors=registry.connectors(),
        formats=registry.formats(),
        prefix=tmp_path,
    )
    assert settings.warnings == ()


def _examples() -> dict[str, str]:
    sheet = REPOSITORY.parent / "shared/specs/operator-ux.md"
    if not sheet.exists():
        pytest.skip("the shared corpus is not beside the repository")
    found = re.findall(r"```yaml\n# etc/dlx/(\S+)\n(.*?)```", sheet.read_text(), re.DOTALL)
    return dict(found)


def test_every_example_of_the_operator_sheet_is_accepted(written: Loader) -> None:
    examples = _examples()
    assert len(examples) == 5
    more = {
        "channels.d/a.yaml": "channels:\n  portal: {type: portal}\n  hprimnet: {type: hprim-net}\n",
        "lists.d/apicrypt.yaml": "domains: medical.apicrypt.example\n",
        "profiles.d/a.yaml": "profiles:\n  - {id: dr-morel, rpps: 99700000021, deliver:"
        " [{via: portal, formats: pdf}]}\n",
    }
    patient = "\npatient: {deliver: {via: portal}}\n"
    settings = written({**examples, **more, "dlx.yaml": examples["dlx.yaml"] + patient})
    assert settings.book.profiles["dr-lefevre"].lis_codes == ("LEFA", "0412")
    assert len(settings.book.policies) == 7
    assert {w.code for w in settings.warnings} <= {"C103", "C106", "C107"}


@pytest.mark.parametrize(
    ("changed", "file", "code", "place"),
    [
        (CHANNELS.replace("smime-mail", "mail"), "channels.d/a.yaml", "C001", (3, 11)),
        (CHANNELS.replace("type: sftp", "type: sfpt"), "channels.d/a.yaml", "C018", (12, 11)),
        (CHANNELS.replace("smime: off", "smime: of"), "channels.d/a.yaml", "C015", (8, 12)),
        (CHANNELS.replace("    user: dlx\n", ""), "channels.d/a.yaml", "C013", (11, 3)),
        (CHANNELS.replace("user:", "usr:"), "channels.d/a.yaml", "C012", (14, 5)),
        (CHANNELS.replace("key:sftp", "env:SFTP"), "channels.d/a.yaml", "C062", (16, 15)),
        (CHANNELS.replace("key:sftp", "key:../x"), "channels.d/a.yaml", "C063", (16, 15)),
        (CHANNELS.replace("_in: mssante", "_in: mssant"), "channels.d/a.yaml", "C020", (7, 20)),
        (PROFILES.replace("cda,", "cdaa,"), "profiles.d/a.yaml", "C010", (9, 19)),
        (PROFILES.replace("medecin.mss", "gmail.mss"), "profiles.d/a.yaml", "C031", (8, 13)),
        (
            PROFILES.replace("anne.", "anne..").replace("..l", "..l"),
            "profiles.d/a.yaml",
            "C032",
            (8, 13),
        ),
        (PROFILES.replace("99700000013", "10001234567"), "profiles.d/a.yaml", "C021", (3, 11)),
        (PROFILES.replace("017777772", "17777772"), "profiles.d/a.yaml", "C022", (4, 13)),
        (
            PROFILES.replace("    rpps", "    rpps: 1\n    rpps"),
            "profiles.d/a.yaml",
            "C006",
            (4, 5),
        ),
        (PROFILES.replace("    rpps", "\t  rpps"), "profiles.d/a.yaml", "C003", (3, 1)),
        (PROFILES.replace("[0412, NO]", "*codes"), "profiles.d/a.yaml", "C002", (5, 16)),
        (PROFILES.replace("0412", "!!int 0412"), "profiles.d/a.yaml", "C004", (5, 17)),
        (PROFILES.replace("mssante\n", "hprimnet\n"), "profiles.d/a.yaml", "C013", (7, 9)),
        (PROFILES.replace("mssante\n", "portal\n"), "profiles.d/a.yaml", "C016", (8, 13)),
        (STATION.replace("sil,", "SIL,"), "dlx.yaml", "C047", (3, 12)),
        (STATION + "limits: {workers: 0}\n", "dlx.yaml", "C046", (4, 19)),
        (STATION + "retention: {audit: 10 years}\n", "dlx.yaml", "C043", (4, 20)),
        (STATION.replace("in}", "in, ready_when: {}}"), "dlx.yaml", "C019", (3, 58)),
    ],
)
def test_each_mistake_is_told_at_its_place(
    written: Loader, changed: str, file: str, code: str, place: tuple[int, int]
) -> None:
    problems = refused(written, {file: changed})
    assert (file, *place, code) in places(problems), problems


def test_same_lis_code_twice_names_the_first_place(written: Loader) -> None:
    other = "profiles:\n  - id: dr-morel\n    lis_codes: [MORP, 0412]\n    deliver: {via: portal}\n"
    (problem,) = refused(written, {"profiles.d/b.yaml": other})
    assert (problem.line, problem.column, problem.code) == (3, 23, "C052")
    assert "déjà donné à dr-lefevre (profiles.d/a.yaml:5:17)" in problem.message


def test_alias_bombs_and_deep_nests_are_refused_at_once(written: Loader) -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n"
    for one, two in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{two}: &{two} [{','.join([f'*{one}'] * 9)}]\n"
    began = time.monotonic()
    assert "C005" in {p.code for p in refused(written, {"policies.yaml": bomb})}
    assert time.monotonic() - began < 2
    deep = "policies: " + "[" * 60 + "]" * 60
    assert "C005" in {p.code for p in refused(written, {"policies.yaml": deep})}


@pytest.mark.parametrize(
    "line",
    [
        "    password: hunter2-canary",
        "    note: smtps://dlx:hunter2-canary@relais.example",
        "    identity2: -----BEGIN PRIVATE KEY-----hunter2-canary",
    ],
)
def test_secret_in_yaml_is_refused_and_never_shown(written: Loader, line: str) -> None:
    text = CHANNELS + line + "\n"
    problems = refused(written, {"channels.d/a.yaml": text})
    assert "C061" in {p.code for p in problems}
    assert all("hunter2" not in format_problem(p) for p in problems)


def test_contradicting_policies_are_found_unless_they_cannot_meet(written: Loader) -> None:
    policies = (
        "policies:\n"
        "  - {name: a, when: {report.critical: yes}, delay: 1h}\n"
        "  - {name: b, when: {report.urgent: yes}, delay: 2h}\n"
    )
    (problem,) = refused(written, {"policies.yaml": policies})
    assert (problem.line, problem.code) == (3, "C056")
    written({"policies.yaml": policies.replace("report.urgent: yes", "report.critical: no")})


def test_format_and_connector_options_reach_the_rule(written: Loader) -> None:
    item = "      - {via: clinique-tilleuls, formats: hprim, encoding: utf-8}\n"
    rule = written({"profiles.d/a.yaml": PROFILES + item}).book.profiles["dr-lefevre"].deliver[1]
    assert rule.format_options == {"hprim": {"encoding": "utf-8"}}
    assert rule.formats == ("hprim",)
    assert rule.place == "profiles.d/a.yaml:10:9"


def test_keys_are_found_with_and_without_pem(written: Loader, tmp_path: Path) -> None:
    keys = tmp_path / "etc/dlx/keys"
    keys.mkdir(parents=True)
    (keys / "labo-smime.pem").write_bytes(b"x")
    settings = written()
    assert settings.channels["mssante"].connector.identity.path == keys / "labo-smime.pem"
    assert settings.channels["clinique-tilleuls"].connector.identity.path == keys / "sftp"


def test_connectors_are_asked_about_each_route(written: Loader) -> None:
    forbidden = PROFILES.replace("to: anne", "to: interdit")
    settings = written({"profiles.d/a.yaml": forbidden})
    mail = FakeMail(settings.channels["mssante"].connector)
    (problem,) = check_routes(settings, {"mssante": mail})
    assert (problem.file, problem.line, problem.column) == ("profiles.d/a.yaml", 7, 9)
    assert problem.message == "adresse interdite"


def test_hash_changes_with_any_character_and_only_then(written: Loader) -> None:
    first = written().hash
    assert written().hash == first
    assert written({"profiles.d/a.yaml": PROFILES + "# note\n"}).hash != first


def test_missing_station_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, connectors=CONNECTORS, formats=FORMATS, prefix=tmp_path)
    assert places(caught.value.problems) == [("dlx.yaml", 1, 1, "C009")]


def test_misnamed_file_is_told_and_not_obeyed(written: Loader) -> None:
    warnings = written({"policy.yaml": "policies: []\n"}).warnings
    assert [(w.file, w.code) for w in warnings if w.code == "C107"] == [("policy.yaml", "C107")]


def test_random_edits_are_refused_in_the_right_file_or_read(written: Loader) -> None:
    chance = random.Random(20260309)
    alphabet = "abz019:-{}[],'\"&*!|>#\n\té \x00"
    for _ in range(200):
        at = chance.randrange(len(PROFILES))
        new = chance.choice(alphabet)
        edited = chance.choice(
            [
                PROFILES[:at] + new + PROFILES[at + 1 :],
                PROFILES[:at] + new + PROFILES[at:],
                PROFILES[:at] + PROFILES[at + 1 :],
            ]
        )
        try:
            written({"profiles.d/a.yaml": edited})
        except ConfigError as error:
            wrong = [p for p in error.problems if p.severity == "error"]
            assert {p.file for p in wrong} == {"profiles.d/a.yaml"}
            assert all(1 <= p.line <= edited.count("\n") + 1 for p in wrong)
            assert all(format_problem(p) for p in wrong)


def test_five_thousand_profiles_load_within_three_seconds(written: Loader) -> None:
    def profile(n: int) -> str:
        return (
            f"  - id: dr-{n:05d}\n"
            f"    name: {{family: F{n}-TEST, given: Anne, title: Dr}}\n"
            f"    rpps: 9971{n:07d}\n"
            f"    lis_codes: [L{n}, 0{n}X]\n"
            f"    deliver:\n"
            f"      - {{via: mssante, to: dr{n}@medecin.example, formats: [cda, pdf]}}\n"
            f"      - {{via: portal, formats: pdf}}\n"
            f"    partial: hold-until-final\n"
        )

    files = {
        f"profiles.d/many-{part}.yaml": "profiles:\n"
        + "".join(profile(n) for n in range(part * 1000, part * 1000 + 1000))
        for part in range(5)
    }
    began = time.process_time()
    settings = written(files)
    assert len(settings.book.profiles) == 5001
    assert time.process_time() - began < 3
