"""What the world is told of payments: references, parties and amounts, and never a document or a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from btt_bridge.ledger import Event, Notice
from btt_bridge.money import Amount, Asset
from btt_bridge.settle.events import money
from btt_bridge.settle.payfi import names
from btt_bridge.settle.payfi.instructions import PaymentInstruction
from btt_bridge.settle.payfi.netting import Batch, Leg, Payment
from btt_bridge.settle.payfi.policy import Bill
from btt_bridge.settle.payfi.rates import Quote

FUNDED = "btt.payfi.funded.v1"
INSTRUCTED = "btt.payfi.instructed.v1"
NETTED = "btt.payfi.netted.v1"
SETTLED = "btt.payfi.settled.v1"
RETURNED = "btt.payfi.returned.v1"


def funded(party: str, reference: str, amount: Amount) -> Event:
    """Tell that a party has paid in."""
    data = {"party": party, "funding": reference, "amount": money(amount)}
    return Event(FUNDED, names.funds(party, amount.asset), data)


def instructed(
    reference: str, instruction: PaymentInstruction, bill: Bill, net: Amount, policy: str, quote: Quote | None
) -> Event:
    """Tell that a payment was taken in, and what it comes to."""
    data: dict[str, Any] = {
        "payment": reference,
        "instruction": instruction.digest,
        "payer": instruction.payer,
        "payee": instruction.payee,
        "gross": money(bill.gross),
        "fees": [{"fee": str(fee), "units": str(amount.units)} for fee, amount in bill.fees],
        "net": money(net),
        "policy": policy,
    }
    if quote:
        rate = {"numerator": str(quote.rate.numerator), "denominator": str(quote.rate.denominator)}
        data["rate"] = rate | {"sources": len(quote.sources)}
    return Event(INSTRUCTED, names.funds(instruction.payer, bill.gross.asset), data)


def netted(batch: Batch, subject: str) -> Event:
    """Tell that a batch closed: what each account comes to, and what will be paid out."""
    last = batch.payments[-1].posting
    positions = [
        {"account": account, "asset": asset.code, "scale": asset.scale, "units": str(units)}
        for (account, asset), units in batch.positions.items()
    ]
    payouts = [
        {"order": leg.order, "payee": leg.payee, "amount": money(leg.payout), "set_off": money(leg.set_off)}
        for leg in batch.legs
    ]
    body = {"batch": batch.number, "digest": batch.digest, "first": batch.payments[0].posting, "last": last}
    return Event(NETTED, subject, body | {"payments": len(batch.payments), "positions": positions, "payouts": payouts})


def settled(leg: Leg, at: datetime, shares: Sequence[tuple[str, str, Amount]]) -> Event:
    """Tell that a payout is confirmed: which payments are paid by it, and after how many seconds."""
    paid = [
        {"payment": payment.reference, "seconds": max(0, int((at - payment.at).total_seconds()))}
        for payment in leg.payments
    ]
    data = _leg(leg) | {
        "payments": paid,
        "shares": [{"party": party, "account": account, "amount": money(part)} for party, account, part in shares],
    }
    return Event(SETTLED, names.funds(leg.payee, leg.received.asset), data)


def returned(leg: Leg, reason: str, *, after_settlement: bool) -> Event:
    """Tell that a payout came back, and that its payments were undone."""
    payments = [payment.reference for payment in leg.payments]
    data = _leg(leg) | {"payments": payments, "reason": reason, "after_settlement": after_settlement}
    return Event(RETURNED, names.funds(leg.payee, leg.received.asset), data)


def payment(notice: Notice) -> Payment:
    """Read a payment back from the event that told of it."""
    data = notice.data
    gross, net = _amount(data["gross"]), _amount(data["net"])
    fees = Amount(sum(int(fee["units"]) for fee in data["fees"]), gross.asset)
    return Payment(
        reference=data["payment"],
        posting=notice.position,
        at=notice.at,
        payer=data["payer"],
        payee=data["payee"],
        gross=gross,
        fees=fees,
        principal=gross - fees,
        net=net,
    )


def received(notice: Notice) -> dict[str, Amount]:
    """Read back from the event of a batch what each of its legs received, by order: paid out or set off."""
    return {one["order"]: _amount(one["amount"]) + _amount(one["set_off"]) for one in notice.data["payouts"]}


def _leg(leg: Leg) -> dict[str, Any]:
    return {
        "batch": leg.batch,
        "order": leg.order,
        "payee": leg.payee,
        "amount": money(leg.payout),
        "set_off": money(leg.set_off),
    }


def _amount(body: Mapping[str, Any]) -> Amount:
    return Amount(int(body["units"]), Asset(body["asset"], body["scale"]))
