"""The book within its one writing transaction: what was read in it stands until its end, for nobody else writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from btt_bridge.clock import Clock
from btt_bridge.errors import (
    InvalidAmountError,
    KeyConflictError,
    LedgerError,
    OverdrawnError,
    UnbalancedError,
)
from btt_bridge.ledger import rows
from btt_bridge.ledger.chain import GENESIS
from btt_bridge.ledger.draft import Draft, Standing
from btt_bridge.ledger.moves import Instruction, Posting, Resolving, Transfer, check_account
from btt_bridge.ledger.schema import account_table, asset_table
from btt_bridge.log import logger
from btt_bridge.money import Amount, Asset

_log = logger("ledger")


class Transaction:
    """One commit, at one instant, of whatever is read and posted in it."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self._connection = connection
        last = rows.last_transfer(connection)
        self._last: int = last.id if last else 0
        self._hash: bytes = last.hash if last else GENESIS
        #: The instant that its postings bear; a clock that was set back does not turn back the book.
        self.at: datetime = max(clock.now(), last.at) if last else clock.now()
        # By issuer, under each key that was looked up: what was asked, as a digest, and what it came to; None if free.
        self._known: defaultdict[str, dict[str, tuple[bytes, Posting] | None]] = defaultdict(dict)
        # The holds that were met, and those of them that nothing has resolved.
        self._holds: dict[int, Transfer] = {}
        self._unresolved: set[int] = set()

    # --- reading ----------------------------------------------------------------------------------------

    def find_all(self, issuer: str, keys: Sequence[str]) -> list[Posting]:
        """Return what was posted under any of these keys, in the order of the book."""
        self._look_up(issuer, keys)
        found = [known[1] for key in dict.fromkeys(keys) if (known := self._known[issuer][key])]
        return sorted(found, key=lambda posting: posting.id)

    def unresolved(self, holds: Collection[int]) -> set[int]:
        """Return those of these holds that nothing has resolved yet."""
        self._meet(holds)
        return self._unresolved.intersection(holds)

    def _look_up(self, issuer: str, keys: Iterable[str]) -> None:
        known = self._known[issuer]
        new = sorted(set(keys) - known.keys())
        found = rows.postings(self._connection, issuer, new)
        postings = rows.stored(self._connection, found)
        known |= dict.fromkeys(new)
        known |= {posting.key: (row.digest, posting) for row, posting in zip(found, postings, strict=True)}
        self._add_holds([t for posting in postings for t in posting.transfers if t.kind == "hold"])

    def _meet(self, holds: Iterable[int]) -> None:
        unknown = sorted(set(holds) - self._holds.keys())
        self._add_holds([t for t in rows.transfers(self._connection, unknown) if t.kind == "hold"])

    def _add_holds(self, holds: Iterable[Transfer]) -> None:
        new = {hold.id: hold for hold in holds if hold.id not in self._holds}
        self._unresolved |= rows.unresolved(self._connection, new)
        self._holds |= new

    # --- accounts ---------------------------------------------------------------------------------------

    def open_account(self, name: str, asset: Asset, *, credit_limit: int | None = 0, keep_used: bool = False) -> None:
        """Open an account, or limit one that stands, as `Ledger.open_account` does."""
        if credit_limit is not None:
            Amount(credit_limit, asset)
        row = rows.one_account(self._connection, name)
        if rows.is_same(row, asset, credit_limit):
            return
        self._keep_asset(asset)
        if row is None:
            self._open(name, asset, credit_limit)
        else:
            self._limit(row, asset, credit_limit, keep_used=keep_used)

    def _keep_asset(self, asset: Asset) -> None:
        scale = self._connection.execute(select(asset_table.c.scale).filter_by(code=asset.code)).scalar()
        if scale is None:
            self._connection.execute(insert(asset_table).values(code=asset.code, scale=asset.scale))
        elif scale != asset.scale:
            raise InvalidAmountError(f"this ledger keeps {asset.code} at {scale} decimal places")

    def _open(self, name: str, asset: Asset, credit_limit: int | None) -> None:
        check_account(name)
        totals = dict.fromkeys(("debits_posted", "credits_posted", "debits_pending", "credits_pending"), 0)
        account = {"name": name, "asset": asset.code, "credit_limit": credit_limit, **totals}
        self._connection.execute(insert(account_table).values(**account))

    def _limit(self, row: Row[Any], asset: Asset, credit_limit: int | None, *, keep_used: bool) -> None:
        if row.asset != asset.code:
            raise UnbalancedError(f"{row.name} holds {row.asset}")
        balance = rows.balance(row)
        used = balance.debits_pending - balance.units
        if credit_limit is not None and credit_limit < used:
            if not keep_used:
                raise OverdrawnError(f"{row.name} owes or holds more than that limit")
            credit_limit = used
            if row.credit_limit != used:
                _log.warning(
                    "more is owed or held than a new credit limit; that much stays", asset=asset.code, units=used
                )
        changed = update(account_table).where(account_table.c.id == row.id).values(credit_limit=credit_limit)
        self._connection.execute(changed)

    # --- postings ---------------------------------------------------------------------------------------

    def post(self, instruction: Instruction) -> Posting | LedgerError:
        """Carry out one instruction, or return what refuses it."""
        (answer,) = self.post_many([instruction])
        return answer

    def post_many(
        self, instructions: Sequence[Instruction], opened: Mapping[str, Asset] | None = None
    ) -> list[Posting | LedgerError]:
        """Carry out instructions; one that is refused has its error, and costs only itself.

        Accounts in `opened` that nobody has opened yet are opened first, with nothing in them.
        """
        keys: dict[str, list[str]] = {}
        for instruction in instructions:
            keys.setdefault(instruction.issuer, []).append(instruction.key)
        for issuer, asked in keys.items():
            self._look_up(issuer, asked)
        fresh = [i for i in instructions if self._known[i.issuer][i.key] is None]
        draft = self._draft(fresh, opened or {})
        answers = [self._answer(draft, instruction) for instruction in instructions]
        self._write(draft)
        return answers

    def _draft(self, instructions: Collection[Instruction], opened: Mapping[str, Asset]) -> Draft:
        """Read what these instructions touch, accounts locked in the order of their ids."""
        named = {step.hold for i in instructions for step in i.steps if isinstance(step, Resolving)}
        self._meet(named)
        touched = [self._holds[hold] for hold in named if hold in self._holds]
        accounts = self._standing(_accounts_of(instructions, touched), opened)
        return Draft(self.at, self._last, self._hash, accounts, self._holds, self._unresolved)

    def _standing(self, names: Collection[str], opened: Mapping[str, Asset]) -> dict[str, Standing]:
        found = rows.standing(self._connection, names)
        missing = sorted(opened.keys() - found.keys())
        for name in missing:
            self.open_account(name, opened[name])
        return found | rows.standing(self._connection, missing)

    def _answer(self, draft: Draft, instruction: Instruction) -> Posting | LedgerError:
        """Return the stored answer, a new one, or the refusal."""
        if known := self._known[instruction.issuer][instruction.key]:
            digest, posting = known
            return posting if digest == instruction.digest else KeyConflictError()
        try:
            posting = draft.add(instruction)
        except LedgerError as refusal:
            return refusal
        self._known[instruction.issuer][instruction.key] = (instruction.digest, posting)
        return posting

    def _write(self, draft: Draft) -> None:
        rows.write(self._connection, draft)
        self._last, self._hash = draft.last, draft.hash
        made = {t.id: t for posting in draft.postings for t in posting.transfers if t.kind == "hold"}
        self._holds |= made
        self._unresolved |= made.keys()


def _accounts_of(instructions: Iterable[Instruction], holds: Iterable[Transfer]) -> set[str]:
    names = {name for hold in holds for name in (hold.debit, hold.credit)}
    for instruction in instructions:
        if instruction.event:
            names.add(instruction.event.account)
        for step in instruction.steps:
            if not isinstance(step, Resolving):
                names.add(step.debit)
                names.add(step.credit)
    return names
