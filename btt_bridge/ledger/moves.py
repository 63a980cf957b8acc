"""What can be asked of the ledger, and what it answers; an object is valid or it does not exist."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from btt_bridge.database import moment_text
from btt_bridge.errors import InvalidAmountError, LedgerError, UnbalancedError, UnknownAccountError
from btt_bridge.money import Amount, Asset
from btt_bridge.signing import canonical

_ACCOUNT = re.compile(r"[a-z0-9:._-]{1,128}")
_KEY = re.compile(r"[A-Za-z0-9:._-]{1,200}")
_ISSUER = re.compile(r"[A-Za-z0-9:._-]{1,64}")
_REASON = re.compile(r"[a-z0-9 -]{1,64}")
_EVENT_TYPE = re.compile(r"[a-z0-9.]{1,64}")


# The same few names and reasons come again and again.
@lru_cache(maxsize=4096)
def check_account(name: str) -> None:
    """Raise UnknownAccountError for what no account can be called."""
    if not _ACCOUNT.fullmatch(name):
        raise UnknownAccountError("an account name is made of a-z, 0-9 and :._-")


def _check_transfer(debit: str, credit: str, amount: Amount, reason: str) -> None:
    check_account(debit)
    check_account(credit)
    if debit == credit:
        raise UnbalancedError("a transfer needs two accounts")
    if not isinstance(amount, Amount) or amount.units < 1:
        raise InvalidAmountError
    _check_reason(reason)


@lru_cache(maxsize=256)
def _check_reason(reason: str) -> None:
    if not _REASON.fullmatch(reason):
        raise LedgerError("a reason is a few plain words: a-z, 0-9, blanks and hyphens")


@dataclass(frozen=True, slots=True)
class Move:
    """Debit one account and credit another, at once."""

    kind: ClassVar[str] = "move"
    debit: str
    credit: str
    amount: Amount
    reason: str

    def __post_init__(self) -> None:
        _check_transfer(self.debit, self.credit, self.amount, self.reason)


@dataclass(frozen=True, slots=True)
class Hold:
    """Reserve an amount on the debit account until it is posted, voided, or `expires_at` has come."""

    kind: ClassVar[str] = "hold"
    debit: str
    credit: str
    amount: Amount
    reason: str
    expires_at: datetime

    def __post_init__(self) -> None:
        _check_transfer(self.debit, self.credit, self.amount, self.reason)
        if self.expires_at.tzinfo is None:
            raise LedgerError("moments are aware, in UTC")


@dataclass(frozen=True, slots=True)
class Post:
    """Take what a hold reserved, or part of it; the rest is released."""

    kind: ClassVar[str] = "post"
    hold: int
    reason: str
    #: None takes all of it.
    amount: Amount | None = None

    def __post_init__(self) -> None:
        if self.amount is not None and (not isinstance(self.amount, Amount) or self.amount.units < 1):
            raise InvalidAmountError
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Void:
    """Release what a hold reserved."""

    kind: ClassVar[str] = "void"
    hold: int
    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


@dataclass(frozen=True, slots=True)
class Expire:
    """Release what a hold reserved, because its time is over."""

    kind: ClassVar[str] = "expire"
    hold: int
    reason: str

    def __post_init__(self) -> None:
        _check_reason(self.reason)


#: What ends a hold.
Resolving = Post | Void | Expire
Step = Move | Hold | Resolving


@dataclass(frozen=True, slots=True)
class Event:
    """What the world is told of a posting; it goes to the outbox in the same transaction."""

    type: str
    #: The account in whose order consumers see it.
    account: str
    data: Mapping[str, Any]
    #: The data as the outbox keeps it.
    text: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (_EVENT_TYPE.fullmatch(self.type) and _ACCOUNT.fullmatch(self.account)):
            raise LedgerError("an event names its type and its account")
        object.__setattr__(self, "text", canonical(dict(self.data)).decode())


def event_digest(kind: str, account: str, text: str) -> bytes:
    """Return what the chain keeps of an event: SHA-256 of all that is said, none of it with a line break."""
    return hashlib.sha256(f"{kind}\n{account}\n{text}".encode()).digest()


@dataclass(frozen=True, slots=True)
class Instruction:
    """Steps that happen together or not at all, once, under one key."""

    issuer: str
    key: str
    steps: tuple[Step, ...]
    event: Event | None = None
    #: SHA-256 of the event, b"" where there is none; and of everything above.
    event_digest: bytes = field(init=False, repr=False)
    digest: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (_ISSUER.fullmatch(self.issuer) and _KEY.fullmatch(self.key)):
            raise LedgerError("issuer and key are made of letters, digits and :._-")
        if not self.steps:
            raise UnbalancedError("a posting has at least one transfer")
        event = event_digest(self.event.type, self.event.account, self.event.text) if self.event else b""
        object.__setattr__(self, "event_digest", event)
        body = [self.issuer, self.key, [_body(step) for step in self.steps], event.hex()]
        object.__setattr__(self, "digest", hashlib.sha256(canonical(body)).digest())


def _body(step: Step) -> list[Any]:
    if isinstance(step, Move):
        return [step.kind, step.debit, step.credit, str(step.amount.asset), str(step.amount.units), step.reason]
    if isinstance(step, Hold):
        asset, units = str(step.amount.asset), str(step.amount.units)
        return [step.kind, step.debit, step.credit, asset, units, step.reason, moment_text(step.expires_at)]
    if isinstance(step, Post):
        amount = None if step.amount is None else [str(step.amount.asset), str(step.amount.units)]
        return [step.kind, step.hold, amount, step.reason]
    return [step.kind, step.hold, step.reason]


@dataclass(frozen=True, slots=True)
class Transfer:
    """One row of the book, for ever as it is."""

    id: int
    posting: int
    #: move, hold, post, void or expire.
    kind: str
    debit: str
    credit: str
    amount: Amount
    hold: int | None
    expires_at: datetime | None
    reason: str
    at: datetime
    hash: bytes


@dataclass(frozen=True, slots=True)
class Posting:
    """What an instruction came to; the same instruction gets the same answer for ever."""

    id: int
    issuer: str
    key: str
    at: datetime
    transfers: tuple[Transfer, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """What one account stands at."""

    account: str
    asset: Asset
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int
    #: How far debits may exceed credits; None where there is no limit.
    credit_limit: int | None

    @property
    def units(self) -> int:
        """Credits less debits; negative is what the account's owner owes."""
        return self.credits_posted - self.debits_posted

    @property
    def available(self) -> int | None:
        """What may still be debited; None where there is no limit."""
        return None if self.credit_limit is None else self.units + self.credit_limit - self.debits_pending


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an account's statement."""

    transfer: Transfer
    #: Positive for a credit, negative for a debit, zero for what is only held or released.
    change: int
    #: The balance after it.
    balance: int


@dataclass(frozen=True, slots=True)
class Hindrance:
    """What holds a sink up, and since when; a stopped one waits for a person."""

    sink: str
    stopped: bool
    reason: str
    advice: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """One row of the outbox."""

    #: The posting it tells of; positions in the outbox are these.
    position: int
    type: str
    account: str
    #: 1, 2, 3, … for each account.
    sequence: int
    at: datetime
    #: Hash of the posting's last transfer: it names the event, and ties it to the chain.
    hash: bytes
    data: Mapping[str, Any]
