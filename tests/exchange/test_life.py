"""The table of an offer's life holds together."""

from __future__ import annotations

import pytest

from btt_bridge.errors import LeaseLostError
from btt_bridge.exchange.life import ALIVE, HELD, OVER, TABLE, OfferEvent, OfferState, following


def test_every_state_can_be_reached_and_left() -> None:
    """From open, each state can be reached; each that is alive has a way out, and none that is over."""
    reached = {OfferState.OPEN}
    for _ in OfferState:
        reached |= {state for (before, _), state in TABLE.items() if before in reached}
    assert reached == set(OfferState)
    assert {before for before, _ in TABLE} == set(ALIVE)
    assert set(ALIVE) | set(OVER) == set(OfferState)
    assert not set(ALIVE) & set(OVER)
    assert set(HELD) < set(ALIVE)


@pytest.mark.parametrize("state", OVER)
@pytest.mark.parametrize("event", OfferEvent)
def test_what_is_over_stays_over(state: OfferState, event: OfferEvent) -> None:
    """Nothing happens any more to an offer that is over."""
    with pytest.raises(LeaseLostError):
        following(state, event)


def test_nothing_is_computed_without_a_key() -> None:
    """There is no way to a result but through the key that the bridge gave."""
    assert [before for (before, event) in TABLE if event is OfferEvent.COMPUTED] == [OfferState.KEYED]
    assert [before for (before, event) in TABLE if event is OfferEvent.ACCEPTED] == [OfferState.COMPUTED]
