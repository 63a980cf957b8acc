"""Brings the tables of a database from the version that wrote them to this one; what a newer one wrote is refused.

Each `MetaData` names its history, and `revisions/versions/` holds one file for each revision of each history, in order:
`ledger_0001_baseline.py`, `ledger_0002_...`. A database says in a row for each history which revision its tables have.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Column, Connection, MetaData, String, Table, insert, inspect, select

from btt_bridge import log
from btt_bridge.errors import ConfigurationError

_log = log.logger("migrations")

#: What alembic runs; no package, for nothing of ours imports it.
FOLDER = Path(__file__).parent / "revisions"
#: As alembic makes it, under a name of our own: the database may be home to others who use alembic.
stamp_table = Table("btt_bridge_revision", MetaData(), Column("version_num", String(32), primary_key=True))


def revisions(history: str = "*") -> list[str]:
    """Return the revisions of a history, or of all, in order."""
    return sorted("_".join(path.stem.split("_")[:2]) for path in FOLDER.glob(f"versions/{history}_[0-9]*.py"))


def newest(metadata: MetaData) -> str:
    """Return the revision that this version reads and writes."""
    return revisions(_history(metadata))[-1]


def stamp(connection: Connection, metadata: MetaData) -> str:
    """Return the revision that a database says its tables have, "" where it says nothing.

    Raises ConfigurationError where anything in it was written by a newer version: it may mean what we do not know.
    """
    if not inspect(connection).has_table(stamp_table.name):
        return ""
    stamps = set(connection.scalars(select(stamp_table.c.version_num)))
    newer, own = sorted(stamps - set(revisions())), stamps & set(revisions(_history(metadata)))
    if newer:
        raise ConfigurationError(
            f"the database is of a newer version of the bridge: it has revision {newer[0]}",
            advice="Install the version that wrote it, or a newer one; a database is never taken back.",
        )
    return next(iter(own), "")


def revision(connection: Connection, metadata: MetaData) -> str:
    """Return the revision that the tables have, "" where there are none; those without a stamp are the first ones."""
    there = set(inspect(connection).get_table_names()) & set(metadata.tables)
    return stamp(connection, metadata) or (revisions(_history(metadata))[0] if there else "")


def bring_up(connection: Connection, metadata: MetaData) -> None:
    """Make the tables, or bring those that are there to the newest revision, in the caller's transaction.

    One process at a time does so. On SQLite the transaction keeps the others out, and has foreign keys switched off.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009102)")
    wanted, found = newest(metadata), revision(connection, metadata)
    if not found:
        metadata.create_all(connection, checkfirst=False)
        _stamp(connection, wanted)
        return
    if not stamp(connection, metadata):
        _stamp(connection, found)
    if found != wanted:
        _log.info("migrating", reason=f"{found} to {wanted}")
        _upgrade(connection, metadata, wanted)
    _check(connection, metadata)


def _history(metadata: MetaData) -> str:
    return str(metadata.info["history"])


def _stamp(connection: Connection, revision: str) -> None:
    stamp_table.create(connection, checkfirst=True)
    connection.execute(insert(stamp_table).values(version_num=revision))


def _upgrade(connection: Connection, metadata: MetaData, wanted: str) -> None:
    # A tenth of a second, which only those pay who have something to migrate.
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    # Guards would keep a revision from the rows that it must change, and SQLite loses those of a table made anew.
    _drop_triggers(connection, metadata)
    command.upgrade(config, wanted)
    for table in metadata.tables.values():
        table.dispatch.after_create(table, connection)  # what is made with a table, and is always this version's


def _drop_triggers(connection: Connection, metadata: MetaData) -> None:
    postgresql = connection.dialect.name == "postgresql"
    triggers = connection.exec_driver_sql(
        "SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid"
        " WHERE NOT tgisinternal AND pg_table_is_visible(pg_class.oid)"
        if postgresql
        else "SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'"
    )
    for table, trigger in triggers.all():
        if table in metadata.tables:
            connection.exec_driver_sql(f'DROP TRIGGER "{trigger}"' + (f' ON "{table}"' if postgresql else ""))


def _check(connection: Connection, metadata: MetaData) -> None:
    """Hold the tables against those that this version reads and writes, so that nothing stands that it would miss."""
    found = inspect(connection)
    there = {
        (name, column["name"])
        for name in set(found.get_table_names()) & set(metadata.tables)
        for column in found.get_columns(name)
    }
    missing = [
        f"{table.name}.{column.name}"
        for table in metadata.sorted_tables
        for column in table.columns
        if (table.name, column.name) not in there
    ]
    if missing:
        raise ConfigurationError(
            f"no version that was released wrote this database: it lacks {', '.join(missing)}",
            advice="Nothing in it was changed. Name another one in the settings, or put back a copy of it.",
        )
    if connection.dialect.name == "sqlite" and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
        raise ConfigurationError(f"a row of {broken[0][0]} refers to one of {broken[0][2]} that is not there")
