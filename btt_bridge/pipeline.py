"""The only file that knows the order of the stages: takes in what arrives, and takes each journey as far as it goes."""

from __future__ import annotations

import contextlib
import hmac
import json
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from btt_bridge import assemble, assign, dicom, judge, log, plugins, reidentify, report, send
from btt_bridge.clock import Clock
from btt_bridge.config import Settings
from btt_bridge.dispatch import Change, Dispatcher, Offering
from btt_bridge.errors import (
    BridgeError,
    DeliveryRefusedError,
    DeliveryUnreachableError,
    HeldError,
    LeaseLostError,
    NoRouteError,
    OfferExpiredError,
    PriceTooHighError,
    ResultRefusedError,
    SealBrokenError,
    SignatureError,
    UnknownError,
)
from btt_bridge.isolate import Isolation
from btt_bridge.journal import Delivery, Journal, Journey, StaleError
from btt_bridge.journey import Event, State
from btt_bridge.judge import Judged
from btt_bridge.money import Amount, Asset
from btt_bridge.preparation import Preparations
from btt_bridge.records import (
    Charge,
    Destination,
    Document,
    Hardware,
    Header,
    Instance,
    Lease,
    Parcel,
    Route,
    Slice,
    Study,
    Tier,
    Urgency,
    from_body,
    to_body,
)
from btt_bridge.settle import Billing, Cause, Delivered, Facts, Till, Uses, device_key
from btt_bridge.store import Store
from btt_bridge.vault import Vault

_log = log.logger("pipeline")

_READ_BATCH = 64
#: Claims are renewed while their worker lives; one that died is waited for this long.
_CLAIM_SECONDS = 15
#: Failed tries at one step before the journey fails, where the failure may pass by itself.
_TRIES_MAX = 8
#: Documents of one report that are on their way to the store together.
_WRITES_AT_ONCE = 4
#: How often an offer that is out is asked after, besides what the exchange tells by itself.
_ASK_SECONDS = 15


@dataclass(frozen=True)
class Tools:
    """What the stages work with."""

    settings: Settings
    clock: Clock
    journal: Journal
    vault: Vault
    store: Store
    isolation: Isolation
    preparations: Preparations
    dispatcher: Dispatcher
    billing: Billing
    uses: Uses
    routes: assign.Routes


class Pipeline:
    """Studies on their way; safe to use from many threads and, by the journal's claims, from many processes."""

    def __init__(self, tools: Tools) -> None:
        self.tools = tools
        self._intake = threading.Lock()
        self._rung = threading.Event()
        self._wanted: set[int] = set()
        self._ahead = ThreadPoolExecutor(1, thread_name_prefix="sources")
        self._sources: dict[int, Future[report.Sources]] = {}
        self._judged: dict[int, Judged] = {}
        self._claims: set[str] = set()
        self._till = Till(tools.billing)
        self._closed = threading.Event()
        self._keeper = threading.Thread(target=self._keep_claims, name="claims", daemon=True)
        self._keeper.start()

    def close(self) -> None:
        """Stop reading ahead and renewing claims; to be called once nobody works on a journey any more."""
        self._closed.set()
        self._keeper.join()
        self._ahead.shutdown(cancel_futures=True)

    def _keep_claims(self) -> None:
        """Renew the claims of steps that take long, so that only the dead are taken for dead."""
        while not self._closed.wait(_CLAIM_SECONDS / 3):
            try:
                if held := self._claims.copy():
                    self.tools.journal.renew(held, _CLAIM_SECONDS)
            except Exception as problem:
                # Whoever has lost a claim learns it at the end of the step.
                _log.warning("claims could not be renewed", exc_info=problem)

    # --- what arrives -----------------------------------------------------------------------------------

    def take_in(self) -> None:
        """Read what has arrived, place it in its studies, and make ready what a route already wants.

        One thread does it; who rings meanwhile is served by that thread before it ends.
        """
        self._rung.set()
        while self._rung.is_set() and self._intake.acquire(blocking=False):
            try:
                self._rung.clear()
                touched: set[int] = set()
                while instances := self.tools.journal.unread(_READ_BATCH):
                    placed = self._place(instances)
                    touched |= placed
                    for journey_id in placed:
                        self._begin(journey_id)
            finally:
                self._intake.release()
            for journey_id in touched:
                self.advance(journey_id)

    def _place(self, instances: Sequence[Instance]) -> set[int]:
        """Read a batch in child processes; return the journeys that its readable objects belong to."""
        journal, settings = self.tools.journal, self.tools.settings
        jobs = [(one.id, str(settings.spool_dir / one.arrival.path), settings.assemble) for one in instances]
        headers: list[Header] = []
        for instance, answer in zip(instances, self.tools.isolation.each(_read_job, jobs), strict=True):
            if not isinstance(answer, Header):
                reason = answer.reason if isinstance(answer, assemble.Unreadable) else type(answer).__name__
                _log.warning("object cannot be read", instance=instance.id, reason=reason)
                journal.record_flag(instance.id, "unreadable")
            elif dicom.is_own(answer.keywords):
                # Our own result on its way round through the PACS: neither a late object nor a study to route.
                journal.record_flag(instance.id, "own")
            else:
                headers.append(answer)
        return set(journal.record_headers(headers, self.tools.clock.now())) if headers else set()

    def _begin(self, journey_id: int) -> None:
        study = self.tools.journal.study(journey_id)
        wanted = assign.match(study, self.tools.routes)
        if isinstance(wanted, Route):
            self._leave_out(self.tools.preparations.begin(journey_id, study, wanted))

    def _leave_out(self, refused: Mapping[int, BridgeError]) -> None:
        """Take objects out of use that cannot be stripped: each costs itself, and not its study."""
        for instance_id, problem in refused.items():
            _log.warning("object cannot be stripped", instance=instance_id, reason=str(problem))
            self.tools.journal.record_flag(instance_id, "unreadable")

    # --- one journey ------------------------------------------------------------------------------------

    def advance(self, journey_id: int) -> None:
        """Take a journey as far as it goes now; where another thread is at it, that one looks once more."""
        journal = self.tools.journal
        self._wanted.add(journey_id)
        while journey_id in self._wanted:
            token = journal.claim(journey_id, _CLAIM_SECONDS)
            if token is None:
                return
            self._claims.add(token)
            self._wanted.discard(journey_id)
            due_at: datetime | None = self.tools.clock.now()
            try:
                due_at = self._walk(journal.journey(journey_id), token)
            except StaleError:
                # A newer revision took it over; whoever looks next winds it up.
                _log.info("overtaken", journey=journey_id)
            finally:
                self._claims.discard(token)
                journal.release(journey_id, token, due_at=due_at)

    def _walk(self, journey: Journey, token: str) -> datetime | None:
        """Take step after step; return when to look again, None where only a person or a newer revision can help."""
        while (stage := _STAGES.get(journey.state)) is not None:
            started = self.tools.clock.monotonic()
            try:
                outcome = stage(self, journey)
                if isinstance(outcome, datetime):
                    return outcome
                journey = self._record(journey, token, outcome, self.tools.clock.monotonic() - started)
            except StaleError:
                raise
            except Exception as problem:
                failure = self._met(journey, problem)
                if isinstance(failure, datetime):
                    return failure
                journey = self._record(journey, token, failure, self.tools.clock.monotonic() - started)
        return self._wind_up(journey)

    def _record(self, journey: Journey, token: str, outcome: _Outcome, seconds: float) -> Journey:
        after = self.tools.journal.advance(
            journey, outcome.event, token=token, reason=outcome.reason, facts=outcome.facts, seconds=seconds
        )
        _log.info("step", journey=journey.id, revision=journey.revision, state=after.state, seconds=round(seconds, 4))
        return after

    def _met(self, journey: Journey, problem: Exception) -> _Outcome | datetime:
        """Decide what a failure means: hold for a person, try again later, or fail."""
        reason = str(problem) if isinstance(problem, BridgeError) else f"unexpected {type(problem).__name__}"
        _log.warning("step failed", journey=journey.id, state=journey.state, exc_info=problem)
        if journey.state is not State.DELIVERED:
            if isinstance(problem, HeldError):
                return _Outcome(Event.WITHHELD, f"{reason} {problem.advice}".strip())
            if isinstance(problem, BridgeError) and not problem.transient:
                return _Outcome(Event.FAILED, reason)
        attempts = self.tools.journal.count_attempt(journey.id)
        # What was delivered is charged, however long that takes; all else has an end.
        if journey.state is not State.DELIVERED and attempts >= _TRIES_MAX:
            return _Outcome(Event.FAILED, reason)
        return self.tools.clock.now() + timedelta(seconds=min(2**attempts, 300))

    def _wind_up(self, journey: Journey) -> datetime | None:
        """Undo what a journey that came to rest undelivered had begun: an open offer, money on hold."""
        tools = self.tools
        self._sources.pop(journey.id, None)
        self._judged.pop(journey.id, None)
        tools.preparations.discard(journey.id)
        if journey.state is State.SETTLED:
            return None
        try:
            if "offering" in journey.facts and journey.state is not State.UNDELIVERED:
                tools.dispatcher.withdraw(_offering(journey).offer.offer_id)
            # A bill is a study's, not a revision's: what is held passes on to the revision that comes after.
            revisions = tools.journal.find(journey.study_instance_uid)
            if journey.revision == max(one.revision for one in revisions):
                for service in {_route(one).service for one in revisions if "charge" in one.facts}:
                    tools.billing.void(
                        self._study_key(journey), service, _CAUSES.get(journey.state, Cause.NOT_DELIVERED)
                    )
        except UnknownError:
            return None  # the exchange has forgotten the offer
        except BridgeError as problem:
            _log.warning("not wound up yet", journey=journey.id, error=type(problem).__name__)
            return tools.clock.now() + timedelta(seconds=_ASK_SECONDS)
        return None

    # --- the stages, in the order of the path -----------------------------------------------------------

    def _assemble(self, journey: Journey) -> _Outcome | datetime:
        tools = self.tools
        study = tools.journal.study(journey.id)
        evidence = assemble.complete(journey, study, tools.journal, tools.settings, tools.clock)
        if isinstance(evidence, datetime):
            return evidence
        reason = f"{evidence.received} instances by {evidence.kind}"
        return _Outcome(Event.COMPLETED, reason, {"complete": to_body(evidence)})

    def _assign(self, journey: Journey) -> _Outcome:
        found = assign.match(self.tools.journal.study(journey.id), self.tools.routes)
        if isinstance(found, assign.Unrouted):
            return _Outcome(Event.UNMATCHED, found.reason)
        if isinstance(found, assign.Tie):
            raise NoRouteError(found.reason)
        return _Outcome(Event.MATCHED, f"route {found.name}", {"assign": _route_facts(found)})

    def _deidentify(self, journey: Journey) -> _Outcome:
        tools = self.tools
        prepared = tools.preparations.finish(journey.id, tools.journal.study(journey.id), _route(journey))
        self._leave_out(prepared.refused)
        tools.store.put(_slices_key(journey), json.dumps([to_body(one) for one in prepared.slices]).encode())
        left_out = f", {len(prepared.refused)} left out" if prepared.refused else ""
        reason = f"{prepared.parcel.instances} instances stripped, proved and sealed{left_out}"
        facts = {"parcel": to_body(prepared.parcel), "locked_key": tools.dispatcher.keep(prepared.key)}
        return _Outcome(Event.STRIPPED, reason, facts)

    def _dispatch(self, journey: Journey) -> _Outcome:
        tools, route = self.tools, _route(journey)
        parcel = from_body(Parcel, journey.facts["parcel"])
        charge = self._quote(route, parcel)
        offering = self._offering(journey, route, parcel, charge)
        tools.billing.hold(self._study_key(journey), route.service, charge, offering.offer.deadline)
        placed = tools.dispatcher.offer(offering)
        study = tools.journal.study(journey.id)
        # The node takes seconds; what the report needs of the originals is read meanwhile.
        self._read_ahead(journey, study, route)
        facts = {
            "charge": _charge_facts(charge),
            "bill": self._study_key(journey),
            "placement": placed.to_facts(),
        }
        return _Outcome(Event.OFFERED, f"at most {charge.amount}", facts)

    def _exchange(self, journey: Journey) -> _Outcome | datetime:
        tools, offering, answer = self.tools, _offering(journey), journey.facts.get("answer")
        if (demoted := self._demoted(journey)) is not None:
            return demoted
        if answer and answer["offer_id"] == offering.offer.offer_id:
            if answer["kind"] != "computed":
                raise OfferExpiredError(f"the exchange says {answer['kind']}: {answer['body'].get('reason', '')}")
            return _Outcome(Event.COMPUTED, "", {"lease": answer["body"]["lease"]})
        try:
            standing = tools.dispatcher.standing(offering.offer.offer_id)
        except UnknownError:
            # An exchange that has lost its memory, or another one in its place: the offer is as good there.
            tools.journal.note(journey.id, {"placement": tools.dispatcher.offer(offering).to_facts()})
            return tools.clock.now() + timedelta(seconds=_ASK_SECONDS)
        if standing["state"] in ("failed", "expired", "withdrawn"):
            raise OfferExpiredError(f"the exchange says {standing['state']}: {standing.get('reason', '')}")
        waited = tools.clock.now() - journey.changed_at
        fallback = timedelta(seconds=tools.settings.dispatch.local_fallback_seconds)
        # Our own node may not have more than a CPU, so an offer for more stays open to all who have it, ours included.
        narrowable = offering.offer.tier is not Tier.HOSPITAL and offering.offer.hardware is Hardware.CPU
        if standing["state"] == "open" and waited >= fallback and narrowable:
            tools.dispatcher.keep_local(offering.offer.offer_id)
        return tools.clock.now() + timedelta(seconds=_ASK_SECONDS)

    def _demoted(self, journey: Journey) -> _Outcome | None:
        """Hold less for an offer that the exchange ranks as less urgent than it asks: what it gets is what it costs."""
        charge = _charge(journey.facts["charge"])
        placed = Urgency(journey.facts.get("placement", {}).get("urgency", charge.urgency))
        if placed.rank <= charge.urgency.rank:
            return None
        charge = self.tools.billing.requote(charge, placed)
        deadline = _offering(journey).offer.deadline
        self.tools.billing.hold(self._study_key(journey), _route(journey).service, charge, deadline)
        reason = f"beyond the exchange's quota: placed as {placed}, at most {charge.amount}"
        _log.warning("placed as less urgent than it asks", journey=journey.id, reason=reason)
        return _Outcome(Event.DEMOTED, reason, {"charge": _charge_facts(charge)})

    def _judge(self, journey: Journey) -> _Outcome:
        offer_id = _offering(journey).offer.offer_id
        lease = from_body(Lease, journey.facts["lease"])
        try:
            judged = self._believed(journey)
        except (ResultRefusedError, SignatureError, SealBrokenError, LeaseLostError) as problem:
            self.tools.journal.note(journey.id, {"answer": None})
            with contextlib.suppress(LeaseLostError):  # the offer has gone on without us; the exchange tells how
                self.tools.dispatcher.refuse(offer_id, lease.fencing_token, str(problem))
            return _Outcome(Event.REFUSED, str(problem))
        self.tools.dispatcher.accept(offer_id, lease.fencing_token)
        found = {"findings": len(judged.result.findings), "measurements": len(judged.result.measurements)}
        return _Outcome(Event.ACCEPTED, "", {"receipt": to_body(judged.receipt), "judge": found})

    def _reidentify(self, journey: Journey) -> _Outcome:
        # The restored result is not kept: it is made again from the sealed one wherever it is needed.
        reidentify.restore(self._believed(journey).result, self.tools.vault.recall(journey.id))
        return _Outcome(Event.RESTORED)

    def _report(self, journey: Journey) -> _Outcome:
        tools, route = self.tools, _route(journey)
        identity, judged = tools.vault.recall(journey.id), self._believed(journey)
        study = tools.journal.study(journey.id)
        predecessors = self._predecessors(journey, route.service)
        known = {names.instance("SR") for names in predecessors}
        drafts = report.write(
            reidentify.restore(judged.result, identity),
            judged.receipt,
            self._read_ahead(journey, study, route).result(),
            revision=journey.revision,
            now=tools.clock.now(),
            predecessors=predecessors,
            institution=tools.settings.institution,
            each=tools.isolation.each,
        )
        keyed: list[tuple[str, Document]] = []
        with ThreadPoolExecutor(_WRITES_AT_ONCE) as disk:
            kept = []
            for documents in drafts:
                fresh = [(_document_key(journey, number, one), one) for number, one in enumerate(documents, len(keyed))]
                # Our own store may have them before they are confirmed; the outbox may not.
                kept += [disk.submit(tools.store.put, key, document.content) for key, document in fresh]
                reidentify.confirm(documents, identity, study, known)
                keyed += fresh
        for one in kept:
            one.result()
        tools.journal.enqueue(journey.id, route.destinations, keyed)
        kinds = [document.kind for _, document in keyed]
        return _Outcome(Event.REPORTED, f"{len(kinds)} documents", {"report": {"documents": kinds}})

    def _send(self, journey: Journey) -> _Outcome | datetime:
        journal, now = self.tools.journal, self.tools.clock.now()
        due = [one for one in journal.deliveries(journey.id, state="waiting") if one.due_at and one.due_at <= now]
        for name, deliveries in groupby(due, key=lambda one: one.destination):
            self._send_to(name, list(deliveries))
        standing = journal.deliveries(journey.id)
        if waiting := [one.due_at for one in standing if one.state == "waiting" and one.due_at]:
            return min(waiting)
        if dead := [one for one in standing if one.state == "dead"]:
            return _Outcome(Event.UNDELIVERABLE, f"{len(dead)} dead letters")
        return _Outcome(Event.DELIVERED, f"{len(standing)} objects proved delivered")

    def _settle(self, journey: Journey) -> _Outcome:
        tools, route = self.tools, _route(journey)
        parcel, node_id = from_body(Parcel, journey.facts["parcel"]), journey.facts["receipt"]["node_id"]
        charge = _charge(journey.facts["charge"])
        # Journeys that settle at once share a commit; one alone does not wait.
        standing = self._till.post(Delivered(self._study_key(journey), route.service, charge, node_id))
        self._attest(journey, route)
        tools.dispatcher.clear(parcel.digest, journey.facts["receipt"]["output_digest"])
        return _Outcome(Event.SETTLED, f"{charge.amount} {standing.state}")

    def _attest(self, journey: Journey, route: Route) -> None:
        """Count a use of the device that made the series, once for a study, where that device has holders."""
        for keywords in self.tools.journal.keywords([journey.study_instance_uid]).get(journey.study_instance_uid, []):
            if keywords.get("SeriesInstanceUID") == route.series_instance_uid:
                self.tools.uses.attest(device_key(self.tools.vault.digest, keywords), self._study_key(journey))

    # --- what the stages share --------------------------------------------------------------------------

    def hear(self, change: Change) -> int | None:
        """Note what the exchange says of an offer; return the journey that should be advanced for it."""
        journey = self.tools.journal.offered(change.offer_id)
        if journey is None or change.kind not in ("computed", "failed", "expired", "withdrawn"):
            return None
        answer = {"offer_id": change.offer_id, "kind": change.kind, "body": dict(change.body)}
        self.tools.journal.note(journey.id, {"answer": answer})
        return journey.id

    def wanted(self, offer_id: str) -> Offering | None:
        """Return the offering of an offer whose journey still waits for it, or None."""
        journey = self.tools.journal.offered(offer_id)
        wanting = (State.STRIPPED, State.OFFERED, State.COMPUTED)
        return _offering(journey) if journey is not None and journey.state in wanting else None

    def _quote(self, route: Route, parcel: Parcel) -> Charge:
        operations = plugins.service(route.service).operations(parcel.voxels)
        facts = Facts(operations, parcel.voxels, parcel.size_bytes, route.urgency, route.hardware.value)
        charge = self.tools.billing.quote(facts)
        if charge.amount.asset != route.price_max.asset or charge.amount.units > route.price_max.units:
            raise PriceTooHighError(
                f"the work would cost {charge.amount}, the route allows {route.price_max}",
                advice="Raise price_max of the route, or take the study off it.",
            )
        return charge

    def _offering(self, journey: Journey, route: Route, parcel: Parcel, charge: Charge) -> Offering:
        """Return the offering of this parcel, kept in the journal before anybody hears of it."""
        if "offering" in journey.facts and _offering(journey).offer.parcel_digest == parcel.digest:
            return _offering(journey)
        offer_id = uuid.uuid4().hex
        offering = self.tools.dispatcher.prepare(
            parcel,
            journey.facts["locked_key"],
            offer_id=offer_id,
            service=route.service,
            operations=charge.operations,
            urgency=route.urgency,
            tier=route.tier,
            price_max=charge.amount,
            deadline=self.tools.clock.now() + timedelta(seconds=route.deadline_seconds),
            hardware=route.hardware,
        )
        self.tools.journal.note(journey.id, {"offering": offering.to_facts(), "answer": None}, offer_id=offer_id)
        return offering

    def _read_ahead(self, journey: Journey, study: Study, route: Route) -> Future[report.Sources]:
        if journey.id not in self._sources:
            spool = self.tools.settings.spool_dir
            self._sources[journey.id] = self._ahead.submit(report.prepare, study, route.series_instance_uid, spool)
        return self._sources[journey.id]

    def _believed(self, journey: Journey) -> Judged:
        """Return the result as judge believes it; opened and judged anew after a restart."""
        if journey.id not in self._judged:
            tools, offering = self.tools, _offering(journey)
            answer, service = journey.facts["answer"]["body"], plugins.service(_route(journey).service)
            slices = [from_body(Slice, body) for body in json.loads(tools.store.get(_slices_key(journey)))]
            self._judged[journey.id] = judge.verify(
                answer["receipt"],
                offering.offer,
                from_body(Lease, journey.facts["lease"]),
                tools.dispatcher.fetch,
                tools.dispatcher.reply_key(offering),
                slices,
                service_version=service.version,
                model_digest=service.digest(),
            )
        return self._judged[journey.id]

    def _predecessors(self, journey: Journey, service: str) -> list[report.Names]:
        """Return the names of the reports that this one replaces: earlier revisions whose SR was delivered."""
        return [
            report.Names(earlier.study_instance_uid, service, earlier.revision)
            for earlier in self.tools.journal.find(journey.study_instance_uid)
            if earlier.revision < journey.revision
            and any(one.kind == "SR" and one.delivered_at for one in self.tools.journal.deliveries(earlier.id))
        ]

    def _send_to(self, name: str, deliveries: Sequence[Delivery]) -> None:
        """Deliver over one association, in order; each delivery's outcome is its own."""
        settings, journal = self.tools.settings, self.tools.journal
        configured = next((one for one in settings.destinations if one.name == name), None)
        if configured is None:
            for delivery in deliveries:
                advice = f"Add a destination named {name} to the settings, then resend."
                journal.record_undelivered(delivery.id, "no such destination", advice, None)
            return
        destination = Destination(configured.name, configured.ae_title, configured.host, configured.port)
        with send.Sender(destination, settings.send) as sender:
            for delivery in deliveries:
                try:
                    remark = sender.deliver(delivery, self.tools.store.get(delivery.key))
                    journal.record_delivered(delivery.id)
                    if remark:
                        _log.info("delivered with a remark", destination=name, reason=remark)
                except DeliveryRefusedError as problem:
                    journal.record_undelivered(delivery.id, str(problem), problem.advice, None)
                except DeliveryUnreachableError as problem:
                    self._put_off(delivery, problem)

    def _put_off(self, delivery: Delivery, problem: DeliveryUnreachableError) -> None:
        attempts, settings = delivery.attempts + 1, self.tools.settings.send
        if attempts >= settings.attempts_max:
            advice = "See that the destination answers, then resend."
            self.tools.journal.record_undelivered(delivery.id, str(problem), advice, None)
            return
        due_at = self.tools.clock.now() + send.backoff(attempts, settings)
        self.tools.journal.record_undelivered(delivery.id, str(problem), "", due_at)

    def _study_key(self, journey: Journey) -> str:
        """Name a study in the accounts, for ever the same and telling nothing."""
        message = f"account {journey.study_instance_uid}".encode()
        return hmac.digest(self.tools.vault.uid_key, message, "sha256").hex()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What a stage came to: the event of the journey's table, why, and what it found out."""

    event: Event
    reason: str = ""
    facts: Mapping[str, Any] | None = None


#: A stage takes a journey in its state and says what came of it, or when to look again.
_STAGES: Mapping[State, Callable[[Pipeline, Journey], _Outcome | datetime]] = {
    State.RECEIVING: Pipeline._assemble,
    State.COMPLETE: Pipeline._assign,
    State.ASSIGNED: Pipeline._deidentify,
    State.STRIPPED: Pipeline._dispatch,
    State.OFFERED: Pipeline._exchange,
    State.COMPUTED: Pipeline._judge,
    State.JUDGED: Pipeline._reidentify,
    State.RESTORED: Pipeline._report,
    State.REPORTED: Pipeline._send,
    State.DELIVERED: Pipeline._settle,
}
_CAUSES = {State.SUPERSEDED: Cause.SUPERSEDED, State.HELD: Cause.WITHDRAWN}


def _read_job(job: tuple[int, str, Any]) -> Header | assemble.Unreadable:
    instance_id, path, limits = job
    return assemble.read([(instance_id, path)], limits.sequence_depth_max, limits.header_bytes_max)[0]


def _slices_key(journey: Journey) -> str:
    return f"slices/{journey.id}.json"


def _document_key(journey: Journey, number: int, document: Document) -> str:
    return f"documents/{journey.id}/{number}-{document.kind}.dcm"


# --- records among a journey's facts --------------------------------------------------------------------


def _route_facts(route: Route) -> dict[str, Any]:
    return {**to_body(route), "price_max": _amount_facts(route.price_max)}


def _route(journey: Journey) -> Route:
    facts = journey.facts["assign"]
    return Route(
        **{
            **facts,
            "urgency": Urgency(facts["urgency"]),
            "tier": Tier(facts["tier"]),
            "hardware": Hardware(facts.get("hardware", Hardware.CPU)),
            "destinations": tuple(facts["destinations"]),
            "price_max": _amount(facts["price_max"]),
        }
    )


def _charge_facts(charge: Charge) -> dict[str, Any]:
    return {**to_body(charge), "amount": _amount_facts(charge.amount)}


def _charge(facts: Mapping[str, Any]) -> Charge:
    return Charge(**{**facts, "urgency": Urgency(facts["urgency"]), "amount": _amount(facts["amount"])})


def _amount_facts(amount: Amount) -> dict[str, Any]:
    return {"units": amount.units, "asset": {"code": amount.asset.code, "scale": amount.asset.scale}}


def _amount(facts: Mapping[str, Any]) -> Amount:
    return Amount(facts["units"], Asset(**facts["asset"]))


def _offering(journey: Journey) -> Offering:
    return Offering.from_facts(journey.facts["offering"])
