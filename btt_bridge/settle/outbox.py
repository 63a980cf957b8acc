"""The outbox on its way out: signed events to a sink, in order, at least once, from any point again."""

from __future__ import annotations

from collections.abc import Sequence

from btt_bridge.ledger import Ledger
from btt_bridge.plugins import EventSink
from btt_bridge.settle.events import envelope
from btt_bridge.signing import Signer


def drain(
    ledger: Ledger,
    sink: EventSink,
    signer: Signer,
    *,
    name: str,
    source: str,
    types: Sequence[str] = (),
    limit: int = 100,
) -> int:
    """Bring the sink called `name` up to `limit` events further, in order; return how many, passed over or told.

    It is told those whose type begins as one of `types` does, or all. Its position moves after the events are durable
    at the other side, so that a crash between the two repeats up to `limit` of them. Where the sink raises, its place
    is kept and what follows waits: events must not overtake. Where somebody set the position meanwhile, theirs holds.
    """
    start = reached = ledger.position(name)
    passed = 0
    try:
        for notice in ledger.notices(start, limit):
            if not types or notice.type.startswith(tuple(types)):
                sink.emit(envelope(notice, source, signer))
            reached = notice.position
            passed += 1
    finally:
        if passed:
            ledger.move_position(name, start, reached)
    return passed
