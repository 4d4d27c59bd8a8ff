"""Ids: a letter and nine characters without I, L, O, U; random, never reused."""

from __future__ import annotations

import secrets

from sqlalchemy import Table, bindparam, select

from dlx.errors import NotFound
from dlx.ledger.tables import delivery, intake, notice, receipt, report
from dlx.ledger.tx import Prepared, Tx

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH = 9
_TABLES: dict[str, Table] = {"I": intake, "R": report, "D": delivery, "N": notice, "Q": receipt}
_TAKEN = {
    letter: Prepared(select(table.c.id).where(table.c.id == bindparam("wanted")))
    for letter, table in _TABLES.items()
}
_BETWEEN = {
    letter: Prepared(
        select(table.c.id)
        .where(table.c.id >= bindparam("low"), table.c.id < bindparam("high"))
        .order_by(table.c.id)
        .limit(2)
    )
    for letter, table in _TABLES.items()
}


def _random(letter: str) -> str:
    return letter + "".join([ALPHABET[byte & 31] for byte in secrets.token_bytes(_LENGTH)])


def new_id(tx: Tx, letter: str) -> str:
    """An id that no row of the table of ``letter`` has (I, R, D, N, Q)."""
    found = _random(letter)
    while tx.one(_TAKEN[letter], wanted=found) is not None:
        found = _random(letter)
    return found


def full_id(tx: Tx, letter: str, beginning: str) -> str:
    """The one id that begins so; case does not matter, the letter may be left out.

    Raises NotFound when there is none, or several.
    """
    wanted = beginning.strip().upper()
    if not wanted.startswith(letter):
        wanted = letter + wanted
    found = tx.all(_BETWEEN[letter], low=wanted, high=wanted + "~")
    if not found:
        raise NotFound(f"{beginning} : inconnu")
    if len(found) > 1 and found[0][0] != wanted:
        raise NotFound(f"{beginning} : plusieurs commencent ainsi ; donnez plus de caractères")
    return str(found[0][0])
