"""What the report says, for the page and for the print alike: tables of plain text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from btt_bridge.money import Amount, written
from btt_bridge.settle.usage.report import Comparison, Line, Report, Section


@dataclass(frozen=True, slots=True)
class Table:
    """A heading, what is to be said of it, and rows; the first column is text, the others are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def title(report: Report) -> str:
    return f"Compute usage, {report.activity.hospital}, {report.activity.month}"


def introduction(report: Report) -> tuple[str, ...]:
    """Say what the report is made from."""
    month = report.activity.month
    last = month.end - timedelta(days=1)
    return (
        f"From {month.start:%Y-%m-%d} to {last:%Y-%m-%d} ({month.zone}), read from the ledger up to posting "
        f"{report.activity.head}. Every amount is the ledger's to the smallest unit.",
        "There is no patient in this report. The CSV form names each result by the opaque reference of its bill.",
    )


def tables(report: Report) -> list[Table]:
    """Return the report's tables, asset by asset."""
    return [table for section in report.sections for table in _section(section)]


def _section(section: Section) -> list[Table]:
    account = section.account
    code = account.asset.code

    def money(units: int) -> str:
        return written(units, account.asset)

    moves = [
        ("Opening balance", money(account.opening)),
        ("Charged", money(-account.charged)),
        ("Refunded", money(account.refunded)),
        ("Paid by the hospital", money(account.paid)),
        *([("Other movements", money(account.other))] if account.other else []),
        ("Closing balance", money(account.closing)),
    ]
    note = "Below zero is what the hospital owes."
    heads = ("Results", "Charged", "Refunded", "Operations", "Voxels", "Bytes")
    tables = [
        Table(f"Account, {code}", ("", "Amount"), tuple(moves), (note,)),
        Table(f"By service and urgency, {code}", ("Service", *heads), _lines(section.services)),
        Table(f"By day, {code}", ("Day", *heads), _lines(section.days)),
    ]
    return [*tables, _comparisons(section)]


def _lines(lines: Sequence[Line]) -> tuple[tuple[str, ...], ...]:
    return tuple(
        (
            line.label,
            f"{line.results:,}",
            _written(line.charged),
            _written(line.refunded),
            f"{line.reading.operations:,}",
            f"{line.reading.voxels:,}",
            f"{line.reading.size_bytes:,}",
        )
        for line in lines
    )


def _comparisons(section: Section) -> Table:
    name, found = f"Compared with other ways, {section.account.asset.code}", section.references
    if found is None:
        return Table(name, (), (), ("No reference rate is in force for this asset.",))
    claim = f"{_percent(found.claim_from_basis_points)} to {_percent(found.claim_to_basis_points)}"
    notes = [
        f"The claim is {claim} less than each; reference data {found.name}, in force from {found.effective_from}. "
        f"Compared are the {section.compared:,} charges that stood at the end of the month.",
        *(
            f"{one.reference.name}: {one.reference.source} ({one.reference.evidence}, {one.reference.taken_on})."
            for one in section.comparisons
        ),
    ]
    if section.unmeasured:
        notes.append(f"Of {section.unmeasured:,} of them nothing was measured; they count with the fixed part only.")
    columns = ("Reference", "It would cost", "Charged", "Saved", "Verdict")
    return Table(name, columns, tuple(_compared(one) for one in section.comparisons), tuple(notes))


def _compared(one: Comparison) -> tuple[str, ...]:
    saved = "" if one.saved_basis_points is None else _percent(one.saved_basis_points)
    name = f"{one.reference.name}: {one.reference.title}"
    return name, _written(one.cost), _written(one.charged), saved, one.verdict


def _written(amount: Amount) -> str:
    return written(amount.units, amount.asset)


def _percent(basis_points: int) -> str:
    whole, rest = divmod(abs(basis_points), 100)
    return f"{'-' if basis_points < 0 else ''}{whole}.{rest:02} %"
