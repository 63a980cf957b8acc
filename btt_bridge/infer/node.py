"""The node's own process: asks the exchange for work, keeps the lease alive, and has each job done by a fresh child."""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

from btt_bridge import log, plugins
from btt_bridge.config import Node as NodeSettings
from btt_bridge.doorbell import Doorbell
from btt_bridge.errors import (
    BridgeError,
    CapacityError,
    LeaseLostError,
    OfferExpiredError,
    PeerRefusedError,
    PoolUnreachableError,
    SignatureError,
    TooLargeError,
    UnknownError,
)
from btt_bridge.infer import benchmark
from btt_bridge.infer.hardware import describe, warm
from btt_bridge.infer.job import Done, Job, work
from btt_bridge.isolate import Isolation
from btt_bridge.parcel import Shelf, WrapKey, parcel_info
from btt_bridge.pool import Pool
from btt_bridge.records import Hardware, Lease, NodeCard, Offer, Receipt, Tier, from_body, to_body
from btt_bridge.signing import Signer, verify

_log = log.logger("infer")

#: How long the exchange is asked to hold a question open. Short enough to stop soon, long enough to ask seldom.
_WAIT_SECONDS = 5
#: Pause after an exchange could not be reached, or would not have us.
_PAUSE_SECONDS = 2.0
#: Pause between two looks at whether a running job is still wanted.
_LOOK_SECONDS = 0.5
_START_SECONDS_MAX = 300.0
_REASON_LENGTH_MAX = 200
#: What services are likely to need; imported once, before children are forked.
_PRELOAD = ("torch", "pydicom.pixels", "gdcm", "btt_bridge.infer.job")


def main(settings: NodeSettings, stop: threading.Event) -> None:
    """Work for one exchange until `stop` is set; then finish the job at hand, or give it back if it takes too long."""
    with Node(settings, stop) as node:
        node.run()


def sign_key(settings: NodeSettings) -> Signer:
    """Return the key that is this node's name, made on first use; its public half is what exchanges admit."""
    return Signer.load(settings.data_dir / "sign.key")


class Node:
    """One node at one exchange; one job at a time."""

    def __init__(self, settings: NodeSettings, stop: threading.Event) -> None:
        self._settings = settings
        self._stop = stop
        self._signer = sign_key(settings)
        self._wrap_key = WrapKey.load(settings.data_dir / "wrap.key")
        self._services = plugins.services()
        self._pool = Pool(settings.exchange_url, self._signer)
        self._shelf_url = settings.parcels_url or str(_emptied(settings.data_dir / "scratch"))
        self._shelf = Shelf(self._shelf_url)
        self._isolation = Isolation(
            1,
            settings.memory_bytes_max,
            settings.run_seconds_max,
            _PRELOAD,
            # What a job has opened goes when its process goes, so each has a process of its own.
            jobs_max=1,
            prepare=partial(warm, settings.device, settings.threads),
        )
        self._card = self._introduction()
        self._rung = threading.Event()
        self._bell: Doorbell | None = None
        self._hush: Callable[[], None] = lambda: None
        self._lease_seconds = 30.0
        self._lease_id = uuid.uuid4().hex

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hush()
        if self._bell is not None:
            self._bell.close()
        self._isolation.close()

    def run(self) -> None:
        """Take one offer after another until told to stop."""
        joined = False
        while not self._stop.is_set():
            try:
                if not joined:
                    self._join()
                joined = True
                taken = self._take()
            except UnknownError:
                joined = False  # the exchange has forgotten us, or is another one
                continue
            except (PoolUnreachableError, PeerRefusedError, SignatureError) as problem:
                _log.warning("no exchange", error=type(problem).__name__, node=self._signer.public)
                self._stop.wait(_PAUSE_SECONDS)
                continue
            if taken is not None:
                self._do(*taken)
            elif self._bell is not None:
                self._await_bell()

    def _await_bell(self) -> None:
        """Wait until somebody rings, we should look by ourselves, or stop."""
        until = time.monotonic() + self._settings.poll_seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            if self._rung.wait(min(left, _LOOK_SECONDS)):
                break
        self._rung.clear()

    # --- at the exchange --------------------------------------------------------------------------------

    def _introduction(self) -> NodeCard:
        """Return what this node says of itself; how fast it is was measured, now or before."""
        settings = self._settings
        self._device, self._hardware = self._isolation.run(describe, settings.device, seconds_max=_START_SECONDS_MAX)
        return NodeCard(
            self._signer.public,
            self._wrap_key.public,
            Tier(settings.tier),
            tuple(sorted(self._services)),
            self._hardware,
            max((self._benchmark(name) for name in self._services), default=0),
            settings.parcel_bytes_max,
            Hardware.CPU if self._device == "cpu" else Hardware.GPU,
        )

    def _benchmark(self, name: str) -> int:
        path = self._settings.data_dir / "benchmark.json"
        key = f"{self._services[name].digest()} {self._hardware}"
        known = benchmark.remembered(path, key)
        if known is None:
            try:
                known = self._isolation.run(
                    benchmark.measure, name, self._device, self._settings.threads, seconds_max=_START_SECONDS_MAX
                )
            except BridgeError as problem:
                _log.warning("service cannot be measured", service=name, error=type(problem).__name__)
                known = 0
            benchmark.remember(path, key, known)
        return known

    def _join(self) -> None:
        answer = self._pool.call("POST", "/nodes", self._signer.sign("node", to_body(self._card))) or {}
        self._lease_seconds = float(answer["lease_seconds"])
        _log.info("joined", node=self._signer.public, status=str(answer["tier"]))
        if self._settings.broker_url and self._bell is None:
            self._bell = Doorbell(
                self._settings.broker_url, str(answer["queue"]), self._signer, [str(answer["exchange_key"])]
            )
            self._hush = self._bell.listen(lambda _kind, _subject: self._rung.set())

    def _take(self) -> tuple[Offer, Lease] | None:
        # With a doorbell we ask and go; without one the exchange holds the question open until there is something.
        wait = 0 if self._bell is not None else _WAIT_SECONDS
        # The same number until there is an answer: an answer that was lost is then given again.
        body = {"lease_id": self._lease_id, "wait_seconds": wait}
        answer = self._pool.call("POST", "/leases", body, wait_seconds=wait)
        self._lease_id = uuid.uuid4().hex
        if answer is None:
            return None
        envelope = answer["offer"]
        offer = from_body(Offer, verify(envelope, "offer", envelope["key"]))
        return offer, from_body(Lease, answer["lease"])

    # --- one job ----------------------------------------------------------------------------------------

    def _do(self, offer: Offer, lease: Lease) -> None:
        """See one lease to its end: a receipt, a failure, or nothing where the lease was lost."""
        _log.info(
            "lease taken", offer=offer.offer_id, lease=lease.lease_id, service=offer.service, attempt=lease.attempt
        )
        stop_seconds = self._settings.stop_seconds
        with _Watch(self._pool, lease, self._lease_seconds, self._stop, stop_seconds, self._isolation.abandon) as watch:
            try:
                done = self._worked(offer, lease, watch)
                self._hand_in(offer, lease, done)
            except LeaseLostError:
                _log.warning("lease lost", offer=offer.offer_id, lease=lease.lease_id)
            except Exception as problem:
                if not watch.lost:
                    self._fail(offer, lease, "the node is stopping" if watch.stopped else _reason(problem))
            finally:
                self._clear(offer)

    def _worked(self, offer: Offer, lease: Lease, watch: _Watch) -> Done:
        settings = self._settings
        watch.check()
        if offer.service not in self._services:
            raise UnknownError("this service is not installed here")
        if offer.parcel_size_bytes > settings.parcel_bytes_max:
            raise TooLargeError("the parcel is larger than this node takes")
        with ThreadPoolExecutor(1) as beside:
            fetched = beside.submit(self._fetch, offer)
            key = self._key(offer, lease, watch)
            fetched.result()
        watch.check()
        job = Job(offer, lease, key, self._shelf_url, self._device, settings.threads, settings.parcel_bytes_max)
        left = (offer.deadline - datetime.now(UTC)).total_seconds()
        return self._isolation.run(work, job, seconds_max=max(0.1, min(settings.run_seconds_max, left)))

    def _fetch(self, offer: Offer) -> None:
        """Bring the ciphertext here, unless it lies on a shelf that we share with the exchange."""
        if not self._settings.parcels_url:
            with self._shelf.create() as draft:
                digest = offer.parcel_digest
                self._pool.download(f"/parcels/{digest}", digest, draft, bytes_max=self._settings.parcel_bytes_max)
                draft.commit(digest)

    def _key(self, offer: Offer, lease: Lease, watch: _Watch) -> bytes:
        """Wait until the bridge has wrapped the parcel's key for us."""
        while True:
            watch.check()
            if datetime.now(UTC) > offer.deadline:
                raise OfferExpiredError
            target = f"/leases/{lease.lease_id}/key?wait={_WAIT_SECONDS}"
            answer = self._pool.call("GET", target, wait_seconds=_WAIT_SECONDS)
            if answer is not None:
                return self._wrap_key.unwrap(str(answer["wrapped_key"]), parcel_info(offer, lease))

    def _hand_in(self, offer: Offer, lease: Lease, done: Done) -> None:
        receipt = Receipt(
            offer_id=offer.offer_id,
            lease_id=lease.lease_id,
            fencing_token=lease.fencing_token,
            node_id=self._signer.public,
            service=offer.service,
            service_version=done.service_version,
            model_digest=done.model_digest,
            input_digest=offer.parcel_digest,
            output_digest=done.output_digest,
            wrapped_key=done.wrapped_key,
            device=self._hardware,
            started_at=done.started_at,
            finished_at=done.finished_at,
            timings=done.timings,
        )
        if not self._settings.parcels_url:
            target = f"/leases/{lease.lease_id}/result?fencing_token={lease.fencing_token}"
            with self._shelf.open(done.output_digest) as file:
                self._pool.upload(target, file, done.output_digest)
            self._shelf.delete(done.output_digest)
        self._pool.call("POST", f"/leases/{lease.lease_id}/receipt", self._signer.sign("receipt", to_body(receipt)))
        seconds = (done.finished_at - done.started_at).total_seconds()
        _log.info("computed", offer=offer.offer_id, lease=lease.lease_id, service=offer.service, seconds=seconds)

    def _fail(self, offer: Offer, lease: Lease, reason: str) -> None:
        _log.warning("job failed", offer=offer.offer_id, lease=lease.lease_id, reason=reason)
        body = {"fencing_token": lease.fencing_token, "reason": reason}
        try:
            self._pool.call("POST", f"/leases/{lease.lease_id}/failure", body)
        except BridgeError as problem:
            # The lease lapses by itself; another node then gets the offer.
            _log.warning("failure not told", offer=offer.offer_id, error=type(problem).__name__)

    def _clear(self, offer: Offer) -> None:
        if not self._settings.parcels_url:
            self._shelf.delete(offer.parcel_digest)


class _Watch:
    """Keeps one lease alive while its job runs, and ends the job when the lease is lost or we stop for too long."""

    def __init__(
        self,
        pool: Pool,
        lease: Lease,
        lease_seconds: float,
        stop: threading.Event,
        stop_seconds: float,
        end: Callable[[], None],
    ) -> None:
        self.lost = False
        #: Whether the job is given back because the node stops.
        self.stopped = stop.is_set()
        self._pool = pool
        self._lease = lease
        self._beat_seconds = lease_seconds / 3
        self._stop = stop
        self._stop_seconds = stop_seconds
        self._end = end
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lease-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def check(self) -> None:
        """Raise where there is no point in going on."""
        if self.lost:
            raise LeaseLostError
        if self.stopped:
            raise CapacityError("the node is stopping")

    def _watch(self) -> None:
        next_beat = time.monotonic() + self._beat_seconds
        stop_by: float | None = None
        while not self._over.wait(min(_LOOK_SECONDS, self._beat_seconds)):
            now = time.monotonic()
            if now >= next_beat and not self.lost:
                next_beat = now + self._beat_seconds
                self._beat()
            if self._stop.is_set():
                stop_by = stop_by or now + self._stop_seconds
                self.stopped = self.stopped or now >= stop_by
            if self.lost or self.stopped:
                self._end()

    def _beat(self) -> None:
        body = {"fencing_token": self._lease.fencing_token}
        try:
            self._pool.call("POST", f"/leases/{self._lease.lease_id}/heartbeat", body)
        except (LeaseLostError, UnknownError):
            self.lost = True
        except BridgeError as problem:
            # Not to see the exchange is not to have lost the lease: whether it was will be said when we hand in.
            _log.warning("heartbeat not heard", lease=self._lease.lease_id, error=type(problem).__name__)


def _reason(problem: Exception) -> str:
    """Return what the exchange is told; only our own errors are known to hold nothing of the content."""
    if isinstance(problem, BridgeError):
        return f"{type(problem).__name__}: {problem}"[:_REASON_LENGTH_MAX]
    return type(problem).__name__


def _emptied(folder: Path) -> Path:
    """Return a folder with nothing left in it of a node that was killed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    return folder
