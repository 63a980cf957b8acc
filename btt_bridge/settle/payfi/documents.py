"""What a payee is told in FHIR R4: PaymentReconciliation, whose details sum to its amount, and PaymentNotice."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

from btt_bridge import fhir, log
from btt_bridge.database import moment_text
from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.ledger import Notice
from btt_bridge.settle.payfi import events
from btt_bridge.settle.payfi.clearing import Clearing, Standing, State
from btt_bridge.settle.payfi.netting import Leg
from btt_bridge.settle.payfi.participants import Participant
from btt_bridge.store import Store

_log = log.logger("settle")

#: How far the documents of the book are written is kept under this; no sink can be called so.
POSITION = "payfi:documents"
_PAGE = 100

_KINDS = "http://terminology.hl7.org/CodeSystem/payment-type"
_STATUS = "http://terminology.hl7.org/CodeSystem/paymentstatus"
_ORDERS = "urn:btt:payfi:order"
_PAYMENTS = "urn:btt:payfi:payment"

#: Returns the reference of the Claim or Invoice that a payment (by its reference in events) was made for, or "": the
#: book does not know it, and whoever took the document in does.
Requests = Callable[[str], str]


def write(clearing: Clearing, folder: Store, requests: Requests, since: int | None = None) -> int:
    """Write what payees are told of every leg that was settled since the last time; return of how many that were.

    It is read from the book, so that it does not matter who booked it. Its place moves once documents are durable: a
    crash between the two writes the same again. With `since` it writes what was settled behind that position of the
    outbox, and leaves its place where it is. What came back since then is told of no more.
    """
    after, told = clearing.ledger.position(POSITION) if since is None else since, 0
    while page := clearing.ledger.notices(after, _PAGE, [events.SETTLED]):
        told += sum(_write(clearing, folder, requests, one) for one in page)
        if since is None and not clearing.ledger.move_position(POSITION, after, page[-1].position):
            break  # somebody else does it too; theirs holds
        after = page[-1].position
    return told


def _write(clearing: Clearing, folder: Store, requests: Requests, told: Notice) -> bool:
    """Write the documents of one leg; False where there is nothing to tell or nobody to be told."""
    standing = clearing.leg_standing(clearing.leg(told.data["order"]))
    if standing.state is not State.SETTLED:
        return False
    try:
        resources = list(_resources(clearing, standing, requests))
    except UnknownError as problem:
        _log.warning("payee not told", file=told.data["order"], reason=str(problem))
        return False
    for resource in resources:
        folder.put(f"{resource['resourceType']}-{resource['id']}.json", fhir.write(resource))
    return True


def _resources(clearing: Clearing, standing: Standing, requests: Requests) -> Iterator[dict[str, Any]]:
    leg = _settled(standing)
    payee = clearing.directory.participant(leg.payee)
    operator = clearing.directory.operator.get(leg.received.asset.code)
    if operator is None:
        raise UnknownError("nobody pays in this currency any more")
    yield reconciliation(standing, payee, operator.holder, requests)
    yield notice(standing, payee)


def reconciliation(standing: Standing, payee: Participant, issuer: str, requests: Requests) -> dict[str, Any]:
    """Return the PaymentReconciliation of a settled leg: one detail for each payment, and one for what was set off.

    Amounts are what the payee gets, after fees and conversion; they sum to `paymentAmount`, which is what arrives at
    the payee's bank. `detail.request` is the document that asked for the payment, where that is known. Raises
    RefusedError for a leg that is not settled, for it tells of money that has not arrived.
    """
    leg, at = _settled(standing), moment_text(standing.at)
    details = [_detail(payment.reference, "payment", payment.net.decimal, leg, at) for payment in leg.payments]
    for payment, detail in zip(leg.payments, details, strict=True):
        if request := requests(payment.reference):
            detail["request"] = {"reference": request}
    if leg.set_off.units:
        details.append(_detail(f"{leg.order}-set-off", "adjustment", f"-{leg.set_off.decimal}", leg, at))
    return {
        "resourceType": "PaymentReconciliation",
        "id": leg.order,
        "identifier": [{"system": _ORDERS, "value": leg.order}],
        "status": "active",
        "created": at,
        "paymentIssuer": {"display": issuer},
        "outcome": "complete",
        "paymentDate": at[:10],
        "paymentAmount": _money(leg.payout.decimal, leg),
        "paymentIdentifier": {"system": _ORDERS, "value": leg.order},
        "detail": [detail | {"payee": _reference(payee)} for detail in details],
    }


def notice(standing: Standing, payee: Participant) -> dict[str, Any]:
    """Return the PaymentNotice that tells a payee of a settled leg."""
    leg = _settled(standing)
    return {
        "resourceType": "PaymentNotice",
        "id": leg.order,
        "identifier": [{"system": _ORDERS, "value": leg.order}],
        "status": "active",
        "created": moment_text(standing.at),
        "payment": {"reference": f"PaymentReconciliation/{leg.order}"},
        "paymentDate": moment_text(standing.at)[:10],
        "payee": _reference(payee),
        "recipient": _reference(payee),
        "amount": _money(leg.payout.decimal, leg),
        "paymentStatus": {"coding": [{"system": _STATUS, "code": "paid"}]},
    }


def _settled(standing: Standing) -> Leg:
    if standing.state is not State.SETTLED or standing.leg is None:
        raise RefusedError("only what is settled is told of as paid")
    return standing.leg


def _detail(identifier: str, kind: str, value: str, leg: Leg, at: str) -> dict[str, Any]:
    return {
        "identifier": {"system": _PAYMENTS, "value": identifier},
        "type": {"coding": [{"system": _KINDS, "code": kind}]},
        "date": at[:10],
        "amount": _money(value, leg),
    }


def _money(value: str, leg: Leg) -> dict[str, Any]:
    return {"value": Decimal(value), "currency": leg.received.asset.code}


def _reference(payee: Participant) -> dict[str, Any]:
    """Refer to a participant as the directory does: by a literal reference, or by an identifier."""
    system, bar, value = payee.references[0].partition("|")
    return {"identifier": {"system": system, "value": value}} if bar else {"reference": system}
