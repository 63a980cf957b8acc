"""How long to wait before the next try."""

from __future__ import annotations

import random
from datetime import timedelta

from btt_bridge.config import Send

_DICE = random.SystemRandom()
_DOUBLINGS_MAX = 32


def backoff(attempts: int, settings: Send) -> timedelta:
    """Return the pause after so many failed tries: doubled each time, up to the limit.

    Between half of that and all of it, by chance, so that what failed together does not come back together.
    """
    doublings = min(max(attempts - 1, 0), _DOUBLINGS_MAX)
    longest = min(settings.backoff_seconds * 2**doublings, settings.backoff_seconds_max)
    return timedelta(seconds=_DICE.uniform(longest / 2, longest))
