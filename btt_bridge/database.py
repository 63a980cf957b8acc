"""One way to open a SQL database, so that SQLite and PostgreSQL promise the same."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Dialect, Engine, MetaData, String, Table, TypeDecorator, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite


@lru_cache(maxsize=64)
def moment_text(value: datetime) -> str:
    """Return an instant as `Moment` keeps it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


class Moment(TypeDecorator[datetime]):
    """An aware UTC instant, kept as fixed-width ISO 8601 text: it sorts as it reads, the same on every engine."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        return moment_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return datetime.fromisoformat(value)


def open_database(url: str, metadata: MetaData) -> Engine:
    """Return an engine with the tables of `metadata` in place.

    SQLite runs in WAL mode with synchronous=FULL, so that a committed row survives a power cut, and begins
    every transaction that `writing` opens with BEGIN IMMEDIATE, so that two writers queue instead of failing.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, connect_args={"timeout": 60, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        engine = create_engine(url, pool_pre_ping=True)
    with writing(engine) as connection:
        if engine.dialect.name == "postgresql":
            # Several processes start at once; one of them makes the tables.
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009102)")
        metadata.create_all(connection)
    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that will write; it commits at the end, or rolls back on any exception."""
    with engine.connect().execution_options(btt_writing=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads, and waits for no writer."""
    with engine.connect() as connection, connection.begin():
        yield connection


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transaction control begins too late and too weakly; _begin_sqlite does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA busy_timeout=60000")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("btt_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def upserting(engine: Engine, table: Table) -> Any:
    """Return an insert into `table` that can say what to do where a unique key is taken."""
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
