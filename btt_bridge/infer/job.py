"""One job in a process of its own: open the parcel, run the service, seal the result; what was opened ends with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import SimpleQueue

from btt_bridge import parcel, plugins, result
from btt_bridge.errors import SealBrokenError, TooLargeError
from btt_bridge.infer.hardware import set_threads
from btt_bridge.records import Lease, Offer

_SWITCH_SECONDS = 0.0005


@dataclass(frozen=True)
class Job:
    """Everything a child process is told."""

    offer: Offer
    lease: Lease
    #: Opens the parcel.
    key: bytes
    #: Where the parcel lies under its digest, and where the result is put under its own.
    shelf_url: str
    device: str
    #: CPU threads for torch; 0 leaves it to torch.
    threads: int
    bytes_max: int


@dataclass(frozen=True)
class Done:
    """What came of it: all that a receipt needs, and nothing of the content."""

    service_version: str
    model_digest: str
    output_digest: str
    size_bytes: int
    wrapped_key: str
    started_at: datetime
    finished_at: datetime
    timings: dict[str, float]


class _Opening:
    """The contents of a parcel, once, opened by a thread that runs ahead of whoever reads them."""

    def __init__(self, members: Iterator[tuple[str, bytearray]], beside: Executor) -> None:
        #: How long the reader had to wait; its own timings hold these seconds too.
        self.waited_seconds = 0.0
        self._members = members
        self._opened: SimpleQueue[bytearray | None] = SimpleQueue()
        self._end = beside.submit(self._open)

    def _open(self) -> None:
        try:
            for _, content in self._members:
                self._opened.put(content)
        finally:
            self._opened.put(None)

    def __iter__(self) -> Iterator[bytearray]:
        while True:
            started = time.perf_counter()
            content = self._opened.get()
            self.waited_seconds += time.perf_counter() - started
            if content is None:
                self.finish()
                return
            yield content

    def finish(self) -> None:
        """Raise SealBrokenError or TooLargeError unless the parcel was whole: nothing of any other may be told."""
        self._end.result()


def work(job: Job) -> Done:
    """Do the job; raise SealBrokenError for a parcel that is not the one promised, or what the service raises."""
    # Opening hands over one object after another; by default each would wait up to 5 ms for its turn beside decoding.
    sys.setswitchinterval(_SWITCH_SECONDS)
    service = plugins.service(job.offer.service)
    started_at = datetime.now(UTC)
    timings: dict[str, float] = {}
    shelf = parcel.Shelf(job.shelf_url)
    digest = job.offer.parcel_digest
    if (shelf.size(digest) or 0) > job.bytes_max:
        raise TooLargeError("the parcel is larger than this node takes")
    with ThreadPoolExecutor(2) as beside, shelf.open(digest) as file, shelf.open(digest) as again:
        # The seal vouches for every byte that is opened. The digest is what the receipt will say of the parcel. Both
        # are worked on beside the service.
        opening = _Opening(parcel.members(file, job.key, bytes_max=job.bytes_max), beside)
        proof = beside.submit(parcel.digest_of, again)
        set_threads(job.device, job.threads)
        found = service.run(opening, job.device, timings)
        opening.finish()
        timings["open"] = opening.waited_seconds
        if proof.result() != digest:
            raise SealBrokenError("the parcel's digest is not the one that was promised")
    started = time.perf_counter()
    key = parcel.new_key()
    with shelf.create() as draft:
        writer = parcel.ParcelWriter(draft, key)
        for name, content in result.encode(found).items():
            writer.add(name, content)
        digest = writer.close()
        draft.commit(digest)
    wrapped = parcel.wrap(key, job.offer.reply_key, parcel.result_info(job.offer, job.lease, digest))
    timings["seal"] = time.perf_counter() - started
    return Done(
        service.version,
        service.digest(),
        digest,
        writer.size_bytes,
        wrapped,
        started_at,
        datetime.now(UTC),
        timings,
    )
