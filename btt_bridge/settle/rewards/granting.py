"""From a clinical act to points: once for each fact, within caps, with consent, and back when it is retracted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from btt_bridge import fhir
from btt_bridge.errors import OverdrawnError, RefusedError, UnknownError, UnreadableConsentError
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Posting
from btt_bridge.money import POINTS
from btt_bridge.settle import dated
from btt_bridge.settle.rewards.claims import Claim, Claims, check_content
from btt_bridge.settle.rewards.conditions import Verdict, judge
from btt_bridge.settle.rewards.consent import covers
from btt_bridge.settle.rewards.events import Cause, Grant
from btt_bridge.settle.rewards.program import Program, Rule, Tier
from btt_bridge.settle.rewards.resources import Limits, Resource, day_of, rank, read
from btt_bridge.settle.rewards.wallets import Change, Wallet, Wallets

_NOTHING = Verdict(None, "")
_YEAR = timedelta(days=365)
# How far a source's clock, or its time zone, may be ahead of ours.
_AHEAD = timedelta(days=1)


class Answer(StrEnum):
    """What became of a rule on a resource."""

    GRANTED = "granted"
    STANDS = "stands"  # it was granted before
    REVERSED = "reversed"
    UNMET = "unmet"
    UNCLEAR = "unclear"  # the condition has no answer of true or false
    SUPERSEDED = "superseded"  # a newer version was seen
    NO_DAY = "no-day"
    NOT_YET = "not-yet"
    TOO_LATE = "too-late"
    NO_CONSENT = "no-consent"
    COOLING = "cooling"
    CAPPED = "capped"
    BUDGET = "budget"


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer, and the points that it moved."""

    rule: str
    answer: Answer
    points: int = 0


@dataclass(frozen=True)
class Rewards:
    """What one clinic's patients earn."""

    wallets: Wallets
    claims: Claims
    programs: Sequence[Program]
    #: Where strangers' resources are judged.
    isolation: Isolation
    limits: Limits
    #: Where the clinic is: a day of an act is written as it is there, and so is today.
    zone: tzinfo = UTC

    def open(self) -> None:
        """Open the account that points come from; what the program of today may give out is its limit."""
        budget = self._program().budget
        self.wallets.ledger.open_account(self.wallets.issued, POINTS, credit_limit=budget, keep_used=True)

    def consider(self, body: Mapping[str, Any], consents: Iterable[Mapping[str, Any]] = ()) -> list[Decision]:
        """Take in one version of a resource, with the patient's consents as the EHR has them now.

        Grants what it earns, takes back what it does not earn any more, and says why for each rule. Versions may come
        in any order and any number of times. Raises MalformedError, TooLargeError or an IsolationError for what nobody
        should look at, UnreadableConsentError where that is a consent, and KeyConflictError for a version that was seen
        with another content; then nothing was granted.
        """
        resource, given = read(body, self.limits), self._read_consents(consents)
        verdicts = self._verdicts(resource)
        if not verdicts:
            return []
        claim = self._claim(resource, verdicts)
        self.claims.put(claim)
        decisions = self._withdraw(claim.fact)
        if not self._is_newest(claim):
            return [*decisions, Decision("", Answer.SUPERSEDED)]
        for rule, verdict in self._counting(resource, verdicts):
            refusal = self._refusal(rule, verdict, claim, given, resource.patient)
            decisions.append(refusal or self._grant(rule, claim, verdict))
        if not self._is_newest(claim):  # a newer version came by meanwhile, and may not have seen these
            decisions += self._withdraw(claim.fact)
        return decisions

    def preview(self, body: Mapping[str, Any], consents: Sequence[Mapping[str, Any]] = ()) -> list[Decision]:
        """Say what `consider` would do with a resource as the book stands now, and do nothing."""
        resource, given = read(body, self.limits), self._read_consents(consents)
        verdicts = self._verdicts(resource)
        if not verdicts:
            return []
        claim = self._claim(resource, verdicts)
        known = self.claims.of(claim.fact)
        check_content(claim, known)
        claims = sorted([claim, *known], key=lambda one: one.rank, reverse=True)
        decisions = [
            Decision(grant.rule, Answer.REVERSED, points)
            for patient, grant, _ in self._unfounded(claim.fact, claims)
            if (points := grant.points - self.wallets.read(patient).lapsed[grant.reward])
        ]
        if claims[0].rank > claim.rank:
            return [*decisions, Decision("", Answer.SUPERSEDED)]
        wallet, budget = self.wallets.read(claim.patient), self.wallets.ledger.balance(self.wallets.issued).available
        for rule, verdict in self._counting(resource, verdicts):
            day = day_of(verdict.day)
            refusal = self._refusal(rule, verdict, claim, given, resource.patient)
            if not refusal and day and (limit := self._limit(rule, wallet, day)):
                refusal = Decision(rule.name, limit)
            elif not refusal and budget is not None and budget < rule.points:
                refusal = Decision(rule.name, Answer.BUDGET)
            decisions.append(refusal or Decision(rule.name, Answer.GRANTED, rule.points))
        return decisions

    def retract(self, reference: str, updated: datetime, version: str) -> list[Decision]:
        """Take back all that was granted for a resource, as Appointment/17, that was deleted and has no body left."""
        self._check_moment(updated)
        kind, _, identifier = reference.partition("/")
        named = fhir.Identity(kind, identifier, version)
        fact = self.wallets.opaque(reference)[:32]
        known = self.claims.of(fact)
        # What was never seen may still come, from before it was deleted; it must then find this.
        patient = known[0].patient if known else self.wallets.opaque("nobody")
        digest = self.wallets.opaque("deleted")
        self.claims.put(Claim(fact, patient, rank(named, updated), digest, True, frozenset()))
        return self._withdraw(fact)

    def expire(self, patient: str) -> int:
        """Take a patient's points that have waited too long; return how many."""
        lifetime = timedelta(days=self._program().expire_days)
        posting = self.wallets.change(patient, lambda wallet, _: self.wallets.expire(wallet, lifetime))
        return _moved(posting) if posting else 0

    def sweep(self, after: str = "", limit: int = 500) -> str:
        """Expire the points of the next patients; return where to go on, or "" behind the last."""
        names = self.wallets.names(after, limit)
        for patient in names:
            self.expire(patient)
        return names[-1] if len(names) == limit else ""

    def discount(self, patient: str, insurer: str, consents: Sequence[Mapping[str, Any]]) -> Tier:
        """Return the tier that a patient, by reference, has reached with an insurer by the points of the last year.

        Raises RefusedError without the patient's consent, and UnknownError for an unknown insurer.
        """
        program, now = self._program(), self.wallets.ledger.now()
        if insurer not in program.insurers:
            raise UnknownError("no insurer has this name")
        if not self._consented(program, self._read_consents(consents), patient, [self._today()]):
            raise RefusedError("the patient has not agreed to this")
        earned = self.wallets.read(self.wallets.opaque(patient)).earned(now - _YEAR)
        reached = [tier for tier in program.insurers[insurer].tiers if tier.points <= earned]
        return reached[-1]

    # --- facts ------------------------------------------------------------------------------------------

    def _program(self) -> Program:
        return dated.in_force(self.programs, self.wallets.ledger.now().date())

    def _today(self) -> date:
        return self.wallets.ledger.now().astimezone(self.zone).date()

    def _check_moment(self, updated: datetime) -> None:
        if updated > self.wallets.ledger.now() + _AHEAD:
            raise RefusedError("lastUpdated is in the future, and would hide every later version")

    def _verdicts(self, resource: Resource) -> dict[str, Verdict]:
        """Return how each rule of every program comes out on a resource; none does on what is retracted."""
        rules = {
            f"{program.name}/{rule.name}": rule
            for program in self.programs
            for rule in program.rules
            if rule.act.resource == resource.kind
        }
        if resource.retracted or not rules:
            return dict.fromkeys(rules, _NOTHING)
        judged = self.isolation.run(judge, resource.content, tuple(rule.act.question for rule in rules.values()))
        return dict(zip(rules, judged, strict=True))

    def _counting(self, resource: Resource, verdicts: Mapping[str, Verdict]) -> list[tuple[Rule, Verdict]]:
        """Return today's rules, each with how it comes out; none where the resource says that nothing was done."""
        program = self._program()
        named = [] if resource.retracted else [(rule, f"{program.name}/{rule.name}") for rule in program.rules]
        return [(rule, verdicts[name]) for rule, name in named if name in verdicts]

    def _claim(self, resource: Resource, verdicts: Mapping[str, Verdict]) -> Claim:
        self._check_moment(resource.updated)
        return Claim(
            fact=self.wallets.opaque(resource.reference)[:32],
            patient=self.wallets.opaque(resource.patient),
            rank=resource.rank,
            digest=self.wallets.opaque(resource.content.decode()),
            retracted=resource.retracted,
            unmet=frozenset(name for name, verdict in verdicts.items() if not verdict.holds),
        )

    def _is_newest(self, claim: Claim) -> bool:
        newest = self.claims.of(claim.fact)[0]
        return (newest.rank, newest.patient) == (claim.rank, claim.patient)

    # --- taking back ------------------------------------------------------------------------------------

    def _withdraw(self, fact: str) -> list[Decision]:
        """Take back every grant for a fact that its newest version does not bear out."""
        return [
            Decision(grant.rule, Answer.REVERSED, _moved(posting))
            for patient, grant, cause in self._unfounded(fact, self.claims.of(fact))
            if (posting := self._take_back(patient, grant.reward, cause))
        ]

    def _unfounded(self, fact: str, claims: Sequence[Claim]) -> Iterator[tuple[str, Grant, Cause]]:
        """Yield the grants for a fact that do not stand any more by these claims, with the reason."""
        for patient in dict.fromkeys(claim.patient for claim in claims):
            for grant in self.wallets.read(patient).standing(fact):
                if cause := _cause(grant, patient, claims[0]):
                    yield patient, grant, cause

    def _take_back(self, patient: str, reward: str, cause: Cause) -> Posting | None:
        def plan(wallet: Wallet, _: str) -> Change | None:
            standing = wallet.grants.get(reward)
            return self.wallets.reverse(wallet, standing[0], cause) if standing else None

        return self.wallets.change(patient, plan)

    # --- granting ---------------------------------------------------------------------------------------

    def _refusal(
        self, rule: Rule, verdict: Verdict, claim: Claim, consents: Sequence[Resource], patient: str
    ) -> Decision | None:
        """Return why a rule gives nothing for the newest version of a fact, whatever else the patient has earned."""
        if not verdict.holds:
            return Decision(rule.name, Answer.UNCLEAR if verdict.holds is None else Answer.UNMET)
        if any(grant.rule == rule.name for grant in self.wallets.read(claim.patient).standing(claim.fact)):
            return Decision(rule.name, Answer.STANDS)
        day, today, program = day_of(verdict.day), self._today(), self._program()
        if day is None:
            return Decision(rule.name, Answer.NO_DAY)
        if day > today + _AHEAD:
            return Decision(rule.name, Answer.NOT_YET)
        if (today - day).days > program.late_days_max:
            return Decision(rule.name, Answer.TOO_LATE)
        # A day ahead of ours is today where it was written: what was agreed to there today counts.
        if not self._consented(program, consents, patient, [day, max(day, today)]):
            return Decision(rule.name, Answer.NO_CONSENT)
        return None

    def _read_consents(self, bodies: Iterable[Mapping[str, Any]]) -> list[Resource]:
        try:
            consents = [read(body, self.limits) for body in bodies]
        except RefusedError as problem:  # it may be a denial
            raise UnreadableConsentError from problem
        if any(consent.kind != "Consent" for consent in consents):
            raise RefusedError("this is no Consent")
        return consents

    def _consented(self, program: Program, consents: Sequence[Resource], patient: str, days: Sequence[date]) -> bool:
        """Keep the consents of the kind that the program asks for, judged as strangers' resources too."""
        fitting = [
            consent for consent in consents if self.isolation.run(judge, consent.content, (program.consent,))[0].holds
        ]
        return covers(fitting, patient, days)

    def _grant(self, rule: Rule, claim: Claim, verdict: Verdict) -> Decision:
        program, day = self._program(), day_of(verdict.day)
        assert day is not None

        def plan(wallet: Wallet, reward: str) -> Change | Answer:
            if any(grant.rule == rule.name for grant in wallet.standing(claim.fact)):
                return Answer.STANDS
            if refusal := self._limit(rule, wallet, day):
                return refusal
            slot = self._slot(wallet.patient, rule, day)
            grant = Grant(reward, claim.fact, rule.name, program.name, slot, rule.points)
            return self.wallets.grant(wallet, grant)

        try:
            answer = self.wallets.change(claim.patient, plan)
        except OverdrawnError:
            return Decision(rule.name, Answer.BUDGET)
        if isinstance(answer, Answer):
            return Decision(rule.name, answer)
        return Decision(rule.name, Answer.GRANTED, rule.points)

    def _limit(self, rule: Rule, wallet: Wallet, day: date) -> Answer | None:
        """Return what stands against another grant of a rule for an act on this day."""
        program = self._program()
        since = self.wallets.ledger.now() - timedelta(days=program.patient_days)
        if wallet.earned(since) + rule.points > program.patient_points:
            return Answer.CAPPED
        taken = {grant.slot for grant, _ in wallet.grants.values() if grant.rule == rule.name}
        span = max(rule.cooldown_days, rule.cap_days) if taken else 0
        offsets = [
            offset
            for offset in range(1 - span, span)
            if self._slot(wallet.patient, rule, day + timedelta(days=offset)) in taken
        ]
        if any(abs(offset) < rule.cooldown_days for offset in offsets):
            return Answer.COOLING
        near = sorted([0, *offsets])
        crowded = zip(near, near[rule.cap_times :], strict=False)
        return Answer.CAPPED if any(last - first < rule.cap_days for first, last in crowded) else None

    def _slot(self, patient: str, rule: Rule, day: date) -> str:
        return self.wallets.opaque(f"{patient}:{rule.name}:{day.isoformat()}")[:32]


def _moved(posting: Posting) -> int:
    """Return how many points went back to where they came from."""
    return sum(transfer.amount.units for transfer in posting.transfers)


def _cause(grant: Grant, patient: str, newest: Claim) -> Cause | None:
    """Return why a patient's grant does not stand any more, or None."""
    if newest.patient != patient:
        return Cause.REASSIGNED
    if newest.retracted:
        return Cause.RETRACTED
    return Cause.EDITED if f"{grant.program}/{grant.rule}" in newest.unmet else None
