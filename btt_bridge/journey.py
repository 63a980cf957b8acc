"""The life of a study as one table: (state, event) to next state. What is not in the table cannot happen."""

from __future__ import annotations

from enum import StrEnum

from btt_bridge.errors import BridgeError


class State(StrEnum):
    """Where one revision of a study stands."""

    RECEIVING = "receiving"
    COMPLETE = "complete"
    ASSIGNED = "assigned"
    STRIPPED = "stripped"
    OFFERED = "offered"
    COMPUTED = "computed"
    JUDGED = "judged"
    RESTORED = "restored"
    REPORTED = "reported"
    DELIVERED = "delivered"
    SETTLED = "settled"
    UNROUTED = "unrouted"
    HELD = "held"
    UNDELIVERED = "undelivered"
    SUPERSEDED = "superseded"
    FAILED = "failed"


class Event(StrEnum):
    """What can happen to it."""

    COMPLETED = "completed"
    MATCHED = "matched"
    UNMATCHED = "unmatched"
    STRIPPED = "stripped"
    OFFERED = "offered"
    DEMOTED = "demoted"
    COMPUTED = "computed"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    RESTORED = "restored"
    REPORTED = "reported"
    DELIVERED = "delivered"
    UNDELIVERABLE = "undeliverable"
    RESENT = "resent"
    SETTLED = "settled"
    WITHHELD = "withheld"
    RELEASED = "released"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    RETRIED = "retried"


TABLE: dict[tuple[State, Event], State] = {
    (State.RECEIVING, Event.COMPLETED): State.COMPLETE,
    (State.COMPLETE, Event.MATCHED): State.ASSIGNED,
    (State.COMPLETE, Event.UNMATCHED): State.UNROUTED,
    (State.ASSIGNED, Event.STRIPPED): State.STRIPPED,
    (State.STRIPPED, Event.OFFERED): State.OFFERED,
    # Beyond the exchange's quota on urgent work it stays on offer, ranked lower and for a lower price.
    (State.OFFERED, Event.DEMOTED): State.OFFERED,
    (State.OFFERED, Event.COMPUTED): State.COMPUTED,
    (State.COMPUTED, Event.ACCEPTED): State.JUDGED,
    # A refused result is a new attempt elsewhere: the same parcel, still on offer.
    (State.COMPUTED, Event.REFUSED): State.OFFERED,
    (State.JUDGED, Event.RESTORED): State.RESTORED,
    (State.RESTORED, Event.REPORTED): State.REPORTED,
    (State.REPORTED, Event.DELIVERED): State.DELIVERED,
    (State.REPORTED, Event.UNDELIVERABLE): State.UNDELIVERED,
    (State.UNDELIVERED, Event.RESENT): State.REPORTED,
    (State.DELIVERED, Event.SETTLED): State.SETTLED,
    # An archive that has lost what it had gets it once more; it is charged no second time.
    (State.SETTLED, Event.RESENT): State.REPORTED,
    # A person may send a held, failed or unrouted study on; it is matched anew, for the mappings may have changed.
    (State.HELD, Event.RELEASED): State.COMPLETE,
    (State.UNROUTED, Event.RELEASED): State.COMPLETE,
    (State.FAILED, Event.RETRIED): State.COMPLETE,
}

#: States in which the bridge itself has work to do or waits for an answer.
ACTIVE = (
    State.RECEIVING,
    State.COMPLETE,
    State.ASSIGNED,
    State.STRIPPED,
    State.OFFERED,
    State.COMPUTED,
    State.JUDGED,
    State.RESTORED,
    State.REPORTED,
    State.DELIVERED,
)
#: States that only a person or a newer revision can leave.
RESTING = (State.UNROUTED, State.HELD, State.UNDELIVERED, State.SUPERSEDED, State.FAILED, State.SETTLED)

# Anything may fail; anything not yet delivered may be withheld for a person or overtaken by a newer revision.
TABLE |= {(state, Event.FAILED): State.FAILED for state in ACTIVE}
TABLE |= {(state, Event.WITHHELD): State.HELD for state in ACTIVE if state is not State.DELIVERED}
TABLE |= {
    (state, Event.SUPERSEDED): State.SUPERSEDED
    for state in (*ACTIVE, State.UNROUTED, State.HELD, State.UNDELIVERED, State.FAILED)
    if state is not State.DELIVERED
}


class ImpossibleError(BridgeError):
    """That event cannot happen in this state."""


def following(state: State, event: Event) -> State:
    """Return the state that follows; raise ImpossibleError for what the table does not hold."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise ImpossibleError(f"{event} cannot happen to a study that is {state}") from None
