"""`btt-bridge rewards` as a person at the keyboard meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from btt_bridge.cli import app
from btt_bridge.commands.rewards import WHY
from btt_bridge.errors import BridgeError, KeyConflictError, MalformedError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.settle.rewards import Answer

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "mappings" / "rewards" / "samples"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(ROOT / "mappings"))
    return tmp_path


def asked(*words: object) -> Result:
    answer = CliRunner().invoke(app, ["rewards", *map(str, words)])
    if isinstance(answer.exception, BridgeError):
        raise answer.exception
    return answer


def run(*words: object) -> str:
    answer = asked(*words)
    assert answer.exit_code == 0, answer.output
    return answer.output


def today(home: Path, name: str) -> Path:
    """Write a shipped sample as if it were of a day that still counts by this machine's clock."""
    from btt_bridge.clock import SystemClock

    day = SystemClock().now().date().isoformat()
    path = home / f"{name}.json"
    path.write_text((SAMPLES / f"{name}.json").read_text().replace("2026-01-05", day))
    return path


def test_a_rule_is_tried_without_counting_and_then_counted(home: Path) -> None:
    """The dry run says what and why; only --post moves points, and once."""
    visit, consent = today(home, "checkup"), SAMPLES / "consent.json"
    said = run("consider", visit)
    assert "no-consent: no consent covers the day of the act and today" in said
    for _ in range(2):
        said = run("consider", visit, "--consents", consent)
        assert "Appointment/example" in said
        assert "+100  granted" in said
        assert said.endswith("Nothing was counted; --post does that.\n")
    assert ": 0 points, 0 owed" in run("wallet", "Patient/example")
    assert "+100  granted" in run("consider", visit, consent, "--post")
    assert "+0  stands" in run("consider", visit, consent, "--post")
    said = run("wallet", "Patient/example")
    assert ": 100 points, 0 owed" in said
    assert "Patient/example" not in said


def test_a_file_that_cannot_be_counted_costs_only_itself(home: Path) -> None:
    """A Bundle with a good and a bad resource: both are told, and the exit status says that one was refused."""
    good, consent = (json.loads(path.read_text()) for path in (today(home, "goal"), SAMPLES / "consent.json"))
    bundle = {"resourceType": "Bundle", "entry": [{"resource": {**good, "subject": {}}}, {"resource": good}]}
    path = home / "all.json"
    path.write_text(json.dumps({**bundle, "entry": [*bundle["entry"], {"resource": consent}]}))
    answer = asked("consider", path)
    assert answer.exit_code == 1
    assert "refused: the resource does not name exactly one patient" in answer.output
    assert "+150  granted" in answer.output
    path.write_text("{")
    with pytest.raises(MalformedError):
        asked("consider", path)


def test_points_are_redeemed_and_an_order_is_returned(home: Path) -> None:
    """By the patient's reference and the partner's own order number; twice is once."""
    run("consider", today(home, "plan"), SAMPLES / "consent.json", "--post")
    for _ in range(2):
        assert "100 points, worth 10.00 CNY; the partner's fee is 0.30 CNY" in run(
            "redeem", "Patient/example", "pharmacy", "A-1", 100
        )
    with pytest.raises(OverdrawnError):
        run("redeem", "Patient/example", "pharmacy", "A-2", 101)
    assert ": 100 points" in run("wallet", "Patient/example")
    for _ in range(2):
        assert "100 points are back" in run("return", "Patient/example", "pharmacy", "A-1")
    said = run("wallet", "Patient/example")
    assert ": 200 points" in said
    assert "returned" in said
    with pytest.raises(KeyConflictError):
        run("redeem", "Patient/example", "pharmacy", "A-1", 100)
    assert "What was too old has expired." in run("expire")


def test_an_insurer_is_told_a_tier_with_consent_only(home: Path) -> None:
    """Basis points of discount, and refused without a Consent."""
    run("consider", today(home, "plan"), today(home, "checkup"), SAMPLES / "consent.json", "--post")
    words = ("tier", "Patient/example", "example-life")
    assert "discount 200 basis points" in run(*words, "--consents", SAMPLES / "consent.json")
    with pytest.raises(RefusedError):
        run(*words)


def test_a_month_is_billed_once_with_arrangements_and_savings(home: Path) -> None:
    """The clinic by its size, each partner once, the insurer's share, and that again where it was refunded."""
    first, again = (run("bill", "2026-01", "--clinicians", size) for size in (12, 70))
    assert first == again
    assert [line.split()[:2] for line in first.splitlines()] == [
        ["subscription:hospital:2026-01", "8,000.00"],
        ["arrangement:pharmacy", "5,000.00"],
        ["arrangement:fitness", "3,000.00"],
    ]
    assert "2,000.00 CNY" in run("saving", "example-life", "2025", "10000.00")
    run("refund", "saving:example-life:2025")
    once_more = run("saving", "example-life", "2025", "20000.00", "--again")
    assert once_more.split()[:2] == ["saving:example-life:2025:2", "4,000.00"]


def test_a_partner_pays_and_a_bill_is_taken_back(home: Path) -> None:
    """Once for each reference and each bill, by the names that the commands print."""
    run("bill", "2026-01", "--clinicians", 12)
    for _ in range(2):
        said = run("pay", "partner:pharmacy:payable:cny", "BANK-1", "4000.50")
        assert said == "partner:pharmacy:payable:cny: -999.50 CNY\n"
        assert "8,000.00 CNY" in run("refund", "subscription:hospital:2026-01")
    for words in (("pay", "fund:development:cny", "B-2", "1.00"), ("refund", "saving:nobody:2025")):
        with pytest.raises(UnknownError):
            run(*words)
    with pytest.raises(KeyConflictError):
        run("pay", "partner:pharmacy:payable:cny", "BANK-1", "4000.51")


def test_outcomes_are_reported_from_what_the_ehr_exports(home: Path) -> None:
    """Thirty patients with a visit, fifteen of them preventive, as NDJSON: a rate, and nothing of a smaller group."""
    lines = []
    for number in range(30):
        for name, count in (("encounter", 30), ("checkup", 15)):
            if number < count:
                text = (SAMPLES / f"{name}.json").read_text().replace("Patient/example", f"Patient/p{number}")
                lines.append(json.dumps({**json.loads(text), "id": f"{name}-{number}"}))
    path = home / "export.ndjson"
    path.write_text("\n".join([*lines, '{"resourceType": "Encounter"}']))
    words = ("outcomes", path, "--first", "2026-01", "--months", 1)
    assert "15 of 30 (500 ‰)" in run(*words)
    assert "1 resources could not be read" in asked(*words).output
    assert "preventive-visits,,,,15,30,500," in run(*words, "--format", "csv")
    assert "15 of 30" in run(*words, "--format", "html")
    body = run(*words, "--format", "json", "--baseline", "2025-01").split("1 resources")[0]
    assert json.loads(body)["baseline"] == {"first": "2025-01-01", "months": 1}
    assert asked(*words, "--format", "pdf").exit_code == 2
    assert asked("outcomes", path, "--first", "January").exit_code == 2


def test_every_answer_is_explained(home: Path) -> None:
    """At the keyboard and on the page for who maintains the rules."""
    assert set(WHY) == set(Answer)
    page = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8")
    assert [answer for answer in Answer if f"`{answer}`" not in page] == []
