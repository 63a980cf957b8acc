"""Who gets how much of the fixed supply, and when: dated tables, and schedules that release exactly what there is."""

from __future__ import annotations

import hashlib
from calendar import monthrange
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from btt_bridge.errors import MappingError, UnknownError
from btt_bridge.mappings import Place, Source
from btt_bridge.money import BTT, split
from btt_bridge.settle import dated
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.settle.token.accounts import UNALLOCATED
from btt_bridge.signing import canonical

_SCHEMA: Final = "token/allocation.schema.json"


@dataclass(frozen=True, slots=True)
class Linear:
    """Nothing for `delay_months`, then equal parts in each of `months`."""

    months: int
    delay_months: int

    @property
    def last(self) -> int:
        return self.delay_months + self.months

    def vested(self, units: int, month: int) -> int:
        """Return how much of `units` is released when so many months are over."""
        return units * min(max(month - self.delay_months, 0), self.months) // self.months


@dataclass(frozen=True, slots=True)
class Ongoing:
    """So much a month until nothing is left."""

    monthly_basis_points: int

    @property
    def last(self) -> int:
        return -(-WHOLE_BASIS_POINTS // self.monthly_basis_points)

    def vested(self, units: int, month: int) -> int:
        """Return how much of `units` is released when so many months are over."""
        return min(units, units * self.monthly_basis_points * max(month, 0) // WHOLE_BASIS_POINTS)


@dataclass(frozen=True, slots=True)
class Mining:
    """So much each year, in equal months; who gets it is measured."""

    yearly_basis_points: tuple[int, ...]
    node_basis_points_max: int

    @property
    def last(self) -> int:
        return 12 * len(self.yearly_basis_points)

    def vested(self, units: int, month: int) -> int:
        """Return how much of `units` is emitted when so many months are over."""
        years, months = divmod(min(max(month, 0), self.last), 12)
        weight = 12 * sum(self.yearly_basis_points[:years])
        if months:
            weight += months * self.yearly_basis_points[years]
        return units * weight // (12 * WHOLE_BASIS_POINTS)

    def shares(self, emission: int, work: Mapping[str, int]) -> dict[str, int]:
        """Divide a month's emission in proportion to work, by largest remainder; ties go by name.

        Nobody gets more than the cap, and what it cuts off is nobody's.
        """
        nodes = sorted(node for node, done in work.items() if done)
        cap = emission * self.node_basis_points_max // WHOLE_BASIS_POINTS
        parts = split(emission if nodes else 0, [work[node] for node in nodes])
        return {node: min(part, cap) for node, part in zip(nodes, parts, strict=True)}


@dataclass(frozen=True, slots=True)
class Milestones:
    """Shares that are released when a vote has found each milestone reached, none before its month."""

    names: tuple[str, ...]
    basis_points: tuple[int, ...]
    #: Months after which each may be released.
    after: tuple[int, ...]

    def parts(self, units: int) -> dict[str, int]:
        """Return each milestone's share; together they are `units`."""
        return dict(zip(self.names, split(units, self.basis_points), strict=True))


@dataclass(frozen=True, slots=True)
class Governed:
    """Released by passed votes alone."""


Release = Linear | Ongoing | Mining | Milestones | Governed


@dataclass(frozen=True, slots=True)
class Allocation:
    """One part of the supply."""

    name: str
    units: int
    release: Release


@dataclass(frozen=True, slots=True)
class Table:
    """One table of the whole supply; schedules count from the day it comes into force."""

    name: str
    effective_from: date
    supply: int
    allocations: tuple[Allocation, ...]
    #: SHA-256 of everything it says, comments aside.
    digest: str

    @property
    def unallocated(self) -> int:
        """What the allocations leave; nobody's until a vote assigns it."""
        return self.supply - sum(allocation.units for allocation in self.allocations)

    def named(self, name: str) -> Allocation:
        """Return one allocation; raise UnknownError where there is none."""
        for allocation in self.allocations:
            if allocation.name == name:
                return allocation
        raise UnknownError("there is no such allocation")

    def months(self, day: date) -> int:
        """Return how many months are over; one that ends on a day its month does not have ends on the last it has."""
        start = self.effective_from
        months = (day.year - start.year) * 12 + day.month - start.month
        over = day.day >= min(start.day, monthrange(day.year, day.month)[1])
        return months if over else months - 1

    def span(self, month: int) -> tuple[datetime, datetime]:
        """Return when a month begins and ends, in UTC; 1 is the first."""
        return self._after(month - 1), self._after(month)

    def _after(self, months: int) -> datetime:
        year, month = divmod(self.effective_from.year * 12 + self.effective_from.month - 1 + months, 12)
        day = min(self.effective_from.day, monthrange(year, month + 1)[1])
        return datetime(year, month + 1, day, tzinfo=UTC)


def load(folder: Path) -> tuple[Table, ...]:
    """Return the tables of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _table)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the tables of a folder."""
    return dated.check(folder, _SCHEMA, _table)


def _table(source: Source) -> Table:
    body = source.body
    total = sum(one["basis_points"] for one in body["allocations"])
    if total > WHOLE_BASIS_POINTS:
        raise source.error(f"the parts sum to {total} basis points, above {WHOLE_BASIS_POINTS}", ("allocations",))
    names = [one["name"] for one in body["allocations"]]
    if len({*names, UNALLOCATED}) != len(names) + 1:
        raise source.error(f"a name stands twice, or is {UNALLOCATED}", ("allocations",))
    supply = body["supply"] * 10**BTT.scale
    allocations = tuple(
        Allocation(
            one["name"],
            supply * one["basis_points"] // WHOLE_BASIS_POINTS,
            _release(source, one["release"], ("allocations", position, "release")),
        )
        for position, one in enumerate(body["allocations"])
    )
    digest = hashlib.sha256(canonical([body["supply"], body["allocations"]])).hexdigest()
    return Table(body["name"], dated.day(source), supply, allocations, digest)


def _release(source: Source, body: Mapping[str, Any], place: Place) -> Release:
    fields, build = _KINDS[body["kind"]]
    for name in fields - body.keys():
        raise source.error(f"is missing from a {body['kind']} release", place, keyword=name)
    for name in body.keys() - fields - {"kind"}:
        raise source.error(f"has no place in a {body['kind']} release", (*place, name))
    return build(source, body, place)


def _mining(source: Source, body: Mapping[str, Any], place: Place) -> Mining:
    years = tuple(body["yearly_basis_points"])
    if sum(years) != WHOLE_BASIS_POINTS:
        raise source.error(f"the years sum to {sum(years)} basis points, not {WHOLE_BASIS_POINTS}", place)
    return Mining(years, body["node_basis_points_max"])


def _milestones(source: Source, body: Mapping[str, Any], place: Place) -> Milestones:
    listed = body["milestones"]
    total = sum(one["basis_points"] for one in listed)
    if total != WHOLE_BASIS_POINTS:
        raise source.error(f"the milestones sum to {total} basis points, not {WHOLE_BASIS_POINTS}", place)
    if len({one["name"] for one in listed}) != len(listed):
        raise source.error("a milestone stands twice", (*place, "milestones"))
    for position, one in enumerate(listed):
        if one["month"] > body["months"]:
            raise source.error("comes after the last month", (*place, "milestones", position, "month"))
    names, points, after = zip(*((one["name"], one["basis_points"], one["month"]) for one in listed), strict=True)
    return Milestones(names, points, after)


_Build = Callable[[Source, Mapping[str, Any], Place], Release]

#: What each kind of release says, and how it is read.
_KINDS: Final[Mapping[str, tuple[set[str], _Build]]] = {
    "linear": ({"months", "delay_months"}, lambda _, body, __: Linear(body["months"], body["delay_months"])),
    "milestones": ({"months", "milestones"}, _milestones),
    "mining": ({"yearly_basis_points", "node_basis_points_max"}, _mining),
    "ongoing": ({"monthly_basis_points"}, lambda _, body, __: Ongoing(body["monthly_basis_points"])),
    "governed": (set(), lambda _, __, ___: Governed()),
}
