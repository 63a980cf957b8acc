"""One service, none, or a tie; on the right series, never on our own results, and with reasons that hold no values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from btt_bridge import assemble, assign
from btt_bridge.dicom import MANUFACTURER
from btt_bridge.records import Arrival, Header, Instance, Route, Series, Study

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 5, 8, tzinfo=UTC)
CHEST = {
    "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
    "Modality": "CT",
    "ImageType": ("ORIGINAL", "PRIMARY", "AXIAL"),
    "SeriesDescription": "Thorax Lunge",
    "SliceThickness": 1.0,
}


def series(uid: str, count: int = 60, **changes: Any) -> Series:
    arrival = Arrival("1", "1", "1", "PACS", "BRIDGE", "127.0.0.1", "1.dcm", 1, NOW)
    keywords = {name: value for name, value in {**CHEST, **changes}.items() if value is not None}
    return Series(uid, keywords, tuple(Instance(number, arrival) for number in range(count)))


def study(*found: Series) -> Study:
    return Study("1.2.3", 1, "PACS", found, NOW, NOW)


def study_in(folder: Path) -> Study:
    """Read a folder as the bridge would, with its keywords once through JSON as the journal keeps them."""
    paths = sorted(folder.glob("*.dcm"))
    headers = assemble.read([(number, str(path)) for number, path in enumerate(paths)], 32, 2**26)
    first = headers[0]
    assert isinstance(first, Header)
    keywords = {name: list(value) if isinstance(value, tuple) else value for name, value in first.keywords.items()}
    return study(replace(series(first.series_instance_uid, len(paths)), keywords=keywords))


@pytest.fixture(scope="module")
def shipped() -> assign.Routes:
    return assign.load(ROOT / "mappings")


def with_rules(shipped: assign.Routes, **priorities: int) -> assign.Routes:
    """Return copies of the shipped rule under these names and priorities."""
    return assign.Routes(
        tuple(replace(shipped.rules[0], name=name, priority=priority) for name, priority in priorities.items())
    )


def test_the_sample_study_goes_to_ct_lung(shipped: assign.Routes) -> None:
    """The phantom that the demo sends."""
    sample = study_in(ROOT / "sample_data" / "chest_ct")
    route = assign.match(sample, shipped)
    assert isinstance(route, Route)
    assert (route.name, route.service, route.destinations) == ("chest-ct", "ct-lung", ("pacs",))
    assert route.series_instance_uid == sample.series[0].series_instance_uid
    assert route.mapping_version == shipped.rules[0].version


def test_a_real_chest_ct_goes_to_ct_lung(shipped: assign.Routes, test_data: Path) -> None:
    """Without Body Part Examined; its Series Description says what it is."""
    route = assign.match(study_in(test_data / "ct_chest"), shipped)
    assert isinstance(route, Route)
    assert route.service == "ct-lung"


@pytest.mark.parametrize("folder", ["mr_head", "us", "ct_liver_seg"])
def test_other_real_studies_do_not(shipped: assign.Routes, test_data: Path, folder: str) -> None:
    """A head MR, ultrasound, and three slices of a liver."""
    path = next((test_data / folder).rglob("*.dcm")).parent
    assert isinstance(assign.match(study_in(path), shipped), assign.Unrouted)


@pytest.mark.parametrize(
    ("changes", "stop"),
    [
        ({"Modality": "MR"}, "Modality"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2.1"}, "SOPClassUID"),
        ({"ImageType": ("DERIVED", "PRIMARY", "AXIAL")}, "ImageType"),
        ({"ImageType": ("ORIGINAL", "PRIMARY", "LOCALIZER")}, "ImageType"),
        ({"SeriesDescription": "Knee Secret^Name"},
         "any of BodyPartExamined, StudyDescription, SeriesDescription, ProtocolName"),
        ({"SliceThickness": 5.0}, "SliceThickness"),
        ({"SliceThickness": None}, "SliceThickness"),
        ({"BurnedInAnnotation": "YES"}, "not BurnedInAnnotation"),
    ],
)  # fmt: skip
def test_a_study_nobody_wants_is_told_where_each_route_stopped(
    shipped: assign.Routes, changes: dict[str, Any], stop: str
) -> None:
    """By the keyword, never by its value."""
    answer = assign.match(study(series("1.1", **changes)), shipped)
    assert answer == assign.Unrouted(f"no route wants it: chest-ct stops at {stop}", {"chest-ct": stop})


def test_too_few_slices_are_counted_by_the_bridge(shipped: assign.Routes) -> None:
    """Number of Series Related Instances is what has arrived, whatever an object says."""
    answer = assign.match(study(series("1.1", 39, NumberOfSeriesRelatedInstances=500)), shipped)
    assert isinstance(answer, assign.Unrouted)
    assert answer.stopped_at == {"chest-ct": "NumberOfSeriesRelatedInstances"}


def test_the_series_that_came_furthest_explains(shipped: assign.Routes) -> None:
    """A scout beside a thick series: the thick one is what the administrator will look for."""
    answer = assign.match(
        study(series("1.1", 2, Modality="SR"), series("1.2", SliceThickness=5.0), series("1.3", Modality="PR")), shipped
    )
    assert isinstance(answer, assign.Unrouted)
    assert answer.stopped_at == {"chest-ct": "SliceThickness"}


def test_the_fullest_then_thinnest_then_first_series_is_taken(shipped: assign.Routes) -> None:
    """The same study gives the same series, whatever the order of arrival."""
    fuller, thinner, first, second = (
        series("1.9", 90, SliceThickness=2.0), series("1.8", SliceThickness=0.8), series("1.1"), series("1.2")
    )  # fmt: skip
    for found, taken in (
        ((second, first, thinner, fuller), fuller),
        ((second, first, thinner), thinner),
        ((second, first), first),
    ):
        route = assign.match(study(*found), shipped)
        assert isinstance(route, Route)
        assert route.series_instance_uid == taken.series_instance_uid


def test_the_highest_priority_wins(shipped: assign.Routes) -> None:
    """Whatever the order of the files."""
    for routes in (with_rules(shipped, low=1, high=2), with_rules(shipped, high=2, low=1)):
        route = assign.match(study(series("1.1")), routes)
        assert isinstance(route, Route)
        assert route.name == "high"


def test_equal_priorities_are_a_tie(shipped: assign.Routes) -> None:
    """Nobody guesses; a rule of lower priority has no part in it."""
    answer = assign.match(study(series("1.1")), with_rules(shipped, one=7, other=7, low=1))
    assert answer == assign.Tie("routes of equal priority want it: one, other", ("one", "other"))


def test_our_own_results_never_trigger_a_route(shipped: assign.Routes) -> None:
    """A PACS sends them back: they are passed over beside a study, and alone they are no study."""
    own = series("1.1", 500, Manufacturer=MANUFACTURER)
    route = assign.match(study(own, series("1.2")), shipped)
    assert isinstance(route, Route)
    assert route.series_instance_uid == "1.2"
    assert assign.match(study(own), shipped) == assign.Unrouted("the study holds nothing but results of our own")
