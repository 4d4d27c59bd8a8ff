"""``dlx test``: do the rules do what the operator says they do?"""

from __future__ import annotations

from datetime import UTC, datetime

import click

from dlx.cli.output import Output


@click.command(epilog="\b\nExemples\n  dlx test\n  dlx test --json")
@click.pass_obj
def test(out: Output) -> int:
    """Joue les essais de routage de tests/*.yaml ; sort en 1 si l'un échoue."""
    from dlx import daemon
    from dlx.rehearsing import rehearse

    settings = daemon.read_settings(daemon.Place(prefix=out.root, folder=out.folder))
    results = rehearse(settings.tests, settings.book, datetime.now(UTC))
    failed = [r for r in results if r.problems]
    if out.as_json:
        out.records(
            {"name": r.name, "place": r.place, "passed": not r.problems, "problems": r.problems}
            for r in results
        )
    else:
        for result in failed:
            out.line(f"{result.place}: échec de « {result.name} »")
            for problem in result.problems:
                out.line(f"    {problem}")
        out.line(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0
