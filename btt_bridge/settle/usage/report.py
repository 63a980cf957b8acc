"""A month of one hospital as its accountant reads it: the account, the usage, and what it would have cost elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from btt_bridge.money import Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.bills import Account, Activity, Bill
from btt_bridge.settle.meters import Reading
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.settle.usage.references import Reference, References


@dataclass(frozen=True, slots=True)
class Line:
    """So many results of one kind, and what they came to."""

    label: str
    results: int
    charged: Amount
    refunded: Amount
    reading: Reading


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the charges that stood at the end of the month would have cost by one reference."""

    reference: Reference
    cost: Amount
    charged: Amount
    #: Of the cost, in basis points rounded down; negative where elsewhere is cheaper, None where that costs nothing.
    saved_basis_points: int | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Section:
    """A month in one asset."""

    account: Account
    services: tuple[Line, ...]
    days: tuple[Line, ...]
    #: The rates that were in force on the last day; None where there are none in this asset.
    references: References | None
    comparisons: tuple[Comparison, ...]
    #: Charges that stood at the end of the month, and those of them of which nothing was measured.
    compared: int
    unmeasured: int


@dataclass(frozen=True, slots=True)
class Report:
    """The monthly usage report; there is no patient in it, and a study only as the opaque reference of its bill."""

    activity: Activity
    sections: tuple[Section, ...]


def summarize(activity: Activity, references: Sequence[References]) -> Report:
    """Return the report of a month, the same each time it is asked for."""
    return Report(activity, tuple(_section(activity, account, references) for account in activity.accounts))


def _section(activity: Activity, account: Account, references: Sequence[References]) -> Section:
    charges = [bill for bill in activity.charges if bill.amount.asset == account.asset]
    refunds = [refund for refund in activity.refunds if refund.bill.amount.asset == account.asset]
    # What was taken back later is another month's affair: a report does not change once its month is over.
    back = {refund.bill.key for refund in refunds}
    standing = [bill for bill in charges if bill.key not in back]
    found = _in_force(references, account.asset, _last_day(activity))
    zone = activity.month.zone
    return Section(
        account=account,
        services=_lines(
            account.asset,
            [(_kind(bill), bill) for bill in charges],
            [(_kind(refund.bill), refund.bill) for refund in refunds],
        ),
        days=_lines(
            account.asset,
            [(f"{bill.at.astimezone(zone):%Y-%m-%d}", bill) for bill in charges],
            [(f"{refund.at.astimezone(zone):%Y-%m-%d}", refund.bill) for refund in refunds],
        ),
        references=found,
        comparisons=tuple(_comparison(found, rate, standing) for rate in found.rates) if found else (),
        compared=len(standing),
        unmeasured=sum(bill.reading is None for bill in standing),
    )


def _kind(bill: Bill) -> str:
    return f"{bill.service}, {bill.urgency}"


def _lines(asset: Asset, charged: Sequence[tuple[str, Bill]], back: Sequence[tuple[str, Bill]]) -> tuple[Line, ...]:
    """Add up charges and refunds by their labels, in the order of these."""
    lines = []
    for label in sorted({label for label, _ in (*charged, *back)}):
        bills = [bill for name, bill in charged if name == label]
        read = [bill.reading for bill in bills if bill.reading]
        lines.append(
            Line(
                label,
                len(bills),
                Amount(sum(bill.amount.units for bill in bills), asset),
                Amount(sum(bill.amount.units for name, bill in back if name == label), asset),
                total(read),
            )
        )
    return tuple(lines)


def total(readings: Iterable[Reading]) -> Reading:
    """Add up what several results took."""
    rows = [(one.operations, one.voxels, one.size_bytes) for one in readings]
    return Reading(*(sum(column) for column in zip(*rows, strict=True)))


def _comparison(references: References, rate: Reference, bills: Sequence[Bill]) -> Comparison:
    cost = references.cost(rate, [bill.reading or Reading() for bill in bills])
    charged = Amount(sum(bill.amount.units for bill in bills), references.asset)
    if not cost.units:
        return Comparison(rate, cost, charged, None, "nothing to compare with")
    saved = (cost.units - charged.units) * WHOLE_BASIS_POINTS // cost.units
    if saved > references.claim_to_basis_points:
        verdict = "above the claim"
    elif saved >= references.claim_from_basis_points:
        verdict = "as claimed"
    else:
        verdict = "below the claim"
    return Comparison(rate, cost, charged, saved, verdict)


def _in_force(references: Sequence[References], asset: Asset, day: date) -> References | None:
    fitting = [version for version in references if version.asset == asset and version.effective_from <= day]
    return dated.in_force(fitting, day) if fitting else None


def _last_day(activity: Activity) -> date:
    return activity.month.end.date() - timedelta(days=1)
