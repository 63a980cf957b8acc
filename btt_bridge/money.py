"""Whole minor units of named assets, and dividing them so that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from btt_bridge.errors import InvalidAmountError


@dataclass(frozen=True, slots=True)
class Asset:
    """Something that can be owed: an ISO 4217 currency, BTT, or points."""

    code: str
    #: Decimal places of one unit: 2 for CNY, 0 for JPY, 18 for BTT.
    scale: int

    def __post_init__(self) -> None:
        if not (self.code.isascii() and self.code.isalpha() and self.code.isupper() and 3 <= len(self.code) <= 8):
            raise InvalidAmountError("an asset code is three to eight capital letters")
        if not 0 <= self.scale <= 18:
            raise InvalidAmountError("an asset's scale is 0 to 18 decimal places")

    def __str__(self) -> str:
        return f"{self.code}/{self.scale}"


CNY = Asset("CNY", 2)
BTT = Asset("BTT", 18)
POINTS = Asset("POINTS", 0)

#: What a price can be named in.
CURRENCIES: Final = {asset.code: asset for asset in (CNY, BTT)}


@dataclass(frozen=True, slots=True, order=False)
class Amount:
    """A non-negative whole number of an asset's minor units."""

    units: int
    asset: Asset

    def __post_init__(self) -> None:
        # bool is an int to Python; it is not an amount of money to anybody.
        if type(self.units) is not int or self.units < 0:
            raise InvalidAmountError
        if self.units >= 10**38:
            raise InvalidAmountError("an amount has at most 38 digits")

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.units + self._same(other), self.asset)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.units - self._same(other), self.asset)

    def __str__(self) -> str:
        return f"{self.decimal} {self.asset.code}"

    @property
    def decimal(self) -> str:
        """The number of whole units, with every decimal place of the asset."""
        whole, places = _parts(self.units, self.asset)
        return f"{whole}{places}"

    def _same(self, other: Amount) -> int:
        if other.asset != self.asset:
            raise InvalidAmountError(f"{other.asset} is not {self.asset}")
        return other.units


def written(units: int, asset: Asset) -> str:
    """Return units of an asset as people read them, negative ones too: -123456 of CNY/2 is "-1,234.56 CNY"."""
    whole, places = _parts(abs(units), asset)
    return f"{'-' if units < 0 else ''}{int(whole):,}{places} {asset.code}"


def _parts(units: int, asset: Asset) -> tuple[str, str]:
    # By hand: Decimal would round to 28 digits.
    digits, scale = f"{units:0{asset.scale + 1}d}", asset.scale
    return (digits[:-scale], f".{digits[-scale:]}") if scale else (digits, "")


def amount_of(value: Decimal, code: str) -> Amount:
    """Return an amount written as a person writes it: 25.00 of CNY is 2,500 units. Raises InvalidAmountError."""
    asset = CURRENCIES.get(code)
    if asset is None:
        raise InvalidAmountError(f"no price is in this asset; known are {', '.join(CURRENCIES)}")
    return exactly(value, asset)


def exactly(value: Decimal, asset: Asset) -> Amount:
    """Return a decimal number of whole units as minor units, or raise InvalidAmountError; nothing is rounded."""
    # A long exponent, either way, would cost more memory than the number is worth.
    if not value.is_finite() or not -38 <= value.adjusted() <= 37 or len(value.as_tuple().digits) > 80:
        raise InvalidAmountError
    units = Fraction(value) * 10**asset.scale
    if units.denominator != 1:
        raise InvalidAmountError(f"an amount of {asset.code} has at most {asset.scale} decimal places")
    return Amount(int(units), asset)


def split(units: int, weights: Sequence[int]) -> list[int]:
    """Divide whole units in proportion to weights by largest remainder (Hamilton).

    The shares always sum to `units`; ties go to the earlier weight. Raises InvalidAmountError when
    there is something to divide and nobody to have it.
    """
    if type(units) is not int or units < 0 or any(type(w) is not int or w < 0 for w in weights):
        raise InvalidAmountError("units and weights are whole numbers, none negative")
    total = sum(weights)
    if total == 0:
        if units:
            raise InvalidAmountError("there is nobody to divide this among")
        return [0] * len(weights)
    shares = [units * weight // total for weight in weights]
    remainders = [units * weight % total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-remainders[i], i))
    for i in by_remainder[: units - sum(shares)]:
        shares[i] += 1
    return shares
