"""Measures against real peers, in one run on one machine; `make bench` runs them all."""

from __future__ import annotations

from typing import Any


def row(measure: str, against: str, value: float, peer: float, at_least: float) -> dict[str, Any]:
    """Return one line of the table; more is better, and `at_least` is how many times the peer it should be."""
    return {
        "measure": measure,
        "against": against,
        "value": round(value, 3 if value < 10 else 1),
        "peer": round(peer, 3 if peer < 10 else 1),
        "ratio": round(value / peer, 2),
        "at_least": at_least,
    }
