"""Rows of the ledger's tables, read into its records and written from them."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import ARRAY, Column, Connection, Dialect, Row, Table, bindparam, func, insert, select

from btt_bridge.ledger.draft import Draft, Standing
from btt_bridge.ledger.moves import Balance, Event, Notice, Posting, Transfer
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

_debit, _credit = account_table.alias("debit_account"), account_table.alias("credit_account")
TRANSFERS = (
    select(
        transfer_table,
        _debit.c.name.label("debit_name"),
        _credit.c.name.label("credit_name"),
        asset_table.c.scale.label("scale"),
    )
    .join(_debit, _debit.c.id == transfer_table.c.debit)
    .join(_credit, _credit.c.id == transfer_table.c.credit)
    .join(asset_table, asset_table.c.code == transfer_table.c.asset)
)
ACCOUNTS = select(account_table, asset_table.c.scale).join(asset_table, asset_table.c.code == account_table.c.asset)

NOTICES = (
    select(outbox_table, account_table.c.name, transfer_table.c.at, transfer_table.c.hash)
    .join(posting_table, posting_table.c.id == outbox_table.c.posting)
    .join(transfer_table, transfer_table.c.id == posting_table.c.id + posting_table.c.transfers - 1)
    .join(account_table, account_table.c.id == outbox_table.c.account)
)
_SIDES = (transfer_table.c.debit, transfer_table.c.credit)


def standing(connection: Connection, names: Collection[str]) -> dict[str, Standing]:
    found = {}
    for chunk in chunks(sorted(names)):
        query = ACCOUNTS.where(account_table.c.name.in_(chunk)).order_by(account_table.c.id)
        for row in connection.execute(query.with_for_update(of=account_table, key_share=True)):
            totals = (row.debits_posted, row.credits_posted, row.debits_pending, row.credits_pending)
            found[row.name] = Standing(row.id, row.name, Asset(row.asset, row.scale), row.credit_limit, *totals)
    return found


def postings(connection: Connection, issuer: str, keys: Sequence[str]) -> list[Row[Any]]:
    return [
        row
        for chunk in chunks(keys)
        for row in connection.execute(
            select(posting_table).where(posting_table.c.issuer == issuer, posting_table.c.key.in_(chunk))
        )
    ]


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
    return [
        _transfer(row)
        for chunk in chunks(sorted(ids))
        for row in connection.execute(TRANSFERS.where(transfer_table.c.id.in_(chunk)).order_by(transfer_table.c.id))
    ]


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
    return {
        hold
        for chunk in chunks(sorted(holds))
        for hold in connection.execute(
            select(open_hold_table.c.hold).where(open_hold_table.c.hold.in_(chunk))
        ).scalars()
    }


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
    return connection.execute(ACCOUNTS.where(account_table.c.name == name)).first()


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
    ids = {name: account.id for name, account in draft.accounts.items()}
    pairs = list(zip(draft.postings, draft.instructions, strict=True))
    _insert(
        connection,
        posting_table,
        [
            {
                "id": p.id,
                "issuer": p.issuer,
                "key": p.key,
                "digest": i.digest,
                "event": i.event_digest,
                "transfers": len(p.transfers),
                "at": p.at,
            }
            for p, i in pairs
        ],
    )
    _insert(
        connection,
        transfer_table,
        [
            {
                "id": t.id,
                "posting": t.posting,
                "kind": t.kind,
                "debit": ids[t.debit],
                "credit": ids[t.credit],
                "asset": t.amount.asset.code,
                "amount": t.amount.units,
                "hold": t.hold,
                "expires_at": t.expires_at,
                "reason": t.reason,
                "at": t.at,
                "hash": t.hash,
            }
            for p in draft.postings
            for t in p.transfers
        ],
    )
    _tell(connection, ids, [(p.id, i.event) for p, i in pairs if i.event])


def _tell(connection: Connection, ids: Mapping[str, int], events: Sequence[tuple[int, Event]]) -> None:
    """Put events into the outbox, each with its account's next number."""
    if not events:
        return
    sequence = {
        account: connection.execute(
            select(func.coalesce(func.max(outbox_table.c.sequence), 0)).where(outbox_table.c.account == account)
        ).scalar_one()
        for account in {ids[event.account] for _, event in events}
    }
    rows = []
    for posting, event in events:
        account = ids[event.account]
        sequence[account] += 1
        rows.append(
            {
                "posting": posting,
                "account": account,
                "sequence": sequence[account],
                "type": event.type,
                "data": event.text,
            }
        )
    _insert(connection, outbox_table, rows)


def _insert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert many rows, each with every column.

    On PostgreSQL it is one statement, for its triggers work once a statement. The values are made column by column,
    which takes half the time of SQLAlchemy's own row by row.
    """
    dialect = connection.dialect
    columns = {column.name: _stored_values(dialect, column, rows) for column in table.c}
    if dialect.name == "sqlite":
        connection.exec_driver_sql(_statement(table, dialect), list(zip(*columns.values(), strict=True)))
    else:
        connection.exec_driver_sql(_statement(table, dialect), columns)


@lru_cache(maxsize=64)
def _statement(table: Table, dialect: Dialect) -> str:
    """Return the text that inserts one row on SQLite, or as many as its arrays hold on PostgreSQL."""
    if dialect.name == "sqlite":
        return str(insert(table).compile(dialect=dialect))
    arrays = (func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in table.c)
    rows = insert(table).from_select([column.name for column in table.c], select(*arrays))
    return str(rows.compile(dialect=dialect))


def _stored_values(dialect: Dialect, column: Column[Any], rows: Sequence[Mapping[str, Any]]) -> list[Any]:
    name, stored = column.name, column.type.dialect_impl(dialect).bind_processor(dialect)
    return [stored(row[name]) for row in rows] if stored else [row[name] for row in rows]


def chunks(values: Sequence[_T], size: int = 5000) -> Iterator[Sequence[_T]]:
    """Cut what goes into one IN (…) to what every engine takes."""
    for start in range(0, len(values), size):
        yield values[start : start + size]
