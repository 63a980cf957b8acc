"""Events: each kind documented by a schema, signed, numbered, and free of patients and studies."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.config import Settings
from btt_bridge.errors import SignatureError
from btt_bridge.ledger import Ledger
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Charge, Urgency
from btt_bridge.settle import Billing, Cause, FileSink, drain, events, open_billing
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.settle.schemas import SCHEMAS, validator

ROOT: Final = Path(__file__).parents[2]
KINDS: Final = (events.HELD, events.CHARGED, events.VOIDED, events.REFUNDED, events.PAID)
STUDY_UID: Final = "1.2.840.113619.2.55.3"
STUDY: Final = hmac.new(b"key", STUDY_UID.encode(), hashlib.sha256).hexdigest()
BILL: Final = Charge(Amount(501, CNY), "btt-2025", 123_456_789, 65_011_712, 130_000_001, Urgency.STAT, "gpu", 5, 26)


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@pytest.fixture
def billing(tmp_path: Path) -> Iterator[Billing]:
    """A ledger in which everything that tells an event has happened, one study after another."""
    clock = FakeClock()
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)
    settings = Settings(mappings_dir=ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    billing = open_billing(settings, ledger)
    soon = clock.now() + timedelta(minutes=30)
    billing.hold(STUDY, "ct-lung", BILL, soon)
    billing.post(STUDY, "ct-lung", BILL, "n1")
    billing.refund(STUDY, "ct-lung", Cause.DISPUTED)
    billing.hold("a" * 64, "ct-lung", BILL, soon)
    billing.void("a" * 64, "ct-lung", Cause.NOT_DELIVERED)
    billing.receive("invoice-1", Amount(100, CNY))
    billing.hold("b" * 64, "ct-lung", BILL, soon)
    clock.advance(86400)
    billing.expire()
    yield billing
    ledger.close()


def drained(billing: Billing, signer: Signer, sink: MemorySink, limit: int = 100) -> int:
    return drain(billing.ledger, sink, signer, name="memory", source="urn:btt:bridge:test", limit=limit)


def test_every_posting_tells_one_event_that_its_schema_describes(billing: Billing, signer: Signer) -> None:
    """Each posting has its event, each kind occurs, each is valid, and each schema has its kind."""
    sink = MemorySink()
    assert drained(billing, signer, sink) == len(billing.ledger.postings(0, 100)) == 8
    assert {event["type"] for event in sink.events} == set(KINDS)
    assert {kind for kind in SCHEMAS if kind.startswith("btt.compute.")} == set(KINDS)
    for event in sink.events:
        validator(event["type"]).validate(json.loads(canonical(dict(event))))


def test_the_schemas_refuse_what_is_not_an_event(billing: Billing, signer: Signer) -> None:
    """A schema that lets everything pass would prove nothing: each spoiled field is refused."""
    sink = MemorySink()
    drained(billing, signer, sink)
    charged = next(event for event in sink.events if event["type"] == events.CHARGED)
    spoiled: list[dict[str, Any]] = [
        {"id": "1"},
        {"sequence": 1},
        {"type": events.HELD},
        {"signature": ""},
        {"data": {**charged["data"], "study": STUDY_UID}},
        {"data": {**charged["data"], "amount": {"units": 501, "asset": "CNY", "scale": 2}}},
        {"data": {**charged["data"], "shares": []}},
        {"extra": 1},
    ]
    for change in spoiled:
        with pytest.raises(jsonschema.ValidationError):
            validator(events.CHARGED).validate({**charged, **change})


def test_an_event_says_what_was_charged_and_who_got_what(billing: Billing, signer: Signer) -> None:
    """The money is text of whole minor units, and the shares sum to it."""
    sink = MemorySink()
    drained(billing, signer, sink)
    charged = next(event for event in sink.events if event["type"] == events.CHARGED)
    assert charged["data"]["amount"] == {"units": "501", "asset": "CNY", "scale": 2}
    assert {share["party"]: share["units"] for share in charged["data"]["shares"]} == {
        "contributors": "351",
        "development-fund": "75",
        "foundation": "50",
        "operational-reserve": "25",
    }
    bills = [event["data"].get("bill") for event in sink.events]
    assert bills[0] == bills[1] == bills[2] != bills[3] == bills[4]


def test_no_study_and_no_size_of_one_leaves(billing: Billing, signer: Signer) -> None:
    """Neither the UID, nor even its keyed digest, nor the facts that could tell one study from another."""
    sink = MemorySink()
    drained(billing, signer, sink)
    told = canonical([dict(event) for event in sink.events]).decode()
    for secret in (STUDY_UID, STUDY, "a" * 64, "b" * 64, "123456789", "65011712", "130000001"):
        assert secret not in told


def test_events_of_an_account_are_numbered_without_gaps_and_named_once(billing: Billing, signer: Signer) -> None:
    """A consumer can tell a gap, a repeat and an overtaking."""
    sink = MemorySink()
    drained(billing, signer, sink)
    assert [int(event["sequence"]) for event in sink.events] == list(range(1, 9))
    assert {event["subject"] for event in sink.events} == {"hospital:test:payable:cny"}
    assert len({event["id"] for event in sink.events}) == 8


def test_a_signature_is_a_detached_jws_over_everything_else(billing: Billing, signer: Signer) -> None:
    """Verified here by the letter of RFC 7515 and RFC 8037, with none of our code."""
    sink = MemorySink()
    drained(billing, signer, sink)
    event = dict(sink.events[0])
    header, empty, signature = event.pop("signature").split(".")
    assert empty == ""
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {"alg": "EdDSA", "kid": signer.public}
    plain = json.dumps(event, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    payload = base64.urlsafe_b64encode(plain).rstrip(b"=").decode()
    signer.key.public_key().verify(base64.urlsafe_b64decode(signature + "=="), f"{header}.{payload}".encode())


def test_a_changed_event_or_another_signer_is_refused(billing: Billing, signer: Signer) -> None:
    """Whatever is altered, in the event, its header or its signature, it does not verify."""
    sink, other = MemorySink(), Signer(Ed25519PrivateKey.generate())
    drained(billing, signer, sink)
    event = sink.events[1]
    events.verify(event, signer.public)
    header, _, signature = event["signature"].split(".")
    none = base64.urlsafe_b64encode(canonical({"alg": "none", "kid": signer.public})).rstrip(b"=").decode()
    changes: list[dict[str, Any]] = [
        {"subject": "hospital:other:payable:cny"},
        {"sequence": "000000000099"},
        {"data": {**event["data"], "amount": {"units": "1", "asset": "CNY", "scale": 2}}},
        {"extra": 1},
        {"signature": f"{none}..{signature}"},
        {"signature": f"{none}.."},
        {"signature": f"{header}..{signature[:-4]}AAAA"},
        {"signature": f"{header}.e30.{signature}"},
        {"signature": signature},
        {"signature": None},
    ]
    for change in changes:
        with pytest.raises(SignatureError):
            events.verify({**event, **change}, signer.public)
    with pytest.raises(SignatureError):
        events.verify(event, other.public)


# --- the outbox -----------------------------------------------------------------------------------------


def test_a_sink_that_fails_keeps_its_place_and_nothing_overtakes(billing: Billing, signer: Signer) -> None:
    """What it took is not repeated, what it refused comes first next time, and each sink has its own place."""
    sink = MemorySink()
    assert drained(billing, signer, sink, limit=2) == 2
    sink.failures_left = 1
    with pytest.raises(OSError, match="down"):
        drained(billing, signer, sink)
    assert drained(billing, signer, sink) == 6
    assert drained(billing, signer, sink) == 0
    assert [int(event["sequence"]) for event in sink.events] == list(range(1, 9))
    other = MemorySink()
    assert drain(billing.ledger, other, signer, name="other", source="urn:btt:bridge:test") == 8
    assert other.events == sink.events


def test_a_replay_from_any_point_gives_the_same_bytes(billing: Billing, signer: Signer) -> None:
    """Set back to any position, the outbox tells the rest again, to the byte."""
    sink = MemorySink()
    drained(billing, signer, sink)
    billing.ledger.set_position("memory", int(sink.events[4]["position"]))
    assert drained(billing, signer, sink) == 3
    assert sink.events[8:] == sink.events[5:8]


def test_a_file_holds_one_event_a_line_and_heals_a_torn_one(billing: Billing, signer: Signer, tmp_path: Path) -> None:
    """Half a line, as a crash leaves it, is cut off before the next is written; whole lines stay."""
    path = tmp_path / "events" / "events.jsonl"
    sink = FileSink(path)
    assert drain(billing.ledger, sink, signer, name="file", source="urn:btt:bridge:test", limit=3) == 3
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"specversion":"1.0","id":"half' + b"x" * 100_000)
    assert drain(billing.ledger, sink, signer, name="file", source="urn:btt:bridge:test") == 5
    assert path.read_bytes().startswith(whole)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [int(line["sequence"]) for line in lines] == list(range(1, 9))
    for line in lines:
        events.verify(line, signer.public)


def test_a_file_that_is_one_torn_line_starts_anew(tmp_path: Path) -> None:
    """The very first write may have been the one that the crash cut short."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"half')
    FileSink(path).emit({"id": "1"})
    assert path.read_bytes() == b'{"id":"1"}\n'
