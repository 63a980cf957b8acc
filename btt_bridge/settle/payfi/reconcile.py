"""From instruction to paid: what a rail says goes into the book, and how long it took is held to the promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from btt_bridge import log
from btt_bridge.errors import BridgeError, UnknownError
from btt_bridge.plugins import SettlementRail
from btt_bridge.settle.payfi.clearing import Clearing, Standing, State

_log = log.logger("settle")


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What became of the statements that waited."""

    #: Legs as they stand now, in the order in which the rail spoke of them.
    standings: tuple[Standing, ...]
    #: Statement, order and error class of what could not be booked; such a statement is read again next time.
    refused: tuple[tuple[str, str, str], ...]
    #: How many confirmations were of orders that are not ours.
    passed_over: int
    #: Message and error class of the batches that could not be handed over before.
    failed: tuple[tuple[str, str], ...] = ()


def reconcile(clearing: Clearing, rail: SettlementRail) -> Reconciled:
    """Book everything that a rail's other side has said; one refusal costs only itself."""
    standings: list[Standing] = []
    refused: list[tuple[str, str, str]] = []
    passed_over = 0
    for statement in rail.statements():
        wrong = 0
        for confirmation in statement.confirmations:
            try:
                standings.append(clearing.confirm(confirmation))
            except UnknownError:
                passed_over += 1  # the same account may pay what others asked for
            except BridgeError as error:
                wrong += 1
                refused.append((statement.name, confirmation.order, type(error).__name__))
                _log.error("confirmation refused", file=statement.name, reason=str(error), error=type(error).__name__)
        if not wrong:
            rail.acknowledge(statement.name)
    return Reconciled(tuple(standings), tuple(refused), passed_over)


def run(clearing: Clearing, rail: SettlementRail) -> Reconciled:
    """Do whatever is to be done now: close what is due, hand over what is closed, book what is confirmed.

    Called every second, or by several processes at once, it does nothing twice. A batch that cannot be handed over is
    said to have failed; it stands in the book, is tried by whoever calls next, and keeps no confirmation waiting.
    """
    while clearing.close():
        pass
    handed_over = clearing.submit(rail)
    return replace(reconcile(clearing, rail), failed=handed_over.failed)


@dataclass(frozen=True, slots=True)
class ServiceLevel:
    """How long payments took from instruction to confirmed payment, in one span of time."""

    promised_seconds: int
    #: Of the payments that were paid, seconds each, shortest first.
    seconds: Sequence[int] = field(repr=False)
    #: Payments on their way, and those of them that should have been paid by now.
    waiting: int
    overdue: int

    @property
    def paid(self) -> int:
        return len(self.seconds)

    @property
    def within(self) -> int:
        """How many were paid in time."""
        return sum(seconds <= self.promised_seconds for seconds in self.seconds)

    def seconds_at(self, percent: int) -> int | None:
        """Return within how many seconds so many percent were paid; None where none was."""
        if not self.seconds:
            return None
        return self.seconds[max(0, -(-len(self.seconds) * percent // 100) - 1)]


def service_level(clearing: Clearing, since: datetime) -> ServiceLevel:
    """Measure the payments whose batches closed at `since` or later, and all that are on their way."""
    promised = clearing.rules().service_level_seconds
    now, seconds = clearing.ledger.now(), []
    for batch in clearing.batches():
        if clearing.closed_at(batch.number) < since:
            break
        for leg in batch.legs:
            standing = clearing.leg_standing(leg)
            if standing.state is State.SETTLED:
                seconds += [int((standing.at - payment.at).total_seconds()) for payment in leg.payments]
    waiting = [payment.at for payment in clearing.on_their_way()]
    overdue = sum(now - at > timedelta(seconds=promised) for at in waiting)
    return ServiceLevel(promised, sorted(seconds), len(waiting), overdue)
