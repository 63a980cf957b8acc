"""Signed doorbells over Celery: they say that there is something to do, and losing or doubling one changes nothing.

The broker may be a folder (`filesystem:///path`), memory, Redis or RabbitMQ. Whoever can write to it can make the
listener look for work, and no more: only JSON is read, a message without a trusted signature is counted and dropped,
there is no remote control and no result, and nothing of weight travels this way.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote, unquote

from celery import Celery
from kombu.entity import Queue
from kombu.message import Message
from kombu.transport import TRANSPORT_ALIASES, virtual

from btt_bridge import __version__, log
from btt_bridge.clock import Clock, SystemClock
from btt_bridge.errors import SignatureError
from btt_bridge.signing import Signer, canonical, verify

_log = log.logger("doorbell")

MESSAGE_BYTES_MAX = 1024
_TASK = "btt_bridge.ring"
#: Subjects that may wait, on either side, before further ones are left to whoever looks at the database.
_WAITING_MAX = 10_000
#: A queue that nobody has used for so long is forgotten.
_QUEUE_SECONDS = 3600
#: How long the listener waits before it looks whether it should stop.
_TURN_SECONDS = 0.2
_CONNECT_SECONDS = 1
#: How long it waits before it looks for a lost broker again.
_PAUSE_SECONDS = 0.5
Handler = Callable[[str, str], None]


def node_queue(node_id: str) -> str:
    """Return the queue on which an exchange rings for one node."""
    return f"node-{node_id[:16]}"


class Doorbell:
    """Rings and listens on one queue of one broker.

    Of rings with the same kind and subject, those that come within `coalesce_seconds` are one. A ring is good for
    `valid_seconds`; later it is dropped, for by then somebody has looked at the database.
    """

    def __init__(
        self,
        broker_url: str,
        queue: str,
        signer: Signer,
        trusted: Iterable[str],
        *,
        valid_seconds: float = 120,
        coalesce_seconds: float = 0.02,
        polling_seconds: float = 0.01,
        clock: Clock | None = None,
    ) -> None:
        self.queue = queue
        #: What became of messages: "heard", "coalesced", "untrusted", "expired", "overflowed", "failed".
        self.counts: Counter[str] = Counter()
        self._signer = signer
        self._trusted = frozenset(trusted)
        self._valid = timedelta(seconds=valid_seconds)
        self._clock: Clock = clock or SystemClock()
        self._app = _celery(broker_url, queue, valid_seconds, polling_seconds)
        self._publisher = _Publisher(self._send, coalesce_seconds)
        self._desk: _Desk | None = None

    def ring(self, kind: str, subject: str, *, queue: str = "") -> None:
        """Tell the listeners of `queue` (this bell's own, unless named); never raises and never waits."""
        self._publisher.put((queue or self.queue, kind, subject))

    def listen(self, handler: Handler, concurrency: int = 1) -> Callable[[], None]:
        """Call `handler(kind, subject)` for each ring, in up to `concurrency` threads; return what stops that.

        The handler may be called for nothing and twice, but never twice at once for one subject. What it raises is
        logged. A lost broker is found again when it comes back.
        """
        if self._desk is not None:
            raise ValueError("this bell is listened to already")
        desk = self._desk = _Desk(handler, concurrency, self.counts)
        listener = _Listener(self._app, _queue(self.queue, self._valid.total_seconds()), desk, self._hear)

        def stop() -> None:
            listener.stop()
            desk.close()
            self._desk = None

        return stop

    def close(self, seconds: float = 2) -> None:
        """Send what is still to be rung, for at most so long, and hang up."""
        self._publisher.close(seconds)
        self._app.close()

    def _send(self, ring: tuple[str, str, str]) -> None:
        queue, kind, subject = ring
        now = self._clock.now()
        envelope = self._signer.sign(
            "doorbell",
            {
                "queue": queue,
                "kind": kind,
                "subject": subject,
                "nonce": uuid.uuid4().hex,
                "iat": now.isoformat(),
                "exp": (now + self._valid).isoformat(),
            },
        )
        if len(canonical(envelope)) > MESSAGE_BYTES_MAX:
            raise ValueError("a doorbell carries a name, not a message")
        self._app.send_task(
            _TASK,
            args=(envelope,),
            queue=_queue(queue, self._valid.total_seconds()),
            expires=self._valid.total_seconds(),
            delivery_mode="transient",
            # Celery would quote the whole envelope once more in a header.
            argsrepr="",
            kwargsrepr="",
        )

    def _hear(self, message: Message) -> None:
        """Put a ring on the desk; whatever else lies in the queue is counted and dropped."""
        try:
            if message.headers.get("task") != _TASK:
                raise SignatureError
            # Celery's task message: arguments, keyword arguments, and what to do afterwards. Only the first counts.
            ring = self._opened(message.decode()[0][0])  # type: ignore[no-untyped-call]
        except Exception:
            # Whatever a stranger has made up, it must not end the listener.
            ring = None
            self.counts["untrusted"] += 1
        if ring is not None and self._desk is not None:
            self._desk.put(ring)

    def _opened(self, envelope: Any) -> tuple[str, str] | None:
        """Return kind and subject of a ring that somebody trusted sent to this queue; None where it is too late."""
        if envelope["key"] not in self._trusted:
            raise SignatureError
        body = verify(envelope, "doorbell", envelope["key"])
        if body["queue"] != self.queue:
            raise SignatureError
        if datetime.fromisoformat(body["exp"]) <= self._clock.now():
            self.counts["expired"] += 1
            return None
        return str(body["kind"]), str(body["subject"])


class _Publisher:
    """A thread that sends rings, so that nobody who rings waits for a broker; equal rings that wait are one."""

    def __init__(self, send: Callable[[tuple[str, str, str]], None], coalesce_seconds: float) -> None:
        self._send = send
        self._coalesce_seconds = coalesce_seconds
        self._changed = threading.Condition()
        #: Ring to the moment it may be sent.
        self._waiting: dict[tuple[str, str, str], float] = {}
        self._sent: dict[tuple[str, str, str], float] = {}
        self._thread: threading.Thread | None = None
        self._closing = False
        self._reachable = True

    def put(self, ring: tuple[str, str, str]) -> None:
        with self._changed:
            if self._closing or ring in self._waiting or len(self._waiting) >= _WAITING_MAX:
                return
            self._waiting[ring] = self._sent.get(ring, float("-inf")) + self._coalesce_seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="doorbell-ring", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self, seconds: float) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (ring := self._next()) is not None:
            try:
                self._send(ring)
                self._reachable = True
            except Exception as problem:
                # This ring and those behind it are lost, and may be: the database has the work, and somebody looks.
                if self._reachable:
                    _log.warning("broker unreachable", error=type(problem).__name__)
                self._reachable = False
                with self._changed:
                    self._waiting.clear()

    def _next(self) -> tuple[str, str, str] | None:
        with self._changed:
            while True:
                now = time.monotonic()
                ring, due = min(self._waiting.items(), key=lambda item: item[1], default=(None, now))
                if ring is not None and (due <= now or self._closing):
                    del self._waiting[ring]
                    self._sent = {one: at for one, at in self._sent.items() if at + self._coalesce_seconds > now}
                    self._sent[ring] = now
                    return ring
                if self._closing:
                    return None
                self._changed.wait(due - now if ring is not None else None)


class _Desk:
    """Rings that were heard and wait for a thread; each subject once, and never in two threads at the same time."""

    def __init__(self, handler: Handler, concurrency: int, counts: Counter[str]) -> None:
        self._handler = handler
        self._concurrency = concurrency
        self._counts = counts
        self._changed = threading.Condition()
        self._waiting: dict[tuple[str, str], None] = {}
        self._running: set[tuple[str, str]] = set()
        self._closed = False
        self._threads = ThreadPoolExecutor(concurrency, "doorbell-handle")
        for _ in range(concurrency):
            self._threads.submit(self._work)

    def put(self, ring: tuple[str, str]) -> None:
        with self._changed:
            self._counts["heard"] += 1
            if ring in self._waiting:
                self._counts["coalesced"] += 1
            elif len(self._waiting) >= _WAITING_MAX:
                self._counts["overflowed"] += 1
            else:
                self._waiting[ring] = None
                self._changed.notify_all()

    def has_room(self, seconds: float) -> bool:
        """Wait until few rings wait; what we do not take, another process may."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed or len(self._waiting) <= 2 * self._concurrency, seconds)

    def close(self) -> None:
        """Let the handlers that run finish, and start no other."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._threads.shutdown()

    def _work(self) -> None:
        while (ring := self._take()) is not None:
            try:
                self._handler(*ring)
            except Exception:
                self._counts["failed"] += 1
                _log.warning("handler failed", exc_info=True)
            finally:
                with self._changed:
                    self._running.discard(ring)
                    self._changed.notify_all()

    def _take(self) -> tuple[str, str] | None:
        with self._changed:
            while not self._closed:
                ring = next((one for one in self._waiting if one not in self._running), None)
                if ring is not None:
                    del self._waiting[ring]
                    self._running.add(ring)
                    self._changed.notify_all()
                    return ring
                self._changed.wait()
            return None


# --- Celery ---------------------------------------------------------------------------------------------


def _celery(broker_url: str, queue: str, valid_seconds: float, polling_seconds: float) -> Celery:
    """Return a Celery application that carries doorbells and nothing else."""
    options: dict[str, Any] = {"polling_interval": polling_seconds}
    if broker_url.startswith("filesystem://"):
        options["folder"] = unquote(broker_url.removeprefix("filesystem://"))
        broker_url = f"{_FolderTransport.driver_name}://localhost"
    elif broker_url.startswith("redis"):
        options = {"socket_connect_timeout": 2, "socket_keepalive": True, "health_check_interval": 10}
    elif broker_url.startswith("amqp"):
        options = {}
    app = Celery("btt_bridge.doorbell", broker=broker_url, set_as_current=False, fixups=[])
    app.conf.update(
        accept_content=["json"],
        broker_connection_timeout=2,
        broker_transport_options=options,
        task_default_delivery_mode="transient",
        task_ignore_result=True,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.05, "interval_step": 0.2, "interval_max": 0.4},
        task_queues=[_queue(queue, valid_seconds)],
        task_send_sent_event=False,
        task_serializer="json",
    )
    return app


def _queue(name: str, valid_seconds: float) -> Queue:
    """Declare a queue that forgets: what nobody hears in time is gone, and so is a queue that nobody uses."""
    return Queue(  # type: ignore[no-untyped-call]
        name, routing_key=name, no_ack=True, message_ttl=valid_seconds, expires=_QUEUE_SECONDS, max_length=_WAITING_MAX
    )


class _Listener:
    """A thread that takes messages off one queue, and finds the broker again as often as it is lost.

    It reads the messages itself, for a Celery worker would do more than ring: a body of `[]` ends it, Celery's own
    tasks run for whoever can write to the broker, and all workers of a process share one event loop and one stop flag.
    """

    def __init__(self, app: Celery, queue: Queue, desk: _Desk, hear: Callable[[Message], None]) -> None:
        self._app = app
        self._queue = queue
        self._desk = desk
        self._hear = hear
        self._connected = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="doorbell-listen", daemon=True)
        self._thread.start()
        # The broker may be down; it is found when it comes back.
        self._connected.wait(_CONNECT_SECONDS)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(10)

    def _run(self) -> None:
        reachable = True
        while not self._stopping.is_set():
            try:
                self._listen()
            except Exception as problem:
                if reachable or self._connected.is_set():
                    _log.warning("broker lost", error=type(problem).__name__)
                reachable = False
                self._connected.clear()
                self._stopping.wait(_PAUSE_SECONDS)

    def _listen(self) -> None:
        with self._app.connection_for_read() as connection:
            connection.connect()
            with connection.Consumer([self._queue], on_message=self._hear, accept=["json"], no_ack=True):
                self._connected.set()
                while not self._stopping.is_set():
                    if self._desk.has_room(_TURN_SECONDS):
                        with contextlib.suppress(TimeoutError):
                            connection.drain_events(timeout=_TURN_SECONDS)


# --- a folder as broker ---------------------------------------------------------------------------------


class _FolderChannel(virtual.Channel):
    """A folder for each queue, a file for each message: there whole or not at all, and taken by one reader.

    kombu's own file system transport writes in place and names files by a clock that starts anew at boot; readers of
    it take messages half written, and in any order.
    """

    #: What nobody acknowledges is not put back; a doorbell may be lost.
    do_restore = False

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)  # type: ignore[no-untyped-call]
        self._folder = Path(connection.client.transport_options["folder"])
        #: Names as last listed, oldest first; others may have taken some since.
        self._listed: dict[str, deque[str]] = {}

    def _of(self, queue: str) -> Path:
        return self._folder / quote(queue, safe="")

    def _new_queue(self, queue: str, **_: Any) -> None:
        folder = self._of(queue)
        folder.mkdir(parents=True, exist_ok=True)
        forgotten = time.time() - _QUEUE_SECONDS
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < forgotten:
                    path.unlink()

    def _put(self, queue: str, message: Any, **_: Any) -> None:
        path = self._of(queue) / f"{time.time_ns():020}-{uuid.uuid4().hex}"
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(message))
        os.replace(draft, path.with_suffix(".msg"))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        listed = self._listed.setdefault(queue, deque())
        if not listed:
            with contextlib.suppress(FileNotFoundError):
                listed.extend(sorted(name for name in os.listdir(self._of(queue)) if name.endswith(".msg")))
        while listed:
            path = self._of(queue) / listed.popleft()
            mine = path.with_suffix(f".{uuid.uuid4().hex}")
            # Of all readers that try to rename it, one succeeds.
            with contextlib.suppress(FileNotFoundError, ValueError):
                os.rename(path, mine)
                content = mine.read_text()
                mine.unlink()
                return json.loads(content)
        raise Empty

    def _size(self, queue: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return sum(name.endswith(".msg") for name in os.listdir(self._of(queue)))
        return 0

    def _purge(self, queue: str) -> int:
        purged = 0
        with contextlib.suppress(Empty):
            while True:
                self._get(queue)
                purged += 1
        return purged


class _FolderTransport(virtual.Transport):
    Channel = _FolderChannel
    driver_type = "btt-folder"
    driver_name = "btt-folder"

    def driver_version(self) -> str:
        return __version__


TRANSPORT_ALIASES[_FolderTransport.driver_name] = f"{__name__}:{_FolderTransport.__name__}"
