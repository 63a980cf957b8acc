"""Charges and their reversals for the hospital's billing system: HL7 v2.5.1 DFT^P03, the same bytes each time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from btt_bridge import hl7
from btt_bridge.errors import RefusedError
from btt_bridge.settle.billing import State
from btt_bridge.settle.bills import Bill, Refund, in_currency

#: HL7 table 0017.
_CHARGE: Final = "CG"
_CREDIT: Final = "CR"
#: What the names of services are: a table of our own, as HL7 table 0396 lets local ones be called.
_SERVICES: Final = "99BTT"


@dataclass(frozen=True, slots=True)
class Route:
    """Who sends to whom (MSH-3 to MSH-6), and whether it counts (MSH-11: P, or T and D for trials)."""

    sending_application: str
    sending_facility: str
    receiving_application: str
    receiving_facility: str
    processing: str = "P"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose study it was, as the hospital's own systems name it; it goes to them and nowhere else."""

    patient_id: str
    assigning_authority: str
    family_name: str
    given_name: str = ""
    #: PID-18, PV1-2, PV1-19, FT1-23.
    account_number: str = ""
    patient_class: str = "O"
    visit_number: str = ""
    filler_order_number: str = ""


@dataclass(frozen=True, slots=True)
class Procedure:
    """The code that a payer knows the service by, such as one of CPT, with modifiers such as 26 or TC."""

    code: str
    text: str
    system: str
    modifiers: tuple[str, ...] = ()


def charge(bill: Bill, subject: Subject, route: Route, procedure: Procedure | None = None) -> bytes:
    """Return the message that charges a delivered result; raises RefusedError for a bill that is only held."""
    if bill.state not in (State.CHARGED, State.REFUNDED):
        raise RefusedError("only what was charged goes to the billing system")
    return _message(bill, bill.posting, bill.at, _CHARGE, subject, route, procedure)


def reversal(refund: Refund, subject: Subject, route: Route, procedure: Procedure | None = None) -> bytes:
    """Return the message that takes a charge back: a credit (CR) of the same amount, which is positive in both."""
    return _message(refund.bill, refund.posting, refund.at, _CREDIT, subject, route, procedure)


def _message(
    bill: Bill, posting: int, at: datetime, kind: str, subject: Subject, route: Route, procedure: Procedure | None
) -> bytes:
    # A posting's number in the book is unique for ever, and fits the twelve characters of FT1-2: a receiver that
    # has seen it drops the repeat.
    transaction, instant = f"{posting:012d}", hl7.moment(at)
    segments = [
        hl7.header({
            3: route.sending_application,
            4: route.sending_facility,
            5: route.receiving_application,
            6: route.receiving_facility,
            7: instant,
            9: ("DFT", "P03", "DFT_P03"),
            10: f"DFT{transaction}",
            11: route.processing,
            12: "2.5.1",
            15: "AL",
            16: "NE",
            18: "UNICODE UTF-8",
        }),
        hl7.segment("EVN", {2: instant}),
        hl7.segment("PID", _patient(subject)),
        hl7.segment("PV1", {2: subject.patient_class, 19: subject.visit_number}),
        hl7.segment("FT1", _transaction(bill, transaction, instant, kind, subject, procedure)),
    ]  # fmt: skip
    return hl7.message(segments)


def _patient(subject: Subject) -> dict[int, hl7.Field]:
    return {
        3: (subject.patient_id, "", "", subject.assigning_authority, "MR"),
        5: (subject.family_name, subject.given_name),
        18: subject.account_number,
    }


def _transaction(
    bill: Bill, transaction: str, instant: str, kind: str, subject: Subject, procedure: Procedure | None
) -> dict[int, hl7.Field]:
    price: hl7.Field = ((in_currency(bill.amount), bill.amount.asset.code),)
    fields: dict[int, hl7.Field] = {
        1: "1",
        2: transaction,
        4: instant,
        5: instant,
        6: kind,
        7: (bill.service, bill.service, _SERVICES),
        10: "1",
        11: price,
        12: price,
        23: subject.filler_order_number,
    }
    if procedure:
        fields[25] = (procedure.code, procedure.text, procedure.system)
        fields[26] = [(modifier,) for modifier in procedure.modifiers]
    return fields
