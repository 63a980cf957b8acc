"""ChargeItem and Invoice: R4 as an independent reader has it, and exact to the last digit."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fhir.resources.R4B.chargeitem import ChargeItem
from fhir.resources.R4B.invoice import Invoice

from btt_bridge import fhir
from btt_bridge.errors import InvalidAmountError, RefusedError
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.settle import Billing
from btt_bridge.settle.bills import Bill, Month, activity
from btt_bridge.settle.charges import Context, charge_item, invoice
from tests.settle import books

ISSUER = "BTT pool"
LATER = datetime(2026, 3, 1, tzinfo=UTC)


def read(resource: dict[str, Any]) -> Any:
    return json.loads(fhir.write(resource), parse_float=Decimal, parse_int=Decimal)


@pytest.mark.parametrize(
    ("number", "status"), [(7, "planned"), (1, "billable"), (3, "entered-in-error"), (4, "aborted")]
)
def test_a_charge_item_follows_its_bill(one_book: Billing, number: int, status: str) -> None:
    """Held is planned, charged is billable, refunded is an error; the identifier does not change on the way."""
    item = charge_item(books.bill(one_book, number))
    ChargeItem.model_validate(json.loads(fhir.write(item)))
    assert item["status"] == status
    assert item["identifier"][0]["value"] == books.bill(one_book, number).reference
    assert read(item)["priceOverride"] == {"value": Decimal("5.36"), "currency": "CNY"}


def test_no_patient_is_in_it_unless_the_hospital_says_who(one_book: Billing) -> None:
    """From the book alone the subject is masked and no study key shows; with a context it names what the EHR knows."""
    text = fhir.write(charge_item(books.bill(one_book, 1))).decode()
    assert "masked" in text
    assert books.study(1) not in text
    context = Context(
        subject={"reference": "Patient/7"},
        encounter={"reference": "Encounter/8"},
        service=({"reference": "DiagnosticReport/9"},),
        supporting=({"reference": "ServiceRequest/10"},),
    )
    item = charge_item(books.bill(one_book, 1), context)
    ChargeItem.model_validate(json.loads(fhir.write(item)))
    assert (item["subject"], item["service"]) == ({"reference": "Patient/7"}, [{"reference": "DiagnosticReport/9"}])
    assert (item["context"], item["supportingInformation"][0]["reference"]) == (
        {"reference": "Encounter/8"},
        "ServiceRequest/10",
    )


@pytest.mark.parametrize(("month", "total"), [("2026-01", "20.38"), ("2026-02", "-2.69")])
def test_an_invoice_sums_to_what_the_account_says(one_book: Billing, month: str, total: str) -> None:
    """Components to lines to totals, exactly; the total is the change of the account but for payments."""
    seen = activity(one_book, Month.parse(month))
    resource = invoice(seen, CNY, ISSUER, one_book.prices, LATER)
    Invoice.model_validate(json.loads(fhir.write(resource)))
    body = read(resource)
    amounts = [c["amount"]["value"] for line in body["lineItem"] for c in line["priceComponent"]]
    assert sum(amounts) == body["totalNet"]["value"] == body["totalGross"]["value"] == Decimal(total)
    (account,) = seen.accounts
    assert Decimal(account.charged - account.refunded) / 100 == Decimal(total)
    assert [line["sequence"] for line in body["lineItem"]] == [Decimal(n) for n in range(1, len(body["lineItem"]) + 1)]


def test_what_hurry_cost_is_shown_where_it_is_known(one_book: Billing) -> None:
    """A measured stat study is its routine price and a surcharge; one without a price list is one component."""
    seen = activity(one_book, Month.parse("2026-01"))
    stat = invoice(seen, CNY, ISSUER, one_book.prices, LATER)["lineItem"][1]["priceComponent"]
    assert [(c["type"], c["amount"]["value"]) for c in stat] == [
        ("base", Decimal("5.36")),
        ("surcharge", Decimal("4.30")),
    ]
    plain = invoice(seen, CNY, ISSUER, (), LATER)["lineItem"][1]["priceComponent"]
    assert [(c["type"], c["amount"]["value"]) for c in plain] == [("base", Decimal("9.66"))]


def test_a_month_without_lines_and_a_token_are_no_invoice(one_book: Billing) -> None:
    """FHIR's Money is ISO 4217: tokens are refused, and so is an invoice about nothing."""
    with pytest.raises(RefusedError):
        invoice(activity(one_book, Month.parse("2025-12")), CNY, ISSUER, one_book.prices, LATER)
    with pytest.raises(InvalidAmountError):
        charge_item(_in_tokens(books.bill(one_book, 1)))


def test_a_month_that_still_runs_is_not_invoiced(one_book: Billing) -> None:
    """What is issued does not change: refused to the last instant of the month, as its zone has it."""
    for zone in (UTC, ZoneInfo("Asia/Shanghai"), ZoneInfo("Pacific/Honolulu")):
        seen = activity(one_book, Month.parse("2026-01", zone))
        with pytest.raises(RefusedError, match="not over"):
            invoice(seen, CNY, ISSUER, one_book.prices, seen.month.end - timedelta(microseconds=1))
        assert invoice(seen, CNY, ISSUER, one_book.prices, seen.month.end)["status"] == "issued"


def _in_tokens(found: Bill) -> Bill:
    return replace(found, amount=Amount(1, BTT))
