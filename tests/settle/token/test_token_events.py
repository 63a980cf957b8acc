"""What the world is told of the token: every kind occurs, and is what its schema says."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.ledger import Ledger
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import drain
from btt_bridge.settle import events as settle_events
from btt_bridge.settle.billing import Cause
from btt_bridge.settle.token import Choice, Institution, Reach, Recover, Spend, Token, events
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.schemas import SCHEMAS, validator

E18: Final = 10**18
DAY: Final = 86400
HOLDER: Final = "investor:bithive"


@pytest.fixture
def told(token: Token, ledger: Ledger, clock: FakeClock) -> list[Any]:
    """The signed events of a token to which everything has happened."""
    token.supply.release()
    token.supply.mine(1, {"n1": 2, "n2": 1})
    token.supply.burn(HOLDER, "b1", Amount(E18, BTT))
    token.stakes.stake(HOLDER, "s1", 100 * E18, "none")
    token.dedications.dedicate(HOLDER, "main")
    clock.advance(8 * DAY)
    actions = [Spend("unallocated", "hospital:x", E18), Reach("technical-development-foundation", "image-analysis")]
    for number, action in enumerate(actions):
        proposal = token.governance.propose(HOLDER, f"p{number}", action).id
        token.governance.vote(proposal, HOLDER, Choice.YES)
        clock.advance(9 * DAY)
        token.governance.close(proposal)
    token.governance.propose(HOLDER, "p9", Recover(proposal))
    token.stakes.end(HOLDER, 1)
    token.referrals.refer(Institution("hospital:a", "a"), Institution("hospital:b", "b"), 0)
    token.referrals.reward("hospital:b", 1)
    token.supply.reverse("mining:1:n2", Cause.DISPUTED)
    sink = MemorySink()
    drain(ledger, sink, Signer(Ed25519PrivateKey.generate()), name="memory", source="urn:btt:bridge:test", limit=1000)
    return sink.events


def test_every_kind_occurs_and_is_what_its_schema_says(told: list[Any], ledger: Ledger) -> None:
    """One event for each posting, each valid, each kind with its schema and each schema with its kind."""
    assert len(told) == len(ledger.postings(0, 1000))
    assert {event["type"] for event in told} == set(events.KINDS)
    assert {kind for kind in SCHEMAS if kind.startswith("btt.token.")} == set(events.KINDS)
    for event in told:
        validator(event["type"]).validate(json.loads(canonical(dict(event))))
        settle_events.verify(event, json.loads(_header(event))["kid"])


def _header(event: Any) -> bytes:
    return base64.urlsafe_b64decode(event["signature"].split(".")[0] + "==")


def test_a_schema_lets_nothing_else_pass(told: list[Any]) -> None:
    """Each event with a word too many, one too few, or another kind's name is refused."""
    for kind in events.KINDS:
        event = next(event for event in told if event["type"] == kind)
        first = next(iter(event["data"]))
        fewer = {name: value for name, value in event["data"].items() if name != first}
        for data in ({**event["data"], "holder_name": "x"}, fewer):
            with pytest.raises(jsonschema.ValidationError):
                validator(kind).validate({**event, "data": data})
        with pytest.raises(jsonschema.ValidationError):
            validator(kind).validate({**event, "type": "btt.token.other.v1"})
