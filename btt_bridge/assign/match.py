"""Asking every route of every series; one service, none, or a tie is an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from btt_bridge.assign.conditions import Verdict
from btt_bridge.assign.load import Routes, Rule
from btt_bridge.dicom import is_own
from btt_bridge.records import Route, Series, Study

#: Counted by the bridge, not read from an object: Number of Series Related Instances (0020,1209).
INSTANCES = "NumberOfSeriesRelatedInstances"


@dataclass(frozen=True)
class Unrouted:
    """No route wants the study."""

    reason: str
    #: By route, the keywords of the first test that did not hold, in the series that came furthest.
    stopped_at: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Tie:
    """Routes of the same priority want the study; a person must say which."""

    reason: str
    routes: tuple[str, ...]


def match(study: Study, routes: Routes) -> Route | Unrouted | Tie:
    """Return what the mappings decide for a study, with reasons that name keywords and never their values.

    Every route looks at every series that the bridge did not write itself. The highest priority wins. Of several
    series that the winner wants it gets the one with most instances, then the thinnest slices, then the lower UID.
    """
    candidates = [series for series in study.series if not is_own(series.keywords)]
    if not candidates:
        return Unrouted("the study holds nothing but results of our own")
    wanted: list[tuple[Rule, Series]] = []
    stopped_at: dict[str, str] = {}
    for rule in routes.rules:
        judged = [(_judged(rule, series), series) for series in candidates]
        fitting = [series for verdict, series in judged if verdict.holds]
        if fitting:
            wanted.append((rule, min(fitting, key=_preference)))
        else:
            stopped_at[rule.name] = max((verdict for verdict, _ in judged), key=lambda verdict: verdict.held).failed
    if not wanted:
        stops = "; ".join(f"{name} stops at {keywords}" for name, keywords in stopped_at.items())
        return Unrouted(f"no route wants it: {stops}", stopped_at)
    first = max(rule.priority for rule, _ in wanted)
    winners = [(rule, series) for rule, series in wanted if rule.priority == first]
    if len(winners) > 1:
        names = tuple(rule.name for rule, _ in winners)
        return Tie(f"routes of equal priority want it: {', '.join(names)}", names)
    return _route(*winners[0])


def _judged(rule: Rule, series: Series) -> Verdict:
    return rule.when.judge({**series.keywords, INSTANCES: len(series.instances)})


def _preference(series: Series) -> tuple[int, float, str]:
    thickness = series.keywords.get("SliceThickness")
    thin = float(thickness) if isinstance(thickness, (int, float)) else float("inf")
    return -len(series.instances), thin, series.series_instance_uid


def _route(rule: Rule, series: Series) -> Route:
    return Route(
        name=rule.name,
        mapping_version=rule.version,
        service=rule.service,
        series_instance_uid=series.series_instance_uid,
        urgency=rule.urgency,
        tier=rule.tier,
        destinations=rule.destinations,
        price_max=rule.price_max,
        deadline_seconds=rule.deadline_seconds,
        hardware=rule.hardware,
    )
