"""Points for clinical acts: each once, with consent, within caps, and taken back when the act is."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from btt_bridge.config import Settings
from btt_bridge.errors import KeyConflictError, MalformedError, RefusedError
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger
from btt_bridge.settle.rewards import Answer, Decision, Incentives, Wallets, open_incentives
from btt_bridge.testing import FakeClock
from tests.settle.rewards.conftest import ROOT, changed, key_of, opened, sample

PATIENT = key_of("Patient/example")
OTHER = key_of("Patient/other")


def considered(incentives: Incentives, body: dict[str, Any], *consents: dict[str, Any]) -> list[tuple[str, Answer]]:
    decisions = incentives.rewards.consider(body, consents or (sample("consent"),))
    return [(decision.rule, decision.answer) for decision in decisions]


def answer(incentives: Incentives, body: dict[str, Any], *consents: dict[str, Any]) -> Answer:
    ((_, answer),) = considered(incentives, body, *consents)
    return answer


def points(incentives: Incentives, patient: str = PATIENT) -> tuple[int, int]:
    """What a patient has, and owes; by the ledger's own accounts."""
    found = {balance.account: balance.units for balance in incentives.wallets.ledger.balances()}
    name = f"patient:test:{patient}"
    return found.get(f"{name}:points", 0), -found.get(f"{name}:debt:points", 0)


def checkup(number: int, day: str, **changes: Any) -> dict[str, Any]:
    return sample("checkup", id=f"checkup-{number}", start=f"{day}T09:00:00+08:00", **changes)


@pytest.mark.parametrize(
    ("name", "rule", "earned"),
    [
        ("checkup", "preventive-visit", 100),
        ("immunization", "immunization", 80),
        ("dispense", "medicine-collected", 20),
        ("prescription", "course-finished", 50),
        ("goal", "goal-achieved", 150),
        ("plan", "plan-completed", 200),
        ("steps", "active-day", 2),
    ],
)
def test_every_shipped_rule_earns_its_points_once(embedded: Incentives, name: str, rule: str, earned: int) -> None:
    """A visit, a shot, medicine, a course, a goal, a plan, a day on foot: granted, and on replay it only stands."""
    assert embedded.rewards.consider(sample(name), [sample("consent")]) == [Decision(rule, Answer.GRANTED, earned)]
    for _ in range(3):
        assert considered(embedded, sample(name)) == [(rule, Answer.STANDS)]
    assert points(embedded) == (earned, 0)


def test_what_does_not_fire_and_what_no_rule_is_about_earns_nothing(embedded: Incentives) -> None:
    """A booked visit is no visit; an Encounter earns nothing; nobody gets a wallet by it."""
    assert answer(embedded, sample("checkup-booked")) is Answer.UNMET
    assert considered(embedded, sample("encounter")) == []
    assert not [b for b in embedded.wallets.ledger.balances() if b.account.startswith("patient:")]


# --- farming --------------------------------------------------------------------------------------------


def test_two_ids_for_one_visit_earn_once(incentives: Incentives) -> None:
    """The same day, the next day and the day before, under other ids: cooling; after the cool-down it counts again."""
    assert answer(incentives, checkup(1, "2026-01-05")) is Answer.GRANTED
    for number, day in ((2, "2026-01-05"), (3, "2026-01-06"), (4, "2026-01-04"), (5, "2025-12-07")):
        assert answer(incentives, checkup(number, day)) is Answer.COOLING
    assert answer(incentives, checkup(6, "2025-12-06")) is Answer.GRANTED
    assert points(incentives) == (200, 0)


def test_an_edited_event_earns_no_second_time_and_moving_it_frees_no_day(embedded: Incentives) -> None:
    """Later versions with another text, another time or another day: the first grant stands, whatever the order."""
    assert answer(embedded, checkup(1, "2026-01-05")) is Answer.GRANTED
    assert answer(embedded, checkup(1, "2026-01-05", version=3, comment="late")) is Answer.STANDS
    assert answer(embedded, checkup(1, "2025-11-05", version=4)) is Answer.STANDS
    assert answer(embedded, checkup(1, "2025-12-05", version=2)) is Answer.SUPERSEDED
    assert answer(embedded, checkup(2, "2026-01-05")) is Answer.COOLING
    assert points(embedded) == (100, 0)


def test_one_version_has_one_content(incentives: Incentives) -> None:
    """The same id and version with another body is refused, and nothing moves."""
    considered(incentives, checkup(1, "2026-01-05"))
    with pytest.raises(KeyConflictError):
        considered(incentives, checkup(1, "2025-11-05"))
    assert points(incentives) == (100, 0)


def test_the_cap_counts_any_window_of_days(embedded: Incentives, clock: FakeClock) -> None:
    """Six shots in any 365 days and no seventh, wherever in the window it falls; a year later there is room again."""
    shot = iter(range(100))

    def given(day: str) -> Answer:
        body = sample("immunization", id=f"shot-{next(shot)}", occurrenceDateTime=day)
        return answer(embedded, body)

    days = ["2026-01-05", "2026-01-01", "2025-12-28", "2025-12-20", "2025-12-10", "2025-11-30"]
    assert [given(day) for day in days] == [Answer.GRANTED] * 6
    assert [given(day) for day in ("2025-10-20", "2025-12-25", "2026-01-04")] == [Answer.CAPPED] * 3
    clock.advance(329 * 86400)
    consent = sample("consent")
    assert answer(embedded, sample("immunization", id="late", occurrenceDateTime="2026-11-29"), consent) is (
        Answer.CAPPED
    )
    assert answer(embedded, sample("immunization", id="fits", occurrenceDateTime="2026-11-30"), consent) is (
        Answer.GRANTED
    )


def test_acts_of_long_ago_and_of_the_future_earn_nothing(embedded: Incentives) -> None:
    """Back-dating cannot fill a history, and nobody earns in advance; a day ahead is a time zone."""
    assert answer(embedded, checkup(1, "2025-10-06")) is Answer.TOO_LATE
    assert answer(embedded, checkup(2, "2026-01-07")) is Answer.NOT_YET
    assert answer(embedded, checkup(3, "2026-01")) is Answer.NO_DAY
    assert answer(embedded, checkup(4, "2025-10-07")) is Answer.GRANTED
    assert answer(embedded, checkup(5, "2026-01-06")) is Answer.GRANTED


def test_a_patient_and_a_program_have_limits(ledger: Ledger, isolation: Isolation, tmp_path: Path) -> None:
    """All rules together earn a patient 200 points at most; and the budget ends before it is overdrawn."""
    folder = changed(tmp_path, points={"patient_cap": {"points": 200, "days": 365}, "budget": 350})
    incentives = opened(ledger, isolation, folder)
    assert answer(incentives, sample("plan")) is Answer.GRANTED
    assert answer(incentives, sample("steps")) is Answer.CAPPED
    other = sample("consent", patient="Patient/other")
    assert answer(incentives, sample("goal", patient="Patient/other"), other) is Answer.GRANTED
    assert answer(incentives, sample("dispense", patient="Patient/other"), other) is Answer.BUDGET
    assert (points(incentives), points(incentives, OTHER)) == ((200, 0), (150, 0))
    incentives.close()


def test_eight_doors_at_once_grant_once(incentives: Incentives) -> None:
    """The same event eight times and eight ids for one visit, all together: one grant for the day."""
    bodies = [checkup(number % 4, "2026-01-05") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda body: incentives.rewards.consider(body, [sample("consent")]), bodies))
    assert {decision.answer for decisions in found for decision in decisions} <= {
        *(Answer.GRANTED, Answer.STANDS, Answer.COOLING)
    }
    assert points(incentives) == (100, 0)
    assert len(incentives.wallets.ledger.postings(0, 10)) == 1


# --- consent --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "consent",
    [
        sample("consent", status="inactive"),
        sample("consent", status="proposed"),
        sample("consent", patient="Patient/other"),
        sample("consent-research"),
        sample("consent", provision={**sample("consent")["provision"], "type": "deny"}),
        sample("consent", provision={**sample("consent")["provision"], "period": {"start": "2026-01-06"}}),
        sample("consent", provision={**sample("consent")["provision"], "period": {"end": "2026-01-04"}}),
        sample("consent", provision={**sample("consent")["provision"], "period": {"start": "2025"}}),
        sample("consent", provision={**sample("consent")["provision"], "provision": [{"type": "deny"}]}),
    ],
    ids=["inactive", "proposed", "other-patient", "other-purpose", "deny", "later", "over", "vague", "exception"],
)
def test_without_a_plain_consent_nothing_is_earned(embedded: Incentives, consent: dict[str, Any]) -> None:
    """Not active, not theirs, not for this, not now, or not without exceptions: it does not cover."""
    assert answer(embedded, sample("checkup"), consent) is Answer.NO_CONSENT
    assert points(embedded) == (0, 0)


# Where the clinic is, when it is there, and the day that is written there; by UTC it is the day before, or after.
@pytest.mark.parametrize("configured", [True, False])
@pytest.mark.parametrize(
    ("zone", "now", "written"),
    [
        ("Asia/Shanghai", datetime(2026, 1, 4, 16, 30, tzinfo=UTC), "2026-01-05T00:30:00+08:00"),
        ("Asia/Shanghai", datetime(2026, 1, 4, 23, 59, tzinfo=UTC), "2026-01-05T07:59:00+08:00"),
        ("Pacific/Auckland", datetime(2026, 1, 4, 11, 0, tzinfo=UTC), "2026-01-05T00:00:00+13:00"),
        ("Pacific/Auckland", datetime(2026, 1, 4, 20, 0, tzinfo=UTC), "2026-01-05T09:00:00+13:00"),
        ("Pacific/Honolulu", datetime(2026, 1, 6, 2, 0, tzinfo=UTC), "2026-01-05T16:00:00-10:00"),
    ],
)
def test_an_act_on_the_day_of_its_consent_counts_wherever_the_clinic_is(
    embedded: Incentives, clock: FakeClock, zone: str, now: datetime, written: str, configured: bool
) -> None:
    """Agreed to and done in one local morning or evening; east of Greenwich also where nobody set the time zone."""
    rewards = replace(embedded.rewards, zone=ZoneInfo(zone)) if configured else embedded.rewards
    clock.instant = now
    period = {"start": written, "end": "2026-01-05" if configured else "2026-01-06"}
    consent = sample("consent", dateTime=written, provision={**sample("consent")["provision"], "period": period})
    (decision,) = rewards.consider(sample("checkup", start=written), [consent])
    assert decision.answer is Answer.GRANTED
    if configured:
        assert rewards.discount("Patient/example", "example-life", [consent]).points == 0


def test_a_consent_that_is_over_today_earns_nothing_wherever_the_clinic_is(
    embedded: Incentives, clock: FakeClock
) -> None:
    """In Shanghai it is the sixth already, and what was agreed to until the fifth is over; by UTC it is the fifth."""
    clock.instant = datetime(2026, 1, 5, 17, 0, tzinfo=UTC)
    consent = sample("consent", provision={**sample("consent")["provision"], "period": {"end": "2026-01-05"}})
    shanghai = replace(embedded.rewards, zone=ZoneInfo("Asia/Shanghai"))
    assert shanghai.consider(sample("checkup"), [consent])[0].answer is Answer.NO_CONSENT
    assert embedded.rewards.consider(sample("checkup"), [consent])[0].answer is Answer.GRANTED


def test_the_clinic_is_where_the_settings_say(ledger: Ledger, isolation: Isolation) -> None:
    """One setting for the months of the invoices and the days of the rewards."""
    settings = Settings(
        mappings_dir=ROOT / "mappings",
        settle={"hospital": "test", "time_zone": "Asia/Shanghai"},  # type: ignore[arg-type]
    )
    incentives = open_incentives(settings, ledger, isolation, key_of)
    assert incentives.rewards.zone == ZoneInfo("Asia/Shanghai")
    incentives.close()


def test_no_consent_at_all_is_none_and_a_denial_beats_a_permission(embedded: Incentives) -> None:
    """Silence is not agreement; who says both yes and no has said no."""
    assert embedded.rewards.consider(sample("checkup")) == [Decision("preventive-visit", Answer.NO_CONSENT)]
    denial = sample("consent", id="denial", provision={**sample("consent")["provision"], "type": "deny"})
    assert answer(embedded, sample("checkup"), sample("consent"), denial) is Answer.NO_CONSENT


def test_a_withdrawn_consent_stops_earning_and_takes_nothing(embedded: Incentives) -> None:
    """What was earned with consent stays, also when its event comes by again; nothing new is earned."""
    assert answer(embedded, sample("checkup")) is Answer.GRANTED
    withdrawn = sample("consent", status="inactive", version=2)
    assert answer(embedded, sample("immunization"), withdrawn) is Answer.NO_CONSENT
    assert answer(embedded, sample("checkup", version=2), withdrawn) is Answer.STANDS
    assert points(embedded) == (100, 0)


def test_what_is_no_consent_is_refused(embedded: Incentives) -> None:
    """Another resource in its place is a mistake of the caller, and nothing is granted by it."""
    with pytest.raises(RefusedError):
        considered(embedded, sample("checkup"), sample("plan"))
    assert points(embedded) == (0, 0)


# --- taking back ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "noshow", "booked"])
def test_a_retracted_act_gives_its_points_back(incentives: Incentives, status: str) -> None:
    """Once, however often it is told; an old version that comes late does not bring them back, a new one does."""
    considered(incentives, sample("checkup"))
    retracted = sample("checkup", status=status, version=3)
    assert considered(incentives, retracted)[0] == ("preventive-visit", Answer.REVERSED)
    assert points(incentives) == (0, 0)
    assert ("preventive-visit", Answer.REVERSED) not in considered(incentives, retracted)
    assert answer(incentives, sample("checkup", version=2)) is Answer.SUPERSEDED
    assert points(incentives) == (0, 0)
    assert answer(incentives, sample("checkup", version=4)) is Answer.GRANTED
    assert points(incentives) == (100, 0)


def test_a_day_that_was_given_back_is_free_again(embedded: Incentives) -> None:
    """The visit was entered under a wrong id: retracted there, it counts under the right one."""
    considered(embedded, checkup(1, "2026-01-05"))
    considered(embedded, checkup(1, "2026-01-05", status="entered-in-error", version=2))
    assert answer(embedded, checkup(2, "2026-01-05")) is Answer.GRANTED


def test_retracting_what_was_spent_leaves_a_debt_that_is_paid_first(incentives: Incentives) -> None:
    """The wallet stops at zero, the rest is owed, and what is earned next goes there before anybody can spend it."""
    considered(incentives, sample("checkup"))
    incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 70)
    considered(incentives, sample("checkup", status="entered-in-error", version=2))
    assert points(incentives) == (0, 70)
    assert answer(incentives, sample("prescription")) is Answer.GRANTED
    assert points(incentives) == (0, 20)
    assert answer(incentives, sample("immunization")) is Answer.GRANTED
    assert points(incentives) == (60, 0)
    told = [(n.type.split(".")[2], n.data.get("owed"), n.data.get("repaid")) for n in
            incentives.wallets.ledger.notices(0, 10)]  # fmt: skip
    assert told[2:] == [("reversed", "70", None), ("granted", None, "50"), ("granted", None, "20")]


def test_earning_spending_and_retracting_in_circles_wins_nothing(incentives: Incentives) -> None:
    """Five rounds of a visit that is booked, spent and retracted: at most one visit's points were ever spent."""
    for version in range(1, 11, 2):
        considered(incentives, sample("checkup", version=version))
        if points(incentives)[0] >= 50:
            incentives.redemptions.redeem(PATIENT, "pharmacy", f"order-{version}", 100)
        considered(incentives, sample("checkup", status="cancelled", version=version + 1))
    assert points(incentives) == (0, 100)
    assert incentives.wallets.ledger.balance("partner:pharmacy:redeemed:points").units == 100


def test_an_act_of_the_wrong_patient_moves_to_the_right_one(incentives: Incentives) -> None:
    """The corrected version takes the points from the one and gives them to the other; replays change nothing."""
    considered(incentives, sample("checkup"))
    corrected = sample("checkup", patient="Patient/other", version=2)
    consent = sample("consent", patient="Patient/other")
    expected = [("preventive-visit", Answer.REVERSED), ("preventive-visit", Answer.GRANTED)]
    assert considered(incentives, corrected, consent) == expected
    assert (points(incentives), points(incentives, OTHER)) == ((0, 0), (100, 0))
    assert considered(incentives, sample("checkup")) == [("", Answer.SUPERSEDED)]
    assert considered(incentives, corrected, consent) == [("preventive-visit", Answer.STANDS)]
    assert incentives.wallets.ledger.notices(1, 1)[0].data["cause"] == "reassigned"


@pytest.mark.parametrize(
    "body",
    [
        {**sample("immunization"), "patient": {"reference": "Practitioner/1"}},
        {**sample("immunization"), "patient": {"display": "Doe"}},
        {**sample("immunization"), "subject": {"reference": "Patient/other"}},
        {**sample("checkup"), "participant": []},
        {**sample("immunization"), "patient": {"reference": "https://ehr.example.org/fhir/Patient/example"}},
    ],
    ids=["nobody", "a name", "two", "none", "another server"],
)
def test_an_act_of_nobody_or_of_two_is_refused(embedded: Incentives, body: dict[str, Any]) -> None:
    """Exactly one patient, by reference; and the refusal does not repeat what the resource says."""
    with pytest.raises(MalformedError) as refused:
        considered(embedded, body)
    assert "Doe" not in str(refused.value)


def test_a_deleted_resource_gives_its_points_back_whenever_it_arrives(incentives: Incentives) -> None:
    """Deleted after it was granted, or before its creation was even heard of: no points in the end."""
    considered(incentives, sample("checkup"))
    deleted = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)
    assert incentives.rewards.retract("Appointment/example", deleted, "9") == [
        Decision("preventive-visit", Answer.REVERSED, 100)
    ]
    assert incentives.rewards.retract("Appointment/example", deleted, "9") == []
    incentives.rewards.retract("Immunization/example", deleted, "9")
    assert considered(incentives, sample("immunization")) == [("", Answer.SUPERSEDED)]
    assert points(incentives) == (0, 0)


def test_versions_in_any_order_and_any_number_of_times_come_to_the_same(embedded: Incentives) -> None:
    """All orders of four versions, each told twice: the newest decides, and nothing of the way there is left."""
    for number, order in enumerate(itertools.permutations([1, 2, 3, 4])):
        done = number % 2 == 0
        for version in [*order, *order]:
            status = "fulfilled" if (version % 2 == 0) == done else "cancelled"
            considered(embedded, sample("checkup", id=f"v{number}", status=status, version=version))
        assert points(embedded) == ((100, 0) if done else (0, 0)), order
        if done:
            embedded.rewards.retract(f"Appointment/v{number}", datetime(2026, 1, 5, 8, 30, tzinfo=UTC), "5")
        assert points(embedded) == (0, 0)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_crash_before_or_after_a_posting_is_mended_by_telling_again(
    incentives: Incentives, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Granted once and taken back once, wherever the process died; also where its message came again too late."""
    change = Wallets.change

    def dying(self: Wallets, *args: Any) -> Any:
        if moment == "after":
            change(self, *args)
        raise SystemExit

    def told_by_the_dying(body: dict[str, Any]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Wallets, "change", dying)
            with pytest.raises(SystemExit):
                considered(incentives, body)

    told_by_the_dying(sample("checkup"))
    considered(incentives, sample("checkup"))
    assert points(incentives) == (100, 0)
    told_by_the_dying(sample("checkup", status="cancelled", version=2))
    considered(incentives, sample("checkup"))
    assert points(incentives) == (0, 0)
    considered(incentives, sample("checkup", status="cancelled", version=2))
    assert points(incentives) == (0, 0)
    assert len(incentives.wallets.ledger.postings(0, 10)) == 2


def test_an_act_counts_once_its_consent_is_known(incentives: Incentives) -> None:
    """The same version, told again with the consent that was missing."""
    assert incentives.rewards.consider(sample("checkup"))[0].answer is Answer.NO_CONSENT
    assert answer(incentives, sample("checkup")) is Answer.GRANTED


def test_a_version_from_the_future_cannot_hide_those_to_come(embedded: Incentives) -> None:
    """A date of change years ahead is refused, with a body and without."""
    body = sample("checkup")
    body["meta"]["lastUpdated"] = "2036-01-05T08:00:00Z"
    with pytest.raises(RefusedError):
        considered(embedded, body)
    with pytest.raises(RefusedError):
        embedded.rewards.retract("Appointment/example", datetime(2036, 1, 1, tzinfo=UTC), "9")
    assert answer(embedded, sample("checkup")) is Answer.GRANTED


# --- trying -----------------------------------------------------------------------------------------------


def test_a_preview_says_what_would_be_done_and_does_nothing(incentives: Incentives) -> None:
    """Granting, standing, cooling, reversing, superseded, unmet, no consent: word for word what then happens."""
    consents = [sample("consent")]
    steps: list[tuple[dict[str, Any], list[dict[str, Any]]]] = [
        (sample("checkup"), []),
        (sample("checkup"), consents),
        (sample("checkup"), consents),
        (checkup(7, "2026-01-04"), consents),
        (sample("checkup-booked", id="booked"), consents),
        (sample("checkup", version=5, patient="Patient/other"), [sample("consent", patient="Patient/other")]),
        (sample("checkup", version=2), consents),
        (sample("checkup", status="entered-in-error", version=6), consents),
        (sample("encounter"), consents),
    ]
    for body, given in steps:
        before = len(incentives.wallets.ledger.postings(0, 100))
        foreseen = [incentives.rewards.preview(body, given) for _ in range(2)]
        assert len(incentives.wallets.ledger.postings(0, 100)) == before
        assert foreseen == [incentives.rewards.consider(body, given)] * 2


def test_a_preview_knows_caps_and_budget_and_refuses_as_the_real_thing(
    ledger: Ledger, isolation: Isolation, tmp_path: Path
) -> None:
    """The patient's cap, an empty budget, and a version that was seen with another content."""
    folder = changed(tmp_path, points={"patient_cap": {"points": 200, "days": 365}, "budget": 350})
    incentives = opened(ledger, isolation, folder)
    consents = [sample("consent"), sample("consent", id="c2", patient="Patient/other")]
    incentives.rewards.consider(sample("plan"), consents)
    assert incentives.rewards.preview(sample("steps"), consents)[0].answer is Answer.CAPPED
    incentives.rewards.consider(sample("goal", patient="Patient/other"), consents)
    body = sample("dispense", patient="Patient/other")
    assert incentives.rewards.preview(body, consents)[0].answer is Answer.BUDGET
    with pytest.raises(KeyConflictError):
        incentives.rewards.preview(sample("plan", title="another"), consents)
    incentives.close()


# --- time -----------------------------------------------------------------------------------------------


def test_points_expire_oldest_first_and_what_was_spent_does_not(incentives: Incentives, clock: FakeClock) -> None:
    """Two years after the first grant what is left of it goes; the second's points stay; twice is once."""
    considered(incentives, sample("checkup"))
    clock.advance(30 * 86400)
    considered(incentives, sample("immunization"))
    incentives.redemptions.redeem(PATIENT, "pharmacy", "order-1", 60)
    clock.advance(timedelta(days=700).total_seconds())
    assert incentives.rewards.expire(PATIENT) == 0
    clock.advance(1)
    assert incentives.rewards.sweep() == ""
    assert points(incentives) == (80, 0)
    assert incentives.rewards.expire(PATIENT) == 0
    clock.advance(timedelta(days=30).total_seconds())
    assert incentives.rewards.expire(PATIENT) == 80
    assert incentives.wallets.ledger.balance("rewards:test:issued:points").units == -60


def test_a_sweep_goes_through_all_patients_in_parts(incentives: Incentives, clock: FakeClock) -> None:
    """Each part says where the next begins, and nobody is left out."""
    for number in range(5):
        patient = f"Patient/p{number}"
        body = sample("plan", id=f"plan-{number}", patient=patient)
        assert answer(incentives, body, sample("consent", patient=patient)) is Answer.GRANTED
    clock.advance(timedelta(days=731).total_seconds())
    place, parts = incentives.rewards.sweep("", 2), 1
    while place:
        place, parts = incentives.rewards.sweep(place, 2), parts + 1
    assert parts == 3
    assert incentives.wallets.ledger.balance("rewards:test:issued:points").units == 0


def test_an_insurer_sees_a_tier_with_consent_only(embedded: Incentives, clock: FakeClock) -> None:
    """Points of the last year that were not taken back decide; without consent nothing is said."""
    for name in ("checkup", "plan"):
        considered(embedded, sample(name))
    consents = [sample("consent")]
    tier = embedded.rewards.discount("Patient/example", "example-life", consents)
    assert (tier.points, tier.discount_basis_points) == (300, 200)
    considered(embedded, sample("plan", status="entered-in-error", version=2))
    assert embedded.rewards.discount("Patient/example", "example-life", consents).discount_basis_points == 0
    with pytest.raises(RefusedError):
        embedded.rewards.discount("Patient/example", "example-life", [])
    clock.advance(timedelta(days=366).total_seconds())
    assert embedded.rewards.discount("Patient/example", "example-life", consents).discount_basis_points == 0
