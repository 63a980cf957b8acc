"""How a clinic does against its own time before: three measures over months, as aggregates that point at nobody."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from btt_bridge.errors import IsolationError, MalformedError, RefusedError, TooLargeError
from btt_bridge.isolate import Isolation
from btt_bridge.settle.rewards.conditions import judge
from btt_bridge.settle.rewards.program import Program
from btt_bridge.settle.rewards.resources import Limits, Resource, day_of, read

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
class Veil:
    """What keeps counts from pointing at anybody: how many patients they need, and how coarse they are."""

    patients_min: int
    counts_to: int

    def count(self, part: Sequence[str], whole: Sequence[str]) -> Count | None:
        """Count the patients that acts are of, an act at a time, as far as that may be shown.

        Too few behind the part or behind the rest are named by who knows the others, and where there is nobody in one
        of them, what all have in common is said of each. What is shown is rounded: the difference of two reports over
        periods that differ by a month would else be that month's.
        """
        having, everybody = set(part), set(whole)
        if min(len(having), len(everybody - having)) < self.patients_min:
            return None
        return Count(self._coarse(len(part)), self._coarse(len(whole)))

    def _coarse(self, count: int) -> int:
        return self.counts_to * ((2 * count + self.counts_to) // (2 * self.counts_to))


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
    veil: Veil
    measures: tuple[Measure, ...]

    def body(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        spans = {"baseline": self.baseline, "period": self.period}
        return {
            "clinic": self.clinic,
            **{name: {"first": span.first.isoformat(), "months": span.count} for name, span in spans.items()},
            "patients_min": self.veil.patients_min,
            "counts_to": self.veil.counts_to,
            "measures": [measure.row() for measure in self.measures],
        }

    def csv(self) -> str:
        """Return its measures as CSV, with empty cells for what is not shown."""
        text = io.StringIO()
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(measure.row() for measure in self.measures)
        return text.getvalue()

    def text(self) -> str:
        """Return it as lines for a terminal."""
        lines = [title(self)]
        for measure in self.measures:
            before, now = (
                f"{count.count} of {count.of} ({count.per_thousand} ‰)" if count else "not shown"
                for count in (measure.baseline, measure.period)
            )
            change = "" if measure.change_percent is None else f"{measure.change_percent:+d} %"
            lines.append(f"{measure.name:<20} {before:>24} {now:>24} {change:>8}".rstrip())
        return "\n".join([*lines, notes(self)]) + "\n"

    def html(self) -> str:
        """Return it as one HTML page that needs no other file."""
        templates = Environment(
            loader=PackageLoader("btt_bridge.settle.rewards", "."), autoescape=True, undefined=StrictUndefined
        )
        return templates.get_template("outcomes.html").render(report=self, title=title(self), notes=notes(self))


def title(report: Report) -> str:
    """Say whose outcomes these are, and of when."""
    months = f"{report.period.count} months" if report.period.count > 1 else "1 month"
    return (
        f"Outcomes of {report.clinic}: {months} from {report.period.first:%Y-%m}, "
        f"against {months} from {report.baseline.first:%Y-%m}"
    )


def notes(report: Report) -> str:
    """Say how far the figures can be taken."""
    return (
        f"Counts are rounded to {report.veil.counts_to}; a measure is not shown where fewer than "
        f"{report.veil.patients_min} patients are behind it, or behind its rest. A difference is no proof of a cause."
    )


@dataclass(frozen=True, slots=True)
class Gathered:
    """What resources say was done; and how many were refused, malformed or too large as they are."""

    seen: frozenset[Seen]
    refused: int


def gather(
    program: Program,
    bodies: Iterable[Mapping[str, Any]],
    key_of: Callable[[str], str],
    isolation: Isolation,
    limits: Limits,
) -> Gathered:
    """Return what the newest version of each resource says was done, with opaque keys for the patients."""
    newest: dict[str, tuple[str, list[Seen]]] = {}
    kinds = {act.resource for act in program.acts.values()}
    refused = 0
    for body in bodies:
        if body.get("resourceType") not in kinds:
            continue
        try:
            resource = read(body, limits)
            known = newest.get(resource.reference)
            if known is None or known[0] < resource.rank:
                newest[resource.reference] = resource.rank, _observed(program, resource, key_of, isolation)
        except (MalformedError, TooLargeError, IsolationError):
            refused += 1
    return Gathered(frozenset(one for _, seen in newest.values() for one in seen), refused)


def _observed(program: Program, resource: Resource, key_of: Callable[[str], str], isolation: Isolation) -> list[Seen]:
    acts = {name: act for name, act in program.acts.items() if act.resource == resource.kind}
    if resource.retracted:
        return []
    verdicts = isolation.run(judge, resource.content, tuple(act.question for act in acts.values()))
    days = {name: day_of(verdict.day) for name, verdict in zip(acts, verdicts, strict=True) if verdict.holds}
    return [Seen(key_of(resource.patient), name, day) for name, day in days.items() if day]


def report(clinic: str, baseline: Months, period: Months, seen: Iterable[Seen], veil: Veil) -> Report:
    """Compare a period with an earlier one of the same length; acts from as long before the baseline are needed too.

    - preventive-visits: preventive visits for each patient who was seen;
    - plan-completion: completed plans of those that ended;
    - retention: of the patients seen in the same time before, those who were seen again.
    """
    if baseline.count != period.count or baseline.end > period.first:
        raise RefusedError("a baseline is as long as the period, and over before it begins")
    acts = frozenset(seen)
    before, now = (_measures(acts, months, veil) for months in (baseline, period))
    return Report(clinic, baseline, period, veil, tuple(Measure(name, before[name], now[name]) for name in now))


def _measures(acts: Collection[Seen], months: Months, veil: Veil) -> dict[str, Count | None]:
    now = [one for one in acts if one.day in months]
    patients = {one.patient for one in now}
    earlier = {one.patient for one in acts if one.day in months.before}
    preventive = [one.patient for one in now if one.act == PREVENTIVE]
    ended = {(one.patient, one.day) for one in now if one.act == ENDED}
    completed = ended & {(one.patient, one.day) for one in now if one.act == COMPLETED}
    return {
        "preventive-visits": veil.count(preventive, list(patients)),
        "plan-completion": veil.count([patient for patient, _ in completed], [patient for patient, _ in ended]),
        "retention": veil.count(list(earlier & patients), list(earlier)),
    }


def _month_after(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)
