"""FHIR R4 as JSON on the wire: read and written with every digit kept, what names a resource, and how no is said."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any, Final

from btt_bridge.errors import BridgeError, MalformedError, TooLargeError

MEDIA_TYPE: Final = "application/fhir+json"

_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
_KIND = re.compile(r"[A-Z][A-Za-z]{1,63}")
_PATIENT = re.compile(r"((?:https?://[^\s?#]{1,200}/)?Patient/[A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_BRACKET = re.compile(rb"[][{}]")
#: Far more than any resource of FHIR has.
_DEPTH_MAX: Final = 200
#: IssueType by the status of an answer (http://hl7.org/fhir/R4/valueset-issue-type.html).
_ISSUES: Final = {
    400: "invalid", 401: "login", 403: "forbidden", 404: "not-supported", 405: "not-supported", 409: "conflict",
    413: "too-costly", 415: "not-supported", 422: "invalid", 503: "transient", 507: "no-store",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Identity:
    """What names one version of a resource; the parts of `meta` that a sender left out are empty."""

    kind: str
    id: str
    version: str = ""
    updated: datetime | None = None

    def __post_init__(self) -> None:
        if not (_KIND.fullmatch(self.kind) and _ID.fullmatch(self.id)):
            raise MalformedError("a resource is named by its type and an id of 1 to 64 letters, digits, - and .")
        if self.version and not _ID.fullmatch(self.version):
            raise MalformedError("meta.versionId is no id")

    @property
    def reference(self) -> str:
        return f"{self.kind}/{self.id}"


def parse(content: bytes, bytes_max: int) -> dict[str, Any]:
    """Return a resource as a dict whose fractions are Decimal: a float would have lost what was written."""
    if len(content) > bytes_max:
        raise TooLargeError(f"a resource has at most {bytes_max} bytes")
    if _depth(content) > _DEPTH_MAX:
        raise MalformedError(f"this is not JSON of a resource, for it is nested more than {_DEPTH_MAX} deep")
    try:
        body = json.loads(content, parse_float=Decimal, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedError("this is not JSON") from None
    if not isinstance(body, dict):
        raise MalformedError("a resource is a JSON object")
    return body


def write(resource: Mapping[str, Any]) -> bytes:
    """Return a resource as JSON whose decimals have the digits that they were written with; a float lost some."""
    if any(isinstance(value, float) for value in _values(resource)):
        raise TypeError("a float is no exact number")
    # No text of FHIR has this character, so that nothing else can look like a number in waiting.
    text = json.dumps(resource, ensure_ascii=True, default=lambda value: f"\0{value}")
    return re.sub(r'"\\u0000(-?[0-9.E+-]+)"', r"\1", text).encode()


def digest(resource: Mapping[str, Any]) -> str:
    """Return the SHA-256 (hex) of what a resource says, however its JSON is laid out."""
    text = json.dumps(resource, sort_keys=True, separators=(",", ":"), default=lambda value: f"\0{value}")
    return hashlib.sha256(text.encode()).hexdigest()


def identity(body: Mapping[str, Any]) -> Identity:
    """Return what names a resource; raise MalformedError where that is not enough."""
    kind, identifier, meta = body.get("resourceType"), body.get("id"), body.get("meta", {})
    if not (isinstance(kind, str) and isinstance(identifier, str) and isinstance(meta, Mapping)):
        raise MalformedError("a resource has a resourceType and an id, and meta is an object")
    version = meta.get("versionId", "")
    return Identity(kind, identifier, version if isinstance(version, str) else "?", _instant(meta.get("lastUpdated")))


def with_meta(body: Mapping[str, Any], version: str, updated: datetime) -> dict[str, Any]:
    """Return a resource whose `meta` says which version it is."""
    meta = body.get("meta", {})
    return {**body, "meta": {**meta, "versionId": version, "lastUpdated": updated.isoformat()}}


def make_relative(body: dict[str, Any], base: str) -> None:
    """Write references into a server's own resources as Patient/17, also where they came with its base URL."""
    prefix = f"{base.rstrip('/')}/"
    for value in _values(body):
        if isinstance(value, dict) and isinstance(reference := value.get("reference"), str):
            value["reference"] = reference.removeprefix(prefix)


def patient(body: Mapping[str, Any], base: str = "") -> str:
    """Return the reference to the one patient that a resource is about, "" where it is not exactly one.

    With the base URL of the server that it comes from, a reference into that server is a relative one.
    """
    prefix = f"{base.rstrip('/')}/" if base else ""
    texts = (text.removeprefix(prefix) for text in _references(body) if isinstance(text, str))
    found = {match[1] for text in texts if (match := _PATIENT.fullmatch(text))}
    return found.pop() if len(found) == 1 else ""


def outcome(problem: BridgeError | str, status: int = 0) -> dict[str, Any]:
    """Return the OperationOutcome of what went wrong; like every error text, it quotes nothing that came in."""
    known = isinstance(problem, BridgeError)
    issue: dict[str, Any] = {
        "severity": "error",
        "code": _ISSUES.get(problem.http_status if known else status, "exception"),  # type: ignore[union-attr]
        "diagnostics": " ".join(part for part in (str(problem), getattr(problem, "advice", "")) if part),
    }
    return {"resourceType": "OperationOutcome", "issue": [issue]}


def _values(body: Any) -> Iterator[Any]:
    """Yield every value of a tree, the tree first; without recursion, for it may be deeper than Python's stack."""
    waiting = [body]
    while waiting:
        value = waiting.pop()
        yield value
        if isinstance(value, Mapping):
            waiting.extend(value.values())
        elif isinstance(value, list | tuple):
            waiting.extend(value)


def _depth(content: bytes) -> int:
    """Return how deep JSON is nested: the parser would find out by recursion, as far as the process lets it."""
    opened = (1 if bracket in b"[{" else -1 for bracket in _BRACKET.findall(_STRING.sub(b"", content)))
    return max(accumulate(opened), default=0)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def _instant(text: object) -> datetime | None:
    if text is None:
        return None
    try:
        updated = datetime.fromisoformat(text)  # type: ignore[arg-type]
        if updated.tzinfo is None:
            raise ValueError
        return updated.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise MalformedError("meta.lastUpdated is no instant with a time zone") from None


def _references(body: Mapping[str, Any]) -> Iterator[object]:
    participants = body.get("participant")
    actors = [p.get("actor") for p in participants if isinstance(p, Mapping)] if isinstance(participants, list) else []
    for value in (body.get("patient"), body.get("subject"), *actors):
        if isinstance(value, Mapping):
            yield value.get("reference")
