"""Charts as shapes in a box, which a template draws as SVG: no script, no picture file, and a table beside each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

WIDTH, HEIGHT = 960, 260
#: Room for the labels: left of the vertical axis, above it, right of it and below the horizontal one.
_LEFT, _TOP, _RIGHT, _BOTTOM = 110, 14, 14, 30
_TICKS = 5

Label = Callable[[int], str]


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `part` numbers what it stands for, and so its color and its place in the key."""

    x: float
    y: float
    width: float
    height: float
    part: int
    told: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart; all numbers are user units of its view box."""

    title: str
    #: Points of a line, as SVG writes them; "" for none.
    line: str
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    #: What the parts are called, in order.
    key: tuple[str, ...] = ()
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    bottom: int = HEIGHT - _BOTTOM
    width: int = WIDTH
    height: int = HEIGHT


def history(title: str, points: Sequence[tuple[datetime, int]], label: Label) -> Chart | None:
    """Draw a number over time, oldest point first; it stands as it is until the next. None for fewer than two."""
    if len(points) < 2:
        return None
    seconds = [(at - points[0][0]).total_seconds() for at, _ in points]
    axis = _Axis.over([units for _, units in points])
    span = seconds[-1] or 1.0
    corners: list[tuple[float, float]] = []
    for second, (_, units) in zip(seconds, points, strict=True):
        x, y = _LEFT + second / span * _inner_width(), axis.y(units)
        corners += [(x, corners[-1][1]), (x, y)] if corners else [(x, y)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in corners)
    first, last = points[0][0].astimezone(), points[-1][0].astimezone()
    form = "%Y-%m-%d" if (last - first).days >= 2 else "%m-%d %H:%M:%S"
    x_ticks = (Tick(_LEFT, first.strftime(form)), Tick(WIDTH - _RIGHT, last.strftime(form)))
    return Chart(title, line, (), x_ticks, axis.ticks(label))


def ranges(title: str, days: Sequence[tuple[date, Sequence[int]]], label: Label) -> Chart | None:
    """Draw each day's lowest to highest number as a bar, and its mean as a line. None for no day."""
    if not days:
        return None
    axis = _Axis.over([units for _, found in days for units in found])
    step, bars, means = _inner_width() / len(days), [], []
    for number, (day, found) in enumerate(days):
        low, high, middle = min(found), max(found), _LEFT + (number + 0.5) * step
        top, bottom = axis.y(high), axis.y(low)
        told = f"{day}: {len(found)} charges, {label(low)} to {label(high)}"
        bars.append(_bar(middle, step, top, max(bottom - top, 3.0), 0, told))
        means.append(f"{middle:.1f},{axis.y(sum(found) / len(found)):.1f}")
    line = " ".join(means) if len(means) > 1 else ""
    return Chart(title, line, tuple(bars), _day_ticks([day for day, _ in days]), axis.ticks(label))


def stacks(title: str, days: Sequence[tuple[date, Sequence[int]]], key: Sequence[str], label: Label) -> Chart | None:
    """Draw each day's parts on top of each other, in the order of the key. None for no day."""
    if not days:
        return None
    axis = _Axis.over([sum(parts) for _, parts in days])
    step, bars = _inner_width() / len(days), []
    for number, (day, parts) in enumerate(days):
        below, middle = 0, _LEFT + (number + 0.5) * step
        for part, units in enumerate(parts):
            top, bottom = axis.y(below + units), axis.y(below)
            bars.append(_bar(middle, step, top, bottom - top, part, f"{day}: {label(units)} to {key[part]}"))
            below += units
    return Chart(title, "", tuple(bars), _day_ticks([day for day, _ in days]), axis.ticks(label), tuple(key))


# --- within ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Axis:
    """A vertical axis from `low` to `high`, marked every `step`; zero is always on it."""

    low: int
    high: int
    step: int

    @classmethod
    def over(cls, values: Sequence[int]) -> _Axis:
        low, high = min(0, *values), max(0, *values)
        step = _round_step(max(high - low, 1))
        return cls(low // step * step, max(-(-high // step) * step, low // step * step + step), step)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def ticks(self, label: Label) -> tuple[Tick, ...]:
        return tuple(Tick(self.y(units), label(units)) for units in range(self.low, self.high + 1, self.step))


def _round_step(span: int) -> int:
    """Return 1, 2 or 5 times a power of ten, so that about `_TICKS` steps make the span."""
    rough = max(span // _TICKS, 1)
    power = int("1" + "0" * (len(str(rough)) - 1))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def _inner_width() -> int:
    return WIDTH - _LEFT - _RIGHT


def _bar(middle: float, step: float, top: float, height: float, part: int, told: str) -> Bar:
    width = min(step * 0.7, 42.0)
    return Bar(round(middle - width / 2, 1), round(top, 1), round(width, 1), round(height, 1), part, told)


def _day_ticks(days: Sequence[date]) -> tuple[Tick, ...]:
    """Mark so many days that their labels have room."""
    every, step = -(-len(days) // 8), _inner_width() / len(days)
    return tuple(
        Tick(_LEFT + (number + 0.5) * step, str(day)) for number, day in enumerate(days) if number % every == 0
    )
