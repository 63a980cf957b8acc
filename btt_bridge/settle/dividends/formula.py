"""The formula by which a pool is divided: dated data, exact fractions, and one for what nobody has measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from btt_bridge.errors import MappingError
from btt_bridge.mappings import Place, Source
from btt_bridge.records import Performance
from btt_bridge.settle import dated
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS

_SCHEMA: Final = "dividends/formula.schema.json"
FACTORS: Final = ("resources", "reliability", "quality", "geography", "energy")
ONE: Final = Fraction(1)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what a factor stays, in basis points."""

    low: int
    high: int

    def hold(self, factor: Fraction) -> Fraction:
        return min(max(factor, _points(self.low)), _points(self.high))


@dataclass(frozen=True, slots=True)
class Audited:
    """What auditors have signed of one contributor for a whole month; None where they have not."""

    gpus: int | None = None
    region: str | None = None
    operations_per_joule: int | None = None


@dataclass(frozen=True, slots=True)
class Class:
    """Operators of so many GPUs and more."""

    name: str
    gpus_from: int
    basis_points: int


@dataclass(frozen=True, slots=True)
class Formula:
    """One dated version of the formula."""

    name: str
    effective_from: date
    contributor_basis_points_max: int
    grace: timedelta
    carry_units_max: int
    #: Public key, hex, to name.
    auditors: Mapping[str, str]
    #: By rising number of GPUs.
    classes: tuple[Class, ...]
    leases_min: int
    reliability_reference: int
    reliability: Bounds
    results_min: int
    per_second_reference: int
    quality: Bounds
    regions: Mapping[str, int]
    geography: Bounds
    per_joule_reference: int
    energy: Bounds

    def factors(self, worked: Performance | None, audited: Audited) -> dict[str, Fraction]:
        """Return each factor of one contributor; what it says of itself is not among what counts."""
        found = dict.fromkeys(FACTORS, ONE)
        if worked and worked.ended >= self.leases_min:
            kept = Fraction(worked.accepted, worked.ended) / _points(self.reliability_reference)
            found["reliability"] = self.reliability.hold(kept)
        if worked and worked.accepted >= self.results_min and worked.milliseconds:
            speed = Fraction(worked.operations * 1000, worked.milliseconds * self.per_second_reference)
            found["quality"] = self.quality.hold(speed)
        if (one := self.class_of(audited)) is not None:
            found["resources"] = _points(one.basis_points)
        if audited.region is not None and audited.region in self.regions:
            found["geography"] = self.geography.hold(_points(self.regions[audited.region]))
        if audited.operations_per_joule is not None:
            found["energy"] = self.energy.hold(Fraction(audited.operations_per_joule, self.per_joule_reference))
        return found

    def class_of(self, audited: Audited) -> Class | None:
        """Return the class of a contributor whose GPUs were counted."""
        if audited.gpus is None:
            return None
        fitting = [one for one in self.classes if one.gpus_from <= audited.gpus]
        return fitting[-1] if fitting else None


def load(folder: Path) -> tuple[Formula, ...]:
    """Return the formulas of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _formula)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the formulas of a folder."""
    return dated.check(folder, _SCHEMA, _formula)


def _points(basis_points: int) -> Fraction:
    return Fraction(basis_points, WHOLE_BASIS_POINTS)


def _formula(source: Source) -> Formula:
    body, factors = source.body, source.body["factors"]
    bounds = {name: _bounds(source, name) for name in factors}
    for region, points in factors["geography"]["regions"].items():
        if not bounds["geography"].low <= points <= bounds["geography"].high:
            raise source.error("is outside the bounds of its factor", ("factors", "geography", "regions", region))
    return Formula(
        name=body["name"],
        effective_from=dated.day(source),
        contributor_basis_points_max=body["contributor_basis_points_max"],
        grace=timedelta(hours=body["grace_hours"]),
        carry_units_max=body["carry_units_max"],
        auditors=_auditors(source),
        classes=_classes(source),
        leases_min=factors["reliability"]["leases_min"],
        reliability_reference=factors["reliability"]["reference_basis_points"],
        reliability=bounds["reliability"],
        results_min=factors["quality"]["results_min"],
        per_second_reference=factors["quality"]["reference_per_second"],
        quality=bounds["quality"],
        regions=factors["geography"]["regions"],
        geography=bounds["geography"],
        per_joule_reference=factors["energy"]["reference_per_joule"],
        energy=bounds["energy"],
    )


def _bounds(source: Source, name: str) -> Bounds:
    body: Mapping[str, Any] = source.body["factors"][name]
    place: Place = ("factors", name, "to")
    if body["to"] < body["from"]:
        raise source.error("the bounds end below their beginning", place)
    return Bounds(body["from"], body["to"])


def _auditors(source: Source) -> dict[str, str]:
    auditors = {one["public_key"]: one["name"] for one in source.body["auditors"]}
    if len(auditors) != len(source.body["auditors"]):
        raise source.error("a key stands twice", ("auditors",))
    return auditors


def _classes(source: Source) -> tuple[Class, ...]:
    classes = tuple(Class(**one) for one in source.body["classes"])
    sizes = [one.gpus_from for one in classes]
    if sizes != sorted(set(sizes)):
        raise source.error("classes stand by rising number of GPUs", ("classes",))
    return classes
