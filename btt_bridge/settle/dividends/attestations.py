"""What auditors have seen of a contributor's machines: signed, for a time, and worth nothing otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from btt_bridge.errors import SignatureError
from btt_bridge.settle.bills import Month
from btt_bridge.settle.dividends.contributors import Registry
from btt_bridge.settle.dividends.formula import Audited, Formula
from btt_bridge.signing import Signer, verify

#: What an auditor's envelope is signed as, so that nothing else that it signs can be taken for one.
KIND: Final = "attestation"
MEASURES: Final = ("gpus", "region", "operations_per_joule")
Envelope = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attestation:
    """One thing that an auditor vouches for, from one instant until another."""

    contributor: str
    measure: str
    value: int | str
    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.measure not in MEASURES or (self.start.tzinfo is None or self.end.tzinfo is None):
            raise SignatureError("an attestation names a measure, and two instants with their zone")
        wanted = str if self.measure == "region" else int
        if type(self.value) is not wanted or (isinstance(self.value, int) and self.value < 0):
            raise SignatureError("an attestation has a region's name or a whole number, not negative")

    def covers(self, month: Month) -> bool:
        return self.start <= month.start and self.end >= month.end


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attestation that does not count, and why."""

    contributor: str
    reason: str


def sign(attestation: Attestation, signer: Signer) -> dict[str, str]:
    """Return an auditor's envelope."""
    return signer.sign(
        KIND,
        {
            "contributor": attestation.contributor,
            "measure": attestation.measure,
            "value": attestation.value,
            "from": attestation.start.isoformat(),
            "until": attestation.end.isoformat(),
        },
    )


def read(envelope: Envelope, auditors: Mapping[str, str]) -> Attestation:
    """Return what an auditor of this list signed; raise SignatureError for anything else."""
    key = envelope.get("key")
    if not isinstance(key, str) or key not in auditors:
        raise SignatureError("this is no auditor's signature")
    body = verify(envelope, KIND, key)
    try:
        return Attestation(
            body["contributor"],
            body["measure"],
            body["value"],
            datetime.fromisoformat(body["from"]),
            datetime.fromisoformat(body["until"]),
        )
    except (KeyError, TypeError, ValueError):
        raise SignatureError("this is no attestation") from None


def audited(
    envelopes: Iterable[Envelope], formula: Formula, registry: Registry, month: Month
) -> tuple[dict[str, Audited], list[Refusal]]:
    """Return what counts of each contributor in a month, and what does not count.

    It must cover the whole month, and be of an auditor who is not the contributor itself. Where auditors differ, what
    makes the smaller factor counts.
    """
    values: dict[str, dict[str, int | str]] = {}
    refusals: list[Refusal] = []
    for envelope in envelopes:
        try:
            one = read(envelope, formula.auditors)
        except SignatureError as problem:
            refusals.append(Refusal("", str(problem)))
            continue
        if reason := _objection(one, formula.auditors[envelope["key"]], formula, registry, month):
            refusals.append(Refusal(one.contributor, reason))
            continue
        known = values.setdefault(one.contributor, {})
        known[one.measure] = _least(formula, one.measure, one.value, known.get(one.measure, one.value))
    return {name: Audited(**found) for name, found in values.items()}, refusals  # type: ignore[arg-type]


def _objection(one: Attestation, auditor: str, formula: Formula, registry: Registry, month: Month) -> str:
    """Return why an attestation does not count, or nothing."""
    contributor = registry.contributors.get(one.contributor)
    if contributor is None:
        return "there is no such contributor"
    if auditor in (contributor.name, contributor.owner):
        return "nobody audits itself"
    if not one.covers(month):
        return "it does not cover the whole month"
    if one.measure == "region" and one.value not in formula.regions:
        return "the formula knows no such region"
    return ""


def _least(formula: Formula, measure: str, one: int | str, other: int | str) -> int | str:
    """Return which of two values makes the smaller factor."""

    def factor(value: Any) -> Any:
        found = formula.factors(None, Audited(**{measure: value}))
        return found["resources"] * found["geography"] * found["energy"]

    return min(one, other, key=factor)
