"""What people type, read and meet has its place in the documentation, and the other way round."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest

from dlx import cli, registry
from dlx.cli import COMMANDS
from dlx.delivery import LETTERS, MOVES, NoticeKind, State
from dlx.routing.matching import _COMMAND_OPTIONS
from dlx.settings import load

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
OPERATING = (DOCS / "operating.md").read_text()
PAGES = sorted(
    path
    for path in (*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/README.md"), *DOCS.rglob("*.md"))
    if ".venv" not in path.parts
)


def section(text: str, title: str) -> str:
    """What stands below a heading, up to the next one of its level."""
    level, _, _ = title.partition(" ")
    _, found, rest = text.partition(f"\n{title}\n")
    assert found, title
    return re.split(rf"(?m)^#{{2,{len(level)}}} ", rest)[0]


def first_cells(table: str) -> list[str]:
    """The first column of the tables in a text, without their headings."""
    rows = [line for line in table.splitlines() if line.startswith("|")]
    return [row.split("|")[1].strip() for row in rows if "---" not in row][1:]


# --- commands and exit codes -------------------------------------------------------------------


def documented_words() -> set[str]:
    cells = first_cells(section(OPERATING, "## Commands").split("###")[0])
    return {word for cell in cells for word in re.findall(r"`dlx (\w+)", cell)}


def test_every_command_has_its_row_and_every_row_its_command() -> None:
    assert documented_words() == set(COMMANDS)


def test_every_command_exists() -> None:
    for word in COMMANDS:
        assert cli.cli.get_command(None, word) is not None, word


def test_every_command_named_in_a_page_exists() -> None:
    named: dict[str, str] = {}
    for page in PAGES:
        for word in re.findall(r"(?:`|&& |^)dlx ([a-z]+)\b", page.read_text(), re.MULTILINE):
            named.setdefault(word, page.name)
    assert {word: page for word, page in named.items() if word not in {*COMMANDS, "help"}} == {}


def test_every_subcommand_is_named_in_the_manual() -> None:
    table = section(OPERATING, "## Commands")
    for word in COMMANDS:
        command = cli.cli.get_command(None, word)
        for name in getattr(command, "commands", {}):
            assert re.search(rf"\b{name}\b", table), f"dlx {word} {name}"


def test_every_exit_code_has_its_row_and_every_row_its_code() -> None:
    codes = {value for name, value in vars(cli).items() if name.startswith("EXIT_")}
    told = {int(cell) for cell in first_cells(section(OPERATING, "## Exit codes"))}
    assert told == codes | {0, 130}


def test_help_names_the_exit_codes_of_the_manual() -> None:
    said = cli.EPILOG.partition("Codes de sortie")[2].replace("\n", " ")
    shown = {int(code) for code in re.findall(r"(?:^|[:·])\s*(\d+) ", said)}
    told = {int(cell) for cell in first_cells(section(OPERATING, "## Exit codes"))}
    assert shown == told - {130}


# --- states, notices, codes --------------------------------------------------------------------


def test_every_state_has_its_row_and_its_letter() -> None:
    rows = re.findall(r"(?m)^\| `(.)` \| `(\w+)` \|", section(OPERATING, "## States of a delivery"))
    assert {state: letter for letter, state in rows} == {s.value: LETTERS[s] for s in State}


def test_moves_of_the_architecture_are_those_of_the_code() -> None:
    text = section((DOCS / "architecture.md").read_text(), "## States")
    told: dict[str, set[str]] = {}
    for start, end in re.findall(r"(?m)^\| (`.*?) \| (.*) \|$", text):
        for state in re.findall(r"`(\w+)`", start):
            told[state] = set(re.findall(r"`(\w+)`", end))
    assert told == {s.value: {to.value for to in ends} for s, ends in MOVES.items()}


def test_every_kind_of_notice_says_what_to_type() -> None:
    rows = section(OPERATING, "## Notices")
    cells = [cell.strip("`") for cell in first_cells(rows)]
    assert sorted(cells) == sorted(kind.value for kind in NoticeKind)
    for line in rows.splitlines():
        if line.startswith("| `"):
            assert "`dlx " in line, line


def test_every_reason_to_reject_a_file_is_listed() -> None:
    """Codes that the station itself gives; those of a format stand on its page."""
    used = set()
    for module in ("intake/__init__.py", "intake/planning.py", "spool.py", "worker.py"):
        tree = ast.parse((REPOSITORY / "dlx" / module).read_text())
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = getattr(call.func, "id", "")
            values = [k.value for k in call.keywords if k.arg == "code"]
            values += call.args[:1] if name == "Unfit" else []
            if name in ("Finding", "Unfit"):
                used |= {v.value for v in values if isinstance(v, ast.Constant)}
    assert {"two_patients", "too_large", "unstable", "internal"} <= used  # the search itself works
    assert {code for code in used if not re.search(rf"\b{code}\b", OPERATING)} <= {"forgotten"}


# --- formats and connectors --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "known"),
    [("formats", registry.formats), ("connectors", registry.connectors)],
    ids=["formats", "connectors"],
)
def test_every_plug_in_has_its_page_and_every_page_its_plug_in(
    folder: str, known: Callable[[], Mapping[str, object]]
) -> None:
    assert {page.stem for page in (DOCS / folder).glob("*.md")} == set(known())


@pytest.mark.parametrize("name", sorted(registry.formats()))
def test_every_option_of_a_format_is_on_its_page(name: str) -> None:
    chosen = registry.formats()[name]
    page = (DOCS / "formats" / f"{name}.md").read_text()
    assert {o for o in {**chosen.options, **chosen.reading} if f"`{o}`" not in page} == set()


@pytest.mark.parametrize("name", sorted(registry.connectors()))
def test_every_setting_of_a_connector_is_on_its_page(name: str) -> None:
    page = (DOCS / "connectors" / f"{name}.md").read_text()
    fields = registry.connectors()[name].Settings.__dataclass_fields__
    assert {f for f in fields if not re.search(rf"\b{f}\b", page)} == set()


# --- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_files_named_in_a_page_exist(page: Path) -> None:
    tops = "dlx|formats|connectors|docs|systemd|config|spool|tests|tools"
    for name in re.findall(rf"`((?:{tops})/[\w./*-]+)`", page.read_text()):
        if "x" in re.split(r"[/._]", name):  # formats/x.py is the contributor's
            continue
        # tests/*.yaml of the configuration lies in config/
        assert any(list(top.glob(name)) for top in (REPOSITORY, REPOSITORY / "config")), name


def test_first_profile_of_the_readme_passes_the_check(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```yaml\n# essai/etc/dlx/(\S+)\n(.*?)```",
        (REPOSITORY / "README.md").read_text(),
        re.DOTALL,
    )
    assert [name for name, _ in blocks] == ["profiles.d/cabinet-marronniers.yaml"]
    for source in (REPOSITORY / "config").rglob("*.yaml"):
        target = tmp_path / source.relative_to(REPOSITORY / "config")
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(source.read_bytes())
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    settings = load(
        tmp_path, connectors=registry.connectors(), formats=registry.formats(), prefix=tmp_path
    )
    assert [rule.formats for rule in settings.book.profiles["dr-girard"].deliver] == [
        ("hprim", "pdf")
    ]
    assert {problem.code for problem in settings.warnings} <= {"C103"}, settings.warnings


# --- what notices tell people to type ----------------------------------------------------------


def suggested_commands() -> list[tuple[str, str]]:
    """(file:line, text) of every ``command=`` and ``cure=`` that holds a command of ours."""
    found = []
    for path in (REPOSITORY / "dlx").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            for keyword in call.keywords if isinstance(call, ast.Call) else ():
                if keyword.arg in ("command", "cure"):
                    place = f"{path.relative_to(REPOSITORY)}:{keyword.value.lineno}"
                    found += [(place, text) for text in texts_of(keyword.value) if "dlx " in text]
    return found


def texts_of(value: ast.expr) -> list[str]:
    """The strings in an expression, each placeholder as one word, ``{options}`` as none."""
    if isinstance(value, ast.JoinedStr):
        return ["".join(part_of(part) for part in value.values)]
    if isinstance(value, ast.Constant):
        return [value.value] if isinstance(value.value, str) else []
    return [text for child in ast.iter_child_nodes(value) for text in texts_of(child)]


def part_of(part: ast.expr) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    name = getattr(getattr(part, "value", None), "id", "")
    return "" if name == "options" else "X1"


def mistyped(line: str) -> str:
    """Why the command line does not accept this, or ""."""
    words = shlex.split(line)
    context = click.Context(cli.cli)
    command: click.Command | None = cli.cli
    while isinstance(command, click.Group) and words:
        command = command.get_command(context, words.pop(0))
    if command is None:
        return "no such command"
    try:
        command.make_context("dlx", words, parent=context)
    except click.UsageError as error:
        return error.format_message()
    return ""


def test_commands_that_notices_suggest_can_be_typed() -> None:
    suggested = suggested_commands()
    assert len(suggested) > 10  # the search itself works
    wrong = {}
    for place, text in suggested:
        for line in re.findall(r"dlx ([a-z][^,;(«]*)", text):
            problem = mistyped(line.strip())
            if problem:
                wrong[place] = f"dlx {line.strip()}: {problem}"
    assert wrong == {}


def test_options_suggested_for_an_unknown_prescriber_exist() -> None:
    new = cli.cli.get_command(click.Context(cli.cli), "profile").commands["new"]
    known = {option for parameter in new.params for option in parameter.opts}
    assert set(_COMMAND_OPTIONS.values()) <= known
