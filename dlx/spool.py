"""The directory queue: a file is seen, claimed by renaming, then finished or rejected.

Rooms, all under one mount: ``in/`` where the LIS writes, ``claimed/`` what we took, ``reject/``
what we could not read, each file beside its ``.why``. Listing is the truth; events only wake the
scanner. The name given by the LIS is never used in a path after the claim.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from dlx import durable
from dlx.errors import StoreError
from dlx.failpoints import failpoint
from dlx.masking import printable

UNFINISHED = (".tmp", ".part", ".filepart", ".why")
NAME_BYTES = 100
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_last_claim = 0


def claim_id() -> str:
    """A sortable unique id: 9 characters of milliseconds, 10 of chance (no I, L, O, U).

    Each is greater than the one before: files taken again after a crash keep their order.
    """
    global _last_claim
    fresh = (int(time.time() * 1000) << 50) | secrets.randbits(50)
    _last_claim = number = max(fresh, _last_claim + 1)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(90, -5, -5))


def reduced(name: str) -> str:
    """A foreign name as it may stand in a path: safe characters, at most 100 bytes."""
    return (_UNSAFE.sub("_", name).strip(".") or "file")[-NAME_BYTES:]


def shown_name(name: str) -> str:
    """A foreign name as text that can be stored: bytes that are not UTF-8 become ``\\xNN``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@dataclass(frozen=True, kw_only=True)
class Rooms:
    """The three folders; ``prove`` refuses a layout where renaming would not be atomic."""

    claimed: Path
    reject: Path

    def prove(self, pickups: Iterable[Path]) -> None:
        """Rename a probe along every edge that will be used. Raises StoreError (EXDEV, rights)."""
        for inbox in pickups:
            probe = inbox / f".dlx-probe-{os.getpid()}"
            try:
                durable.write_new(probe, b"")
                for room in (self.claimed, self.reject, inbox):
                    target = room / probe.name
                    if target != probe:
                        durable.rename_new(probe, target)
                        probe = target
            except OSError as error:
                raise StoreError(
                    f"impossible de renommer de {inbox} vers {self.claimed} et {self.reject} :"
                    f" {error.strerror}. Ces dossiers doivent être sur le même montage."
                ) from error
            finally:
                durable.remove_all([probe])


@dataclass(frozen=True, kw_only=True)
class Ready:
    """When a drop is complete: ``rename`` (at once), ``marker`` (its witness is there), ``quiet``.

    Attributes:
        rule: one of the three words. marker: suffix of the witness, ``.ok``.
        quiet_seconds: size and time unchanged for so long, over two looks at least.
    """

    rule: str = "rename"
    marker: str = ".ok"
    quiet_seconds: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A file that is ours: where it lies, how the LIS called it, since when."""

    claim: str
    path: Path
    original_name: str
    pickup: str
    modified_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The bytes of a claimed file, as hashed: what is parsed is what was hashed."""

    file: Claimed
    data: bytes
    sha256: str


class Unfit(Exception):
    """The claimed thing cannot be read as a report file; ``code`` and ``message`` say why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Unstable(Exception):
    """The file still changed after it was claimed: look again later."""


@dataclass(kw_only=True)
class Pickup:
    """One place where the LIS drops files.

    Attributes:
        name: as operators call it. directory: the drop zone. pattern: which names.
        ready: completeness rule. max_bytes: larger files are refused without being read.
        excluded: names of sub-folders that belong to other pickups.
    """

    name: str
    directory: Path
    rooms: Rooms
    pattern: str = "*"
    ready: Ready = Ready()
    max_bytes: int = 20_000_000
    excluded: frozenset[str] = frozenset()
    _seen: dict[str, tuple[int, int, float]] = field(default_factory=dict, repr=False)

    def scan(self, monotonic: float) -> list[str]:
        """Names that are complete, oldest first. ``monotonic``: seconds of a steady clock."""
        entries: dict[str, os.stat_result] = {}
        with os.scandir(self.directory) as listing:
            for entry in listing:
                if entry.name.startswith(".") or entry.name in self.excluded:
                    continue
                try:
                    entries[entry.name] = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
        names = [name for name in entries if self._wanted(name)]
        if self.ready.rule == "marker":
            names = [name for name in names if self._witness(name, entries) is not None]
        if self.ready.rule == "quiet":
            names = [name for name in names if self._quiet(name, entries[name], monotonic)]
            self._seen = {name: self._seen[name] for name in self._seen if name in entries}
        return sorted(names, key=lambda name: (entries[name].st_mtime_ns, name))

    def _wanted(self, name: str) -> bool:
        if name.lower().endswith(UNFINISHED):
            return False
        if self.ready.rule == "marker" and name.endswith(self.ready.marker):
            return False
        return fnmatch.fnmatchcase(name.lower(), self.pattern.lower())

    def _witness(self, name: str, there: Mapping[str, os.stat_result]) -> str | None:
        for witness in (name + self.ready.marker, Path(name).stem + self.ready.marker):
            if witness in there and not stat.S_ISDIR(there[witness].st_mode):
                return witness
        return None

    def _quiet(self, name: str, now: os.stat_result, monotonic: float) -> bool:
        size, modified, since = self._seen.get(name, (-1, -1, monotonic))
        if (size, modified) != (now.st_size, now.st_mtime_ns):
            self._seen[name] = (now.st_size, now.st_mtime_ns, monotonic)
            return False
        return monotonic - since >= self.ready.quiet_seconds

    def claim(self, names: Sequence[str]) -> list[Claimed]:
        """Rename the named drops into ``claimed/``; ``settle`` makes the names durable.

        A name that another process took is left out. Raises OSError.
        """
        claimed: list[Claimed] = []
        inbox, room = os.fspath(self.directory), os.fspath(self.rooms.claimed)
        for name in names:
            source = f"{inbox}/{name}"
            claim = claim_id()
            target = f"{room}/{claim}~{self.name}~{reduced(name)}"
            failpoint("claim.before_rename")
            try:
                modified = os.lstat(source).st_mtime_ns
                durable.rename_new(source, target)
            except FileNotFoundError:
                continue
            claimed.append(
                Claimed(
                    claim=claim,
                    path=Path(target),
                    original_name=shown_name(name),
                    pickup=self.name,
                    modified_ns=modified,
                )
            )
            failpoint("claim.renamed")
            if self.ready.rule == "marker":
                durable.remove_all(
                    [self.directory / w for w in (name + self.ready.marker,)]
                    + [self.directory / (Path(name).stem + self.ready.marker)]
                )
        return claimed

    def settle(self) -> None:
        """Make what was claimed durable, before anything is promised. Raises StoreError.

        Apart from ``claim`` so that a batch is parsed meanwhile. Until then a power cut leaves a
        file in one folder or the other, never in both.
        """
        durable.sync_folder(self.rooms.claimed)
        durable.sync_folder(self.directory)

    def lone_markers(self, older_than_seconds: float, now: datetime) -> list[str]:
        """Witnesses without file, or files without witness, that wait for too long."""
        if self.ready.rule != "marker":
            return []
        with os.scandir(self.directory) as listing:
            entries = {e.name: e.stat(follow_symlinks=False) for e in listing if e.is_file()}
        marker = self.ready.marker
        stems = {name[: -len(marker)] for name in entries if name.endswith(marker)}
        names = {name for name in entries if self._wanted(name)}
        paired = {n for n in names if n in stems or Path(n).stem in stems}
        used = paired | {Path(n).stem for n in paired}
        lone = (names - paired) | {stem + marker for stem in stems if stem not in used}
        limit = now.timestamp() - older_than_seconds
        return sorted(name for name in lone if entries[name].st_mtime < limit)

    def still_claimed(self) -> list[Claimed]:
        """What an earlier run left in ``claimed/`` (recovery R2): oldest claim first."""
        return claimed_files(self.rooms.claimed, self.name)

    def read(self, file: Claimed) -> Content:
        """Read and hash a claimed file. Raises Unfit (quarantine it), Unstable, OSError."""
        return read(file, max_bytes=self.max_bytes)


def claimed_files(room: Path, pickup: str) -> list[Claimed]:
    """Every file in ``claimed/``, in the order of claims; ``pickup``: where its name has none."""
    found = []
    for path in sorted(room.iterdir()):
        claim, tilde, rest = path.name.partition("~")
        if tilde and len(claim) == 19:
            of, _, name = rest.rpartition("~")
            found.append(Claimed(claim=claim, path=path, original_name=name, pickup=of or pickup))
    return found


def read(file: Claimed, *, max_bytes: int) -> Content:
    """Read and hash a claimed file without following links or blocking on a FIFO.

    Raises:
        Unfit: not a plain file, too large, empty.
        Unstable: it changed while it was read, somebody still writes.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(file.path, flags)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise Unfit("not_plain_file", _NOT_PLAIN) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise Unfit("not_readable", _NOT_READABLE) from error
        raise
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode) or before.st_nlink != 1:
            raise Unfit("not_plain_file", _NOT_PLAIN)
        if before.st_size > max_bytes:
            raise Unfit(
                "too_large",
                f"fichier de {before.st_size} octets, plus que la limite de {max_bytes} :"
                " voir max_size de ce point de collecte",
            )
        data = _read_all(descriptor, before.st_size)
        after = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(
        data
    ) != after.st_size:
        raise Unstable
    if not data.strip(b"\x00\r\n\t \x1a"):
        raise Unfit("empty", "fichier vide : demandez au SIL de le produire à nouveau")
    return Content(file=file, data=data, sha256=hashlib.sha256(data).hexdigest())


_NOT_PLAIN = (
    "ce n'est pas un fichier ordinaire (lien, dossier, tube ou second nom d'un autre fichier) :"
    " le SIL doit déposer un fichier qui n'existe qu'à cet endroit"
)


_NOT_READABLE = (
    "la station n'a pas le droit de lire ce fichier : le SIL doit le déposer lisible par elle"
    " (groupe dlx-inbox, mode 0640)"
)


def _read_all(descriptor: int, size: int) -> bytes:
    parts: list[bytes] = []
    left = size + 1  # one more byte than announced shows that the file grows
    while left > 0:
        part = os.read(descriptor, min(left, 1 << 20))
        if not part:
            break
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The reason beside a rejected file; no medical content.

    Attributes:
        code: stable word. message: French sentence with what to do.
        line, column, offset: where in the file, when known.
    """

    code: str
    message: str
    line: int | None = None
    column: int | None = None
    offset: int | None = None


def reject(file: Claimed, why: Why, room: Path, now: datetime, *, sha256: str = "") -> Path:
    """Write ``<name>.why`` durably, then move the file beside it. Returns its new path.

    Safe to repeat after a crash between the two. Raises OSError and StoreError.
    """
    target = room / file.path.name
    reason = {
        "code": why.code,
        "message": why.message,
        "line": why.line,
        "column": why.column,
        "offset": why.offset,
        "first_seen": now.isoformat(timespec="seconds"),
        "claim": file.claim,
        "pickup": file.pickup,
        "original_name": printable(file.original_name, 255),
        "sha256": sha256,
    }
    text = json.dumps(reason, ensure_ascii=False, indent=1) + "\n"
    durable.replace_file(target.with_name(target.name + ".why"), text.encode(), mode=0o640)
    failpoint("reject.why_written")
    durable.move(file.path, target)
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A file in ``reject/`` and what its ``.why`` says, as the command line shows it."""

    path: Path
    facts: dict[str, str]


def rejected_files(room: Path) -> list[Rejected]:
    """Every rejected file with its reason, oldest first; a torn ``.why`` is left out."""
    found = []
    for why in sorted(room.glob("[!.]*.why")):
        try:
            facts = json.loads(why.read_bytes())
        except ValueError:
            continue
        places = (("ligne", "line"), ("champ", "column"), ("octet", "offset"))
        place = ", ".join(f"{word} {facts[key]}" for word, key in places if facts.get(key))
        path = why.with_name(why.name.removesuffix(".why"))
        found.append(Rejected(path=path, facts={**facts, "place": place}))
    return found


def give_back(one: Rejected, inbox: Path) -> None:
    """Put a rejected file back into the pickup, durably, under a name that is free; then forget.

    A crash in between leaves the ``.why`` alone, which does no harm.
    """
    name = reduced(one.path.name.rpartition("~")[2])
    target = inbox / name
    number = 1
    while target.exists() or target.is_symlink():
        target = inbox / f"{number}-{name}"
        number += 1
    durable.move(one.path, target)
    discard(one)


def discard(one: Rejected) -> None:
    """Remove a rejected file and its reason."""
    durable.remove_all([one.path, one.path.with_name(one.path.name + ".why")])


def finish(files: Iterable[Claimed]) -> None:
    """Remove claimed files whose content the archive and the ledger hold (not before)."""
    failpoint("finish.before_unlink")
    durable.remove_all(file.path for file in files)


def finish_leftovers(room: Path) -> int:
    """Remove what an earlier run was writing when it died (recovery R5); how many."""
    left = [path for path in room.iterdir() if path.name.startswith(".tmp-")]
    durable.remove_all(left)
    return len(left)


def free_bytes(folder: Path) -> int:
    """Room left for ordinary users on the disk of ``folder``."""
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize
