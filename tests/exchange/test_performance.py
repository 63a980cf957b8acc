"""What an exchange measures of a node: leases kept and real jobs by its own clock, and nothing that the node says."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from btt_bridge.config import Exchange
from btt_bridge.exchange import performance
from btt_bridge.records import Performance, Tier
from tests.exchange.pool_parts import START, FakeNode
from tests.exchange.test_market import Pit

FIRST, LAST = START - timedelta(days=1), START + timedelta(days=30)


@pytest.fixture
def pit(database_url: str, tmp_path: Path) -> Iterator[Pit]:
    pit = Pit(database_url, tmp_path, Exchange(attempts_max=3, lease_seconds=600, ban_seconds=0))
    yield pit
    pit.market.close()


def deliver(pit: Pit, node: FakeNode, seconds: float) -> None:
    """Let a node do one job of 10^9 operations in so many seconds, and the bridge accept it."""
    offer = pit.offer(deadline=pit.clock.now() + timedelta(hours=1))
    lease = pit.keyed(node)
    pit.later(seconds)
    assert pit.hand_in(node, offer, lease, started_at=START, finished_at=START) == "computed"
    pit.later(120)  # the bridge takes its time to judge, which is not the node's
    pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "accepted", "")


def measured(pit: Pit) -> dict[str, Performance]:
    return {one.node_id: one for one in performance(pit.market.engine, FIRST, LAST)}


def test_a_claimed_benchmark_is_not_looked_at(pit: Pit) -> None:
    """A node that claims a million times more and says that its jobs took no time is as fast as it was seen to be."""
    boaster, honest = pit.join(benchmark=10**15), pit.join(benchmark=1)
    deliver(pit, boaster, 40)
    deliver(pit, honest, 4)
    deliver(pit, honest, 6)
    assert measured(pit) == {
        boaster.node_id: Performance(boaster.node_id, 1, 0, 10**9, 40_000),
        honest.node_id: Performance(honest.node_id, 2, 0, 2 * 10**9, 10_000),
    }


def test_leases_that_were_lost_count_against_a_node(pit: Pit) -> None:
    """Given up, refused by the bridge, and lapsed in silence: three lost."""
    node = pit.join()
    offer = pit.offer()
    lease = pit.lease(node)
    pit.market.fail(node.node_id, lease.lease_id, lease.fencing_token, "no memory")
    lease = pit.computed(node, offer)
    pit.market.judge("hospital", offer.offer_id, lease.fencing_token, "refused", "implausible")
    pit.lease(node)
    pit.later(601)
    assert pit.market.reap() == 1
    assert measured(pit)[node.node_id] == Performance(node.node_id, 0, 3, 0, 0)


def test_what_a_hospital_asks_of_its_own_node_counts_neither_way(pit: Pit) -> None:
    """The two could agree on anything: neither speed nor reliability comes from it."""
    own = pit.join(Tier.HOSPITAL)
    deliver(pit, own, 1)
    assert measured(pit) == {}


def test_a_lease_belongs_to_the_period_that_it_was_granted_in(pit: Pit) -> None:
    """From its first instant up to the end, which is the next one's first."""
    node = pit.join()
    deliver(pit, node, 5)
    found = [performance(pit.market.engine, *period) for period in ((FIRST, START), (START, LAST), (LAST, LAST))]
    assert [len(one) for one in found] == [0, 1, 0]
