"""The table of states and events."""

import pytest

from btt_bridge.journey import ACTIVE, RESTING, TABLE, Event, ImpossibleError, State, following


def test_every_state_is_either_worked_on_or_at_rest() -> None:
    """No state is forgotten, and none is both."""
    assert set(ACTIVE) | set(RESTING) == set(State)
    assert not set(ACTIVE) & set(RESTING)


def test_every_state_can_be_reached_from_the_first() -> None:
    """A state that nothing leads to would be dead text."""
    reached, todo = {State.RECEIVING}, [State.RECEIVING]
    while todo:
        state = todo.pop()
        for (before, _event), after in TABLE.items():
            if before is state and after not in reached:
                reached.add(after)
                todo.append(after)
    assert reached == set(State)


def test_the_straight_way_ends_settled() -> None:
    """The events of an uneventful study lead from receiving to settled."""
    state = State.RECEIVING
    for event in (
        Event.COMPLETED, Event.MATCHED, Event.STRIPPED, Event.OFFERED, Event.COMPUTED, Event.ACCEPTED,
        Event.RESTORED, Event.REPORTED, Event.DELIVERED, Event.SETTLED,
    ):  # fmt: skip
        state = following(state, event)
    assert state is State.SETTLED


def test_what_was_delivered_is_neither_superseded_nor_withheld() -> None:
    """A delivered result stays delivered; a newer revision refers to it instead."""
    for state in (State.DELIVERED, State.SETTLED):
        for event in (Event.SUPERSEDED, Event.WITHHELD):
            with pytest.raises(ImpossibleError):
                following(state, event)


def test_what_the_table_does_not_hold_cannot_happen() -> None:
    """Settling a study that is still receiving is refused, and the text says why."""
    with pytest.raises(ImpossibleError, match="settled cannot happen to a study that is receiving"):
        following(State.RECEIVING, Event.SETTLED)
