"""Alembic migrations: one file a revision, never edited after release."""
