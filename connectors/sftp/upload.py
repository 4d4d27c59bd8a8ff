"""The upload of one delivery: look, write aside, (commit), rename, look again.

    look ─▶ write temporary files, fsync, size ─▶ [committing] ─▶ rename ─▶ size ─▶ markers

Several requests travel together: a new small file costs two round trips before ``committing`` and
one after. Everything here blocks and runs in the thread of its session.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from connectors._naming import NamedFile, unique_name
from connectors.sftp.failures import (
    DENIED,
    FULL,
    denied,
    disk_full,
    in_doubt,
    looked_gone,
    name_taken,
    no_directory,
    no_fsync,
    refused,
    wrong_size,
)
from connectors.sftp.remote import (
    RESUME_BYTES,
    joined,
    opened,
    remove_all,
    renamed,
    same_content,
    same_tail,
    size_or_none,
)
from connectors.sftp.settings import SftpSettings
from connectors.sftp.wire import (
    BLOCK_BYTES,
    FSYNC,
    POSIX_RENAME,
    STATVFS,
    Broken,
    Flag,
    SftpRefusal,
    Status,
    Wire,
)
from dlx.delivery import Delivery
from dlx.errors import DeliveryError, PermanentFailure

_WRITES_IN_FLIGHT = 32
_SPARE_BYTES = 65_536


@dataclass(slots=True)
class _Item:
    """One file on its way.

    Attributes:
        part: where it is written. final: where it is read; the same where nothing is renamed.
        here: an earlier attempt has already brought it.
        written: ``part`` is of our making, so ours to remove.
    """

    final: str
    part: str
    content: bytes
    here: bool = False
    written: bool = False


class Upload:
    """One delivery on its way to one server.

    Call ``prepare``; await ``committing``; then ``finish``, or ``discard`` when it raised. Each may
    run on another session than the one before: only names tie them together.
    """

    def __init__(
        self, settings: SftpSettings, delivery: Delivery, files: Sequence[NamedFile]
    ) -> None:
        self._settings = settings
        self._delivery = delivery
        self._folder = joined(settings.directory, delivery.address.strip("/"))
        self._items = [self._item(joined(self._folder, f.name), f.content) for f in files]
        self._markers: list[_Item] = []
        self._vanished = False

    @property
    def remote_id(self) -> str:
        """Final path of the first file; settled once ``prepare`` has returned."""
        return self._items[0].final

    def prepare(self, wire: Wire) -> None:
        """Write what is not there yet under temporary names, all or none.

        Raises TemporaryFailure, PermanentFailure; nothing is visible then. Broken passes.
        """
        if self._settings.fsync == "require" and FSYNC not in wire.extensions:
            raise no_fsync(self._settings.host)
        try:
            for item in self._items:
                self._prepare(wire, item)
            if self._settings.marks:
                self._markers = [self._marker_of(item) for item in self._items]
            for marker in self._markers if self._settings.renames else ():
                self._prepare(wire, marker)
        except SftpRefusal as refusal:
            failure = self._failure_of(wire, refusal)
            self.discard(wire)
            raise failure from refusal
        except DeliveryError:
            self.discard(wire)
            raise
        self._vanished = (
            self._settings.reader_removes
            and self._delivery.doubts > 0
            and any(not item.here for item in self._items)
        )

    def finish(self, wire: Wire) -> None:
        """Give the files their names, then the markers theirs. Raises as ``Connector.deliver``."""
        if self._vanished:
            self.discard(wire)
            raise looked_gone()
        done: list[_Item] = []
        try:
            for item in [*self._items, *self._markers]:
                if not item.here:
                    self._reveal(wire, item)
                    done.append(item)
        except SftpRefusal as refusal:
            failure: DeliveryError = self._failure_of(wire, refusal)
            self._take_back(wire, done)
            raise failure from refusal
        except PermanentFailure:
            self._take_back(wire, done)
            raise

    def discard(self, wire: Wire) -> None:
        """Remove what we wrote and nobody was given. Raises Broken."""
        remove_all(wire, [i.part for i in (*self._items, *self._markers) if i.written])

    # — names —

    def _item(self, final: str, content: bytes) -> _Item:
        folder, _, name = final.rpartition("/")
        own = unique_name(name, self._delivery)
        word = self._settings.temporary_word
        if not self._settings.renames:
            part = final
        elif self._settings.temporary == "dir":
            part = joined(word, own)
        elif self._settings.temporary == "prefix":
            part = joined(folder, word + own)
        else:
            part = joined(folder, own + word)
        return _Item(final=final, part=part, content=content)

    def _marker_of(self, item: _Item) -> _Item:
        content = b""
        if self._settings.marker_content == "sum":
            name = item.final.rpartition("/")[2]
            digest = hashlib.sha256(item.content).hexdigest()
            content = f"{name};{len(item.content)};{digest}\n".encode("ascii")
        return self._item(item.final + self._settings.marker, content)

    def _unique(self, item: _Item) -> str:
        folder, _, name = item.final.rpartition("/")
        return joined(folder, unique_name(name, self._delivery))

    # — before committing —

    def _prepare(self, wire: Wire, item: _Item) -> None:
        """Look at the final name and, in the same round trip, open the temporary one."""
        names = [item.final]
        if self._settings.overwrite == "unique" and self._unique(item) != item.final:
            names.append(self._unique(item))  # where an earlier attempt may have put it
        looks = [wire.ask_stat(name) for name in names]
        opening = wire.ask_open(item.part, Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE)
        sizes = [size_or_none(wire, look) for look in looks]
        handle, refusal = opened(wire, opening)
        item.written = handle is not None
        for name, size in zip(names, sizes, strict=True):
            if same_content(wire, name, size, item.content, trusted=self._delivery.id in name):
                item.final, item.here = name, True
                self._drop_part(wire, item, handle)
                return
        try:
            self._choose_name(wire, item, names, sizes)
        except DeliveryError:
            if handle is not None:
                wire.done(wire.ask_close(handle))
            raise
        start = 0
        if handle is None:
            if refusal is None or refusal.status not in (
                Status.FAILURE,
                Status.FILE_ALREADY_EXISTS,
            ):
                raise refusal or Broken("no answer to OPEN")
            handle, start = self._reopened(wire, item, refusal)
            item.written = True
        self._write(wire, item, handle, start)

    def _choose_name(
        self, wire: Wire, item: _Item, names: Sequence[str], sizes: Sequence[int | None]
    ) -> None:
        """Apply ``overwrite:`` when the final name holds something else."""
        if sizes[0] is None or self._settings.overwrite == "replace":
            return
        if not self._settings.renames and self._is_unfinished(wire, item):
            return
        if self._settings.overwrite == "unique" and sizes[-1] is None and len(names) > 1:
            item.final = names[-1]
            if self._settings.renames:
                return
        raise name_taken(item.final)

    def _is_unfinished(self, wire: Wire, item: _Item) -> bool:
        """Our own half-written file, where files are written under their final name."""
        if self._delivery.id not in item.final:
            return False
        return size_or_none(wire, wire.ask_stat(item.final + self._settings.marker)) is None

    def _drop_part(self, wire: Wire, item: _Item, handle: bytes | None) -> None:
        """The file is in place: what an interrupted attempt left beside it goes."""
        if handle is not None:
            wire.done(wire.ask_close(handle))
        if self._settings.renames:
            remove_all(wire, [item.part])
        item.written = False

    def _reopened(self, wire: Wire, item: _Item, refusal: SftpRefusal) -> tuple[bytes, int]:
        """Open a temporary file that is there already: go on where it ends, or start over."""
        size = size_or_none(wire, wire.ask_stat(item.part))
        if size is None:
            raise refusal  # not there after all: the refusal means something else
        if RESUME_BYTES < size <= len(item.content) and same_tail(
            wire, item.part, size, item.content
        ):
            return wire.handle(wire.ask_open(item.part, Flag.WRITE)), size
        wire.done(wire.ask_remove(item.part))
        flags = Flag.WRITE | Flag.CREATE | Flag.EXCLUSIVE
        return wire.handle(wire.ask_open(item.part, flags)), 0

    def _write(self, wire: Wire, item: _Item, handle: bytes, start: int) -> None:
        """Write from ``start``, flush, check the size, close."""
        content = memoryview(item.content)
        window: deque[int] = deque()
        closing = 0
        try:
            for offset in range(start, len(content), BLOCK_BYTES):
                if len(window) >= _WRITES_IN_FLIGHT:
                    wire.done(window.popleft())
                block = content[offset : offset + BLOCK_BYTES]
                window.append(wire.ask_write(handle, offset, block))
            if self._settings.file_mode is not None:
                window.append(wire.ask_mode(handle, self._settings.file_mode))
            flush = wire.ask_fsync(handle) if self._flushes(wire) else 0
            look = wire.ask_fstat(handle)
            closing = wire.ask_close(handle)
            for ticket in window:
                wire.done(ticket)
            if flush:
                self._flushed(wire, flush)
            size = wire.attributes(look).size_bytes
            wire.done(closing)
        except (SftpRefusal, DeliveryError):
            if not closing:
                wire.ask_close(handle)
            wire.settle()
            raise
        if size != len(content):
            raise wrong_size(self._settings.host)

    def _flushes(self, wire: Wire) -> bool:
        return self._settings.fsync != "off" and FSYNC in wire.extensions

    def _flushed(self, wire: Wire, ticket: int) -> None:
        try:
            wire.done(ticket)
        except SftpRefusal as refusal:
            if self._settings.fsync == "require" or refusal.status != Status.OP_UNSUPPORTED:
                raise

    # — after committing —

    def _reveal(self, wire: Wire, item: _Item) -> None:
        """Give one file its final name; never over another's, unless told to replace."""
        if not self._settings.renames:
            if item in self._markers:
                self._prepare(wire, item)
            return
        replaces = self._settings.overwrite == "replace"
        posix = POSIX_RENAME in wire.extensions
        try:
            # posix-rename replaces whatever is there. Plain rename refuses, which is what we want
            # unless the operator said « replace ».
            size = renamed(wire, item.part, item.final, posix=posix and replaces)
        except SftpRefusal as refusal:
            size = self._renamed_otherwise(wire, item, refusal, posix=posix)
        item.written = False
        # No size: a reader was quicker than our look; the server said yes to the rename.
        if size is not None and size != len(item.content):
            raise in_doubt(self._settings.host, "size", "taille différente après renommage")

    def _renamed_otherwise(
        self, wire: Wire, item: _Item, refusal: SftpRefusal, *, posix: bool
    ) -> int | None:
        """After a refusal: look why, and use the other kind of rename where that is harmless."""
        there = size_or_none(wire, wire.ask_stat(item.final))
        if self._settings.overwrite != "replace":
            if there is not None:
                raise name_taken(item.final) from refusal
            if not posix:
                raise refusal
            return renamed(wire, item.part, item.final, posix=True)
        if posix:
            try:
                return renamed(wire, item.part, item.final, posix=False)
            except SftpRefusal:
                if there is None:
                    raise
        elif there is None:
            raise refusal
        # A server that cannot replace in one step: readers may meet a short gap, never a half file.
        wire.done(wire.ask_remove(item.final))
        return renamed(wire, item.part, item.final, posix=False)

    def _take_back(self, wire: Wire, done: Sequence[_Item]) -> None:
        """All or none: after a refusal for one file, those before it go again."""
        remove_all(wire, [item.final for item in done])
        self.discard(wire)

    def _failure_of(self, wire: Wire, refusal: SftpRefusal) -> DeliveryError:
        """The cause in words, after a look at what the bare status does not tell."""
        base = self._settings.directory or "."
        status, named = refusal.status, self._delivery.address
        if status == Status.NO_SUCH_FILE:
            missing_base = size_or_none(wire, wire.ask_stat(base), missing=-1) == -1
            return no_directory(self._folder, refusal, channel=missing_base or not named)
        if status in DENIED:
            return denied(self._folder, refusal, channel=not named)
        if status in FULL or self._is_full(wire, base):
            return disk_full(self._settings.host, refusal)
        return refused(self._settings.host, refusal)

    def _is_full(self, wire: Wire, base: str) -> bool:
        """True when the server lacks room for this delivery; OpenSSH only says « Failure »."""
        if STATVFS not in wire.extensions:
            return False
        need = sum(len(item.content) for item in self._items)
        try:
            return wire.free_bytes(wire.ask_statvfs(base)) < need + _SPARE_BYTES
        except SftpRefusal:
            return False
