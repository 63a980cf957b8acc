"""How the pages put things: names of states and stages, and numbers, times and DICOM values as people read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from btt_bridge.journey import State
from btt_bridge.records import RootStanding


@dataclass(frozen=True, slots=True)
class Word:
    """A name for people, what kind of state it is (for its color and mark), and one sentence about it."""

    name: str
    #: "busy", "good", "person" (somebody must look), "bad" or "past".
    tone: str
    about: str


STATES: Mapping[State, Word] = {
    State.RECEIVING: Word("Receiving", "busy", "Objects are still arriving."),
    State.COMPLETE: Word("Complete", "busy", "All objects are here; the mappings decide next."),
    State.ASSIGNED: Word("Assigned", "busy", "A route was chosen; identity is taken off next."),
    State.STRIPPED: Word("De-identified", "busy", "Sealed and proved free of identity; it is offered next."),
    State.OFFERED: Word("At the pool", "busy", "Offered, or being computed on a node."),
    State.COMPUTED: Word("Computed", "busy", "A sealed result is back and is judged next."),
    State.JUDGED: Word("Accepted", "busy", "The result holds; its identity comes back next."),
    State.RESTORED: Word("Re-identified", "busy", "The report is written next."),
    State.REPORTED: Word("Reported", "busy", "The documents are on their way to their destinations."),
    State.DELIVERED: Word("Delivered", "good", "Every destination proved that it has the result."),
    State.SETTLED: Word("Settled", "good", "Delivered, and the accounts are closed."),
    State.UNROUTED: Word("No route", "past", "No mapping wants this study, or more than one does."),
    State.HELD: Word("Held", "person", "Nothing is lost; a person must look before it goes on."),
    State.UNDELIVERED: Word("Undelivered", "bad", "A destination refuses the result; see the advice."),
    State.SUPERSEDED: Word("Superseded", "past", "More objects arrived; a newer revision took over."),
    State.FAILED: Word("Failed", "bad", "It could not be finished; see the reason."),
}

DELIVERY_STATES: Mapping[str, Word] = {
    "waiting": Word("Waiting", "busy", "It will be tried again at the time shown."),
    "delivered": Word("Delivered", "good", "The destination answered 0x0000."),
    "dead": Word("Dead letter", "bad", "It will not be tried again before somebody acts."),
    "withdrawn": Word("Withdrawn", "past", "A newer revision took its place."),
}

ROOT_STANDINGS: Mapping[str, Word] = {
    RootStanding.POSTED: Word("Posted", "busy", "It is on the chain, and can still be disputed or reorganized."),
    RootStanding.STANDS: Word("Anchored", "good", "It stands on the chain for ever."),
    RootStanding.VOID: Word("Void", "person", "The guardian undid it within its dispute window."),
    RootStanding.REFUSED: Word("Refused", "bad", "Another root is there for this batch: this is not the book it was."),
}

#: Why an object is kept without being in use; no flag is an object in use.
FLAGS: Mapping[str, str] = {
    "": "in use",
    "conflict": "same UID, other content",
    "unreadable": "cannot be read",
    "own": "a result of ours that came back",
}

#: The stations of the path, in order, and what each does.
STAGES: Mapping[str, str] = {
    "accept": "Received and made durable",
    "assemble": "Put together until complete",
    "assign": "Matched to a route",
    "deidentify": "De-identified and proved so",
    "dispatch": "Sealed and offered",
    "exchange": "Waited for a node's lease",
    "infer": "Computed on a node",
    "judge": "Result checked",
    "reidentify": "Identity brought back",
    "report": "Documents written",
    "send": "Delivered, with proof",
    "settle": "Accounts closed",
}


def duration(seconds: float | None) -> str:
    """0.0042 is "4 ms", 75 is "1 min 15 s", 4000 is "1 h 7 min"."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for unit, next_unit, size in (("d", "h", 86400), ("h", "min", 3600), ("min", "s", 60)):
        if whole >= size:
            many, rest = divmod(whole, size)
            rest //= {"d": 3600, "h": 60, "min": 1}[unit]
            return f"{many} {unit} {rest} {next_unit}" if rest else f"{many} {unit}"
    return f"{whole} s"


def age(then: datetime | None, now: datetime) -> str:
    """How long ago, in the largest unit that fits; "in 5 s" for what is still to come."""
    if then is None:
        return "–"
    seconds = (now - then).total_seconds()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        if abs(seconds) >= size:
            return f"{seconds // size:.0f} {unit} ago" if seconds > 0 else f"in {-seconds // size:.0f} {unit}"
    return "just now" if seconds >= 0 else "now"


def moment(value: datetime | None) -> str:
    """An instant in this machine's own time zone."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z") if value else "–"


def instant(value: datetime | None) -> str:
    """An instant to the millisecond, in this machine's own time zone: the order of events can be read from it."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S.") + f"{value.microsecond // 1000:03d}" if value else "–"


def size(size_bytes: float) -> str:
    """130478080 is "124.4 MiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size_bytes) < 1024:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.1f} TiB"


def person(value: Any) -> str:
    """A PN value as "Family, Given Middle"; the ideographic group where there is no alphabetic one."""
    groups = [group for group in str(first(value)).split("=") if group.strip("^ ")]
    if not groups:
        return ""
    family, *rest = [part.strip() for part in groups[0].split("^")]
    given = " ".join(part for part in rest[:2] if part)
    return f"{family}, {given}" if family and given else family or given


def date(value: Any) -> str:
    """A DA value as YYYY-MM-DD, or as it is where it is no date."""
    text = str(first(value)).strip()
    return f"{text[:4]}-{text[4:6]}-{text[6:]}" if len(text) == 8 and text.isdigit() else text


def first(value: Any) -> Any:
    """The first of several values; "" for none."""
    if isinstance(value, list | tuple):
        value = value[0] if value else ""
    return "" if value is None else value
