"""Where the time went: every second between the first object and the last step belongs to exactly one stage."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from btt_bridge.journey import Event, State
from btt_bridge.web import facts, story, words
from tests.web.conftest import House
from tests.web.test_pages import PATIENT

NOON = datetime.fromisoformat("2026-01-05T12:00:00+00:00")


def test_spans_cover_the_whole_time_without_gap_or_overlap(house: House) -> None:
    """Each span begins where the one before ended, and together they are the time from first object to settled."""
    journey = house.go(house.complete(house.receive(PATIENT)))
    study, steps = house.journal.study(journey.id), house.journal.steps(journey.id)
    spans = story.spans(journey, steps, study)

    assert [span.stage for span in spans] == list(words.STAGES)
    assert all(one.end == next_one.start for one, next_one in pairwise(spans))
    assert story.elapsed(spans) == steps[-1].at - study.first_received_at
    assert sum(span.seconds for span in spans) == pytest.approx(story.elapsed(spans).total_seconds())
    assert [station.status for station in story.stations(journey, steps, spans)] == ["done"] * len(words.STAGES)
    assert all(0 <= bar.offset <= 1000 and 0 <= bar.width <= 1000 for bar in story.bars(spans))


@pytest.mark.parametrize("started", ["2020-01-01T00:00:00+00:00", "2099-01-01T00:00:00+00:00", "yesterday", None, 17])
def test_a_node_with_a_wrong_clock_cannot_bend_our_time(house: House, started: object) -> None:
    """Whatever a receipt says of its start, the two stages at the pool add up to what our own clock saw."""
    journey = house.go(house.complete(house.receive(PATIENT)), until=Event.COMPUTED)
    house.journal.note(journey.id, {"receipt": {"started_at": started}})
    journey = house.journal.journey(journey.id)
    spans = story.spans(journey, house.journal.steps(journey.id), house.journal.study(journey.id))
    pool = [span.seconds for span in spans if span.stage in ("exchange", "infer")]
    assert len(pool) == 2
    assert min(pool) >= 0
    assert sum(pool) == pytest.approx(3.403)


def test_a_refused_result_is_told_as_another_try(house: House) -> None:
    """A second attempt at the pool is a second span, and the station is the one at work."""
    journey = house.go(house.complete(house.receive(PATIENT)), until=Event.COMPUTED)
    house.clock.advance(1)
    journey = house.journal.advance(journey, Event.REFUSED, reason="a finding lies outside the volume")
    house.clock.advance(2)
    journey = house.journal.advance(journey, Event.COMPUTED)
    steps = house.journal.steps(journey.id)
    spans = story.spans(journey, steps, house.journal.study(journey.id))
    assert [span.stage for span in spans].count("infer") == 2
    (at_work,) = [one.stage for one in story.stations(journey, steps, spans) if one.status == "now"]
    assert at_work == "judge"


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_place_on_the_path(house: House, state: State) -> None:
    """No state leaves the path without a drawing: at most one station is at work or stopped, none is skipped."""
    journey = replace(house.receive(PATIENT), state=state)
    statuses = [station.status for station in story.stations(journey, [], [])]
    here = [status for status in statuses if status in ("now", "stopped")]
    assert len(here) == (0 if state is State.SETTLED else 1)
    assert statuses == sorted(statuses, key=["done", "now", "stopped", "ahead"].index)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((None, "–"), (0, "0 ms"), (0.0042, "4 ms"), (9.94, "9.9 s")),
        *((59.4, "59 s"), (75, "1 min 15 s"), (3600, "1 h"), (90061, "1 d 1 h")),
    ],
)
def test_durations_read_well(seconds: float | None, said: str) -> None:
    """A duration has the two largest units that matter."""
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((0.4, "just now"), (59, "59 s ago"), (61, "1 min ago"), (7300, "2 h ago"), (200000, "2 d ago")),
        *((-30, "in 30 s"), (-0.2, "now")),
    ],
)
def test_ages_read_well(seconds: float, said: str) -> None:
    """An age has one unit, past or to come."""
    assert words.age(NOON - timedelta(seconds=seconds), NOON) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("Doe^Jane^Q^Dr^", "Doe, Jane Q"), ("Doe", "Doe"), ("^Jane", "Jane"), ("", ""), (None, ""), ("^^^", ""),
        ("=王^小东", "王, 小东"), ("Wang^XiaoDong=王^小东", "Wang, XiaoDong"), (("One^A", "Two^B"), "One, A"), ([], ""),
    ],
)  # fmt: skip
def test_names_read_as_people_write_them(value: object, said: str) -> None:
    """A PN becomes family and given names, from the first group that holds any."""
    assert words.person(value) == said


def test_facts_of_any_shape_can_be_shown() -> None:
    """A fact that no one foresaw, however nested, becomes rows and grids; a long digest is cut."""
    (card,) = facts.cards(
        {"surprise": {"a": {"b": [1, 2.5, True, None]}, "digest": "ab" * 32, "rows": [{"x_mm": 1.234}, 7]}}
    )
    assert card.title == "Surprise"
    assert [(row.name, row.text) for row in card.rows] == [
        ("A · B", "1, 2.5, yes, –"),
        ("Digest", "abababababab…abababab"),
    ]
    assert card.rows[1].exact == "ab" * 32
    assert card.grids == (facts.Grid("Rows", ("X (mm)", "Value"), (("1.23", "–"), ("–", "7"))),)
    assert facts.cards({"nothing": None, "empty": {}}) == []


def test_keys_are_not_shown() -> None:
    """A journey's facts hold keys under lock and signed copies; a page shows neither, at any depth."""
    offering = {"offer": {"offer_id": "o-1", "reply_key": "cc"}, "locked_reply_key": "dd", "envelope": {"body": "ee"}}
    parcel, offer = facts.cards(
        {"offering": offering, "locked_key": "ff", "answer": {"body": "gg"}, "parcel": {"key": "bb", "size_bytes": 5}}
    )
    assert [(row.name, row.text) for row in parcel.rows] == [("Size", "5 B")]
    assert [(row.name, row.text) for row in offer.rows] == [("Offer ID", "o-1")]
