"""What a database says of itself, so that two can be compared: tables, triggers and rows."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from sqlalchemy import Engine, MetaData, inspect, select, text

from btt_bridge.database import reading

_TRIGGERS = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'",
    "postgresql": "SELECT tgname, pg_get_triggerdef(oid) || pg_get_functiondef(tgfoid)"
    " FROM pg_trigger WHERE NOT tgisinternal",
}


def schema(engine: Engine, tables: Collection[str]) -> dict[str, Any]:
    """Return all that binds whoever writes these tables, but the order of columns and the defaults that nobody uses."""
    found = inspect(engine)
    with reading(engine) as connection:
        triggers = {name: " ".join(body.split()) for name, body in connection.execute(text(_TRIGGERS[engine.name]))}
    return {"triggers": triggers} | {
        table: {
            "columns": {row["name"]: (str(row["type"]), row["nullable"]) for row in found.get_columns(table)},
            "key": found.get_pk_constraint(table)["constrained_columns"],
            "checks": {row["name"]: _plain(row["sqltext"]) for row in found.get_check_constraints(table)},
            "foreign keys": _sorted(
                (row["constrained_columns"], row["referred_table"], row["referred_columns"], row["options"])
                for row in found.get_foreign_keys(table)
            ),
            "unique": _sorted(row["column_names"] for row in found.get_unique_constraints(table)),
            "indexes": _sorted(
                (row["name"], row["column_names"], bool(row["unique"]), _words(row.get("dialect_options")))
                for row in found.get_indexes(table)
            ),
        }
        for table in tables
    }


def rows(engine: Engine, tables: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return every row of these tables as the driver gives it."""
    found = MetaData()
    found.reflect(engine, only=tables)
    with reading(engine) as connection:
        return {
            table.name: [
                dict(row) for row in connection.execute(select(table).order_by(*table.primary_key.columns)).mappings()
            ]
            for table in found.tables.values()
        }


def _words(options: Any) -> dict[str, str]:
    return {name: _plain(str(value)) for name, value in (options or {}).items()}


def _plain(condition: str) -> str:
    """Leave out the casts and brackets that PostgreSQL adds, for it adds more when it reads its own words again."""
    return re.sub(r"::(character varying|\w+)(\[\])?|[()\s]", "", condition)


def _sorted(values: Any) -> list[str]:
    return sorted(map(repr, values))
