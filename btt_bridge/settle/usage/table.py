"""The usage report as CSV: each line of the account, so that they sum to its change."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from btt_bridge.money import Asset
from btt_bridge.settle.bills import Account, Bill
from btt_bridge.settle.usage.report import Report

COLUMNS: Final = (
    *("kind", "at", "reference", "service", "urgency", "hardware", "price_list", "operations", "voxels", "bytes"),
    *("cause", "asset", "scale", "units"),
)


def as_csv(report: Report) -> bytes:
    """Return the report as CSV (RFC 4180); `units` is what a line changes the account by, in minor units."""
    text = io.StringIO(newline="")
    rows = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\r\n")
    rows.writeheader()
    for section in report.sections:
        rows.writerows(_rows(report, section.account))
    return text.getvalue().encode()


def _rows(report: Report, account: Account) -> Iterator[dict[str, object]]:
    activity, asset = report.activity, account.asset
    start, end = activity.month.start, activity.month.end
    yield _row("opening", start, asset, account.opening)
    lines = [
        (bill.posting, _row("charge", bill.at, asset, -bill.amount.units) | _of(bill))
        for bill in activity.charges
        if bill.amount.asset == asset
    ]
    lines += [
        (refund.posting, _row("refund", refund.at, asset, refund.bill.amount.units) | _of(refund.bill, refund.cause))
        for refund in activity.refunds
        if refund.bill.amount.asset == asset
    ]
    for _, line in sorted(lines, key=lambda one: one[0]):
        yield line
    for kind, units in (("paid", account.paid), ("other", account.other)):
        if units:
            yield _row(kind, end, asset, units)
    yield _row("closing", end, asset, account.closing)


def _row(kind: str, at: datetime, asset: Asset, units: int) -> dict[str, object]:
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"kind": kind, "at": moment, "asset": asset.code, "scale": asset.scale, "units": units}


def _of(bill: Bill, cause: str = "") -> dict[str, object]:
    facts: dict[str, object] = {
        "reference": bill.reference,
        "service": bill.service,
        "urgency": str(bill.urgency),
        "hardware": bill.hardware,
        "price_list": bill.price_list,
        "cause": cause,
    }
    # A refund takes back the money; what was used stays used.
    if bill.reading and not cause:
        facts |= {
            "operations": bill.reading.operations,
            "voxels": bill.reading.voxels,
            "bytes": bill.reading.size_bytes,
        }
    return facts
