"""Isolation: what a child process does to itself stays with it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from btt_bridge.errors import (
    BridgeError,
    FunctionFailedError,
    MalformedError,
    ProcessDiedError,
    ProcessTimedOutError,
)
from btt_bridge.isolate import Isolation
from btt_bridge.records import Code, Measurement

MIB = 2**20


@pytest.fixture(scope="module")
def isolation() -> Iterator[Isolation]:
    with Isolation(2, 512 * MIB, 20, preload=("numpy",)) as pool:
        yield pool


def square(number: int) -> int:
    return number * number


def die_at_seven(number: int) -> int:
    if number == 7:
        ctypes.string_at(0)  # a real segmentation fault, as a codec would have it
    return number


def hang_at_three(number: int) -> int:
    while number == 3:
        time.sleep(1)
    return number


def fill(size: int) -> int:
    return len(bytearray(b"x") * size)


def refuse(_: str) -> None:
    raise MalformedError("Rows (0028,0010) has no value", advice="send it again")


def fail_with_text(text: str) -> None:
    raise ValueError(text)


def answer_with_code(marker: str) -> object:
    return Opener(marker)


def answer_with_function(_: str) -> object:
    return os.path.join


def echo(value: object) -> object:
    return value


def be_stubborn(path: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(path).write_text(str(os.getpid()))
    while True:
        time.sleep(1)


def write_marker(path: str) -> None:
    Path(path).write_text("ran")


class Opener:
    """A pickle that would call write_marker in whoever loads it."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return write_marker, (self.marker,)


def until(condition: Callable[[], bool], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_answers_come_back_in_order(isolation: Isolation) -> None:
    """Every item has its answer at its own place, whichever child gave it."""
    assert isolation.each(square, range(100), batch=7) == [n * n for n in range(100)]
    assert isolation.each(square, []) == []


def test_work_is_done_in_other_processes(isolation: Isolation) -> None:
    """The caller's process runs none of it."""
    assert isolation.run(os.getpid) != os.getpid()


@pytest.mark.parametrize("batch", [1, 16])
def test_a_killer_item_costs_only_itself(isolation: Isolation, batch: int) -> None:
    """A segmentation fault in one item leaves every other item's answer in place."""
    answers = isolation.each(die_at_seven, range(40), batch=batch)
    assert isinstance(answers[7], ProcessDiedError)
    assert [a for i, a in enumerate(answers) if i != 7] == [n for n in range(40) if n != 7]


def test_a_hanging_item_costs_only_itself() -> None:
    """One item that never ends is given up; its neighbors are answered."""
    with Isolation(1, 512 * MIB, 2) as pool:
        answers = pool.each(hang_at_three, range(6))
    assert isinstance(answers[3], ProcessTimedOutError)
    assert [a for i, a in enumerate(answers) if i != 3] == [0, 1, 2, 4, 5]


def test_a_call_may_have_its_own_time_limit(isolation: Isolation) -> None:
    """The limit of one call overrides that of the pool, and the pool goes on."""
    with pytest.raises(ProcessTimedOutError):
        isolation.run(hang_at_three, 3, seconds_max=0.3)
    assert isolation.run(square, 3) == 9


def test_memory_is_limited(isolation: Isolation) -> None:
    """A job that fills more memory than it may is killed; one that stays below is not."""
    with pytest.raises(ProcessDiedError, match="memory"):
        isolation.run(fill, 4096 * MIB)
    assert isolation.run(fill, 128 * MIB) == 128 * MIB


def test_our_own_errors_cross_whole(isolation: Isolation) -> None:
    """Class, text and advice of a BridgeError arrive as they were raised."""
    with pytest.raises(MalformedError, match="Rows") as caught:
        isolation.run(refuse, "")
    assert caught.value.advice == "send it again"
    (answer,) = isolation.each(refuse, [""])
    assert isinstance(answer, MalformedError)


def test_texts_of_other_errors_stay_in_the_child(isolation: Isolation) -> None:
    """A library's error arrives as class and place, without the value that it quotes."""
    with pytest.raises(FunctionFailedError) as caught:
        isolation.run(fail_with_text, "DOE^JANE")
    assert "ValueError at" in str(caught.value)
    assert "test_isolate.py" in str(caught.value)
    assert "DOE" not in repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__)


def test_children_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """What a C library prints about the data it choked on reaches no log."""
    with Isolation(1, 512 * MIB, 20) as pool:
        pool.run(os.write, 2, b"DOE^JANE")
        pool.run(os.write, 1, b"DOE^JANE")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("function", [answer_with_code, answer_with_function])
def test_an_answer_cannot_run_code(isolation: Isolation, function: Callable[[str], object], tmp_path: Path) -> None:
    """A child that was taken over cannot have the caller call or import anything."""
    marker = tmp_path / "marker"
    with pytest.raises(ProcessDiedError, match="may not answer"):
        isolation.run(function, str(marker))
    assert not marker.exists()


def test_records_arrays_and_plain_values_cross(isolation: Isolation) -> None:
    """What stages really hand each other passes the strict reader unchanged."""
    code = Code("39607008", "SCT", "Lung")
    plain = {"a": (1, 2.5, None, b"x", {"s"}, frozenset("t")), "t": datetime(2026, 1, 5, tzinfo=UTC), "p": Path("a")}
    assert isolation.run(echo, plain) == plain
    assert isolation.run(echo, [Measurement(code, 1.5, "mL")]) == [Measurement(code, 1.5, "mL")]
    array = np.arange(100_000, dtype=np.uint16).reshape(100, 1000)
    assert np.array_equal(isolation.run(echo, array), array)


def test_large_answers_cross_whole(isolation: Isolation) -> None:
    """Objects of a CT slice's size come back bit for bit, many at a time."""
    items = [os.urandom(526_000) for _ in range(24)]
    assert isolation.each(echo, items) == items


def test_an_answer_that_cannot_be_pickled_is_an_error(isolation: Isolation) -> None:
    """The caller learns what happened, and the same child goes on."""
    with pytest.raises(FunctionFailedError):
        isolation.run(threading.Lock)
    assert isolation.run(square, 5) == 25


def test_a_child_lives_for_as_many_jobs_as_it_may() -> None:
    """With one job a child, nothing that a job left in memory is there for the next."""
    with Isolation(1, 512 * MIB, 20, jobs_max=1) as pool:
        first, second = pool.run(os.getpid), pool.run(os.getpid)
        assert first != second
        assert until(lambda: not alive(first))


def test_prepare_runs_before_the_first_job(tmp_path: Path) -> None:
    """What makes a child warm is done in it before it is asked for anything."""
    with Isolation(1, 512 * MIB, 20, prepare=Prepared(str(tmp_path / "marker"))) as pool:
        assert pool.run(os.path.exists, str(tmp_path / "marker"))


class Prepared:
    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __call__(self) -> None:
        write_marker(self.marker)


def test_many_threads_share_the_pool(isolation: Isolation) -> None:
    """Concurrent callers get each their own answers, deaths among them included."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: isolation.each(die_at_seven, range(12), batch=4), range(12)))
    for answer in answers:
        assert isinstance(answer[7], ProcessDiedError)
        assert answer[:7] + answer[8:] == [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11]


def test_running_work_can_be_abandoned(tmp_path: Path) -> None:
    """A job that is not wanted any more is killed, and the pool serves the next."""
    marker = tmp_path / "pid"
    with Isolation(1, 512 * MIB, 60) as pool, ThreadPoolExecutor(1) as threads:
        job = threads.submit(pool.run, be_stubborn, str(marker))
        assert until(lambda: marker.exists() and marker.read_text() != "")
        pool.abandon()
        with pytest.raises(ProcessDiedError, match="abandoned"):
            job.result(20)
        assert pool.run(square, 2) == 4


def test_closing_ends_running_work(tmp_path: Path) -> None:
    """close() kills what runs, and later calls are refused."""
    marker = tmp_path / "pid"
    pool = Isolation(1, 512 * MIB, 60)
    with ThreadPoolExecutor(1) as threads:
        job = threads.submit(pool.run, be_stubborn, str(marker))
        assert until(lambda: marker.exists() and marker.read_text() != "")
        pool.close()
        with pytest.raises(ProcessDiedError):
            job.result(20)
    assert until(lambda: not alive(int(marker.read_text())))
    with pytest.raises(ProcessDiedError, match="closed"):
        pool.run(square, 2)


def test_the_pool_survives_its_fork_server() -> None:
    """When the machine kills the fork server, its children go with it and new ones take their place."""
    with Isolation(2, 512 * MIB, 20) as pool:
        child = pool.run(os.getpid)
        os.kill(pool.run(os.getppid), signal.SIGKILL)
        assert until(lambda: not alive(child))
        answers = [answer_or_error(pool) for _ in range(4)]
        assert answers[-2:] == [4, 4]
        assert all(a == 4 or isinstance(a, ProcessDiedError) for a in answers)


def answer_or_error(pool: Isolation) -> int | BridgeError:
    try:
        return pool.run(square, 2)
    except BridgeError as problem:
        return problem


def test_children_die_with_the_parent(tmp_path: Path) -> None:
    """kill -9 of the process that owns the pool leaves no orphan, even one that ignores signals and is at work."""
    marker = tmp_path / "pid"
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from test_isolate import Isolation, be_stubborn\n"
        "Isolation(1, 2**29, 60).run(be_stubborn, sys.argv[2])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, str(Path(__file__).parent), str(marker)])
    try:
        assert until(lambda: marker.exists() and marker.read_text() != "")
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: not alive(int(marker.read_text())))


def test_deaths_leak_no_descriptors(isolation: Isolation) -> None:
    """Replacing children for weeks does not use up the process's open files."""
    isolation.each(die_at_seven, [7])
    before = len(os.listdir("/proc/self/fd"))
    isolation.each(die_at_seven, [7] * 30)
    assert len(os.listdir("/proc/self/fd")) <= before
