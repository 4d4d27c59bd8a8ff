"""The only module that knows which formats and connectors exist: ours and installed plug-ins.

Importing it costs reportlab, paramiko and cryptography; commands that neither render nor deliver
do not.
"""

from __future__ import annotations

from datetime import datetime
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dlx.contracts import Connector, Format
from dlx.errors import StoreError

if TYPE_CHECKING:
    from connectors.opening import OpenedMail

T = TypeVar("T")


def formats() -> dict[str, Format]:
    """Every format by its word. Raises StoreError when two packages bring the same one."""
    from formats import FORMATS

    return _with_plugins("dlx.formats", FORMATS)


def connectors() -> dict[str, type[Connector]]:
    """Every connector by its ``type:``. Raises StoreError when two packages bring the same one."""
    from connectors import CONNECTORS

    return _with_plugins("dlx.connectors", CONNECTORS)


def open_mail(message: bytes, identity: Path, anchor: Path, now: datetime) -> OpenedMail:
    """Open an S/MIME mail as its recipient; see ``connectors.opening``. Raises ValueError."""
    from connectors.opening import open_mail as opened

    return opened(message, identity, anchor, now)


def _with_plugins(group: str, ours: dict[str, T]) -> dict[str, T]:
    known = dict(ours)
    plugin: EntryPoint
    for plugin in entry_points(group=group):
        if plugin.name in known:
            raise StoreError(f"deux extensions s'appellent « {plugin.name} » ({plugin.value})")
        known[plugin.name] = plugin.load()
    return known
