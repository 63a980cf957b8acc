"""Durable before yes: one object's way from the last of its bytes to a row in the index, shared by every door."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from btt_bridge import log
from btt_bridge.accept.part10 import Description, skip_head
from btt_bridge.accept.spool import Incoming, Spool, Swept
from btt_bridge.errors import CapacityError, MalformedError
from btt_bridge.journal import Journal
from btt_bridge.plugins import Bell
from btt_bridge.records import Arrival

_log = log.logger("accept")

#: The bell rings at most this often; whoever listens looks for everything new anyway.
RING_EVERY_SECONDS = 0.05
_COMPARE_BYTES = 1 << 20


class Intake:
    """Where an object becomes one that the bridge answers for."""

    def __init__(self, spool: Spool, journal: Journal, ringer: Ringer, commit_objects_max: int) -> None:
        self._spool = spool
        self._journal = journal
        self._ringer = ringer
        self._commits = GroupCommit(journal, commit_objects_max)
        #: What is durable here while the index was away; no more than were in hand at that moment.
        self._unindexed: deque[Arrival] = deque()
        self._retrying = threading.Lock()

    def begin(self, described: Description) -> Incoming:
        """Return a file to write an object to; raise a CapacityError where there is no room, or no index, for one."""
        if self._unindexed:
            self._index_again()
        return self._spool.take(described)

    def admit(self, incoming: Incoming) -> None:
        """Return once the object is on stable storage and in the index, or was both before; else raise.

        One flush does it: the file says of itself all that the index is told, so that the index commits without a flush
        of its own. Should it forget in a power cut, `recover` tells it again.
        """
        try:
            arrival = incoming.seal(self._journal.clock.now())
        except CapacityError:
            incoming.discard()
            raise
        try:
            self._index(arrival)
        except CapacityError:
            # Nobody was told yes; but it may be in the index, so the file stays until the index answers again.
            self._unindexed.append(arrival)
            raise

    def recover(self) -> Swept:
        """Index what dead processes had made durable and the index does not have; remove what they left half done."""
        return self._spool.sweep(self._journal.indexed, self._index, self._journal.record_swept)

    def _index_again(self) -> None:
        """Index what could not be indexed when it came; while that fails, nobody need send more."""
        if not self._retrying.acquire(blocking=False):
            raise CapacityError("the index cannot be written")
        try:
            while self._unindexed:
                self._index(self._unindexed[0])
                self._unindexed.popleft()
        finally:
            self._retrying.release()

    def _index(self, arrival: Arrival) -> None:
        holder = self._commits.commit(arrival)
        if holder is None:
            self._ringer.ring()
        elif self._is_kept_already(arrival, holder):
            with suppress(OSError):
                os.unlink(self._spool.root / arrival.path)
        else:
            self._journal.record_conflict(arrival)
            _log.warning("conflict", reason="a SOP Instance UID came again with other content", path=arrival.path)

    def _is_kept_already(self, arrival: Arrival, holder: Arrival) -> bool:
        others = [holder, *self._journal.conflicts(arrival.sop_instance_uid)]
        return any(_same_object(self._spool.root, arrival, other) for other in others)


def _same_object(root: Path, one: Arrival, other: Arrival) -> bool:
    """Compare data sets and what describes them; the file heads differ by who sent it and who wrote it."""
    if (one.sop_class_uid, one.transfer_syntax_uid) != (other.sop_class_uid, other.transfer_syntax_uid):
        return False
    with suppress(OSError, MalformedError), open(root / one.path, "rb") as left, open(root / other.path, "rb") as right:
        skip_head(left)
        skip_head(right)
        while (block := left.read(_COMPARE_BYTES)) == right.read(_COMPARE_BYTES):
            if not block:
                return True
    # What cannot be compared, for its file is gone or broken, is not known to be the same, and is kept.
    return False


@dataclass(slots=True, eq=False)
class _Waiting:
    """One arrival on its way into the index."""

    arrival: Arrival
    holder: Arrival | None = None
    done: bool = False
    failed: bool = False
    #: Released when there is something to know: that it is done, or that this thread is to lead.
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.turn.acquire()


class GroupCommit:
    """Index commits shared by the associations of a process, without a thread between them.

    Whoever finds nobody committing leads: it commits all that wait, wakes them, and hands the lead to the
    first that came meanwhile. A lone association thus commits by itself at once; many share one commit.
    """

    def __init__(self, journal: Journal, objects_max: int) -> None:
        self._journal = journal
        self._objects_max = objects_max
        self._lock = threading.Lock()
        self._waiting: deque[_Waiting] = deque()
        self._led = False

    def commit(self, arrival: Arrival) -> Arrival | None:
        """Return once an arrival is indexed (None), or with the arrival that holds its SOP Instance UID."""
        mine = _Waiting(arrival)
        with self._lock:
            self._waiting.append(mine)
            follow, self._led = self._led, True
        if follow:
            mine.turn.acquire()
        if not mine.done:
            self._lead()
        if mine.failed:
            # Whether the row was written is not known, so the file stays; the next start tells the index of it.
            raise CapacityError("the index cannot be written")
        return mine.holder

    def _lead(self) -> None:
        with self._lock:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._objects_max))]
        self._record(batch)
        with self._lock:
            following = self._waiting[0] if self._waiting else None
            self._led = following is not None
        for waiting in batch:
            waiting.done = True
            waiting.turn.release()
        if following is not None:
            following.turn.release()

    def _record(self, batch: Sequence[_Waiting]) -> None:
        try:
            holders = self._journal.record_arrivals([waiting.arrival for waiting in batch])
        except Exception as problem:  # whatever the database's driver raises, each sender must get an answer
            _log.error("index", exc_info=problem, count=len(batch))
            for waiting in batch:
                waiting.failed = True
        else:
            for waiting, holder in zip(batch, holders, strict=True):
                waiting.holder = holder


class Ringer:
    """Rings the bell after commits, at most so often, and from a thread of its own: a bell can hurt nobody."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._rung = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ringer", daemon=True)
        self._thread.start()

    def ring(self) -> None:
        self._rung.set()

    def close(self) -> None:
        """Ring what is still to be rung, and end."""
        self._ended.set()
        self._rung.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._rung.wait()
            self._rung.clear()
            try:
                self._bell.ring("arrived", "")
            except Exception as problem:  # a lost ring changes nothing, and neither must a broken bell
                _log.warning("bell", exc_info=problem)
            self._ended.wait(RING_EVERY_SECONDS)
