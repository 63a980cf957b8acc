"""The long-running processes: listener, worker, exchange, node and pages, each put together from settings."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import uvicorn

from btt_bridge import accept, assign, exchange, log, report, settle
from btt_bridge.clock import SystemClock
from btt_bridge.config import BridgeKey, Node, NodeKey, Settings
from btt_bridge.dispatch import Change, Dispatcher, Watch
from btt_bridge.doorbell import Doorbell
from btt_bridge.inbox import Inbox
from btt_bridge.isolate import Isolation
from btt_bridge.journal import Journal
from btt_bridge.ledger import Ledger
from btt_bridge.parcel import Shelf
from btt_bridge.pipeline import Pipeline, Tools
from btt_bridge.preparation import Preparations
from btt_bridge.records import Tier
from btt_bridge.signing import Signer
from btt_bridge.store import Store
from btt_bridge.vault import Vault

_log = log.logger("worker")

_QUEUE = "bridge"
_DUE_MAX = 256
#: What children read and strip with; imported once, before they are forked.
_PRELOAD = ("btt_bridge.pipeline", "btt_bridge.settle.rewards.conditions")


def listen(settings: Settings, stop: threading.Event) -> None:
    """Run one DIMSE listener until `stop` is set."""
    bell = _bell(settings)
    try:
        accept.serve(settings, bell, stop, lambda port: _log.info("listening", port=port))
    finally:
        bell.close()


def listen_fhir(settings: Settings, stop: threading.Event) -> None:
    """Run the FHIR door until `stop` is set."""
    bell, kinds = _bell(settings), settle.kinds(settings.mappings_dir)
    try:
        accept.serve_fhir(settings, kinds, bell, stop, lambda port: _log.info("listening", port=port))
    finally:
        bell.close()


def work(settings: Settings, stop: threading.Event) -> None:
    """Take studies along their path until `stop` is set."""
    with Worker(settings) as worker:
        report.warm()
        # What is there by now stays: a look through all of it costs a study in hand a tenth of a second.
        gc.freeze()
        stop.wait()
        _log.info("stopping", count=worker.settings.workers)


def run_exchange(settings: Settings, stop: threading.Event) -> None:
    """Run the exchange until `stop` is set; it knows this bridge and this bridge's own node."""
    exchange.serve(with_local_keys(settings), stop, lambda port: _log.info("exchange", port=port))


def run_node(settings: Settings, stop: threading.Event) -> None:
    """Run the hospital's own node until `stop` is set."""
    from btt_bridge import infer

    infer.main(local_node(settings), stop)


def run_web(settings: Settings) -> None:
    """Run the pages and the metrics; uvicorn ends on SIGTERM by itself."""
    from btt_bridge import web

    app = web.app(
        settings,
        Journal(settings.journal_url),
        Ledger(settings.ledger_url),
        Store(settings.documents_url),
        SystemClock(),
    )
    uvicorn.run(
        app, host=settings.web.host, port=settings.web.port, log_config=None, access_log=False, server_header=False
    )


class Worker:
    """The pipeline with everything around it that rings, listens, watches and reaps."""

    def __init__(self, settings: Settings) -> None:
        self.settings = with_local_keys(settings)
        self._stack = contextlib.ExitStack()
        self._told, self._counting = threading.Event(), threading.Lock()

    def __enter__(self) -> Worker:
        with contextlib.ExitStack() as stack:
            self._start(stack)
            # Everything started: from here on, __exit__ takes it down.
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        settings, clock = self.settings, SystemClock()
        isolation = stack.enter_context(
            Isolation(
                settings.isolation.processes,
                settings.isolation.memory_bytes_max,
                settings.isolation.seconds_max,
                _PRELOAD,
            )
        )
        vault, shelf = Vault(settings.journal_url, settings.keys_dir), Shelf(settings.parcels_url)
        dispatcher = Dispatcher.of(settings)
        self.ledger = Ledger(settings.ledger_url)
        self.billing = settle.open_billing(settings, self.ledger)
        self.inbox = Inbox(settings.journal_url, clock)
        stack.callback(self.inbox.close)
        self.clinical = settle.open_clinical(settings, self.ledger, self.inbox, isolation, vault.digest)
        self.journal = Journal(settings.journal_url, clock)
        self.pipeline = Pipeline(
            Tools(
                settings=settings,
                clock=clock,
                journal=self.journal,
                vault=vault,
                store=Store(settings.documents_url),
                isolation=isolation,
                preparations=Preparations(settings, vault, shelf, isolation),
                dispatcher=dispatcher,
                billing=self.billing,
                uses=settle.Uses(self.ledger),
                routes=assign.load(settings.mappings_dir),
            )
        )
        stack.callback(self.pipeline.close)
        self._hands = stack.enter_context(ThreadPoolExecutor(settings.workers, thread_name_prefix="journey"))
        self._bell = _bell(settings)
        stack.callback(self._bell.close)
        # One thread more than there may be studies at once: what arrives is taken in beside them.
        stack.callback(self._bell.listen(self._rung, settings.workers + 1))
        watch = Watch(dispatcher, self.pipeline.wanted, self._heard, settings.data_dir / "run" / "changes.cursor")
        watch.start()
        stack.callback(watch.stop)
        stack.enter_context(self._reaper())
        signer = Signer.load(settings.keys_dir / "bridge.key")
        stack.enter_context(settle.telling(settings, self.ledger, signer))
        duties = settle.duties(settings, self.billing, self.clinical, signer)
        stack.enter_context(settle.upkeep(settings, self.ledger, duties))

    def _rung(self, kind: str, subject: str) -> None:
        if kind == "arrived":
            self.pipeline.take_in()
        elif kind == "told":
            self._take_in_told()
        elif kind == "journey" and subject.isdecimal():
            self.pipeline.advance(int(subject))

    def _take_in_told(self) -> None:
        """Count what the EHR told; one thread does it, and who rings meanwhile is served before it ends."""
        self._told.set()
        while self._told.is_set() and self._counting.acquire(blocking=False):
            try:
                self._told.clear()
                self.clinical.take_in()
            finally:
                self._counting.release()

    def _heard(self, change: Change) -> None:
        journey_id = self.pipeline.hear(change)
        if journey_id is not None:
            self._hands.submit(self.pipeline.advance, journey_id)

    @contextlib.contextmanager
    def _reaper(self) -> Iterator[None]:
        """Look for work that nobody rang for: a lost doorbell, a quiet time that is over, a worker that died."""
        stop = threading.Event()
        thread = threading.Thread(target=self._reap, args=(stop,), name="reaper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _reap(self, stop: threading.Event) -> None:
        while not stop.wait(self.settings.reap_seconds):
            try:
                if self.journal.unread(1):
                    self._bell.ring("arrived", "")
                if self.inbox.waiting(1):
                    self._bell.ring("told", "")
                for journey_id in self.journal.due(_DUE_MAX):
                    self._bell.ring("journey", str(journey_id))
            except Exception:
                # A database that is away comes back; the reaper must be there then.
                _log.warning("the reaper met a problem", exc_info=True)


def with_local_keys(settings: Settings) -> Settings:
    """Return settings in which this bridge and its own node are known to its own exchange, and to each other."""
    bridge = Signer.load(settings.keys_dir / "bridge.key").public
    known = settings.dispatch.nodes
    if settings.local_node:
        own = Signer.load(local_node(settings).data_dir / "sign.key").public
        known = (*known, NodeKey(public_key=own, tier=Tier.HOSPITAL, bridge_id=settings.dispatch.bridge_id))
    local = BridgeKey(public_key=bridge, bridge_id=settings.dispatch.bridge_id)
    return settings.model_copy(
        update={
            "dispatch": settings.dispatch.model_copy(update={"nodes": known}),
            "exchange": settings.exchange.model_copy(
                update={"bridges": (*settings.exchange.bridges, local), "nodes": (*settings.exchange.nodes, *known)}
            ),
        }
    )


def local_node(settings: Settings) -> Node:
    """Return the settings of the hospital's own node: it lives in the data folder and shares the parcels' folder."""
    node = settings.node
    return node.model_copy(
        update={
            "tier": Tier.HOSPITAL.value,
            "data_dir": settings.data_dir.absolute() / node.data_dir,
            "broker_url": node.broker_url or settings.pool_broker_url,
            "parcels_url": node.parcels_url or settings.parcels_url,
        }
    )


def _bell(settings: Settings) -> Doorbell:
    """Return this bridge's doorbell: rung by its listeners and its worker, with the bridge's own key."""
    signer = Signer.load(settings.keys_dir / "bridge.key")
    return Doorbell(settings.hospital_broker_url, _QUEUE, signer, [signer.public])
