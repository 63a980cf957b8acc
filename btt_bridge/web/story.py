"""What happened to one study, as a line of stations and as spans of time; pure functions of the journal's rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from btt_bridge.journal import Journey, Step
from btt_bridge.journey import ACTIVE, Event, State
from btt_bridge.records import Study
from btt_bridge.web.words import STAGES

_STAGE_OF_EVENT: Mapping[str, str] = {
    Event.COMPLETED: "assemble",
    Event.MATCHED: "assign",
    Event.UNMATCHED: "assign",
    Event.STRIPPED: "deidentify",
    Event.OFFERED: "dispatch",
    Event.DEMOTED: "exchange",
    Event.COMPUTED: "infer",
    Event.ACCEPTED: "judge",
    Event.REFUSED: "judge",
    Event.RESTORED: "reidentify",
    Event.REPORTED: "report",
    Event.DELIVERED: "send",
    Event.UNDELIVERABLE: "send",
    Event.SETTLED: "settle",
}

#: The station at work while a study is in this state.
_STAGE_AT_WORK: Mapping[str, str] = {
    State.RECEIVING: "accept",
    State.COMPLETE: "assign",
    State.ASSIGNED: "deidentify",
    State.STRIPPED: "dispatch",
    State.OFFERED: "exchange",
    State.COMPUTED: "judge",
    State.JUDGED: "reidentify",
    State.RESTORED: "report",
    State.REPORTED: "send",
    State.DELIVERED: "settle",
    State.UNROUTED: "assign",
    State.UNDELIVERED: "send",
}


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of time that a study spent at one station."""

    stage: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        return max(0.0, (self.end - self.start).total_seconds())


@dataclass(frozen=True, slots=True)
class Station:
    """One stage as this study saw it."""

    stage: str
    about: str
    #: "done", "now", "stopped" or "ahead".
    status: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Bar:
    """A span as it is drawn: offset and width in per mille of the whole time."""

    stage: str
    offset: float
    width: float
    seconds: float


def spans(journey: Journey, steps: Sequence[Step], study: Study) -> list[Span]:
    """Return where the time went, in order; a retried stage has a span for each try."""
    # A later revision begins with the object that opened it, not with the study's first.
    begun = study.first_received_at if journey.revision == 1 else journey.opened_at
    received = max(begun, study.last_received_at)
    if steps:
        received = min(received, steps[0].at)
    found, previous = [Span("accept", begun, received)], received
    for step in steps:
        stage = _STAGE_OF_EVENT.get(step.event)
        if stage == "infer":
            found += _pool(previous, step.at, journey.facts)
        elif stage:
            found.append(Span(stage, previous, step.at))
        previous = step.at
    return found


def stations(journey: Journey, steps: Sequence[Step], found: Sequence[Span]) -> list[Station]:
    """Return the whole path, with what is done, what is at work, and where it stopped."""
    at_work, status = _standing(journey, steps)
    names = list(STAGES)
    here = names.index(at_work) if at_work else len(names)
    seconds: dict[str, float] = {}
    for span in found:
        seconds[span.stage] = seconds.get(span.stage, 0.0) + span.seconds
    return [
        Station(
            name,
            about,
            "done" if index < here else status if index == here else "ahead",
            seconds.get(name) if index <= here else None,
        )
        for index, (name, about) in enumerate(STAGES.items())
    ]


def bars(found: Sequence[Span]) -> list[Bar]:
    """Return the spans as they are drawn beneath each other, on one scale."""
    begun = min(span.start for span in found)
    whole = max((max(span.end for span in found) - begun).total_seconds(), 1e-6)

    def per_mille(seconds: float) -> float:
        return round(1000 * min(max(seconds / whole, 0.0), 1.0), 1)

    return [
        Bar(span.stage, per_mille((span.start - begun).total_seconds()), per_mille(span.seconds), span.seconds)
        for span in found
    ]


def elapsed(found: Sequence[Span]) -> timedelta:
    """Return the time from the first object to the last step."""
    return max(span.end for span in found) - min(span.start for span in found)


def _pool(offered: datetime, computed: datetime, facts: Mapping[str, Any]) -> Iterator[Span]:
    """Divide the time at the pool by what the receipt says: waiting for a lease, then computing.

    The receipt's clock is the node's own, so that its start counts only as far as ours can bear it out.
    """
    receipt = facts.get("receipt")
    started = offered
    if isinstance(receipt, Mapping):
        try:
            stated = datetime.fromisoformat(str(receipt.get("started_at")))
            started = min(max(offered, stated), computed)
        except (TypeError, ValueError):
            started = offered
    yield Span("exchange", offered, started)
    yield Span("infer", started, computed)


def _standing(journey: Journey, steps: Sequence[Step]) -> tuple[str, str]:
    """Return the station where a study stands, "" when it has passed all, and how it stands there."""
    if journey.state is State.SETTLED:
        return "", "done"
    status = "now" if journey.state in ACTIVE else "stopped"
    state: str = journey.state
    if state not in _STAGE_AT_WORK:
        # Held, failed or superseded says that it stopped; the state before says where.
        state = next((step.from_state for step in reversed(steps) if step.from_state in _STAGE_AT_WORK), "")
    return _STAGE_AT_WORK.get(state, "accept"), status
