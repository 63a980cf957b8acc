"""The bills as the book tells them: what one came to, and all that a month saw of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final

from btt_bridge.errors import CapacityError, InvalidAmountError, RefusedError
from btt_bridge.ledger import Ledger, Notice, Posting
from btt_bridge.money import BTT, POINTS, Amount, Asset
from btt_bridge.records import Urgency
from btt_bridge.settle import events, meters
from btt_bridge.settle.billing import Billing, State, history
from btt_bridge.settle.meters import Reading

_MONTH: Final = re.compile(r"\d{4}-\d{2}")
_PAGE: Final = 1000
# How often accounts are read again when somebody writes meanwhile.
_TRIES: Final = 100


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, as a time zone has it."""

    first: date
    zone: tzinfo = UTC

    @classmethod
    def parse(cls, text: str, zone: tzinfo = UTC) -> Month:
        """Read "2026-01"; raise RefusedError for what is no month."""
        try:
            if not _MONTH.fullmatch(text):
                raise ValueError
            return cls(date.fromisoformat(f"{text}-01"), zone)
        except ValueError:
            raise RefusedError("a month is written as 2026-01") from None

    @property
    def start(self) -> datetime:
        return datetime(self.first.year, self.first.month, 1, tzinfo=self.zone)

    @property
    def end(self) -> datetime:
        """The first instant that is not in it."""
        year, month = divmod(self.first.year * 12 + self.first.month, 12)
        return datetime(year, month + 1, 1, tzinfo=self.zone)

    def __str__(self) -> str:
        return f"{self.first:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Bill:
    """One bill: what it names is opaque outside the hospital, and there is no patient in it."""

    #: The study's key is a keyed digest; it stays inside. `reference` is what everybody else may see.
    key: str
    reference: str
    service: str
    state: State
    #: The posting that this is read from, and when it was made.
    posting: int
    at: datetime
    amount: Amount
    price_list: str
    urgency: Urgency
    hardware: str
    #: Who did the work; "" while it is only held.
    node: str
    #: What the meters read; None where it is only held, or took nothing.
    reading: Reading | None = None

    @property
    def study_key(self) -> str:
        return self.key.split(":")[1]


@dataclass(frozen=True, slots=True)
class Refund:
    """A charge that was taken back."""

    bill: Bill
    posting: int
    at: datetime
    cause: str


@dataclass(frozen=True, slots=True)
class Account:
    """What the hospital's account of one asset did in a month; below zero it owes."""

    asset: Asset
    opening: int
    charged: int
    refunded: int
    paid: int
    #: What moved it besides; nothing of ours does.
    other: int = 0

    @property
    def closing(self) -> int:
        return self.opening - self.charged + self.refunded + self.paid + self.other


@dataclass(frozen=True, slots=True)
class Activity:
    """All that a month saw of one hospital's bills, in the order of the book."""

    hospital: str
    month: Month
    #: The newest posting of the book when it was read.
    head: int
    charges: tuple[Bill, ...]
    #: Of bills of this month and of earlier ones.
    refunds: tuple[Refund, ...]
    accounts: tuple[Account, ...]


def find(billing: Billing, study_key: str, service: str) -> Bill | None:
    """Return a bill as it stands, or None where nothing was ever held or charged."""
    ledger, hospital = billing.ledger, billing.hospital
    state = billing.standing(study_key, service).state
    ids = dict.fromkeys(transfer.posting for transfer in history(ledger, hospital, study_key, service))
    found = [posting for at in ids for posting in ledger.postings(at - 1, 1)]
    sources = [posting for posting in found if len(posting.key.split(":")) == 3] or [
        posting for posting in found if posting.key.split(":")[-1].isdigit()
    ]
    if not sources:
        return None
    (notice,) = ledger.notices(sources[-1].id - 1, 1)
    return billed(sources[-1], notice, state)


def refund_of(billing: Billing, bill: Bill) -> Refund | None:
    """Return how a bill was taken back, or None where it was not."""
    refunded = billing.ledger.find(billing.hospital, f"{bill.key}:refund")
    if refunded is None:
        return None
    (told,) = billing.ledger.notices(refunded.id - 1, 1)
    return Refund(bill, refunded.id, refunded.at, told.data["cause"])


def activity(billing: Billing, month: Month) -> Activity:
    """Read a month of one hospital's bills from the book, and from nothing else."""
    ledger, hospital = billing.ledger, billing.hospital
    payables = {billing.payable(asset): asset for asset in _assets(billing)}
    head, standing = balances(ledger, payables)
    seen = _Seen(payables)
    for posting, notice in entries(ledger, before(ledger, month.start)):
        if posting.id > head:
            break
        seen.add(posting, notice if posting.issuer == hospital else None, inside=posting.at < month.end)
    charges = tuple(seen.bills())
    refunds = tuple(_refunds(ledger, hospital, [one for one in seen.refunds if one[0].at < month.end]))
    accounts = tuple(_account(seen, payable, standing[payable], charges, refunds) for payable in payables)
    return Activity(hospital, month, head, charges, refunds, accounts)


class _Seen:
    """What a walk through the book from the start of a month to its end has met."""

    def __init__(self, payables: Mapping[str, Asset]) -> None:
        self.payables = payables
        self.charges: list[tuple[Posting, Notice]] = []
        self.refunds: list[tuple[Posting, Notice]] = []
        #: What the accounts changed by since the month began, within it, and by payments within it.
        self.moved = dict.fromkeys(payables, 0)
        self.moved_inside = dict.fromkeys(payables, 0)
        self.paid = dict.fromkeys(payables, 0)

    def add(self, posting: Posting, notice: Notice | None, *, inside: bool) -> None:
        _add(self.moved, posting)
        if inside:
            _add(self.moved_inside, posting)
        if notice is None:
            return
        if notice.type == events.REFUNDED:
            self.refunds.append((posting, notice))
        elif notice.type == events.CHARGED and inside:
            self.charges.append((posting, notice))
        elif notice.type == events.PAID and inside:
            _add(self.paid, posting)

    def bills(self) -> list[Bill]:
        """Return the month's charges as they stand today."""
        back = {notice.data["bill"] for _, notice in self.refunds}
        states = [State.REFUNDED if notice.data["bill"] in back else State.CHARGED for _, notice in self.charges]
        return [billed(*one, state) for one, state in zip(self.charges, states, strict=True)]


def balances(ledger: Ledger, accounts: Iterable[str]) -> tuple[int, dict[str, int]]:
    """Return the newest posting, and what the accounts stand at behind it."""
    for _ in range(_TRIES):
        head = ledger.latest(1)
        units = {name: ledger.balance(name).units for name in accounts}
        if ledger.latest(1) == head:
            return (head[0].posting if head else 0), units
    raise CapacityError("the book is being written to all the time")


def _account(seen: _Seen, payable: str, units: int, charges: Sequence[Bill], refunds: Sequence[Refund]) -> Account:
    asset = seen.payables[payable]
    charged = _sum([bill.amount for bill in charges], asset)
    refunded = _sum([refund.bill.amount for refund in refunds], asset)
    other = seen.moved_inside[payable] + charged - refunded - seen.paid[payable]
    return Account(asset, units - seen.moved[payable], charged, refunded, seen.paid[payable], other)


def before(ledger: Ledger, at: datetime) -> int:
    """Return the last posting before an instant, 0 where there is none; time in the book never goes back."""
    newest = ledger.latest(1)
    low, high = 0, newest[0].posting if newest else 0
    while low < high:
        middle = (low + high) // 2
        (found,) = ledger.postings(middle, 1)
        if found.at < at:
            low = found.id
        else:
            high = middle
    return low


def entries(ledger: Ledger, after: int) -> Iterator[tuple[Posting, Notice | None]]:
    """Yield every posting behind one with the event that tells of it, in the order of the book."""
    while page := ledger.postings(after, _PAGE):
        # A posting tells at most one event, so that these reach as far as the page.
        told = {notice.position: notice for notice in ledger.notices(after, _PAGE)}
        for posting in page:
            yield posting, told.get(posting.id)
        after = page[-1].id


def work(
    ledger: Ledger, start: datetime, end: datetime, counts: Callable[[str, str], object], head: int | None = None
) -> dict[str, int]:
    """Return the model operations of each node's results that were delivered in a span and are not refunded.

    `counts` says of a node and a hospital whether its work is worth anything; `head` is the last posting looked at.
    """
    done: dict[tuple[str, str], tuple[str, int]] = {}
    for posting, notice in entries(ledger, before(ledger, start)):
        if head is not None and posting.id > head:
            break
        if notice is None:
            continue
        if notice.type == events.CHARGED and posting.at < end:
            bill = billed(posting, notice, State.CHARGED)
            if bill.reading and counts(bill.node, posting.issuer):
                done[posting.issuer, posting.key] = (bill.node, bill.reading.operations)
        elif notice.type == events.REFUNDED:
            done.pop((posting.issuer, posting.key.removesuffix(":refund")), None)
    found: dict[str, int] = {}
    for node, operations in done.values():
        found[node] = found.get(node, 0) + operations
    return found


def studies(ledger: Ledger, hospital: str, since: int = 0) -> int:
    """Return how many studies of a hospital were charged behind a posting and are not refunded."""
    standing = set()
    for posting, notice in entries(ledger, since):
        if notice is None or posting.issuer != hospital:
            continue
        if notice.type == events.CHARGED:
            standing.add(posting.key)
        elif notice.type == events.REFUNDED:
            standing.discard(posting.key.removesuffix(":refund"))
    return len({key.split(":")[1] for key in standing})


def in_currency(amount: Amount) -> str:
    """Return an amount as a decimal; raise InvalidAmountError for what is no currency of ISO 4217."""
    if amount.asset.code in (BTT.code, POINTS.code):
        raise InvalidAmountError(f"{amount.asset.code} is not a currency: billing systems take ISO 4217 only")
    return amount.decimal


def _add(sums: dict[str, int], posting: Posting) -> None:
    for transfer in posting.transfers:
        if transfer.kind in ("move", "post"):
            for name, units in ((transfer.debit, -transfer.amount.units), (transfer.credit, transfer.amount.units)):
                if name in sums:
                    sums[name] += units


def _sum(amounts: Sequence[Amount], asset: Asset) -> int:
    return sum(amount.units for amount in amounts if amount.asset == asset)


def billed(posting: Posting, notice: Notice, state: State) -> Bill:
    """Read a bill from its hold or its charge."""
    data: Mapping[str, Any] = notice.data
    key = ":".join(posting.key.split(":")[:3])
    return Bill(
        key=key,
        reference=data["bill"],
        service=key.split(":")[2],
        state=state,
        posting=posting.id,
        at=posting.at,
        amount=Amount(int(data["amount"]["units"]), Asset(data["amount"]["asset"], data["amount"]["scale"])),
        price_list=data["price_list"],
        urgency=Urgency(data["urgency"]),
        hardware=data["hardware"],
        node=data.get("node", ""),
        reading=meters.reading(posting),
    )


def _refunds(ledger: Ledger, hospital: str, found: Sequence[tuple[Posting, Notice]]) -> list[Refund]:
    keys = [posting.key.removesuffix(":refund") for posting, _ in found]
    charged = {posting.key: posting for posting in ledger.find_all(hospital, keys)}
    refunds = []
    for (posting, notice), key in zip(found, keys, strict=True):
        (told,) = ledger.notices(charged[key].id - 1, 1)
        refunds.append(Refund(billed(charged[key], told, State.REFUNDED), posting.id, posting.at, notice.data["cause"]))
    return refunds


def _assets(billing: Billing) -> list[Asset]:
    return sorted({version.asset for version in billing.prices}, key=str)
