"""From what the EHR told to what it is worth: rewards for what was done, payments for what was claimed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from btt_bridge import fhir, log
from btt_bridge.config import Settings
from btt_bridge.errors import BridgeError, ProcessDiedError, ProcessTimedOutError, UnreadableConsentError
from btt_bridge.inbox import Inbox, Kept, State
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger
from btt_bridge.settle import payfi, rewards
from btt_bridge.settle.payfi import Clearing, Desk, Reader
from btt_bridge.settle.rewards import Answer, Decision, Incentives

_log = log.logger("settle")

_CONSENT: Final = "Consent"
_PAYMENTS: Final = frozenset({"Claim", "Invoice", "PaymentNotice"})
_BATCH: Final = 64
#: Tries at one version, where the failure may pass by itself; the pause between two doubles up to an hour.
_TRIES_MAX: Final = 20
#: And at one whose judge died or took too long: that may be its own fault, or the machine's.
_TRIES_ISOLATED_MAX: Final = 3
_PAUSE_SECONDS_MAX: Final = 3600


def kinds(mappings_dir: Path) -> frozenset[str]:
    """Return the resource types that rewards and payments make something of, by a folder of mappings."""
    programs = rewards.load(mappings_dir / "rewards") if (mappings_dir / "rewards").is_dir() else ()
    acts = {rule.act.resource for program in programs for rule in program.rules}
    return frozenset(
        acts | ({_CONSENT} if acts else set()) | (_PAYMENTS if (mappings_dir / "payfi").is_dir() else set())
    )


@dataclass(frozen=True)
class Clinical:
    """Takes the versions of the inbox into the book; doing so twice changes nothing."""

    inbox: Inbox
    incentives: Incentives | None
    clearing: Clearing | None
    desk: Desk | None
    #: What each source's documents are unique under: its base URL, or its name.
    bases: Mapping[str, str]
    #: Names a text by a keyed digest, hex, for ever the same: what documents and persons are called in the book.
    opaque: Callable[[str], str]
    bytes_max: int

    def take_in(self) -> int:
        """Look at everything that is due; return how many versions that were."""
        done = 0
        while due := self.inbox.waiting(_BATCH):
            for kept in due:
                self._consider(kept)
            done += len(due)
        return done

    def _consider(self, kept: Kept) -> None:
        try:
            state, outcome = self._outcome(kept)
        except Exception as problem:
            reason = str(problem) if isinstance(problem, BridgeError) else f"unexpected {type(problem).__name__}"
            _log.warning("resource not counted", reason=reason, error=type(problem).__name__)
            if kept.attempts < _tries(problem):
                pause = timedelta(seconds=min(2 ** (kept.attempts + 1), _PAUSE_SECONDS_MAX))
                self.inbox.put_off(kept.id, self.inbox.clock.now() + pause, reason)
                return
            state, outcome = State.REFUSED, reason
        self.inbox.record(kept.id, state, outcome)

    def _outcome(self, kept: Kept) -> tuple[State, str]:
        kind = kept.told.identity.kind
        if kind == _CONSENT:
            if self.incentives and not kept.told.deleted:
                # One that cannot be read is refused, and permits nothing.
                rewards.read(self._body(kept), self.incentives.rewards.limits)
            count = self.inbox.look_again(kept.told.patient)
            return State.COUNTED, f"consent noted; {count} earlier acts are looked at again"
        if kind in _PAYMENTS:
            return State.COUNTED, self._pay(kept)
        return self._reward(kept)

    # --- payments ---------------------------------------------------------------------------------------

    def _pay(self, kept: Kept) -> str:
        if self.clearing is None:
            return "no payments are settled here"
        if kept.told.deleted:
            return "deleted; what was instructed stands until the payee returns it"
        if not self.inbox.is_newest(kept):
            return "superseded by a newer version"
        source = kept.told.source
        reader = Reader(self.clearing.directory, self.clearing.rules(), self.opaque, self.bases.get(source, source))
        body = self._body(kept)
        instruction = reader.read(body)
        rules, payee = self.clearing.rules(), self.clearing.directory.participant(instruction.payee)
        base, target = instruction.amount.asset, rules.asset(payee.paid_in(instruction.amount.asset.code))
        quote = self.desk.quote(rules, base, target) if self.desk and target != base else None
        payment = self.clearing.instruct(instruction, quote)
        self.inbox.note_request(payment.reference, reader.request(body))
        return f"payment {payment.reference}"

    # --- rewards ----------------------------------------------------------------------------------------

    def _reward(self, kept: Kept) -> tuple[State, str]:
        if self.incentives is None:
            return State.COUNTED, "nothing is rewarded here"
        if kept.told.deleted:
            decisions = self.incentives.rewards.retract(kept.told.identity.reference, kept.updated_at, kept.version)
        else:
            consents = map(self._body, self.inbox.consents(kept.told.patient))
            try:
                decisions = self.incentives.rewards.consider(self._body(kept), consents)
            except UnreadableConsentError as problem:
                return State.UNCONSENTED, str(problem)  # its correction brings this act back
        lacking = any(decision.answer is Answer.NO_CONSENT for decision in decisions)
        return State.UNCONSENTED if lacking else State.COUNTED, _told(decisions)

    def _body(self, kept: Kept) -> dict[str, Any]:
        """Return a resource that says which version it is, and refers to others within its own server."""
        body = fhir.parse(kept.told.content, self.bytes_max)
        if base := self.bases.get(kept.told.source):
            fhir.make_relative(body, base)
        return fhir.with_meta(body, kept.version, kept.updated_at)


def open_clinical(
    settings: Settings, ledger: Ledger, inbox: Inbox, isolation: Isolation, opaque: Callable[[str], str]
) -> Clinical:
    """Return what turns the EHR's resources into postings, by the hospital's mappings; what has none is left out."""
    home = settings.mappings_dir
    incentives = rewards.open_incentives(settings, ledger, isolation, opaque) if (home / "rewards").is_dir() else None
    clearing = payfi.open_clearing(settings, ledger) if (home / "payfi").is_dir() else None
    sources = {source.name: source.base_url for source in settings.fhir.sources} | {"local": ""}
    return Clinical(
        inbox=inbox,
        incentives=incentives,
        clearing=clearing,
        desk=payfi.open_desk(settings, ledger.clock) if clearing else None,
        # The same document told here and at the keyboard is one payment.
        bases={name: base for name, url in sources.items() if (base := url or settings.payfi.source)},
        opaque=opaque,
        bytes_max=settings.fhir.resource_bytes_max,
    )


def _tries(problem: Exception) -> int:
    """Return how often a version is tried that failed like this: what is wrong with it for good, once."""
    if isinstance(problem, ProcessDiedError | ProcessTimedOutError):
        return _TRIES_ISOLATED_MAX
    return _TRIES_MAX if not isinstance(problem, BridgeError) or problem.transient else 0


def _told(decisions: Sequence[Decision]) -> str:
    """Say what became of each rule, in words that name no patient."""
    said = [f"{one.rule or 'all'}: {one.answer}" + (f" {one.points}" if one.points else "") for one in decisions]
    return "; ".join(said) or "no rule asks for this"
