"""The fakes that ship with the seams: a clock that is set, a bell that remembers, a sink in memory, a tiny service."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

from btt_bridge.errors import KeyConflictError
from btt_bridge.records import (
    Anchored,
    BatchRoot,
    Burn,
    Code,
    Confirmation,
    Measurement,
    PaymentOrder,
    RateObservation,
    Result,
    RootStanding,
    Statement,
)


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

    def close(self) -> None:
        """Hold nothing."""


@dataclass
class MemoryRail:
    """A settlement rail that keeps what it is handed, and says of it what it is told to."""

    messages: dict[str, tuple[PaymentOrder, ...]] = field(default_factory=dict)
    waiting: dict[str, Statement] = field(default_factory=dict)
    failures_left: int = 0

    def submit(self, message: str, orders: Sequence[PaymentOrder], at: datetime) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise OSError("the rail is down")
        if self.messages.setdefault(message, tuple(orders)) != tuple(orders):
            raise ValueError("the same message with other orders")

    def statements(self) -> Sequence[Statement]:
        return list(self.waiting.values())

    def acknowledge(self, name: str) -> None:
        self.waiting.pop(name, None)

    def say(self, *confirmations: Confirmation) -> None:
        """Let the other side send a statement."""
        name = f"statement-{len(self.waiting) + 1}"
        self.waiting[name] = Statement(name, confirmations)


@dataclass
class MemoryChainRail(MemoryRail):
    """A rail on a chain that keeps roots as it is told to, believes every block, and dies as often as it is told to."""

    where: str = "memory:1"
    roots: dict[int, BatchRoot] = field(default_factory=dict)
    standings: dict[int, RootStanding] = field(default_factory=dict)
    burned: list[Burn] = field(default_factory=list)
    #: How often it dies after it has done what it was asked for.
    deaths_left: int = 0
    asked: list[int] = field(default_factory=list)

    def place(self) -> str:
        return self.where

    def anchor(self, root: BatchRoot) -> Anchored:
        self.asked.append(root.batch)
        if self.failures_left:
            self.failures_left -= 1
            raise OSError("the chain is down")
        if self.roots.setdefault(root.batch, root) != root:
            raise KeyConflictError("the chain holds another root for this batch")
        if self.deaths_left:
            self.deaths_left -= 1
            raise OSError("nobody heard the answer")
        return Anchored(self.standings.get(root.batch, RootStanding.POSTED), f"0x{root.batch:064x}")

    def burns(self, after: int) -> tuple[int, Sequence[Burn]]:
        last = max([after, *(burn.block for burn in self.burned)])
        return last, [burn for burn in self.burned if burn.block > after]


@dataclass
class SetRates:
    """A source that says what it is told to."""

    name: str
    observations: dict[tuple[str, str], RateObservation] = field(default_factory=dict)

    def set(self, base: str, quote: str, rate: str, at: datetime) -> None:
        self.observations[base, quote] = RateObservation(self.name, base, quote, Fraction(rate), at)

    def rate(self, base: str, quote: str) -> RateObservation | None:
        return self.observations.get((base, quote))


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

    def run(self, instances: Iterable[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        timings["run"] = 0.0
        count = Measurement(Code("118523008", "SCT", "Number of images"), float(sum(1 for _ in instances)), "1")
        return Result(self.name, self.version, "", (), 0, 0, (count,), (), ())
