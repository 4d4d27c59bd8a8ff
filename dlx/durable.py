"""The only place that renames, removes and fsyncs files.

A failed fsync is fatal (the page cache may have dropped the data): it raises StoreError and is
never tried again on the same descriptor.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from dlx.errors import StoreError

_RENAME_NOREPLACE = 1
_AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


def sync_file(descriptor: int) -> None:
    """Make the content of an open file durable. Raises StoreError: stop and recover."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise StoreError(f"fsync : {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. Raises StoreError: stop and recover."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync_file(descriptor)
    finally:
        os.close(descriptor)


def write_new(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write and fsync a file that must not exist yet. Raises FileExistsError, OSError, StoreError.

    The name itself is durable only after ``sync_folder``. A write that fails leaves no file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        sync_file(descriptor)
    except BaseException:
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def rename_new(source: Path | str, target: Path | str) -> None:
    """Rename within one mount, never over an existing name (renameat2, RENAME_NOREPLACE).

    Raises FileNotFoundError when somebody else took ``source``, FileExistsError when ``target``
    exists. Durable only after ``sync_folder`` of both folders.
    """
    result = _libc.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if result == 0:
        return
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL):  # a file system without the flag (NFS, old kernels)
        os.link(source, target, follow_symlinks=False)
        Path(source).unlink()
        return
    raise OSError(number, os.strerror(number), str(source), None, str(target))


def replace_file(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` at ``path`` durably, replacing what was there: all of it or nothing."""
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    write_new(temporary, content, mode=mode)
    temporary.replace(path)
    sync_folder(path.parent)


def put_new(
    path: Path,
    content: bytes,
    *,
    mode: int = 0o600,
    before_rename: Callable[[], None] = lambda: None,
) -> None:
    """Write ``content`` under a temporary name beside ``path``, then rename; not yet the folder.

    Raises FileExistsError when ``path`` exists. Call ``sync_folder(path.parent)`` afterwards, once
    for a batch.
    """
    temporary = path.with_name(f".tmp-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    write_new(temporary, content, mode=mode)
    before_rename()
    try:
        rename_new(temporary, path)
    except OSError:
        temporary.unlink()
        raise


def move(source: Path, target: Path) -> None:
    """Durable move within one mount: rename, fsync target folder, fsync source folder."""
    rename_new(source, target)
    sync_folder(target.parent)
    if source.parent != target.parent:
        sync_folder(source.parent)


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files that may already be gone; the removal need not be durable to be safe."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
