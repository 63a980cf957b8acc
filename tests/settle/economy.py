"""The whole business on one ledger, and a table of everything that can be done with it and what that must move.

To add an operation: write a function that takes the world and plain values, returns what to ask of the product and what
the auditor makes of it, and says under `operation` where the values come from.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from btt_bridge.config import Settings
from btt_bridge.errors import BridgeError
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger, Move, audit, batches
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.records import Charge, Outcome, Performance, Urgency
from btt_bridge.settle import Cause, open_billing
from btt_bridge.settle.assets import Kind, deed_id, open_assets
from btt_bridge.settle.billing import Billing, Delivered
from btt_bridge.settle.bills import Month
from btt_bridge.settle.dividends import Attestation, Dividends, Registry, contributors, formula, sign
from btt_bridge.settle.payfi import Quote
from btt_bridge.settle.rewards import open_incentives
from btt_bridge.settle.token import Choice, Institution, Reach, Recover, Spend, open_token
from btt_bridge.settle.token.governance import Action
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock, MemoryRail
from tests.settle.auditor import FOREVER, Auditor, Contributor, RefusedError, Worked, short
from tests.settle.payfi.house import CREDIT, EUR, opaque, payment, said
from tests.settle.payfi.house import opened as open_house
from tests.settle.rewards.conftest import key_of, sample

ROOT: Final = Path(__file__).parents[2]
E18: Final = 10**18
FUNDS: Final = 10**10
HOLDERS: Final = ("hospital:a", "hospital:b", "investor:c")
PARTNERS: Final = ("pharmacy", "fitness")
SIGNER: Final = Signer(Ed25519PrivateKey.from_private_bytes(bytes(32)))
#: Of the nodes, n3 is the hospital's own, and n9 nobody's.
CONTRIBUTORS: Final = {
    "ann": Contributor("ann", ("n1", "n4"), "underserved", 104_321_987),
    "bob": Contributor("bob-ltd", ("n2",), "regional", 10**9),
    "cid": Contributor("cid", ("n5",)),
    "own": Contributor("test", ("n3",)),
}
#: What an exchange saw of them: much and well, much and badly, and too little to count.
WORKED: Final = {
    "n1": Worked(kept=30, lost=7, operations=3 * 10**11, milliseconds=29_877),
    "n2": Worked(kept=20, lost=40, operations=10**11, milliseconds=77_777),
    "n4": Worked(kept=11, lost=0, operations=10**11, milliseconds=9000),
    "n5": Worked(kept=19, lost=0, operations=10**12, milliseconds=1),
}
#: What is measured beside what is paid.
_MEASURES: Final = {"OPS", "VOXELS", "BYTES"}


class CrashError(BaseException):
    """The plug was pulled; no handler of ordinary errors is in the way."""


class Plug:
    """Pulls the plug: before the nth statement or commit, or right after the nth commit."""

    def __init__(self, engine: Engine) -> None:
        self.before = self.after = -1
        self.pulled = False
        self.watch(engine)

    def watch(self, engine: Engine) -> None:
        for moment in ("before_cursor_execute", "commit"):
            event.listen(engine, moment, self._burn)
        commit = engine.dialect.do_commit

        def committed(connection: Any) -> None:
            commit(connection)
            self.after -= 1
            if self.after == 0:
                self._pull()

        engine.dialect.do_commit = committed  # type: ignore[method-assign]

    @contextmanager
    def set(self, before: int = -1, after: int = -1) -> Iterator[None]:
        """Within, the plug is pulled there, once."""
        self.before, self.after, self.pulled = before, after, False
        try:
            with suppress(CrashError):
                yield
        finally:
            self.before = self.after = -1

    def _burn(self, *_: Any) -> None:
        self.before -= 1
        if self.before == 0:
            self._pull()

    def _pull(self) -> None:
        self.pulled = True
        raise CrashError


@dataclass
class Attempt:
    """What to ask of the product, and what the auditor makes of it at a moment."""

    act: Callable[[], Any]
    audit: Callable[[Auditor, datetime], None]


class World:
    """Everything opened on one empty ledger, beside an auditor who knows nothing of it."""

    def __init__(self, url: str, folder: Path, isolation: Isolation, credit_units: int = 10_000, **given: Any) -> None:
        self.auditor = Auditor(**({"contributors": CONTRIBUTORS} | given))
        mappings, self.clock = ROOT / "mappings", FakeClock()
        self.ledger = Ledger(url, self.clock)
        settings = Settings(
            mappings_dir=mappings,
            settle={"hospital": "test", "credit_units": credit_units, "hold_margin_seconds": 600},  # type: ignore[arg-type]
        )
        self.billing = self._pooled(open_billing(settings, self.ledger))
        self.dividends = self._dividends(mappings)
        self.clearing, self.rail = open_house(self.ledger, folder), MemoryRail()
        self.token = open_token(mappings, self.ledger)
        self.incentives = open_incentives(settings, self.ledger, isolation, key_of)
        self.assets = open_assets(mappings, self.ledger, self.token.stakes)
        self.made: list[Attempt] = []
        self._begin(credit_units)
        self.plug = Plug(self.ledger.engine)
        self.plug.watch(self.incentives.rewards.claims._engine)

    def _pooled(self, billing: Billing) -> Billing:
        """Let the contributors' share wait in a pool from some day on; until then it is the node's at once."""
        (direct,) = billing.splits
        pooled = replace(direct, name="pooled", effective_from=self.auditor.pooled_from, pooled=True)
        return replace(billing, splits=(direct, pooled))

    def _dividends(self, mappings: Path) -> Dividends:
        (shipped,) = formula.load(mappings / "dividends")
        known = {
            name: contributors.Contributor(name, one.owner, one.nodes)
            for name, one in self.auditor.contributors.items()
        }
        audited = replace(shipped, auditors={SIGNER.public: "auditor"})
        return Dividends(self.ledger, (audited,), Registry(known, {}))

    def _begin(self, credit_units: int) -> None:
        """Give the auditor the limits of the outside, and the holders something to spend."""
        books = self.auditor
        books.limits |= {"bank:cny": FOREVER, "bank:eur": FOREVER, books.PAYABLE: credit_units}
        books.limits |= {"payfi:party:insurer:cny": CREDIT, "payfi:party:east:cny": 5000, "payfi:party:west:cny": 5000}
        books.limits |= {"payfi:liquidity:eur": 120_000_000, "rewards:test:issued:points": 10**9}
        books.mint()
        self.token.supply.release()
        books.release(self.clock.now())
        for holder in HOLDERS:
            funds = [("bank:cny", f"wallet:{holder}:cny", Amount(FUNDS, CNY))]
            funds.append(("wallet:investor:bithive:btt", f"wallet:{holder}:btt", Amount(20_000 * E18, BTT)))
            for debit, credit, amount in funds:
                self.ledger.open_account(credit, amount.asset)
                self.ledger.post_all("test", f"fund:{short(credit)}", [Move(debit, credit, amount, "fund")])
                books.post("", (debit, credit, amount.units))
        self.compare()

    def close(self) -> None:
        self.incentives.close()
        self.ledger.close()

    # --- how something is done --------------------------------------------------------------------------

    def carry_out(self, attempt: Attempt, *, before: int = -1, after: int = -1, at_once: int = 0) -> bool:
        """Do something, the plug pulled or several callers at once, and then once more in peace; hold it to the books.

        Returns whether it was allowed.
        """
        allowed, now = True, self.ledger.now()
        try:
            attempt.audit(self.auditor, now)
        except RefusedError:
            allowed = False
        if before > 0 or after > 0:
            with self.plug.set(before, after), suppress(BridgeError):
                attempt.act()
            assert set(self.ledger.trial_balance().values()) <= {0}
        if at_once:
            rush([attempt.act] * at_once)
        (accepted,) = rush([attempt.act])
        assert accepted == allowed
        self.compare()
        self.made.append(attempt)
        return allowed

    def crash_everywhere(self, attempt: Attempt, where: str, stride: int = 1) -> int:
        """Pull the plug before each statement, or after each commit, in turn, and go on from what stands each time.

        With a stride, before every so many of them. Returns how often it was pulled.
        """
        attempt.audit(self.auditor, self.ledger.now())
        newest = self.ledger.latest(1)
        for times in itertools.count():
            with self.plug.set(**{where: 1 + times * stride}):
                attempt.act()
            if not self.plug.pulled:
                self.compare()
                return times
            before, newest = newest, self.ledger.latest(1)
            # Where nothing was posted there is nothing new to add up.
            assert before == newest or set(self.ledger.trial_balance().values()) <= {0}
        raise AssertionError("it never comes to an end")

    def compare(self) -> None:
        """Every balance and everything held is the auditor's, to the unit."""
        found = [b for b in self.ledger.balances() if b.asset.code not in _MEASURES]
        assert {b.account: b.units for b in found if b.units} == _nonzero(self.auditor.money)
        assert {b.account: b.debits_pending for b in found if b.debits_pending} == _nonzero(self.auditor.held)
        limits = self.auditor.limits
        for balance in found:
            limit = limits.get(balance.account, 0)
            assert limit is None or balance.units + limit >= balance.debits_pending

    def conclude(self) -> audit.Audit:
        """The chain verifies, all assets sum to zero, and each fact was told once."""
        report = audit.verify(self.ledger)
        assert report.problem == ""
        assert set(report.trial_balance.values()) <= {0}
        told: dict[str, int] = {}
        after = 0
        while page := self.ledger.notices(after, 10_000):
            after = page[-1].position
            for notice in page:
                told[notice.type] = told.get(notice.type, 0) + 1
        assert told == self.auditor.told
        figures = self.token.supply.figures()
        assert figures.minted == 21_000_000 * E18
        return report


def _nonzero(units: dict[str, int]) -> dict[str, int]:
    return {name: amount for name, amount in units.items() if amount}


def rush(acts: list[Callable[[], Any]]) -> list[bool]:
    """Do all of these at the same time; say which were allowed."""
    gate = threading.Barrier(len(acts))

    def one(act: Callable[[], Any]) -> bool:
        gate.wait()
        try:
            act()
        except BridgeError:
            return False
        return True

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(one, acts))


# --- the table ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """What can be done, and where its values come from."""

    make: Callable[..., Attempt | None]
    values: dict[str, st.SearchStrategy[Any]]


OPERATIONS: Final[dict[str, Operation]] = {}


def operation(**values: st.SearchStrategy[Any]) -> Callable[[Callable[..., Attempt | None]], Any]:
    """Put a function into the table."""

    def put(make: Callable[..., Attempt | None]) -> Callable[..., Attempt | None]:
        OPERATIONS[make.__name__] = Operation(make, values)
        return make

    return put


def one(*choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(choices)


def study(number: int) -> str:
    return f"{number:064x}"


def bill(units: int) -> Charge:
    """As many operations as fen."""
    return Charge(Amount(units, CNY), "btt-2025", units, 1, 1, Urgency.ROUTINE, "gpu")


NODE = one("n1", "n2", "n3", "n5", "n9")
STUDY, REF, UNITS = st.integers(1, 9), one("r1", "r2", "r3"), st.integers(1, 4000)
HOLDER, TITLE, PATIENT = one(*HOLDERS), one("a" * 64, "b" * 64), one("p1", "p2")
WHOLE = one(1, 100, 3000, 15_000)

# compute


@operation(number=STUDY, units=UNITS, minutes=st.integers(1, 90))
def hold(world: World, number: int, units: int, minutes: int) -> Attempt:
    deadline = world.clock.now() + timedelta(minutes=minutes)
    return Attempt(
        lambda: world.billing.hold(study(number), "ct-lung", bill(units), deadline),
        lambda books, _: books.hold(study(number), units, deadline + timedelta(seconds=600)),
    )


@operation(number=STUDY, units=UNITS, node=NODE)
def charge(world: World, number: int, units: int, node: str) -> Attempt:
    return Attempt(
        lambda: world.billing.post(study(number), "ct-lung", bill(units), node),
        lambda books, now: books.charge(study(number), units, node, units, now),
    )


@operation(first=STUDY, second=STUDY, units=st.integers(1, 9000), node=NODE)
def charge_together(world: World, first: int, second: int, units: int, node: str) -> Attempt | None:
    """Two results in one commit."""
    # The commit is written from the last result to the first: whoever comes to the end of the credit is the first.
    due = {study(second): 200, study(first): units}
    delivered = [Delivered(key, "ct-lung", bill(cost), node) for key, cost in reversed(due.items())]
    return Attempt(
        lambda: world.billing.post_all(delivered),
        lambda books, now: books.charge_all(due, node, now),
    )


@operation(number=STUDY)
def void(world: World, number: int) -> Attempt:
    return Attempt(
        lambda: world.billing.void(study(number), "ct-lung", Cause.NOT_DELIVERED),
        lambda books, _: books.void(study(number)),
    )


@operation(number=STUDY)
def refund(world: World, number: int) -> Attempt:
    return Attempt(
        lambda: world.billing.refund(study(number), "ct-lung", Cause.DISPUTED),
        lambda books, _: books.refund(study(number)),
    )


@operation(ref=REF, units=st.integers(1, 9000))
def receive(world: World, ref: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.billing.receive(ref, Amount(units, CNY)),
        lambda books, _: books.receive(ref, units),
    )


@operation()
def expire(world: World) -> Attempt:
    return Attempt(world.billing.expire, lambda books, _: books.expire_holds(world.clock.now()))


@operation()
def seal(world: World) -> Attempt:
    """Put what was posted under a signed root: nothing moves."""
    return Attempt(lambda: batches.close(world.ledger, SIGNER), lambda books, _: None)


# dividends


@operation(index=st.integers(0, 2), measured=st.booleans(), audited=st.booleans())
def share_out(world: World, index: int, measured: bool, audited: bool) -> Attempt | None:
    months = sorted({bill.month for bill in world.auditor.bills.values() if bill.month})
    if not months:
        return None
    return shared_out(world, months[index % len(months)], WORKED if measured else {}, audited=audited)


def shared_out(world: World, month: str, worked: dict[str, Worked], *, audited: bool) -> Attempt:
    seen = [Performance(node, one.kept, one.lost, one.operations, one.milliseconds) for node, one in worked.items()]
    papers = list(attested(world.auditor)) if audited else []
    return Attempt(
        lambda: world.dividends.distribute(Month.parse(month), CNY, seen, papers),
        lambda books, now: books.share(month, worked, now, audited=audited),
    )


def attested(books: Auditor) -> Iterator[dict[str, str]]:
    """Yield what an auditor has signed of all contributors, for as long as anybody lives."""
    from_, until = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
    for name, one in books.contributors.items():
        for measure, value in (("gpus", 7), ("region", one.region), ("operations_per_joule", one.per_joule)):
            yield sign(Attestation(name, measure, value, from_, until), SIGNER)


# payfi


@operation(party=one("insurer", "east", "west"), ref=REF, units=UNITS)
def pay_in(world: World, party: str, ref: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.clearing.fund(f"party:{party}", Amount(units, CNY), ref),
        lambda books, _: books.pay_in(party, ref, units),
    )


@operation(
    document=one("d1", "d2", "d3", "d4", "d5", "d6", "d7", "d8"),
    payer=one("insurer", "east", "west"),
    payee=one("east", "west", "berlin"),
    units=one(20, 333, 2500, 2999),
    again=st.booleans(),
)
def instruct(world: World, document: str, payer: str, payee: str, units: int, again: bool = False) -> Attempt | None:
    if payer == payee:
        return None
    asked = payment(document, units, f"party:{payer}", f"party:{payee}")

    def act() -> Any:
        now = world.ledger.now()
        quote = Quote(CNY, EUR, Fraction(1, 8), ("x", "y"), now, now + timedelta(days=1))
        return world.clearing.instruct(asked, quote if payee == "berlin" else None, again=again)

    return Attempt(act, lambda books, _: books.instruct(opaque(document), payer, payee, units, again=again))


@operation()
def net(world: World) -> Attempt:
    return Attempt(lambda: world.clearing.close(early=True), lambda books, _: books.close())


@operation()
def submit(world: World) -> Attempt:
    return Attempt(lambda: world.clearing.submit(world.rail), lambda books, _: books.submit())


@operation(index=st.integers(0, 7), outcome=one(*Outcome))
def confirm(world: World, index: int, outcome: Outcome) -> Attempt | None:
    legs = world.auditor.legs()
    if not legs:
        return None
    batch, payee = legs[index % len(legs)]
    (leg,) = (leg for leg in world.clearing.batch(batch).legs if leg.payee == f"party:{payee}")
    booked = outcome is Outcome.BOOKED
    return Attempt(
        lambda: world.clearing.confirm(said(leg, outcome, "AC04")),
        lambda books, _: books.book(batch, payee) if booked else books.bounce(batch, payee),
    )


# token


@operation()
def release(world: World) -> Attempt:
    return Attempt(world.token.supply.release, lambda books, now: books.release(now))


@operation(holder=HOLDER, ref=REF, whole=WHOLE, lock=one("none", "quarter", "year"))
def stake(world: World, holder: str, ref: str, whole: int, lock: str) -> Attempt:
    units = whole * E18
    return Attempt(
        lambda: world.token.stakes.stake(holder, ref, units, lock),
        lambda books, now: books.stake(holder, ref, units, lock, now),
    )


@operation(holder=HOLDER, number=st.integers(1, 3))
def unstake(world: World, holder: str, number: int) -> Attempt:
    return Attempt(
        lambda: world.token.stakes.end(holder, number),
        lambda books, now: books.unstake(holder, number, now),
    )


@operation(holder=HOLDER, bridge=one("north", "south"))
def dedicate(world: World, holder: str, bridge: str) -> Attempt:
    return Attempt(
        lambda: world.token.dedications.dedicate(holder, bridge),
        lambda books, now: books.dedicate(holder, bridge),
    )


@operation(holder=HOLDER, ref=REF, whole=one(1000, 367_000, 400_000))
def propose(world: World, holder: str, ref: str, whole: int) -> Attempt:
    spending = Spend("ecosystem-development-fund", "hospital:b", whole * E18)
    return proposed(world, holder, ref, spending, ("spend", "hospital:b", whole * E18))


@operation(holder=HOLDER, ref=REF)
def propose_milestone(world: World, holder: str, ref: str) -> Attempt:
    reach = Reach("technical-development-foundation", "image-analysis")
    return proposed(world, holder, ref, reach, ("reach", "image-analysis"))


@operation(holder=HOLDER, ref=REF, index=st.integers(0, 3))
def propose_recovery(world: World, holder: str, ref: str, index: int) -> Attempt | None:
    names = list(world.auditor.proposals)
    if not names:
        return None
    name = names[index % len(names)]
    return proposed(world, holder, ref, Recover(name), ("recover", name))


def proposed(world: World, holder: str, ref: str, action: Action, facts: tuple[Any, ...]) -> Attempt:
    return Attempt(
        lambda: world.token.governance.propose(holder, ref, action),
        lambda books, now: books.propose(holder, ref, facts, now),
    )


@operation(index=st.integers(0, 3), holder=HOLDER, choice=one(*Choice))
def vote(world: World, index: int, holder: str, choice: Choice) -> Attempt | None:
    names = list(world.auditor.proposals)
    if not names:
        return None
    name = names[index % len(names)]
    return Attempt(
        lambda: world.token.governance.vote(name, holder, choice),
        lambda books, now: books.vote(name, holder, choice.value, now),
    )


@operation(index=st.integers(0, 3))
def spend(world: World, index: int) -> Attempt | None:
    names = list(world.auditor.proposals)
    if not names:
        return None
    name = names[index % len(names)]
    return Attempt(lambda: world.token.governance.close(name), lambda books, now: books.decide(name, now))


@operation(
    referrer=one("hospital:a", "hospital:b", "hospital:x"), referred=one("hospital:a", "hospital:x", "hospital:y")
)
def refer(world: World, referrer: str, referred: str) -> Attempt:
    return Attempt(
        lambda: world.token.referrals.refer(Institution(referrer, referrer), Institution(referred, referred), 0),
        lambda books, now: books.refer(referrer, referred, now),
    )


@operation(referred=one("hospital:a", "hospital:x", "hospital:y"), studies=one(0, 1, 2000, 20_000))
def reward(world: World, referred: str, studies: int) -> Attempt:
    return Attempt(
        lambda: world.token.referrals.reward(referred, studies),
        lambda books, now: books.reward(referred, studies, now),
    )


@operation(month=st.integers(11, 15), first=st.integers(0, 40), second=st.integers(0, 9))
def mine(world: World, month: int, first: int, second: int) -> Attempt:
    work = {"n1": first, "n2": second, "n3": 5, "n4": 5, "n5": 5, "n6": 4}
    return Attempt(
        lambda: world.token.supply.mine(month, work),
        lambda books, now: books.mine(month, work, now),
    )


@operation(month=st.integers(11, 13), node=one("n1", "n3"))
def reverse_payout(world: World, month: int, node: str) -> Attempt:
    key = f"mining:{month}:{node}"
    return Attempt(
        lambda: world.token.supply.reverse(key, Cause.DISPUTED),
        lambda books, _: books.back("btt.token.reversed.v1", key),
    )


@operation(holder=HOLDER, ref=REF, whole=WHOLE)
def burn(world: World, holder: str, ref: str, whole: int) -> Attempt:
    units = whole * E18 + 7
    return Attempt(
        lambda: world.token.supply.burn(holder, ref, Amount(units, BTT)),
        lambda books, _: books.burn(holder, ref, units),
    )


# rewards

ACT = one("checkup", "immunization", "prescription", "goal", "plan")


def _patient(name: str) -> str:
    return key_of(f"Patient/{name}")


@operation(patient=PATIENT, act=ACT, number=st.integers(1, 2))
def grant(world: World, patient: str, act: str, number: int) -> Attempt:
    reference = f"Patient/{patient}"
    body = sample(act, id=f"{patient}-{act}-{number}", patient=reference)
    consent = sample("consent", id=patient, patient=reference)
    return Attempt(
        lambda: world.incentives.rewards.consider(body, [consent]),
        lambda books, now: books.act(_patient(patient), act, number, now),
    )


@operation(patient=PATIENT, act=ACT, number=st.integers(1, 2))
def retract(world: World, patient: str, act: str, number: int) -> Attempt:
    identifier = f"{patient}-{act}-{number}"
    status = "entered-in-error"
    changes = {"lifecycleStatus": status} if act == "goal" else {"status": status}
    body = sample(act, id=identifier, patient=f"Patient/{patient}", version=2, **changes)
    return Attempt(
        lambda: world.incentives.rewards.consider(body),
        lambda books, _: books.retract(_patient(patient), act, number),
    )


@operation(patient=PATIENT, act=ACT, number=st.integers(1, 2))
def delete(world: World, patient: str, act: str, number: int) -> Attempt:
    """What was reported is gone from the EHR, body and all."""
    kind, moment = sample(act)["resourceType"], datetime(2026, 1, 5, 8, 0, 3, tzinfo=UTC)
    return Attempt(
        lambda: world.incentives.rewards.retract(f"{kind}/{patient}-{act}-{number}", moment, "3"),
        lambda books, _: books.retract(_patient(patient), act, number),
    )


@operation(patient=PATIENT, partner=one(*PARTNERS), number=st.integers(1, 4), points=one(49, 50, 100, 180, 501))
def redeem(world: World, patient: str, partner: str, number: int, points: int) -> Attempt:
    name = key_of(f"order:{partner}:{patient}-{number}")[:32]
    return Attempt(
        lambda: world.incentives.redemptions.redeem(_patient(patient), partner, f"{patient}-{number}", points),
        lambda books, now: books.redeem(_patient(patient), partner, name, points, now),
    )


@operation(patient=PATIENT, partner=one(*PARTNERS), number=st.integers(1, 4))
def undo(world: World, patient: str, partner: str, number: int) -> Attempt:
    name = key_of(f"order:{partner}:{patient}-{number}")[:32]
    return Attempt(
        lambda: world.incentives.redemptions.undo(_patient(patient), name),
        lambda books, now: books.undo(_patient(patient), name, now),
    )


@operation(patient=PATIENT)
def expire_points(world: World, patient: str) -> Attempt:
    return Attempt(
        lambda: world.incentives.rewards.expire(_patient(patient)),
        lambda books, now: books.expire_points(_patient(patient), now),
    )


@operation()
def sweep(world: World) -> Attempt:
    """All patients, one after another."""
    return Attempt(world.incentives.rewards.sweep, lambda books, now: books.expire_all(now))


@operation(month=one("2025-12", "2026-01", "2026-02"), clinicians=one(3, 5, 6, 60, 61))
def subscribe(world: World, month: str, clinicians: int) -> Attempt:
    return Attempt(
        lambda: world.incentives.fees.subscribe(month, clinicians),
        lambda books, now: books.subscribe(month, clinicians, now),
    )


@operation(partner=one(*PARTNERS))
def arrange(world: World, partner: str) -> Attempt:
    return Attempt(lambda: world.incentives.fees.arrange(partner), lambda books, _: books.arrange(partner))


@operation(year=one("2025", "2026", "2027"), units=one(1, 12_345, 60_000_000), again=st.booleans())
def share_saving(world: World, year: str, units: int, again: bool) -> Attempt:
    return Attempt(
        lambda: world.incentives.fees.share_saving("example-life", year, Amount(units, CNY), again=again),
        lambda books, now: books.save(year, units, now, again=again),
    )


@operation(
    key=one(
        *("subscription:test:2026-01", "arrangement:pharmacy"),
        *("saving:example-life:2026", "saving:example-life:2026:2", "saving:example-life:2026:3"),
    )
)
def refund_fee(world: World, key: str) -> Attempt:
    return Attempt(
        lambda: world.incentives.fees.refund(key),
        lambda books, _: books.back("btt.fee.refunded.v1", key),
    )


@operation(payer=one("clinic:test", "partner:pharmacy"), ref=REF, units=UNITS)
def receive_fee(world: World, payer: str, ref: str, units: int) -> Attempt:
    account = f"{payer}:payable:cny"
    return Attempt(
        lambda: world.incentives.fees.receive(account, ref, Amount(units, CNY)),
        lambda books, _: books.receive_fee(account, ref, units),
    )


# assets


@operation(holder=HOLDER, ref=REF, units=UNITS)
def deposit(world: World, holder: str, ref: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.assets.registry.fund(holder, ref, Amount(units, CNY)),
        lambda books, _: books.bank("funded", holder, ref, units),
    )


@operation(holder=HOLDER, ref=REF, units=one(1, 4000, 2 * 10**10))
def withdraw(world: World, holder: str, ref: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.assets.registry.withdraw(holder, ref, Amount(units, CNY)),
        lambda books, _: books.bank("withdrawn", holder, ref, units),
    )


@operation(title=TITLE, owner=HOLDER, total=one(1, 3, 1000), units=one(10**7, 10**9 + 1), use_fee=one(0, 501))
def tokenize(world: World, title: str, owner: str, total: int, units: int, use_fee: int) -> Attempt:
    value, fee = Amount(units, CNY), Amount(use_fee, CNY)
    return Attempt(
        lambda: world.assets.registry.mint(Kind.EQUIPMENT, title, owner, total, value, "standard", fee),
        lambda books, now: books.tokenize(title, owner, total, units, "standard", use_fee, now),
    )


@operation(
    title=TITLE,
    ref=REF,
    seller=HOLDER,
    buyer=one(*HOLDERS, "pool:main"),
    shares=one(1, 2, 700),
    price=one(1, 9_999_999, 10**7 + 1, 6 * 10**9),
)
def trade(world: World, title: str, ref: str, seller: str, buyer: str, shares: int, price: int) -> Attempt:
    return Attempt(
        lambda: world.assets.registry.trade(deed_id(title), ref, seller, buyer, shares, Amount(price, CNY)),
        lambda books, now: books.trade(title, ref, seller, buyer, shares, price, now),
    )


@operation(title=TITLE, ref=REF, method=one("desk", "appraisal"), units=one(9 * 10**6, 2 * 10**7, 10**9), payer=HOLDER)
def revalue(world: World, title: str, ref: str, method: str, units: int, payer: str) -> Attempt:
    value = Amount(units, CNY)
    return Attempt(
        lambda: world.assets.registry.revalue(deed_id(title), ref, method, value, payer),
        lambda books, now: books.revalue(title, ref, method, units, payer, now),
    )


@operation(title=TITLE, ref=REF, payer=HOLDER)
def list_prominently(world: World, title: str, ref: str, payer: str) -> Attempt:
    return Attempt(
        lambda: world.assets.registry.list_prominently(deed_id(title), ref, payer),
        lambda books, now: books.list_prominently(title, ref, payer, now),
    )


@operation(title=TITLE, style=one("passive", "active"), manager=HOLDER)
def open_pool(world: World, title: str, style: str, manager: str) -> Attempt:
    return Attempt(
        lambda: world.assets.pools.open("main", deed_id(title), style, manager),
        lambda books, now: books.open_pool("main", title, style, manager, now),
    )


@operation(ref=REF, holder=HOLDER, units=one(1, 123_456, 5 * 10**7))
def join(world: World, ref: str, holder: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.assets.pools.join("main", ref, holder, Amount(units, CNY)),
        lambda books, _: books.join("main", ref, holder, units),
    )


@operation(ref=REF, holder=HOLDER, units=one(10**5, 10**9, 10**12))
def leave(world: World, ref: str, holder: str, units: int) -> Attempt:
    return Attempt(
        lambda: world.assets.pools.leave("main", ref, holder, units),
        lambda books, _: books.leave("main", ref, holder, units),
    )


@operation(month=st.integers(0, 3))
def manage(world: World, month: int) -> Attempt:
    return Attempt(
        lambda: world.assets.pools.charge("main", month),
        lambda books, now: books.manage("main", month, now),
    )


@operation(title=TITLE, number=STUDY)
def use(world: World, title: str, number: int) -> Attempt:
    return Attempt(
        lambda: world.assets.revenue.attest(title, study(number)),
        lambda books, _: books.use(title, study(number)),
    )


@operation(title=TITLE, number=STUDY)
def unuse(world: World, title: str, number: int) -> Attempt:
    return Attempt(
        lambda: world.assets.revenue.retract(title, study(number)),
        lambda books, _: books.unuse(title, study(number)),
    )


@operation(title=TITLE, ref=REF, payer=HOLDER)
def distribute(world: World, title: str, ref: str, payer: str) -> Attempt:
    return Attempt(
        lambda: world.assets.revenue.pay(deed_id(title), ref, payer),
        lambda books, _: books.distribute(title, ref, payer),
    )


@operation(title=TITLE, ref=REF)
def take_revenue_back(world: World, title: str, ref: str) -> Attempt:
    return Attempt(
        lambda: world.assets.revenue.reverse(deed_id(title), ref, Cause.DISPUTED),
        lambda books, _: books.back("btt.asset.reversed.v1", f"revenue:{title}:{ref}"),
    )


# --- in their natural order -----------------------------------------------------------------------------

A, B = "a" * 64, "b" * 64
#: Every operation once at least, each allowed, and the days that pass between them.
TOUR: Final[list[tuple[str, dict[str, Any]] | int]] = [
    ("hold", {"number": 1, "units": 501, "minutes": 30}),
    ("charge", {"number": 1, "units": 500, "node": "n1"}),
    ("refund", {"number": 1}),
    ("hold", {"number": 2, "units": 900, "minutes": 30}),
    ("void", {"number": 2}),
    ("hold", {"number": 3, "units": 900, "minutes": 30}),
    ("charge", {"number": 4, "units": 333, "node": "n2"}),
    ("receive", {"ref": "r1", "units": 300}),
    ("seal", {}),
    ("pay_in", {"party": "insurer", "ref": "r1", "units": 2500}),
    ("instruct", {"document": "d1", "payer": "insurer", "payee": "east", "units": 333}),
    ("instruct", {"document": "d2", "payer": "east", "payee": "west", "units": 2500}),
    ("instruct", {"document": "d3", "payer": "insurer", "payee": "berlin", "units": 2999}),
    ("net", {}),
    ("submit", {}),
    ("confirm", {"index": 0, "outcome": Outcome.BOOKED}),
    ("confirm", {"index": 1, "outcome": Outcome.RETURNED}),
    ("confirm", {"index": 0, "outcome": Outcome.RETURNED}),
    ("instruct", {"document": "d1", "payer": "insurer", "payee": "east", "units": 333, "again": True}),
    ("stake", {"holder": "hospital:a", "ref": "r1", "whole": 3000, "lock": "year"}),
    ("stake", {"holder": "hospital:b", "ref": "r1", "whole": 100, "lock": "none"}),
    ("dedicate", {"holder": "hospital:a", "bridge": "north"}),
    ("refer", {"referrer": "hospital:a", "referred": "hospital:x"}),
    ("grant", {"patient": "p1", "act": "checkup", "number": 1}),
    ("redeem", {"patient": "p1", "partner": "pharmacy", "number": 1, "points": 50}),
    ("retract", {"patient": "p1", "act": "checkup", "number": 1}),
    ("undo", {"patient": "p1", "partner": "pharmacy", "number": 1}),
    ("grant", {"patient": "p1", "act": "goal", "number": 1}),
    ("delete", {"patient": "p1", "act": "goal", "number": 1}),
    ("grant", {"patient": "p1", "act": "plan", "number": 1}),
    ("grant", {"patient": "p2", "act": "plan", "number": 1}),
    ("subscribe", {"month": "2026-01", "clinicians": 6}),
    ("arrange", {"partner": "pharmacy"}),
    ("share_saving", {"year": "2026", "units": 12_345, "again": False}),
    ("refund_fee", {"key": "saving:example-life:2026"}),
    ("share_saving", {"year": "2026", "units": 12_345, "again": True}),
    ("receive_fee", {"payer": "clinic:test", "ref": "r1", "units": 4000}),
    ("deposit", {"holder": "hospital:a", "ref": "r1", "units": 4000}),
    ("withdraw", {"holder": "hospital:a", "ref": "r1", "units": 4000}),
    ("tokenize", {"title": A, "owner": "hospital:a", "total": 1000, "units": 10**7, "use_fee": 501}),
    (
        "trade",
        {"title": A, "ref": "r1", "seller": "hospital:a", "buyer": "investor:c", "shares": 2, "price": 10**7 + 1},
    ),
    ("open_pool", {"title": A, "style": "active", "manager": "hospital:b"}),
    ("join", {"ref": "r1", "holder": "investor:c", "units": 5 * 10**7}),
    (
        "trade",
        {"title": A, "ref": "r2", "seller": "hospital:a", "buyer": "pool:main", "shares": 700, "price": 9_999_999},
    ),
    ("use", {"title": A, "number": 1}),
    ("use", {"title": A, "number": 2}),
    ("unuse", {"title": A, "number": 2}),
    ("distribute", {"title": A, "ref": "r1", "payer": "hospital:b"}),
    ("take_revenue_back", {"title": A, "ref": "r1"}),
    30,
    ("expire", {}),
    ("charge", {"number": 5, "units": 1500, "node": "n1"}),
    ("charge_together", {"first": 6, "second": 7, "units": 1001, "node": "n2"}),
    ("charge", {"number": 8, "units": 333, "node": "n3"}),
    ("release", {}),
    ("mine", {"month": 12, "first": 40, "second": 9}),
    ("reverse_payout", {"month": 12, "node": "n1"}),
    ("propose", {"holder": "hospital:a", "ref": "r1", "whole": 1000}),
    ("propose_milestone", {"holder": "hospital:a", "ref": "r2"}),
    ("vote", {"index": 0, "holder": "hospital:a", "choice": Choice.YES}),
    ("vote", {"index": 0, "holder": "hospital:b", "choice": Choice.NO}),
    ("vote", {"index": 1, "holder": "hospital:a", "choice": Choice.YES}),
    ("unstake", {"holder": "hospital:b", "number": 1}),
    ("revalue", {"title": A, "ref": "r1", "method": "appraisal", "units": 2 * 10**7, "payer": "hospital:a"}),
    ("list_prominently", {"title": A, "ref": "r1", "payer": "hospital:a"}),
    ("leave", {"ref": "r1", "holder": "investor:c", "units": 10**12}),
    ("manage", {"month": 1}),
    ("burn", {"holder": "investor:c", "ref": "r1", "whole": 100}),
    9,
    ("spend", {"index": 0}),
    ("spend", {"index": 1}),
    ("propose_recovery", {"holder": "hospital:a", "ref": "r3", "index": 0}),
    ("vote", {"index": 2, "holder": "hospital:a", "choice": Choice.YES}),
    17,
    ("spend", {"index": 2}),
    ("share_out", {"index": 0, "measured": True, "audited": True}),
    ("refund", {"number": 5}),
    ("charge", {"number": 9, "units": 2000, "node": "n5"}),
    ("receive", {"ref": "r2", "units": 4000}),
    73,
    ("share_out", {"index": 1, "measured": False, "audited": False}),
    ("charge", {"number": 2, "units": 100, "node": "n1"}),
    ("charge", {"number": 3, "units": 101, "node": "n2"}),
    ("reward", {"referred": "hospital:x", "studies": 2000}),
    740,
    ("expire_points", {"patient": "p1"}),
    ("sweep", {}),
    ("share_out", {"index": 2, "measured": True, "audited": True}),
    (
        "trade",
        {"title": A, "ref": "r3", "seller": "hospital:a", "buyer": "investor:c", "shares": 1, "price": 6 * 10**9},
    ),
]

#: What the tour does several times in the same way, so that the first time is enough to be crashed.
ALIKE: Final = {"hold", "charge", "stake", "grant", "trade", "use", "vote"}

#: Two of these at once are one too many: whoever is quicker has it, and the other one is refused.
RIVALS: Final[list[tuple[str, dict[str, Any], dict[str, Any]]]] = [
    ("charge", {"number": 5, "units": 9_000, "node": "n1"}, {"number": 6}),
    ("hold", {"number": 5, "units": 9_000, "minutes": 5}, {"number": 6}),
    ("stake", {"holder": "hospital:a", "ref": "r1", "whole": 15_000, "lock": "none"}, {"ref": "r2"}),
    ("burn", {"holder": "hospital:b", "ref": "r1", "whole": 15_000}, {"ref": "r2"}),
    ("instruct", {"document": "d1", "payer": "east", "payee": "west", "units": 2999}, {"document": "d2"}),
    ("redeem", {"patient": "p1", "partner": "pharmacy", "number": 1, "points": 180}, {"number": 2}),
    (
        "trade",
        {"title": A, "ref": "r1", "seller": "hospital:a", "buyer": "hospital:b", "shares": 700, "price": 1},
        {"ref": "r2"},
    ),
    (
        "trade",
        {"title": A, "ref": "r1", "seller": "hospital:a", "buyer": "hospital:b", "shares": 1, "price": 6 * 10**9},
        {"ref": "r2"},
    ),
    ("join", {"ref": "r1", "holder": "hospital:b", "units": 3 * 10**9}, {"ref": "r2"}),
]


def attempt(world: World, name: str, values: dict[str, Any]) -> Attempt:
    made = OPERATIONS[name].make(world, **values)
    assert made is not None
    return made


def stages(tour: list[tuple[str, dict[str, Any]] | int]) -> Iterator[tuple[int, tuple[str, dict[str, Any]]]]:
    """Yield each operation with the days that have passed before it."""
    days = 0
    for one_ in tour:
        if isinstance(one_, int):
            days = one_
        else:
            yield days, one_
            days = 0
