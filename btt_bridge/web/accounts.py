"""What the pages of the ledger show: accounts and statements, what work has cost, and who was paid how fast."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from functools import partial
from typing import Any

from btt_bridge.config import Settings
from btt_bridge.errors import ConfigurationError
from btt_bridge.ledger import Balance, Ledger, Line, Notice, anchors
from btt_bridge.ledger.anchors import Anchor
from btt_bridge.ledger.batches import Batch, newest
from btt_bridge.money import Asset, written
from btt_bridge.settle import events, payfi, prices
from btt_bridge.web.charts import Chart, history, ranges, stacks
from btt_bridge.web.paging import Page, page

#: How many events the pages look back; a page is no audit.
_EVENTS = 5000
_BATCHES = 20
_DAYS = 31


def balances(ledger: Ledger, params: Mapping[str, str], limit: int) -> Page[Balance]:
    """Return the accounts that an address asks for."""

    def read(limit: int, cursor: str, back: bool) -> Sequence[Balance]:
        return ledger.accounts(limit, cursor, back=back)

    return page(params, "accounts", limit, read, lambda one: one.account)


def notices(ledger: Ledger, params: Mapping[str, str], limit: int) -> Page[Notice]:
    """Return the events that an address asks for, newest first."""

    def read(limit: int, cursor: str, back: bool) -> Sequence[Notice]:
        return ledger.told(limit, _number(cursor), back=back)

    return page(params, "events", limit, read, lambda notice: notice.position)


@dataclass(frozen=True, slots=True)
class Statement:
    """A page of one account's lines, newest first, and its balance over them."""

    account: str
    lines: Page[Line]
    chart: Chart | None


def statement(ledger: Ledger, account: str, params: Mapping[str, str], limit: int) -> Statement:
    """Return the lines of an account that an address asks for; raise UnknownAccountError where there is no account."""

    def read(limit: int, cursor: str, back: bool) -> Sequence[Line]:
        return ledger.statement(account, limit, _number(cursor), back=back)

    lines = page(params, "lines", limit, read, lambda line: line.transfer.id)
    asset = ledger.balance(account).asset
    points = [(line.transfer.at, line.balance) for line in reversed(lines.rows)]
    return Statement(account, lines, history(f"Balance of {account}", points, partial(_label, asset)))


def _number(cursor: str) -> int:
    """Return a cursor that is a number; 0, which is the beginning, for what somebody made up."""
    return int(cursor) if re.fullmatch(r"[0-9]{1,18}", cursor) else 0


@dataclass(frozen=True, slots=True)
class Charged:
    """What results cost in one asset: by day, and by urgency."""

    asset: Asset
    chart: Chart | None
    #: Day, charges, lowest, mean, highest.
    days: Sequence[tuple[date, int, str, str, str]]
    #: Urgency, charges, mean.
    urgencies: Sequence[tuple[str, int, str]]


def price_lists(settings: Settings) -> Sequence[prices.PriceList]:
    """Return the dated price lists, newest first; none where the mappings cannot be read, which `check` explains."""
    try:
        return prices.load(settings.mappings_dir / "prices")[::-1]
    except ConfigurationError:
        return ()


def charged(ledger: Ledger) -> list[Charged]:
    """Return what was charged lately, by asset."""
    found: dict[Asset, list[tuple[date, int, str]]] = {}
    for notice in _told(ledger, events.CHARGED):
        amount = notice.data["amount"]
        asset = Asset(amount["asset"], amount["scale"])
        found.setdefault(asset, []).append((notice.at.date(), int(amount["units"]), notice.data["urgency"]))
    return [_charged(asset, rows) for asset, rows in sorted(found.items(), key=str)]


def _charged(asset: Asset, rows: Sequence[tuple[date, int, str]]) -> Charged:
    label, by_day, by_urgency = partial(_label, asset), _grouped(rows, 0), _grouped(rows, 2)
    days = sorted(by_day.items())[-_DAYS:]
    return Charged(
        asset=asset,
        chart=ranges(f"What a result cost, {asset.code}: lowest to highest of each day, and the mean", days, label),
        days=[(day, len(u), label(min(u)), label(_mean(u)), label(max(u))) for day, u in reversed(days)],
        urgencies=[(name, len(u), label(_mean(u))) for name, u in sorted(by_urgency.items())],
    )


def _mean(units: Sequence[int]) -> int:
    """Return the mean in whole units; exact until it is rounded once, half to even."""
    return round(Fraction(sum(units), len(units)))


def _grouped(rows: Sequence[tuple[Any, ...]], by: int) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row[1])
    return groups


@dataclass(frozen=True, slots=True)
class Shared:
    """How the charges of one asset were shared out."""

    asset: Asset
    chart: Chart | None
    #: Party, amount, share of all in percent.
    parties: Sequence[tuple[str, str, str]]


def shared(ledger: Ledger) -> list[Shared]:
    """Return who got what of the charges of late, by asset."""
    days: dict[Asset, dict[date, Counter[str]]] = {}
    for notice in _told(ledger, events.CHARGED):
        amount = notice.data["amount"]
        day = days.setdefault(Asset(amount["asset"], amount["scale"]), {}).setdefault(notice.at.date(), Counter())
        for share in notice.data["shares"]:
            day[share["party"]] += int(share["units"])
    return [_shared(asset, found) for asset, found in sorted(days.items(), key=str)]


def _shared(asset: Asset, days: Mapping[date, Counter[str]]) -> Shared:
    totals: Counter[str] = sum(days.values(), Counter())
    key, whole = [party for party, _ in totals.most_common()], sum(totals.values())
    rows = [(day, [parts[party] for party in key]) for day, parts in sorted(days.items())[-_DAYS:]]
    return Shared(
        asset=asset,
        chart=stacks(f"Charges of each day by who got them, {asset.code}", rows, key, partial(_label, asset)),
        parties=[(party, _label(asset, totals[party]), f"{100 * totals[party] / whole:.1f} %") for party in key],
    )


@dataclass(frozen=True, slots=True)
class Payments:
    """What PayFi did lately."""

    instructed: int
    settled: int
    returned: int
    #: Seconds from instruction to confirmed payment, at 50 and at 95 percent of the payments; "" for none.
    median: str
    slowest: str
    #: Number, when, payments, payouts.
    batches: Sequence[tuple[int, Any, int, int]]


def payments(ledger: Ledger) -> Payments:
    """Return instructions, batches and how long payees waited, from the events of late."""
    told = _told(ledger, payfi.INSTRUCTED, payfi.NETTED, payfi.SETTLED, payfi.RETURNED)
    of = {kind: [notice for notice in told if notice.type == kind] for kind in {notice.type for notice in told}}
    seconds = sorted(paid["seconds"] for notice in of.get(payfi.SETTLED, []) for paid in notice.data["payments"])
    batches = [
        (notice.data["batch"], notice.at, notice.data["payments"], len(notice.data["payouts"]))
        for notice in of.get(payfi.NETTED, [])[::-1][:_BATCHES]
    ]
    return Payments(
        instructed=len(of.get(payfi.INSTRUCTED, [])),
        settled=len(seconds),
        returned=sum(len(notice.data["payments"]) for notice in of.get(payfi.RETURNED, [])),
        median=_minutes(seconds, 50),
        slowest=_minutes(seconds, 95),
        batches=batches,
    )


def sealed(ledger: Ledger) -> Sequence[tuple[Batch, Sequence[Anchor]]]:
    """Return the newest sealed settlement batches, and where each is anchored."""
    found = newest(ledger, _BATCHES)
    anchored = anchors.of(ledger, [batch.id for batch in found])
    return [(batch, anchored[batch.id]) for batch in found]


def _told(ledger: Ledger, *types: str) -> list[Notice]:
    """Return the events of these types among the newest, oldest first."""
    last = ledger.latest(1)
    after = max(0, last[0].posting - _EVENTS) if last else 0
    return ledger.notices(after, _EVENTS, types)


def _label(asset: Asset, units: int) -> str:
    return written(units, asset)


def _minutes(seconds: Sequence[int], percent: int) -> str:
    if not seconds:
        return ""
    return f"{seconds[max(0, -(-len(seconds) * percent // 100) - 1)] / 60:.0f} min"
