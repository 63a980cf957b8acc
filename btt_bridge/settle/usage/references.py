"""What the same work would cost elsewhere: dated rates, each with its source, its evidence and its day."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from btt_bridge.errors import MappingError
from btt_bridge.mappings import Place, Source
from btt_bridge.money import Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.meters import Reading
from btt_bridge.settle.prices import MICRO, Rate, asset, rounded

_SCHEMA: Final = "usage/references.schema.json"


@dataclass(frozen=True, slots=True)
class Reference:
    """One other way to get the work done."""

    name: str
    title: str
    source: str
    #: quotation, tariff, invoice or assumption.
    evidence: str
    taken_on: date
    #: Due each month, whatever is used.
    monthly_units: int
    base_micro: int
    operations: Rate
    voxels: Rate
    bytes: Rate


@dataclass(frozen=True, slots=True)
class References:
    """One dated version of the rates, and of what is claimed against them."""

    name: str
    effective_from: date
    asset: Asset
    rounding: str
    claim_from_basis_points: int
    claim_to_basis_points: int
    rates: tuple[Reference, ...]

    def cost(self, rate: Reference, readings: Sequence[Reading]) -> Amount:
        """Return what a month with these results costs by a rate; exact until it is rounded once."""
        micro = rate.monthly_units * MICRO + rate.base_micro * len(readings)
        exact = rate.operations.of(sum(one.operations for one in readings))
        exact += rate.voxels.of(sum(one.voxels for one in readings))
        exact += rate.bytes.of(sum(one.size_bytes for one in readings))
        return Amount(rounded((exact + micro) / MICRO, self.rounding), self.asset)


def load(folder: Path) -> tuple[References, ...]:
    """Return the references of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _references)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the references of a folder."""
    return dated.check(folder, _SCHEMA, _references)


def _references(source: Source) -> References:
    body, claim = source.body, source.body["claim"]
    if claim["to_basis_points"] < claim["from_basis_points"]:
        raise source.error("the claim ends below its beginning", ("claim", "to_basis_points"))
    rates = tuple(_reference(source, rate, ("rates", n)) for n, rate in enumerate(body["rates"]))
    if len({rate.name for rate in rates}) != len(rates):
        raise source.error("a rate stands twice", ("rates",))
    return References(
        name=body["name"],
        effective_from=dated.day(source),
        asset=asset(source),
        rounding=body["rounding"],
        claim_from_basis_points=claim["from_basis_points"],
        claim_to_basis_points=claim["to_basis_points"],
        rates=rates,
    )


def _reference(source: Source, body: Mapping[str, Any], place: Place) -> Reference:
    try:
        taken_on = date.fromisoformat(body["taken_on"])
    except ValueError:
        raise source.error("there is no such day", (*place, "taken_on")) from None
    rates = {name: Rate(**body[name]) for name in ("operations", "voxels", "bytes")}
    return Reference(**{**body, **rates, "taken_on": taken_on})
