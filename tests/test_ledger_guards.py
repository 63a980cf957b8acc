"""What the database itself refuses, whoever writes to it: raw SQL past all of our code, on both engines."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from sqlalchemy import make_url

from btt_bridge.ledger import Event, Hold, Ledger, Move, Post, audit
from btt_bridge.money import CNY, POINTS, Amount
from btt_bridge.testing import FakeClock

NOW, LATER = "2026-01-05T08:00:00.000000Z", "2026-01-05T09:00:00.000000Z"
#: In the ledger below: 1 and 2 hold CNY, 3 is the world, 4 holds points; transfers 1 to 4 stand, 5 is next.
MOVE = {
    "id": 5,
    "posting": 5,
    "kind": "move",
    "debit": 1,
    "credit": 2,
    "asset": "CNY",
    "amount": 10,
    "hold": None,
    "expires_at": None,
    "reason": "raw",
    "at": NOW,
}


class Raw:
    """A connection that knows nothing of our code; on SQLite even without foreign keys switched on."""

    def __init__(self, url: str) -> None:
        self.sqlite = url.startswith("sqlite")
        if self.sqlite:
            self.connection: Any = sqlite3.connect(make_url(url).database or "", isolation_level=None)
            self.connection.execute("PRAGMA foreign_keys=OFF")
        else:
            plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
            self.connection = psycopg.connect(plain, autocommit=True)

    def run(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement if self.sqlite else statement.replace("?", "%s"), values)

    def units(self, number: int | str) -> Any:
        """Write a number as this engine's column keeps it."""
        return f"{number:038d}" if self.sqlite and isinstance(number, int) else number

    def insert(self, table: str, row: dict[str, Any], verb: str = "INSERT") -> None:
        marks = ", ".join("?" * len(row))
        self.run(f"{verb} INTO {table} ({', '.join(row)}) VALUES ({marks})", *row.values())

    def transfer(self, verb: str = "INSERT", **changes: Any) -> None:
        """Insert a posting of one transfer, as an attacker would who has read our schema."""
        row = MOVE | {"hash": b"h" * 32} | changes
        if isinstance(row["amount"], int) and row["amount"] >= 0:
            row["amount"] = self.units(row["amount"])
        posting = {"id": 5, "issuer": "raw", "key": "raw", "digest": b"d" * 32, "event": b"", "transfers": 1, "at": NOW}
        self.run("BEGIN")
        try:
            self.insert("posting", posting)
            self.insert("transfer", row, verb)
        except Exception:
            self.run("ROLLBACK")
            raise
        self.run("COMMIT")


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, FakeClock())
    ledger.open_account("a:cny", CNY)
    ledger.open_account("b:cny", CNY)
    ledger.open_account("world:cny", CNY, credit_limit=None)
    ledger.open_account("a:points", POINTS)
    ledger.post_all("t", "1", [Move("world:cny", "a:cny", Amount(100, CNY), "fund")], Event("btt.t.v1", "a:cny", {}))
    expires_at = datetime(2026, 1, 5, 9, tzinfo=UTC)
    for key in ("2", "3"):
        ledger.post_all("t", key, [Hold("a:cny", "b:cny", Amount(20, CNY), "hold", expires_at)])
    ledger.post_all("t", "4", [Post(3, "post")])
    yield ledger
    ledger.close()


@pytest.fixture
def raw(database_url: str, ledger: Ledger) -> Iterator[Raw]:
    raw = Raw(database_url)
    yield raw
    raw.connection.close()


def refused(do: Callable[[], None], reason: str) -> None:
    with pytest.raises((sqlite3.DatabaseError, psycopg.Error), match=reason):
        do()


def test_a_well_formed_row_moves_the_totals_by_the_database_alone(ledger: Ledger, raw: Raw) -> None:
    """The triggers keep the books even for a stranger's insert; only the chain cannot be forged without the code."""
    raw.transfer()
    assert (ledger.balance("a:cny").units, ledger.balance("b:cny").units) == (70, 30)
    assert sum(ledger.trial_balance().values()) == 0
    assert audit.verify(ledger).problem.startswith("transfer 5: its content")


def test_rows_are_never_changed_or_deleted(raw: Raw) -> None:
    """No statement alters history: not one row, and not all of them at once."""
    columns = {"transfer": "reason", "posting": "key", "account": "name", "outbox": "type", "asset": "code"}
    for table, column in columns.items():
        statements = [f"UPDATE {table} SET {column} = 'x'", f"DELETE FROM {table}"]
        if not raw.sqlite:
            statements.append(f"TRUNCATE {table} CASCADE")
        for statement in statements:
            refused(partial(raw.run, statement), "never changed or deleted|never deleted|are fixed")


NO_AMOUNTS: Final[list[Any]] = [0, -1, 1.5, "NaN", "Infinity", "-5", "x", 10**38, None]


def test_only_whole_positive_amounts_are_written(ledger: Ledger, raw: Raw) -> None:
    """Zero, negative, fractional, not a number, endless, too long, nothing: the column takes none of them."""
    before = ledger.balances()
    for amount in NO_AMOUNTS:
        refused(partial(raw.transfer, amount=amount), "amount|numeric|invalid input|null value")
    assert ledger.balances() == before


BROKEN: Final[list[tuple[dict[str, Any], str]]] = [
    ({"amount": 61}, "account_is_covered"),
    ({"kind": "hold", "expires_at": LATER, "amount": 61}, "account_is_covered"),
    ({"debit": 2, "credit": 1, "amount": 21}, "account_is_covered"),
    ({"credit": 1}, "transfer_has_two_sides"),
    ({"credit": 99}, "both accounts|foreign key"),
    ({"debit": 99}, "both accounts|foreign key"),
    ({"credit": 4}, "both accounts|foreign key"),
    ({"asset": "POINTS"}, "both accounts|foreign key"),
    ({"asset": "USD"}, "both accounts|foreign key"),
    ({"id": 6}, "no gaps"),
    ({"id": 4}, "no gaps|duplicate key"),
    ({"posting": 4}, "belongs to a posting"),
    ({"posting": 99}, "belongs to a posting|foreign key"),
    ({"kind": "gift"}, "transfer_kind"),
    ({"kind": "hold"}, "transfer_hold_expires"),
    ({"kind": "post"}, "transfer_resolves_a_hold"),
    ({"hold": 2}, "transfer_resolves_a_hold|does not match its hold"),
    ({"reason": "a\nb"}, "reason_is_plain"),
    ({"hash": None}, "(?i)not null|null value"),
]


def test_a_transfer_that_breaks_a_rule_is_refused(ledger: Ledger, raw: Raw) -> None:
    """Overdraft, one-sided, unknown account, mixed assets, gaps, half a hold: each refused by its own rule."""
    before = ledger.balances()
    for changes, reason in BROKEN:
        refused(partial(raw.transfer, **changes), reason)
    assert ledger.balances() == before
    assert audit.verify(ledger).problem == ""


MISMATCHED: Final[list[tuple[dict[str, Any], str]]] = [
    ({"hold": 3, "amount": 20}, "resolved before|hold_resolved_once"),
    ({"hold": 2, "amount": 21}, "does not match its hold"),
    ({"hold": 2, "amount": 20, "debit": 2, "credit": 1}, "does not match its hold"),
    ({"hold": 2, "amount": 20, "credit": 3}, "does not match its hold"),
    ({"hold": 1, "amount": 20}, "does not match its hold"),
    ({"hold": 99, "amount": 20}, "does not match its hold|foreign key"),
    ({"hold": 2, "amount": 20, "at": LATER}, "does not match its hold"),
    ({"hold": 2, "kind": "void", "amount": 19}, "does not match its hold"),
    ({"hold": 2, "kind": "expire", "amount": 20}, "does not match its hold"),
]


def test_a_hold_is_resolved_once_and_by_what_matches_it(ledger: Ledger, raw: Raw) -> None:
    """Twice, too much, elsewhere, no hold, too late, too little, too early: the database refuses each."""
    for changes, reason in MISMATCHED:
        refused(partial(raw.transfer, **({"kind": "post"} | changes)), reason)
    assert ledger.is_open(2)
    assert audit.verify(ledger).problem == ""


TAMPERING: Final[list[str]] = [
    "credits_posted = debits_posted",
    "last_transfer = 99, debits_pending = credits_posted",
    "last_transfer = 4, debits_pending = credits_posted",
    "last_transfer = last_transfer - 1",
    "name = 'c:cny'",
    "asset = 'POINTS'",
    "id = 77",
]


def test_totals_move_with_transfers_and_in_no_other_way(ledger: Ledger, raw: Raw) -> None:
    """An account's row cannot be set to anything: not its totals, even naming a transfer, nor what it is."""
    for change in TAMPERING:
        refused(partial(raw.run, f"UPDATE account SET {change} WHERE id = 1"), "follow from its transfers|are fixed")
    assert audit.verify(ledger).problem == ""


def test_a_credit_limit_below_what_is_owed_is_refused(raw: Raw) -> None:
    """The one column that may change still answers to the rule against overdraft."""
    raw.run("UPDATE account SET credit_limit = ? WHERE id = 1", raw.units(5))
    raw.transfer(amount=65)
    refused(lambda: raw.run("UPDATE account SET credit_limit = ? WHERE id = 1", raw.units(4)), "account_is_covered")
    refused(lambda: raw.run("UPDATE account SET credit_limit = '5.5' WHERE id = 1"), "credit_limit_is_whole")


def test_an_account_opens_at_zero(raw: Raw) -> None:
    """Nobody opens an account with money in it."""
    totals = dict.fromkeys(("debits_posted", "credits_posted", "debits_pending", "credits_pending"), raw.units(0))
    row = {"id": 9, "name": "c:cny", "asset": "CNY", "credit_limit": raw.units(0), **totals, "last_transfer": 0}
    refused(lambda: raw.insert("account", row | {"credits_posted": raw.units(1)}), "opens at zero")
    refused(lambda: raw.insert("account", row | {"last_transfer": 4}), "opens at zero")
    refused(lambda: raw.insert("account", row | {"name": "C CNY"}), "name_is_plain")
    raw.insert("account", row)


def test_a_posting_begins_where_the_one_before_it_ends(raw: Raw) -> None:
    """Postings claim their transfers without gap or overlap, under a key that is free."""
    row = {"id": 5, "issuer": "raw", "key": "raw", "digest": b"d" * 32, "event": b"", "transfers": 1, "at": NOW}
    refused(lambda: raw.insert("posting", row | {"id": 6}), "begins where")
    refused(lambda: raw.insert("posting", row | {"id": 4}), "begins where|never replaced|duplicate key")
    refused(lambda: raw.insert("posting", row | {"issuer": "t", "key": "1"}), "never replaced|duplicate key")
    refused(lambda: raw.insert("posting", row | {"transfers": 0}), "posting_has_transfers")


@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "INSERT OR IGNORE", "REPLACE"])
def test_sqlite_conflict_clauses_open_no_back_door(tmp_path: Path, verb: str) -> None:
    """REPLACE deletes without asking delete triggers, and IGNORE skips updates that fail in triggers: neither helps."""
    url = f"sqlite:///{tmp_path / 'raw.db'}"
    ledger = Ledger(url, FakeClock())
    ledger.open_account("a:cny", CNY)
    ledger.open_account("b:cny", CNY)
    ledger.open_account("world:cny", CNY, credit_limit=None)
    for key in "1234":
        ledger.post_all("t", key, [Move("world:cny", "a:cny", Amount(15, CNY), "fund")])
    before, raw = ledger.balances(), Raw(url)
    refused(lambda: raw.transfer(verb, amount=61), "account_is_covered")
    refused(lambda: raw.transfer(verb, id=4), "no gaps")
    posting = {"id": 4, "issuer": "t", "key": "4", "digest": b"d" * 32, "event": b"", "transfers": 1, "at": NOW}
    refused(lambda: raw.insert("posting", posting, verb), "never replaced|begins where")
    refused(lambda: raw.insert("asset", {"code": "CNY", "scale": 3}, verb), "never replaced")
    totals = dict.fromkeys(("debits_posted", "credits_posted", "debits_pending", "credits_pending"), raw.units(0))
    account = {"id": 1, "name": "a:cny", "asset": "CNY", **totals, "last_transfer": 0}
    refused(lambda: raw.insert("account", account, verb), "never replaced")
    assert ledger.balances() == before
    assert audit.verify(ledger).problem == ""
    raw.connection.close()
    ledger.close()
