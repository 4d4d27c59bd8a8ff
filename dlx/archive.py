"""Bytes kept under their SHA-256, sealed, in one pack file per batch.

Each report has its own data key (AES-256-GCM), wrapped by the station's master key; destroying the
data key makes every copy unreadable (backups included). A pack is written and fsynced once for a
whole batch, so that keeping originals and renditions costs two fsyncs a batch.

A frame in a pack: ``DLX1`` · key id (16 bytes) · nonce (12) · length (4, big endian) · ciphertext.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dlx import durable
from dlx.errors import StoreError
from dlx.failpoints import failpoint

MAGIC = b"DLX1"
_HEAD = len(MAGIC) + 16 + 12 + 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The key of one report; ``id`` and ``wrapped`` go to the ledger, ``secret`` does not."""

    id: str
    secret: bytes
    wrapped: bytes
    master: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where sealed bytes lie: pack (relative name), offset and length of the frame."""

    sha256: str
    key: str
    pack: str
    offset: int
    length: int


class MasterKey:
    """The key that wraps data keys; 32 bytes from a credential, or a file only we can read."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != 32:
            raise StoreError("clé maîtresse : 32 octets attendus")
        self.id = hashlib.sha256(b"dlx-kek" + secret).hexdigest()[:16]
        self._box = AESGCM(secret)
        self._tag = hashlib.sha256(b"dlx-lookup" + secret).digest()

    @classmethod
    def load(cls, path: Path) -> MasterKey:
        """Read the key file; make it (0600) where there is none yet. Raises StoreError."""
        try:
            durable.write_new(path, secrets.token_bytes(32), mode=0o600)
            durable.sync_folder(path.parent)
        except FileExistsError:
            pass
        mode = path.stat().st_mode & 0o077
        if mode:
            raise StoreError(f"{path.name} : lisible par d'autres que la station (chmod 600)")
        return cls(path.read_bytes())

    def lookup_hash(self, value: str) -> str:
        """Keyed hash (BLAKE2b) by which identities are compared without being stored."""
        return hashlib.blake2b(value.encode(), key=self._tag, digest_size=32).hexdigest()

    def new_key(self) -> DataKey:
        """A fresh data key for one report."""
        secret, key = secrets.token_bytes(32), secrets.token_hex(16)
        nonce = secrets.token_bytes(12)
        return DataKey(
            id=key,
            secret=secret,
            wrapped=nonce + self._box.encrypt(nonce, secret, key.encode()),
            master=self.id,
        )

    def unwrap(self, key: str, wrapped: bytes) -> bytes:
        """The secret of a stored data key. Raises StoreError when it was wrapped by another one."""
        try:
            return self._box.decrypt(wrapped[:12], wrapped[12:], key.encode())
        except InvalidTag as error:
            raise StoreError("clé de compte rendu illisible avec cette clé maîtresse") from error


class Archive:
    """Sealed packs below ``root``; nothing is ever changed in place."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fsyncs = 0
        self._ready_day = ""

    def keep(self, batch: Sequence[tuple[DataKey, bytes]], name: str, now: datetime) -> list[Place]:
        """Seal and store a batch durably in a pack called after ``name``; places in order.

        Raises OSError (disk full: nothing is left) and StoreError (fsync failed).
        """
        day = now.strftime("%Y/%m/%d")
        folder = self.root / day
        if day != self._ready_day:
            self._make_folders(folder)
            self._ready_day = day
        pack = f"{day}/{_free_name(folder, name)}"
        frames: list[bytes] = []
        places: list[Place] = []
        offset = 0
        for key, content in batch:
            digest = hashlib.sha256(content).hexdigest()
            frame = _seal(key, content, digest)
            places.append(
                Place(sha256=digest, key=key.id, pack=pack, offset=offset, length=len(frame))
            )
            frames.append(frame)
            offset += len(frame)
        durable.put_new(
            self.root / pack,
            b"".join(frames),
            before_rename=lambda: failpoint("archive.before_rename"),
        )
        durable.sync_folder(folder)
        self.fsyncs += 2
        failpoint("archive.renamed")
        return places

    def finish_leftovers(self) -> int:
        """Remove packs that were being written when the station died (R5); how many."""
        # only the last days can hold one; looking everywhere would make every start slower
        days = sorted(self.root.glob("[0-9]*/[0-9]*/[0-9]*"))[-2:]
        left = [path for day in days for path in day.glob(".tmp-*")]
        durable.remove_all(left)
        return len(left)

    def _make_folders(self, folder: Path) -> None:
        missing = [
            p for p in (folder, *folder.parents) if self.root in p.parents and not p.exists()
        ]
        for path in reversed(missing):
            path.mkdir(mode=0o750, exist_ok=True)
            durable.sync_folder(path.parent)

    def read(self, place: Place, secret: bytes) -> bytes:
        """The bytes at ``place``, verified. Raises StoreError when damaged or not ours."""
        try:
            descriptor = os.open(f"{self.root}/{place.pack}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                frame = os.pread(descriptor, place.length, place.offset)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StoreError(f"archive {place.pack} : {error.strerror}") from error
        if len(frame) != place.length or not frame.startswith(MAGIC):
            raise StoreError(f"archive {place.pack} : contenu abîmé à l'octet {place.offset}")
        try:
            content = AESGCM(secret).decrypt(
                frame[20:32], frame[_HEAD:], place.sha256.encode() + frame[4:20]
            )
        except InvalidTag as error:
            raise StoreError(f"archive {place.pack} : contenu altéré ou autre clé") from error
        if hashlib.sha256(content).hexdigest() != place.sha256:
            raise StoreError(f"archive {place.pack} : l'empreinte ne correspond pas")
        return content


def _free_name(folder: Path, name: str) -> str:
    """A kill before the ledger's commit leaves a pack nobody knows: never write over it."""
    number, free = 1, f"{name}.pack"
    while (folder / free).exists():
        number += 1
        free = f"{name}-{number}.pack"
    return free


def _seal(key: DataKey, content: bytes, digest: str) -> bytes:
    nonce, key_id = secrets.token_bytes(12), bytes.fromhex(key.id)
    sealed = AESGCM(key.secret).encrypt(nonce, content, digest.encode() + key_id)
    return MAGIC + key_id + nonce + len(sealed).to_bytes(4, "big") + sealed
