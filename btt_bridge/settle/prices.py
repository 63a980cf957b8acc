"""What a result costs: from facts of the job and a dated price list, in whole numbers all the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path

from btt_bridge.errors import InvalidAmountError, MappingError, UnknownError
from btt_bridge.mappings import Source
from btt_bridge.money import CURRENCIES, Amount, Asset
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import dated

_SCHEMA = "prices.schema.json"
MICRO = 10**6


@dataclass(frozen=True, slots=True)
class Facts:
    """What a job is, before anybody has done it; nothing a node could inflate."""

    operations: int
    voxels: int
    size_bytes: int
    urgency: Urgency
    hardware: str

    def __post_init__(self) -> None:
        for number in (self.operations, self.voxels, self.size_bytes):
            if type(number) is not int or number < 0:
                raise InvalidAmountError("operations, voxels and bytes are whole numbers, none negative")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many micro-units for every `per`."""

    per: int
    micro: int

    def of(self, quantity: int) -> Fraction:
        return Fraction(quantity * self.micro, self.per)


@dataclass(frozen=True, slots=True)
class PriceList:
    """One dated version of the prices. Micro-units are millionths of a minor unit."""

    name: str
    effective_from: date
    asset: Asset
    base_micro: int
    operations: Rate
    voxels: Rate
    bytes: Rate
    urgency_percent: Mapping[str, int]
    hardware_percent: Mapping[str, int]
    #: "half-even", "up" or "down", once, at the end.
    rounding: str
    floor_units: int
    cap_units: int
    #: The most that a stake can lower a price by; the floor holds all the same.
    discount_percent_max: int = 0

    def quote(self, facts: Facts, discount_percent: int = 0) -> Charge:
        """Return what a job costs by this list; raise UnknownError for hardware that it does not price."""
        if facts.hardware not in self.hardware_percent:
            raise UnknownError("the price list does not know this hardware class")
        micro = self.base_micro + self.operations.of(facts.operations) + self.voxels.of(facts.voxels)
        micro += self.bytes.of(facts.size_bytes)
        factor = Fraction(self.urgency_percent[facts.urgency] * self.hardware_percent[facts.hardware], 100 * 100)
        units = rounded(micro * factor / MICRO, self.rounding)
        full = Amount(min(max(units, self.floor_units), self.cap_units), self.asset)
        percent = min(discount_percent, self.discount_percent_max)
        due = max(discounted(full, percent).units, self.floor_units)
        return Charge(
            amount=Amount(due, self.asset),
            price_list=self.name,
            operations=facts.operations,
            voxels=facts.voxels,
            size_bytes=facts.size_bytes,
            urgency=facts.urgency,
            hardware=facts.hardware,
            discount_percent=percent,
            discount_units=full.units - due,
        )


def load(folder: Path) -> tuple[PriceList, ...]:
    """Return the price lists of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _price_list)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the price lists of a folder."""
    return dated.check(folder, _SCHEMA, _price_list)


def quote(lists: Sequence[PriceList], facts: Facts, day: date, discount_percent: int = 0) -> Charge:
    """Return what a job costs on a day, for whoever has so much of a discount."""
    return dated.in_force(lists, day).quote(facts, discount_percent)


def discounted(fee: Amount, percent: int) -> Amount:
    """Return a fee less a discount, which is rounded down: what does not divide is paid."""
    return Amount(fee.units - fee.units * percent // 100, fee.asset)


def asset(source: Source) -> Asset:
    """Return what the prices of a file are in; raise MappingError for another scale than this asset has."""
    found = Asset(source.body["asset"], source.body["scale"])
    known = CURRENCIES.get(found.code, found)
    if found != known:
        raise source.error(f"{found.code} has {known.scale} decimal places", ("scale",))
    return found


def _price_list(source: Source) -> PriceList:
    body = source.body
    if body["cap_units"] < body["floor_units"]:
        raise source.error("the cap is below the floor", ("cap_units",))
    return PriceList(
        name=body["name"],
        effective_from=dated.day(source),
        asset=asset(source),
        base_micro=body["base_micro"],
        operations=Rate(**body["operations"]),
        voxels=Rate(**body["voxels"]),
        bytes=Rate(**body["bytes"]),
        urgency_percent=body["urgency_percent"],
        hardware_percent=body["hardware_percent"],
        rounding=body["rounding"],
        floor_units=body["floor_units"],
        cap_units=body["cap_units"],
        discount_percent_max=body.get("discount_percent_max", 0),
    )


def rounded(exact: Fraction, rounding: str) -> int:
    """Return a whole number by one of the ways that a mapping can name."""
    if rounding == "up":
        return -(-exact.numerator // exact.denominator)
    if rounding == "down":
        return exact.numerator // exact.denominator
    return round(exact)
