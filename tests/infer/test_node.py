"""The node against a real exchange: work done, work refused, work lost, and the plug pulled."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from btt_bridge import config
from btt_bridge.infer import benchmark
from btt_bridge.infer.node import main
from btt_bridge.plugins import service
from btt_bridge.records import Slice
from tests.infer.market import Market, running_market

PHANTOM = Path(__file__).parents[2] / "sample_data" / "chest_ct"


@pytest.fixture(autouse=True)
def _measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes in this process know how fast they are; how they come to know it has a test of its own."""
    monkeypatch.setattr(benchmark, "remembered", lambda _path, _key: 1000)


@pytest.fixture(scope="module")
def chest() -> list[bytes]:
    return [path.read_bytes() for path in sorted(PHANTOM.glob("*.dcm"))]


@pytest.fixture(scope="module")
def slices() -> list[Slice]:
    return [_slice(pydicom.dcmread(path, stop_before_pixels=True)) for path in sorted(PHANTOM.glob("*.dcm"))]


def _slice(image: pydicom.Dataset) -> Slice:
    numbers = {
        word: tuple(map(float, image[word].value))
        for word in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    }
    return Slice(
        image.SOPInstanceUID, image.SeriesInstanceUID, image.Rows, image.Columns,
        numbers["ImagePositionPatient"], numbers["ImageOrientationPatient"], numbers["PixelSpacing"],
    )  # type: ignore[arg-type]  # fmt: skip


@contextmanager
def running_node(market: Market, **options: object) -> Iterator[threading.Event]:
    """Run a node in a thread of this process; its jobs run in children as ever."""
    settings = node_settings(market, **options)
    stop = threading.Event()
    thread = threading.Thread(target=main, args=(settings, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


def node_settings(market: Market, **options: object) -> config.Node:
    folder = market.settings.data_dir
    defaults = {"exchange_url": market.pool.url, "data_dir": folder / "node", "device": "cpu", "threads": 1}
    return config.Node(**(defaults | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("shared_shelf", [False, True])
def test_a_study_is_computed_and_judged(
    tmp_path: Path, chest: list[bytes], slices: list[Slice], shared_shelf: bool
) -> None:
    """By HTTP or over a shared shelf, the result that comes back passes the judge, and the receipt says what ran."""
    with running_market(tmp_path) as market:
        options = {"parcels_url": market.settings.parcels_url} if shared_shelf else {}
        with running_node(market, **options):
            offer, key, reply = market.offer(chest)
            lease = market.give_key(offer, key)
            judged = market.judged(offer, lease, reply, slices)
        assert judged.result.slices == tuple(one.sop_instance_uid for one in slices)
        assert {mask.name for mask in judged.result.masks} == {"lungs", "nodules"}
        assert judged.receipt.model_digest == service("ct-lung").digest()
        assert judged.receipt.timings.keys() == {"open", "decode", "run", "seal"}
        left = [path for path in (tmp_path / "node" / "scratch").rglob("*") if path.is_file()]
        assert left == []


def test_a_doorbell_calls_the_node(tmp_path: Path, chest: list[bytes]) -> None:
    """A node that hardly ever looks by itself comes at once when it is rung for, and stops at once when it is told."""
    broker = f"filesystem://{tmp_path / 'bells'}"
    with (
        running_market(tmp_path, broker_url=broker) as market,
        running_node(market, broker_url=broker, poll_seconds=300),
    ):
        # The first offer may be taken by the look that a node has when it joins.
        for _ in range(2):
            offer, key, _ = market.offer(chest)
            market.give_key(offer, key)
            market.until("computed")


@pytest.mark.parametrize(
    ("instances", "reason"), [([b"DOE^JANE" * 100] * 20, "an instance cannot be read"), ([], "16 to 4096")]
)
def test_a_parcel_that_is_no_chest_ct_fails_with_a_reason(tmp_path: Path, instances: list[bytes], reason: str) -> None:
    """The exchange learns why, in words without content."""
    with running_market(tmp_path) as market, running_node(market):
        offer, key, _ = market.offer(instances)
        market.give_key(offer, key)
        told = market.until("opened")["body"]["reason"]
        assert reason in told
        assert "DOE" not in told


def test_a_wrong_key_opens_nothing(tmp_path: Path, chest: list[bytes]) -> None:
    """A parcel that does not open with the key that came is a failure, not a result."""
    with running_market(tmp_path) as market, running_node(market):
        offer, _, _ = market.offer(chest)
        market.give_key(offer, os.urandom(32))
        assert "SealBrokenError" in market.until("opened")["body"]["reason"]


def test_a_run_has_a_time_limit(tmp_path: Path, chest: list[bytes]) -> None:
    """A model that runs too long is killed and reported; the node lives on."""
    with running_market(tmp_path) as market, running_node(market, run_seconds_max=0.05):
        offer, key, _ = market.offer(chest)
        market.give_key(offer, key)
        assert "ProcessTimedOutError" in market.until("opened")["body"]["reason"]


def test_a_withdrawn_offer_ends_the_work(tmp_path: Path, chest: list[bytes]) -> None:
    """A node whose lease is lost hands nothing in, and does the next offer."""
    with running_market(tmp_path, lease_seconds=1) as market, running_node(market):
        offer, _, _ = market.offer(chest)
        market.until("leased")
        # The node waits for a key that never comes, and learns by heartbeat that nobody waits for it any more.
        market.pool.call("DELETE", f"/offers/{offer.offer_id}")
        second, key, _ = market.offer(chest)
        market.give_key(second, key)
        assert market.until("computed")["offer_id"] == second.offer_id
        assert not [one for one in market.seen if one["kind"] == "computed" and one["offer_id"] == offer.offer_id]


def test_a_stopped_node_gives_its_lease_back(tmp_path: Path, chest: list[bytes]) -> None:
    """A node told to stop does not keep an offer until its lease lapses."""
    with running_market(tmp_path) as market, running_node(market, stop_seconds=0) as stop:
        market.offer(chest)
        market.until("leased")
        stop.set()
        assert "stopping" in market.until("opened")["body"]["reason"]


def test_killing_the_node_costs_a_retry_and_nothing_else(
    tmp_path: Path, chest: list[bytes], slices: list[Slice]
) -> None:
    """kill -9 in mid-job: the lease lapses, another run of the node takes the offer again and delivers."""
    with running_market(tmp_path, lease_seconds=1) as market:
        offer, key, reply = market.offer(chest)
        environment = os.environ | {
            "BTT_NODE__EXCHANGE_URL": market.pool.url,
            "BTT_NODE__DATA_DIR": str(tmp_path / "node"),
            "BTT_NODE__DEVICE": "cpu",
            "BTT_NODE__THREADS": "1",
        }
        with subprocess.Popen([sys.executable, "-m", "btt_bridge.infer"], env=environment) as process:
            market.give_key(offer, key)
            process.send_signal(signal.SIGKILL)
        with running_node(market):
            lease = market.give_key(offer, key)
            judged = market.judged(offer, lease, reply, slices)
        assert lease.attempt == 2
        # It had told the exchange how fast it is, and kept that for next time.
        (measured,) = json.loads((tmp_path / "node" / "benchmark.json").read_text()).values()
        assert measured > 0
        assert judged.result.findings


def test_the_node_holds_nothing_of_the_hospital() -> None:
    """What the node imports reaches no vault, journal, ledger or store, and no library that only the bridge needs."""
    program = (
        "import sys, btt_bridge.infer.node, btt_bridge.infer.job, btt_bridge.infer.ct_lung.analysis\n"
        "import btt_bridge.infer.ct_lung.series, btt_bridge.infer.benchmark\n"
        "print(' '.join(sys.modules))"
    )
    loaded = set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )
    hospital = {
        f"btt_bridge.{name}" for name in ("vault", "store", "journal", "ledger", "database", "dispatch", "judge")
    }
    assert loaded & (hospital | {"sqlalchemy", "pynetdicom", "highdicom", "starlette", "uvicorn"}) == set()
    parent = "import sys, btt_bridge.infer.node; print(' '.join(sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "torch" not in loaded
