"""The part of FHIRPath that rules may use: it answers, or says that it cannot, and never runs away."""

from __future__ import annotations

import json
from typing import Any

import pytest

from btt_bridge.settle.rewards.conditions import FUNCTIONS, Question, Verdict, flaws, judge, resources
from tests.settle.rewards.conftest import sample


def judged(body: dict[str, Any], when: str, day: str = "") -> Verdict:
    (verdict,) = judge(json.dumps(body).encode(), [Question(when, day)])
    return verdict


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ("status = 'final'", True),
        ("status = 'preliminary'", False),
        ("value.ofType(Quantity).value >= 7000", True),
        ("value.ofType(Quantity).value > 0.1 + 0.2 - 0.3", True),
        ("value.ofType(string).exists()", False),
        ("bodySite.text = 'arm'", False),
        ("code.coding", None),
        ("status", None),
        ("value.ofType(Quantity).value / 0 > 1", False),
    ],
)
def test_a_condition_is_true_false_or_has_no_answer(when: str, holds: bool | None) -> None:
    """What is empty is no; what is many, or no truth value, is neither; and none of these is taken for a yes."""
    assert judged(sample("steps"), when).holds is holds


def test_the_day_is_read_only_where_the_condition_holds_and_only_one() -> None:
    """As the resource writes it."""
    assert judged(sample("steps"), "true", "effective.ofType(dateTime)").day.startswith("2026-01-05")
    assert judged(sample("steps"), "false", "effective.ofType(dateTime)").day == ""
    assert judged(sample("checkup"), "true", "start | created").day in ("", sample("checkup")["start"])


@pytest.mark.parametrize("body", [{"resourceType": "Observation"}, {"status": ["final"]}, {"value": {"value": {}}}])
def test_a_resource_of_another_shape_has_no_answer_and_does_no_harm(body: dict[str, Any]) -> None:
    """Whatever a stranger sends is at most unclear."""
    assert judged(body, "value.ofType(Quantity).value >= 7000").holds in (None, False)


@pytest.mark.parametrize(
    "expression",
    [
        "a" * 1001,
        "(" * 400 + "true" + ")" * 400,
        " and ".join(["true"] * 190),
        "status = 'x' $",
        "status = 'x",
        "'",
        "",
    ],
    ids=["long", "deep", "many", "trailing", "open-quote", "a-quote", "empty"],
)
def test_what_is_too_much_or_no_expression_is_said_so(expression: str) -> None:
    """The library's own parser would have guessed and gone on."""
    assert flaws(expression, "Observation")


def test_nothing_that_asks_the_clock_loops_or_matches_is_known() -> None:
    """The same resource gets the same answer for ever, and soon."""
    for name in ("now", "today", "matches", "replaceMatches", "repeat", "trace", "resolve", "aggregate", "iif"):
        assert name not in FUNCTIONS
        assert flaws(f"status.{name}()", "Observation")


def test_resources_are_those_of_fhir_r4() -> None:
    """Resources yes; data types and abstract ones no."""
    assert {"Appointment", "Consent", "MedicationDispense"} <= resources()
    assert resources().isdisjoint({"Quantity", "CodeableConcept", "Resource", "DomainResource", "BackboneElement"})
    assert flaws("true", "Quantity")
