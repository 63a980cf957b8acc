"""What the world is told: every kind described by its schema, signed, and nothing of a document or a person."""

from __future__ import annotations

import json
from typing import Any, Final

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.money import CNY, Amount
from btt_bridge.records import Outcome
from btt_bridge.settle import drain
from btt_bridge.settle.events import verify
from btt_bridge.settle.payfi import Clearing, events
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.payfi.house import PATIENT, opaque, payment, said
from tests.settle.payfi.test_clearing import quoted
from tests.settle.schemas import SCHEMAS, validator

KINDS: Final = {events.FUNDED, events.INSTRUCTED, events.NETTED, events.SETTLED, events.RETURNED}


@pytest.fixture
def told(embedded: Clearing, clock: FakeClock) -> list[Any]:
    """Everything that can be told, in one day: converted, set off, settled, returned early and late."""
    embedded.fund(PATIENT, Amount(5000, CNY), "in")
    embedded.instruct(payment("Claim/1", 10_000, payee="party:berlin"), quoted(embedded, clock))
    embedded.instruct(payment("Invoice/jane", 5000, payer=PATIENT))
    embedded.instruct(payment("Claim/2", 1000, "party:east", "party:west"))
    clock.advance(90)
    batch = embedded.close(early=True)
    assert batch is not None
    berlin, east, west = batch.legs
    embedded.confirm(said(berlin))
    embedded.confirm(said(east, Outcome.RETURNED, "AC01"))
    clock.advance(10)
    embedded.confirm(said(west))
    embedded.confirm(said(west, Outcome.RETURNED, "AC04"))
    signer, sink = Signer(Ed25519PrivateKey.generate()), MemorySink()
    drain(embedded.ledger, sink, signer, name="memory", source="urn:btt:bridge:test")
    for event in sink.events:
        verify(event, signer.public)
    return [json.loads(canonical(dict(event))) for event in sink.events]


def test_every_kind_is_told_and_is_what_its_schema_says(told: list[Any]) -> None:
    """Each kind occurs, each event is valid, and there is a schema for each kind and no other."""
    assert {event["type"] for event in told} == KINDS
    assert {name for name in SCHEMAS if name.startswith("btt.payfi.")} == KINDS
    for event in told:
        validator(event["type"]).validate(event)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (events.FUNDED, {"party": "Patient/jane"}),
        (events.FUNDED, {"reference": "bank-1"}),
        (events.INSTRUCTED, {"payer": "Patient/jane"}),
        (events.INSTRUCTED, {"gross": {"units": 10, "asset": "CNY", "scale": 2}}),
        (events.INSTRUCTED, {"document": "Claim/1"}),
        (events.NETTED, {"positions": []}),
        (events.NETTED, {"payments": 0}),
        (events.SETTLED, {"payments": []}),
        (events.SETTLED, {"seconds": 5}),
        (events.RETURNED, {"reason": "Jane has moved"}),
        (events.RETURNED, {"after_settlement": None}),
    ],
)
def test_the_schemas_refuse_what_is_not_such_an_event(told: list[Any], kind: str, change: dict[str, Any]) -> None:
    """A schema that lets everything pass would prove nothing."""
    event = next(event for event in told if event["type"] == kind)
    with pytest.raises(jsonschema.ValidationError):
        validator(kind).validate(event | {"data": event["data"] | change})


def test_the_figures_add_up_for_whoever_reads_only_the_events(told: list[Any]) -> None:
    """Gross less fees is net at the rate told; positions sum to zero; payouts and set-off are what was netted."""
    for event in told:
        data = event["data"]
        if event["type"] == events.INSTRUCTED:
            rest = int(data["gross"]["units"]) - sum(int(fee["units"]) for fee in data["fees"])
            rate = data.get("rate", {"numerator": "1", "denominator": "1"})
            assert int(data["net"]["units"]) == rest * int(rate["numerator"]) // int(rate["denominator"])
        if event["type"] == events.NETTED:
            for asset in ("CNY", "EUR"):
                assert sum(int(p["units"]) for p in data["positions"] if p["asset"] == asset) == 0
            assert data["payments"] == 3
        if event["type"] == events.SETTLED:
            assert {payment["seconds"] for payment in data["payments"]} <= {90, 100}
    (batch,) = (event["data"] for event in told if event["type"] == events.NETTED)
    asked = {event["data"]["payment"] for event in told if event["type"] == events.INSTRUCTED}
    resolved = [event["data"] for event in told if event["type"] in (events.SETTLED, events.RETURNED)]
    assert {one["order"] for one in resolved} == {payout["order"] for payout in batch["payouts"]}
    assert asked == {p if isinstance(p, str) else p["payment"] for one in resolved for p in one["payments"]}
    assert [one["after_settlement"] for one in resolved if "reason" in one] == [False, True]


def test_no_document_leaves_and_a_person_only_by_digest(told: list[Any]) -> None:
    """Neither the name of a document, nor even its keyed digest."""
    text = json.dumps(told)
    for secret in ("Claim", "Invoice", "jane", "a patient", opaque("Claim/1"), opaque("Invoice/jane")):
        assert secret not in text
    assert PATIENT in text
