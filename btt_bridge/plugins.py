"""The seams of the bridge: one small Protocol each, found by entry point; our own features come in by the same door."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol

from btt_bridge.errors import UnknownError
from btt_bridge.records import Result


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

    def run(self, instances: Sequence[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        """Compute on de-identified DICOM files, in any order and never on a disk; note seconds by step in `timings`.

        Raises a BridgeError, with a text free of content, for input that it does not take.
        """


class Bell(Protocol):
    """The pool's transport: it carries doorbells, and losing or doubling one must change nothing."""

    def ring(self, kind: str, subject: str) -> None:
        """Tell whoever listens that there is something to do about `subject`; never raises."""


class EventSink(Protocol):
    """Where signed events of the ledger go: a file today, a webhook or a settlement rail tomorrow."""

    def emit(self, event: Mapping[str, Any]) -> None:
        """Make one event durable at the other side, or raise; the outbox then tries again."""


class PixelTextDetector(Protocol):
    """Says whether an instance's pixels may carry text; the default trusts only what cannot."""

    def may_carry_text(self, keywords: Mapping[str, Any]) -> str:
        """Return why, in words for a PACS administrator, or "" where the pixels are known to be plain."""


def services() -> dict[str, Service]:
    """Return every installed service by name, without importing those that are not asked for."""
    return {point.name: point.load()() for point in entry_points(group="btt_bridge.services")}


def service(name: str) -> Service:
    """Return one service; raise UnknownError where it is not installed."""
    for point in entry_points(group="btt_bridge.services"):
        if point.name == name:
            found: Service = point.load()()
            return found
    raise UnknownError("this service is not installed here")
