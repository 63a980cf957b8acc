"""A FHIR resource as a stranger's JSON: what must be known of it before anything about it may count."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from btt_bridge import fhir
from btt_bridge.database import moment_text
from btt_bridge.errors import MalformedError, TooLargeError
from btt_bridge.signing import canonical

_DAY = re.compile(r"(\d{4}-\d{2}-\d{2})(T.{1,40})?")

#: What says that an act was recorded by mistake, or did not take place.
RETRACTED = frozenset({"entered-in-error", "cancelled", "noshow", "not-done", "inactive", "nullified"})


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a resource may be; beyond these nobody looks at it."""

    characters_max: int = 256 * 1024
    values_max: int = 10_000
    depth_max: int = 32


@dataclass(frozen=True, slots=True)
class Resource:
    """One version of a resource, within its limits."""

    kind: str
    #: Its own, as Appointment/17, and that of the one patient it is about.
    reference: str
    patient: str
    updated: datetime
    #: Sorts as the versions follow each other.
    rank: str
    retracted: bool
    body: Mapping[str, Any]
    #: As canonical JSON.
    content: bytes


def read(body: Mapping[str, Any], limits: Limits) -> Resource:
    """Return what must be known of a resource; raise MalformedError or TooLargeError, with none of its content."""
    _check(body, limits)
    named, status = fhir.identity(body), body.get("status", body.get("lifecycleStatus"))
    if named.updated is None:
        raise MalformedError("meta has no lastUpdated" if "meta" in body else "the resource has no meta")
    return Resource(
        kind=named.kind,
        reference=named.reference,
        patient=_patient(body),
        updated=named.updated,
        rank=rank(named, named.updated),
        retracted=isinstance(status, str) and status in RETRACTED,
        body=body,
        content=canonical(_plain(body)),
    )


def rank(named: fhir.Identity, updated: datetime) -> str:
    """Return text that sorts as the versions of a resource follow each other."""
    if not named.version:
        raise MalformedError("meta has no versionId")
    return f"{moment_text(updated)} {named.version:0>64}"


def day_of(text: object) -> date | None:
    """Return the day of a FHIR date or dateTime as it was written, in the time zone of whoever wrote it."""
    found = _DAY.fullmatch(text) if isinstance(text, str) else None
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _patient(body: Mapping[str, Any]) -> str:
    """Return the reference to the one patient that a resource is about."""
    found = fhir.patient(body)
    if not found:
        raise MalformedError("the resource does not name exactly one patient")
    if not found.startswith("Patient/"):
        # The same person would have a wallet, and a cap, for each way of writing the name.
        raise MalformedError("a patient is referred to within its server, as Patient/17")
    return found


def _check(body: Any, limits: Limits) -> None:
    """Hold a tree of JSON against its limits, without recursion, for it may be deeper than Python's stack."""
    if not isinstance(body, Mapping):
        raise MalformedError("a resource is a JSON object")
    waiting: list[tuple[Any, int]] = [(body, 1)]
    values = characters = 0
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if isinstance(value, Mapping):
            characters += sum(len(name) for name in map(_text, value))
            waiting.extend((child, depth + 1) for child in value.values())
        elif isinstance(value, list):
            waiting.extend((child, depth + 1) for child in value)
        elif isinstance(value, str):
            characters += len(_text(value))
        else:
            _check_number(value)
        if depth > limits.depth_max or values + len(waiting) > limits.values_max or characters > limits.characters_max:
            raise TooLargeError("the resource is deeper or larger than is looked at")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MalformedError("a name in JSON is text")
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise MalformedError("the resource holds text that is no Unicode")
    return value


def _check_number(value: object) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int) and abs(value) < 10**18:
        return
    if isinstance(value, float) and math.isfinite(value):
        return
    if isinstance(value, Decimal) and value.is_finite() and abs(value.adjusted()) < 400:
        return
    raise MalformedError("the resource holds a number that JSON and FHIR do not have")


def _plain(value: Any) -> Any:
    """Return a checked tree with what JSON can write; a Decimal, as some readers give, becomes a float."""
    if isinstance(value, Mapping):
        return {name: _plain(child) for name, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return float(value) if isinstance(value, Decimal) else value
