"""How a clinic does against its own time before: three measures over months, as aggregates that point at nobody."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from btt_bridge.errors import RefusedError
from btt_bridge.isolate import Isolation
from btt_bridge.settle.rewards.conditions import judge
from btt_bridge.settle.rewards.program import Program
from btt_bridge.settle.rewards.resources import Limits, day_of, read

VISIT, PREVENTIVE, ENDED, COMPLETED = "visit", "preventive-visit", "plan-ended", "plan-completed"
_COLUMNS = (
    "measure", "baseline_count", "baseline_of", "baseline_per_thousand",
    "period_count", "period_of", "period_per_thousand", "change_percent",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """One act of one patient, by an opaque key."""

    patient: str
    act: str
    day: date


@dataclass(frozen=True, slots=True)
class Months:
    """Whole calendar months, for reports over windows that slide by a day would give single patients away."""

    first: date
    count: int

    def __post_init__(self) -> None:
        if self.first.day != 1 or not 1 <= self.count <= 60:
            raise RefusedError("a period is 1 to 60 whole months, and begins with the first day of one")

    @property
    def end(self) -> date:
        """The first day that is not in it any more."""
        return _month_after(self.first, self.count)

    @property
    def before(self) -> Months:
        """As many months right before these."""
        return Months(_month_after(self.first, -self.count), self.count)

    def __contains__(self, day: date) -> bool:
        return self.first <= day < self.end


@dataclass(frozen=True, slots=True)
class Count:
    """So many of so many."""

    count: int
    of: int

    @property
    def per_thousand(self) -> int:
        return round(Fraction(1000 * self.count, self.of)) if self.of else 0


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure in both periods; None where showing it would show too few patients."""

    name: str
    baseline: Count | None
    period: Count | None

    @property
    def change_percent(self) -> int | None:
        """By how much the rate changed against the baseline; None where that cannot be said."""
        if not (self.baseline and self.period and self.baseline.count and self.period.of):
            return None
        before, now = (Fraction(count.count, count.of) for count in (self.baseline, self.period))
        return round(100 * (now / before - 1))

    def row(self) -> dict[str, Any]:
        """Return it by the report's columns."""
        cells: list[Any] = [self.name]
        for count in (self.baseline, self.period):
            cells += [count.count, count.of, count.per_thousand] if count else [None, None, None]
        return dict(zip(_COLUMNS, [*cells, self.change_percent], strict=True))


@dataclass(frozen=True, slots=True)
class Report:
    """One clinic's outcomes."""

    clinic: str
    baseline: Months
    period: Months
    patients_min: int
    measures: tuple[Measure, ...]

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        spans = {"baseline": self.baseline, "period": self.period}
        return {
            "clinic": self.clinic,
            **{name: {"first": span.first.isoformat(), "months": span.count} for name, span in spans.items()},
            "patients_min": self.patients_min,
            "measures": [measure.row() for measure in self.measures],
        }

    def csv(self) -> str:
        """Return its measures as CSV, with empty cells for what is not shown."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(measure.row() for measure in self.measures)
        return text.getvalue()


def observe(
    program: Program, body: Mapping[str, Any], patient: str, isolation: Isolation, limits: Limits
) -> list[Seen]:
    """Return what a resource says was done, under the opaque key of its patient."""
    resource = read(body, limits)
    acts = {name: act for name, act in program.acts.items() if act.resource == resource.kind}
    if not acts or resource.retracted:
        return []
    verdicts = isolation.run(judge, resource.content, tuple(act.question for act in acts.values()))
    days = {name: day_of(verdict.day) for name, verdict in zip(acts, verdicts, strict=True) if verdict.holds}
    return [Seen(patient, name, day) for name, day in days.items() if day]


def report(clinic: str, baseline: Months, period: Months, seen: Iterable[Seen], patients_min: int) -> Report:
    """Compare a period with an earlier one of the same length; acts from as long before the baseline are needed too.

    - preventive-visits: preventive visits for each patient who was seen;
    - plan-completion: completed plans of those that ended;
    - retention: of the patients seen in the same time before, those who were seen again.
    """
    if baseline.count != period.count or baseline.end > period.first:
        raise RefusedError("a baseline is as long as the period, and over before it begins")
    acts = frozenset(seen)
    pairs = [(_measures(acts, baseline, patients_min)), (_measures(acts, period, patients_min))]
    measures = tuple(Measure(name, pairs[0][name], pairs[1][name]) for name in pairs[0])
    return Report(clinic, baseline, period, patients_min, measures)


def _measures(acts: Collection[Seen], months: Months, patients_min: int) -> dict[str, Count | None]:
    now = [one for one in acts if one.day in months]
    patients = {one.patient for one in now}
    earlier = {one.patient for one in acts if one.day in months.before}
    preventive, ended, completed = (
        [one.patient for one in now if one.act == act] for act in (PREVENTIVE, ENDED, COMPLETED)
    )
    return {
        "preventive-visits": _count(preventive, list(patients), patients_min),
        "plan-completion": _count(completed, ended, patients_min),
        "retention": _count(list(earlier & patients), list(earlier), patients_min),
    }


def _count(part: Sequence[str], whole: Sequence[str], patients_min: int) -> Count | None:
    """Count, unless too few patients are behind the part, behind the rest, or behind the whole."""
    having, all_of = set(part), set(whole)
    groups = (len(having), len(all_of - having), len(all_of))
    return None if any(0 < size < patients_min for size in groups) else Count(len(part), len(whole))


def _month_after(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
