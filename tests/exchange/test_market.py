"""The market on SQLite and on PostgreSQL: who gets what, what a lease is worth, and what its loss costs."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from btt_bridge import parcel, priority
from btt_bridge.config import Exchange
from btt_bridge.errors import (
    BridgeError,
    CapacityError,
    KeyConflictError,
    LeaseLostError,
    MalformedError,
    OfferExpiredError,
    PeerRefusedError,
    TooLargeError,
    UnknownError,
)
from btt_bridge.exchange import Market
from btt_bridge.parcel import Shelf
from btt_bridge.records import Hardware, Lease, Offer, Tier, Urgency, from_body, to_body
from btt_bridge.signing import Signer, verify
from btt_bridge.testing import FakeClock
from tests.exchange.pool_parts import START, FakeNode, new_signer, offer_for, put

BRIDGE = new_signer()
LIMITS = Exchange(attempts_max=3, lease_seconds=30, ban_seconds=10)


class Pit:
    """A market with a clock, a shelf with one parcel, and what its bell rang."""

    def __init__(self, database_url: str, folder: Path, limits: Exchange = LIMITS) -> None:
        self.clock = FakeClock(START)
        self.shelf = Shelf(str(folder / "parcels"))
        self.digest, self.size_bytes = put(self.shelf, {"a": b"content"}, parcel.new_key())
        self.result, _ = put(self.shelf, {"result.json": b"{}"}, parcel.new_key())
        self.rung: list[tuple[str, str]] = []
        self.limits = limits
        self.market = self._market(database_url)
        self._url = database_url

    def _market(self, database_url: str) -> Market:
        ring: Callable[[str, str], None] = lambda node_id, offer_id: self.rung.append((node_id, offer_id))  # noqa: E731
        return Market(database_url, self.shelf, self.limits, ring=ring, clock=self.clock)

    def restart(self) -> None:
        self.market.close()
        self.market = self._market(self._url)

    def join(self, tier: Tier = Tier.PUBLIC, *, admitted: Tier | None = None, **told: Any) -> FakeNode:
        node = FakeNode(tier=tier, **told)
        self.market.join(node.card, node.signed_card, admitted or tier, "hospital")
        return node

    def offer(self, **changed: Any) -> Offer:
        offer = offer_for(self.digest, self.size_bytes, **changed)
        self.market.offer(offer.bridge_id, offer, BRIDGE.sign("offer", to_body(offer)))
        return offer

    def take(self, node: FakeNode, lease_id: str = "") -> Lease | None:
        granted = self.market.take(node.node_id, lease_id or uuid.uuid4().hex)
        return from_body(Lease, granted["lease"]) if granted else None

    def lease(self, node: FakeNode) -> Lease:
        lease = self.take(node)
        assert lease is not None
        return lease

    def keyed(self, node: FakeNode) -> Lease:
        lease = self.lease(node)
        self.market.place_key("hospital", lease.offer_id, lease.fencing_token, "00")
        return lease

    def hand_in(self, node: FakeNode, offer: Offer, lease: Lease, **changed: Any) -> str:
        receipt = replace(node.receipt(offer, lease, self.result), **changed)
        return self.market.compute(receipt, node.sign_receipt(receipt))

    def computed(self, node: FakeNode, offer: Offer) -> Lease:
        lease = self.keyed(node)
        assert self.hand_in(node, offer, lease) == "computed"
        return lease

    def state(self, offer: Offer) -> str:
        return str(self.market.standing("hospital", offer.offer_id)["state"])

    def kinds(self, offer: Offer, after: int = 0) -> list[str]:
        return [
            change["kind"] for change in self.market.changes("hospital", after) if change["offer_id"] == offer.offer_id
        ]

    def later(self, seconds: float) -> None:
        self.clock.instant += timedelta(seconds=seconds)


@pytest.fixture
def pit_of(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Pit]]:
    """Makes a market with limits of the test's own."""
    pits = []

    def make(limits: Exchange = LIMITS) -> Pit:
        pits.append(Pit(database_url, tmp_path, limits))
        return pits[-1]

    yield make
    for pit in pits:
        pit.market.close()


@pytest.fixture
def pit(pit_of: Callable[..., Pit]) -> Pit:
    """A market with ordinary limits."""
    return pit_of()


# --- the straight way -----------------------------------------------------------------------------------


def test_an_offer_goes_its_way(pit: Pit) -> None:
    """Offered, leased, keyed, computed, accepted: each step is told to the bridge, with what it needs for the next."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.computed(node, offer)
    assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "") == "accepted"
    changes = pit.market.changes("hospital", 0)
    assert [change["kind"] for change in changes] == ["opened", "leased", "keyed", "computed", "accepted"]
    assert [change["cursor"] for change in changes] == sorted(change["cursor"] for change in changes)
    leased, computed = changes[1]["body"], changes[3]["body"]
    assert from_body(Lease, leased["lease"]) == from_body(Lease, computed["lease"]) == lease
    assert leased["node"] == computed["node"] == node.signed_card
    assert computed["receipt"]["kind"] == "receipt"
    assert computed["size_bytes"] == pit.shelf.size(pit.result)
    assert pit.market.changes("hospital", changes[2]["cursor"]) == changes[3:]


def test_every_step_may_be_repeated(pit: Pit) -> None:
    """A lost answer is asked for again: offer, lease, key, receipt and verdict have their effect once."""
    node = pit.join()
    offer = pit.offer()
    envelope = BRIDGE.sign("offer", to_body(offer))
    assert pit.market.offer("hospital", offer, envelope) == "open"
    lease_id = uuid.uuid4().hex
    lease = pit.take(node, lease_id)
    assert lease is not None
    assert pit.take(node, lease_id) == lease
    for wrapped in ("00", "11"):
        assert pit.market.place_key("hospital", offer.offer_id, lease.fencing_token, wrapped) == "keyed"
        assert pit.market.key(node.node_id, lease_id) == "00"
    for _ in range(2):
        assert pit.hand_in(node, offer, lease) == "computed"
    for _ in range(2):
        assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "") == "accepted"
    assert pit.hand_in(node, offer, lease) == "accepted"
    assert pit.market.offer("hospital", offer, envelope) == "accepted"
    assert pit.kinds(offer) == ["opened", "leased", "keyed", "computed", "accepted"]


def test_a_restart_costs_nothing(pit: Pit) -> None:
    """The exchange that dies between any two steps goes on where it was."""
    node = pit.join()
    offer = pit.offer()
    pit.restart()
    lease = pit.lease(node)
    pit.restart()
    pit.market.place_key("hospital", offer.offer_id, lease.fencing_token, "00")
    pit.restart()
    assert pit.hand_in(node, offer, lease) == "computed"
    pit.restart()
    assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "") == "accepted"


# --- placement ------------------------------------------------------------------------------------------


def test_a_parcel_goes_no_farther_than_its_tier(pit: Pit) -> None:
    """A node of a farther tier than the offer allows never gets it; a nearer one does."""
    order = list(Tier)
    for offered in Tier:
        for held in Tier:
            node, offer = pit.join(held), pit.offer(tier=offered)
            taken = pit.take(node) is not None
            assert taken == (order.index(held) <= order.index(offered)), (offered, held)
            pit.market.withdraw("hospital", offer.offer_id)


def test_a_node_is_no_nearer_than_it_is_admitted(pit: Pit) -> None:
    """Claiming to be the hospital's own node does not make it one."""
    liar = pit.join(Tier.HOSPITAL, admitted=Tier.PUBLIC)
    pit.offer(tier=Tier.HOSPITAL)
    pit.offer(tier=Tier.CONTRACTED)
    assert pit.take(liar) is None


def test_another_hospitals_node_is_anybodys(pit: Pit) -> None:
    """A hospital's own node is near for that hospital alone."""
    node = pit.join(Tier.HOSPITAL)
    pit.offer(bridge_id="other", tier=Tier.HOSPITAL)
    pit.offer(bridge_id="other", tier=Tier.CONTRACTED)
    assert pit.take(node) is None
    public = pit.offer(bridge_id="other", tier=Tier.PUBLIC)
    assert pit.lease(node).offer_id == public.offer_id


def test_urgency_goes_first_and_age_second(pit: Pit) -> None:
    """Stat before urgent before routine; what has waited longer before what has not."""
    node = pit.join()
    offers = {}
    for name, urgency in (("r1", "routine"), ("u1", "urgent"), ("s1", "stat"), ("r2", "routine"), ("s2", "stat")):
        offers[pit.offer(urgency=Urgency(urgency)).offer_id] = name
        pit.later(1)
    wide = pit.join()
    taken = [offers[pit.lease(one).offer_id] for one in (node, node, wide, wide, node)]
    assert taken == ["s1", "s2", "u1", "r1", "r2"]


def test_what_a_node_cannot_do_it_does_not_get(pit: Pit) -> None:
    """Neither another service nor a parcel larger than it takes, nor one whose time is over."""
    node = pit.join(services=("other",))
    pit.offer()
    assert pit.take(node) is None
    small = FakeNode()
    card = replace(small.card, parcel_bytes_max=pit.size_bytes - 1)
    pit.market.join(card, small.signed_card, Tier.PUBLIC, "")
    assert pit.take(small) is None
    late = pit.join()
    pit.later(3601)
    assert pit.take(late) is None


def test_a_node_holds_so_many_leases_and_no_more(pit_of: Callable[..., Pit]) -> None:
    """Hoarding offers ends at the quota, and begins again when a lease is over."""
    pit = pit_of(Exchange(leases_per_node_max=2))
    node = pit.join()
    offers = [pit.offer() for _ in range(3)]
    first = pit.keyed(node)
    assert pit.take(node) is not None
    assert pit.take(node) is None
    pit.hand_in(node, next(offer for offer in offers if offer.offer_id == first.offer_id), first)
    assert pit.take(node) is not None


def test_two_nodes_that_ask_at_once_get_two_offers(pit: Pit) -> None:
    """However many ask at the same moment, each offer is leased once, and nobody gets an error."""
    nodes = [pit.join() for _ in range(8)]
    offers = {pit.offer().offer_id for _ in range(6)}
    together, taken = threading.Barrier(8), []

    def take(node: FakeNode) -> None:
        together.wait()
        taken.append(pit.take(node))

    threads = [threading.Thread(target=take, args=(node,)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 8
    assert sorted(lease.offer_id for lease in taken if lease) == sorted(offers)


def test_nodes_that_may_have_it_are_rung_for(pit: Pit) -> None:
    """An offer rings for nodes of its tier and service that are there, the fastest first, and for no other."""
    slow, fast = pit.join(benchmark=1), pit.join(benchmark=9)
    pit.join(services=("other",))
    gone = pit.join()
    pit.later(1000)
    for node in (slow, fast):
        pit.market.join(node.card, node.signed_card, Tier.PUBLIC, "")
    offer = pit.offer()
    assert pit.rung == [(fast.node_id, offer.offer_id), (slow.node_id, offer.offer_id)]
    assert gone.node_id not in {node_id for node_id, _ in pit.rung}
    pit.rung.clear()
    pit.offer(tier=Tier.HOSPITAL)
    assert pit.rung == []


def test_hardware_is_not_replaced_by_less(pit: Pit) -> None:
    """An offer for a GPU rings for nodes that have one and goes to no other, be it the hospital's own."""
    plain, own = pit.join(), pit.join(Tier.HOSPITAL)
    gpu = pit.join(hardware=Hardware.GPU)
    offer = pit.offer(hardware=Hardware.GPU)
    assert pit.rung == [(gpu.node_id, offer.offer_id)]
    assert pit.take(plain) is None
    assert pit.take(own) is None
    assert pit.lease(gpu).offer_id == offer.offer_id
    easy = pit.offer()
    assert pit.lease(gpu).offer_id == easy.offer_id


@pytest.mark.parametrize("hardware", list(Hardware))
def test_confidential_hardware_is_nobodys_word(pit: Pit, hardware: Hardware) -> None:
    """No node has it by saying so: the offer waits and expires, and standing and feed say for want of what."""
    node = pit.join(Tier.HOSPITAL, hardware=hardware)
    offer = pit.offer(hardware=Hardware.GPU_CONFIDENTIAL)
    assert pit.rung == []
    assert pit.take(node) is None
    pit.later(3600)
    assert pit.market.reap() == 1
    standing, told = pit.market.standing("hospital", offer.offer_id), pit.market.changes("hospital", 0)[-1]
    reason = "the deadline has passed, and no node with hardware gpu-confidential took the offer"
    assert (standing["state"], standing["reason"]) == ("expired", reason)
    assert (told["kind"], told["body"]) == ("expired", {"reason": reason})


def test_an_offer_only_becomes_narrower(pit: Pit) -> None:
    """A bridge may keep an offer to its own node from now on, and never the other way round."""
    public, own = pit.join(), pit.join(Tier.HOSPITAL)
    offer = pit.offer()
    assert pit.market.narrow("hospital", offer.offer_id, Tier.HOSPITAL) == "open"
    with pytest.raises(MalformedError):
        pit.market.narrow("hospital", offer.offer_id, Tier.PUBLIC)
    assert pit.take(public) is None
    assert pit.lease(own).offer_id == offer.offer_id


# --- leases that are lost -------------------------------------------------------------------------------


def test_a_late_node_is_refused_and_the_next_is_not_disturbed(pit: Pit) -> None:
    """Zombie: its lease lapsed and another node has the offer; whatever it then says is refused."""
    zombie, second = pit.join(), pit.join()
    offer = pit.offer()
    stale = pit.keyed(zombie)
    pit.later(31)
    assert pit.market.reap() == 1
    fresh = pit.keyed(second)
    assert fresh.fencing_token > stale.fencing_token
    assert (stale.attempt, fresh.attempt) == (1, 2)
    for act in (
        lambda: pit.hand_in(zombie, offer, stale),
        lambda: pit.hand_in(zombie, offer, stale, fencing_token=fresh.fencing_token),
        lambda: pit.market.beat(zombie.node_id, stale.lease_id, stale.fencing_token),
        lambda: pit.market.key(zombie.node_id, stale.lease_id),
        lambda: pit.market.may_write(zombie.node_id, stale.lease_id, stale.fencing_token),
        lambda: pit.market.fail(zombie.node_id, stale.lease_id, stale.fencing_token, "late"),
        lambda: pit.market.judge("hospital", offer.offer_id, stale.fencing_token, "accepted", ""),
    ):
        with pytest.raises(LeaseLostError):
            act()
    with pytest.raises(PeerRefusedError):
        pit.market.may_read(zombie.node_id, offer.parcel_digest)
    with pytest.raises(PeerRefusedError):
        pit.hand_in(zombie, offer, fresh)
    assert pit.hand_in(second, offer, fresh) == "computed"


def test_a_lease_is_over_when_its_time_is(pit: Pit) -> None:
    """Nobody needs to have reaped it: a lease past its time is not held."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.keyed(node)
    pit.later(30)
    with pytest.raises(LeaseLostError):
        pit.hand_in(node, offer, lease)


def test_heartbeats_keep_a_lease_until_the_deadline(pit: Pit) -> None:
    """A node that is heard of keeps its lease; the deadline ends it all the same."""
    node = pit.join()
    offer = pit.offer(deadline=START + timedelta(seconds=100))
    lease = pit.keyed(node)
    for _ in range(4):
        pit.later(20)
        assert pit.market.reap() == 0
        until = pit.market.beat(node.node_id, lease.lease_id, lease.fencing_token)
    assert until == START + timedelta(seconds=100)
    pit.later(20)
    assert pit.market.reap() == 1
    assert pit.state(offer) == "expired"


def test_attempts_are_spent(pit: Pit) -> None:
    """After the last attempt an offer fails, with the reason of that attempt."""
    offer = pit.offer()
    for attempt in range(1, 4):
        node = pit.join()
        lease = pit.lease(node)
        assert lease.attempt == attempt
        state = pit.market.fail(node.node_id, lease.lease_id, lease.fencing_token, f"no memory {attempt}")
        assert pit.market.fail(node.node_id, lease.lease_id, lease.fencing_token, "again") == state
    assert pit.state(offer) == "failed"
    last = pit.market.changes("hospital", 0)[-1]
    assert (last["kind"], last["body"]) == ("failed", {"reason": "no memory 3"})


def test_who_failed_an_offer_does_not_get_it_again_while_another_may(pit: Pit) -> None:
    """The same offer goes elsewhere; only where nobody else is left does it come back."""
    first, second = pit.join(), pit.join()
    offer = pit.offer()
    lease = pit.lease(first)
    pit.market.fail(first.node_id, lease.lease_id, lease.fencing_token, "no memory")
    assert pit.take(first) is None
    pit.later(1000)
    pit.market.join(first.card, first.signed_card, Tier.PUBLIC, "")
    again = pit.lease(first)
    assert (again.offer_id, again.attempt) == (offer.offer_id, 2)
    assert pit.take(second) is None


def test_a_node_too_far_is_nobody_else(pit: Pit) -> None:
    """A node that the tier does not allow does not keep the last one from trying again."""
    own = pit.join(Tier.HOSPITAL)
    pit.join(Tier.PUBLIC)
    offer = pit.offer(tier=Tier.HOSPITAL)
    lease = pit.lease(own)
    pit.market.fail(own.node_id, lease.lease_id, lease.fencing_token, "killed")
    assert pit.lease(own).offer_id == offer.offer_id


def test_griefers_wait_longer_each_time(pit: Pit) -> None:
    """Accept and never finish: from the second time running a node gets nothing for a while, then for twice that."""
    griefer = pit.join()
    pauses: list[float] = []
    for _ in range(4):
        offer = pit.offer(deadline=START + timedelta(days=1))
        waited = 0.0
        while (lease := pit.take(griefer)) is None:
            pit.later(5)
            waited += 5
        pauses.append(waited)
        pit.later(30)
        pit.market.reap()
        assert lease.offer_id == offer.offer_id
        pit.market.withdraw("hospital", offer.offer_id)
    assert pauses == [0, 0, 10, 20]


def test_an_accepted_result_ends_the_strikes(pit: Pit) -> None:
    """Good work is believed: the count of bad ends begins anew."""
    node = pit.join()
    for good in (False, True, False, False):
        offer = pit.offer()
        if good:
            lease = pit.computed(node, offer)
            pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")
        else:
            lease = pit.lease(node)
            pit.market.fail(node.node_id, lease.lease_id, lease.fencing_token, "")
            pit.market.withdraw("hospital", offer.offer_id)
    pit.offer()
    assert pit.take(node) is None
    pit.later(10)
    assert pit.take(node) is not None


def test_the_hospitals_own_node_is_not_banned_from_its_work(pit: Pit) -> None:
    """A local node killed again and again costs retries, and nothing else."""
    own = pit.join(Tier.HOSPITAL)
    for _ in range(5):
        offer = pit.offer()
        lease = pit.lease(own)
        pit.market.fail(own.node_id, lease.lease_id, lease.fencing_token, "killed")
        pit.market.withdraw("hospital", offer.offer_id)
    pit.offer()
    assert pit.take(own) is not None


# --- verdicts -------------------------------------------------------------------------------------------


def test_a_refused_result_opens_the_offer_for_another(pit: Pit) -> None:
    """The refused node is not asked again, and cannot hand in once more."""
    cheat, honest = pit.join(), pit.join()
    offer = pit.offer()
    lease = pit.computed(cheat, offer)
    assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "refused", "geometry") == "open"
    assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "refused", "geometry") == "open"
    with pytest.raises(LeaseLostError):
        pit.hand_in(cheat, offer, lease)
    assert pit.take(cheat) is None
    fresh = pit.computed(honest, offer)
    with pytest.raises(KeyConflictError):
        pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")
    assert pit.market.judge("hospital", offer.offer_id, fresh.fencing_token, "accepted", "") == "accepted"
    once = ["opened", "leased", "keyed", "computed"]
    assert pit.kinds(offer) == [*once, *once, "accepted"]


def test_a_bridge_may_refuse_a_node_before_it_has_the_key(pit: Pit) -> None:
    """A node that the hospital does not trust loses the lease, and never had a key."""
    stranger, other = pit.join(), pit.join()
    offer = pit.offer()
    lease = pit.lease(stranger)
    assert pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "refused", "not trusted") == "open"
    with pytest.raises(LeaseLostError):
        pit.market.place_key("hospital", offer.offer_id, lease.fencing_token, "00")
    with pytest.raises(LeaseLostError):
        pit.market.key(stranger.node_id, lease.lease_id)
    assert pit.lease(other).offer_id == offer.offer_id


def test_nothing_is_accepted_before_it_is_computed(pit: Pit) -> None:
    """A verdict needs a result, and is one of two words."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.keyed(node)
    with pytest.raises(LeaseLostError):
        pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")
    with pytest.raises(MalformedError):
        pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "perhaps", "")


def test_a_receipt_must_fit(pit: Pit) -> None:
    """A receipt for another parcel, service, offer or lease, or for a result that is not here, is refused."""
    node, other = pit.join(), pit.join()
    offer, another = pit.offer(), pit.offer()
    lease = pit.lease(node)
    with pytest.raises(LeaseLostError, match="key"):
        pit.hand_in(node, offer, lease)
    pit.market.place_key("hospital", offer.offer_id, lease.fencing_token, "00")
    wrong: list[tuple[type[BridgeError], dict[str, Any]]] = [
        (MalformedError, {"input_digest": "f" * 64}),
        (MalformedError, {"service": "cheaper"}),
        (MalformedError, {"offer_id": another.offer_id}),
        (UnknownError, {"output_digest": "f" * 64}),
        (UnknownError, {"lease_id": "f" * 32}),
        (LeaseLostError, {"fencing_token": lease.fencing_token + 1}),
        (PeerRefusedError, {"node_id": other.node_id}),
    ]
    for error, changed in wrong:
        with pytest.raises(error):
            pit.hand_in(node, offer, lease, **changed)
    assert pit.hand_in(node, offer, lease) == "computed"


def test_a_result_may_be_too_large(pit_of: Callable[..., Pit]) -> None:
    """The cap on results holds for those that come over the shared shelf, too."""
    pit = pit_of(Exchange(result_bytes_max=2**16))
    pit.result, _ = put(pit.shelf, {"result.json": bytes(2**16)}, parcel.new_key())
    node, offer = pit.join(), pit.offer()
    lease = pit.keyed(node)
    with pytest.raises(TooLargeError):
        pit.hand_in(node, offer, lease)


# --- offers ---------------------------------------------------------------------------------------------


def test_the_same_offer_with_other_content_is_refused(pit: Pit) -> None:
    """One id, one offer: another price or tier under it is a conflict, whoever comes with it."""
    offer = pit.offer()
    for changed in (replace(offer, price_max_units=1), replace(offer, tier=Tier.HOSPITAL)):
        with pytest.raises(KeyConflictError):
            pit.market.offer("hospital", changed, BRIDGE.sign("offer", to_body(changed)))
    with pytest.raises(PeerRefusedError):
        pit.market.offer("other", offer, BRIDGE.sign("offer", to_body(offer)))


def test_offers_have_limits(pit_of: Callable[..., Pit]) -> None:
    """Too late, too large, too many, or without its parcel, an offer does not open."""
    pit = pit_of(Exchange(offers_per_bridge_max=1, parcel_bytes_max=2**20))
    with pytest.raises(OfferExpiredError):
        pit.offer(deadline=START)
    with pytest.raises(TooLargeError):
        pit.offer(parcel_size_bytes=2**20 + 1)
    with pytest.raises(UnknownError):
        pit.offer(parcel_digest="f" * 64)
    with pytest.raises(UnknownError):
        pit.offer(parcel_size_bytes=pit.size_bytes + 1)
    pit.offer()
    with pytest.raises(CapacityError):
        pit.offer()


def test_a_withdrawn_offer_is_over_for_its_node(pit: Pit) -> None:
    """Withdrawn in mid-job, the work is refused, and the node is not blamed."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.keyed(node)
    for _ in range(2):
        assert pit.market.withdraw("hospital", offer.offer_id) == "withdrawn"
    with pytest.raises(LeaseLostError):
        pit.hand_in(node, offer, lease)
    assert pit.kinds(offer) == ["opened", "leased", "keyed", "withdrawn"]
    pit.offer()
    assert pit.take(node) is not None


def test_each_bridge_sees_its_own(pit: Pit) -> None:
    """Neither the feed nor an offer nor a result of one bridge is anything to another."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.computed(node, offer)
    assert pit.market.changes("other", 0) == []
    pit.market.may_collect("hospital", pit.result)
    for act in (
        lambda: pit.market.may_collect("other", pit.result),
        lambda: pit.market.standing("other", offer.offer_id),
        lambda: pit.market.withdraw("other", offer.offer_id),
        lambda: pit.market.narrow("other", offer.offer_id, Tier.HOSPITAL),
        lambda: pit.market.place_key("other", offer.offer_id, lease.fencing_token, "00"),
        lambda: pit.market.judge("other", offer.offer_id, lease.fencing_token, "refused", ""),
    ):
        with pytest.raises(UnknownError):
            act()


def test_a_cursor_of_another_exchange_is_noticed(pit: Pit) -> None:
    """A bridge whose cursor is ahead of all that happened here must start anew, or it would hear nothing ever."""
    pit.offer()
    with pytest.raises(UnknownError):
        pit.market.changes("hospital", pit.market.pulse() + 1)


def test_a_node_that_has_not_joined_gets_nothing(pit: Pit) -> None:
    """An exchange that has forgotten a node says so, and the node joins again."""
    with pytest.raises(UnknownError):
        pit.take(FakeNode())


def test_parcels_are_read_by_lease_holders_only(pit: Pit) -> None:
    """Ciphertext, too, is given only to who needs it."""
    node, other = pit.join(), pit.join()
    offer = pit.offer()
    pit.lease(node)
    pit.market.may_read(node.node_id, offer.parcel_digest)
    with pytest.raises(PeerRefusedError):
        pit.market.may_read(other.node_id, offer.parcel_digest)
    with pytest.raises(PeerRefusedError):
        pit.market.may_read(node.node_id, pit.result)


# --- by itself ------------------------------------------------------------------------------------------


def test_what_is_over_is_cleared(pit: Pit) -> None:
    """Files of an offer go a while after it ended; a parcel that another offer still needs stays."""
    node = pit.join()
    done = pit.offer()
    lease = pit.computed(node, done)
    pit.market.judge("hospital", done.offer_id, lease.fencing_token, "accepted", "")
    needed = pit.offer(deadline=START + timedelta(days=9))
    assert pit.market.clear() == 0
    pit.later(86401)
    assert pit.market.clear() == 1
    assert pit.market.clear() == 0
    assert pit.shelf.size(pit.result) is None
    assert pit.shelf.size(pit.digest) == pit.size_bytes
    pit.market.withdraw("hospital", needed.offer_id)
    pit.later(86401)
    assert pit.market.clear() == 1
    assert pit.shelf.size(pit.digest) is None


def test_a_result_that_is_never_judged_goes_in_the_end(pit: Pit) -> None:
    """A bridge that is gone does not keep a node's result here for ever; one that is slow has time."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.computed(node, offer)
    pit.later(3601)
    assert pit.market.reap() == 0
    pit.later(86400)
    assert pit.market.reap() == 1
    assert pit.state(offer) == "expired"
    with pytest.raises(LeaseLostError):
        pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")


def test_the_pulse_moves_when_something_happens(pit: Pit) -> None:
    """Whoever watches the pulse misses nothing, and is not woken for nothing."""
    assert pit.market.pulse() == 0
    node = pit.join()
    pit.offer()
    first = pit.market.pulse()
    assert pit.market.reap() == 0
    assert pit.market.pulse() == first
    pit.lease(node)
    assert pit.market.pulse() > first


def test_a_receipt_and_the_reaper_cannot_both_win(pit: Pit) -> None:
    """Handed in at the very end of its time, a result is either taken or lost, and told once, never both."""
    node, offer = pit.join(), pit.offer()
    lease = pit.keyed(node)
    together, outcomes = threading.Barrier(2), []
    pit.later(29.9999)

    def hand_in() -> None:
        together.wait()
        try:
            outcomes.append(pit.hand_in(node, offer, lease))
        except LeaseLostError:
            outcomes.append("lost")

    def reap() -> None:
        together.wait()
        pit.later(1)
        pit.market.reap()

    threads = [threading.Thread(target=hand_in), threading.Thread(target=reap)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pit.kinds(offer)[3:] == {"computed": ["computed"], "lost": ["opened"]}[outcomes[0]]


def test_moments_are_those_of_the_clock(pit: Pit) -> None:
    """What is told carries the moment at which it happened."""
    pit.later(5)
    pit.offer()
    (change,) = pit.market.changes("hospital", 0)
    assert datetime.fromisoformat(change["at"]) == START + timedelta(seconds=5)


# --- stakes ---------------------------------------------------------------------------------------------

TOKEN = new_signer()
STAKED = LIMITS.model_copy(
    update={
        "priority_keys": (TOKEN.public,),
        "priority_seconds": 30,
        "priority_max": 2,
        "priority_offers_max": 2,
        "leases_per_node_max": 10,
    }
)


def attested(level: int = 1, bridge_id: str = "rich", hours: float = 1, signer: Signer = TOKEN) -> str:
    return priority.attest(signer, bridge_id, level, START + timedelta(hours=hours))


def order(pit: Pit, node: FakeNode, count: int) -> list[str]:
    """Return whose offers a node gets, one after another."""
    offers = {}
    for _ in range(count):
        granted = pit.market.take(node.node_id, uuid.uuid4().hex)
        assert granted is not None
        offer = from_body(Offer, verify(granted["offer"], "offer", BRIDGE.public))
        offers[offer.offer_id] = offer.bridge_id
    return list(offers.values())


def test_a_stake_gives_a_bounded_head_start_and_never_before_stat(pit_of: Callable[..., Pit]) -> None:
    """However high the attested class: an offer that came earlier by more than the head start is not overtaken."""
    pit = pit_of(STAKED)
    node = pit.join()
    pit.offer(bridge_id="first")
    pit.clock.advance(61)
    pit.offer(bridge_id="second")
    pit.clock.advance(1)
    pit.offer(bridge_id="stat", urgency=Urgency.STAT)
    pit.offer(bridge_id="rich", attestation=attested(99))
    assert order(pit, node, 4) == ["stat", "first", "rich", "second"]


def test_a_bridge_has_a_head_start_for_few_offers_at_a_time(pit_of: Callable[..., Pit]) -> None:
    """The third of two staked offers waits its turn like everybody's."""
    pit = pit_of(STAKED)
    node = pit.join()
    pit.offer(bridge_id="poor")
    pit.clock.advance(1)
    for _ in range(3):
        pit.offer(bridge_id="rich", attestation=attested())
    assert order(pit, node, 4) == ["rich", "rich", "poor", "rich"]


def test_what_is_no_attestation_costs_only_the_head_start(pit_of: Callable[..., Pit]) -> None:
    """Signed by a bridge itself, for another bridge, run out, running for too long, or nonsense: no one overtakes."""
    pit = pit_of(STAKED)
    node = pit.join()
    pit.offer(bridge_id="poor")
    pit.clock.advance(1)
    wrong = [
        *(attested(signer=BRIDGE), attested(bridge_id="other"), attested(hours=0), attested(hours=25), attested(-1)),
        *("{}", "[]", "no JSON", attested().replace("payload", "content")),
    ]
    for text in wrong:
        pit.offer(bridge_id="rich", attestation=text)
    assert order(pit, node, 10) == ["poor", *["rich"] * 9]
