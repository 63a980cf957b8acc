"""The seams of the bridge: one small Protocol each, found by entry point; our own features come in by the same door."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.metadata import EntryPoints, entry_points
from typing import Any, Protocol, runtime_checkable

from btt_bridge.config import Sink
from btt_bridge.errors import UnknownError
from btt_bridge.records import Anchored, BatchRoot, Burn, PaymentOrder, RateObservation, Result, Statement


class Service(Protocol):
    """A model that a route can buy; entry point group `btt_bridge.services`.

    Runs on the node, in a process of its own, with nothing but the opened parcel.
    """

    name: str
    version: str

    def digest(self) -> str:
        """Return the SHA-256 (hex) of everything that decides the output: code and weights."""

    def operations(self, voxels: int) -> int:
        """Estimate the model operations for an input of so many voxels; the price is made from it."""

    def run(self, instances: Iterable[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        """Compute on de-identified DICOM files, in any order and never on a disk; note seconds by step in `timings`.

        They are opened while they are read, once: reading each as it comes hides what opening them takes.

        Raises a BridgeError, with a text free of content, for input that it does not take.
        """


class Bell(Protocol):
    """The pool's transport: it carries doorbells, and losing or doubling one must change nothing."""

    def ring(self, kind: str, subject: str) -> None:
        """Tell whoever listens that there is something to do about `subject`; never raises."""


class EventSink(Protocol):
    """Where signed events of the ledger go; entry point group `btt_bridge.sinks`, each made with its row of settings.

    One thread uses it, and makes it anew after it raised. A second time with the same event must do no harm.
    """

    def emit(self, event: Mapping[str, Any]) -> None:
        """Make one event durable at the other side, or raise; what follows waits meanwhile.

        DeliveryRefusedError stops the sink until a person lets it go on; after anything else it is tried again.
        """

    def close(self) -> None:
        """Let go of connections."""


class SettlementRail(Protocol):
    """Brings money to bank accounts; entry point group `btt_bridge.rails`, each made with the place it works on.

    Handing over is not paying: an order is paid when a statement confirms it, and not before.
    """

    def submit(self, message: str, orders: Sequence[PaymentOrder], at: datetime) -> None:
        """Hand over orders under a message's name, once: the same name again, even after a crash, changes nothing."""

    def statements(self) -> Sequence[Statement]:
        """Return what the other side has said and nobody has acknowledged yet; the same may come again."""

    def acknowledge(self, name: str) -> None:
        """Note that everything in a statement is in the books."""


@runtime_checkable
class ChainRail(Protocol):
    """What a rail also is where it pays on a chain: a place for roots that nobody can rewrite, and where tokens burn.

    A rail that has none of these methods anchors nothing, and nothing is missing.
    """

    def place(self) -> str:
        """Name where roots are kept, as CAIP-10 names an account; "" where this chain keeps none."""

    def anchor(self, root: BatchRoot) -> Anchored:
        """Post a root once and say how it stands: again, even after a crash or a reorganization, it is the same one.

        Raises KeyConflictError where another root is there under the name of this batch.
        """

    def burns(self, after: int) -> tuple[int, Sequence[Burn]]:
        """Return what holders of the book burned in the blocks behind one, and the last block that was looked at.

        Only blocks that are deep enough to stay are looked at, and so many at once as a node answers for.
        """


class RateSource(Protocol):
    """Somebody who says what a currency costs; entry point group `btt_bridge.rates`, each made with its place."""

    name: str

    def rate(self, base: str, quote: str) -> RateObservation | None:
        """Return the newest rate of a pair of ISO 4217 codes, or None; whether it is good is judged elsewhere."""


class PixelTextDetector(Protocol):
    """Says whether an instance's pixels may carry text; the default trusts only what cannot."""

    def may_carry_text(self, keywords: Mapping[str, Any]) -> str:
        """Return why, in words for a PACS administrator, or "" where the pixels are known to be plain."""


def services() -> dict[str, Service]:
    """Return every installed service by name, without importing those that are not asked for."""
    return {point.name: point.load()() for point in _points("btt_bridge.services")}


def service(name: str) -> Service:
    """Return one service; raise UnknownError where it is not installed."""
    found: Service = _load("btt_bridge.services", name)()
    return found


def rail(name: str, place: str) -> SettlementRail:
    """Return a rail that works on a place, such as a folder; raise UnknownError where it is not installed."""
    found: SettlementRail = _load("btt_bridge.rails", name)(place)
    return found


def event_sink(row: Sink) -> EventSink:
    """Return the sink that a row of settings describes; raise UnknownError where its kind is not installed."""
    found: EventSink = _load("btt_bridge.sinks", row.kind)(row)
    return found


def rate_source(name: str, place: str) -> RateSource:
    """Return a source of rates that reads a place, such as a file; raise UnknownError where it is not installed."""
    found: RateSource = _load("btt_bridge.rates", name)(place)
    return found


def _load(group: str, name: str) -> Any:
    for point in _points(group):
        if point.name == name:
            return point.load()
    raise UnknownError(f"nothing by that name is installed as one of {group}")


@cache
def _points(group: str) -> EntryPoints:
    """Return the entry points of a group; to look for them is to read what every installed package says of itself."""
    return entry_points(group=group)
