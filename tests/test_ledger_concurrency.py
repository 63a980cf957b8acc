"""Many writers at once, and writers that die: nothing is spent twice, nothing acknowledged is lost."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Final

from btt_bridge.errors import HoldResolvedError, KeyConflictError, LedgerError, OverdrawnError
from btt_bridge.ledger import Hold, Instruction, Ledger, Move, Post, Posting, Void, audit
from btt_bridge.money import CNY, Amount
from btt_bridge.testing import FakeClock

WRITERS: Final = 8


def _open(url: str) -> Ledger:
    ledger = Ledger(url, FakeClock())
    ledger.open_account("a:cny", CNY)
    ledger.open_account("b:cny", CNY)
    ledger.open_account("world:cny", CNY, credit_limit=None)
    return ledger


def _attempts(url: str, attempt: Callable[[Ledger, int], Posting]) -> list[Posting | LedgerError]:
    """Let every writer make its attempt at once, each with a ledger of its own."""

    def one(writer: int) -> Posting | LedgerError:
        ledger = Ledger(url, FakeClock())
        try:
            return attempt(ledger, writer)
        except LedgerError as error:
            return error
        finally:
            ledger.close()

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(one, range(WRITERS)))


def _spend(amount: int, key: str) -> Callable[[Ledger, int], Posting]:
    steps = [Move("a:cny", "b:cny", Amount(amount, CNY), "spend")]
    return lambda ledger, writer: ledger.post_all("t", key.format(writer), steps)


def test_one_balance_is_spent_once(database_url: str) -> None:
    """Eight writers, money for one of them: one succeeds and seven are refused."""
    ledger = _open(database_url)
    ledger.post_all("t", "fund", [Move("world:cny", "a:cny", Amount(100, CNY), "fund")])
    answers = _attempts(database_url, _spend(100, "spend-{}"))
    assert sum(isinstance(answer, Posting) for answer in answers) == 1
    assert sum(isinstance(answer, OverdrawnError) for answer in answers) == WRITERS - 1
    assert ledger.balance("b:cny").units == 100
    assert audit.verify(ledger).problem == ""
    ledger.close()


def test_one_key_posts_once_and_all_hear_the_same(database_url: str) -> None:
    """Eight writers with one instruction: one posting, eight equal answers."""
    ledger = _open(database_url)
    ledger.post_all("t", "fund", [Move("world:cny", "a:cny", Amount(100, CNY), "fund")])
    answers = _attempts(database_url, _spend(10, "same"))
    assert all(isinstance(answer, Posting) for answer in answers)
    assert all(answer == answers[0] for answer in answers)
    assert ledger.balance("b:cny").units == 10
    ledger.close()


def test_one_key_with_many_bodies_posts_one_of_them(database_url: str) -> None:
    """Eight writers with one key and different amounts: the first wins, the others hear of the conflict."""
    ledger = _open(database_url)
    ledger.post_all("t", "fund", [Move("world:cny", "a:cny", Amount(100, CNY), "fund")])
    answers = _attempts(
        database_url,
        lambda ledger, writer: ledger.post_all("t", "same", [Move("a:cny", "b:cny", Amount(1 + writer, CNY), "spend")]),
    )
    assert sum(isinstance(answer, Posting) for answer in answers) == 1
    assert sum(isinstance(answer, KeyConflictError) for answer in answers) == WRITERS - 1
    ledger.close()


def test_one_hold_is_resolved_once(database_url: str) -> None:
    """Half the writers post it, half void it: one of them does."""
    ledger = _open(database_url)
    ledger.post_all("t", "fund", [Move("world:cny", "a:cny", Amount(100, CNY), "fund")])
    expires_at = ledger.clock.now() + timedelta(hours=1)
    held = ledger.post_all("t", "hold", [Hold("a:cny", "b:cny", Amount(60, CNY), "hold", expires_at)])
    answers = _attempts(
        database_url,
        lambda ledger, writer: ledger.post_all(
            "t", f"resolve-{writer}", [Post(held.id, "take") if writer % 2 else Void(held.id, "release")]
        ),
    )
    assert sum(isinstance(answer, Posting) for answer in answers) == 1
    assert sum(isinstance(answer, HoldResolvedError) for answer in answers) == WRITERS - 1
    assert ledger.balance("a:cny").debits_pending == 0
    assert audit.verify(ledger).problem == ""
    ledger.close()


def test_nobody_comes_between_what_is_read_and_what_is_posted_by_it(database_url: str) -> None:
    """Eight writers count what stands and post the next number, each in one transaction: no number is taken twice."""
    _open(database_url).close()

    def next_number(ledger: Ledger, _: int) -> Posting:
        with ledger.transaction() as book:
            found = book.find_all("t", [f"n{number}" for number in range(1, WRITERS + 1)])
            steps = (Move("world:cny", "a:cny", Amount(1, CNY), "in"),)
            answer = book.post(Instruction("t", f"n{len(found) + 1}", steps))
        assert isinstance(answer, Posting)
        return answer

    answers = _attempts(database_url, next_number)
    assert {answer.key for answer in answers if isinstance(answer, Posting)} == {f"n{n}" for n in range(1, WRITERS + 1)}


def _spend_one_by_one(url: str, writer: int) -> int:
    ledger, done = Ledger(url, FakeClock()), 0
    for number in range(40):
        try:
            ledger.post_all("t", f"{writer}-{number}", [Move("a:cny", "b:cny", Amount(1, CNY), "spend")])
            done += 1
        except OverdrawnError:
            break
    ledger.close()
    return done


def test_two_processes_spend_exactly_what_is_there(database_url: str) -> None:
    """Two processes try to spend 80 of 50, unit by unit: together they spend 50, on one unbroken chain."""
    ledger = _open(database_url)
    ledger.post_all("t", "fund", [Move("world:cny", "a:cny", Amount(50, CNY), "fund")])
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = list(pool.map(_spend_one_by_one, [database_url] * 2, range(2)))
    assert sum(done) == 50
    assert (ledger.balance("a:cny").units, ledger.balance("b:cny").units) == (0, 50)
    assert audit.verify(ledger).problem == ""
    ledger.close()


_WRITER: Final = """
import sys
from btt_bridge.ledger import Ledger, Move
from btt_bridge.money import CNY, Amount
ledger = Ledger(sys.argv[1])
for number in range(10_000):
    key = f"{sys.argv[2]}-{number}"
    steps = [Move("world:cny", "a:cny", Amount(1, CNY), "in"), Move("a:cny", "b:cny", Amount(1, CNY), "out")]
    ledger.post_all("t", key, steps)
    print(key, flush=True)
"""


def test_what_was_acknowledged_survives_the_plug(database_url: str, tmp_path: Path) -> None:
    """A writer is killed in the middle of its work, again and again: every key it has confirmed is in the book."""
    ledger = _open(database_url)
    confirmed: list[str] = []
    for life in range(4):
        command = [sys.executable, "-c", _WRITER, database_url, f"life{life}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) as writer:
            assert writer.stdout is not None
            confirmed += [writer.stdout.readline().strip() for _ in range(5 + life)]
            writer.send_signal(signal.SIGKILL)
            confirmed += [line.strip() for line in writer.stdout if line.endswith("\n")]
    assert len(confirmed) >= 26
    assert all(ledger.find("t", key) is not None for key in confirmed)
    found = audit.verify(ledger)
    assert found.problem == ""
    assert found.transfers % 2 == 0
    assert (ledger.balance("a:cny").units, ledger.balance("b:cny").units) == (0, found.transfers // 2)
    ledger.close()
