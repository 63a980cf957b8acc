"""What a payee is told in FHIR R4: PaymentReconciliation, whose details sum to its amount, and PaymentNotice."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from btt_bridge.database import moment_text
from btt_bridge.errors import RefusedError
from btt_bridge.settle.payfi.clearing import Standing, State
from btt_bridge.settle.payfi.netting import Leg
from btt_bridge.settle.payfi.participants import Participant

_KINDS = "http://terminology.hl7.org/CodeSystem/payment-type"
_STATUS = "http://terminology.hl7.org/CodeSystem/paymentstatus"
_ORDERS = "urn:btt:payfi:order"
_PAYMENTS = "urn:btt:payfi:payment"

#: Returns the literal reference of the Claim or Invoice that a payment (by its reference in events) was made for, or
#: "": only the caller, who keeps the key of the digests, can know it.
Requests = Callable[[str], str]


def reconciliation(
    standing: Standing, payee: Participant, issuer: str, requests: Requests = lambda payment: ""
) -> dict[str, Any]:
    """Return the PaymentReconciliation of a settled leg: one detail for each payment, and one for what was set off.

    Amounts are what the payee gets, after fees and conversion; they sum to `paymentAmount`, which is what arrives at
    the payee's bank. Raises RefusedError for a leg that is not settled, for it tells of money that has not arrived.
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


def notice(standing: Standing, payee: Participant, created: datetime) -> dict[str, Any]:
    """Return the PaymentNotice that tells a payee of a settled leg."""
    leg = _settled(standing)
    return {
        "resourceType": "PaymentNotice",
        "id": leg.order,
        "identifier": [{"system": _ORDERS, "value": leg.order}],
        "status": "active",
        "created": moment_text(created),
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
