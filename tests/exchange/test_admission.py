"""Who is let in: known keys in their time, and each signed request once."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from btt_bridge.config import BridgeKey, NodeKey
from btt_bridge.errors import PeerRefusedError, SignatureError
from btt_bridge.exchange.admission import Admission
from btt_bridge.signing import Signer, canonical, sign_request
from btt_bridge.testing import FakeClock
from tests.exchange.pool_parts import START, new_signer

NOTHING = hashlib.sha256().hexdigest()
BRIDGE, NODE, OLD = new_signer(), new_signer(), new_signer()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(START)


@pytest.fixture
def admission(database_url: str, clock: FakeClock) -> Iterator[Admission]:
    """An exchange that knows one bridge by its new key and, for an hour, by its old one, and one node."""
    made = Admission(
        database_url,
        [
            BridgeKey(bridge_id="hospital", public_key=BRIDGE.public),
            BridgeKey(bridge_id="hospital", public_key=OLD.public, valid_until=START + timedelta(hours=1)),
        ],
        [NodeKey(public_key=NODE.public)],
        clock_skew_seconds=120,
        clock=clock,
    )
    yield made
    made.close()


def header(signer: Signer, clock: FakeClock, off_seconds: float = 0) -> str:
    return sign_request(signer, "GET", "/changes?after=1", NOTHING, clock.now() + timedelta(seconds=off_seconds))


def test_bridges_and_nodes_are_told_apart(admission: Admission, clock: FakeClock) -> None:
    """Each is known by its key, and neither passes for the other."""
    bridge, digest = admission.check(header(BRIDGE, clock), "GET", "/changes?after=1")
    node, _ = admission.check(header(NODE, clock), "GET", "/changes?after=1")
    assert (bridge.bridge_id, node.node_id, digest) == ("hospital", NODE.public, NOTHING)
    with pytest.raises(PeerRefusedError):
        _ = bridge.node_id
    with pytest.raises(PeerRefusedError):
        _ = node.bridge_id


def test_a_request_is_taken_once(admission: Admission, clock: FakeClock) -> None:
    """Replayed at once, later, or after the exchange has forgotten old nonces, a request is refused."""
    taken = header(BRIDGE, clock)
    admission.check(taken, "GET", "/changes?after=1")
    for seconds in (0, 119, 1, 400):
        clock.advance(seconds)
        admission.forget()
        with pytest.raises(SignatureError):
            admission.check(taken, "GET", "/changes?after=1")


def test_a_replay_is_refused_by_another_process(admission: Admission, database_url: str, clock: FakeClock) -> None:
    """What one process has taken, another on the same database, or the same started again, does not take."""
    taken = header(NODE, clock)
    admission.check(taken, "GET", "/changes?after=1")
    other = Admission(database_url, [], [NodeKey(public_key=NODE.public)], clock_skew_seconds=120, clock=clock)
    with pytest.raises(SignatureError, match="before"):
        other.check(taken, "GET", "/changes?after=1")
    other.close()


@pytest.mark.parametrize("off_seconds", [-600, -121, 121, 600])
def test_clocks_may_differ_so_far(admission: Admission, clock: FakeClock, off_seconds: float) -> None:
    """Ten minutes of skew either way are refused, the configured two are not."""
    with pytest.raises(SignatureError, match="clocks"):
        admission.check(header(BRIDGE, clock, off_seconds), "GET", "/changes?after=1")
    admission.check(header(BRIDGE, clock, 119 if off_seconds > 0 else -119), "GET", "/changes?after=1")


def test_an_old_key_ends_with_its_window(admission: Admission, clock: FakeClock) -> None:
    """During a change of keys both hold; after its moment the old one is refused, the new one is not."""
    assert admission.check(header(OLD, clock), "GET", "/changes?after=1")[0].bridge_id == "hospital"
    clock.advance(3600)
    with pytest.raises(SignatureError, match="valid"):
        admission.check(header(OLD, clock), "GET", "/changes?after=1")
    assert admission.check(header(BRIDGE, clock), "GET", "/changes?after=1")[0].bridge_id == "hospital"


def test_another_request_was_signed(admission: Admission, clock: FakeClock) -> None:
    """A signature holds for its method and its target with its query, and for no other."""
    for method, target in (("POST", "/changes?after=1"), ("GET", "/changes"), ("GET", "/changes?after=2")):
        with pytest.raises(SignatureError, match="another"):
            admission.check(header(BRIDGE, clock), method, target)


def _altered(clock: FakeClock) -> str:
    envelope = json.loads(base64.urlsafe_b64decode(header(NODE, clock).removeprefix("BTT ")))
    return "BTT " + base64.urlsafe_b64encode(canonical(envelope | {"key": BRIDGE.public})).decode()


def test_strangers_and_rubbish_are_refused(admission: Admission, clock: FakeClock) -> None:
    """No header, another scheme, no base64, no JSON, a stranger's key or somebody else's name: all the same answer."""
    rubbish = ["", "Bearer x", "BTT", "BTT !", "BTT " + base64.urlsafe_b64encode(b"[]").decode(), "BTT \xff"]
    for text in [*rubbish, header(new_signer(), clock), _altered(clock)]:
        with pytest.raises(SignatureError):
            admission.check(text, "GET", "/changes?after=1")
