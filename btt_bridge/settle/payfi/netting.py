"""Multilateral netting: from single payments to one payout for each payee and currency. Pure, and always the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from btt_bridge.money import Amount, Asset
from btt_bridge.settle.payfi import names
from btt_bridge.signing import canonical


@dataclass(frozen=True, slots=True)
class Payment:
    """One payment as the book has it."""

    #: Names it in events and documents, and nothing else.
    reference: str
    #: The posting that instructed it.
    posting: int
    at: datetime
    payer: str
    payee: str
    gross: Amount
    fees: Amount
    #: What is left for the payee before conversion, and what the payee gets; the same where nothing is converted.
    principal: Amount
    net: Amount


@dataclass(frozen=True, slots=True)
class Leg:
    """What one payee gets in one currency out of one batch."""

    #: The id of its order on a rail.
    order: str
    batch: int
    payee: str
    received: Amount
    #: What of it is set off against what the payee owes others in the same batch.
    set_off: Amount
    payments: tuple[Payment, ...]

    @property
    def payout(self) -> Amount:
        """What goes to the payee's bank account; nothing, where it owes as much as it is owed."""
        return self.received - self.set_off


@dataclass(frozen=True, slots=True)
class Batch:
    """The payments that were netted together."""

    number: int
    payments: tuple[Payment, ...]
    #: Received less sent by account; they sum to zero in each asset.
    positions: Mapping[tuple[str, Asset], int]
    legs: tuple[Leg, ...]
    #: SHA-256 (hex) over number, payments and positions.
    digest: str


def net(number: int, payments: Sequence[Payment]) -> Batch:
    """Net payments against each other."""
    positions: dict[tuple[str, Asset], int] = {}
    for payment in payments:
        for account, amount, sign in _sides(payment):
            if amount.units:
                place = (account, amount.asset)
                positions[place] = positions.get(place, 0) + sign * amount.units
    ordered = dict(sorted(positions.items(), key=lambda item: (str(item[0][1]), item[0][0])))
    body: list[Any] = [number, [[p.posting, p.reference] for p in payments]]
    body += [[account, str(asset), str(units)] for (account, asset), units in ordered.items()]
    digest = hashlib.sha256(canonical(body)).hexdigest()
    return Batch(number, tuple(payments), ordered, tuple(_legs(number, payments)), digest)


def _sides(payment: Payment) -> list[tuple[str, Amount, int]]:
    sides = [
        (names.funds(payment.payer, payment.gross.asset), payment.gross, -1),
        (names.fees(payment.fees.asset), payment.fees, 1),
        (names.funds(payment.payee, payment.net.asset), payment.net, 1),
    ]
    if payment.principal.asset != payment.net.asset:
        sides.append((names.liquidity(payment.principal.asset), payment.principal, 1))
        sides.append((names.liquidity(payment.net.asset), payment.net, -1))
    return sides


def _legs(number: int, payments: Sequence[Payment]) -> Iterable[Leg]:
    incoming: dict[tuple[str, Asset], list[Payment]] = {}
    sent: dict[tuple[str, Asset], int] = {}
    for payment in payments:
        incoming.setdefault((payment.payee, payment.net.asset), []).append(payment)
        payer = (payment.payer, payment.gross.asset)
        sent[payer] = sent.get(payer, 0) + payment.gross.units
    for (payee, asset), group in sorted(incoming.items(), key=lambda item: (item[0][0], str(item[0][1]))):
        received = sum(payment.net.units for payment in group)
        set_off = min(received, sent.get((payee, asset), 0))
        mark = hashlib.sha256(canonical([number, payee, str(asset)])).hexdigest()[:16]
        order = f"btt-{number}-{mark}"
        yield Leg(order, number, payee, Amount(received, asset), Amount(set_off, asset), tuple(group))
