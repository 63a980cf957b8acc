"""The book in the words of other people's tools: hledger's journal format, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import TextIO

from btt_bridge.ledger.book import Ledger
from btt_bridge.ledger.moves import Posting

_COLUMNS = ("transfer", "posting", "issuer", "key", "at", "kind", "debit", "credit", "asset", "units", "hold", "reason")


def hledger(ledger: Ledger, file: TextIO) -> None:
    """Write what was posted as a journal that hledger, ledger-cli and Beancount's importers read.

    Debits are positive, as their convention is. Holds move nothing until they are posted, so they are comments.
    """
    for balance in ledger.balances():
        file.write(f"account {balance.account}\n")
    for posting in _postings(ledger):
        file.write(f"\n{posting.at.date().isoformat()} * ({posting.id}) {posting.issuer} {posting.key}\n")
        for transfer in posting.transfers:
            if transfer.kind in ("move", "post"):
                amount, code = transfer.amount.decimal, transfer.amount.asset.code
                file.write(f"    {transfer.debit}    {amount} {code}  ; {transfer.reason}\n")
                file.write(f"    {transfer.credit}    -{amount} {code}\n")
            else:
                file.write(f"    ; {transfer.kind} {transfer.amount}\n")


def table(ledger: Ledger, file: TextIO) -> None:
    """Write every transfer as a line of CSV, in minor units."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for posting in _postings(ledger):
        for t in posting.transfers:
            origin = (t.id, posting.id, posting.issuer, posting.key, t.at.isoformat(), t.kind)
            writer.writerow((*origin, t.debit, t.credit, t.amount.asset, t.amount.units, t.hold or "", t.reason))


def _postings(ledger: Ledger) -> Iterator[Posting]:
    after = 0
    while page := ledger.postings(after, 1000):
        yield from page
        after = page[-1].id
