"""What time it is, so that tests may decide."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The one source of time: `now` for what is recorded, `monotonic` for what is measured."""

    def now(self) -> datetime:
        """Return the current instant, always aware and in UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
