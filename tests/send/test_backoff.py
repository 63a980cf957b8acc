"""Pauses between tries."""

from __future__ import annotations

from btt_bridge.config import Send
from btt_bridge.send import backoff

SETTINGS = Send(backoff_seconds=5, backoff_seconds_max=600)


def pauses(attempts: int) -> list[float]:
    return [backoff(attempts, SETTINGS).total_seconds() for _ in range(200)]


def test_pauses_double_up_to_the_limit() -> None:
    """5, 10, 20 seconds and so on, never more than the setting, also after years of trying."""
    for attempts, longest in ((1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (9, 600), (10_000, 600)):
        assert longest / 2 <= min(pauses(attempts)) <= max(pauses(attempts)) <= longest


def test_what_fails_together_does_not_come_back_together() -> None:
    """Pauses after the same number of tries differ, over most of their range."""
    found = pauses(4)
    assert len(set(found)) > 150
    assert max(found) - min(found) > 10


def test_a_first_try_that_was_never_counted_waits_as_the_first() -> None:
    """Zero attempts is no shorter than one: a pause is never zero."""
    assert min(pauses(0)) >= 2.5
