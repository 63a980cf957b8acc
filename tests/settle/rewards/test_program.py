"""A program of rewards is refused with file, line and keyword wherever it would not do what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from btt_bridge import settle
from btt_bridge.errors import MappingError
from btt_bridge.settle.rewards import check, load
from tests.settle.rewards.conftest import ROOT, SAMPLES

SHIPPED = (SAMPLES.parent / "btt-2025.yaml").read_text(encoding="utf-8")


def written(tmp_path: Path, old: str, new: str) -> tuple[Path, int]:
    """Write the shipped program with one change; return its folder and the line of the change."""
    assert old in SHIPPED
    folder = tmp_path / "rewards"
    folder.mkdir()
    (folder / "samples").symlink_to(SAMPLES)
    (folder / "a.yaml").write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    return folder, SHIPPED[: SHIPPED.index(old)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "keyword", "said"),
    [
        ("status = 'completed' and isSub", "statis = 'completed' and isSub", "when", "did you mean status?"),
        ("daysSupply.value >= 7", "daySupply.value >= 7", "when", "did you mean daysSupply?"),
        ("occurrence.ofType(dateTime)", "occurrence.ofTyp(dateTime)", "day", "did you mean ofType?"),
        ("isSubpotent.exists(", "isSubpotent.exist(", "when", "did you mean exists?"),
        ("day: whenHandedOver", "day: whenHandedOut", "day", "did you mean whenHandedOver?"),
        ("resource: Immunization\n", "resource: Imunization\n", "when", "did you mean Immunization?"),
        ("daysSupply.value >= 7", "daysSupply.value >=", "when", "this is no FHIRPath"),
        ("daysSupply.value >= 7", "daysSupply.value >= 7) and (true", "when", "this is no FHIRPath"),
        ("daysSupply.value >= 7", "now() > @2020", "when", "no function `now` here"),
        ("daysSupply.value >= 7", "id.matches('(a+)+$')", "when", "no function `matches` here"),
        ("daysSupply.value >= 7", "%context.exists()", "when", "constants"),
        ("daysSupply.value >= 7", "daysSupply.value", "when", "neither true nor false"),
        ("daysSupply.value >= 7", "daysSupply.value >= 700", "fires", "the sample does not fire it"),
        ("status = 'completed' and daysSupply.value >= 7", "daysSupply.value >= 0", "does_not", "the sample fires it"),
        ("day: whenHandedOver", "day: whenPrepared", "day", "the sample has no one day there"),
        ("samples/steps.json", "samples/stepz.json", "fires", "there is no sample samples/stepz.json"),
        ("fires: samples/steps.json", "fires: samples/goal.json", "fires", "is no Observation"),
        ("scope.coding", "scop.coding", "when", "did you mean scope?"),
        ("points: 2000, days: 365", "points: 199, days: 365", "points", "it would never count"),
        ("cooldown_days: 30\n", "cooldwn_days: 30\n", "cooldwn_days", "did you mean cooldown_days?"),
        ("points: 100\n", "points: -1\n", "points", "must be at least 1"),
        ("points: 100\n", "points: 1.5\n", "points", "must be"),
        ("name: immunization\n", "name: preventive-visit\n", "name", "another one before it has this name"),
        ("basis_points: 6000,", "basis_points: 7000,", "shares", "sum to 11000 basis points, above 10000"),
        ("basis_points: 6000,", "basis_points: 5000,", "shares", "sum to 9000 basis points, below 10000"),
        ("party: foundation,", "party: development-fund,", "shares", "a party stands twice"),
        ("scale: 2\n", "scale: 3\n", "scale", "CNY has 2 decimal places"),
        ("asset: CNY\n", "asset: BTT\n", "scale", "BTT has 18 decimal places"),
        ("clinicians_max: 20,", "clinicians_max: 5,", "tiers", "clinicians_max rises"),
        ("points: 800, discount", "points: 200, discount", "tiers", "rise in points and discount"),
        ("patients_min: 11", "patients_min: 1 ", "patients_min", "must be at least 5"),
        ("effective_from: 2025-01-01", "effective_from: 2025-02-30", "effective_from", "there is no such day"),
    ],
)
def test_what_would_not_do_what_it_says_is_refused_where_it_stands(
    tmp_path: Path, old: str, new: str, keyword: str, said: str
) -> None:
    """A misspelled element or function with a hint, a rule that its samples deny, shares that do not sum."""
    folder, line = written(tmp_path, old, new)
    found = check(folder)
    hits = [one for one in found if one.keyword == keyword and said in f"{one} {one.advice}"]
    assert hits, [str(one) for one in found]
    assert Path(hits[0].file) == folder / "a.yaml"
    assert f"a.yaml:{hits[0].line}: {keyword}: " in str(hits[0])
    assert f"{keyword}:" in (folder / "a.yaml").read_text().splitlines()[hits[0].line - 1]
    # Said of what was changed, or of the rule that the change made useless.
    assert abs(hits[0].line - line) < 10 or "never count" in said
    with pytest.raises(MappingError):
        load(folder)


def test_everything_wrong_is_said_at_once_in_the_order_of_the_lines(tmp_path: Path) -> None:
    """Who edits a file mends it in one go."""
    folder, _ = written(tmp_path, "isSubpotent.exists(", "isSubpotent.exist(")
    path = folder / "a.yaml"
    path.write_text(
        path.read_text().replace("whenHandedOver", "whenHandedOut").replace("points_min: 50", "points_min: 0")
    )
    assert [one.keyword for one in check(folder)] == ["points_min"]
    path.write_text(path.read_text().replace("points_min: 0", "points_min: 50"))
    found = check(folder)
    assert [one.keyword for one in found] == ["when", "day"]
    assert [one.line for one in found] == sorted(one.line for one in found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "a resource is a JSON object"),
        (json.dumps({"resourceType": "Goal", "id": "x"}).encode(), "the resource has no meta"),
    ],
    ids=["torn", "deep", "a-list", "no-meta"],
)
def test_a_sample_that_is_no_resource_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    """The rule cannot be proved by it."""
    folder, _ = written(tmp_path, "samples/goal.json", "samples/mine.json")
    (folder / "samples").unlink()
    (folder / "samples").mkdir()
    for path in SAMPLES.iterdir():
        (folder / "samples" / path.name).symlink_to(path)
    (folder / "samples" / "mine.json").write_bytes(content)
    (problem,) = check(folder)
    assert problem.keyword == "fires"
    assert f"samples/mine.json: {said}" in str(problem) or f"samples/mine.json {said}" in str(problem)


def test_the_bridges_own_check_covers_rewards_where_there_are_any(tmp_path: Path) -> None:
    """`btt-bridge check` looks at them; a hospital without rewards has no such folder, and that is no error."""
    folder, _ = written(tmp_path, "isSubpotent.exists(", "isSubpotent.exist(")
    for name in ("prices", "splits", "references", "dividends"):
        (tmp_path / name).symlink_to(ROOT / "mappings" / name)
    assert [problem.keyword for problem in settle.check(folder.parent)] == ["when"]
    (folder / "samples").unlink()
    (folder / "a.yaml").unlink()
    folder.rmdir()
    assert settle.check(tmp_path) == []
