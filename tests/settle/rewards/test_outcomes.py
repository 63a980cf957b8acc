"""A clinic against its own time before: right figures, and none that points at anybody."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from btt_bridge.errors import RefusedError
from btt_bridge.isolate import Isolation
from btt_bridge.settle.rewards import Limits, Months, Program, Report, Seen, Veil, gather, load, report
from tests.settle.rewards.conftest import ROOT, key_of, sample

PERIOD = Months(date(2026, 1, 1), 6)
VEIL = Veil(patients_min=11, counts_to=5)


@pytest.fixture(scope="module")
def program() -> Program:
    (program,) = load(ROOT / "mappings" / "rewards")
    return program


def acts(act: str, day: date, patients: range) -> list[Seen]:
    return [Seen(f"p{number}", act, day) for number in patients]


def clinic() -> list[Seen]:
    """200 patients seen a half-year: 100 and then 127 preventive visits; 80 and then 105 plans of 160 completed."""
    earliest, before, now = date(2025, 3, 3), date(2025, 8, 8), date(2026, 2, 2)
    return [
        *acts("visit", earliest, range(200)),
        *acts("visit", before, range(80, 280)),
        *acts("preventive-visit", before, range(80, 180)),
        *acts("plan-ended", before, range(80, 240)),
        *acts("plan-completed", before, range(80, 160)),
        *acts("visit", now, range(120, 320)),
        *acts("preventive-visit", now, range(120, 247)),
        *acts("plan-ended", now, range(120, 280)),
        *acts("plan-completed", now, range(120, 225)),
    ]


def made(seen: list[Seen]) -> Report:
    return report("test", PERIOD.before, PERIOD, seen, VEIL)


def test_the_measures_are_those_of_the_page_against_the_time_before() -> None:
    """27 % more preventive visits, 31 % more plans completed, 33 % more patients who came again: rounded to 5."""
    rows = {row["measure"]: row for row in made(clinic()).body()["measures"]}
    names = ("baseline_count", "baseline_of", "period_count", "period_of", "change_percent")
    assert {name: tuple(row[one] for one in names) for name, row in rows.items()} == {
        "preventive-visits": (100, 200, 125, 200, 25),
        "plan-completion": (80, 160, 105, 160, 31),
        "retention": (120, 200, 160, 200, 33),
    }
    assert rows["plan-completion"]["period_per_thousand"] == 656


@pytest.mark.parametrize("visits", [0, 1, 10, 190, 199, 200])
def test_few_patients_behind_a_measure_or_behind_its_rest_hide_it(visits: int) -> None:
    """One patient with a visit, one without, nobody, or everybody: each would say something about somebody."""
    day = date(2026, 2, 2)
    seen = [*acts("visit", day, range(200)), *acts("preventive-visit", day, range(visits))]
    measure = made(seen).measures[0]
    assert (measure.name, measure.period, measure.change_percent) == ("preventive-visits", None, None)


def test_one_patient_with_many_acts_is_one_patient() -> None:
    """Thirty visits of one person are not thirty people."""
    seen = acts("visit", date(2026, 2, 1), range(50))
    seen += [Seen("p1", "preventive-visit", date(2026, 3, day)) for day in range(1, 31)]
    assert made(seen).measures[0].period is None


def test_a_patient_more_or_a_month_more_does_not_show() -> None:
    """The difference of two reports is never one person, and never a month of a few."""
    day = date(2026, 2, 2)

    def shown(visits: int) -> Any:
        return made([*acts("visit", day, range(100)), *acts("preventive-visit", day, range(visits))]).measures[0].period

    assert len({shown(visits) for visits in range(48, 53)}) == 1
    assert {(shown(visits).count % 5, shown(visits).of % 5) for visits in range(11, 89)} == {(0, 0)}


def test_a_completed_plan_is_one_of_those_that_ended() -> None:
    """Rules that disagree cannot make more than all."""
    day = date(2026, 2, 2)
    seen = [*acts("plan-completed", day, range(100)), *acts("plan-ended", day, range(50, 200))]
    count = made(seen).measures[1].period
    assert count is not None
    assert (count.count, count.of) == (50, 150)


def test_a_clinic_without_acts_has_no_figures() -> None:
    """Nothing is shown, and nothing is divided by nothing."""
    assert all(measure.baseline is measure.period is None for measure in made([]).measures)


@pytest.mark.parametrize(
    ("baseline", "period"),
    [((date(2025, 7, 1), 3), (date(2026, 1, 1), 6)), ((date(2025, 9, 1), 6), (date(2026, 1, 1), 6))],
    ids=["shorter", "overlapping"],
)
def test_a_baseline_is_a_time_before_of_the_same_length(baseline: Any, period: Any) -> None:
    """What is not comparable is not compared."""
    with pytest.raises(RefusedError):
        report("test", Months(*baseline), Months(*period), [], VEIL)
    for first, count in ((date(2026, 1, 2), 6), (date(2026, 1, 1), 0), (date(2026, 1, 1), 61)):
        with pytest.raises(RefusedError):
            Months(first, count)


# --- from resources ---------------------------------------------------------------------------------------


def test_resources_become_acts_under_opaque_keys_the_newest_version_once(
    program: Program, isolation: Isolation
) -> None:
    """In any order and twice; what was retracted, is malformed, or is of no interest is not counted."""
    bodies = [
        sample("checkup", version=2, start="2026-01-09"),
        sample("checkup"),
        sample("checkup"),
        sample("encounter"),
        sample("plan"),
        sample("plan-revoked", id="revoked"),
        sample("plan", id="mistake", status="entered-in-error", version=2),
        sample("plan", id="mistake"),
        sample("immunization"),
        {**sample("encounter", id="nobody"), "subject": {}},
    ]
    gathered = gather(program, bodies, key_of, isolation, Limits())
    day, patient = date(2026, 1, 5), key_of("Patient/example")
    assert gathered.refused == 1
    assert {(one.act, one.day) for one in gathered.seen} >= {
        ("preventive-visit", date(2026, 1, 9)),
        ("visit", day),
        ("plan-ended", day),
        ("plan-completed", day),
    }
    assert {one.patient for one in gathered.seen} == {patient}
    assert len([one for one in gathered.seen if one.act == "preventive-visit"]) == 1


# --- as people read it ------------------------------------------------------------------------------------


def test_the_same_figures_as_data_text_csv_and_html() -> None:
    """What one shows, each shows; what is hidden stays hidden in all."""
    seen = [*clinic(), *acts("visit", date(2026, 2, 2), range(320, 600))]
    found = made(seen)
    rows = list(csv.DictReader(io.StringIO(found.csv())))
    assert [row["measure"] for row in rows] == ["preventive-visits", "plan-completion", "retention"]
    assert json.loads(json.dumps(found.body()))["measures"][0]["period_of"] == int(rows[0]["period_of"]) == 480
    for text in (found.text(), found.html()):
        assert "125 of 480" in text
        assert "6 months from 2026-01" in text
    hidden = made(acts("visit", date(2026, 2, 2), range(600)))
    assert {row["period_count"] for row in csv.DictReader(io.StringIO(hidden.csv()))} == {""}
    assert hidden.text().count("not shown") == hidden.html().count("not shown") == 6 + 1


def test_the_page_needs_no_other_file_and_runs_nothing(tmp_path: Path) -> None:
    """It can be sent by mail and opened anywhere; a name is text in it."""
    page = report("<b>x</b>", PERIOD.before, PERIOD, clinic(), VEIL).html()
    assert "<b>x" not in page
    for word in ("<script", "http", "src=", "href="):
        assert word not in page
