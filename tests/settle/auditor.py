"""The business in the plainest Python: what each operation must move, worked out without a line of the product's code.

It knows the rules of the data set `btt-2025` by its own figures, keeps one dict of balances, and posts all or nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

E18 = 10**18
DAY = timedelta(days=1)
FOREVER = None
FIFTH = date(2026, 1, 5)


class RefusedError(Exception):
    """The rules do not allow it."""


# --- arithmetic -----------------------------------------------------------------------------------------


def ceil(numerator: int, denominator: int) -> int:
    return (numerator + denominator - 1) // denominator


def divided(units: int, weights: Sequence[int] | Sequence[Fraction]) -> list[int]:
    """Give everybody the whole part, then what is left one by one to whoever is furthest behind."""
    total = sum(weights)
    got = [units * weight // total for weight in weights]
    while sum(got) < units:
        behind = [units * weight - have * total for weight, have in zip(weights, got, strict=True)]
        got[behind.index(max(behind))] += 1
    return got


def within(low: int, basis_points: Fraction, high: int) -> Fraction:
    return min(max(basis_points, Fraction(low)), Fraction(high)) / 10_000


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def code(seed: str, first: str) -> str:
    number, letters = int(seed, 16), ""
    while len(letters) < 7:
        letters += "abcdefghijklmnopqrstuvwxyz"[number % 26]
        number //= 26
    return first + letters


# --- figures of btt-2025 --------------------------------------------------------------------------------

#: Payee to fees in basis points; berlin is paid in euros at 1 to 8, and takes analytics and listing.
PAYFI = {"insurer": [80], "east": [70], "west": [50], "berlin": [70, 75, 25, 50]}
LINEAR = {
    "bithive": (1000, 36, 6),
    "china-digital-healthcare-group": (400, 30, 3),
    "bitwave-protocol-labs": (300, 30, 3),
    "m-dao": (200, 30, 3),
    "web3-ventures": (200, 30, 3),
    "institutional-investors": (200, 30, 3),
}
PHASES = ("image-analysis", "treatment-planning", "longitudinal-data", "population-health")
MINING = [2200, 1800, 1500, 1250, 1050, 900, 700, 600]
LOCKS = {"none": (0, 100), "quarter": (90, 125), "year": (365, 200)}
TIERS = ((100_000, 15), (10_000, 10), (1000, 5), (100, 2))
MILESTONES = (("implemented", 1, 0, 50), ("in-routine", 1000, 90, 200), ("established", 10_000, 365, 500))
POINTS = {"checkup": 100, "immunization": 80, "prescription": 50, "goal": 150, "plan": 200}
SIZES = ((5, 300_000), (20, 800_000), (60, 1_500_000), (10**9, 2_500_000))
PARTNERS = {"pharmacy": (10, 500_000, 300, 50, 500), "fitness": (8, 300_000, 500, 100, 500)}
MINT = {"simple": 100, "standard": 200, "complex": 300}
REVALUE = {"desk": (25, 2500), "appraisal": (50, 10_000)}
POOL = {"passive": 100, "active": 200}
BURN = {"mint": 1000, "trade": 1000, "revaluation": 0, "listing": 0, "pool": 500}
REGIONS = {"underserved": 11_500, "regional": 10_500, "metropolitan": 10_000}
#: Of a month's pool, in percent, what one contributor gets at most; and how far refunds may run ahead of the next.
CAP, AHEAD = 40, 100_000_000
CARE_SHARES = (("clinical-partners", 6000), ("development", 2500), ("foundation", 1000), ("operational-reserve", 500))


@dataclass
class Bill:
    held: tuple[int, datetime] | None = None
    taken: list[tuple[str, str, int]] | None = None
    refunded: bool = False
    node: str = ""
    operations: int = 0
    #: Of the pool that got the contributors' share; "" where the node got it at once.
    month: str = ""


@dataclass(frozen=True)
class Worked:
    """What an exchange measured of a node: leases kept and lost, operations, and how long they took."""

    kept: int = 0
    lost: int = 0
    operations: int = 0
    milliseconds: int = 0

    def plus(self, other: Worked) -> Worked:
        kept, lost, operations = self.kept + other.kept, self.lost + other.lost, self.operations + other.operations
        return Worked(kept, lost, operations, self.milliseconds + other.milliseconds)


@dataclass(frozen=True)
class Contributor:
    """Who controls which nodes; and where an auditor has seen them, and how much they do with a joule."""

    owner: str
    nodes: tuple[str, ...]
    region: str = "metropolitan"
    per_joule: int = 10**8


def factors(worked: Worked, seen: Contributor | None) -> Fraction:
    """All five factors of the formula, multiplied; the classes by GPUs weigh the same."""
    found, leases = Fraction(1), worked.kept + worked.lost
    if leases >= 20:
        found *= within(5000, Fraction(worked.kept * 10**8, leases * 9500), 10_500)
    if worked.kept >= 20:
        found *= within(8000, Fraction(worked.operations * 1000, worked.milliseconds * 10**6), 12_000)
    if seen:
        found *= Fraction(REGIONS[seen.region], 10_000)
        found *= within(9000, Fraction(seen.per_joule, 10**4), 11_000)
    return found


@dataclass
class Payment:
    payer: str
    payee: str
    gross: int
    batch: int = 0
    state: str = "instructed"

    @property
    def fees(self) -> list[int]:
        return [max(1, ceil(self.gross * points, 10_000)) for points in PAYFI[self.payee]]

    @property
    def asset(self) -> str:
        return "eur" if self.payee == "berlin" else "cny"

    @property
    def rest(self) -> int:
        return self.gross - sum(self.fees)

    @property
    def net(self) -> int:
        return self.rest // 8 if self.asset == "eur" else self.rest

    def steps(self, waiting: str) -> list[tuple[str, str, int]]:
        payer = f"payfi:party:{self.payer}:cny"
        steps = [(payer, "payfi:fees:cny", fee) for fee in self.fees]
        if self.asset == "cny":
            return [*steps, (payer, f"payfi:{waiting}:cny", self.net)]
        into = (payer, "payfi:liquidity:cny", self.rest)
        return [*steps, into, ("payfi:liquidity:eur", f"payfi:{waiting}:eur", self.net)]


@dataclass
class Stake:
    units: int
    lock: str
    at: datetime
    ended: datetime | None = None

    def days(self, at: datetime) -> int:
        return 0 if at < self.at or (self.ended is not None and self.ended < at) else (at - self.at).days

    def weight(self, at: datetime) -> int:
        days, percent = LOCKS[self.lock]
        return self.units * (percent if at < self.at + days * DAY else 100) // 100


@dataclass
class Proposal:
    proposer: str
    #: ("spend", holder, units), ("reach", phase) or ("recover", proposal).
    action: tuple[Any, ...]
    at: datetime
    voted: dict[str, str] = field(default_factory=dict)
    closed: bool = False
    #: What it paid: from, to, units.
    grant: tuple[str, str, int] | None = None
    #: How many were for it.
    yes: int = 0


@dataclass
class Lot:
    """Points that came at one moment, and the fact that they were granted for."""

    at: datetime
    left: int
    fact: str


@dataclass
class Patient:
    changes: int = 0
    debt: int = 0
    #: The oldest first.
    lots: list[Lot] = field(default_factory=list)
    #: Fact to how many of its points have expired.
    lapsed: dict[str, int] = field(default_factory=dict)
    #: Act to fact of the grant that stands; all acts are of one day.
    standing: dict[str, str] = field(default_factory=dict)
    #: Order to partner, points, moment; and what was undone.
    orders: dict[str, tuple[str, int, datetime]] = field(default_factory=dict)
    #: Order to what it was paid with.
    paid: dict[str, list[Lot]] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)

    @property
    def points(self) -> int:
        return sum(lot.left for lot in self.lots)

    def take(self, points: int, first: str = "") -> list[Lot]:
        """Take points of one fact first, then the oldest; return them."""
        taken = []
        for lot in [one for one in self.lots if one.fact == first] + [one for one in self.lots if one.fact != first]:
            part = min(points, lot.left)
            points -= part
            lot.left -= part
            taken.append(Lot(lot.at, part, lot.fact))
        self.lots = [lot for lot in self.lots if lot.left]
        return [lot for lot in taken if lot.left]


@dataclass
class Deed:
    title: str
    facts: tuple[Any, ...]
    total: int
    value: int
    use_fee: int
    values: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        return short(f"deed:{self.title}")

    @property
    def code(self) -> str:
        return code(self.id, "x")


@dataclass
class Auditor:
    """Every balance there must be; `limits` says how far an account may owe, None without end, zero unless said."""

    money: dict[str, int] = field(default_factory=dict)
    held: dict[str, int] = field(default_factory=dict)
    limits: dict[str, int | None] = field(default_factory=dict)
    #: How many facts of each kind were told.
    told: dict[str, int] = field(default_factory=dict)
    #: Whatever may happen once: key to what was asked.
    once: dict[str, Any] = field(default_factory=dict)
    bills: dict[str, Bill] = field(default_factory=dict)
    #: From when on the contributors' share waits in a pool, and who they are.
    pooled_from: date = date(2026, 2, 1)
    contributors: Mapping[str, Contributor] = field(default_factory=dict)
    #: Months that were shared out; and the operations of what was refunded of them since the last one was.
    shared: set[str] = field(default_factory=set)
    late: Counter[str] = field(default_factory=Counter)
    payments: dict[str, Payment] = field(default_factory=dict)
    batches: int = 0
    released: dict[str, int] = field(default_factory=dict)
    stakes: dict[str, list[Stake]] = field(default_factory=dict)
    #: Holder to the bridge that its stakes count for.
    dedicated: dict[str, str] = field(default_factory=dict)
    proposals: dict[str, Proposal] = field(default_factory=dict)
    referrers: dict[str, tuple[str, datetime]] = field(default_factory=dict)
    patients: dict[str, Patient] = field(default_factory=dict)
    retracted: set[str] = field(default_factory=set)
    deeds: dict[str, Deed] = field(default_factory=dict)
    #: Pool to deed, style and day it was opened.
    pools: dict[str, tuple[str, str, datetime]] = field(default_factory=dict)
    #: What may be taken back: key to its transfers.
    paid: dict[str, list[tuple[str, str, int]]] = field(default_factory=dict)

    # --- the book ---

    def post(self, kind: str, *steps: tuple[str, str, int]) -> None:
        """Move, hold ("hold", account) and free ("free", account), all or nothing; `kind` is the fact that is told."""
        money, held = {**self.money}, {**self.held}
        for debit, credit, units in steps:
            if debit in ("hold", "free"):
                held[credit] = held.get(credit, 0) + (units if debit == "hold" else -units)
                checked = credit
            else:
                money[debit] = money.get(debit, 0) - units
                money[credit] = money.get(credit, 0) + units
                checked = debit
            limit = self.limits.get(checked, 0)
            if limit is not None and money.get(checked, 0) + limit < held.get(checked, 0):
                raise RefusedError(f"{checked} does not have it")
        self.money, self.held = money, held
        if kind:
            self.told[kind] = self.told.get(kind, 0) + 1

    def seen(self, key: str, asked: Any) -> bool:
        """Say whether this was done before; refuse another request under the same name."""
        if key in self.once and self.once[key] != asked:
            raise RefusedError("it was for something else")
        return key in self.once

    def back(self, kind: str, key: str) -> None:
        """Take a payout back, once."""
        if key not in self.paid:
            raise RefusedError("there is no such payout")
        if not self.seen(f"{key}:reverse", ""):
            self.post(kind, *((credit, debit, units) for debit, credit, units in reversed(self.paid[key])))
            self.once[f"{key}:reverse"] = ""

    def has(self, account: str) -> int:
        return self.money.get(account, 0)

    # --- compute ---

    PAYABLE = "hospital:test:payable:cny"

    def hold(self, study: str, units: int, ends: datetime) -> None:
        bill = self.bills.setdefault(study, Bill())
        if bill.taken is not None or (bill.held and bill.held[0] == units and bill.held[1] >= ends):
            return
        free = [("free", self.PAYABLE, bill.held[0])] if bill.held else []
        self.post("btt.compute.held.v1", *free, ("hold", self.PAYABLE, units))
        bill.held = (units, ends)

    def charge(self, study: str, units: int, node: str, operations: int, now: datetime) -> None:
        bill = self.bills.setdefault(study, Bill())
        if bill.taken is not None:
            return
        month = f"{now:%Y-%m}" if now.date() >= self.pooled_from else ""
        earner = f"pool:contributors:{month}" if month else f"node:{node}:earnings"
        parties = (earner, "fund:development", "fund:foundation", "fund:operational-reserve")
        parts = zip(parties, divided(units, [70, 15, 10, 5]), strict=True)
        taken = [(self.PAYABLE, "compute:clearing:cny", units)]
        taken += [("compute:clearing:cny", f"{party}:cny", part) for party, part in parts]
        free = [("free", self.PAYABLE, bill.held[0])] if bill.held else []
        self.post("btt.compute.charged.v1", *free, *taken)
        bill.taken, bill.held = taken, None
        bill.node, bill.operations, bill.month = node, operations, month

    def charge_all(self, due: Mapping[str, int], node: str, now: datetime) -> None:
        """What is refused costs only itself."""
        for study, units in due.items():
            with suppress(RefusedError):
                self.charge(study, units, node, units, now)

    def void(self, study: str) -> None:
        bill = self.bills.get(study)
        if bill and bill.held:
            self.post("btt.compute.voided.v1", ("free", self.PAYABLE, bill.held[0]))
            bill.held = None

    def refund(self, study: str) -> None:
        bill = self.bills.get(study)
        if bill is None or bill.taken is None:
            raise RefusedError("there is no charge")
        if bill.refunded:
            return
        late, pool = bill.month in self.shared, f"pool:contributors:{bill.month}:cny"
        steps = [(self.CARRIED if late and c == pool else c, d, units) for d, c, units in reversed(bill.taken)]
        self.post("btt.compute.refunded.v1", *steps)
        bill.refunded = True
        if late:
            self.late[self.supplier(bill.node)] += bill.operations

    def receive(self, key: str, units: int) -> None:
        if not self.seen(f"payment:{key}", units):
            self.post("btt.compute.paid.v1", ("bank:cny", self.PAYABLE, units))
            self.once[f"payment:{key}"] = units

    def expire_holds(self, now: datetime) -> None:
        for study, bill in self.bills.items():
            if bill.held and bill.held[1] <= now:
                self.void(study)

    # --- dividends ---

    CARRIED = "pool:contributors:carried:cny"

    def supplier(self, node: str) -> str:
        """Return who supplied a node's work to somebody else; "" where nobody did."""
        found = [name for name, one in self.contributors.items() if node in one.nodes and one.owner != "test"]
        return found[0] if found else ""

    def supplied(self, month: str) -> dict[str, int]:
        """Return the operations that each contributor has supplied, less what was taken back late, by name."""
        found = Counter({name: -operations for name, operations in self.late.items()})
        for bill in self.bills.values():
            if bill.month == month and bill.taken is not None and not bill.refunded:
                found[self.supplier(bill.node)] += bill.operations
        return {name: found[name] for name in sorted(found) if name and found[name] > 0}

    def parts(self, month: str, units: int, worked: Mapping[str, Worked], *, audited: bool) -> dict[str, int]:
        """Divide what there is by operations and factors; what is above the cap stays."""
        supplied, weights = self.supplied(month), []
        for name, operations in supplied.items():
            all_worked = Worked()
            for node in self.contributors[name].nodes:
                all_worked = all_worked.plus(worked.get(node, Worked()))
            weights.append(operations * factors(all_worked, self.contributors[name] if audited else None))
        shares = divided(units, weights) if weights else []
        return {name: min(part, units * CAP // 100) for name, part in zip(supplied, shares, strict=True)}

    def share(self, month: str, worked: Mapping[str, Worked], now: datetime, *, audited: bool) -> None:
        if month in self.shared:
            return
        waiting = {bill.month for bill in self.bills.values() if bill.month and bill.month not in self.shared}
        before = [one for one in waiting if one < month and self.has(f"pool:contributors:{one}:cny")]
        if (now - DAY).strftime("%Y-%m") <= month or before or max(self.shared, default="") > month:
            raise RefusedError("it is not its turn")
        pool, apart = f"pool:contributors:{month}:cny", f"dividend:{month}:cny"
        pooled = self.has(pool)
        parts = self.parts(month, max(pooled + self.has(self.CARRIED), 0), worked, audited=audited)
        paid = sum(parts.values())
        if not pooled and not paid:
            raise RefusedError("there is nothing to share out")
        self.limits[self.CARRIED] = AHEAD
        over = (pool, self.CARRIED, pooled - paid) if pooled > paid else (self.CARRIED, apart, paid - pooled)
        self.post("btt.dividend.shared.v1", (pool, apart, min(pooled, paid)), over)
        for name, part in parts.items():
            if part:
                self.post("btt.dividend.paid.v1", (apart, f"contributor:{name}:earnings:cny", part))
        self.shared.add(month)
        self.late.clear()

    # --- payfi ---

    def pay_in(self, party: str, key: str, units: int) -> None:
        if not self.seen(f"fund:{key}", (party, units)):
            self.post("btt.payfi.funded.v1", ("bank:cny", f"payfi:party:{party}:cny", units))
            self.once[f"fund:{key}"] = (party, units)

    def instruct(self, document: str, payer: str, payee: str, gross: int, *, again: bool = False) -> None:
        last = self.payments.get(document)
        came_back = again and last is not None and last.state == "returned"
        if self.seen(f"document:{document}", (payer, payee, gross)) and not came_back:
            return
        payment = Payment(payer, payee, gross)
        self.post("btt.payfi.instructed.v1", *payment.steps("due"))
        if last:
            self.payments[f"{document}:{last.batch}"] = last
        self.payments[document] = payment
        self.once[f"document:{document}"] = (payer, payee, gross)

    def close(self) -> None:
        waiting = [payment for payment in self.payments.values() if payment.state == "instructed"]
        if not waiting:
            return
        sums = {asset: sum(p.net for p in waiting if p.asset == asset) for asset in ("cny", "eur")}
        steps = [(f"payfi:due:{asset}", f"payfi:transit:{asset}", units) for asset, units in sums.items() if units]
        self.post("btt.payfi.netted.v1", *steps)
        self.batches += 1
        for payment in waiting:
            payment.state, payment.batch = "netted", self.batches

    def leg(self, batch: int, payee: str) -> list[Payment]:
        return [p for p in self.payments.values() if p.batch == batch and p.payee == payee]

    def set_off(self, batch: int, payee: str) -> int:
        if payee == "berlin":
            return 0
        sent = sum(p.gross for p in self.payments.values() if p.batch == batch and p.payer == payee)
        return min(sum(p.net for p in self.leg(batch, payee)), sent)

    def legs(self) -> list[tuple[int, str]]:
        """Return the legs that a bank has a part in."""
        found = sorted({(p.batch, p.payee) for p in self.payments.values() if p.batch})
        return [leg for leg in found if sum(p.net for p in self.leg(*leg)) > self.set_off(*leg)]

    def settling(self, batch: int, payee: str) -> list[tuple[str, str, int]]:
        leg, off = self.leg(batch, payee), self.set_off(batch, payee)
        asset, received, fees = leg[0].asset, sum(p.net for p in leg), sum(sum(p.fees) for p in leg)
        operator, fund = divided(fees, [85, 15])
        return [
            (f"payfi:transit:{asset}", f"bank:{asset}", received - off),
            (f"payfi:transit:{asset}", f"payfi:party:{payee}:{asset}", off),
            ("payfi:fees:cny", "payfi:revenue:cny", operator),
            ("payfi:fees:cny", "fund:development:cny", fund),
        ]

    def submit(self) -> None:
        """What is set off in full is settled by it."""
        for batch, payee in sorted({(p.batch, p.payee) for p in self.payments.values() if p.state == "netted"}):
            if (batch, payee) not in self.legs():
                self.book(batch, payee)

    def book(self, batch: int, payee: str) -> None:
        leg = self.leg(batch, payee)
        if leg[0].state == "netted":
            self.post("btt.payfi.settled.v1", *self.settling(batch, payee))
            self._mark(leg, "settled")

    def bounce(self, batch: int, payee: str) -> None:
        leg = self.leg(batch, payee)
        if leg[0].state == "returned":
            return
        steps = self.settling(batch, payee)[::-1] if leg[0].state == "settled" else []
        for payment in leg:
            steps += payment.steps("transit")[::-1]
        self.post("btt.payfi.returned.v1", *((credit, debit, units) for debit, credit, units in steps))
        self._mark(leg, "returned")

    @staticmethod
    def _mark(leg: list[Payment], state: str) -> None:
        for payment in leg:
            payment.state = state

    # --- token ---

    def mint(self) -> None:
        steps = [("token:genesis:btt", "allocation:unallocated:btt", 11), ("hold", "allocation:unallocated:btt", 11)]
        steps += [("token:genesis:btt", f"allocation:{name}:btt", parts[0] / 100) for name, parts in LINEAR.items()]
        for name, percent in (("mining-reward-pool", 30), ("community-incentives", 12)):
            steps.append(("token:genesis:btt", f"allocation:{name}:btt", percent))
        treasuries = [("ecosystem-development-fund", 7.0)]
        treasuries += [(f"technical-development-foundation:{phase}", 4.25) for phase in PHASES]
        for name, percent in treasuries:
            steps += [
                ("token:genesis:btt", f"allocation:{name}:btt", percent),
                ("hold", f"allocation:{name}:btt", percent),
            ]
        self.limits["token:genesis:btt"] = 21_000_000 * E18
        units = [(debit, credit, int(percent * 100) * 2100 * E18) for debit, credit, percent in steps]
        self.post("btt.token.minted.v1", *units)

    def release(self, now: datetime) -> None:
        over = (now.year - 2025) * 12 + now.month - 1
        for month in range(1, over + 1):
            for name, (points, months, delay) in LINEAR.items():
                whole = points * 2100 * E18
                units = [whole * min(max(m - delay, 0), months) // months for m in (month - 1, month)]
                self._release(name, f"wallet:investor:{name}:btt", month, units[1] - units[0])
            whole = 2_520_000 * E18
            units = [min(whole, whole * m // 100) for m in (month - 1, month)]
            self._release("community-incentives", "purse:community-incentives:btt", month, units[1] - units[0])

    def _release(self, name: str, target: str, month: int, units: int) -> None:
        if units and self.released.get(name, 0) < month:
            self.post("btt.token.released.v1", (f"allocation:{name}:btt", target, units))
            self.released[name] = month

    def stake(self, holder: str, reference: str, units: int, lock: str, now: datetime) -> None:
        if not self.seen(f"stake:{holder}:{reference}", (units, lock)):
            self.post("btt.token.staked.v1", (f"wallet:{holder}:btt", f"staked:{holder}:btt", units))
            self.stakes.setdefault(holder, []).append(Stake(units, lock, now))
            self.once[f"stake:{holder}:{reference}"] = (units, lock)

    def unstake(self, holder: str, number: int, now: datetime) -> None:
        stakes = self.stakes.get(holder, [])
        if number > len(stakes):
            raise RefusedError("there is no such stake")
        stake = stakes[number - 1]
        if stake.ended is not None:
            return
        if now < stake.at + LOCKS[stake.lock][0] * DAY:
            raise RefusedError("it is locked")
        self.post("btt.token.unstaked.v1", (f"staked:{holder}:btt", f"wallet:{holder}:btt", stake.units))
        stake.ended = now

    def dedicate(self, holder: str, bridge: str) -> None:
        if not self.stakes.get(holder):
            raise RefusedError("nothing is staked")
        if self.dedicated.get(holder) != bridge:
            name = f"quota:dedications:{holder}:quota"
            self.limits[name] = None
            self.post("btt.token.dedicated.v1", (name, "quota:used:quota", 1))
            self.dedicated[holder] = bridge

    def votes(self, holder: str, at: datetime) -> int:
        aged = [(stake, stake.days(at)) for stake in self.stakes.get(holder, [])]
        return sum(stake.weight(at) * min(days, 365) for stake, days in aged if days >= 7)

    def discount(self, holder: str, now: datetime) -> int:
        weight = sum(stake.weight(now) for stake in self.stakes.get(holder, []) if stake.days(now) >= 7)
        return next((percent for least, percent in TIERS if weight >= least * E18), 0)

    def propose(self, proposer: str, reference: str, action: tuple[Any, ...], now: datetime) -> None:
        name = short(f"wallet:{proposer}:btt:{reference}")
        if name in self.proposals:
            if self.proposals[name].action != action:
                raise RefusedError("it was for something else")
            return
        if action[0] == "recover" and self.proposals[action[1]].grant is None:
            raise RefusedError("nothing was paid")
        roll = sum(self.votes(one, now) for one in self.stakes)
        if not roll:
            raise RefusedError("nobody has a vote")
        self.limits["votes:issue:votes"] = FOREVER
        deposit = (f"wallet:{proposer}:btt", "token:deposits:btt", 100 * E18)
        self.post("btt.token.proposed.v1", deposit, ("votes:issue:votes", f"votes:{name}:roll:votes", roll))
        self.proposals[name] = Proposal(proposer, action, now)

    def vote(self, name: str, holder: str, choice: str, now: datetime) -> None:
        proposal, weight = self.proposals[name], self.votes(holder, self.proposals[name].at)
        if not weight or proposal.voted.get(holder, choice) != choice:
            raise RefusedError("no vote is left")
        if holder in proposal.voted:
            return
        if now >= proposal.at + 7 * DAY:
            raise RefusedError("voting is over")
        self.post("btt.token.voted.v1", (f"votes:{name}:roll:votes", f"votes:{name}:{choice}:votes", weight))
        proposal.voted[holder] = choice

    def decide(self, name: str, now: datetime) -> None:
        proposal = self.proposals[name]
        if proposal.closed:
            return
        if now < proposal.at + 9 * DAY:
            raise RefusedError("it is not time yet")
        yes, no, left = (self.has(f"votes:{name}:{side}:votes") for side in ("yes", "no", "roll"))
        deposit, grant = 100 * E18, None
        if (yes + no) * 10 < yes + no + left:
            steps = [("token:deposits:btt", "token:burned:btt", deposit), ("hold", "token:burned:btt", deposit)]
        else:
            steps = [("token:deposits:btt", f"wallet:{proposal.proposer}:btt", deposit)]
            if yes > no and now < proposal.at + 39 * DAY:
                if proposal.action[0] == "recover":
                    steps += self._recovered(proposal.action[1])
                else:
                    grant = self._granted(proposal.action)
                    shut, rest = self.has(grant[0]), self.has(grant[0]) - grant[2]
                    steps += [("free", grant[0], shut), grant, ("hold", grant[0], rest)]
        self.post("btt.token.decided.v1", *steps)
        proposal.closed, proposal.grant, proposal.yes = True, grant, yes

    def _granted(self, action: tuple[Any, ...]) -> tuple[str, str, int]:
        foundation, fund = "technical-development-foundation", "allocation:ecosystem-development-fund:btt"
        if action[0] == "reach":
            return f"allocation:{foundation}:{action[1]}:btt", f"wallet:investor:{foundation}:btt", 892_500 * E18
        if action[2] > self.has(fund) // 4:
            raise RefusedError("one vote cannot spend so much")
        return fund, f"wallet:{action[1]}:btt", action[2]

    def _recovered(self, name: str) -> list[tuple[str, str, int]]:
        """A grant goes back and is shut again; it gives its votes back, so that it is recovered once."""
        grant, yes = self.proposals[name].grant, self.proposals[name].yes
        assert grant is not None
        back = [(grant[1], grant[0], grant[2]), ("hold", grant[0], grant[2])]
        return [*back, (f"votes:{name}:yes:votes", "votes:issue:votes", yes)]

    def refer(self, referrer: str, referred: str, now: datetime) -> None:
        above: str | None = referrer
        while above is not None:
            if above == referred:
                raise RefusedError("a circle")
            above = self.referrers[above][0] if above in self.referrers else None
        if not self.seen(f"referral:{referred}", referrer):
            self.limits[f"quota:institutions:{referrer}:quota"] = 20
            self.limits[f"quota:rewards:{referrer}:quota"] = 5000 * E18
            self.post("btt.token.referred.v1", (f"quota:institutions:{referrer}:quota", "quota:used:quota", 1))
            self.once[f"referral:{referred}"] = referrer
            self.referrers[referred] = (referrer, now)

    def reward(self, referred: str, studies: int, now: datetime) -> None:
        if referred not in self.referrers:
            raise RefusedError("nobody referred it")
        referrer, at = self.referrers[referred]
        for name, least, days, whole in MILESTONES:
            key, units = f"milestone:{referred}:{name}", whole * E18
            if studies >= least and (now - at).days >= days and key not in self.once:
                gift = ("purse:community-incentives:btt", f"wallet:{referrer}:btt", units)
                self.post("btt.token.rewarded.v1", gift, (f"quota:rewards:{referrer}:quota", "quota:used:quota", units))
                self.once[key] = ""

    def mine(self, month: int, work: dict[str, int], now: datetime) -> None:
        if not 1 <= month <= min((now.year - 2025) * 12 + now.month - 1, 96):
            raise RefusedError("the month is not over")
        if self.seen(f"mining:{month}", work) or not any(work.values()):
            return
        weights = [point for point in MINING for _ in range(12)]
        before, after = (6_300_000 * E18 * sum(weights[:m]) // 120_000 for m in (month - 1, month))
        nodes = sorted(node for node in work if work[node])
        cap = (after - before) * 2000 // 10_000
        parts = [min(part, cap) for part in divided(after - before, [work[node] for node in nodes])]
        source = f"allocation:mining-reward-pool:{month}:btt"
        self.post("btt.token.emitted.v1", ("allocation:mining-reward-pool:btt", source, sum(parts)))
        for node, part in zip(nodes, parts, strict=True):
            self.paid[f"mining:{month}:{node}"] = [(source, f"wallet:node:{node}:btt", part)]
            self.post("btt.token.mined.v1", *self.paid[f"mining:{month}:{node}"])
        self.once[f"mining:{month}"] = work

    def burn(self, holder: str, reference: str, units: int) -> None:
        if not self.seen(f"burn:{holder}:{reference}", units):
            steps = (f"wallet:{holder}:btt", "token:burned:btt", units), ("hold", "token:burned:btt", units)
            self.post("btt.token.burned.v1", *steps)
            self.once[f"burn:{holder}:{reference}"] = units

    # --- rewards ---

    def _points(self, patient: str, credit: int, source: str) -> list[tuple[str, str, int]]:
        """Bring points to a patient: what is owed is paid first."""
        repaid = min(self.patients[patient].debt, credit)
        own = f"patient:test:{patient}"
        return [(source, f"{own}:debt:points", repaid), (source, f"{own}:points", credit - repaid)]

    def _credited(self, patient: str, lots: list[Lot]) -> None:
        """Put lots where their age says; what was owed takes the oldest of them."""
        one = self.patients[patient]
        for lot in lots:
            repaid = min(one.debt, lot.left)
            one.debt -= repaid
            lot.left -= repaid
        one.lots = sorted([*one.lots, *(lot for lot in lots if lot.left)], key=lambda lot: lot.at)
        one.changes += 1

    def act(self, patient: str, act: str, number: int, now: datetime, day: date = FIFTH) -> None:
        """An act is reported; the first of its kind that stands is rewarded, for all of a patient are of one day."""
        one, fact = self.patients.setdefault(patient, Patient()), f"{patient}:{act}:{number}"
        late = (now.date() - day).days > 90
        if fact in self.retracted or act in one.standing or late:
            return
        self.limits[f"patient:test:{patient}:debt:points"] = FOREVER
        self.post("btt.reward.granted.v1", *self._points(patient, POINTS[act], "rewards:test:issued:points"))
        self._credited(patient, [Lot(now, POINTS[act], fact)])
        one.standing[act] = fact

    def retract(self, patient: str, act: str, number: int) -> None:
        one, fact = self.patients.setdefault(patient, Patient()), f"{patient}:{act}:{number}"
        self.retracted.add(fact)
        if one.standing.get(act) != fact:
            return
        points = POINTS[act] - one.lapsed.get(fact, 0)
        if not points:
            return  # what has expired is gone already
        owed, own = max(0, points - one.points), f"patient:test:{patient}"
        taken = (f"{own}:points", "rewards:test:issued:points", points - owed)
        self.post("btt.reward.reversed.v1", taken, (f"{own}:debt:points", "rewards:test:issued:points", owed))
        one.debt += owed
        one.take(points - owed, fact)
        one.changes += 1
        del one.standing[act]

    def expire_points(self, patient: str, now: datetime) -> None:
        one = self.patients.setdefault(patient, Patient())
        if points := sum(lot.left for lot in one.lots if lot.at < now - 730 * DAY):
            self.post("btt.reward.expired.v1", (f"patient:test:{patient}:points", "rewards:test:issued:points", points))
            for lot in one.take(points):
                one.lapsed[lot.fact] = one.lapsed.get(lot.fact, 0) + lot.left
            one.changes += 1

    def expire_all(self, now: datetime) -> None:
        for patient in self.patients:
            self.expire_points(patient, now)

    @staticmethod
    def care(payer: str, units: int) -> list[tuple[str, str, int]]:
        parts = divided(units, [weight for _, weight in CARE_SHARES])
        return [(payer, f"fund:{name}:cny", part) for (name, _), part in zip(CARE_SHARES, parts, strict=True)]

    def redeem(self, patient: str, partner: str, order: str, points: int, now: datetime) -> None:
        one = self.patients.setdefault(patient, Patient())
        if not one.changes:
            raise RefusedError("no points")
        self.expire_points(patient, now)
        if order in one.orders:
            if order in one.undone or one.orders[order][:2] != (partner, points):
                raise RefusedError("it was for something else")
            return
        worth, _, fee_points, least, most = PARTNERS[partner]
        spent = sum(p for o, (_, p, at) in one.orders.items() if at >= now - DAY and o not in one.undone)
        if points < least or spent + points > most or points > one.points:
            raise RefusedError("limits")
        self.limits[f"partner:{partner}:payable:cny"] = 10_000_000
        fee = self.care(f"partner:{partner}:payable:cny", ceil(points * worth * fee_points, 10_000))
        spend = (f"patient:test:{patient}:points", f"partner:{partner}:redeemed:points", points)
        self.post("btt.reward.redeemed.v1", spend, *fee)
        one.paid[order] = one.take(points)
        one.changes += 1
        one.orders[order] = (partner, points, now)

    def undo(self, patient: str, order: str, now: datetime) -> None:
        one = self.patients.get(patient, Patient())
        if order not in one.orders:
            raise RefusedError("no such redemption")
        if order in one.undone:
            return
        partner, points, _ = one.orders[order]
        worth, _, fee_points, _, _ = PARTNERS[partner]
        fee = self.care(f"partner:{partner}:payable:cny", ceil(points * worth * fee_points, 10_000))
        back = self._points(patient, points, f"partner:{partner}:redeemed:points")
        self.post("btt.reward.returned.v1", *back, *((credit, debit, units) for debit, credit, units in fee))
        self._credited(patient, one.paid[order])
        one.undone.add(order)

    def fee(self, kind: str, key: str, payer: str, units: int) -> None:
        """A clinic's, partner's or insurer's bill: the first under its key stands."""
        if key not in self.paid:
            self.limits[payer] = 10_000_000
            steps = self.care(payer, units)
            self.post(kind, *steps)
            self.paid[key] = steps

    def subscribe(self, month: str, clinicians: int, now: datetime) -> None:
        if month > f"{now:%Y-%m}":
            raise RefusedError("it has not begun")
        units = next(units for most, units in SIZES if clinicians <= most)
        self.fee("btt.subscription.billed.v1", f"subscription:test:{month}", "clinic:test:payable:cny", units)

    def arrange(self, partner: str) -> None:
        units, payer = PARTNERS[partner][1], f"partner:{partner}:payable:cny"
        self.fee("btt.arrangement.billed.v1", f"arrangement:{partner}", payer, units)

    def save(self, year: str, saving: int, now: datetime, *, again: bool = False) -> None:
        if year > f"{now:%Y}":
            raise RefusedError("it has not begun")
        units, payer = ceil(saving * 2000, 10_000), "insurer:example-life:payable:cny"
        first = key = f"saving:example-life:{year}"
        for number in range(2, 99):
            if f"{key}:reverse" in self.once and (again or f"{first}:{number}" in self.paid):
                key = f"{first}:{number}"
        # A saving of less than a unit's worth of difference is the same bill; of more, it is another saving.
        if not self.seen(f"amount:{key}", units):
            self.fee("btt.saving.shared.v1", key, payer, units)
            self.once[f"amount:{key}"] = units

    def receive_fee(self, payer: str, key: str, units: int) -> None:
        if not self.seen(f"fee-payment:{key}", (payer, units)):
            self.limits.setdefault(payer, 10_000_000)
            self.post("btt.fee.paid.v1", ("bank:cny", payer, units))
            self.once[f"fee-payment:{key}"] = (payer, units)

    # --- assets ---

    def bank(self, kind: str, holder: str, reference: str, units: int) -> None:
        """Money comes in from the bank ("funded"), or goes out to it ("withdrawn")."""
        if not self.seen(f"{kind}:{holder}:{reference}", units):
            way = ("bank:cny", f"wallet:{holder}:cny")
            self.post(f"btt.asset.{kind}.v1", (*(way if kind == "funded" else way[::-1]), units))
            self.once[f"{kind}:{holder}:{reference}"] = units

    def asset_fee(self, kind: str, payer: str, units: int) -> list[tuple[str, str, int]]:
        burned = units * BURN[kind] // 10_000
        development, operations = divided(units - burned, [50, 50])
        parts = (("fund:buyback", burned), ("fund:development", development), ("fund:asset-operations", operations))
        return [(f"wallet:{payer}:cny", f"{name}:cny", part) for name, part in parts]

    def discounted(self, units: int, holder: str, now: datetime) -> int:
        return units - units * self.discount(holder, now) // 100

    def deed(self, title: str) -> Deed:
        if title not in self.deeds:
            raise RefusedError("there is no such deed")
        return self.deeds[title]

    def tokenize(
        self, title: str, owner: str, total: int, value: int, complexity: str, use_fee: int, now: datetime
    ) -> None:
        facts = (owner, total, value, complexity, use_fee)
        if title in self.deeds:
            if self.deeds[title].facts != facts:
                raise RefusedError("it was for something else")
            return
        deed = Deed(title, facts, total, value, use_fee)
        self.limits[f"shares:issue:{deed.code}"] = total
        fee = self.discounted(ceil(value * MINT[complexity], 10_000), owner, now)
        shares = (f"shares:issue:{deed.code}", f"shares:{owner}:{deed.code}", total)
        self.post("btt.asset.minted.v1", shares, *self.asset_fee("mint", owner, fee))
        self.deeds[title] = deed

    def trade(
        self, title: str, reference: str, seller: str, buyer: str, shares: int, price: int, now: datetime
    ) -> None:
        deed, key = self.deed(title), f"trade:{title}:{seller}:{reference}"
        if seller == buyer:
            raise RefusedError("nobody sells to itself")
        if self.seen(key, (buyer, shares, price)):
            return
        points = next(points for most, points in ((10**7, 100), (10**8, 75), (10**99, 50)) if price <= most)
        fee = self.discounted(ceil(price * points, 10_000), seller, now)
        steps = [
            (f"shares:{seller}:{deed.code}", f"shares:{buyer}:{deed.code}", shares),
            (f"wallet:{buyer}:cny", f"wallet:{seller}:cny", price),
            *self.asset_fee("trade", seller, fee),
        ]
        self.post("btt.asset.traded.v1", *steps)
        self.once[key] = (buyer, shares, price)

    def revalue(self, title: str, reference: str, method: str, value: int, payer: str, now: datetime) -> None:
        deed, (points, most) = self.deed(title), REVALUE[method]
        if reference in deed.values:
            if deed.values[reference] != (method, value):
                raise RefusedError("it was for something else")
            return
        if abs(value - deed.value) * 10_000 > deed.value * most:
            raise RefusedError("that is too far from what it was")
        fee = self.discounted(ceil(value * points, 10_000), payer, now)
        self.post("btt.asset.revalued.v1", *self.asset_fee("revaluation", payer, fee))
        deed.value, deed.values[reference] = value, (method, value)

    def list_prominently(self, title: str, reference: str, payer: str, now: datetime) -> None:
        deed, key = self.deed(title), f"listing:{title}:{reference}"
        if not self.seen(key, payer):
            fee = self.discounted(ceil(deed.value * 50, 10_000), payer, now)
            self.post("btt.asset.listed.v1", *self.asset_fee("listing", payer, fee))
            self.once[key] = payer

    def open_pool(self, name: str, title: str, style: str, manager: str, now: datetime) -> None:
        self.deed(title)
        if not self.seen(f"pool:{name}", (title, style, manager)):
            self.limits[f"units:issue:{code(short(f'pool:{name}'), 'y')}"] = FOREVER
            self.post("btt.asset.pooled.v1", (f"wallet:{manager}:cny", f"wallet:pool:{name}:cny", 1))
            self.once[f"pool:{name}"], self.pools[name] = (title, style, manager), (title, style, now)

    def _pool(self, name: str) -> tuple[str, int, int]:
        """Return the code of a pool's units, how many there are, and what the pool is worth."""
        if name not in self.pools:
            raise RefusedError("there is no such pool")
        deed, units = self.deeds[self.pools[name][0]], code(short(f"pool:{name}"), "y")
        worth = deed.value * self.has(f"shares:pool:{name}:{deed.code}") // deed.total
        return units, -self.has(f"units:issue:{units}"), self.has(f"wallet:pool:{name}:cny") + worth

    def join(self, name: str, reference: str, holder: str, amount: int) -> None:
        units, issued, worth = self._pool(name)
        if self.seen(f"join:{name}:{holder}:{reference}", amount):
            return
        bought = amount * (issued + 10**6) // (worth + 1)
        if not bought:
            raise RefusedError("that buys nothing")
        money = (f"wallet:{holder}:cny", f"wallet:pool:{name}:cny", amount)
        self.post("btt.asset.joined.v1", money, (f"units:issue:{units}", f"units:{holder}:{units}", bought))
        self.once[f"join:{name}:{holder}:{reference}"] = amount

    def leave(self, name: str, reference: str, holder: str, given: int) -> None:
        units, issued, worth = self._pool(name)
        if self.seen(f"leave:{name}:{holder}:{reference}", given):
            return
        amount = given * (worth + 1) // (issued + 10**6)
        if not amount:
            raise RefusedError("that is worth nothing")
        money = (f"wallet:pool:{name}:cny", f"wallet:{holder}:cny", amount)
        self.post("btt.asset.left.v1", (f"units:{holder}:{units}", f"units:issue:{units}", given), money)
        self.once[f"leave:{name}:{holder}:{reference}"] = given

    def manage(self, name: str, month: int, now: datetime) -> None:
        _, _, worth = self._pool(name)
        if self.seen(f"manage:{name}:{month}", ""):
            return
        opened = self.pools[name][2]
        fee = ceil(worth * POOL[self.pools[name][1]], 120_000)
        if not 1 <= month <= (now.year - opened.year) * 12 + now.month - opened.month or not fee:
            raise RefusedError("there is nothing to charge for")
        self.post("btt.asset.managed.v1", *self.asset_fee("pool", f"pool:{name}", fee))
        self.once[f"manage:{name}:{month}"] = ""

    def use(self, title: str, study: str) -> None:
        if title in self.deeds and not self.seen(f"use:{title}:{study}", ""):
            self.limits["uses:issue:uses"] = FOREVER
            self.post("", ("uses:issue:uses", f"uses:{self.deeds[title].id}:open:uses", 1))
            self.once[f"use:{title}:{study}"] = ""

    def unuse(self, title: str, study: str) -> None:
        if f"use:{title}:{study}" not in self.once:
            raise RefusedError("there is no such use")
        if not self.seen(f"unuse:{title}:{study}", ""):
            self.post("", (f"uses:{self.deeds[title].id}:open:uses", "uses:issue:uses", 1))
            self.once[f"unuse:{title}:{study}"] = ""

    def distribute(self, title: str, period: str, payer: str) -> None:
        deed = self.deed(title)
        key, uses = f"revenue:{title}:{period}", min(self.has(f"uses:{deed.id}:open:uses"), 20_000)
        if self.seen(key, payer):
            return
        if not uses * deed.use_fee:
            raise RefusedError("there is nothing to pay")
        end, pot = f":{deed.code}", f"revenue:{deed.id}:cny"
        held = {
            name[len("shares:") : -len(end)]: units
            for name, units in self.money.items()
            if name.endswith(end) and units > 0
        }
        parts = zip(sorted(held), divided(uses * deed.use_fee, [held[name] for name in sorted(held)]), strict=True)
        steps = [
            (f"wallet:{payer}:cny", pot, uses * deed.use_fee),
            (f"uses:{deed.id}:open:uses", f"uses:{deed.id}:paid:uses", uses),
            *((pot, f"wallet:{holder}:cny", part) for holder, part in parts),
        ]
        self.post("btt.asset.paid.v1", *steps)
        self.once[key], self.paid[key] = payer, steps
