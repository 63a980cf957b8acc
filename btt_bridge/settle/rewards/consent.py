"""Whether a patient agreed: an active FHIR Consent that permits, covers the time, and makes no exception."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from btt_bridge.settle.rewards.resources import Resource, day_of


def covers(consents: Sequence[Resource], patient: str, days: Sequence[date]) -> bool:
    """Say whether these consents, all of the kind that a program asks for, cover the patient on every one of the days.

    What is not plain counts as no: no provision, no time, an exception within. An active one that denies beats all.
    """
    own = [
        consent.body for consent in consents if consent.patient == patient and consent.body.get("status") == "active"
    ]
    provisions = [(body, body["provision"]) for body in own if isinstance(body.get("provision"), Mapping)]
    if any(provision.get("type") != "permit" for _, provision in provisions):
        return False
    return any(not provision.get("provision") and _within(body, provision, days) for body, provision in provisions)


def _within(body: Mapping[str, Any], provision: Mapping[str, Any], days: Sequence[date]) -> bool:
    """Say whether all days lie in the time of a provision; without a start, it starts when it was given."""
    period = provision.get("period")
    bounds = period if isinstance(period, Mapping) else {}
    start = day_of(bounds.get("start", body.get("dateTime")))
    end = day_of(bounds["end"]) if "end" in bounds else date.max
    return start is not None and end is not None and all(start <= day <= end for day in days)
