"""The plug is pulled on the exchange, again and again, while bridge and nodes go on talking to it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from btt_bridge import parcel
from btt_bridge.config import Settings
from btt_bridge.parcel import Shelf
from btt_bridge.pool import Pool
from btt_bridge.records import to_body
from tests.exchange.pool_parts import FakeNode, new_signer, offer_for, put, settings_for
from tests.peers.server import free_port, listening, wait_until

_EXCHANGE = """
import sys, threading
from pathlib import Path
from btt_bridge import exchange
from btt_bridge.config import Settings

settings = Settings.model_validate_json(Path(sys.argv[1]).read_text())
exchange.serve(settings, threading.Event(), lambda port: None)
"""

OFFERS = 8


@contextlib.contextmanager
def _killed_often(settings: Settings, folder: Path) -> Iterator[list[int]]:
    """Run an exchange in a process of its own that is killed as soon as it answers, over and over; count the kills."""
    path = folder / "settings.json"
    path.write_text(settings.model_dump_json())
    kills, over = [0], threading.Event()

    def run() -> None:
        while not over.is_set():
            process = subprocess.Popen([sys.executable, "-c", _EXCHANGE, str(path)])
            wait_until(lambda: listening(settings.exchange.port), "the exchange")
            # Long enough for some work, and at no moment in particular.
            over.wait(0.3 + int.from_bytes(os.urandom(1), "big") / 256)
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield kills
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
def test_an_exchange_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each offer is placed, computed and accepted exactly once, though the exchange dies many times meanwhile."""
    monkeypatch.setattr("btt_bridge.pool._PAUSE_SECONDS_MAX", 0.05)
    bridge, node = new_signer(), FakeNode()
    settings = settings_for(tmp_path / "data", {"hospital": bridge}, [node], attempts_max=20)
    settings = settings.model_copy(update={"exchange": settings.exchange.model_copy(update={"port": free_port()})})
    url, shelf = f"http://127.0.0.1:{settings.exchange.port}", Shelf(settings.parcels_url)
    pool = Pool(url, bridge, attempts_max=600, pause_seconds=0.05)
    node.pool = Pool(url, node.signer, attempts_max=600, pause_seconds=0.05)
    digest, size_bytes = put(shelf, {"a": b"content"}, parcel.new_key())
    result, _ = put(shelf, {"result.json": b"{}"}, parcel.new_key())
    deadline = datetime.now(UTC) + timedelta(hours=1)
    done: Counter[str] = Counter()
    with _killed_often(settings, tmp_path) as kills:
        node.join()
        offers = [offer_for(digest, size_bytes, deadline=deadline) for _ in range(OFFERS)]
        for offer in offers:
            pool.call("POST", "/offers", bridge.sign("offer", to_body(offer)))
        while sum(done.values()) < OFFERS or kills[0] < 2:
            taken = node.take()
            if taken is None:
                assert sum(done.values()) == OFFERS
                continue
            offer, lease = taken
            target = f"/offers/{offer.offer_id}"
            pool.call("POST", f"{target}/key", {"fencing_token": lease.fencing_token, "wrapped_key": "00"})
            receipt = node.sign_receipt(node.receipt(offer, lease, result))
            node.call("POST", f"/leases/{lease.lease_id}/receipt", receipt)
            body = {"fencing_token": lease.fencing_token, "verdict": "accepted", "reason": ""}
            pool.call("POST", f"{target}/verdict", body)
            done[offer.offer_id] += 1
        answer = pool.call("GET", "/changes?after=0")
    assert done == Counter(offer.offer_id for offer in offers)
    assert answer is not None
    told = Counter((change["offer_id"], change["kind"]) for change in answer["changes"])
    kinds = ("opened", "leased", "keyed", "computed", "accepted")
    assert told == Counter((offer.offer_id, kind) for offer in offers for kind in kinds)
