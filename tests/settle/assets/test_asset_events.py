"""What the world is told of assets: every kind occurs, and is what its schema says."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.ledger import Ledger
from btt_bridge.money import CNY, Amount
from btt_bridge.settle import drain
from btt_bridge.settle import events as settle_events
from btt_bridge.settle.assets import Assets, Kind, events
from btt_bridge.settle.billing import Cause
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.schemas import SCHEMAS, validator

A, B, C = "hospital:a", "hospital:b", "investor:c"


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def told(assets: Assets, ledger: Ledger, clock: FakeClock, signer: Signer) -> list[Any]:
    """The signed events of a scanner to which everything has happened."""
    registry = assets.registry
    deed = registry.mint(Kind.EQUIPMENT, "a" * 64, A, 10, Amount(10_000_00, CNY), "simple", Amount(100, CNY))
    registry.trade(deed.id, "t1", A, C, 3, Amount(3000_00, CNY))
    registry.revalue(deed.id, "r1", "desk", Amount(11_000_00, CNY), A)
    registry.list_prominently(deed.id, "l1", A)
    assets.revenue.attest("a" * 64, "b" * 64)
    assets.revenue.pay(deed.id, "2026-01", B)
    assets.revenue.reverse(deed.id, "2026-01", Cause.DISPUTED)
    registry.fund(B, "bank-1", Amount(500_00, CNY))
    registry.withdraw(C, "bank-2", Amount(100, CNY))
    pool = assets.pools.open("scanners", deed.id, "active", A)
    assets.pools.join("scanners", "j1", B, Amount(1000_00, CNY))
    assets.pools.leave("scanners", "l1", B, ledger.balance(pool.owned_by(B)).units // 2)
    clock.advance(31 * 86400)
    assets.pools.charge("scanners", 1)
    sink = MemorySink()
    drain(ledger, sink, signer, name="memory", source="urn:btt:bridge:test", limit=1000)
    return [event for event in sink.events if event["type"].startswith("btt.asset.")]


def test_every_kind_occurs_and_is_what_its_schema_says(told: list[Any], signer: Signer) -> None:
    """Each is valid and signed, each kind has its schema and each schema its kind."""
    assert {event["type"] for event in told} == set(events.KINDS)
    assert {kind for kind in SCHEMAS if kind.startswith("btt.asset.")} == set(events.KINDS)
    for event in told:
        validator(event["type"]).validate(json.loads(canonical(dict(event))))
        settle_events.verify(event, signer.public)


def test_a_schema_lets_nothing_else_pass(told: list[Any]) -> None:
    """Each event with a word too many, one too few, or another kind's name is refused."""
    for kind in events.KINDS:
        event = next(event for event in told if event["type"] == kind)
        first = next(iter(event["data"]))
        fewer = {name: value for name, value in event["data"].items() if name != first}
        for data in ({**event["data"], "device": "x"}, fewer):
            with pytest.raises(jsonschema.ValidationError):
                validator(kind).validate({**event, "data": data})
        with pytest.raises(jsonschema.ValidationError):
            validator(kind).validate({**event, "type": "btt.asset.other.v1"})


def test_the_parts_of_each_fee_sum_to_it(told: list[Any]) -> None:
    """An accountant can check it from the event alone."""
    fees = [event["data"] for event in told if "fee" in event["data"]]
    assert len(fees) == 5
    for data in fees:
        assert sum(int(part["units"]) for part in data["parts"]) == int(data["fee"]["units"]) > 0
