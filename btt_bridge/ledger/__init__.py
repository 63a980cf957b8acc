"""The ledger: append-only double entry that the database itself keeps balanced.

In: instructions, each a few linked steps under an idempotency key. Out: postings, balances, statements, and events in
the outbox; `audit` recomputes the book, `batches` seals it, `export` writes it for an accountant. Wrong: a LedgerError
says which rule refused it, and nothing has changed.
"""

from btt_bridge.ledger.book import Ledger
from btt_bridge.ledger.moves import (
    Balance,
    Event,
    Expire,
    Hindrance,
    Hold,
    Instruction,
    Line,
    Move,
    Notice,
    Post,
    Posting,
    Step,
    Transfer,
    Void,
)
from btt_bridge.ledger.transaction import Transaction

__all__ = [
    "Balance",
    "Event",
    "Expire",
    "Hindrance",
    "Hold",
    "Instruction",
    "Ledger",
    "Line",
    "Move",
    "Notice",
    "Post",
    "Posting",
    "Step",
    "Transaction",
    "Transfer",
    "Void",
]
