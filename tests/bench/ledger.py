"""How fast the ledger is, durable, one writer, on both engines; a settlement is one charge of four transfers.

python -m tests.bench.ledger [--engine PostgreSQL] [--transfers 10000000] [--folder /var/tmp]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from btt_bridge.config import Settings
from btt_bridge.ledger import Event, Instruction, Ledger, Move, audit
from btt_bridge.money import CNY, Amount, split
from btt_bridge.records import Urgency
from btt_bridge.settle import Delivered, Facts, Till, open_billing
from tests.bench import row
from tests.peers.postgres import postgresql

ROOT = Path(__file__).parents[2]
HOSPITAL = "hospital:bench:payable:cny"
PARTIES = ("node:bench:earnings:cny", "fund:development:cny", "fund:foundation:cny", "fund:operational-reserve:cny")
WEIGHTS = (7000, 1500, 1000, 500)
#: Settlements in one commit, as the settlement of a batch makes them.
BATCH = 2500
SINGLES = 400
BATCHES = 5
SMALL = 10_000
#: What each engine must do: settlements a second singly, transfers a second in batches.
_LEAST = {"SQLite": (180, 20_000), "PostgreSQL": (150, 10_000)}


def measure(transfers: int = 100_000, engines: Sequence[str] = ("SQLite", "PostgreSQL")) -> list[dict[str, Any]]:
    """Return the figures; `transfers` is how large the ledger is for the last balance read and verification."""
    rows: list[dict[str, Any]] = []
    for engine, (singly, batched) in _LEAST.items():
        if engine in engines:
            with _ledger(engine) as ledger:
                rows += _engine_rows(engine, ledger, singly, batched, transfers)
            with _ledger(engine) as ledger:
                rows += _charges(engine, ledger, singly, batched)
    return rows


def _engine_rows(engine: str, ledger: Ledger, singly: int, batched: int, transfers: int) -> list[dict[str, Any]]:
    settlements = _settlements()
    one_by_one = _rate(SINGLES, lambda: [ledger.post(next(settlements)) for _ in range(SINGLES)])
    together = []
    small_read = 0.0
    for _ in range(BATCHES):
        instructions = [next(settlements) for _ in range(BATCH)]
        together.append(_rate(4 * BATCH, partial(ledger.post_many, instructions)))
        small_read = small_read or _reads(ledger)
    size = 4 * (SINGLES + BATCHES * BATCH)
    while size < transfers:
        ledger.post_many([next(settlements) for _ in range(BATCH)])
        size += 4 * BATCH
    large_read, verified = _reads(ledger), _rate(size, lambda: _verified(ledger))
    return [
        row(f"{engine}: settlements/s committed singly, fsync", "target", one_by_one, singly, 1.0),
        row(f"{engine}: transfers/s, {BATCH} settlements a commit, fsync", "target", max(together), batched, 1.0),
        row(f"{engine}: ledger verify, transfers/s, of {size:,}", "target", verified, 50_000, 1.0),
        row(f"{engine}: balance reads/s at {size:,} transfers", f"at {SMALL:,}", large_read, small_read, 0.5),
    ]


def _charges(engine: str, ledger: Ledger, singly: int, batched: int) -> list[dict[str, Any]]:
    """Measure the whole way of a bill, from what is known of it to its event, by the transfers that it comes to."""
    settings = Settings(mappings_dir=ROOT / "mappings", settle={"hospital": "bench", "credit_units": 10**14})  # type: ignore[arg-type]
    billing = open_billing(settings, ledger)
    charge = billing.quote(Facts(130_000_000_000, 65_011_712, 130_000_000, Urgency.ROUTINE, "gpu"))
    numbers = itertools.count()
    till = Till(billing)
    alone = [Delivered(f"{next(numbers):064x}", "bench", charge, "n1") for _ in range(SINGLES)]
    one_by_one = _rate(SINGLES, lambda: [till.post(delivery) for delivery in alone])
    due = [
        [Delivered(f"{next(numbers):064x}", "bench", charge, f"n{n % 60}") for n in range(BATCH)]
        for _ in range(BATCHES)
    ]
    together = [_rate(BATCH, partial(billing.post_all, deliveries)) for deliveries in due]
    many = len(ledger.postings(0, 1)[0].transfers) * max(together)
    return [
        row(f"{engine}: bills/s charged through the till, one at a time", "target", one_by_one, singly, 1.0),
        row(f"{engine}: transfers/s, {BATCH} bills a commit, all of it", "target", many, batched, 1.0),
    ]


@contextmanager
def _ledger(engine: str) -> Iterator[Ledger]:
    if engine == "SQLite":
        with tempfile.TemporaryDirectory() as home, closing(_opened(f"sqlite:///{home}/ledger.db")) as ledger:
            yield ledger
    else:
        with postgresql(durable=True) as server, server.database() as url, closing(_opened(url)) as ledger:
            yield ledger


def _opened(url: str) -> Ledger:
    ledger = Ledger(url)
    ledger.open_account(HOSPITAL, CNY, credit_limit=10**30)
    for party in PARTIES:
        ledger.open_account(party, CNY)
    return ledger


def _settlements() -> Iterator[Instruction]:
    number = 0
    while True:
        number += 1
        parts = split(400 + number % 300, WEIGHTS)
        steps = [Move(HOSPITAL, party, Amount(part, CNY), "bench") for party, part in zip(PARTIES, parts, strict=True)]
        event = Event("btt.bench.v1", HOSPITAL, {"n": number})
        yield Instruction("bench", f"bench:{number}", tuple(steps), event)


def _rate(count: int, work: Any) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def _reads(ledger: Ledger) -> float:
    """Return the median rate of balance reads over rounds of 200."""
    names: Sequence[str] = (HOSPITAL, *PARTIES)
    rounds = [_rate(200, lambda: [ledger.balance(names[i % 5]) for i in range(200)]) for _ in range(7)]
    return statistics.median(rounds)


def _verified(ledger: Ledger) -> None:
    problem = audit.verify(ledger).problem
    if problem:
        raise AssertionError(problem)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--transfers", type=int, default=100_000)
    parser.add_argument("--engine", choices=list(_LEAST), action="append")
    parser.add_argument("--folder", help="where the databases lie, PostgreSQL's too; ten million transfers need 5 GB")
    asked = parser.parse_args()
    tempfile.tempdir = asked.folder
    for line in measure(asked.transfers, asked.engine or list(_LEAST)):
        print(line)
