"""The fakes that ship with the seams: a clock that is set, a bell that remembers, a sink in memory, a tiny service."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from btt_bridge.records import Code, Measurement, Result


@dataclass
class FakeClock:
    """A clock that stands still until it is told to go on."""

    instant: datetime = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
    elapsed_seconds: float = 0.0

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return self.elapsed_seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.instant += timedelta(seconds=seconds)
        self.elapsed_seconds += seconds


@dataclass
class RecordingBell:
    """A bell that remembers who rang."""

    rings: list[tuple[str, str]] = field(default_factory=list)

    def ring(self, kind: str, subject: str) -> None:
        self.rings.append((kind, subject))


@dataclass
class MemorySink:
    """An event sink that keeps what it is given, and fails as often as it is told to."""

    events: list[Mapping[str, Any]] = field(default_factory=list)
    failures_left: int = 0

    def emit(self, event: Mapping[str, Any]) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise OSError("the sink is down")
        self.events.append(event)


@dataclass(frozen=True)
class PlainPixels:
    """A pixel text detector that gives one answer for every image."""

    reason: str = ""

    def may_carry_text(self, keywords: Mapping[str, Any]) -> str:
        return self.reason


class CountingService:
    """A service that reports how many instances it was given, in no time and without torch."""

    name = "counting"
    version = "1.0.0"

    def digest(self) -> str:
        return hashlib.sha256(b"counting 1.0.0").hexdigest()

    def operations(self, voxels: int) -> int:
        return voxels

    def run(self, instances: Sequence[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        timings["run"] = 0.0
        count = Measurement(Code("118523008", "SCT", "Number of images"), float(len(instances)), "1")
        return Result(self.name, self.version, "", (), 0, 0, (count,), (), ())
