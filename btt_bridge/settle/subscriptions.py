"""Who is told of events: each sink in a thread and at a pace of its own, so that one that hangs holds up nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from btt_bridge import log
from btt_bridge.config import FILE_SINK, Settings, Sink
from btt_bridge.errors import BridgeError, DeliveryRefusedError, DeliveryUnreachableError
from btt_bridge.ledger import Hindrance, Ledger
from btt_bridge.plugins import EventSink, event_sink
from btt_bridge.settle.outbox import drain
from btt_bridge.signing import Signer

_log = log.logger("settle")

_EVENTS_MAX = 100
_PAUSE_SECONDS = 1.0
#: How long a sink may take to finish its event when we stop; an event cut short comes again.
_STOP_SECONDS = 2.0


@dataclass
class Subscription:
    """One sink, and where it stands."""

    ledger: Ledger
    signer: Signer
    source: str
    row: Sink
    #: Pause where there is nothing to tell.
    idle_seconds: float = 1.0
    opened: Callable[[Sink], EventSink] = event_sink
    _sink: EventSink | None = None
    _failures: int = 0

    def turn(self) -> float:
        """Tell what there is to tell, as far as it goes; return the seconds to wait before the next turn."""
        name = self.row.name
        hindrance = self.ledger.hindrances().get(name)
        if hindrance is not None and hindrance.stopped:
            return self.idle_seconds
        try:
            if self._sink is None:
                self._sink = self.opened(self.row)
            passed = drain(
                *(self.ledger, self._sink, self.signer),
                name=name,
                source=self.source,
                types=self.row.types,
                limit=_EVENTS_MAX,
            )
        except DeliveryRefusedError as problem:
            self._held_up(hindrance, problem, stopped=True)
            return self.idle_seconds
        except Exception as problem:
            self._failures += 1
            asked = problem.after_seconds if isinstance(problem, DeliveryUnreachableError) else 0
            self._held_up(hindrance, problem, stopped=False)
            doubled = _PAUSE_SECONDS * 2.0 ** min(self._failures - 1, 20)
            return max(asked, min(doubled, self.row.backoff_seconds_max))
        self._failures = 0
        if hindrance is not None:
            self.ledger.unhinder(name)
            _log.info("a sink goes on", sink=name)
        return 0 if passed == _EVENTS_MAX else self.idle_seconds

    def close(self) -> None:
        """Let go of the sink; the next turn opens it anew."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()

    def _held_up(self, before: Hindrance | None, problem: Exception, *, stopped: bool) -> None:
        self.close()
        # What a library says may quote what it sent; only our own words are written down.
        ours = isinstance(problem, BridgeError)
        reason, advice = str(problem) if ours else type(problem).__name__, getattr(problem, "advice", "")
        # An outage is told once, with the moment it began.
        if before is None or (before.reason, before.stopped) != (reason, stopped):
            _log.warning("a sink is held up", sink=self.row.name, reason=reason, advice=advice)
            self.ledger.hinder(self.row.name, reason, advice, stopped=stopped)

    def run(self, stop: threading.Event) -> None:
        """Take turns until `stop` is set; a database that is away comes back, and this thread must be there then."""
        seconds = 0.0
        while not stop.wait(seconds):
            try:
                seconds = self.turn()
            except Exception:
                _log.warning("a sink met a problem", sink=self.row.name, exc_info=True)
                seconds = self.row.backoff_seconds_max
        self.close()


def rows(settings: Settings) -> Sequence[Sink]:
    """Return every sink of a bridge: its file, and those that the settings add."""
    path = settings.under_data(settings.settle.events_path, "events.jsonl")
    return (Sink(name=FILE_SINK, kind="file", place=path), *settings.settle.sinks)


@contextmanager
def telling(settings: Settings, ledger: Ledger, signer: Signer) -> Iterator[None]:
    """Run every sink's thread for the length of the block."""
    stop, source = threading.Event(), f"/bridges/{settings.dispatch.bridge_id}"
    threads = [
        threading.Thread(
            target=Subscription(ledger, signer, source, row, settings.reap_seconds).run,
            args=(stop,),
            name=f"sink-{row.name}",
            daemon=True,
        )
        for row in rows(settings)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(_STOP_SECONDS)
