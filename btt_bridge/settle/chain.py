"""The book and a chain: the root of each sealed batch goes there once, and what burns there is burned here once."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Final

from btt_bridge import log
from btt_bridge.errors import KeyConflictError, LedgerError
from btt_bridge.ledger import Ledger, anchors
from btt_bridge.ledger.batches import Batch
from btt_bridge.plugins import ChainRail
from btt_bridge.records import Anchored, Burn, RootStanding
from btt_bridge.settle.token import Supply

_log = log.logger("settle")

#: Roots that one turn asks after: others wait for the same thread.
_ROOTS_MAX: Final = 32
#: Questions for burns in one turn.
_PAGES_MAX: Final = 32


def anchor(ledger: Ledger, chain: ChainRail) -> None:
    """Post the root of every sealed batch that the chain does not hold yet, and note how each stands there.

    Nothing is noted before the chain was asked, and the chain takes a root once: a crash between the two is mended by
    the next call. A batch is asked after until it stands, is void or is refused; one that is refused costs only itself.
    """
    if place := chain.place():
        for batch in anchors.unsettled(ledger, place, _ROOTS_MAX):
            post(ledger, chain, batch)


def post(ledger: Ledger, chain: ChainRail, batch: Batch) -> Anchored:
    """Post one root, unless it is there, and return how it stands; that is noted."""
    try:
        found = chain.anchor(batch.told)
    except KeyConflictError as problem:
        _log.error("root refused", count=batch.id, reason=str(problem), error=type(problem).__name__)
        found = Anchored(RootStanding.REFUSED)
    anchors.note(ledger, chain.place(), batch.id, found)
    return found


def book_burns(supply: Supply, chain: ChainRail, since: int | None = None) -> list[Burn]:
    """Burn in the book, once, what holders burned on the chain since the last time; return what could not be booked.

    Its place stays before the first that could not: others are booked meanwhile, and that one is tried again. With
    `since` it books what was burned behind that block, and leaves its place where it is.
    """
    if not (place := chain.place()):
        return []
    ledger, position = supply.ledger, f"burns:{hashlib.sha256(place.encode()).hexdigest()[:48]}"
    after = ledger.position(position) if since is None else since
    refused: list[Burn] = []
    for _ in range(_PAGES_MAX) if since is None else count():
        last, found = chain.burns(after)
        refused += [burn for burn in found if not _booked(supply, burn)]
        if last == after:
            break
        if since is None and not refused:
            ledger.move_position(position, after, last)
        after = last
    return refused


def _booked(supply: Supply, burn: Burn) -> bool:
    try:
        supply.burn(burn.holder, burn.reference, burn.amount)
    except LedgerError as problem:
        _log.error("burn not booked", reason=str(problem), error=type(problem).__name__)
        return False
    return True
