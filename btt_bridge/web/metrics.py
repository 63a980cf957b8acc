"""Numbers for Prometheus, counted in the database when asked; a study is never a label, nor anything of a patient."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from btt_bridge import __version__
from btt_bridge.clock import Clock
from btt_bridge.config import FILE_SINK, Settings
from btt_bridge.journal import Journal
from btt_bridge.journey import ACTIVE, Event, State
from btt_bridge.ledger import Ledger
from btt_bridge.web.health import free_bytes
from btt_bridge.web.words import DELIVERY_STATES, FLAGS


class Metrics(Collector):
    """What one scrape returns; every known state is there, at zero if need be, so that an alert can rest on it."""

    def __init__(self, settings: Settings, journal: Journal, ledger: Ledger, clock: Clock) -> None:
        self.settings, self.journal, self.ledger, self.clock = settings, journal, ledger, clock
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def text(self) -> bytes:
        """Return the exposition format."""
        return generate_latest(self.registry)

    def describe(self) -> Iterator[Metric]:
        """Say nothing at registration: the database is asked when somebody scrapes."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Count."""
        counts = self.journal.counts()
        yield InfoMetricFamily("btt_bridge", "The running version.", {"version": __version__})
        yield _gauge("btt_studies", "Study revisions by state.", "state", counts["journey"], {s: s for s in State})
        yield _gauge(
            *("btt_deliveries", "Deliveries by state.", "state"), counts["delivery"], {s: s for s in DELIVERY_STATES}
        )
        received = CounterMetricFamily(
            "btt_objects_received", "Objects taken in, by why they are not in use.", None, ["flag"]
        )
        for flag in FLAGS:
            received.add_metric([flag or "none"], counts["instance"].get(flag, 0))
        yield received
        demoted = self.journal.happened(Event.DEMOTED)
        yield CounterMetricFamily("btt_offers_demoted", "Offers beyond an exchange's quota on urgent work.", demoted)
        yield GaugeMetricFamily(
            "btt_oldest_due_seconds", "Longest that a study waits to be worked on.", self._overdue()
        )
        yield from self._sinks()
        yield GaugeMetricFamily(
            "btt_spool_free_bytes", "Free disk space where objects are received.", free_bytes(self.settings)
        )

    def _sinks(self) -> Iterator[Metric]:
        """Say of each sink how many positions it is behind, and whether it waits for a person."""
        end, hindrances = self.ledger.end_of_outbox(), self.ledger.hindrances()
        behind = GaugeMetricFamily("btt_sink_behind", "Positions of the outbox not told yet.", labels=["sink"])
        stopped = GaugeMetricFamily("btt_sink_stopped", "1 where the sink waits for a person.", labels=["sink"])
        for name in (FILE_SINK, *(row.name for row in self.settings.settle.sinks)):
            behind.add_metric([name], end - self.ledger.position(name))
            stopped.add_metric([name], name in hindrances and hindrances[name].stopped)
        yield from (behind, stopped)

    def _overdue(self) -> float:
        """Return how long the study that should have been worked on first has been waiting."""
        now = self.clock.now()
        waits = [
            (now - journey.due_at).total_seconds()
            for journey in self.journal.journeys(states=ACTIVE, limit=1000)
            if journey.due_at
        ]
        return max([0.0, *waits])


def _gauge(name: str, about: str, label: str, counts: dict[str, int], known: dict[str, str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=[label])
    for state in known:
        family.add_metric([state], counts.get(state, 0))
    return family
