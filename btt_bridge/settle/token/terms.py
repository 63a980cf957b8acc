"""What staking, votes and referrals are governed by: dated terms, and what a stake is worth under them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

from btt_bridge.errors import MappingError, UnknownError
from btt_bridge.mappings import Source
from btt_bridge.money import BTT
from btt_bridge.settle import dated

_SCHEMA: Final = "token/terms.schema.json"
_UNLOCKED_PERCENT: Final = 100


@dataclass(frozen=True, slots=True)
class Lock:
    """For how long a stake cannot be taken back, and how much more it weighs for it."""

    name: str
    days: int
    multiplier_percent: int


@dataclass(frozen=True, slots=True)
class Tier:
    """What holders of so much weight have."""

    weight: int
    priority: int
    discount_percent: int


@dataclass(frozen=True, slots=True)
class Staking:
    """The terms of stakes; tiers from the lightest to the heaviest."""

    locks: tuple[Lock, ...]
    age_days_min: int
    open_max: int
    tiers: tuple[Tier, ...]

    def lock(self, name: str) -> Lock:
        """Return a lock by name; raise UnknownError where there is none."""
        for lock in self.locks:
            if lock.name == name:
                return lock
        raise UnknownError(f"there is no such lock; known are {', '.join(lock.name for lock in self.locks)}")


@dataclass(frozen=True, slots=True)
class Governance:
    """The terms of votes; a proposal keeps those it was made on."""

    age_days_min: int
    age_days_max: int
    voting_days: int
    delay_days: int
    execution_days: int
    quorum_basis_points: int
    approval_basis_points: int
    deposit_units: int
    spend_basis_points_max: int


@dataclass(frozen=True, slots=True)
class Milestone:
    """How far a referred institution has come, and what that is worth to who referred it."""

    name: str
    studies: int
    days: int
    reward_units: int


@dataclass(frozen=True, slots=True)
class Referrals:
    """The terms of referrals, with what one referrer can get at most."""

    milestones: tuple[Milestone, ...]
    institutions_max: int
    reward_units_max: int


@dataclass(frozen=True, slots=True)
class Terms:
    """One dated version of all of them."""

    name: str
    effective_from: date
    staking: Staking
    governance: Governance
    referrals: Referrals


@dataclass(frozen=True, slots=True)
class Stake:
    """What a holder has put aside, on which terms, and since when."""

    holder: str
    number: int
    reference: str
    units: int
    lock: Lock
    at: datetime
    ended_at: datetime | None = None

    @property
    def locked_until(self) -> datetime:
        return self.at + timedelta(days=self.lock.days)

    def days(self, now: datetime) -> int:
        """Return how many whole days it has stood, or had when it ended before `now`: then none."""
        if now < self.at or (self.ended_at is not None and self.ended_at < now):
            return 0
        return (now - self.at).days

    def weight(self, now: datetime) -> int:
        """Return its units by the multiplier of its lock, which counts for as long as the lock lasts."""
        percent = self.lock.multiplier_percent if now < self.locked_until else _UNLOCKED_PERCENT
        return self.units * percent // 100


# --- what a stake is worth ------------------------------------------------------------------------------


def weight(staking: Staking, stakes: Sequence[Stake], now: datetime) -> int:
    """Return how much a holder's stakes weigh for benefits; one that is too young, or over, weighs nothing."""
    return sum(stake.weight(now) for stake in stakes if stake.days(now) >= staking.age_days_min)


def priority(staking: Staking, stakes: Sequence[Stake], now: datetime) -> int:
    """Return the priority that a holder's stakes give its node or bridge at the exchange; 0 is everybody's."""
    tier = _tier(staking, stakes, now)
    return tier.priority if tier else 0


def discount_percent(staking: Staking, stakes: Sequence[Stake], now: datetime) -> int:
    """Return by how much a holder's stakes lower its fees."""
    tier = _tier(staking, stakes, now)
    return tier.discount_percent if tier else 0


def votes(governance: Governance, stakes: Sequence[Stake], at: datetime) -> int:
    """Return what a holder's stakes weigh in a vote that looks at them `at`: units x days x multiplier.

    A stake of an hour has stood no whole day, so that it weighs nothing however large it is.
    """
    return sum(
        stake.weight(at) * min(days, governance.age_days_max)
        for stake in stakes
        if (days := stake.days(at)) >= governance.age_days_min
    )


def _tier(staking: Staking, stakes: Sequence[Stake], now: datetime) -> Tier | None:
    standing = weight(staking, stakes, now)
    reached = [tier for tier in staking.tiers if tier.weight <= standing]
    return reached[-1] if reached else None


# --- how they are read ----------------------------------------------------------------------------------


def load(folder: Path) -> tuple[Terms, ...]:
    """Return the terms of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, _terms)


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the terms of a folder."""
    return dated.check(folder, _SCHEMA, _terms)


def _terms(source: Source) -> Terms:
    body = source.body
    staking, referrals = _staking(source), _referrals(source)
    rules = dict(body["governance"])
    deposit = rules.pop("deposit") * 10**BTT.scale
    governance = Governance(age_days_min=staking.age_days_min, deposit_units=deposit, **rules)
    if governance.age_days_max < governance.age_days_min:
        raise source.error("is below the least age", ("governance", "age_days_max"))
    return Terms(body["name"], dated.day(source), staking, governance, referrals)


def _staking(source: Source) -> Staking:
    body = source.body["staking"]
    locks = tuple(Lock(**one) for one in body["locks"])
    if len({lock.name for lock in locks}) != len(locks):
        raise source.error("a lock stands twice", ("staking", "locks"))
    tiers = tuple(
        Tier(one["weight"] * 10**BTT.scale, one["priority"], one["discount_percent"]) for one in body["tiers"]
    )
    for position, (light, heavy) in enumerate(pairwise(tiers), start=1):
        better = heavy.priority >= light.priority and heavy.discount_percent >= light.discount_percent
        if heavy.weight <= light.weight or not better:
            raise source.error("a later tier weighs more and gives no less", ("staking", "tiers", position))
    return Staking(locks, body["age_days_min"], body["open_max"], tiers)


def _referrals(source: Source) -> Referrals:
    body = source.body["referrals"]
    milestones = tuple(
        Milestone(one["name"], one["studies"], one["days"], one["reward"] * 10**BTT.scale) for one in body["milestones"]
    )
    if len({milestone.name for milestone in milestones}) != len(milestones):
        raise source.error("a milestone stands twice", ("referrals", "milestones"))
    return Referrals(milestones, body["institutions_max"], body["reward_max"] * 10**BTT.scale)
