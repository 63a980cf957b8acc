"""The ledger itself: accounts, postings and what they add up to; each call is one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from btt_bridge.clock import Clock, SystemClock
from btt_bridge.database import open_database, reading, writing
from btt_bridge.errors import (
    LedgerError,
    UnknownAccountError,
)
from btt_bridge.ledger import rows
from btt_bridge.ledger.guards import metadata
from btt_bridge.ledger.moves import (
    Balance,
    Event,
    Hindrance,
    Instruction,
    Line,
    Notice,
    Posting,
    Step,
    Transfer,
)
from btt_bridge.ledger.schema import (
    account_table,
    asset_table,
    drained_table,
    hindrance_table,
    open_hold_table,
    outbox_table,
    posting_table,
    transfer_table,
)
from btt_bridge.ledger.totals import total
from btt_bridge.ledger.transaction import Transaction
from btt_bridge.money import Asset


class Ledger:
    """An append-only book of double entries on SQLite or PostgreSQL."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self.engine: Engine = open_database(url, metadata)
        self.clock: Clock = clock or SystemClock()

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()

    # --- accounts ---------------------------------------------------------------------------------------

    def open_account(self, name: str, asset: Asset, *, credit_limit: int | None = 0, keep_used: bool = False) -> None:
        """Open an account, or leave one that stands as it is but for its credit limit.

        `credit_limit` is how many minor units debits may exceed credits by; None is without limit, for the
        accounts that stand for the world outside. The asset, and its scale, are fixed for ever. Raises OverdrawnError
        where more is owed or held than the limit; with `keep_used` just that much stays the limit until it is less.
        """
        with reading(self.engine) as connection:
            if rows.is_same(rows.one_account(connection, name), asset, credit_limit):
                return
        with self.transaction() as book:
            book.open_account(name, asset, credit_limit=credit_limit, keep_used=keep_used)

    def balance(self, account: str) -> Balance:
        """Return what an account stands at; one row, however long its history."""
        with reading(self.engine) as connection:
            row = rows.one_account(connection, account)
        if row is None:
            raise UnknownAccountError(f"there is no account {account}")
        return rows.balance(row)

    def balances(self, prefix: str = "") -> list[Balance]:
        """Return every account, or every one whose name begins so, by name."""
        name = account_table.c.name
        query = rows.ACCOUNTS.where(name.startswith(prefix, autoescape=True)) if prefix else rows.ACCOUNTS
        with reading(self.engine) as connection:
            return [rows.balance(row) for row in connection.execute(query.order_by(name))]

    def accounts(self, limit: int, beyond: str = "", *, back: bool = False) -> list[Balance]:
        """Return so many accounts, by name, that follow one; or, going back, that come just before it."""
        name = account_table.c.name
        query = rows.ACCOUNTS.order_by(name.desc() if back else name).limit(limit)
        if beyond:
            query = query.where(name < beyond if back else name > beyond)
        with reading(self.engine) as connection:
            found = [rows.balance(row) for row in connection.execute(query)]
        return found[::-1] if back else found

    def trial_balance(self) -> dict[Asset, int]:
        """Return credits less debits over all accounts of each asset: zero, or the book is broken."""
        query = (
            select(
                asset_table.c.code,
                asset_table.c.scale,
                total(account_table.c.credits_posted).label("credits"),
                total(account_table.c.debits_posted).label("debits"),
            )
            .join(account_table, account_table.c.asset == asset_table.c.code)
            .group_by(asset_table.c.code, asset_table.c.scale)
            .order_by(asset_table.c.code)
        )
        with reading(self.engine) as connection:
            return {Asset(row.code, row.scale): row.credits - row.debits for row in connection.execute(query)}

    def statement(self, account: str, limit: int = 100, beyond: int = 0, *, back: bool = False) -> list[Line]:
        """Return lines of an account, newest first, each with the balance after it.

        They are the newest, or those that follow a transfer, which are older; or, going back, those just before it.
        """
        with reading(self.engine) as connection:
            row = rows.one_account(connection, account)
            if row is None:
                raise UnknownAccountError(f"there is no account {account}")
            transfers = rows.transfers(connection, rows.touching(connection, row.id, limit, beyond, back=back))
            newer = rows.change_since(connection, row.id, transfers[-1].id) if beyond and transfers else 0
        lines, balance = [], rows.balance(row).units - newer
        for transfer in reversed(transfers):
            units = transfer.amount.units if transfer.kind in ("move", "post") else 0
            change = units if transfer.credit == account else -units
            lines.append(Line(transfer, change, balance))
            balance -= change
        return lines

    # --- postings ---------------------------------------------------------------------------------------

    def post(self, instruction: Instruction) -> Posting:
        """Carry out one instruction, durably, and once: again, it returns the same answer.

        Raises KeyConflictError where its key was used for something else, and the LedgerError that refuses it.
        """
        (answer,) = self.post_many([instruction])
        if isinstance(answer, LedgerError):
            raise answer
        return answer

    def post_all(self, issuer: str, key: str, steps: Sequence[Step], event: Event | None = None) -> Posting:
        """Carry out linked steps under one key, all or nothing."""
        return self.post(Instruction(issuer, key, tuple(steps), event))

    def post_many(self, instructions: Sequence[Instruction]) -> list[Posting | LedgerError]:
        """Carry out many instructions in one commit; one that is refused has its error, and costs only itself."""
        with self.transaction() as book:
            return book.post_many(instructions)

    def find(self, issuer: str, key: str) -> Posting | None:
        """Return what was posted under a key, or None."""
        found = self.find_all(issuer, [key])
        return found[0] if found else None

    def find_all(self, issuer: str, keys: Sequence[str]) -> list[Posting]:
        """Return what was posted under any of these keys, in the order of the book."""
        with reading(self.engine) as connection:
            found = rows.stored(connection, rows.postings(connection, issuer, keys))
        return sorted(found, key=lambda posting: posting.id)

    def latest(self, limit: int) -> list[Transfer]:
        """Return the newest transfers, newest first."""
        query = select(transfer_table.c.id).order_by(transfer_table.c.id.desc()).limit(limit)
        with reading(self.engine) as connection:
            return rows.transfers(connection, connection.execute(query).scalars().all())[::-1]

    def postings(self, after: int, limit: int) -> list[Posting]:
        """Return postings behind one, in the order of the book; 0 is its beginning."""
        query = select(posting_table).where(posting_table.c.id > after).order_by(posting_table.c.id).limit(limit)
        with reading(self.engine) as connection:
            return rows.stored(connection, connection.execute(query).all())

    def now(self) -> datetime:
        """Return the instant that a posting would bear now; a clock that was set back does not turn back the book."""
        with reading(self.engine) as connection:
            last = rows.last_transfer(connection)
        now = self.clock.now()
        return max(now, last.at) if last else now

    # --- holds ------------------------------------------------------------------------------------------

    def is_open(self, hold: int) -> bool:
        """Say whether nothing has resolved this hold yet."""
        return bool(self.unresolved([hold]))

    def unresolved(self, holds: Collection[int]) -> set[int]:
        """Return those of these holds that nothing has resolved yet."""
        if not holds:
            return set()
        with reading(self.engine) as connection:
            return rows.unresolved(connection, holds)

    def overdue(self, accounts: Sequence[str], limit: int) -> list[Transfer]:
        """Return open holds on these accounts whose time is over, longest overdue first."""
        with reading(self.engine) as connection:
            due = (
                select(open_hold_table.c.hold)
                .join(transfer_table, transfer_table.c.id == open_hold_table.c.hold)
                .join(account_table, account_table.c.id == transfer_table.c.debit)
                .where(open_hold_table.c.expires_at <= self.clock.now(), account_table.c.name.in_(accounts))
                .order_by(open_hold_table.c.expires_at)
                .limit(limit)
            )
            return rows.transfers(connection, connection.execute(due).scalars().all())

    # --- outbox -----------------------------------------------------------------------------------------

    def notices(self, after: int, limit: int, types: Collection[str] = ()) -> list[Notice]:
        """Return events behind a position in the outbox, of some types or all, in the order of the book."""
        query = rows.NOTICES.where(outbox_table.c.posting > after).order_by(outbox_table.c.posting).limit(limit)
        if types:
            query = query.where(outbox_table.c.type.in_(types))
        with reading(self.engine) as connection:
            return [rows.notice(row) for row in connection.execute(query)]

    def told(self, limit: int, beyond: int = 0, *, back: bool = False) -> list[Notice]:
        """Return events, newest first: the newest, or those older than a position; or, going back, just newer."""
        posting = outbox_table.c.posting
        query = rows.NOTICES.order_by(posting if back else posting.desc()).limit(limit)
        if beyond:
            query = query.where(posting > beyond if back else posting < beyond)
        with reading(self.engine) as connection:
            found = [rows.notice(row) for row in connection.execute(query)]
        return found[::-1] if back else found

    def position(self, sink: str) -> int:
        """Return how far a sink has been served."""
        with reading(self.engine) as connection:
            found = connection.execute(select(drained_table.c.position).filter_by(sink=sink)).scalar()
        return found or 0

    def set_position(self, sink: str, position: int) -> None:
        """Remember how far a sink has been served; 0 replays everything to it."""
        with self.extending() as connection:
            done = connection.execute(
                update(drained_table).where(drained_table.c.sink == sink).values(position=position)
            )
            if done.rowcount == 0:
                connection.execute(insert(drained_table).values(sink=sink, position=position))

    def move_position(self, sink: str, before: int, after: int) -> bool:
        """Move a sink's position from `before` to `after`; False, and no change, where somebody else moved it."""
        if before == 0:
            with self.extending() as connection:
                if connection.execute(select(drained_table.c.position).filter_by(sink=sink)).first() is None:
                    connection.execute(insert(drained_table).values(sink=sink, position=after))
                    return True
        with self.extending() as connection:
            unmoved = (drained_table.c.sink == sink) & (drained_table.c.position == before)
            return connection.execute(update(drained_table).where(unmoved).values(position=after)).rowcount == 1

    def end_of_outbox(self) -> int:
        """Return the position of the newest event; 0 where there is none."""
        with reading(self.engine) as connection:
            return connection.execute(select(func.max(outbox_table.c.posting))).scalar() or 0

    def hindrances(self) -> dict[str, Hindrance]:
        """Return what holds sinks up, by sink."""
        with reading(self.engine) as connection:
            return {row.sink: Hindrance(*row) for row in connection.execute(select(hindrance_table))}

    def hinder(self, sink: str, reason: str, advice: str, *, stopped: bool) -> None:
        """Write down what holds a sink up, for whoever looks at the health page."""
        told = {"stopped": stopped, "reason": reason[:255], "advice": advice[:255], "since": self.clock.now()}
        with self.extending() as connection:
            connection.execute(delete(hindrance_table).where(hindrance_table.c.sink == sink))
            connection.execute(insert(hindrance_table).values(sink=sink, **told))

    def unhinder(self, sink: str) -> None:
        """Let a sink go on."""
        with self.extending() as connection:
            connection.execute(delete(hindrance_table).where(hindrance_table.c.sink == sink))

    # --- how it is written ------------------------------------------------------------------------------

    @contextmanager
    def extending(self) -> Iterator[Connection]:
        """Open the book's one writing transaction: the chain has one end, and one writer at a time extends it."""
        with writing(self.engine) as connection:
            if connection.dialect.name == "postgresql":
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4277009103)")
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Open the writing transaction for who reads first and posts by what was read: nobody comes between the two."""
        with self.extending() as connection:
            yield Transaction(connection, self.clock)
