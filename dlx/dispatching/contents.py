"""Archived bytes back from their packs, with the data keys that were used lately."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from dlx import archive, ledger
from dlx.delivery import Rendition
from dlx.errors import PermanentFailure

KEYS_KEPT = 4096


class Contents:
    """Reads what the archive keeps; every byte is verified against its SHA-256."""

    def __init__(
        self, store: ledger.Ledger, packs: archive.Archive, master: archive.MasterKey
    ) -> None:
        self._store = store
        self._packs = packs
        self._master = master
        self._keys: OrderedDict[str, bytes] = OrderedDict()

    def prime(self, key: archive.DataKey) -> None:
        """Remember a key that was just made: its deliveries are about to leave."""
        self._keys[key.id] = key.secret
        while len(self._keys) > KEYS_KEPT:
            self._keys.popitem(last=False)

    def read(self, place: ledger.Place) -> bytes:
        """The bytes at ``place``. Raises StoreError (damaged), NotFound (key destroyed)."""
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
