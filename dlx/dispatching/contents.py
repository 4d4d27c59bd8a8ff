"""Archived bytes back from their packs, with the data keys that were used lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from dlx import archive, ledger
from dlx.delivery import Rendition
from dlx.errors import PermanentFailure

KEYS_KEPT = 4096
BYTES_KEPT = 32 << 20


class Contents:
    """Reads what the archive keeps; every byte is verified against its SHA-256.

    What was kept a moment ago is still in memory (32 MB at most): it leaves without being read,
    opened and hashed again.
    """

    def __init__(
        self, store: ledger.Ledger, packs: archive.Archive, master: archive.MasterKey
    ) -> None:
        self._store = store
        self._packs = packs
        self._master = master
        self._keys: OrderedDict[str, bytes] = OrderedDict()
        self._fresh: OrderedDict[str, bytes] = OrderedDict()
        self._fresh_bytes = 0

    def prime(self, key: archive.DataKey, contents: Sequence[tuple[str, bytes]]) -> None:
        """Remember what was just kept under ``key``: (SHA-256, bytes); it is about to leave."""
        self._keys[key.id] = key.secret
        while len(self._keys) > KEYS_KEPT:
            self._keys.popitem(last=False)
        for digest, content in contents:
            if digest not in self._fresh:
                self._fresh[digest] = content
                self._fresh_bytes += len(content)
        while self._fresh_bytes > BYTES_KEPT:
            _, old = self._fresh.popitem(last=False)
            self._fresh_bytes -= len(old)

    def read(self, place: ledger.Place) -> bytes:
        """The bytes at ``place``. Raises StoreError (damaged), NotFound (key destroyed)."""
        fresh = self._fresh.get(place.sha256)
        if fresh is not None:
            return fresh
        secret = self._keys.get(place.data_key)
        if secret is None:
            row = self._store.read(lambda tx: ledger.data_key(tx, place.data_key))
            secret = self._master.unwrap(row.id, row.wrapped)
            self._keys[row.id] = secret
        return self._packs.read(
            archive.Place(
                sha256=place.sha256,
                key=place.data_key,
                pack=place.pack,
                offset=place.offset,
                length=place.length,
            ),
            secret,
        )

    def renditions(self, rows: Sequence[ledger.RenditionRow]) -> list[Rendition]:
        """What a delivery carries, in order. Raises PermanentFailure when it was purged."""
        found = []
        for row in rows:
            if row.place is None:
                raise PermanentFailure(
                    "contenu effacé par la politique de conservation",
                    code="purged",
                    cure="demandez au SIL de produire à nouveau le compte rendu",
                )
            found.append(
                Rendition(
                    format=row.format,
                    suffix=row.suffix,
                    media_type=row.media_type,
                    content=self.read(row.place),
                    losses=row.losses,
                )
            )
        return found
