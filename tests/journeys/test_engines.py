"""The same path on the engines of a large house: PostgreSQL for every database, and a real broker at either side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from btt_bridge.journey import State
from tests.journeys.bridge import Bridge, destination, running
from tests.journeys.studies import Make, Sample
from tests.peers import brokers
from tests.peers.dcmtk import StoreSCP, dcmsend
from tests.peers.postgres import PostgreSQL
from tests.peers.server import Server

#: A broker's server, and its URLs for the hospital and for the pool.
Broker = Callable[[], AbstractContextManager[tuple[Server, str, str]]]


@contextmanager
def _redis() -> Iterator[tuple[Server, str, str]]:
    with brokers.redis() as broker:
        yield broker.server, broker.url, f"{broker.url.removesuffix('/0')}/1"


@contextmanager
def _rabbitmq() -> Iterator[tuple[Server, str, str]]:
    with brokers.rabbitmq() as broker, broker.virtual_host() as hospital, broker.virtual_host() as pool:
        yield broker.server, hospital, pool


@pytest.mark.parametrize("broker", [_redis, _rabbitmq], ids=["redis", "rabbitmq"])
@pytest.mark.timeout(400)
def test_the_path_on_real_engines(
    broker: Broker, tmp_path: Path, postgresql_server: PostgreSQL, storescp: StoreSCP, study: Make
) -> None:
    """Studies come in by C-STORE and go out as SR, SEG and pictures; a broker that is killed in the middle of a job,
    and is away while the next study arrives, delays them and does nothing else."""
    with ExitStack() as stack:
        server, hospital, pool = stack.enter_context(broker())
        journal, ledger, exchange = (stack.enter_context(postgresql_server.database()) for _ in range(3))
        bridge = stack.enter_context(
            running(
                tmp_path,
                database_url=journal,
                broker_url=hospital,
                settle={"database_url": ledger},
                exchange={"database_url": exchange, "broker_url": pool},
                destinations=[destination(storescp.ae_title, storescp.port)],
            )
        )
        assert not list(bridge.data_dir.rglob("*.db")), "nothing is kept in SQLite"
        samples = [study(name) for name in ("steady", "halfway", "meanwhile")]
        _send(bridge, samples[0])
        _delivered(bridge, samples[0], storescp)

        _send(bridge, samples[1])
        bridge.until(samples[1].study_uid, State.OFFERED)
        server.kill()
        _send(bridge, samples[2])
        server.start()
        for sample in samples[1:]:
            _delivered(bridge, sample, storescp)
        bridge.books_balance()


def _send(bridge: Bridge, sample: Sample) -> None:
    assert dcmsend(bridge.port, sample.files).returncode == 0


def _delivered(bridge: Bridge, sample: Sample, storescp: StoreSCP) -> None:
    """Assert that a study is settled, each document at the PACS, one charge in the ledger, and that `trace` says so."""
    journey = bridge.until(sample.study_uid, State.SETTLED)
    deliveries = bridge.journal.deliveries(journey.id)
    assert {one.kind for one in deliveries} == {"SR", "SEG", "SC"}
    names = {path.name for path in storescp.received()}
    assert all(any(one.sop_instance_uid in name for name in names) for one in deliveries)
    assert len(bridge.journeys(sample.study_uid)) == 1
    assert len(bridge.charges(journey)) == 1
    told = bridge.cli("trace", sample.accession_number)
    assert f"journey {journey.id}, revision 1: settled" in told.stdout
