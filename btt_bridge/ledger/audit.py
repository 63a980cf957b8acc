"""An independent look at the whole book: the chain, the totals, the holds and the signed batches, recomputed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, String, select, type_coerce

from btt_bridge.database import reading
from btt_bridge.errors import SignatureError
from btt_bridge.ledger import merkle
from btt_bridge.ledger.batches import KIND
from btt_bridge.ledger.book import Ledger
from btt_bridge.ledger.chain import GENESIS, link, origin
from btt_bridge.ledger.moves import event_digest
from btt_bridge.ledger.schema import (
    account_table,
    asset_table,
    batch_table,
    open_hold_table,
    outbox_table,
    posting_table,
    transfer_table,
)
from btt_bridge.signing import verify as verify_envelope

_PAGE = 5000


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found."""

    transfers: int
    accounts: int
    batches: int
    #: Credits less debits by asset, over all accounts; each is zero.
    trial_balance: dict[str, int]
    #: Hash of the last transfer: whoever wrote it down earlier can tell that nothing before it was changed since.
    head: bytes
    #: "" where everything holds, or the first row that does not, and what is wrong with it.
    problem: str


class _BrokenError(Exception):
    """The first row that does not hold."""


@dataclass(slots=True)
class _Fold:
    """What the transfers add up to for one account."""

    name: str
    asset: str
    debits_posted: int = 0
    credits_posted: int = 0
    debits_pending: int = 0
    credits_pending: int = 0
    last_transfer: int = 0


@dataclass(slots=True)
class _Auditor:
    """State of one pass over the book."""

    connection: Connection
    public: str
    accounts: dict[int, _Fold] = field(default_factory=dict)
    open_holds: dict[int, tuple[int, int, int]] = field(default_factory=dict)
    seen: int = 0
    batches: int = 0
    hash: bytes = GENESIS

    def run(self) -> None:
        """Look at everything, in the order of the book."""
        self._read_accounts()
        batches = iter(self._read_batches())
        batch, leaves = next(batches, None), []
        for row in self._read_transfers():
            self._check_transfer(row)
            if batch is not None:
                leaves.append(self.hash)
                if self.seen == batch.last_transfer:
                    self._check_batch(batch, leaves)
                    batch, leaves = next(batches, None), []
        if batch is not None:
            raise _BrokenError(f"batch {batch.id}: transfers that it sealed are gone")
        self._check_postings()
        self._check_accounts()
        self._check_open_holds()
        self._check_outbox()

    # --- reading ---

    def _read_accounts(self) -> None:
        rows = self.connection.execute(
            select(account_table.c.id, account_table.c.name, account_table.c.asset, asset_table.c.scale).join(
                asset_table, asset_table.c.code == account_table.c.asset
            )
        )
        for row in rows:
            self.accounts[row.id] = _Fold(row.name, f"{row.asset}/{row.scale}")

    def _read_transfers(self) -> Iterator[Row[Any]]:
        """Read all transfers in pages; moments come as the text they are hashed as."""
        columns = [
            type_coerce(column, String).label(column.name) if column.name in ("at", "expires_at") else column
            for column in transfer_table.c
        ]
        query = (
            select(*columns, posting_table.c.issuer, posting_table.c.key, posting_table.c.digest, posting_table.c.event)
            .outerjoin(posting_table, posting_table.c.id == transfer_table.c.posting)
            .order_by(transfer_table.c.id)
            .limit(_PAGE)
        )
        last = 0
        while rows := self.connection.execute(query.where(transfer_table.c.id > last)).all():
            yield from rows
            last = rows[-1].id

    def _read_batches(self) -> Iterator[Row[Any]]:
        yield from self.connection.execute(select(batch_table).order_by(batch_table.c.id)).all()

    # --- checks ---

    def _check_transfer(self, row: Row[Any]) -> None:
        """Hold one row against the chain, and add it up."""
        # Taken apart at once: a row's attributes are slow, and there may be millions of rows.
        number, posting, kind, debit_id, credit_id, asset, amount, hold, expires_at, reason, at, hashed = row[:12]
        if number != self.seen + 1:
            raise _BrokenError(f"transfer {self.seen + 1}: it is missing")
        self.seen = number
        debit, credit = self.accounts.get(debit_id), self.accounts.get(credit_id)
        issuer, key, digest, event = row[12:]
        if debit is None or credit is None or issuer is None:
            raise _BrokenError(f"transfer {number}: an account or posting that it names is missing")
        if debit.asset != credit.asset or not debit.asset.startswith(f"{asset}/"):
            raise _BrokenError(f"transfer {number}: its accounts do not hold its asset")
        sides = (debit.name, credit.name, debit.asset)
        source = origin(issuer, key, digest, event)
        content = (number, posting, kind, *sides, amount, hold, expires_at, reason, at, source)
        self.hash = link(self.hash, *content)
        if self.hash != hashed:
            raise _BrokenError(f"transfer {number}: its content, or the row before it, is not what was hashed")
        posted = amount if kind in ("move", "post") else 0
        pending = self._pending(number, kind, (debit_id, credit_id), amount, hold)
        debit.debits_posted += posted
        debit.debits_pending += pending
        credit.credits_posted += posted
        credit.credits_pending += pending
        debit.last_transfer = credit.last_transfer = number

    def _pending(self, number: int, kind: str, sides: tuple[int, int], amount: int, hold: int | None) -> int:
        """Return by how much a transfer changes what is held, keeping the list of open holds."""
        if kind == "hold":
            self.open_holds[number] = (*sides, amount)
            return amount
        if hold is None:
            return 0
        held = self.open_holds.pop(hold, None)
        if held is None or held[:2] != sides or amount > held[2]:
            raise _BrokenError(f"transfer {number}: the hold that it resolves is not open, or not like it")
        return -held[2]

    def _check_batch(self, batch: Row[Any], leaves: list[bytes]) -> None:
        if merkle.root(leaves) != batch.root or batch.first_transfer != batch.last_transfer - len(leaves) + 1:
            raise _BrokenError(f"batch {batch.id}: its root is not that of its transfers")
        if self.public:
            try:
                body = verify_envelope(json.loads(batch.envelope), KIND, self.public)
            except SignatureError:
                raise _BrokenError(f"batch {batch.id}: its signature does not verify") from None
            if body["root"] != batch.root.hex() or body["last_transfer"] != batch.last_transfer:
                raise _BrokenError(f"batch {batch.id}: it is not what was signed")
        self.batches += 1

    def _check_postings(self) -> None:
        expected = 1
        rows = self.connection.execute(
            select(posting_table.c.id, posting_table.c.transfers).order_by(posting_table.c.id)
        )
        for row in rows:
            if row.id != expected:
                raise _BrokenError(f"posting {expected}: it is missing")
            expected = row.id + row.transfers
        if expected != self.seen + 1:
            raise _BrokenError(f"transfer {min(expected, self.seen + 1)}: posting and transfers do not match")

    def _check_accounts(self) -> None:
        for row in self.connection.execute(select(account_table).order_by(account_table.c.id)):
            fold = self.accounts[row.id]
            for column in ("debits_posted", "credits_posted", "debits_pending", "credits_pending", "last_transfer"):
                if getattr(row, column) != getattr(fold, column):
                    raise _BrokenError(f"account {row.name}: {column} is not what its transfers add up to")
            if row.credit_limit is not None and (
                row.debits_posted + row.debits_pending > row.credits_posted + row.credit_limit
            ):
                raise _BrokenError(f"account {row.name}: it is overdrawn")

    def _check_open_holds(self) -> None:
        rows = set(self.connection.execute(select(open_hold_table.c.hold)).scalars())
        if wrong := rows ^ self.open_holds.keys():
            raise _BrokenError(f"hold {min(wrong)}: the list of open holds is wrong about it")

    def _check_outbox(self) -> None:
        """Hold every event against the digest that the chain keeps of it, and against its account's numbering."""
        query = (
            select(posting_table.c.id, posting_table.c.event.label("digest"), outbox_table)
            .outerjoin(outbox_table, outbox_table.c.posting == posting_table.c.id)
            .order_by(posting_table.c.id)
            .limit(_PAGE)
        )
        last, sequence = 0, dict.fromkeys(self.accounts, 0)
        while rows := self.connection.execute(query.where(posting_table.c.id > last)).all():
            for row in rows:
                self._check_event(row, sequence)
            last = rows[-1].id

    def _check_event(self, row: Row[Any], sequence: dict[int, int]) -> None:
        if row.posting is None:
            if row.digest:
                raise _BrokenError(f"posting {row.id}: its event is missing")
            return
        if event_digest(row.type, self.accounts[row.account].name, row.data) != row.digest:
            raise _BrokenError(f"posting {row.id}: its event is not what was hashed")
        sequence[row.account] += 1
        if row.sequence != sequence[row.account]:
            raise _BrokenError(f"posting {row.id}: the number of its event is wrong")


def verify(ledger: Ledger, public: str = "") -> Audit:
    """Recompute everything from the transfers and name the first row that does not hold.

    With the signer's public key (hex), the signatures of the settlement batches are checked too. A tail that was
    cut off together with its traces shows against a signed batch, or against a head written down elsewhere.
    """
    with reading(ledger.engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        auditor, problem = _Auditor(connection, public), ""
        try:
            auditor.run()
        except _BrokenError as broken:
            problem = str(broken)
    trial: dict[str, int] = {}
    for fold in auditor.accounts.values():
        trial[fold.asset] = trial.get(fold.asset, 0) + fold.credits_posted - fold.debits_posted
    return Audit(auditor.seen, len(auditor.accounts), auditor.batches, trial, auditor.hash, problem)
