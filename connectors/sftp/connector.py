"""The connector: deliveries spread over one to four lines, each line in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from connectors._naming import folder_problems, named_files
from connectors.sftp import failures
from connectors.sftp.session import RSA_BITS_AT_LEAST, Opener, Session, read_key
from connectors.sftp.settings import SftpSettings, problems_of
from connectors.sftp.upload import Upload
from connectors.sftp.wire import Broken, SftpRefusal
from dlx.contracts import Committing, Connector, Options, setting
from dlx.delivery import Accepted, Delivery, Rendition
from dlx.errors import DeliveryError, PermanentFailure
from dlx.failpoints import failpoint

T = TypeVar("T")

BUSY = 8
"""Deliveries on every open line before another one is opened."""


@dataclass(frozen=True, kw_only=True)
class SftpAddress:
    """What a route may say: ``to:`` is a sub-folder of ``directory:``."""

    finess: str = setting("Numéro FINESS pour {establishment.finess} du nom de fichier", "")


class SftpConnector(Connector):
    """Files to a clinic's server, once each, never half. See ``upload`` for the order."""

    name: ClassVar[str] = "sftp"
    Settings: ClassVar[type[SftpSettings]] = SftpSettings
    Address: ClassVar[type[SftpAddress] | None] = SftpAddress
    finds_repeats: ClassVar[bool] = True
    concurrency: ClassVar[int] = 16

    def __init__(self, settings: SftpSettings) -> None:
        self._settings = settings
        self._opener: Opener | None = None
        self._lines: list[_Line] = []

    async def deliver(
        self, delivery: Delivery, renditions: Sequence[Rendition], committing: Committing
    ) -> Accepted:
        """Upload; see ``Connector.deliver``. The answer is proof that the server stored it."""
        if folder_problems(delivery.address):
            raise PermanentFailure(
                f"« {delivery.address} » n'est pas un sous-dossier permis", code="bad-address"
            )
        files = named_files(self._settings.filename, delivery, renditions)
        upload = Upload(self._settings, delivery, files)
        with self._least_busy().busy() as line:
            await line.run(lambda session: upload.prepare(session.wire))
            try:
                failpoint("sftp.part_written")
                await committing()
            except BaseException:
                with contextlib.suppress(DeliveryError):  # the next attempt cleans up too
                    await line.run(lambda session: upload.discard(session.wire))
                raise
            session = await line.run(lambda session: self._finished(session, upload))
            failpoint("sftp.renamed")
        return Accepted(remote_id=upload.remote_id, proven=True, peer=session.peer, tls=session.tls)

    async def probe(self) -> None:
        """Connect, log in, look at the folder."""
        with self._least_busy().busy() as line:
            await line.run(self._looked)

    async def close(self) -> None:
        """Cut the lines; a transfer under way fails at once."""
        lines, self._lines = self._lines, []
        for line in lines:
            await asyncio.to_thread(line.close)

    def check(self) -> Sequence[str]:
        """What is wrong with the settings and with the files of our keys."""
        settings = self._settings
        problems = list(problems_of(settings))
        if settings.identity is not None:
            try:
                key = read_key(settings.identity, settings.passphrase)
                if key.get_name() == "ssh-rsa" and key.get_bits() < RSA_BITS_AT_LEAST:
                    problems.append(
                        f"identity : clé RSA de {key.get_bits()} bits ; {RSA_BITS_AT_LEAST} au"
                        " moins, ou Ed25519"
                    )
            except (OSError, ValueError) as error:
                problems.append(f"identity : {error}")
        if settings.password is not None:
            try:
                settings.password.read_secret()
            except OSError as error:
                problems.append(f"password : {error}")
        return problems

    def check_address(self, address: str, options: Options) -> Sequence[str]:
        """``to:`` must be a safe sub-folder; whether it exists, only the server knows."""
        return folder_problems(address)

    def _finished(self, session: Session, upload: Upload) -> Session:
        try:
            upload.finish(session.wire)
        except Broken as broken:
            session.close()
            host, code = self._settings.host, failures.code_of(broken)
            raise failures.in_doubt(host, code, broken.words) from broken
        return session

    def _looked(self, session: Session) -> None:
        folder = self._settings.directory
        try:
            session.wire.attributes(session.wire.ask_stat(folder or "."))
        except SftpRefusal as refusal:
            raise failures.no_directory(folder, refusal, channel=True) from refusal

    def _least_busy(self) -> _Line:
        line = min(self._lines, key=lambda line: line.load, default=None)
        if line is None or (line.load >= BUSY and len(self._lines) < self._settings.connections):
            if self._opener is None:
                self._opener = Opener(self._settings)
            line = _Line(self._settings, self._opener, len(self._lines))
            self._lines.append(line)
        return line


class _Line:
    """One connection and the only thread that speaks on it.

    A delivery has the line in two turns, before and after ``committing``; others use it between,
    so the line does not wait for the ledger.
    """

    def __init__(self, settings: SftpSettings, opener: Opener, number: int) -> None:
        self.load = 0
        self._settings = settings
        self._opener = opener
        self._session: Session | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"sftp-{number}")
        self._retiring: asyncio.TimerHandle | None = None
        self._closed = False

    @contextlib.contextmanager
    def busy(self) -> Iterator[_Line]:
        """Count one more delivery on this line; when none is left, the line retires in time."""
        if self._retiring is not None:
            self._retiring.cancel()
            self._retiring = None
        self.load += 1
        try:
            yield self
        finally:
            self.load -= 1
            if not self.load and not self._closed:
                loop = asyncio.get_running_loop()
                self._retiring = loop.call_later(self._settings.idle, self._retire)

    async def run(self, job: Callable[[Session], T]) -> T:
        """Do ``job`` in the line's thread, on an open session. Raises DeliveryError."""
        if self._closed:
            raise failures.closed(self._settings.host)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._do, job)

    def close(self) -> None:
        """End the session and the thread; blocks until the thread has noticed."""
        self._closed = True
        if self._retiring is not None:
            self._retiring.cancel()
        self._drop()
        self._thread.shutdown(wait=True)
        self._drop()

    def _do(self, job: Callable[[Session], T]) -> T:
        session = self._session
        if session is None or not session.alive:
            self._drop()
            session = self._session = self._opener.open()
        try:
            return job(session)
        except Broken as broken:
            self._drop()
            raise failures.cut(self._settings.host, broken) from broken

    def _retire(self) -> None:
        self._thread.submit(self._drop)

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()
