"""A year of the business at a fraction of its volumes, on the real code, against a tally in plain Python.

python -m tests.bench.economy [--scale 400] [--days 361] [--url sqlite:////tmp/year.db]

It writes docs/economy.md and docs/economy.png.
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from btt_bridge.isolate import Isolation
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Charge, Outcome, Urgency
from btt_bridge.settle import Facts
from btt_bridge.settle.billing import Delivered, Standing
from btt_bridge.settle.rewards import Fees
from btt_bridge.settle.token import Choice
from tests.settle.auditor import SIZES, Auditor, Bill, Contributor, Worked, divided
from tests.settle.economy import E18, ROOT, Attempt, World, attempt, shared_out
from tests.settle.payfi.house import opaque
from tests.settle.rewards.conftest import key_of, sample

FIRST: Final = date(2026, 1, 5)
#: Compute a month, in fen, in January and in December: 35 million RMB, growing above 100 million.
JANUARY, DECEMBER = 3_500_000_000, 10_500_000_000
#: The source's weights of revenue, to 45 of compute.
WEIGHTS: Final = {"compute": 45, "tokenization": 25, "patient incentives": 20, "PayFi": 10}
_NODES: Final = 60


def _nodes(first: int, last: int) -> tuple[str, ...]:
    return tuple(f"n{number}" for number in range(first, last + 1))


#: The first nodes do most of the work. The laboratory is the hospital's own, and the last node is nobody's.
CONTRIBUTORS: Final = {
    "datacenter": Contributor("datacenter", _nodes(1, 4), "regional", 150_000_000),
    "university": Contributor("university", _nodes(5, 16), "metropolitan", 100_000_000),
    "clinics": Contributor("clinics", _nodes(17, 36), "underserved", 80_000_000),
    "homes": Contributor("homes", _nodes(37, 51), "regional", 110_000_000),
    "laboratory": Contributor("test", _nodes(52, 59)),
}
_KINDS: Final = 4000
#: Charges in one commit at most, as the till takes them.
_BATCH: Final = 2500
_WEEK: Final = (1.15, 1.15, 1.15, 1.15, 1.15, 0.8, 0.45)
_PARTIES: Final = ("fund:development", "fund:foundation", "fund:operational-reserve")


@dataclass
class Month:
    """What one month came to, in fen and whole tokens."""

    name: str
    studies: int = 0
    revenue: dict[str, int] = field(default_factory=lambda: dict.fromkeys(WEIGHTS, 0))
    development: int = 0
    circulating: int = 0
    staked: int = 0
    burned: int = 0


@dataclass
class Year:
    """What the whole of it came to."""

    scale: int
    days: int
    months: list[Month]
    #: Who has what of compute, by party.
    shares: dict[str, int]
    #: Of the contributors' pools: operations and fen by contributor; and what is carried on.
    dividends: dict[str, tuple[int, int]]
    carried: int
    transfers: int
    accounts: int
    postings: int
    seconds: float
    head: str


@dataclass(frozen=True)
class Kind:
    """A kind of study: what the product asks for it, and what the tally does."""

    charge: Charge
    units: int


class Business:
    """Runs the days; every operation but the bulk of the charges is held to the tally at once, those each evening."""

    def __init__(self, world: World, scale: int) -> None:
        self.world, self.scale, self.dice = world, scale, random.Random(2026)
        self.books: Auditor = world.auditor
        self.kinds = [self._kind() for _ in range(_KINDS)]
        self.weights = [1 / (1 + rank) for rank in range(_NODES)]
        self.numbers = itertools.count(1)
        self.names = (f"{n:06d}" for n in itertools.count(1))
        self.months: list[Month] = []
        self.work: Counter[str] = Counter()
        self.shares: Counter[str] = Counter()
        #: Results by month and node, and operations by contributor.
        self.results: Counter[tuple[str, str]] = Counter()
        self.supplied: Counter[str] = Counter()
        self.disputed = 0
        self.clinics: dict[str, tuple[Fees, int]] = {}
        self.pooled = 0

    # --- the calendar ---

    def run(self, days: int) -> None:
        for number in range(days):
            day = FIRST + timedelta(days=number)
            if not self.months or day.day == 1:
                self._month(day)
            if day.day == 2:
                self._dividends(self.months[:-1])
            self._compute(day)
            if day.weekday() < 5:
                self._payments(day)
            self.world.compare()
            self.world.clock.advance(86_400)
        self._evening_of_the_month()
        # The last month is shared out when it has been over for a day.
        over = (day.replace(day=1) + timedelta(days=32)).replace(day=2)
        self.world.clock.advance((over - day - timedelta(days=1)).days * 86_400)
        self._dividends(self.months)
        self.world.compare()

    def _do(self, revenue: str, name: str, **values: Any) -> None:
        self._carry_out(revenue, attempt(self.world, name, values))

    def _carry_out(self, revenue: str, made: Attempt) -> None:
        """Do something that must be allowed, and count what of it is income."""
        before = self._income()
        assert self.world.carry_out(made)
        self.world.made.clear()
        if revenue:
            self.months[-1].revenue[revenue] += self._income() - before

    def _income(self) -> int:
        money = self.books.money
        return sum(units for name, units in money.items() if name.startswith(("fund:", "payfi:revenue")))

    def _target(self, day: date, part: str) -> int:
        """Return what a part of the business takes in a month, in fen at this scale."""
        growth = (DECEMBER / JANUARY) ** ((day.month - 1) / 11)
        return int(JANUARY * growth) * WEIGHTS[part] // WEIGHTS["compute"] // self.scale

    def _month(self, day: date) -> None:
        if self.months:
            self._evening_of_the_month()
        self.months.append(Month(f"{day:%Y-%m}"))
        self._tokens(day)
        self._clinics(day)
        self._things(day)

    def _evening_of_the_month(self) -> None:
        month, figures = self.months[-1], self.world.token.supply.figures()
        month.circulating, month.staked = figures.circulating // E18, figures.staked // E18
        month.burned = figures.burned // E18
        month.development = self.books.has("fund:development:cny") - sum(m.development for m in self.months[:-1])
        if owed := -self.books.has(self.books.PAYABLE):
            self._do("", "receive", ref=f"paid-{month.name}", units=owed)

    # --- compute ---

    def _kind(self) -> Kind:
        """Draw a study: 60 to 440 slices, one model or two, nine in ten without hurry; and price it twice."""
        slices, models = self.dice.randint(60, 440), self.dice.choice((1, 1, 1, 2))
        urgency = self.dice.choices((Urgency.ROUTINE, Urgency.URGENT, Urgency.STAT), (88, 9, 3))[0]
        operations, voxels, size = slices * models * 524_288_000, slices * 262_144, slices * 524_288
        charge = self.world.billing.quote(Facts(operations, voxels, size, urgency, "cpu"))
        percent = {Urgency.ROUTINE: 100, Urgency.URGENT: 130, Urgency.STAT: 180}[urgency]
        # In 2^20 x 10^3 parts of a millionth, so that nothing is a fraction before the one rounding.
        parts = (60 * 10**6 * 10**3 + operations + 3 * voxels * 10**3) * 2**20 + size * 500_000 * 10**3
        whole = 10**6 * 10**3 * 2**20 * 10_000
        units, rest = divmod(parts * percent * 100, whole)
        units += 2 * rest > whole or (2 * rest == whole and units % 2)
        return Kind(charge, min(max(units, 100), 5000))

    def _compute(self, day: date) -> None:
        """A day of studies: the bulk of them charged in batches, a few taken through a hold, a release and a refund."""
        wanted = int(self._target(day, "compute") * 12 / 365 * _WEEK[day.weekday()] * 1.0) or 1
        delivered: list[Delivered] = []
        while wanted > 0:
            kind = self.dice.choice(self.kinds)
            node = f"n{self.dice.choices(range(_NODES), self.weights)[0] + 1}"
            delivered.append(Delivered(f"{next(self.numbers):064x}", "ct-lung", kind.charge, node))
            self._tally(kind, node)
            wanted -= kind.units
        for start in range(0, len(delivered), _BATCH):
            answers = self.world.billing.post_all(delivered[start : start + _BATCH])
            assert all(isinstance(answer, Standing) for answer in answers)
        one, two, three = (10**12 + next(self.numbers) for _ in range(3))
        for number in (one, two, three):
            self._do("", "hold", number=number, units=501, minutes=30)
        self._do("compute", "charge", number=one, units=500, node="n1")
        self._do("compute", "charge", number=two, units=501, node="n2")
        self._do("compute", "refund", number=two)
        self._do("", "void", number=three)
        # What contributors earned is income of the business too, before it is theirs.
        self.months[-1].revenue["compute"] += 350
        self.months[-1].studies += 1
        self.disputed = self.disputed or one

    def _tally(self, kind: Kind, node: str) -> None:
        """Put one charge into the tally: whole units of the price, shared out by largest remainder."""
        month, money = self.months[-1], self.books.money
        parties = (f"pool:contributors:{month.name}", *_PARTIES)
        for party, part in zip(parties, divided(kind.units, [70, 15, 10, 5]), strict=True):
            money[f"{party}:cny"] = money.get(f"{party}:cny", 0) + part
            self.shares["contributors" if party.startswith("pool:") else party.removeprefix("fund:")] += part
        money[self.books.PAYABLE] = money.get(self.books.PAYABLE, 0) - kind.units
        self.books.told["btt.compute.charged.v1"] = self.books.told.get("btt.compute.charged.v1", 0) + 1
        # One bill stands for all that a node did in a month: what counts of them is the sum of their operations.
        bulk = self.books.bills.setdefault(f"{month.name}:{node}", Bill(taken=[], node=node, month=month.name))
        bulk.operations += kind.charge.operations
        self.results[month.name, node] += 1
        self.work[node] += kind.charge.operations // 10**9
        month.revenue["compute"] += kind.units
        month.studies += 1

    def _dividends(self, over: list[Month]) -> None:
        """Share out what was not yet, and then take a study of it back, which the next month makes up for."""
        for month in over:
            if month.name not in self.books.shared:
                self.supplied.update(self.books.supplied(month.name))
                self._carry_out("", shared_out(self.world, month.name, self._worked(month.name), audited=True))
        if self.disputed:
            self._do("compute", "refund", number=self.disputed)
            self.months[-1].revenue["compute"] -= 350
            self.disputed = 0

    def _worked(self, month: str) -> dict[str, Worked]:
        """Say how the nodes worked: each loses some of its leases, and has a speed of its own."""
        worked = {}
        for number, node in enumerate(_nodes(1, _NODES)):
            if kept := self.results[month, node]:
                operations = self.books.bills[f"{month}:{node}"].operations
                milliseconds = operations // ((7 + number % 7) * 10**6)
                worked[node] = Worked(kept, kept // (5 + number % 40), operations, milliseconds)
        return worked

    # --- token ---

    def _tokens(self, day: date) -> None:
        first = len(self.months) == 1
        if first:
            self._do("", "stake", holder="hospital:a", ref="first", whole=3000, lock="year")
            self._do("", "refer", referrer="hospital:a", referred="hospital:x")
        else:
            self._do("", "release")
            self._carry_out("", self._mined(12 + day.month - 1))
            for node in ("n1", "n2", "n3", "n4"):
                share = self.books.has(f"wallet:node:{node}:btt") // E18 // 2
                self._do("", "stake", holder=f"node:{node}", ref=day.isoformat(), whole=share, lock="quarter")
        self._do("", "burn", holder="investor:c", ref=day.isoformat(), whole=50)
        self._do("", "reward", referred="hospital:x", studies=day.month * 1000)
        if day.month == 4:
            self._do("", "propose", holder="hospital:a", ref="school", whole=20_000)
            self._do("", "vote", index=0, holder="hospital:a", choice=Choice.YES)
        if day.month == 5:
            self._do("", "spend", index=0)

    def _mined(self, month: int) -> Attempt:
        work, supply = dict(self.work), self.world.token.supply
        self.work.clear()
        return Attempt(lambda: supply.mine(month, work), lambda books, now: books.mine(month, work, now))

    # --- clinics and patients ---

    def _clinics(self, day: date) -> None:
        """Subscriptions of as many clinics as the month wants, and patients who earn points and spend them."""
        wanted, billed = self._target(day, "patient incentives"), 0
        for number, (clinicians, units) in enumerate(itertools.cycle([(60, 1), (20, 1), (5, 1), (100, 1)])):
            size = next(units for most, units in SIZES if clinicians <= most)
            if billed and billed + size > wanted:
                break
            billed += size * units
            self._subscription(f"c{number:03d}", f"{day:%Y-%m}", clinicians, size)
        for number in range(1, 6):
            self._patient(day, f"{day:%Y%m}-{number}")

    def _subscription(self, clinic: str, month: str, clinicians: int, units: int) -> None:
        if clinic not in self.clinics:
            fees = Fees(self.world.ledger, clinic, self.world.incentives.fees.programs)
            fees.open()
            self.clinics[clinic] = fees, clinicians
        fees, key = self.clinics[clinic][0], f"subscription:{clinic}:{month}"
        payer = f"clinic:{clinic}:payable:cny"
        bill = Attempt(
            lambda: fees.subscribe(month, clinicians),
            lambda books, _: books.fee("btt.subscription.billed.v1", key, payer, units),
        )
        self._carry_out("patient incentives", bill)
        pay = Attempt(
            lambda: fees.receive(payer, f"{clinic}-{month}", Amount(units, CNY)),
            lambda books, _: books.receive_fee(payer, f"{clinic}-{month}", units),
        )
        self._carry_out("", pay)

    def _patient(self, day: date, name: str) -> None:
        reference, patient = f"Patient/{name}", key_of(f"Patient/{name}")
        visit = sample("checkup", id=name, patient=reference, start=f"{day}T09:00:00+08:00")
        consent = sample("consent", id=name, patient=reference)
        grant = Attempt(
            lambda: self.world.incentives.rewards.consider(visit, [consent]),
            lambda books, now: books.act(patient, "checkup", 1, now, day),
        )
        self._carry_out("", grant)
        self._do("patient incentives", "redeem", patient=name, partner="pharmacy", number=1, points=100)

    # --- things that are divided ---

    def _things(self, day: date) -> None:
        """A scanner is divided, a part of it sold, valued and listed; the pool of the first one grows."""
        wanted, title = self._target(day, "tokenization"), f"{day.month:064x}"
        value, income = wanted * 25, "tokenization"
        thing = {"title": title, "owner": "hospital:a", "total": 1000, "units": value, "use_fee": 501}
        self._do(income, "tokenize", **thing)
        seller, buyer = ("hospital:a", "hospital:b") if day.month % 2 else ("hospital:a", "investor:c")
        sale = {"title": title, "ref": "sale", "seller": seller, "buyer": buyer, "shares": 250, "price": wanted * 20}
        self._do(income, "trade", **sale)
        again = {**sale, "ref": "back", "seller": buyer, "buyer": seller, "shares": 100}
        self._do(income, "trade", **again)
        new = {"title": title, "ref": "desk", "method": "desk", "units": value + value // 10, "payer": "hospital:a"}
        self._do(income, "revalue", **new)
        self._do(income, "list_prominently", title=title, ref="front", payer="hospital:a")
        if len(self.months) == 1:
            self._do("", "open_pool", title=title, style="active", manager="hospital:b")
        else:
            self._do(income, "manage", month=len(self.months) - 1)
        self._do("", "join", ref=day.isoformat(), holder="hospital:b", units=60 * wanted - self.pooled)
        self.pooled = 60 * wanted
        for number in range(1, 21):
            self._do("", "use", title=title, number=number)
        self._do("", "distribute", title=title, ref=f"{day:%Y-%m}", payer="hospital:b")

    # --- payments ---

    def _payments(self, day: date) -> None:
        """Two payments a working day, some in euros: funded, instructed, netted, paid; one in fifty comes back."""
        gross = self._target(day, "PayFi") * 10_000 // 62 // 43
        payees = ("east", "berlin" if day.weekday() == 2 else "west")
        for payee in payees:
            units = gross if payee != "berlin" else gross // 8
            name = next(self.names)
            self._do("", "pay_in", party="insurer", ref=name, units=units)
            self._do("", "instruct", document=name, payer="insurer", payee=payee, units=units)
        self._do("", "net")
        self._do("", "submit")
        for payee in payees:
            leg = (self.books.batches, payee)
            outcome = Outcome.RETURNED if self.dice.random() < 0.02 else Outcome.BOOKED
            self._do("PayFi", "confirm", index=self.books.legs().index(leg), outcome=outcome)
        # What is over stays in the book; the tally need not look at it again.
        self.books.payments = {
            key: p for key, p in self.books.payments.items() if p.state != "settled" or key == opaque(name)
        }


def simulate(url: str, scale: int, days: int) -> Year:
    """Run so many days at 1/scale of the volumes; every balance is the tally's to the unit, or it raises."""
    started = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        Isolation(1, 2**29, 20, preload=["btt_bridge.settle.rewards.conditions"]) as isolation,
        closing(World(url, Path(folder), isolation, 10**14, pooled_from=FIRST, contributors=CONTRIBUTORS)) as world,
    ):
        business = Business(world, scale)
        business.run(days)
        world.compare()
        report = world.conclude()
        postings = sum(world.auditor.told.values())
        seconds = time.perf_counter() - started
        books, supplied = world.auditor, business.supplied
        dividends = {name: (supplied[name], books.has(f"contributor:{name}:earnings:cny")) for name in sorted(supplied)}
        return Year(
            scale, days, business.months, dict(business.shares), dividends, books.has(books.CARRIED), report.transfers,
            report.accounts, postings, seconds, report.head.hex(),
        )  # fmt: skip


# --- the page -------------------------------------------------------------------------------------------

_PAGE: Final = """\
# A year of the business

    python -m tests.bench.economy --scale {scale}

{days} days from {first} at 1/{scale:,} of the source's volumes, through the code that ships and data set `btt-2025`:
compute of 35 million RMB a month that grows past 100 million, at about five RMB a study, and everything beside it in
the source's weights. Each study is charged and shared out singly; nothing is aggregated. Charges are committed up to
2,500 at a time, as the till does it; three studies a day go through hold, release and refund too.

![Income by component, the shares of compute, BTT, and the development fund](economy.png)

A tally in plain Python (`tests/settle/auditor.py`) that shares no code with the product works out every price, share
and fee by itself. After every operation, and every evening for the bulk of the charges, each account's balance is the
tally's to the smallest unit, or the run stops. `tests/settle/test_economy_year.py` runs a week of it on both engines.

{verdict}

## Month by month, RMB at this scale

{months}

The first month begins on the 5th. Compute is the charges less refunds; the others are fees alone, never what passes
through.

## Who has what of compute

{shares}

Largest remainder leaves a share off by less than one unit on each charge, to either side; the sum is exact.

## Who has what of the contributors' pools

{dividends}

The contributors' share waits in a pool and is shared out on the second day of the next month, by operations and the
factors of [billing.md](billing.md#the-contributors-share), which the tally works out by itself. Nobody gets more than
40 % of what there is, and what that cuts off is carried on, to be there again. Right after each sharing out a study of
that month is refunded, which the next one makes up for. What the hospital's own nodes did earns nothing, nor does
a node of nobody's.
"""

_RULE: Final = {"contributors": 70, "development": 15, "foundation": 10, "operational-reserve": 5}


def page(year: Year) -> str:
    """Return docs/economy.md."""
    return _PAGE.format(
        scale=year.scale,
        days=year.days,
        first=f"{FIRST:%-d %B %Y}",
        verdict=_table(["", ""], _verdict(year)),
        months=_table(["month", "studies", *WEIGHTS, "to the development fund"], _months(year)),
        shares=_table(["party", "RMB", "share", "rule"], _parties(year)),
        dividends=_table(["contributor", "operations", "of those that count", "RMB", "of the pools"], _dividends(year)),
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _months(year: Year) -> list[list[str]]:
    months = year.months
    totals = [sum(month.revenue[part] for month in months) for part in WEIGHTS]
    studies, development = sum(month.studies for month in months), sum(month.development for month in months)
    rows = [
        [month.name, f"{month.studies:,}", *(_rmb(month.revenue[part]) for part in WEIGHTS), _rmb(month.development)]
        for month in months
    ]
    rows.append(["sum", f"{studies:,}", *map(_rmb, totals), _rmb(development)])
    rows.append(["of all income", "", *(f"{100 * units / sum(totals):.1f} %" for units in totals), ""])
    return [*rows, ["in the source", "", *(f"{weight} %" for weight in WEIGHTS.values()), ""]]


def _parties(year: Year) -> list[list[str]]:
    whole = sum(year.shares.values())
    shares = [(party, year.shares[party], percent) for party, percent in _RULE.items()]
    return [[party, _rmb(units), f"{100 * units / whole:.4f} %", f"{percent} %"] for party, units, percent in shares]


def _dividends(year: Year) -> list[list[str]]:
    supplied = sum(operations for operations, _ in year.dividends.values())
    whole = sum(units for _, units in year.dividends.values()) + year.carried
    rows = [
        [name, f"{operations:.3e}", f"{100 * operations / supplied:.2f} %", _rmb(units), f"{100 * units / whole:.2f} %"]
        for name, (operations, units) in year.dividends.items()
    ]
    return [*rows, ["carried on", "", "", _rmb(year.carried), f"{100 * year.carried / whole:.2f} %"]]


def _verdict(year: Year) -> list[list[str]]:
    return [
        ["studies charged singly", f"{sum(month.studies for month in year.months):,}"],
        ["facts told, each once", f"{year.postings:,}"],
        ["transfers, in one hash chain that verifies", f"{year.transfers:,}"],
        ["accounts, each of them as the tally has it", f"{year.accounts:,}"],
        ["difference from the tally, in smallest units", "0"],
        ["trial balance of each asset", "0"],
        ["BTT in existence, of which burned", f"21,000,000, {year.months[-1].burned:,}"],
        ["time with all checks", f"{year.seconds / 60:.1f} min"],
    ]


def _rmb(units: int) -> str:
    return f"{units / 100:,.2f}"


def plot(year: Year, path: Path) -> None:
    """Draw the year."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    style = {
        "font.family": "DejaVu Sans", "font.size": 10, "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": "#9aa5b1", "axes.labelcolor": "#3e4c59", "xtick.color": "#52606d", "ytick.color": "#52606d",
        "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e4e7eb", "axes.axisbelow": True,
        "axes.titlelocation": "left", "axes.titlesize": 12, "axes.titleweight": "bold", "axes.titlepad": 12,
    }  # fmt: skip
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(2, 2, figsize=(13.5, 8.6), constrained_layout=True)
        names = [date.fromisoformat(f"{month.name}-01").strftime("%b") for month in year.months]
        _income(axes[0][0], year, names)
        _shares(axes[0][1], year)
        _tokens(axes[1][0], year, names)
        _development(axes[1][1], year, names)
        figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12, wspace=0.06, hspace=0.06)  # type: ignore[union-attr]
        figure.savefig(path, dpi=110, facecolor="white")
        pyplot.close(figure)


_COLORS: Final = ("#0b4f6c", "#1f9e89", "#f2a541", "#d1495b")


def _income(axes: Any, year: Year, names: list[str]) -> None:
    below = [0.0] * len(names)
    for part, color in zip(WEIGHTS, _COLORS, strict=True):
        heights = [month.revenue[part] * year.scale / 10**8 for month in year.months]
        axes.bar(names, heights, bottom=below, color=color, width=0.72, label=part, edgecolor="white", linewidth=0.6)
        below = [one + other for one, other in zip(below, heights, strict=True)]
    axes.set_title("Income a month at full scale, million RMB")
    axes.legend(frameon=False, loc="upper left", reverse=True)


def _shares(axes: Any, year: Year) -> None:
    whole = sum(year.shares.values())
    parties = ("operational-reserve", "foundation", "development", "contributors")
    values = [year.shares[party] * year.scale / 10**8 for party in parties]
    bars = axes.barh([p.replace("-", " ") for p in parties], values, color=_COLORS[::-1], height=0.62)
    for bar, party in zip(bars, parties, strict=True):
        text = f"  {bar.get_width():,.1f} M   {100 * year.shares[party] / whole:.4f} %"
        axes.text(bar.get_width(), bar.get_y() + bar.get_height() / 2, text, va="center", color="#3e4c59")
    axes.set_xlim(0, max(values) * 1.42)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("Who got the year's compute, million RMB at full scale")


def _tokens(axes: Any, year: Year, names: list[str]) -> None:
    circulating = [month.circulating / 10**6 for month in year.months]
    staked = [month.staked / 10**6 for month in year.months]
    axes.stackplot(
        names, circulating, staked, colors=(_COLORS[0], _COLORS[2]), labels=("circulating", "staked"), alpha=0.92
    )
    axes.set_title("BTT released, million of 21")
    axes.margins(x=0)
    axes.legend(frameon=False, loc="upper left", reverse=True)


def _development(axes: Any, year: Year, names: list[str]) -> None:
    total = [units * year.scale / 10**8 for units in itertools.accumulate(month.development for month in year.months)]
    axes.fill_between(names, total, color=_COLORS[1], alpha=0.18)
    axes.plot(names, total, color=_COLORS[1], linewidth=2.4, marker="o", markersize=5)
    axes.annotate(
        f"{total[-1]:,.0f}",
        (names[-1], total[-1]),
        xytext=(-8, 4),
        textcoords="offset points",
        ha="right",
        color=_COLORS[1],
    )
    axes.set_ylim(0)
    axes.margins(x=0.02)
    axes.set_title("Development fund, million RMB at full scale")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=int, default=400)
    parser.add_argument("--days", type=int, default=361)
    parser.add_argument("--url", default="")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        year = simulate(asked.url or f"sqlite:///{folder}/year.db", asked.scale, asked.days)
    (asked.docs / "economy.md").write_text(page(year), encoding="utf-8")
    plot(year, asked.docs / "economy.png")
    print(year)


if __name__ == "__main__":
    main()
