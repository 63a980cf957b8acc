"""One job by itself: the service reads while the parcel is still being opened, and a broken parcel has no result."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from btt_bridge import plugins
from btt_bridge.errors import SealBrokenError
from btt_bridge.infer.job import Job, work
from btt_bridge.parcel import CHUNK_BYTES, ParcelWriter, Shelf, WrapKey, new_key
from btt_bridge.records import Lease, Offer, Result, Tier, Urgency
from btt_bridge.testing import CountingService

_MEMBERS = 4


class _Hasty(CountingService):
    """A service that looks at the first instance alone."""

    def run(self, instances: Iterable[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
        return super().run([next(iter(instances))], device, timings)


def _job(folder: Path, *, cut_bytes: int = 0) -> Job:
    """Return a job on a parcel of several chunks, of which the end is missing; its digest is that of what is there."""
    key, sealed = new_key(), io.BytesIO()
    writer = ParcelWriter(sealed, key)
    for number in range(_MEMBERS):
        writer.add(f"{number}.dcm", bytes(CHUNK_BYTES * 3 // 4))
    writer.close()
    content = sealed.getvalue()[: len(sealed.getvalue()) - cut_bytes]
    shelf, digest = Shelf(str(folder)), hashlib.sha256(content).hexdigest()
    with shelf.create() as draft:
        draft.write(memoryview(content))
        draft.commit(digest)
    soon = datetime.now(UTC) + timedelta(hours=1)
    reply = WrapKey.new()
    offer = Offer(
        "offer", "hospital", "counting", digest, len(content), 1, 1, Urgency.ROUTINE, Tier.PUBLIC, 1, "CNY", soon,
        reply.public,
    )  # fmt: skip
    lease = Lease("lease", "offer", "node", 1, 1, soon, reply.public, "00" * 32)
    return Job(offer, lease, key, str(folder), "cpu", 1, 2**30)


def test_a_service_gets_every_instance_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All members reach the service, and what it waited for them is told among the timings."""
    read: list[int] = []

    class Reading(CountingService):
        def run(self, instances: Iterable[bytes | bytearray], device: str, timings: dict[str, float]) -> Result:
            contents = list(instances)
            read.extend(len(content) for content in contents)
            return super().run(contents, device, timings)

    monkeypatch.setattr(plugins, "service", lambda _: Reading())
    done = work(_job(tmp_path))
    assert read == [CHUNK_BYTES * 3 // 4] * _MEMBERS
    assert done.timings.keys() == {"open", "run", "seal"}


@pytest.mark.parametrize("service", [CountingService, _Hasty])
def test_a_parcel_that_is_not_whole_has_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, service: type[CountingService]
) -> None:
    """A parcel that ends too early is refused, though its digest is the promised one, and though the service had
    what it wanted before the end."""
    monkeypatch.setattr(plugins, "service", lambda _: service())
    with pytest.raises(SealBrokenError):
        work(_job(tmp_path, cut_bytes=CHUNK_BYTES))
