"""``python -m bench [STAGE…] [--quick|--full] [--json FILE]``: ratios against references."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from bench._measure import environment

STAGES = (
    "hl7",
    "hprim",
    "pdf",
    "smime",
    "smtp",
    "sftp",
    "ledger",
    "pipeline",
    "latency",
    "line",
    "memory",
    "kills",
)


def main() -> int:
    """Run the stages, print one JSON object a line; 1 when a quiet figure is below its gate."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("stages", nargs="*", help=f"among {', '.join(STAGES)} (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", default=True, help="under 90 s a stage")
    size.add_argument("--full", action="store_true", help="the sizes of the published figures")
    parser.add_argument("--json", type=Path, help="also write all rows to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.stages) - set(STAGES)
    if unknown:
        parser.error(f"unknown stage: {', '.join(sorted(unknown))}")
    rows = []
    for name in arguments.stages or STAGES:
        for row in importlib.import_module(f"bench.{name}").run(not arguments.full):
            rows.append(row)
            print(json.dumps(row), flush=True)
    if arguments.json:
        document = {"env": environment(), "rows": rows}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    failed = [row["stage"] for row in rows if row.get("pass") is False]
    if failed:
        print(f"below their gate: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
