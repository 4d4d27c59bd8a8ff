"""A clinic's SFTP server on loopback (asyncssh), with switches for what goes wrong there.

It runs in a thread with an event loop of its own, keeps clients inside one folder, and writes down
every finished rename before it answers: the truth a test compares the ledger with.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import IO, TypeVar, cast

import asyncssh

T = TypeVar("T")

TEMPORARY_ENDS = (".tmp", ".part")


class SftpPeer:
    """One server. Fields may be changed by a test at any time.

    Args:
        root: folder the clients see as ``/``; created.
        posix_rename, fsync: False: the request is listed and refused, as ``sftp-server -P`` does.

    Attributes:
        read_only: every write is denied. full: every write fails for want of room.
        on: called with ``(moment, path)`` at ``open``, ``write``, ``before_rename``,
            ``after_rename``; may call ``cut``, or raise an ``asyncssh.SFTPError`` to refuse.
        renames: ``(old, new)`` of every finished rename, in order. handshakes: logins so far.
    """

    good_address = "clinique-a"
    bad_address: str | None = "clinique-inconnue"

    def __init__(self, root: Path, *, posix_rename: bool = True, fsync: bool = True) -> None:
        self.root = root
        (root / self.good_address).mkdir(parents=True, exist_ok=True)
        self.posix_rename = posix_rename
        self.fsync = fsync
        self.read_only = False
        self.full = False
        self.on: Callable[[str, str], None] = lambda moment, path: None
        self.renames: list[tuple[str, str]] = []
        self.fsyncs = 0
        self.handshakes = 0
        self._thawed = threading.Event()
        self._thawed.set()
        self.user = "dlx"
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self.host_keys = [asyncssh.generate_private_key("ssh-ed25519")]
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sftp-peer")
        self._server: asyncssh.SSHAcceptor | None = None
        self._connections: set[asyncssh.SSHServerConnection] = set()

    def start(self) -> SftpPeer:
        """Listen on a free port of 127.0.0.1."""
        self._thread.start()
        self.come_back()
        return self

    def stop(self) -> None:
        """End the server and its thread."""
        self.thaw()
        self.go_down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def open_connections(self) -> int:
        """How many clients are connected now."""
        return len(self._connections)

    @property
    def fingerprint(self) -> str:
        """``SHA256:…`` of the first host key."""
        return str(self.host_keys[0].get_fingerprint())

    def write_client_key(self, path: Path) -> Path:
        """Write the private key that the server accepts, as OpenSSH would, mode 0600."""
        path.write_bytes(self.client_key.export_private_key("openssh"))
        path.chmod(0o600)
        return path

    def change_host_key(self) -> None:
        """From the next connection on another key is shown: a new server, or an attack."""
        self.go_down()
        self.host_keys = [asyncssh.generate_private_key("ssh-ed25519")]
        self.come_back()

    def go_down(self) -> None:
        """Cut every connection and refuse new ones."""
        self._call(self._down)

    def come_back(self) -> None:
        """Listen again, on the same port."""
        self._call(self._up)

    def freeze(self) -> None:
        """Fall silent at the next request, connections open, until ``thaw``."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Answer what was asked meanwhile."""
        self._thawed.set()

    def cut(self) -> None:
        """Abort every connection at once, without a word; for ``on`` (runs in the peer's loop)."""
        for connection in list(self._connections):
            connection.abort()

    def cut_next(self) -> None:
        """Abort the connection in the middle of the next file."""
        writes = 0

        def hook(moment: str, path: str) -> None:
            nonlocal writes
            writes += moment == "write"
            if writes == 20:
                self.on = lambda moment, path: None
                self.cut()

        self.on = hook

    def files(self) -> list[Path]:
        """Every file, markers and temporary ones included."""
        return [path for path in self.root.rglob("*") if path.is_file()]

    def received(self) -> list[bytes]:
        """What a reader takes: no dot at the beginning, no ``.tmp``, no marker."""
        return [p.read_bytes() for p in self.files() if _is_final(p) and p.suffix != ".ok"]

    def identities(self) -> list[str]:
        """Final paths."""
        return [str(p) for p in self.files() if _is_final(p) and p.suffix != ".ok"]

    def visible_text(self) -> str:
        """Every name, and every rename ever made."""
        return "\n".join([*(p.name for p in self.files()), *map(str, self.renames)])

    def leftovers(self) -> list[str]:
        """Temporary names."""
        return [p.name for p in self.files() if not _is_final(p)]

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None
        self.cut()

    async def _up(self) -> None:
        peer = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                self.conn = conn
                peer._connections.add(conn)

            def connection_lost(self, exc: Exception | None) -> None:
                peer._connections.discard(self.conn)

            def auth_completed(self) -> None:
                peer.handshakes += 1

        self._server = await asyncssh.create_server(
            Server,
            "127.0.0.1",
            self.port,
            server_host_keys=self.host_keys,
            authorized_client_keys=asyncssh.import_authorized_keys(
                self.client_key.export_public_key().decode()
            ),
            sftp_factory=lambda channel: _Files(channel, peer),
            sftp_version=3,
            allow_scp=False,
        )
        self.port = self._server.get_port()

    def at(self, moment: str, path: str) -> None:
        """A request has come to ``moment``: freeze, refuse, or let the test's hook act."""
        self._thawed.wait()
        if moment in ("open", "write", "before_rename"):
            if self.read_only:
                raise asyncssh.SFTPPermissionDenied("read-only")
            if self.full and moment == "write":
                raise asyncssh.SFTPFailure("No space left on device")
        self.on(moment, path)

    def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        async def run() -> T:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)


def _is_final(path: Path) -> bool:
    return (
        not path.name.startswith(".")
        and not path.name.endswith(TEMPORARY_ENDS)
        and path.parent.name != "tmp"
    )


class _Files(asyncssh.SFTPServer):
    """The clients' view of the folder. Everything is synchronous, so requests stay in order."""

    def __init__(self, channel: asyncssh.SSHServerChannel[bytes], peer: SftpPeer) -> None:
        super().__init__(channel, chroot=os.fsencode(peer.root))
        self._peer = peer

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        if pflags & asyncssh.FXF_WRITE:
            self._peer.at("open", os.fsdecode(path))
        return super().open(path, pflags, attrs)

    def write(self, file_obj: object, offset: int, data: bytes) -> int:
        self._peer.at("write", "")
        return cast(int, super().write(file_obj, offset, data))

    def rename(self, oldpath: bytes, newpath: bytes) -> None:
        self._renamed(super().rename, oldpath, newpath)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> None:
        if not self._peer.posix_rename:
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        self._renamed(super().posix_rename, oldpath, newpath)

    def fsync(self, file_obj: object) -> None:
        if not self._peer.fsync:
            raise asyncssh.SFTPOpUnsupported("Operation unsupported")
        self._peer.at("fsync", "")
        self._peer.fsyncs += 1
        os.fsync(cast(IO[bytes], file_obj).fileno())

    def statvfs(self, path: bytes) -> os.statvfs_result:
        real = os.statvfs(self.map_path(path))
        if not self._peer.full:
            return real
        return os.statvfs_result((real[0], real[1], real[2], 0, 0, *real[5:10]))

    def _renamed(
        self, rename: Callable[[bytes, bytes], object], oldpath: bytes, newpath: bytes
    ) -> None:
        """The truth is written down when the rename is done, before the client hears of it."""
        old, new = os.fsdecode(oldpath), os.fsdecode(newpath)
        self._peer.at("before_rename", new)
        rename(oldpath, newpath)
        self._peer.renames.append((old, new))
        self._peer.at("after_rename", new)
