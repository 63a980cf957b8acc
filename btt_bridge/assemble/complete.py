"""When a study is complete, and on what evidence: an order's count, the PACS's own count, or silence."""

from __future__ import annotations

from datetime import datetime, timedelta

from btt_bridge.assemble import query
from btt_bridge.clock import Clock
from btt_bridge.config import Peer, Settings
from btt_bridge.journal import Journal, Journey
from btt_bridge.records import Evidence, EvidenceKind, Study


def complete(journey: Journey, study: Study, journal: Journal, settings: Settings, clock: Clock) -> Evidence | datetime:
    """Return why this study is complete, or when to look again.

    An order's count decides by itself, both ways. A count by C-FIND says only what the PACS holds so far, and a PACS
    that forwards as it receives always holds what it has forwarded; so it is asked, and believed, only after nothing
    has come for `settle_seconds`. Where it holds more than we do, or the order announced more, the study waits for
    `wait_seconds_max` of silence and then goes on with what is there.
    """
    now, received, last = clock.now(), len(study.instances), study.last_received_at
    peer = _peer(settings, journey.calling_ae_title)
    quiet = _quiet(study, peer, settings)
    expected = journal.expected(journey.accession_number) if journey.accession_number else None
    if expected is not None and received >= expected:
        return Evidence(EvidenceKind.ORDER, received, expected, now)
    ask_at = None
    if expected is None and peer is not None and peer.query_host:
        expected, asked_at = _remembered(journey)
        settled_at = last + min(quiet, timedelta(seconds=settings.assemble.settle_seconds))
        pause = timedelta(seconds=settings.assemble.query_every_seconds)
        ask_at = max(settled_at, asked_at + pause) if asked_at else settled_at
        if now >= ask_at:
            if _behind(journal, settled_at):
                return now + timedelta(seconds=settings.reap_seconds)
            count = _ask(journey, peer, journal, settings, clock)
            if journal.study(journey.id).instances != study.instances:
                return clock.now()  # more came while we asked
            if count is not None and received >= count:
                return Evidence(EvidenceKind.C_FIND, received, count, clock.now())
            now = clock.now()
            expected, ask_at = count or expected, now + pause
    short = expected is not None and received < expected
    until = last + (max(quiet, timedelta(seconds=settings.assemble.wait_seconds_max)) if short else quiet)
    if now < until:
        return min(until, ask_at) if ask_at else until
    if _behind(journal, until):
        return now + timedelta(seconds=settings.reap_seconds)
    return Evidence(EvidenceKind.QUIET_TIME, received, expected, now)


def _peer(settings: Settings, ae_title: str) -> Peer | None:
    """Return the settings of whoever sent the study; a row for any AE title counts where none names it."""
    peers = settings.accept.peers
    return next((peer for title in (ae_title, "*") for peer in peers if peer.ae_title == title), None)


def _quiet(study: Study, peer: Peer | None, settings: Settings) -> timedelta:
    if peer is not None and peer.quiet_seconds is not None:
        return timedelta(seconds=peer.quiet_seconds)
    default, by_modality = settings.assemble.quiet_seconds, settings.assemble.quiet_seconds_by_modality
    modalities = {str(series.keywords.get("Modality", "")) for series in study.series}
    return timedelta(seconds=max((by_modality.get(modality, default) for modality in modalities), default=default))


def _behind(journal: Journal, moment: datetime) -> bool:
    """Say whether objects that came up to `moment` are still unread: any of them may belong to this study."""
    return any(instance.arrival.received_at <= moment for instance in journal.unread(1))


def _remembered(journey: Journey) -> tuple[int | None, datetime | None]:
    """Return the last count by C-FIND, and when the PACS was last asked."""
    fact = journey.facts.get("count")
    return (fact["expected"], datetime.fromisoformat(fact["asked_at"])) if fact else (None, None)


def _ask(journey: Journey, peer: Peer, journal: Journal, settings: Settings, clock: Clock) -> int | None:
    """Ask the PACS, remember its answer, and return it less the results that we have delivered to it ourselves."""
    count = query.instances_at(
        peer,
        journey.study_instance_uid,
        calling_ae_title=settings.accept.ae_title,
        seconds_max=settings.assemble.query_seconds_max,
    )
    if count is not None:
        count = max(count - len(_delivered_to(peer, journey, journal, settings)), 0) or None
    known = count or _remembered(journey)[0]
    journal.note(journey.id, {"count": {"expected": known, "asked_at": clock.now().isoformat()}})
    return count


def _delivered_to(peer: Peer, journey: Journey, journal: Journal, settings: Settings) -> set[str]:
    """Return the SOP Instance UIDs of results of this study that lie at the peer."""
    title = peer.query_ae_title or peer.ae_title
    same = {
        destination.name
        for destination in settings.destinations
        if destination.ae_title == title or (destination.host, destination.port) == (peer.query_host, peer.query_port)
    }
    return {
        delivery.sop_instance_uid
        for earlier in journal.find(journey.study_instance_uid)
        for delivery in journal.deliveries(earlier.id, state="delivered")
        if delivery.destination in same
    }
