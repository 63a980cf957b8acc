"""What a rule may ask of a series: tests on DICOM keywords, joined by all, any and not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from btt_bridge.records import Keywords


class Verdict(NamedTuple):
    """How a condition came out."""

    #: How many tests held before the one that did not: what came furthest explains most.
    held: int
    #: Keywords of the first test that did not hold, never a value; empty where all did.
    failed: str

    @property
    def holds(self) -> bool:
        return not self.failed


class Condition(Protocol):
    """One test, or several joined."""

    def judge(self, keywords: Keywords) -> Verdict:
        """Judge one series by its keywords."""

    def named(self) -> list[str]:
        """Return the keywords it looks at."""


class Pattern(Protocol):
    """A compiled regular expression of a linear-time engine."""

    def search(self, text: str) -> object | None:
        """Find it anywhere in the text."""


@dataclass(frozen=True)
class Test:
    """What the values of one attribute must be like; each part that is given must hold.

    An attribute with several values equals a value, or matches, when any of its values does; it lies within a range
    when all of them do. Text is compared without regard to case and to the number of blanks.
    """

    keyword: str
    #: At least one of these, where given.
    any_of: frozenset[Any] = frozenset()
    #: All of these.
    has: frozenset[Any] = frozenset()
    at_least: float | None = None
    at_most: float | None = None
    pattern: Pattern | None = None
    #: Whether it must have a value. An attribute without one holds only against False.
    present: bool = True

    def judge(self, keywords: Keywords) -> Verdict:
        return Verdict(1, "") if self._holds(several(keywords.get(self.keyword))) else Verdict(0, self.keyword)

    def named(self) -> list[str]:
        return [self.keyword]

    def _holds(self, values: Sequence[Any]) -> bool:
        if not self.present or not values:
            return not self.present and not values
        compared = {comparable(value) for value in values}
        return (
            (not self.any_of or not compared.isdisjoint(self.any_of))
            and compared >= self.has
            and all(self._in_range(value) for value in values)
            and (self.pattern is None or any(self.pattern.search(str(value)) for value in values))
        )

    def _in_range(self, value: Any) -> bool:
        if self.at_least is None and self.at_most is None:
            return True
        if not isinstance(value, (int, float)):
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True)
class All:
    """Every condition holds."""

    conditions: tuple[Condition, ...]

    def judge(self, keywords: Keywords) -> Verdict:
        held = 0
        for condition in self.conditions:
            verdict = condition.judge(keywords)
            held += verdict.held
            if not verdict.holds:
                return Verdict(held, verdict.failed)
        return Verdict(held, "")

    def named(self) -> list[str]:
        return [name for condition in self.conditions for name in condition.named()]


@dataclass(frozen=True)
class AnyOf:
    """At least one condition holds."""

    conditions: tuple[Condition, ...]

    def judge(self, keywords: Keywords) -> Verdict:
        if any(condition.judge(keywords).holds for condition in self.conditions):
            return Verdict(1, "")
        return Verdict(0, f"any of {', '.join(self.named())}")

    def named(self) -> list[str]:
        return [name for condition in self.conditions for name in condition.named()]


@dataclass(frozen=True)
class Not:
    """The condition does not hold."""

    condition: Condition

    def judge(self, keywords: Keywords) -> Verdict:
        if self.condition.judge(keywords).holds:
            return Verdict(0, f"not {', '.join(self.named())}")
        return Verdict(1, "")

    def named(self) -> list[str]:
        return self.condition.named()


def several(value: Any) -> Sequence[Any]:
    """Return the values of an attribute, however many it has; empty ones are none."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return [value for value in values if value not in (None, "")]


def comparable(value: Any) -> Any:
    """Return text without regard to case and blanks, and numbers as they are."""
    return " ".join(value.split()).casefold() if isinstance(value, str) else float(value)
