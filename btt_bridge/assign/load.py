"""From mapping files to routes that can be asked; whatever is wrong with a file is said with file, line and keyword."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import re2

from btt_bridge import mappings
from btt_bridge.assign.conditions import All, AnyOf, Condition, Not, Test
from btt_bridge.assign.vocabulary import NUMBERS, TEXT, Proofreader
from btt_bridge.errors import InvalidAmountError, MappingError
from btt_bridge.mappings import Place
from btt_bridge.money import Amount, amount_of
from btt_bridge.records import Hardware, Tier, Urgency


@dataclass(frozen=True)
class Rule:
    """One route as the hospital wrote it."""

    name: str
    priority: int
    when: Condition
    service: str
    urgency: Urgency
    tier: Tier
    destinations: tuple[str, ...]
    price_max: Amount
    deadline_seconds: int
    hardware: Hardware
    #: SHA-256, hex, of the file that holds it.
    version: str


@dataclass(frozen=True)
class Routes:
    """Every route of a hospital."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Names:
    """What the names in a route may refer to; None where that is not known here."""

    services: Collection[str] | None = None
    destinations: Collection[str] | None = None
    #: Hardware classes that have a price.
    hardware: Collection[str] | None = None


def load(folder: Path) -> Routes:
    """Read `routes/*.yaml` of the mappings folder; raise the first MappingError where anything is wrong with them."""
    routes, errors = _compiled(folder, Names())
    if errors:
        raise errors[0]
    return routes


def check(folder: Path, names: Names | None = None) -> list[MappingError]:
    """Return everything that is wrong with `routes/*.yaml` of the mappings folder, by file and line."""
    return _compiled(folder, names or Names())[1]


def _compiled(folder: Path, names: Names) -> tuple[Routes, list[MappingError]]:
    paths = sorted((folder / "routes").glob("*.yaml"))
    if not paths:
        return Routes(()), [MappingError("there is no mapping file here", file=str(folder / "routes"), line=1)]
    rules: list[Rule] = []
    errors: list[MappingError] = []
    taken: dict[str, str] = {}
    for path in paths:
        try:
            compiler = _Compiler(path, names, taken)
        except MappingError as problem:
            errors.append(problem)
            continue
        rules += compiler.rules()
        errors += sorted(compiler.errors, key=lambda error: (error.file, error.line))
    return Routes(tuple(rules)), errors


@cache
def schema() -> Mapping[str, Any]:
    """Return the JSON Schema of a mapping file of routes, which editors find beside the files."""
    body: Mapping[str, Any] = json.loads((files(__package__) / "schema.json").read_text(encoding="utf-8"))
    return body


class _Compiler:
    """Turns one file into rules, and gathers everything that is wrong with it.

    The schema judges the shape. What is here judges the meaning, and passes over what has no shape to judge.
    """

    def __init__(self, path: Path, names: Names, taken: dict[str, str]) -> None:
        self.path, self.names = path, names
        #: Names of the routes seen so far, with the file of each.
        self.taken = taken
        self.source = mappings.read(path)
        self.errors = mappings.violations(self.source, schema())
        self.proof = Proofreader(self.source, self.errors)

    def rules(self) -> list[Rule]:
        body, shapely, found = self.source.body, not self.errors, []
        routes = body.get("routes") if isinstance(body, dict) else None
        for number, route in enumerate(routes if isinstance(routes, list) else ()):
            if not isinstance(route, dict):
                continue
            place, before = ("routes", number), len(self.errors)
            when = self._condition(route.get("when"), (*place, "when"))
            price = self._price(route.get("price_max"), (*place, "price_max"))
            self._names(route, place)
            if shapely and price is not None and len(self.errors) == before:
                self._samples(route["samples"], when, (*place, "samples"))
                found.append(self._rule(route, when, price))
        return found

    def _rule(self, route: Mapping[str, Any], when: Condition, price: Amount) -> Rule:
        return Rule(
            name=route["name"],
            priority=route["priority"],
            when=when,
            service=route["service"],
            urgency=Urgency(route["urgency"]),
            tier=Tier(route["tier"]),
            destinations=tuple(route["destinations"]),
            price_max=price,
            deadline_seconds=route["deadline_seconds"],
            hardware=Hardware(route.get("hardware", Hardware.CPU)),
            version=self.source.digest,
        )

    def _names(self, route: Mapping[str, Any], place: Place) -> None:
        name = route.get("name")
        if isinstance(name, str):
            if name in self.taken:
                self.proof.report(f"another route, in {self.taken[name]}, has this name", (*place, "name"))
            self.taken[name] = self.path.name
        for part, known in (("service", self.names.services), ("destinations", self.names.destinations)):
            wanted = route.get(part)
            for one in wanted if isinstance(wanted, list) else [wanted]:
                if known is not None and isinstance(one, str) and one not in known:
                    hint = mappings.did_you_mean(one, known) or f"known are: {', '.join(sorted(known)) or 'none'}"
                    self.proof.report(f"nothing here is called `{one}`", (*place, part), advice=hint)
        hardware, priced = route.get("hardware", Hardware.CPU.value), self.names.hardware
        if priced is not None and hardware in list(Hardware) and hardware not in priced:
            hint = f"priced are: {', '.join(sorted(priced)) or 'none'}"
            self.proof.report(f"no price list prices `{hardware}`", (*place, "hardware"), advice=hint)

    def _price(self, body: Any, place: Place) -> Amount | None:
        match body:
            case {"amount": int() | Decimal() as amount, "asset": str(asset)}:
                try:
                    return amount_of(Decimal(amount), asset)
                except InvalidAmountError as problem:
                    self.proof.report(str(problem), place)
        return None

    # --- conditions -------------------------------------------------------------------------------------

    def _condition(self, body: Any, place: Place) -> Condition:
        parts: list[Condition] = []
        for name, wanted in body.items() if isinstance(body, dict) else ():
            here = (*place, name)
            if name == "not":
                parts.append(Not(self._condition(wanted, here)))
            elif name in ("all", "any"):
                listed = wanted if isinstance(wanted, list) else []
                joined = tuple(self._condition(one, (*here, number)) for number, one in enumerate(listed))
                parts.append(All(joined) if name == "all" else AnyOf(joined))
            else:
                parts.append(self._test(name, wanted, here))
        return All(tuple(parts))

    def _test(self, keyword: str, wanted: Any, place: Place) -> Test:
        vr = self.proof.vr(keyword, place)
        if not isinstance(wanted, dict):
            return Test(keyword, any_of=self.proof.compared(keyword, vr, wanted, place))
        at_least, at_most = (self._limit(keyword, vr, wanted.get(part), place) for part in ("min", "max"))
        if at_least is not None and at_most is not None and at_least > at_most:
            self.proof.report("min is more than max: nothing can lie between them", place)
        if wanted.get("present") is False and len(wanted) > 1:
            self.proof.report("what is not present has no value to test", place)
        return Test(
            keyword,
            has=self.proof.compared(keyword, vr, wanted.get("has", []), (*place, "has")),
            at_least=at_least,
            at_most=at_most,
            pattern=self._pattern(keyword, vr, wanted.get("matches"), (*place, "matches")),
            present=wanted.get("present") is not False,
        )

    def _limit(self, keyword: str, vr: str, value: Any, place: Place) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
            return None
        if vr in TEXT:
            self.proof.report("this attribute is text: it has no min and no max", place, keyword=keyword)
        return float(value)

    def _pattern(self, keyword: str, vr: str, text: Any, place: Place) -> Any:
        """Compile with RE2, which takes time in proportion to the text whatever the expression."""
        if not isinstance(text, str):
            return None
        if vr in NUMBERS:
            self.proof.report("this attribute is a number: use min and max", place, keyword=keyword)
        options = re2.Options()
        options.case_sensitive, options.log_errors = False, False
        try:
            return re2.compile(text, options)
        except re2.error as problem:
            said = problem.args[0].decode("utf-8", "replace")
            self.proof.report(f"this is no regular expression: {said}", place, keyword=keyword)
            return None

    # --- samples ----------------------------------------------------------------------------------------

    def _samples(self, samples: Mapping[str, str], when: Condition, place: Place) -> None:
        """Hold the rule against its own two samples."""
        for part in ("fires", "does_not"):
            here = (*place, part)
            keywords = self._sample(samples[part], here)
            if keywords is None:
                continue
            verdict = when.judge(keywords)
            if part == "fires" and not verdict.holds:
                self.proof.report(f"the sample does not fire the route: it stops at {verdict.failed}", here)
            if part == "does_not" and verdict.holds:
                self.proof.report("the sample fires the route", here)

    def _sample(self, name: str, place: Place) -> Mapping[str, Any] | None:
        """Read a sample: one JSON object of keywords, each with its value or a list of its values."""
        path = self.path.parent / name
        if not path.is_file():
            self.proof.report(f"there is no sample {name}", place)
            return None
        try:
            source = mappings.read(path)
        except MappingError as problem:
            self.errors.append(problem)
            return None
        proof, keywords = Proofreader(source, list(source.problems)), {}
        if not isinstance(source.body, dict):
            proof.report("a sample is one JSON object of keywords and values", ())
        for keyword, value in source.body.items() if isinstance(source.body, dict) else ():
            listed = value if isinstance(value, list) else [value]
            keywords[keyword] = proof.values(keyword, proof.vr(keyword, (keyword,)), listed, (keyword,))
        self.errors += proof.errors
        return None if proof.errors else keywords
