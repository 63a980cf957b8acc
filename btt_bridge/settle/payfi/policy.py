"""What a payment costs and how soon it is paid: a dated mapping, as prices are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Final

from btt_bridge.errors import HeldError, InvalidAmountError, MappingError, UnknownError
from btt_bridge.mappings import Source
from btt_bridge.money import Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.payfi.participants import Participant
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS, Share, Split

_SCHEMA: Final = "payfi/policy.schema.json"


class Fee(StrEnum):
    """What a fee is for."""

    PAYMENT = "payment"
    CONVERSION = "conversion"
    ANALYTICS = "analytics"
    LISTING = "listing"


@dataclass(frozen=True, slots=True)
class Limits:
    """How far an asset may be moved: one payment, and a conversion's liquidity below zero."""

    asset: Asset
    payment_units_max: int
    liquidity_units: int


@dataclass(frozen=True, slots=True)
class RateRules:
    """When a rate may be used."""

    sources_min: int
    age_seconds_max: int
    ahead_seconds_max: int
    deviation: Fraction
    quote_seconds: int
    #: Lowest and highest rate that needs no person, by pair.
    corridors: Mapping[tuple[str, str], tuple[Fraction, Fraction]]


@dataclass(frozen=True, slots=True)
class Bill:
    """One payment taken apart: gross = net + fees, exactly."""

    gross: Amount
    fees: tuple[tuple[Fee, Amount], ...]
    net: Amount


@dataclass(frozen=True, slots=True)
class Policy:
    """One dated version of the rules of PayFi."""

    name: str
    effective_from: date
    limits: Mapping[str, Limits]
    tiers: Mapping[str, int]
    points: Mapping[Fee, int]
    #: "up" or "down", for each fee by itself.
    rounding: str
    fee_units_min: int
    shares: Split
    netting_seconds_max: int
    payments_max: int
    service_level_seconds: int
    rates: RateRules

    def asset(self, code: str) -> Asset:
        """Return a currency by its code; raise UnknownError for one that is not settled here."""
        if code not in self.limits:
            raise UnknownError("this currency is not settled here")
        return self.limits[code].asset

    def bill(self, gross: Amount, payee: Participant, *, converted: bool) -> Bill:
        """Take a payment apart; raise HeldError above the cap, InvalidAmountError where fees would eat it up."""
        if self.asset(gross.asset.code) != gross.asset:
            raise InvalidAmountError(f"this currency is not kept as {gross.asset}")
        if gross.units > self.limits[gross.asset.code].payment_units_max:
            raise HeldError("one payment may not be that large", advice="split it, or raise payment_units_max")
        wanted = {Fee.PAYMENT: True, Fee.CONVERSION: converted}
        wanted |= {Fee.ANALYTICS: payee.analytics, Fee.LISTING: payee.listing}
        points = {**self.points, Fee.PAYMENT: self._tier(payee)}
        fees = tuple((fee, self._fee(gross, points[fee])) for fee in Fee if wanted[fee] and points[fee])
        rest = gross.units - sum(amount.units for _, amount in fees)
        if rest < 1:
            raise InvalidAmountError("the fees would leave nothing of this payment")
        return Bill(gross, tuple((fee, amount) for fee, amount in fees if amount.units), Amount(rest, gross.asset))

    def _tier(self, payee: Participant) -> int:
        if payee.tier not in self.tiers:
            raise UnknownError("the rules in force do not know the tier of this payee")
        return self.tiers[payee.tier]

    def _fee(self, gross: Amount, points: int) -> Amount:
        product = gross.units * points
        units = -(-product // WHOLE_BASIS_POINTS) if self.rounding == "up" else product // WHOLE_BASIS_POINTS
        return Amount(max(units, self.fee_units_min), gross.asset)


def load(folder: Path) -> tuple[Policy, ...]:
    """Return the rules of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _policy)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the rules of a folder."""
    return dated.check(folder, _SCHEMA, _policy)


def on(policies: Sequence[Policy], day: date) -> Policy:
    """Return the rules that count on a day."""
    return dated.in_force(policies, day)


def _policy(source: Source) -> Policy:
    body = source.body
    codes = [one["code"] for one in body["assets"]]
    if len(set(codes)) != len(codes):
        raise source.error("a currency stands twice", ("assets",))
    if body["netting"]["seconds_max"] >= body["service_level_seconds"]:
        raise source.error("netting alone would take longer than the service level", ("netting", "seconds_max"))
    return Policy(
        name=body["name"],
        effective_from=dated.day(source),
        limits={
            one["code"]: Limits(Asset(one["code"], one["scale"]), one["payment_units_max"], one["liquidity_units"])
            for one in body["assets"]
        },
        tiers=body["tiers"],
        points={Fee(name): points for name, points in body["fees"].items()},
        rounding=body["rounding"],
        fee_units_min=body["fee_units_min"],
        shares=_shares(source),
        netting_seconds_max=body["netting"]["seconds_max"],
        payments_max=body["netting"]["payments_max"],
        service_level_seconds=body["service_level_seconds"],
        rates=_rates(source, codes),
    )


def _shares(source: Source) -> Split:
    shares = tuple(Share(one["party"], one["basis_points"], one["account"]) for one in source.body["fee_shares"])
    total = sum(share.basis_points for share in shares)
    if total != WHOLE_BASIS_POINTS:
        raise source.error(f"the shares sum to {total} basis points, not {WHOLE_BASIS_POINTS}", ("fee_shares",))
    if len({share.account for share in shares}) != len(shares):
        raise source.error("an account stands twice", ("fee_shares",))
    return Split(source.body["name"], dated.day(source), shares)


def _rates(source: Source, codes: Sequence[str]) -> RateRules:
    rules, corridors = source.body["rates"], {}
    for position, one in enumerate(rules["corridors"]):
        place, pair = ("rates", "corridors", position), (one["base"], one["quote"])
        if one["base"] == one["quote"] or not set(pair) <= set(codes) or pair in corridors:
            raise source.error("a corridor is for one pair of two currencies above, and stands once", place)
        if one["low"] > one["high"]:
            raise source.error("the low end is above the high end", (*place, "low"))
        corridors[pair] = (Fraction(one["low"]), Fraction(one["high"]))
    return RateRules(
        sources_min=rules["sources_min"],
        age_seconds_max=rules["age_seconds_max"],
        ahead_seconds_max=rules["ahead_seconds_max"],
        deviation=Fraction(rules["deviation_basis_points_max"], WHOLE_BASIS_POINTS),
        quote_seconds=rules["quote_seconds"],
        corridors=corridors,
    )
