"""The ledger's tables: what a row must look like before anybody may call it money."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from btt_bridge.database import Moment
from btt_bridge.ledger.digits import DIGITS, ZERO, plus

metadata = MetaData(info={"history": "ledger"})

#: SQLite counts rows by INTEGER PRIMARY KEY alone; PostgreSQL's INTEGER ends at 2 billion.
Id = BigInteger().with_variant(Integer, "sqlite")


class Units(TypeDecorator[int]):
    """A whole number of up to 38 digits: NUMERIC on PostgreSQL, zero-padded text on SQLite, whose integers are 64 bit.

    Fixed width makes the text compare as the number does, so that constraints mean the same on both.
    """

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        # No precision: with one, PostgreSQL would round a fraction quietly before the constraint could refuse it.
        return dialect.type_descriptor(String(DIGITS) if dialect.name == "sqlite" else Numeric(asdecimal=True))

    def process_bind_param(self, value: int | None, dialect: Dialect) -> Any:
        if value is None:
            return None
        return f"{value:038d}" if dialect.name == "sqlite" else Decimal(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        return None if value is None else int(value)


class Hash(LargeBinary):
    """32 bytes of SHA-256. Both drivers take and give plain bytes, so nothing need be done to them on the way."""

    cache_ok = True

    def __init__(self) -> None:
        super().__init__(32)

    def bind_processor(self, dialect: Dialect) -> None:
        return None

    def result_processor(self, dialect: Dialect, coltype: object) -> None:
        return None


def _check(name: str, sqlite: str, postgresql: str) -> tuple[CheckConstraint, CheckConstraint]:
    """Say one rule to both engines."""
    return (
        CheckConstraint(sqlite, name=name).ddl_if(dialect="sqlite"),
        CheckConstraint(postgresql, name=name).ddl_if(dialect="postgresql"),
    )


def _whole(column: str, *, least: int, nullable: bool = False) -> tuple[CheckConstraint, CheckConstraint]:
    """Constrain a Units column to whole numbers from `least` (0 or 1) to 38 digits."""
    text = f"typeof({column}) = 'text' AND length({column}) = {DIGITS} AND {column} NOT GLOB '*[^0-9]*'"
    if least:
        text += f" AND {column} > '{ZERO}'"
    # NaN is above every number to PostgreSQL, so that the upper bound is what refuses it.
    number = f"{column} >= {least} AND {column} < 1e{DIGITS} AND scale({column}) = 0"
    unless = f"{column} IS NULL OR " if nullable else ""
    return _check(f"{column}_is_whole", f"{unless}({text})", f"{unless}({number})")


def _spelled(column: str, letters: str) -> tuple[CheckConstraint, CheckConstraint]:
    """Constrain a text column to a set of characters, none of which could blur the content that is hashed."""
    return _check(
        f"{column}_is_plain",
        f"{column} <> '' AND {column} NOT GLOB '*[^{letters}]*'",
        f"{column} ~ '^[{letters}]+$'",
    )


asset_table = Table(
    "asset",
    metadata,
    Column("code", String(8), primary_key=True),
    Column("scale", SmallInteger, nullable=False),
    CheckConstraint("scale BETWEEN 0 AND 18", name="scale_is_sane"),
    *_spelled("code", "A-Z"),
)

account_table = Table(
    "account",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("asset", ForeignKey("asset.code"), nullable=False),
    # How far debits may exceed credits; null where there is no limit.
    Column("credit_limit", Units, nullable=True),
    # The triggers alone keep these, from the transfers; a reader pays for one row, however long the history.
    Column("debits_posted", Units, nullable=False),
    Column("credits_posted", Units, nullable=False),
    Column("debits_pending", Units, nullable=False),
    Column("credits_pending", Units, nullable=False),
    # The last transfer that touched it.
    Column("last_transfer", Id, nullable=False, default=0),
    UniqueConstraint("id", "asset"),
    *_spelled("name", "a-z0-9:._-"),
    *_whole("credit_limit", least=0, nullable=True),
    *_whole("debits_posted", least=0),
    *_whole("credits_posted", least=0),
    *_whole("debits_pending", least=0),
    *_whole("credits_pending", least=0),
    # No overdraft, whoever writes and however many at once. 39 digits, for sums of two may need them.
    *_check(
        "account_is_covered",
        f"credit_limit IS NULL OR ({plus('debits_posted', 'debits_pending', 39)})"
        f" <= ({plus('credits_posted', 'credit_limit', 39)})",
        "credit_limit IS NULL OR debits_posted + debits_pending <= credits_posted + credit_limit",
    ),
)

posting_table = Table(
    "posting",
    metadata,
    # That of its first transfer.
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("issuer", String(64), nullable=False),
    Column("key", String(200), nullable=False),
    # SHA-256 of what was asked, so that the same key cannot ask for something else.
    Column("digest", Hash(), nullable=False),
    # SHA-256 of its event in the outbox, empty where there is none.
    Column("event", Hash(), nullable=False),
    Column("transfers", Integer, nullable=False),
    Column("at", Moment, nullable=False),
    UniqueConstraint("issuer", "key"),
    CheckConstraint("transfers > 0", name="posting_has_transfers"),
    *_spelled("issuer", "A-Za-z0-9:._-"),
    *_spelled("key", "A-Za-z0-9:._-"),
)

transfer_table = Table(
    "transfer",
    metadata,
    # Without gaps, in the order of the chain.
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("posting", ForeignKey("posting.id"), nullable=False),
    Column("kind", String(6), nullable=False),
    Column("debit", Id, nullable=False),
    Column("credit", Id, nullable=False),
    Column("asset", String(8), nullable=False),
    Column("amount", Units, nullable=False),
    # The hold that a post, void or expire resolves.
    Column("hold", ForeignKey("transfer.id"), nullable=True),
    # When a hold runs out.
    Column("expires_at", Moment, nullable=True),
    Column("reason", String(64), nullable=False),
    Column("at", Moment, nullable=False),
    # SHA-256 of the previous row's hash and this row's content.
    Column("hash", Hash(), nullable=False),
    # One row is a debit and a credit of one amount of one asset: there is no way to write half of it.
    ForeignKeyConstraint(["debit", "asset"], ["account.id", "account.asset"]),
    ForeignKeyConstraint(["credit", "asset"], ["account.id", "account.asset"]),
    CheckConstraint("debit <> credit", name="transfer_has_two_sides"),
    CheckConstraint("kind IN ('move', 'hold', 'post', 'void', 'expire')", name="transfer_kind"),
    CheckConstraint("(kind IN ('post', 'void', 'expire')) = (hold IS NOT NULL)", name="transfer_resolves_a_hold"),
    CheckConstraint("(kind = 'hold') = (expires_at IS NOT NULL)", name="transfer_hold_expires"),
    *_whole("amount", least=1),
    *_spelled("reason", "a-z0-9 -"),
    Index("transfer_by_debit", "debit", "id"),
    Index("transfer_by_credit", "credit", "id"),
    Index("transfer_by_posting", "posting"),
)
# A hold is resolved at most once, whoever tries.
_resolves = transfer_table.c.hold.is_not(None)
Index("hold_resolved_once", transfer_table.c.hold, unique=True, sqlite_where=_resolves, postgresql_where=_resolves)

open_hold_table = Table(
    "open_hold",
    metadata,
    Column("hold", ForeignKey("transfer.id"), primary_key=True, autoincrement=False),
    Column("expires_at", Moment, nullable=False),
    Index("open_hold_due", "expires_at"),
)

outbox_table = Table(
    "outbox",
    metadata,
    Column("posting", ForeignKey("posting.id"), primary_key=True, autoincrement=False),
    # Events of one account are numbered 1, 2, 3, … so that a consumer can tell a gap from a pause.
    Column("account", ForeignKey("account.id"), nullable=False),
    Column("sequence", Id, nullable=False),
    Column("type", String(64), nullable=False),
    Column("data", Text, nullable=False),
    UniqueConstraint("account", "sequence"),
    # For whoever reads some types alone.
    Index("outbox_by_type", "type", "posting"),
)

drained_table = Table(
    "drained",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("position", Id, nullable=False),
)

# What holds a sink up; no row where nothing does.
hindrance_table = Table(
    "hindrance",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("stopped", Boolean, nullable=False),
    Column("reason", String(255), nullable=False),
    Column("advice", String(255), nullable=False),
    Column("since", Moment, nullable=False),
)

batch_table = Table(
    "batch",
    metadata,
    Column("id", Id, primary_key=True, autoincrement=False),
    Column("first_transfer", Id, nullable=False),
    Column("last_transfer", Id, nullable=False),
    Column("root", Hash(), nullable=False),
    # The signed statement of all the above, as JSON.
    Column("envelope", Text, nullable=False),
    Column("at", Moment, nullable=False),
)

# How the root of a batch stands where it was anchored; a note of ours, which the chain itself decides.
anchor_table = Table(
    "anchor",
    metadata,
    Column("place", String(128), primary_key=True),
    Column("batch", ForeignKey("batch.id"), primary_key=True, autoincrement=False),
    Column("standing", String(8), nullable=False),
    # That of the transaction which posted it; "" where none did, or nobody knows which.
    Column("transaction", String(128), nullable=False),
    Column("at", Moment, nullable=False),
)
