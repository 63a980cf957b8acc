"""The quota on urgent work, on SQLite and on PostgreSQL: nothing is refused, and nobody goes first with everything."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from btt_bridge.config import BridgeKey, Exchange
from btt_bridge.records import Offer, Tier, Urgency, to_body
from tests.exchange.pool_parts import FakeNode, new_signer
from tests.exchange.test_market import BRIDGE, LIMITS, Pit

STAT, URGENT, ROUTINE = Urgency
#: Room for one of each and no share, but as a test says.
SMALL = {"stat_free": 1, "stat_percent": 0, "urgent_free": 1, "urgent_percent": 0, "leases_per_node_max": 10}


def row(bridge_id: str, quota_percent: int = 100) -> BridgeKey:
    return BridgeKey(bridge_id=bridge_id, public_key=new_signer().public, quota_percent=quota_percent)


SEVERAL = [row("hospital"), row("other"), row("honest")]


@pytest.fixture
def pit_with(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Pit]]:
    """Makes a market with a quota of the test's own."""
    pits = []

    def make(**quota: Any) -> Pit:
        limits = Exchange(**{**LIMITS.model_dump(), **SMALL, "bridges": SEVERAL, **quota})
        pits.append(Pit(database_url, tmp_path, limits))
        return pits[-1]

    yield make
    for pit in pits:
        pit.market.close()


def placed(pit: Pit, offer: Offer) -> Urgency:
    return pit.market.placement(offer.bridge_id, offer.offer_id).urgency


def offered(pit: Pit, urgency: Urgency, **changed: Any) -> Urgency:
    """Make an offer; return as how urgent it is placed."""
    return placed(pit, pit.offer(urgency=urgency, **changed))


def deliver(pit: Pit, node: FakeNode, urgency: Urgency = ROUTINE, **changed: Any) -> Offer:
    """Have an offer computed and accepted."""
    offer = pit.offer(urgency=urgency, **changed)
    lease = pit.computed(node, offer)
    pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")
    return offer


def test_beyond_the_quota_an_offer_is_taken_and_ranked_as_the_next_lower_urgency(
    pit_with: Callable[..., Pit],
) -> None:
    """A hospital that calls everything stat is refused nothing, and holds nobody up who does not; each sees it."""
    pit = pit_with(stat_free=2)
    offers = [pit.offer(urgency=STAT) for _ in range(4)]
    assert [placed(pit, offer) for offer in offers] == [STAT, STAT, URGENT, ROUTINE]
    assert [pit.market.placement("hospital", offer.offer_id).asked for offer in offers] == [STAT] * 4
    assert {pit.state(offer) for offer in offers} == {"open"}
    honest = [pit.offer(urgency=urgency, bridge_id="honest") for urgency in (ROUTINE, URGENT, STAT)]
    assert [placed(pit, offer) for offer in honest] == [ROUTINE, URGENT, STAT]
    node = pit.join()
    names = {offer.offer_id: number for number, offer in enumerate([*offers, *honest])}
    assert [names[pit.lease(node).offer_id] for _ in range(7)] == [0, 1, 6, 2, 5, 3, 4]


def test_each_urgency_has_a_quota_of_its_own(pit_with: Callable[..., Pit]) -> None:
    """Urgent work never takes the place of what is stat, nor routine work that of either."""
    pit = pit_with(urgent_free=2)
    asked = [URGENT, URGENT, URGENT, *[ROUTINE] * 5, STAT, STAT]
    assert [offered(pit, urgency) for urgency in asked] == [URGENT, URGENT, *[ROUTINE] * 6, STAT, ROUTINE]


def test_a_quota_grows_with_accepted_results_and_not_with_offers(pit_with: Callable[..., Pit]) -> None:
    """Routine offers that are opened, or opened and withdrawn, cost nothing and gain nothing; delivered work does."""
    pit = pit_with(stat_free=0, stat_percent=50, urgent_free=0)
    node = pit.join()
    for urgency in (*[ROUTINE] * 6, STAT):
        offer = pit.offer(urgency=urgency)
        assert placed(pit, offer) is ROUTINE
        pit.market.withdraw("hospital", offer.offer_id)
    for _ in range(2):
        deliver(pit, node)
    assert [offered(pit, STAT) for _ in range(2)] == [STAT, ROUTINE]
    assert offered(pit, STAT, bridge_id="other") is ROUTINE


def test_an_emergency_hospital_has_the_quota_that_its_operator_gives_it(pit_with: Callable[..., Pit]) -> None:
    """Three times what others have; of two rows, during a change of keys, the better one counts."""
    pit = pit_with(bridges=[*SEVERAL, row("hospital", 300)], urgent_free=0)
    assert [offered(pit, STAT) for _ in range(4)] == [STAT, STAT, STAT, ROUTINE]
    assert [offered(pit, STAT, bridge_id="other") for _ in range(2)] == [STAT, ROUTINE]


def test_a_bridge_that_is_alone_leaves_room_for_nobody(pit_with: Callable[..., Pit]) -> None:
    """An exchange that knows one hospital has nobody to protect from it."""
    pit = pit_with(bridges=[row("hospital"), row("hospital")])
    assert [offered(pit, STAT) for _ in range(4)] == [STAT] * 4


def test_the_window_slides(pit_with: Callable[..., Pit]) -> None:
    """What was placed counts for the window and not a second longer, and so does what was delivered."""
    pit = pit_with(quota_seconds=600)
    assert offered(pit, STAT) is STAT
    pit.later(300)
    assert offered(pit, STAT) is URGENT
    pit.later(299)
    assert offered(pit, STAT) is ROUTINE
    pit.later(1)
    assert [offered(pit, STAT) for _ in range(2)] == [STAT, ROUTINE]


def test_what_no_node_has_begun_takes_no_place(pit_with: Callable[..., Pit]) -> None:
    """A late object that makes a new revision takes no second place, unless the first had a node's time."""
    pit = pit_with()
    first = pit.offer(urgency=STAT)
    pit.market.withdraw("hospital", first.offer_id)
    second = pit.offer(urgency=STAT)
    assert placed(pit, second) is STAT
    pit.lease(pit.join())
    pit.market.withdraw("hospital", second.offer_id)
    assert offered(pit, STAT) is URGENT


def test_a_hospitals_own_node_knows_no_quota(pit_with: Callable[..., Pit]) -> None:
    """It takes its hospital's offers as they were asked, whatever the pool makes of them, and counts neither way."""
    pit = pit_with(stat_percent=100, urgent_free=0)
    assert [offered(pit, STAT, tier=Tier.HOSPITAL) for _ in range(3)] == [STAT] * 3
    own = pit.join(Tier.HOSPITAL)
    for _ in range(3):
        pit.lease(own)
    own_work = [deliver(pit, own, STAT), deliver(pit, own)]
    assert [placed(pit, offer) for offer in own_work] == [STAT, ROUTINE]
    other, routine = pit.offer(urgency=STAT, bridge_id="other"), pit.offer()
    stat, demoted = pit.offer(urgency=STAT), pit.offer(urgency=STAT)
    assert [placed(pit, offer) for offer in (stat, demoted)] == [STAT, ROUTINE]
    taken = [pit.lease(own).offer_id for _ in range(4)]
    assert taken == [offer.offer_id for offer in (other, stat, demoted, routine)]


def test_an_offer_that_the_pool_has_begun_does_not_become_ones_own(pit_with: Callable[..., Pit]) -> None:
    """Narrowed to the hospital's own node while somebody else computes it, it keeps its place in the quota."""
    pit = pit_with()
    offer = pit.offer(urgency=STAT)
    pit.lease(pit.join())
    pit.market.narrow("hospital", offer.offer_id, Tier.HOSPITAL)
    assert offered(pit, STAT) is URGENT


def test_offers_that_come_at_once_find_as_many_places_as_there_are(pit_with: Callable[..., Pit]) -> None:
    """However many a bridge makes at the same moment, over however many connections, the last place is taken once."""
    pit = pit_with(stat_free=3, urgent_free=2)
    together, found = threading.Barrier(8), []

    def offer() -> None:
        together.wait()
        found.append(offered(pit, STAT))

    threads = [threading.Thread(target=offer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found, key=lambda urgency: urgency.rank) == [STAT] * 3 + [URGENT] * 2 + [ROUTINE] * 3


def test_an_offer_that_is_made_again_is_placed_as_before(pit_with: Callable[..., Pit]) -> None:
    """A lost answer costs no place, and a restart of the exchange changes no rank."""
    pit = pit_with()
    offer = pit.offer(urgency=STAT)
    envelope = BRIDGE.sign("offer", to_body(offer))
    before = pit.market.placement("hospital", offer.offer_id)
    pit.restart()
    for _ in range(3):
        assert pit.market.offer("hospital", offer, envelope) == "open"
    assert pit.market.placement("hospital", offer.offer_id) == before
    assert offered(pit, STAT) is URGENT
