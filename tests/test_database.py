"""Who writes to a SQLite file waits for those before it, is woken at once, and does not wait for ever."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from btt_bridge import database
from btt_bridge.database import turn, writing
from btt_bridge.errors import CapacityError
from btt_bridge.vault import metadata
from tests.peers.server import wait_until


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = database.open_database(f"sqlite:///{tmp_path / 'test.db'}", metadata)
    yield opened
    opened.dispose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)


@contextmanager
def _another_process(tmp_path: Path) -> Iterator[None]:
    """Have the turn as another process has it: by a description of the file that is its own."""
    descriptor = os.open(tmp_path / "test.db.turn", os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def _write(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO identity_key VALUES ('a', 'b') ON CONFLICT DO NOTHING"))


@pytest.mark.usefixtures("impatient")
def test_a_stuck_process_does_not_hang_the_others(engine: Engine, tmp_path: Path) -> None:
    """Whoever waits in vain is told so, again and again; once the other lets go, all is as before."""
    with _another_process(tmp_path):
        for _ in range(3):
            with pytest.raises(CapacityError, match="does not go on"):
                _write(engine)
        assert [thread.name for thread in threading.enumerate()].count("turnstile") == 1
    _write(engine)


@pytest.mark.usefixtures("impatient")
def test_a_turn_that_comes_too_late_is_given_on(engine: Engine, tmp_path: Path) -> None:
    """What a waiter gets after it has gone keeps nobody else out."""
    with _another_process(tmp_path), pytest.raises(CapacityError):
        _write(engine)
    wait_until(lambda: "turnstile" not in [thread.name for thread in threading.enumerate()], "the thread to let go")
    with _another_process(tmp_path):
        pass


@pytest.mark.usefixtures("impatient")
def test_a_stuck_thread_does_not_hang_the_others(engine: Engine) -> None:
    """Within one process it is the same."""
    with turn(engine), ThreadPoolExecutor(1) as pool, pytest.raises(CapacityError):
        pool.submit(_write, engine).result(30)
    _write(engine)


def test_a_waiter_gets_its_turn_when_the_other_lets_go(engine: Engine, tmp_path: Path) -> None:
    """Also one that asks while a thread stands in line already for somebody who gave up."""
    with ThreadPoolExecutor(2) as pool:
        with _another_process(tmp_path):
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(database, "BUSY_SECONDS", 0)
                with pytest.raises(CapacityError):
                    _write(engine)
            waiting = [pool.submit(_write, engine) for _ in range(2)]
            assert not any(one.done() for one in waiting)
        for one in waiting:
            one.result(30)


def test_turns_exclude_each_other(engine: Engine, tmp_path: Path) -> None:
    """Four threads by each of two engines, as two processes would: of 400 increments none is lost."""
    other = database.open_database(f"sqlite:///{tmp_path / 'test.db'}", metadata)
    count = [0]

    def increment(own: Engine) -> None:
        for _ in range(50):
            with turn(own):
                seen = count[0]
                os.sched_yield()
                count[0] = seen + 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(increment, [engine, other] * 4))
    assert count == [400]
    other.dispose()
