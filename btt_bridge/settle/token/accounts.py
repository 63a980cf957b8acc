"""How the accounts of the token are called, how they are kept shut, and how what happened is found again."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from btt_bridge.errors import InvalidAmountError, RefusedError
from btt_bridge.ledger import Hold, Ledger, Move, Posting, Step, Transfer, Void
from btt_bridge.money import BTT, Amount, Asset
from btt_bridge.settle.billing import account

#: In whose name the ledger knows the postings of this package.
ISSUER: Final = "token"
#: Where the whole supply came from; it may owe exactly the supply, so that the database refuses to make more.
GENESIS: Final = account("token:genesis", BTT)
BURNED: Final = account("token:burned", BTT)
DEPOSITS: Final = account("token:deposits", BTT)
#: The other side of what is held shut; nothing ever arrives there.
GUARD: Final = account("token:guard", BTT)
UNALLOCATED: Final = "unallocated"
#: How much of something is still allowed, in its smallest units: an account that may owe so much and no more.
QUOTA: Final = Asset("QUOTA", 0)
QUOTA_USED: Final = account("quota:used", QUOTA)

_HOLDER = re.compile(r"[a-z]{1,20}:[a-z0-9._-]{1,64}")
_REFERENCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FOREVER = datetime(9999, 12, 31, tzinfo=UTC)
_SHUT = "shut"
_PAGE = 32


def wallet(holder: str, asset: Asset = BTT) -> str:
    """Name the account that a holder spends from; a holder is a kind and a name, as node:n1 or hospital:main."""
    return account(f"wallet:{check_holder(holder)}", asset)


def staked(holder: str) -> str:
    """Name the account of everything that a holder has staked."""
    return account(f"staked:{check_holder(holder)}", BTT)


def allocation(name: str, tranche: str = "") -> str:
    """Name the account of a part of the supply that is not released yet."""
    return account(f"allocation:{name}:{tranche}" if tranche else f"allocation:{name}", BTT)


def purse(name: str) -> str:
    """Name the account that an ongoing allocation is released to, and that pays for participation."""
    return account(f"purse:{name}", BTT)


def check_holder(holder: str) -> str:
    """Return a holder's name; raise RefusedError for what cannot be one."""
    if not _HOLDER.fullmatch(holder):
        raise RefusedError("a holder is a kind and a name, as node:n1 or hospital:main")
    return holder


def check_reference(reference: str) -> str:
    """Return a caller's own name for what it asks; raise RefusedError for what cannot be one."""
    if not _REFERENCE.fullmatch(reference):
        raise RefusedError("a reference is made of letters, digits and ._-")
    return reference


def positive(units: int, asset: Asset = BTT) -> Amount:
    """Return an amount that is not nothing."""
    amount = Amount(units, asset)
    if not amount.units:
        raise InvalidAmountError
    return amount


# --- what is shut ---------------------------------------------------------------------------------------


def shut(name: str, units: int) -> list[Step]:
    """Return the steps that keep so much of an account from being spent: held until the end of time.

    The database then refuses whatever would spend it, like any other overdraft.
    """
    return [Hold(name, GUARD, Amount(units, BTT), _SHUT, _FOREVER)] if units else []


def unshut(ledger: Ledger, name: str) -> list[Step]:
    """Return the steps that open everything which is shut in an account; nothing is left shut."""
    pending, limit = ledger.balance(name).debits_pending, _PAGE
    while True:
        lines = ledger.statement(name, limit)
        holds = [line.transfer for line in lines if _is_shut(ledger, line.transfer, name)]
        if len(lines) < limit or sum(hold.amount.units for hold in holds) >= pending:
            return [Void(hold.id, "open by vote") for hold in holds]
        limit *= 2


def burning(name: str, amount: Amount) -> list[Step]:
    """Return the steps that burn an amount of BTT from an account: moved where nothing can be spent."""
    return [Move(name, BURNED, amount, "burn"), *shut(BURNED, amount.units)]


def _is_shut(ledger: Ledger, transfer: Transfer, name: str) -> bool:
    return (
        transfer.kind == "hold" and transfer.debit == name and transfer.credit == GUARD and ledger.is_open(transfer.id)
    )


# --- what happened --------------------------------------------------------------------------------------


def told(ledger: Ledger, posting: Posting) -> Mapping[str, Any]:
    """Return what the event of a posting says: the book is the only memory of this package."""
    return ledger.notices(posting.id - 1, 1)[0].data


def numbered(ledger: Ledger, issuer: str, prefix: str) -> list[Posting]:
    """Return the postings under `prefix:1`, `prefix:2`, …, in their order."""
    found: list[Posting] = []
    while more := ledger.find_all(issuer, [f"{prefix}:{len(found) + n}" for n in range(1, 9)]):
        found += more
    return found
