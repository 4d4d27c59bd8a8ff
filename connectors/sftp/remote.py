"""Small questions about files over there, and the answers an upload needs."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.sftp.wire import BLOCK_BYTES, Flag, SftpRefusal, Status, Wire

RESUME_BYTES = 1_000_000
"""Below this size a broken upload starts over."""
_COMPARED_BYTES = 65_536


def joined(folder: str, name: str) -> str:
    """``folder/name``; either may be empty."""
    return f"{folder.rstrip('/')}/{name}" if folder and name else folder or name


def size_or_none(wire: Wire, ticket: int, *, missing: int | None = None) -> int | None:
    """Size of a STAT's answer; ``missing`` when there is no such file; 0 when it is kept quiet."""
    try:
        return wire.attributes(ticket).size_bytes or 0
    except SftpRefusal as refusal:
        if refusal.status == Status.NO_SUCH_FILE:
            return missing
        raise


def same_content(wire: Wire, path: str, size: int | None, content: bytes, *, trusted: bool) -> bool:
    """True when the remote file holds exactly our bytes (beyond 1 MB: its two ends do).

    ``trusted``: the name is this delivery's alone, so its size is enough where reading is denied.
    """
    if size != len(content):
        return False
    if not content:
        return True
    try:
        handle = wire.handle(wire.ask_open(path, Flag.READ))
    except SftpRefusal:
        return trusted
    ranges = [(0, size)]
    if size > RESUME_BYTES:
        ranges = [(0, _COMPARED_BYTES), (size - _COMPARED_BYTES, size)]
    same = all(_read(wire, handle, start, end) == content[start:end] for start, end in ranges)
    wire.done(wire.ask_close(handle))
    return same


def same_tail(wire: Wire, path: str, size: int, content: bytes) -> bool:
    """True when the last 64 kB of a remote file of ``size`` bytes are ours at that place."""
    try:
        handle = wire.handle(wire.ask_open(path, Flag.READ))
    except SftpRefusal:
        return False
    start = max(0, size - _COMPARED_BYTES)
    same = _read(wire, handle, start, size) == content[start:size]
    wire.done(wire.ask_close(handle))
    return same


def _read(wire: Wire, handle: bytes, start: int, end: int) -> bytes:
    data = bytearray()
    while start + len(data) < end:
        offset = start + len(data)
        came = wire.data(wire.ask_read(handle, offset, min(BLOCK_BYTES, end - offset)))
        if not came:
            break
        data += came
    return bytes(data)


def opened(wire: Wire, ticket: int) -> tuple[bytes | None, SftpRefusal | None]:
    """The handle of an OPEN, or the refusal."""
    try:
        return wire.handle(ticket), None
    except SftpRefusal as refusal:
        return None, refusal


def renamed(wire: Wire, old: str, new: str, *, posix: bool) -> int | None:
    """Rename and look, in one round trip; the size found, None when it is gone already."""
    ask = wire.ask_posix_rename if posix else wire.ask_rename
    renaming, look = ask(old, new), wire.ask_stat(new)
    try:
        wire.done(renaming)
    except SftpRefusal:
        wire.settle()
        raise
    return size_or_none(wire, look)


def remove_all(wire: Wire, paths: Sequence[str]) -> None:
    """Remove files that may already be gone."""
    for ticket in [wire.ask_remove(path) for path in paths]:
        try:
            wire.done(ticket)
        except SftpRefusal:
            continue  # not there, or not ours to remove: the next attempt looks again
