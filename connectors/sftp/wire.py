"""SFTP version 3 (draft-ietf-secsh-filexfer-02) over an open channel, several requests in flight.

paramiko's own client waits for every answer and offers neither ``fsync@openssh.com`` nor the
server's list of extensions. Here requests are sent ahead and their answers read together: a file
costs three round trips instead of seven. Blocking; one thread at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

POSIX_RENAME = "posix-rename@openssh.com"
FSYNC = "fsync@openssh.com"
STATVFS = "statvfs@openssh.com"

# Every server must take 34,000 bytes a packet (draft §3); 32 kB of data fit.
BLOCK_BYTES = 32_768
# Answers a server may owe us before we read some: bounds its memory and ours.
_IN_FLIGHT = 64
_LARGEST_PACKET = 1 << 20


class Type(IntEnum):
    """Packet types, draft §3."""

    INIT = 1
    VERSION = 2
    OPEN = 3
    CLOSE = 4
    READ = 5
    WRITE = 6
    FSTAT = 8
    FSETSTAT = 10
    OPENDIR = 11
    READDIR = 12
    REMOVE = 13
    STAT = 17
    RENAME = 18
    STATUS = 101
    HANDLE = 102
    DATA = 103
    NAME = 104
    ATTRS = 105
    EXTENDED = 200
    EXTENDED_REPLY = 201


class Status(IntEnum):
    """Status codes, draft §7, and those of later versions that servers send anyway."""

    OK = 0
    EOF = 1
    NO_SUCH_FILE = 2
    PERMISSION_DENIED = 3
    FAILURE = 4
    BAD_MESSAGE = 5
    NO_CONNECTION = 6
    CONNECTION_LOST = 7
    OP_UNSUPPORTED = 8
    FILE_ALREADY_EXISTS = 11
    WRITE_PROTECT = 12
    NO_SPACE = 14
    QUOTA_EXCEEDED = 15


class Flag(IntEnum):
    """Bits of OPEN, draft §6.3."""

    READ = 0x01
    WRITE = 0x02
    CREATE = 0x08
    TRUNCATE = 0x10
    EXCLUSIVE = 0x20


class SftpRefusal(Exception):
    """The server answered, and said no.

    Attributes:
        status: code of draft §7 (an unknown one stays a number). words: the server's text.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status} {words}")
        self.status = status
        self.words = words


class Broken(Exception):
    """The line is cut, silent, or speaks nonsense: nothing more can be said on it.

    ``timed_out`` tells the silent server from the dead one.
    """

    def __init__(self, words: str, *, timed_out: bool = False) -> None:
        super().__init__(words)
        self.words = words
        self.timed_out = timed_out


class Stream(Protocol):
    """What we need of paramiko's Channel."""

    def sendall(self, data: bytes, /) -> None:
        """Send all."""

    def recv(self, count: int, /) -> bytes:
        """Return at most ``count`` bytes; b"" at the end."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Of one remote file: ``size_bytes`` and ``mode``, or None where the server keeps quiet."""

    size_bytes: int | None
    mode: int | None


class Wire:
    """One SFTP session.

    Request methods (``ask_…``) return a ticket; answer methods (``handle``, ``attributes``,
    ``done``, ``data``) send what waits and return the answer of a ticket, in any order. Answers
    raise SftpRefusal; everything raises Broken when the line is lost.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._buffer = bytearray()
        self._unsent = bytearray()
        self._last = 0
        self._answers: dict[int, tuple[int, memoryview]] = {}
        self._owed: set[int] = set()
        self.extensions: Mapping[str, bytes] = self._greet()

    def ask_open(self, path: str, flags: int) -> int:
        """OPEN, without attributes."""
        return self._ask(Type.OPEN, _text(path) + struct.pack(">II", flags, 0))

    def ask_close(self, handle: bytes) -> int:
        """CLOSE."""
        return self._ask(Type.CLOSE, _block(handle))

    def ask_write(self, handle: bytes, offset: int, data: bytes | memoryview) -> int:
        """WRITE at ``offset``; at most BLOCK_BYTES."""
        head = _block(handle) + struct.pack(">QI", offset, len(data))
        return self._ask(Type.WRITE, head + bytes(data))

    def ask_read(self, handle: bytes, offset: int, count: int) -> int:
        """READ at most ``count`` bytes at ``offset``."""
        return self._ask(Type.READ, _block(handle) + struct.pack(">QI", offset, count))

    def ask_stat(self, path: str) -> int:
        """STAT: follows links."""
        return self._ask(Type.STAT, _text(path))

    def ask_fstat(self, handle: bytes) -> int:
        """FSTAT of an open handle."""
        return self._ask(Type.FSTAT, _block(handle))

    def ask_mode(self, handle: bytes, mode: int) -> int:
        """FSETSTAT with permissions only."""
        return self._ask(Type.FSETSTAT, _block(handle) + struct.pack(">II", 0x04, mode))

    def ask_remove(self, path: str) -> int:
        """REMOVE a file."""
        return self._ask(Type.REMOVE, _text(path))

    def ask_rename(self, old: str, new: str) -> int:
        """RENAME: fails when ``new`` exists."""
        return self._ask(Type.RENAME, _text(old) + _text(new))

    def ask_posix_rename(self, old: str, new: str) -> int:
        """Rename that replaces ``new`` in one step (OpenSSH PROTOCOL §4.3)."""
        return self._ask(Type.EXTENDED, _text(POSIX_RENAME) + _text(old) + _text(new))

    def ask_fsync(self, handle: bytes) -> int:
        """Flush an open file to the disk (OpenSSH PROTOCOL §4.6)."""
        return self._ask(Type.EXTENDED, _text(FSYNC) + _block(handle))

    def ask_statvfs(self, path: str) -> int:
        """Free space of the file system of ``path`` (OpenSSH PROTOCOL §4.4)."""
        return self._ask(Type.EXTENDED, _text(STATVFS) + _text(path))

    def done(self, ticket: int) -> None:
        """Wait for a STATUS of OK."""
        kind, body = self._answer(ticket)
        if kind != Type.STATUS:
            raise Broken(f"unexpected packet {kind}")
        _raise_unless_ok(body)

    def handle(self, ticket: int) -> bytes:
        """Wait for the handle of an OPEN."""
        return _take_block(self._expected(ticket, Type.HANDLE))

    def attributes(self, ticket: int) -> Attributes:
        """Wait for the attributes of a STAT or FSTAT."""
        return _attributes(self._expected(ticket, Type.ATTRS))

    def data(self, ticket: int) -> bytes:
        """Wait for the bytes of a READ; b"" at the end of the file."""
        try:
            return _take_block(self._expected(ticket, Type.DATA))
        except SftpRefusal as refusal:
            if refusal.status == Status.EOF:
                return b""
            raise

    def free_bytes(self, ticket: int) -> int:
        """Wait for a statvfs; bytes free for us."""
        body = self._expected(ticket, Type.EXTENDED_REPLY)
        _, fragment, _, _, available = struct.unpack_from(">5Q", _enough(body, 40))
        return int(fragment * available)

    def settle(self) -> None:
        """Read every answer still owed and forget it, after a refusal in the middle."""
        self.drain_to(0)
        self._answers.clear()

    def drain_to(self, count: int) -> None:
        """Read answers until at most ``count`` are owed; they stay for their tickets."""
        while len(self._owed) > count:
            self._read_one()

    def _greet(self) -> Mapping[str, bytes]:
        self._unsent += struct.pack(">IBI", 5, Type.INIT, 3)
        packet = self._packet()
        if packet[0] != Type.VERSION:
            raise Broken("no SFTP greeting")
        (version,) = struct.unpack_from(">I", _enough(packet[1:], 4))
        if version < 3:
            raise Broken(f"SFTP version {version}")
        rest, extensions = packet[5:], {}
        while rest:
            name, rest = _split(rest)
            value, rest = _split(rest)
            extensions[name.decode("utf-8", "replace")] = value
        return extensions

    def _ask(self, kind: Type, body: bytes) -> int:
        self.drain_to(_IN_FLIGHT)
        self._last = (self._last + 1) & 0xFFFFFFFF
        self._unsent += struct.pack(">IBI", len(body) + 5, kind, self._last) + body
        self._owed.add(self._last)
        if len(self._unsent) > BLOCK_BYTES:
            self._flush()
        return self._last

    def _expected(self, ticket: int, kind: Type) -> memoryview:
        came, body = self._answer(ticket)
        if came == Type.STATUS:
            _raise_unless_ok(body)
        if came != kind:
            raise Broken(f"unexpected packet {came}")
        return body

    def _answer(self, ticket: int) -> tuple[int, memoryview]:
        while ticket not in self._answers:
            self._read_one()
        return self._answers.pop(ticket)

    def _read_one(self) -> None:
        packet = self._packet()
        (ticket,) = struct.unpack_from(">I", _enough(packet[1:], 4))
        if ticket not in self._owed:
            raise Broken("answer to nothing")
        self._owed.remove(ticket)
        self._answers[ticket] = (packet[0], packet[5:])

    def _packet(self) -> memoryview:
        self._flush()
        (length,) = struct.unpack(">I", self._exactly(4))
        if not 1 <= length <= _LARGEST_PACKET:
            raise Broken(f"packet of {length} bytes")
        return memoryview(self._exactly(length))

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            try:
                came = self._stream.recv(65_536)
            except (OSError, EOFError) as error:
                raise _broken(error) from error
            if not came:
                raise Broken("closed by the server")
            self._buffer += came
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _flush(self) -> None:
        """Send what was asked so far: several requests in one SSH packet where they fit."""
        if not self._unsent:
            return
        data = bytes(self._unsent)
        self._unsent.clear()
        try:
            self._stream.sendall(data)
        except (OSError, EOFError) as error:
            raise _broken(error) from error


def _broken(error: OSError | EOFError) -> Broken:
    return Broken(str(error) or type(error).__name__, timed_out=isinstance(error, TimeoutError))


def _text(text: str) -> bytes:
    return _block(text.encode("utf-8"))


def _block(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _enough(body: memoryview, count: int) -> memoryview:
    if len(body) < count:
        raise Broken("short packet")
    return body


def _split(body: memoryview) -> tuple[bytes, memoryview]:
    (length,) = struct.unpack_from(">I", _enough(body, 4))
    end = 4 + length
    return bytes(_enough(body, end)[4:end]), body[end:]


def _take_block(body: memoryview) -> bytes:
    return _split(body)[0]


def _attributes(body: memoryview) -> Attributes:
    (flags,) = struct.unpack_from(">I", _enough(body, 4))
    at, size, mode = 4, None, None
    if flags & 0x01:
        (size,) = struct.unpack_from(">Q", _enough(body, at + 8), at)
        at += 8
    if flags & 0x02:
        at += 8
    if flags & 0x04:
        (mode,) = struct.unpack_from(">I", _enough(body, at + 4), at)
    return Attributes(size, mode)


def _raise_unless_ok(body: memoryview) -> None:
    (status,) = struct.unpack_from(">I", _enough(body, 4))
    if status == Status.OK:
        return
    # Version 3 adds the text; some old servers leave it out.
    words = _split(body[4:])[0].decode("utf-8", "replace") if len(body) >= 8 else ""
    raise SftpRefusal(status, words)
