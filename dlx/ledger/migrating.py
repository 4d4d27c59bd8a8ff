"""Bringing an existing store to the schema of this program, after a copy (``dlx migrate``)."""

from __future__ import annotations

from pathlib import Path

from dlx.errors import StoreError
from dlx.ledger import sqlite as backend
from dlx.ledger.store import schema_of
from dlx.ledger.tables import SCHEMA


def migrate(path: Path) -> Path | None:
    """Upgrade the store at ``path``; the station must be stopped. Returns the copy made before.

    None when there was nothing to do. The copy (VACUUM INTO) is ``<path>.before-<revision>`` and is
    never overwritten. Raises StoreError: absent, newer than this program, copy exists, or a step
    failed (the store is then as before).
    """
    if not path.exists():
        raise StoreError(f"pas de base à {path}")
    found = schema_of(path)
    if found == SCHEMA:
        return None
    if found > SCHEMA:
        raise StoreError(f"la base est d'une version plus récente ({found}) que ce programme")
    copy = path.with_name(f"{path.name}.before-{found or 'none'}")
    if copy.exists():
        raise StoreError(f"{copy} existe déjà : rangez cette copie ailleurs, puis recommencez")
    backend.backup(path, copy)
    upgrade(path, SCHEMA)
    return copy


def upgrade(path: Path, revision: str) -> None:
    """Run the migrations up to ``revision``, without a copy. Raises StoreError."""
    # Alembic takes a third of a second to import and is needed once in a version's life.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError
    from sqlalchemy.exc import SQLAlchemyError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = backend.engine_of(path, writer=True, create=True)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except (SQLAlchemyError, CommandError) as error:
        raise StoreError(f"mise à niveau de {path} : {error}") from error
    finally:
        engine.dispose()
