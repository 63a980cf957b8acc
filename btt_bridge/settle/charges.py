"""Bills for the EHR: FHIR R4 ChargeItem for each, Invoice for each month, every decimal exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.money import Amount, Asset
from btt_bridge.records import Urgency
from btt_bridge.settle.billing import State
from btt_bridge.settle.bills import Activity, Bill, Refund, in_currency
from btt_bridge.settle.prices import Facts, PriceList

#: What a value in a business identifier is.
_BILL: Final = "urn:btt:bill"
_INVOICE: Final = "urn:btt:invoice"
_NODE: Final = "urn:btt:node"
_SERVICE: Final = "urn:btt:service"
_COMPONENT: Final = "urn:btt:price-component"

#: FHIR's own way to say that something is known and not told.
_MASKED: Final = {
    "extension": [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "masked"}]
}
#: Each standing of a bill in the words of ChargeItem.status.
_STATUS: Final = {
    State.HELD: "planned",
    State.OPEN: "aborted",
    State.CHARGED: "billable",
    State.REFUNDED: "entered-in-error",
}


@dataclass(frozen=True, slots=True)
class Context:
    """What the EHR knows and the ledger does not: References to its own resources."""

    subject: Mapping[str, Any] = field(default_factory=lambda: _MASKED)
    encounter: Mapping[str, Any] | None = None
    #: DiagnosticReport, ImagingStudy, Observation or Procedure.
    service: Sequence[Mapping[str, Any]] = ()
    #: ServiceRequest, Task.
    supporting: Sequence[Mapping[str, Any]] = ()


_UNTOLD: Final = Context()


def charge_item(bill: Bill, context: Context = _UNTOLD) -> dict[str, Any]:
    """Return the ChargeItem of a bill as it stands; its identifier is the same through the bill's life."""
    item: dict[str, Any] = {
        "resourceType": "ChargeItem",
        "identifier": [_identifier(_BILL, bill.reference)],
        "status": _STATUS[bill.state],
        "code": {"coding": [{"system": _SERVICE, "code": bill.service}], "text": bill.service},
        "subject": dict(context.subject),
        "occurrenceDateTime": _instant(bill.at),
        "quantity": {"value": Decimal(1)},
        "priceOverride": _money(bill.amount),
        "overrideReason": f"price list {bill.price_list}, {bill.urgency}, {bill.hardware}",
        "enteredDate": _instant(bill.at),
    }
    if bill.node:
        item["performer"] = [{"actor": {"type": "Device", "identifier": _identifier(_NODE, bill.node)}}]
    if context.encounter:
        item["context"] = dict(context.encounter)
    if context.service:
        item["service"] = [dict(reference) for reference in context.service]
    if context.supporting:
        item["supportingInformation"] = [dict(reference) for reference in context.supporting]
    return item


def invoice(
    activity: Activity, asset: Asset, issuer: str, prices: Sequence[PriceList], now: datetime
) -> dict[str, Any]:
    """Return the Invoice of a month in one currency: its charges, and as negative lines what it took back.

    The components of each line sum to the line, and the lines to the totals, exactly. There is no tax in the price,
    so that net and gross are the same. Raises RefusedError for a month that still runs, for what is
    issued does not change, and for one without lines, which FHIR has no total for.
    """
    if now < activity.month.end:
        raise RefusedError("this month is not over: its invoice would not be the last")
    lines = [_charged(bill, prices) for bill in activity.charges if bill.amount.asset == asset]
    lines += [_taken_back(refund) for refund in activity.refunds if refund.bill.amount.asset == asset]
    if not lines:
        raise RefusedError("nothing was charged or refunded in this month")
    components = [component for line in lines for component in line["priceComponent"]]
    units = sum(int(component["amount"]["value"].scaleb(asset.scale)) for component in components)
    total = _signed_money(units, asset)
    return {
        "resourceType": "Invoice",
        "identifier": [_identifier(_INVOICE, f"{activity.hospital}-{activity.month}-{asset.code.lower()}")],
        "status": "issued",
        "recipient": {"type": "Organization", "display": activity.hospital},
        "date": _instant(activity.month.end),
        "issuer": {"type": "Organization", "display": issuer},
        "lineItem": [{"sequence": number} | line for number, line in enumerate(lines, 1)],
        "totalNet": total,
        "totalGross": total,
    }


def _charged(bill: Bill, prices: Sequence[PriceList]) -> dict[str, Any]:
    base = _routine_units(bill, prices)
    components = [_component("base", bill.service, base, bill.amount.asset)]
    if surcharge := bill.amount.units - base:
        components.append(_component("surcharge", bill.urgency, surcharge, bill.amount.asset))
    return {"chargeItemReference": _reference(bill), "priceComponent": components}


def _taken_back(refund: Refund) -> dict[str, Any]:
    amount = refund.bill.amount
    component = _component("deduction", refund.cause, -amount.units, amount.asset)
    return {"chargeItemReference": _reference(refund.bill), "priceComponent": [component]}


def _routine_units(bill: Bill, prices: Sequence[PriceList]) -> int:
    """Return what the same work costs without hurry, where it was measured and its price list is still known."""
    named = [version for version in prices if version.name == bill.price_list]
    if bill.reading is None or not named or bill.urgency is Urgency.ROUTINE:
        return bill.amount.units
    reading = bill.reading
    facts = Facts(reading.operations, reading.voxels, reading.size_bytes, bill.urgency, bill.hardware)
    try:
        if named[0].quote(facts).amount != bill.amount:
            return bill.amount.units
        return named[0].quote(replace(facts, urgency=Urgency.ROUTINE)).amount.units
    except UnknownError:
        return bill.amount.units


def _component(kind: str, code: str, units: int, asset: Asset) -> dict[str, Any]:
    return {
        "type": kind,
        "code": {"coding": [{"system": _COMPONENT, "code": str(code)}]},
        "amount": _signed_money(units, asset),
    }


def _reference(bill: Bill) -> dict[str, Any]:
    return {"type": "ChargeItem", "identifier": _identifier(_BILL, bill.reference)}


def _identifier(system: str, value: str) -> dict[str, str]:
    return {"system": system, "value": value}


def _signed_money(units: int, asset: Asset) -> dict[str, Any]:
    money = _money(Amount(abs(units), asset))
    return money | {"value": money["value"].copy_negate()} if units < 0 else money


def _money(amount: Amount) -> dict[str, Any]:
    return {"value": Decimal(in_currency(amount)), "currency": amount.asset.code}


def _instant(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S+00:00")
