"""A FHIR resource as a stranger's JSON: what must be known of it before anything about it may count."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from btt_bridge.database import moment_text
from btt_bridge.errors import MalformedError, TooLargeError
from btt_bridge.signing import canonical

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_KIND = re.compile(r"[A-Z][A-Za-z]{1,63}")
_PATIENT = re.compile(r"(https?://[^\s?#]{1,200}/)?(Patient/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
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
    kind, identifier, meta = body.get("resourceType"), body.get("id"), body.get("meta")
    if not (isinstance(kind, str) and _KIND.fullmatch(kind)):
        raise MalformedError("the resource has no resourceType")
    if not (isinstance(identifier, str) and _ID.fullmatch(identifier)):
        raise MalformedError("the resource has no id")
    if not isinstance(meta, Mapping):
        raise MalformedError("the resource has no meta")
    updated, status = _updated(meta), body.get("status", body.get("lifecycleStatus"))
    return Resource(
        kind=kind,
        reference=f"{kind}/{identifier}",
        patient=_patient(body),
        updated=updated,
        rank=rank(updated, meta.get("versionId")),
        retracted=isinstance(status, str) and status in RETRACTED,
        body=body,
        content=canonical(_plain(body)),
    )


def rank(updated: datetime, version: object) -> str:
    """Return text that sorts as the versions of a resource follow each other."""
    if not (isinstance(version, str) and _ID.fullmatch(version)):
        raise MalformedError("meta has no versionId")
    return f"{moment_text(updated)} {version:0>64}"


def day_of(text: object) -> date | None:
    """Return the day of a FHIR date or dateTime as it was written, in the time zone of whoever wrote it."""
    found = _DAY.fullmatch(text) if isinstance(text, str) else None
    try:
        return date.fromisoformat(found[1]) if found else None
    except ValueError:
        return None


def _updated(meta: Mapping[str, Any]) -> datetime:
    try:
        updated = datetime.fromisoformat(meta["lastUpdated"])
    except (KeyError, TypeError, ValueError):
        raise MalformedError("meta has no lastUpdated") from None
    if updated.tzinfo is None:
        raise MalformedError("lastUpdated has no time zone")
    try:
        return updated.astimezone(UTC)
    except OverflowError:
        raise MalformedError("lastUpdated is out of range") from None


def _patient(body: Mapping[str, Any]) -> str:
    """Return the reference to the one patient that a resource is about."""
    found = set()
    for reference in _references(body):
        match = _PATIENT.fullmatch(reference) if isinstance(reference, str) else None
        if match and match[1]:
            # The same person would have a wallet, and a cap, for each way of writing the name.
            raise MalformedError("a patient is referred to within its server, as Patient/17")
        if match:
            found.add(match[2])
    if len(found) != 1:
        raise MalformedError("the resource does not name exactly one patient")
    return found.pop()


def _references(body: Mapping[str, Any]) -> Iterator[object]:
    participants = body.get("participant")
    actors = [p.get("actor") for p in participants if isinstance(p, Mapping)] if isinstance(participants, list) else []
    for value in (body.get("patient"), body.get("subject"), *actors):
        if isinstance(value, Mapping):
            yield value.get("reference")


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
