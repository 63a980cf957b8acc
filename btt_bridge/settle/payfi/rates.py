"""Exchange rates: the median of several fresh sources that agree, as a quote that expires."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from statistics import median

from btt_bridge.clock import Clock
from btt_bridge.errors import BridgeError, InvalidAmountError, MalformedError, RateUnavailableError, RefusedError
from btt_bridge.money import Amount, Asset
from btt_bridge.plugins import RateSource
from btt_bridge.records import RateObservation
from btt_bridge.settle.payfi.policy import Policy

_NUMBER = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?(/[0-9]{1,12})?")
_COLUMNS = ["at", "base", "quote", "rate"]
_FILE_BYTES_MAX = 2**24


@dataclass(frozen=True, slots=True)
class Quote:
    """A promise to convert at a rate until it expires."""

    base: Asset
    quote: Asset
    #: Units of `quote` for one unit of `base`, both whole units and not minor ones.
    rate: Fraction
    sources: tuple[str, ...]
    at: datetime
    expires_at: datetime

    def convert(self, amount: Amount) -> Amount:
        """Return what an amount comes to, rounded down to a minor unit: in favor of the liquidity account."""
        if amount.asset != self.base:
            raise InvalidAmountError(f"this rate is for {self.base}, not {amount.asset}")
        exact = amount.units * self.rate * Fraction(10) ** (self.quote.scale - self.base.scale)
        units = exact.numerator // exact.denominator
        if units < 1:
            raise InvalidAmountError("converted, nothing would be left of this amount")
        return Amount(units, self.quote)


@dataclass(frozen=True)
class Desk:
    """Quotes rates from its sources, by the rules in force."""

    sources: Sequence[RateSource]
    clock: Clock

    def quote(self, policy: Policy, base: Asset, quote: Asset) -> Quote:
        """Return a rate that may be used now; raise RateUnavailableError where the sources do not give one."""
        if base == quote:
            raise RefusedError("nothing needs to be converted")
        now, rules = self.clock.now(), policy.rates
        oldest, newest = (
            now - timedelta(seconds=rules.age_seconds_max),
            now + timedelta(seconds=rules.ahead_seconds_max),
        )
        # By name, so that one source that is given twice does not count twice.
        fresh = {seen.source: seen for seen in self._asked(base.code, quote.code) if oldest <= seen.at <= newest}
        if len(fresh) < rules.sources_min:
            raise RateUnavailableError(f"{len(fresh)} sources are fresh, and {rules.sources_min} are needed")
        middle = _median(fresh.values())
        agreed = {n: seen for n, seen in fresh.items() if abs(seen.rate - middle) <= middle * rules.deviation}
        if len(agreed) < rules.sources_min or 2 * len(agreed) <= len(fresh):
            raise RateUnavailableError("too few sources agree on this rate")
        rate = _median(agreed.values())
        low, high = rules.corridors.get((base.code, quote.code), (rate, rate))
        if not low <= rate <= high:
            raise RateUnavailableError("the rate has left its corridor", advice="a person must look at the market")
        expires_at = now + timedelta(seconds=rules.quote_seconds)
        return Quote(base, quote, rate, tuple(sorted(agreed)), now, expires_at)

    def _asked(self, base: str, quote: str) -> Iterator[RateObservation]:
        """Ask every source; one that fails is one fewer, and one that answers something else is not believed."""
        for source in self.sources:
            try:
                seen = source.rate(base, quote)
            except (BridgeError, OSError):
                continue
            if seen is not None and (seen.base, seen.quote) == (base, quote):
                yield seen


def _median(observations: Iterable[RateObservation]) -> Fraction:
    return Fraction(median(seen.rate for seen in observations))


class FileRates:
    """A source that reads a CSV file: at, base, quote, rate; somebody else appends to it or replaces it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem

    def rate(self, base: str, quote: str) -> RateObservation | None:
        """Return the newest line of a pair; raise MalformedError where the file does not hold."""
        if self.path.stat().st_size > _FILE_BYTES_MAX:
            raise MalformedError("this file of rates is too large")
        found: RateObservation | None = None
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file, strict=True)
                if rows.fieldnames != _COLUMNS:
                    raise MalformedError(f"a file of rates has the columns {', '.join(_COLUMNS)}")
                for row in rows:
                    if (row["base"], row["quote"]) == (base, quote):
                        seen = self._observation(row)
                        found = seen if found is None or seen.at >= found.at else found
        except (ValueError, TypeError, csv.Error):
            raise MalformedError("this file of rates cannot be read") from None
        return found

    def _observation(self, row: dict[str, str]) -> RateObservation:
        """Read one line; the rate is digits and never passes through a float."""
        if not _NUMBER.fullmatch(row["rate"]):
            raise ValueError("a rate is written in digits, as 7.25 or 29/4")
        number, _, divisor = row["rate"].partition("/")
        if int(divisor or 1) == 0:
            raise ValueError("a rate is not divided by zero")
        rate = Fraction(number) / int(divisor or 1)
        return RateObservation(self.name, row["base"], row["quote"], rate, datetime.fromisoformat(row["at"]))
