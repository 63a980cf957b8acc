"""What the world is told of rewards: every kind occurs, is what its schema says, and names nobody and no act."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.money import CNY, Amount
from btt_bridge.settle import drain
from btt_bridge.settle.events import verify
from btt_bridge.settle.rewards import Incentives, events
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.rewards.conftest import ROOT, key_of, sample
from tests.settle.schemas import SCHEMAS, validator

FAMILIES: Final = ("btt.reward.", "btt.subscription.", "btt.arrangement.", "btt.saving.", "btt.fee.")
PATIENT: Final = key_of("Patient/example")


@pytest.fixture
def told(embedded: Incentives, clock: FakeClock) -> list[Any]:
    """Everything that can be told, one after another."""
    consents = [sample("consent")]
    for name in ("checkup", "plan", "goal"):
        embedded.rewards.consider(sample(name), consents)
    redemption = embedded.redemptions.redeem(PATIENT, "pharmacy", "order-77", 400)
    for name in ("checkup", "plan"):
        embedded.rewards.consider(sample(name, status="entered-in-error", version=2), consents)
    embedded.rewards.consider(sample("immunization"), consents)
    embedded.redemptions.undo(PATIENT, redemption.name)
    embedded.fees.refund(embedded.fees.subscribe("2026-01", 12).key)
    embedded.fees.arrange("pharmacy")
    embedded.fees.share_saving("example-life", "2025", Amount(123_457, CNY))
    embedded.fees.receive("partner:pharmacy:payable:cny", "bank-77", Amount(500, CNY))
    clock.advance(timedelta(days=731).total_seconds())
    embedded.rewards.sweep()
    signer, sink = Signer(Ed25519PrivateKey.generate()), MemorySink()
    drain(embedded.wallets.ledger, sink, signer, name="memory", source="urn:btt:bridge:test")
    for event in sink.events:
        verify(event, signer.public)
    assert len(sink.events) == len(embedded.wallets.ledger.postings(0, 100))
    return [json.loads(canonical(dict(event))) for event in sink.events]


def test_every_kind_occurs_and_is_what_its_schema_says(told: list[Any]) -> None:
    """One event for each posting, each valid, and a schema for each kind and no other."""
    assert {event["type"] for event in told} == set(events.KINDS)
    assert {name for name in SCHEMAS if name.startswith(FAMILIES)} == set(events.KINDS)
    for event in told:
        validator(event["type"]).validate(event)


@pytest.mark.parametrize("kind", events.KINDS)
def test_a_schema_lets_nothing_else_pass(told: list[Any], kind: str) -> None:
    """A word too many, each word too few, a number for text, or another kind's name."""
    event = next(event for event in told if event["type"] == kind)
    data = event["data"]
    spoiled: list[dict[str, Any]] = [{"type": "btt.reward.other.v1"}, {"data": {**data, "patient": "Patient/example"}}]
    spoiled += [{"data": {name: data[name] for name in data if name != missing}} for missing in data]
    spoiled += [{"data": {**data, "amount": {**data["amount"], "units": 5}}}]
    for change in spoiled:
        with pytest.raises(jsonschema.ValidationError):
            validator(kind).validate({**event, **change})


def test_no_person_no_resource_and_no_day_of_an_act_leaves(told: list[Any]) -> None:
    """Patients only by keyed digest; resources, orders and days by references that say nothing without the key."""
    text = json.dumps([{**event, "time": ""} for event in told])
    for secret in ("Patient", 'example"', "Appointment", "CarePlan", "order-77", "bank-77", "2026-01-05", "CHECKUP"):
        assert secret not in text
    assert PATIENT in text


def test_who_reads_only_the_events_can_follow_a_wallet_to_the_point(told: list[Any], embedded: Incentives) -> None:
    """Grants, reversals, redemptions, returns and expiry add up to what the ledger says: points and debt."""
    points = debt = 0
    for event in (one for one in told if one["type"].startswith("btt.reward.")):
        data = event["data"]
        units, repaid, owed = (int(x) for x in (data["amount"]["units"], data.get("repaid", 0), data.get("owed", 0)))
        gains = event["type"] in (events.GRANTED, events.RETURNED)
        points += units - repaid if gains else owed - units
        debt += owed - repaid
        assert points >= 0
        assert debt >= 0
    wallet = embedded.wallets.read(PATIENT)
    assert (points, debt) == (wallet.points, wallet.debt)


def test_the_shares_of_every_fee_sum_to_it_and_the_development_fund_has_one(told: list[Any]) -> None:
    """Of subscription, arrangement, redemption and saving alike."""
    fees = [(data.get("fee", data["amount"]), data["shares"]) for data in (e["data"] for e in told) if "shares" in data]
    assert len(fees) == 6
    for fee, shares in fees:
        assert sum(int(share["units"]) for share in shares) == int(fee["units"])
        assert int(next(share["units"] for share in shares if share["party"] == "development-fund")) > 0


def test_schemas_and_program_agree_on_names() -> None:
    """What a program may call a rule, a partner or a tier passes the schemas of the events that carry the name."""
    program = json.loads((Path(ROOT) / "mappings" / "rewards" / "schema.json").read_text())
    longest = int(program["$defs"]["name"]["pattern"].split(",")[1].split("}")[0])
    granted = SCHEMAS[events.GRANTED]["properties"]["data"]["properties"]["rule"]["pattern"]
    assert longest <= int(granted.split(",")[1].split("}")[0])
