"""`folder`: deliveries as files in a local folder (or a mounted one).

    temporary file, fsync ─▶ committing ─▶ rename, never over ─▶ fsync of the folder ─▶ proven

The connector to imitate when you write one. A file appears under its final name only when it is
whole and durable; the reader at the other end may list the folder at any instant. The fsync of the
folder is shared: one serves every rename done before it began.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeAlias, TypeVar

from connectors._naming import NamedFile, folder_problems, named_files, template_problems
from dlx import durable
from dlx.contracts import Committing, Connector, Options, setting
from dlx.delivery import Accepted, Delivery, Phase, Rendition
from dlx.errors import DeliveryError, InDoubt, PermanentFailure, StoreError, TemporaryFailure
from dlx.failpoints import failpoint

T = TypeVar("T")

# A journal commits the fsyncs of several threads together: on ext4 eight wrote 2.6 times as many
# files a second as one (6 kB each).
_THREADS = 8
_TOGETHER = 7  # deliveries in one trip: fifty of them keep every thread busy once
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# The mount or its rights are at fault, not this delivery: all deliveries of the channel wait.
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True, kw_only=True)
class FolderSettings:
    """What an operator may write in a channel of ``type: folder``."""

    directory: Path = setting("Dossier où déposer les fichiers ; il doit exister", Path("out"))
    filename: str = setting(
        "Modèle du nom de fichier ; jamais de donnée du patient",
        "{delivery}{suffix}",
        example="{report.ref}_v{version}{suffix}",
    )
    marker: str = setting(
        "Terminaison du fichier témoin vide posé après chaque fichier (par exemple .ok) ; vide :"
        " pas de témoin",
        "",
        example=".ok",
    )


@dataclass(frozen=True, kw_only=True)
class FolderAddress:
    """What a route may say: ``to:`` is a sub-folder, "" the folder of the channel itself."""

    finess: str = setting("Numéro FINESS pour {establishment.finess} du nom de fichier", "")


_Part: TypeAlias = tuple[Path, list[NamedFile]]  # the folder, and the files not yet in place


@dataclass(frozen=True, slots=True)
class _Writing:
    """Files of one delivery that wait for a thread."""

    address: str
    files: Sequence[NamedFile]
    done: asyncio.Future[_Part]


class FolderConnector(Connector):
    """Writes every rendition of a delivery under its own name. See the module for the order.

    Several files of one delivery become visible one after the other, within one turn; the markers,
    if any, come after the last of them.
    """

    name: ClassVar[str] = "folder"
    Settings: ClassVar[type[FolderSettings]] = FolderSettings
    Address: ClassVar[type[FolderAddress] | None] = FolderAddress
    finds_repeats: ClassVar[bool] = True
    concurrency: ClassVar[int] = 50

    def __init__(self, settings: FolderSettings) -> None:
        self._settings = settings
        self._syncs: dict[Path, _SharedSync] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._unwritten: list[_Writing] = []

    async def deliver(
        self, delivery: Delivery, renditions: Sequence[Rendition], committing: Committing
    ) -> Accepted:
        """Put the files in place; see ``Connector.deliver``. The answer is proof: we looked."""
        files = self._files_of(delivery, renditions)
        folder, missing = await self._written_soon(delivery.address, files)
        try:
            failpoint("folder.part_written")
            await committing()
        except BaseException:
            durable.remove_all(_part(folder, file) for file in missing)
            raise
        self._reveal(folder, missing)
        failpoint("folder.renamed")
        try:
            await self._synced(folder)
        except (OSError, StoreError) as error:
            raise _in_doubt(folder, error) from error
        return Accepted(remote_id=str(folder / files[0].name), proven=True, peer="localhost")

    async def probe(self) -> None:
        """Look whether the folder is there and may be written."""
        await self._in_thread(lambda: self._folder_of(""))

    async def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(wait=True)
            self._threads = None
        self._syncs.clear()

    def check(self) -> Sequence[str]:
        """What is wrong with the template, the marker, the folder."""
        settings = self._settings
        problems = template_problems(settings.filename)
        if settings.marker and not settings.marker.startswith("."):
            problems.append(f"marker : « {settings.marker} » doit commencer par un point")
        if not settings.directory.is_dir():
            problems.append(f"directory : le dossier {settings.directory} n'existe pas ; créez-le")
        elif not os.access(settings.directory, os.W_OK | os.X_OK):
            problems.append(f"directory : pas le droit d'écrire dans {settings.directory}")
        return problems

    def check_address(self, address: str, options: Options) -> Sequence[str]:
        """``to:`` must be a safe sub-folder that exists."""
        problems = folder_problems(address)
        if not problems and address and not (self._settings.directory / address).is_dir():
            problems = [f"to: le sous-dossier {address} n'existe pas ; créez-le"]
        return problems

    def _folder_of(self, address: str) -> Path:
        """The folder of one address. Raises the failure of the channel or of the address."""
        base = self._settings.directory
        if not base.is_dir():
            # Often a mount that is away for a moment: nothing may be given up for that.
            raise TemporaryFailure(
                f"Le dossier {base} est absent",
                code="no-directory",
                cure="vérifier le montage, ou créer le dossier",
                scope="channel",
                phase=Phase.CONNECT.value,
            )
        if not os.access(base, os.W_OK | os.X_OK):
            raise _not_written(base, OSError(errno.EACCES, os.strerror(errno.EACCES)))
        folder = base / address.strip("/")
        if not address:
            return base
        if folder_problems(address) or not folder.resolve().is_relative_to(base.resolve()):
            raise PermanentFailure(
                f"« {address} » n'est pas un sous-dossier permis", code="bad-address"
            )
        if not folder.is_dir():
            raise PermanentFailure(
                f"Le sous-dossier {address} n'existe pas dans {base}",
                code="no-directory",
                cure="créer le sous-dossier, puis renvoyer",
            )
        return folder

    def _files_of(
        self, delivery: Delivery, renditions: Sequence[Rendition]
    ) -> tuple[NamedFile, ...]:
        files = named_files(self._settings.filename, delivery, renditions)
        if not self._settings.marker:
            return files
        marker = self._settings.marker
        return (*files, *(NamedFile(name=f.name + marker, content=b"") for f in files))

    async def _written_soon(self, address: str, files: Sequence[NamedFile]) -> _Part:
        """``_written`` in a thread, together with the deliveries that came in the same turn.

        One trip to a thread for several deliveries: fifty trips cost more than fifty files.
        """
        loop = asyncio.get_running_loop()
        writing = _Writing(address, files, loop.create_future())
        self._unwritten.append(writing)
        if len(self._unwritten) == 1:
            loop.call_soon(self._write_waiting)
        return await writing.done

    def _write_waiting(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        loop = asyncio.get_running_loop()
        for start in range(0, len(waiting), _TOGETHER):
            chunk = waiting[start : start + _TOGETHER]
            task = loop.run_in_executor(self._executor(), self._write_all, chunk)
            task.add_done_callback(lambda done, chunk=chunk: _tell(done, chunk))  # type: ignore[misc]

    def _write_all(self, chunk: Sequence[_Writing]) -> list[_Part | BaseException]:
        """Each outcome in order; a failure of one says nothing of the others."""
        outcomes: list[_Part | BaseException] = []
        for writing in chunk:
            try:
                outcomes.append(self._written(writing.address, writing.files))
            except DeliveryError as failure:
                outcomes.append(failure)
        return outcomes

    def _written(self, address: str, files: Sequence[NamedFile]) -> tuple[Path, list[NamedFile]]:
        """Write the temporary files of those not in place yet, all or none; return those."""
        folder = self._folder_of(address)
        missing: list[NamedFile] = []
        try:
            for file in files:
                if _in_place(folder, file):
                    continue
                missing.append(file)
                _write_part(_part(folder, file), file.content)
        except (OSError, StoreError) as error:
            durable.remove_all(_part(folder, file) for file in missing)
            raise _not_written(folder, error) from error
        except DeliveryError:
            durable.remove_all(_part(folder, file) for file in missing)
            raise
        return folder, missing

    def _reveal(self, folder: Path, files: Sequence[NamedFile]) -> None:
        """Give the files their final names; when one cannot have its own, take all back."""
        done: list[Path] = []
        try:
            for file in files:
                target = folder / file.name
                durable.rename_new(_part(folder, file), target)
                done.append(target)
        except OSError as error:
            durable.remove_all([*done, *(_part(folder, file) for file in files)])
            if isinstance(error, FileExistsError):
                raise _name_taken(file.name) from error
            raise _not_written(folder, error) from error

    async def _synced(self, folder: Path) -> None:
        sync = self._syncs.setdefault(folder, _SharedSync())
        await sync.after_now(lambda: self._in_thread(lambda: durable.sync_folder(folder)))

    def _executor(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="folder")
        return self._threads

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor(), work)


def _tell(done: asyncio.Future[list[_Part | BaseException]], chunk: Sequence[_Writing]) -> None:
    """Wake those whose files were written; one that was cancelled meanwhile is passed over."""
    if done.cancelled():
        outcomes: list[_Part | BaseException] = [asyncio.CancelledError() for _ in chunk]
    elif (defect := done.exception()) is not None:
        outcomes = [defect for _ in chunk]
    else:
        outcomes = done.result()
    for writing, outcome in zip(chunk, outcomes, strict=True):
        if writing.done.done():
            if not isinstance(outcome, BaseException):
                folder, missing = outcome
                durable.remove_all(_part(folder, file) for file in missing)
        elif isinstance(outcome, BaseException):
            writing.done.set_exception(outcome)
        else:
            writing.done.set_result(outcome)


class _SharedSync:
    """One fsync of a folder for every rename done before it began.

    While one runs, those who come wait together for the next: with fifty deliveries at once, two
    fsyncs rather than fifty.
    """

    def __init__(self) -> None:
        self._running: asyncio.Future[None] | None = None
        self._next: asyncio.Future[None] | None = None

    async def after_now(self, sync: Callable[[], Awaitable[None]]) -> None:
        """Return when a sync that began after this call has ended; raise what it raised."""
        if self._next is None or self._next.done():
            self._next = asyncio.ensure_future(self._after(self._running, sync))
        # One delivery that is cancelled must not take the sync from the others.
        await asyncio.shield(self._next)

    async def _after(
        self, running: asyncio.Future[None] | None, sync: Callable[[], Awaitable[None]]
    ) -> None:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await sync()


def _part(folder: Path, file: NamedFile) -> Path:
    """Temporary name: hidden, and unlike anything a reader's pattern takes."""
    return folder / f".{file.name}.part"


def _write_part(part: Path, content: bytes) -> None:
    try:
        durable.write_new(part, content, mode=0o640)
    except FileExistsError:  # left by an attempt that was killed; never trusted
        durable.remove_all([part])
        durable.write_new(part, content, mode=0o640)


def _in_place(folder: Path, file: NamedFile) -> bool:
    """True when an earlier attempt brought this file. Raises PermanentFailure for another's."""
    target = folder / file.name
    try:
        state = target.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(state.st_mode) or state.st_size != len(file.content):
        raise _name_taken(file.name)
    if target.read_bytes() != file.content:
        raise _name_taken(file.name)
    return True


def _name_taken(name: str) -> PermanentFailure:
    return PermanentFailure(
        f"Le fichier {name} existe déjà avec un autre contenu",
        code="name-taken",
        cure="ajouter {delivery} au modèle filename: du canal, puis renvoyer",
        phase=Phase.DATA.value,
    )


def _not_written(folder: Path, error: OSError | StoreError) -> TemporaryFailure:
    """Before the rename nothing can have arrived: the same call may succeed later."""
    number = _number_of(error)
    if number in _FULL:
        code, message, cure = "disk-full", "Plus de place", "libérer de la place"
    elif number in _FORBIDDEN:
        code, message, cure = "permission", "Écriture refusée", "corriger les droits du dossier"
    else:
        code, message, cure = "disk-error", "Écriture impossible", "vérifier le disque"
    return TemporaryFailure(
        f"{message} dans {folder}",
        code=code,
        words=os.strerror(number) if number else str(error),
        cure=cure,
        scope="channel",
        phase=Phase.DATA.value,
    )


def _in_doubt(folder: Path, error: OSError | StoreError) -> InDoubt:
    """The names are there and may not survive a power cut; the next attempt looks again."""
    return InDoubt(
        f"Le dossier {folder} n'a pas confirmé l'écriture",
        code="disk-error",
        words=str(error),
        cure="vérifier le disque",
        scope="channel",
        phase=Phase.COMMITTED_TO.value,
    )


def _number_of(error: OSError | StoreError) -> int:
    """The errno, also of the failed fsync inside a StoreError.

    durable makes a failed fsync fatal because the page cache can no longer be trusted. Here the
    file was only a temporary one; it is removed and written anew from the archive, so another
    machine's full disk (NFS tells at fsync) must not stop the station.
    """
    cause = error if isinstance(error, OSError) else error.__cause__
    return (cause.errno or 0) if isinstance(cause, OSError) else 0
