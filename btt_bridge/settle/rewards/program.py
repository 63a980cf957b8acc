"""A dated program of rewards: its rules, partners, insurers and fees, read from a mapping and proved by samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from btt_bridge.errors import MalformedError, MappingError, TooLargeError
from btt_bridge.mappings import Place, Source
from btt_bridge.money import CURRENCIES, Amount, Asset
from btt_bridge.settle import dated
from btt_bridge.settle.rewards import conditions
from btt_bridge.settle.rewards.conditions import Question
from btt_bridge.settle.rewards.resources import Limits, day_of, read
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS, Share, Split

_SCHEMA = "rewards/schema.json"


@dataclass(frozen=True, slots=True)
class Act:
    """Something patients do, as a question about resources of one type."""

    resource: str
    question: Question


@dataclass(frozen=True, slots=True)
class Rule:
    """What earns points, how often at most, and how long until the next."""

    name: str
    act: Act
    points: int
    cooldown_days: int
    cap_times: int
    cap_days: int


@dataclass(frozen=True, slots=True)
class Partner:
    """Where points are spent, and what that costs the partner."""

    name: str
    units_per_point: int
    arrangement_units: int
    redemption_basis_points: int
    points_min: int
    points_per_day_max: int


@dataclass(frozen=True, slots=True)
class Tier:
    """A discount on a premium, from so many points on."""

    points: int
    discount_basis_points: int


@dataclass(frozen=True, slots=True)
class Insurer:
    """Who rewards engagement by a discount, and lets part of what it saves flow back."""

    name: str
    saving_basis_points: int
    #: From the lowest to the highest; the first needs no points.
    tiers: tuple[Tier, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """What a clinic of a size pays a month."""

    name: str
    #: None for the largest.
    clinicians_max: int | None
    units: int


@dataclass(frozen=True, slots=True)
class Program:
    """One dated version of everything about rewards."""

    name: str
    effective_from: date
    consent: Question
    budget: int
    expire_days: int
    late_days_max: int
    patient_points: int
    patient_days: int
    rules: tuple[Rule, ...]
    asset: Asset
    credit_units: int
    split: Split
    sizes: tuple[Size, ...]
    partners: Mapping[str, Partner]
    insurers: Mapping[str, Insurer]
    patients_min: int
    counts_to: int
    acts: Mapping[str, Act]

    def shares(self, fee: Amount) -> list[tuple[Share, Amount]]:
        """Return who gets what of a fee; the parts sum to it exactly."""
        return self.split.divide(fee)


def load(folder: Path) -> tuple[Program, ...]:
    """Return the programs of a folder, oldest first; raise MappingError with file and line."""
    return dated.load(folder, _SCHEMA, lambda source: _Compiler(source).first())


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the programs of a folder."""
    further: list[MappingError] = []

    def build(source: Source) -> Program:
        compiler = _Compiler(source)
        compiler.compile()
        further.extend(compiler.errors[1:])
        return compiler.first()

    found = dated.check(folder, _SCHEMA, build)
    return sorted([*found, *further], key=lambda error: (error.file, error.line))


class _Compiler:
    """Turns one file that has the right shape into a program, and gathers what its shape cannot say."""

    def __init__(self, source: Source) -> None:
        self.source, self.body = source, source.body
        self.errors: list[MappingError] = []
        self._program: Program | None = None

    def first(self) -> Program:
        """Return the program; raise the first error where there is one."""
        if self._program is None:
            self.compile()
        if self.errors:
            raise self.errors[0]
        assert self._program is not None
        return self._program

    def compile(self) -> None:
        body = self.body
        points, fees, outcomes = body["points"], body["fees"], body["outcomes"]
        effective_from = dated.day(self.source)
        asset = self._asset()
        acts = {name: self._act(act, ("outcomes", "acts", name)) for name, act in outcomes["acts"].items()}
        consent = self._act({**body["consent"], "resource": "Consent", "day": ""}, ("consent",))
        self._program = Program(
            name=body["name"],
            effective_from=effective_from,
            consent=consent.question,
            budget=points["budget"],
            expire_days=points["expire_days"],
            late_days_max=points["late_days_max"],
            patient_points=points["patient_cap"]["points"],
            patient_days=points["patient_cap"]["days"],
            rules=tuple(self._rule(rule, ("rules", number)) for number, rule in enumerate(body["rules"])),
            asset=asset,
            credit_units=fees["credit_units"],
            split=self._split(body["name"], effective_from),
            sizes=self._sizes(),
            partners={one["name"]: Partner(**one) for one in body["partners"]},
            insurers={one["name"]: self._insurer(one, number) for number, one in enumerate(body["insurers"])},
            patients_min=outcomes["patients_min"],
            counts_to=outcomes["counts_to"],
            acts=acts,
        )
        for part in ("rules", "partners", "insurers"):
            self._stand_once(part)

    def _refuse(self, message: str, place: Place, advice: str = "") -> None:
        self.errors.append(self.source.error(message, place, advice=advice))

    def _stand_once(self, part: str) -> None:
        names = [one["name"] for one in self.body[part]]
        for number, name in enumerate(names):
            if name in names[:number]:
                self._refuse("another one before it has this name", (part, number, "name"))

    # --- what earns points ------------------------------------------------------------------------------

    def _rule(self, body: Mapping[str, Any], place: Place) -> Rule:
        cap = body["cap"]
        if body["points"] > self.body["points"]["patient_cap"]["points"]:
            self._refuse("one act earns more than the patient_cap allows: it would never count", (*place, "points"))
        limits = (body["cooldown_days"], cap["times"], cap["days"])
        return Rule(body["name"], self._act(body, place), body["points"], *limits)

    def _act(self, body: Mapping[str, Any], place: Place) -> Act:
        act = Act(body["resource"], Question(body["when"], body["day"]))
        before = len(self.errors)
        for part in ("when", "day"):
            for flaw in conditions.flaws(body[part], act.resource) if body[part] else ():
                self._refuse(flaw, (*place, part))
        if len(self.errors) == before:
            self._prove(act, body["samples"], (*place, "samples"))
        return act

    def _prove(self, act: Act, samples: Mapping[str, str], place: Place) -> None:
        """Hold an act against its two samples."""
        for part, wanted in (("fires", True), ("does_not", False)):
            here = (*place, part)
            content = self._sample(samples[part], act.resource, here)
            if content is None:
                continue
            (verdict,) = conditions.judge(content, [act.question])
            if verdict.holds is None:
                self._refuse("on the sample this is neither true nor false", (*place[:-1], "when"))
            elif verdict.holds is not wanted:
                self._refuse("the sample does not fire it" if wanted else "the sample fires it", here)
            elif wanted and act.question.day and day_of(verdict.day) is None:
                self._refuse("the sample has no one day there", (*place[:-1], "day"))

    def _sample(self, name: str, resource: str, place: Place) -> bytes | None:
        path = Path(self.source.file).parent / name
        try:
            sample = read(json.loads(path.read_bytes()), Limits())
        except OSError:
            self._refuse(f"there is no sample {name}", place)
        except (ValueError, RecursionError):
            self._refuse(f"{name} is not JSON", place)
        except (MalformedError, TooLargeError) as problem:
            self._refuse(f"{name}: {problem}", place)
        else:
            if sample.kind == resource:
                return sample.content
            self._refuse(f"{name} is no {resource}", place)
        return None

    # --- what is paid -----------------------------------------------------------------------------------

    def _asset(self) -> Asset:
        asset = Asset(self.body["fees"]["asset"], self.body["fees"]["scale"])
        known = CURRENCIES.get(asset.code, asset)
        if asset != known:
            self._refuse(f"{asset.code} has {known.scale} decimal places", ("fees", "scale"))
        return asset

    def _split(self, name: str, effective_from: date) -> Split:
        shares = tuple(Share(**share) for share in self.body["fees"]["shares"])
        total = sum(share.basis_points for share in shares)
        if total != WHOLE_BASIS_POINTS:
            over = "above" if total > WHOLE_BASIS_POINTS else "below"
            self._refuse(f"the shares sum to {total} basis points, {over} {WHOLE_BASIS_POINTS}", ("fees", "shares"))
        if len({share.party for share in shares}) != len(shares):
            self._refuse("a party stands twice", ("fees", "shares"))
        return Split(name, effective_from, shares)

    def _sizes(self) -> tuple[Size, ...]:
        tiers = self.body["subscription"]["tiers"]
        sizes = tuple(Size(tier["name"], tier.get("clinicians_max"), tier["units"]) for tier in tiers)
        limits = [size.clinicians_max for size in sizes]
        bounded = [limit for limit in limits[:-1] if limit is not None]
        if limits[-1] is not None or len(bounded) != len(limits) - 1 or bounded != sorted(set(bounded)):
            self._refuse("clinicians_max rises from tier to tier, and the last has none", ("subscription", "tiers"))
        return sizes

    def _insurer(self, body: Mapping[str, Any], number: int) -> Insurer:
        tiers = tuple(Tier(**tier) for tier in body["tiers"])
        needed = [tier.points for tier in tiers]
        discounts = [tier.discount_basis_points for tier in tiers]
        if needed[0] != 0 or needed != sorted(set(needed)) or discounts != sorted(discounts):
            self._refuse("tiers begin at 0 points and rise in points and discount", ("insurers", number, "tiers"))
        return Insurer(body["name"], body["saving_basis_points"], tiers)
