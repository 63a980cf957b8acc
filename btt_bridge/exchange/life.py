"""The life of an offer as one table: (state, event) to next state. What is not in the table cannot happen."""

from __future__ import annotations

from enum import StrEnum

from btt_bridge.errors import LeaseLostError


class OfferState(StrEnum):
    """Where an offer stands."""

    OPEN = "open"
    LEASED = "leased"
    KEYED = "keyed"
    COMPUTED = "computed"
    ACCEPTED = "accepted"
    FAILED = "failed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


class OfferEvent(StrEnum):
    """What can happen to it."""

    LEASED = "leased"
    KEYED = "keyed"
    COMPUTED = "computed"
    ACCEPTED = "accepted"
    #: The lease was lost, given up or its result refused, and there are attempts left.
    REOPENED = "reopened"
    #: The same, and there are none left.
    SPENT = "spent"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


#: States in which somebody still has something to do.
ALIVE = (OfferState.OPEN, OfferState.LEASED, OfferState.KEYED, OfferState.COMPUTED)
#: States in which a node holds the offer's last lease.
HELD = (OfferState.LEASED, OfferState.KEYED, OfferState.COMPUTED)
OVER = (OfferState.ACCEPTED, OfferState.FAILED, OfferState.WITHDRAWN, OfferState.EXPIRED)

TABLE: dict[tuple[OfferState, OfferEvent], OfferState] = {
    (OfferState.OPEN, OfferEvent.LEASED): OfferState.LEASED,
    (OfferState.LEASED, OfferEvent.KEYED): OfferState.KEYED,
    (OfferState.KEYED, OfferEvent.COMPUTED): OfferState.COMPUTED,
    (OfferState.COMPUTED, OfferEvent.ACCEPTED): OfferState.ACCEPTED,
}
TABLE |= {(state, OfferEvent.REOPENED): OfferState.OPEN for state in HELD}
TABLE |= {(state, OfferEvent.SPENT): OfferState.FAILED for state in HELD}
TABLE |= {(state, OfferEvent.WITHDRAWN): OfferState.WITHDRAWN for state in ALIVE}
TABLE |= {(state, OfferEvent.EXPIRED): OfferState.EXPIRED for state in ALIVE}


def following(state: OfferState, event: OfferEvent) -> OfferState:
    """Return the state that follows; raise LeaseLostError for what the table does not hold."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise LeaseLostError(f"an offer that is {state} cannot be {event}") from None
