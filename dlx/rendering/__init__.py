"""Bytes to reports and reports to bytes: pure rules, and the worker process that runs them.

The station never parses hostile bytes itself. ``pure`` holds the rules, ``wire`` the messages,
``client`` the station's end of the line; the worker's end is ``dlx.worker``.
"""

from dlx.rendering.client import RenderFailure, RenderPool, RenderUnavailable, WorkerCommand
from dlx.rendering.pure import content_key_of, parse_file, renditions_for
from dlx.rendering.wire import (
    FileToParse,
    Finding,
    Made,
    ParsedFile,
    ParsedReport,
    ReportToRender,
    Wish,
)

__all__ = [
    "FileToParse",
    "Finding",
    "Made",
    "ParsedFile",
    "ParsedReport",
    "RenderFailure",
    "RenderPool",
    "RenderUnavailable",
    "ReportToRender",
    "Wish",
    "WorkerCommand",
    "content_key_of",
    "parse_file",
    "renditions_for",
]
