"""One way to open a SQL database, so that SQLite and PostgreSQL promise the same."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, finalize

from sqlalchemy import (
    Connection,
    Dialect,
    Engine,
    MetaData,
    String,
    Table,
    TypeDecorator,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError

from btt_bridge import migrations
from btt_bridge.errors import CapacityError, ConfigurationError

#: How long a writer to SQLite waits for those before it.
BUSY_SECONDS = 60
_LOCKED = "the database is locked by somebody who does not go on"


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


def open_database(url: str, metadata: MetaData, *, flushed: bool = True) -> Engine:
    """Return an engine with the tables of `metadata` in place.

    SQLite runs in WAL mode with synchronous=FULL, so that a committed row survives a power cut, and begins
    every transaction that `writing` opens with BEGIN IMMEDIATE, so that two writers queue instead of failing.

    Where `flushed` is false a commit to SQLite is seen by everybody at once and reaches the disk a little later, or
    with the next flushed one: for rows that can be told again after a power cut, which takes this process too.
    PostgreSQL may die without us, and is always flushed.
    """
    if url.startswith("sqlite"):
        _check_folder(make_url(url).database)
        engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})
        event.listen(engine, "connect", _prepare_sqlite)
        if not flushed:
            event.listen(engine, "connect", _unflush_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        if engine.url.database not in (None, "", ":memory:"):
            turnstile = _turnstiles[engine] = _Turnstile(f"{engine.url.database}.turn")
            finalize(engine, turnstile.close)
    else:
        engine = create_engine(url, pool_pre_ping=True)
    try:
        if not _is_current(engine, metadata):
            with _alone(engine) as connection:
                migrations.bring_up(connection, metadata)
    except BaseException:
        engine.dispose()
        raise
    return engine


def revision(url: str, metadata: MetaData) -> str:
    """Return the revision that the tables of `metadata` have in a database, "" where there are none; change nothing.

    Raises ConfigurationError where a newer version wrote it, and CapacityError where it does not answer.
    """
    parsed = make_url(url)
    if url.startswith("sqlite") and not Path(parsed.database or "").is_file():
        return ""
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return migrations.revision(connection, metadata)
    except OperationalError as problem:
        raise CapacityError(f"the database {parsed.render_as_string()} does not answer") from problem
    finally:
        engine.dispose()


def _is_current(engine: Engine, metadata: MetaData) -> bool:
    """Ask for the one row that nearly every start needs."""
    # In turn: the first connection of all gives a file of SQLite its WAL, and bears no other beside it.
    with turn(engine), reading(engine) as connection:
        return migrations.stamp(connection, metadata) == migrations.newest(metadata)


def _check_folder(database: str | None) -> None:
    """Say so in words where the folder of a database file is missing; SQLite's own would name neither."""
    if database not in (None, "", ":memory:") and not Path(str(database)).parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {Path(str(database)).parent}",
            advice="See data_dir in the settings, or start the bridge.",
        )


class _Turnstile:
    """A queue for everybody who writes to one SQLite file, in whatever process.

    SQLite itself has a writer that finds another one at work sleep and look again, ever longer; here it is
    woken at once. It is a courtesy: whoever does not queue is still kept out by SQLite's own lock.

    A lock on a file knows no limit of time, so where another process has it a thread stands in line, and hands over
    what it got. It may come too late for whoever sent it; then it serves the next one, or lets go.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = -1
        #: The queue within this process: of all its threads one at a time wants the file's lock.
        self._within = threading.Lock()
        #: What the thread in line will bring, None while there is none, and whether anybody still wants it.
        self._line: Future[int] | None = None
        self._wanted = False
        self._handing = threading.Lock()

    @contextmanager
    def turn(self) -> Iterator[None]:
        until = time.monotonic() + BUSY_SECONDS
        if not self._within.acquire(timeout=BUSY_SECONDS):
            raise CapacityError(_LOCKED)
        try:
            self._enter(until)
            try:
                yield
            finally:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        finally:
            self._within.release()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _enter(self, until: float) -> None:
        if self._descriptor < 0:
            self._descriptor = self._open()
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            locked = self._wait(until)
            self.close()
            self._descriptor = locked

    def _wait(self, until: float) -> int:
        """Return a descriptor of the file that holds its lock."""
        with self._handing:
            self._wanted = True
            line = self._line
            if line is None:
                line = self._line = Future()
                threading.Thread(target=self._stand_in, args=(line,), name="turnstile", daemon=True).start()
        try:
            return line.result(until - time.monotonic())
        except TimeoutError:
            with self._handing:
                if not line.done():
                    self._wanted = False
                    raise CapacityError(_LOCKED) from None
            return line.result()  # it came between the two

    def _stand_in(self, line: Future[int]) -> None:
        try:
            descriptor = self._open()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as problem:
            with self._handing:
                self._line = None
                line.set_exception(problem)
            return
        with self._handing:
            self._line = None
            if self._wanted:
                line.set_result(descriptor)
            else:
                os.close(descriptor)


_turnstiles: WeakKeyDictionary[Engine, _Turnstile] = WeakKeyDictionary()


def turn(engine: Engine) -> AbstractContextManager[None]:
    """Wait for the right to write, where the engine's database has one writer at a time; `writing` does it itself."""
    turnstile = _turnstiles.get(engine)
    return turnstile.turn() if turnstile else nullcontext()


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that will write; it commits at the end, or rolls back on any exception."""
    with turn(engine), engine.connect().execution_options(btt_writing=True) as connection, connection.begin():
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Open a transaction that only reads, and waits for no writer."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """Open the transaction that makes or changes tables: all of it is done, or nothing."""
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    with turn(engine), engine.connect().execution_options(btt_writing=True) as connection:
        # To drop a table that is made anew would be to delete its rows under those that refer to them. SQLite takes
        # this word outside of transactions only.
        connection.connection.cursor().execute("PRAGMA foreign_keys=OFF")
        try:
            with connection.begin():
                yield connection
        finally:
            connection.connection.cursor().execute("PRAGMA foreign_keys=ON")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver's own transaction control begins too late and too weakly; _begin_sqlite does it instead.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={int(BUSY_SECONDS * 1000)}")
    cursor.close()


def _unflush_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA synchronous=NORMAL").close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("btt_writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def upserting(engine: Engine, table: Table) -> Any:
    """Return an insert into `table` that can say what to do where a unique key is taken."""
    dialect = postgresql if engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)
