"""Rows of the ledger's tables, read into its records and written from them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeVar

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Connection,
    Dialect,
    Insert,
    Row,
    Select,
    Table,
    bindparam,
    func,
    insert,
    select,
)

from btt_bridge.ledger.draft import Draft, Standing
from btt_bridge.ledger.moves import Balance, Notice, Posting, Transfer
from btt_bridge.ledger.schema import (
    account_table,
    asset_table,
    open_hold_table,
    outbox_table,
    posting_table,
    transfer_table,
)
from btt_bridge.ledger.totals import total
from btt_bridge.money import Amount, Asset

_T = TypeVar("_T")
_Columns = dict[str, list[Any]]
_ROWS: Final = 100

# Statements are built once, for building one takes SQLAlchemy as long as running it.
_these: BindParameter[Any] = bindparam("these", expanding=True)
_debit, _credit = account_table.alias("debit_account"), account_table.alias("credit_account")
_LAST = (
    select(transfer_table.c.id, transfer_table.c.hash, transfer_table.c.at)
    .order_by(transfer_table.c.id.desc())
    .limit(1)
)
_TRANSFERS = (
    select(
        transfer_table,
        _debit.c.name.label("debit_name"),
        _credit.c.name.label("credit_name"),
        asset_table.c.scale.label("scale"),
    )
    .join(_debit, _debit.c.id == transfer_table.c.debit)
    .join(_credit, _credit.c.id == transfer_table.c.credit)
    .join(asset_table, asset_table.c.code == transfer_table.c.asset)
    .where(transfer_table.c.id.in_(_these))
    .order_by(transfer_table.c.id)
)
_POSTINGS = select(posting_table).where(posting_table.c.issuer == bindparam("issuer"), posting_table.c.key.in_(_these))
_UNRESOLVED = select(open_hold_table.c.hold).where(open_hold_table.c.hold.in_(_these))
ACCOUNTS = select(account_table, asset_table.c.scale).join(asset_table, asset_table.c.code == account_table.c.asset)
_ACCOUNT = ACCOUNTS.where(account_table.c.name == bindparam("name"))
_told = select(func.max(outbox_table.c.sequence)).where(outbox_table.c.account == account_table.c.id)
_STANDING = (
    ACCOUNTS.add_columns(_told.scalar_subquery().label("told"))
    .where(account_table.c.name.in_(_these))
    .order_by(account_table.c.id)
    .with_for_update(of=account_table, key_share=True)
)
NOTICES = (
    select(outbox_table, account_table.c.name, transfer_table.c.at, transfer_table.c.hash)
    .join(posting_table, posting_table.c.id == outbox_table.c.posting)
    .join(transfer_table, transfer_table.c.id == posting_table.c.id + posting_table.c.transfers - 1)
    .join(account_table, account_table.c.id == outbox_table.c.account)
)
_SIDES = (transfer_table.c.debit, transfer_table.c.credit)


def _read(connection: Connection, query: Select[Any], these: Sequence[Any], **more: str) -> Iterator[Row[Any]]:
    """Yield what a query finds of these, as many at a time as every engine takes."""
    for chunk in chunks(these):
        yield from connection.execute(query, {"these": chunk, **more})


def last_transfer(connection: Connection) -> Row[Any] | None:
    return connection.execute(_LAST).first()


def standing(connection: Connection, names: Collection[str]) -> dict[str, Standing]:
    """Return these accounts, locked in the order of their ids."""
    found = {}
    for row in _read(connection, _STANDING, sorted(names)):
        asset, told = Asset(row.asset, row.scale), row.told or 0
        totals = (row.debits_posted, row.credits_posted, row.debits_pending, row.credits_pending)
        found[row.name] = Standing(row.id, row.name, asset, row.credit_limit, told, *totals)
    return found


def postings(connection: Connection, issuer: str, keys: Sequence[str]) -> list[Row[Any]]:
    return list(_read(connection, _POSTINGS, keys, issuer=issuer))


def stored(connection: Connection, rows: Sequence[Row[Any]]) -> list[Posting]:
    """Return postings with their transfers."""
    ids = [row.id + i for row in rows for i in range(row.transfers)]
    found = {t.id: t for t in transfers(connection, ids)}
    return [
        Posting(row.id, row.issuer, row.key, row.at, tuple(found[row.id + i] for i in range(row.transfers)))
        for row in rows
    ]


def transfers(connection: Connection, ids: Sequence[int]) -> list[Transfer]:
    """Return these transfers in the order of the book."""
    return [_transfer(row) for row in _read(connection, _TRANSFERS, sorted(ids))]


def touching(connection: Connection, account: int, limit: int, beyond: int, *, back: bool) -> list[int]:
    """Return the transfers of an account that follow one, newest first; or, going back, that come just before it."""
    number = transfer_table.c.id
    query = select(number).order_by(number if back else number.desc()).limit(limit)
    if beyond:
        query = query.where(number > beyond if back else number < beyond)
    # Each side by its own index; an OR over both would sort the account's whole history.
    found = (found for side in _SIDES for found in connection.execute(query.where(side == account)).scalars())
    return sorted(found, reverse=not back)[:limit]


def change_since(connection: Connection, account: int, transfer: int) -> int:
    """Return by how much the balance of an account has changed since a transfer."""
    moved = (transfer_table.c.id > transfer) & transfer_table.c.kind.in_(("move", "post"))
    debits, credits_ = (
        connection.execute(select(total(transfer_table.c.amount)).where(moved, side == account)).scalar_one()
        for side in _SIDES
    )
    return credits_ - debits


def unresolved(connection: Connection, holds: Collection[int]) -> set[int]:
    """Return those of these holds that nothing has resolved."""
    return {row.hold for row in _read(connection, _UNRESOLVED, sorted(holds))}


def _transfer(row: Row[Any]) -> Transfer:
    return Transfer(
        id=row.id,
        posting=row.posting,
        kind=row.kind,
        debit=row.debit_name,
        credit=row.credit_name,
        amount=Amount(row.amount, Asset(row.asset, row.scale)),
        hold=row.hold,
        expires_at=row.expires_at,
        reason=row.reason,
        at=row.at,
        hash=row.hash,
    )


def one_account(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(_ACCOUNT, {"name": name}).first()


def is_same(row: Row[Any] | None, asset: Asset, credit_limit: int | None) -> bool:
    return row is not None and Asset(row.asset, row.scale) == asset and row.credit_limit == credit_limit


def balance(row: Row[Any]) -> Balance:
    return Balance(
        account=row.name,
        asset=Asset(row.asset, row.scale),
        debits_posted=row.debits_posted,
        credits_posted=row.credits_posted,
        debits_pending=row.debits_pending,
        credits_pending=row.credits_pending,
        credit_limit=row.credit_limit,
    )


def notice(row: Row[Any]) -> Notice:
    return Notice(
        position=row.posting,
        type=row.type,
        account=row.name,
        sequence=row.sequence,
        at=row.at,
        hash=row.hash,
        data=json.loads(row.data),
    )


def write(connection: Connection, draft: Draft) -> None:
    """Write the drafted postings, their transfers and their events; the triggers keep the totals."""
    if not draft.postings:
        return
    columns = {posting_table: _posting_columns(draft), transfer_table: _transfer_columns(draft)}
    if draft.events:
        columns[outbox_table] = _outbox_columns(draft)
    stored = {table: _stored(connection.dialect, table, values) for table, values in columns.items()}
    if connection.dialect.name == "sqlite":
        _insert_by_rows(connection, stored)
    else:
        _insert_at_once(connection, stored)


def _posting_columns(draft: Draft) -> _Columns:
    made, asked = draft.postings, draft.instructions
    return {
        "id": [p.id for p in made],
        "issuer": [p.issuer for p in made],
        "key": [p.key for p in made],
        "digest": [i.digest for i in asked],
        "event": [i.event_digest for i in asked],
        "transfers": [len(p.transfers) for p in made],
        "at": [p.at for p in made],
    }


def _transfer_columns(draft: Draft) -> _Columns:
    made, accounts = [t for p in draft.postings for t in p.transfers], draft.accounts
    return {
        "id": [t.id for t in made],
        "posting": [t.posting for t in made],
        "kind": [t.kind for t in made],
        "debit": [accounts[t.debit].id for t in made],
        "credit": [accounts[t.credit].id for t in made],
        "asset": [t.amount.asset.code for t in made],
        "amount": [t.amount.units for t in made],
        "hold": [t.hold for t in made],
        "expires_at": [t.expires_at for t in made],
        "reason": [t.reason for t in made],
        "at": [t.at for t in made],
        "hash": [t.hash for t in made],
    }


def _outbox_columns(draft: Draft) -> _Columns:
    told = draft.events
    return {
        "posting": [posting for posting, _, _, _ in told],
        "account": [account for _, account, _, _ in told],
        "sequence": [sequence for _, _, sequence, _ in told],
        "type": [event.type for _, _, _, event in told],
        "data": [event.text for _, _, _, event in told],
    }


def _stored(dialect: Dialect, table: Table, columns: _Columns) -> _Columns:
    """Return values as the driver takes them: column by column, in half the time of SQLAlchemy's own row by row."""
    processors = {column.name: column.type.dialect_impl(dialect).bind_processor(dialect) for column in table.c}
    return {
        name: [process(value) for value in values] if (process := processors[name]) else values
        for name, values in columns.items()
    }


def _insert_by_rows(connection: Connection, tables: Mapping[Table, _Columns]) -> None:
    """Insert on SQLite, some rows a statement: what it does to be able to undo a statement costs as much as a row."""
    for table, columns in tables.items():
        for chunk in chunks(list(zip(*columns.values(), strict=True)), _ROWS):
            values = tuple(chain.from_iterable(chunk))
            connection.exec_driver_sql(_inserting_rows(table, connection.dialect, len(chunk)), values)


def _insert_at_once(connection: Connection, tables: Mapping[Table, _Columns]) -> None:
    """Insert on PostgreSQL in one statement: one round trip, and its triggers work once a statement."""
    values = {f"{table.name}_{name}": column for table, columns in tables.items() for name, column in columns.items()}
    connection.exec_driver_sql(_inserting_at_once(tuple(tables), connection.dialect), values)


@lru_cache(maxsize=512)
def _inserting_rows(table: Table, dialect: Dialect, count: int) -> str:
    head, values = str(insert(table).compile(dialect=dialect)).split(" VALUES ")
    return f"{head} VALUES {', '.join([values] * count)}"


@lru_cache(maxsize=16)
def _inserting_at_once(tables: tuple[Table, ...], dialect: Dialect) -> str:
    *before, last = [_inserting_arrays(table) for table in tables]
    whole = last.add_cte(*(one.cte(f"{one.table.name}_rows") for one in before))
    return str(whole.compile(dialect=dialect))


def _inserting_arrays(table: Table) -> Insert:
    """Return the insert of as many rows as its arrays hold."""
    names = [column.name for column in table.c]
    arrays = (func.unnest(bindparam(f"{table.name}_{column.name}", type_=ARRAY(column.type))) for column in table.c)
    return insert(table).from_select(names, select(*arrays))


def chunks(values: Sequence[_T], size: int = 5000) -> Iterator[Sequence[_T]]:
    """Cut what goes into one IN (…) to what every engine takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
