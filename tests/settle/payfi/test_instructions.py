"""Reading FHIR: what is taken and what is refused, however it is written; and nothing of a patient is kept."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from functools import cache
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge import fhir
from btt_bridge.errors import BridgeError, InvalidAmountError, LedgerError, RefusedError
from btt_bridge.money import CNY, Amount, Asset, exactly
from btt_bridge.settle.payfi import Clearing, PaymentInstruction, Reader, participants, policy
from tests.settle.payfi.house import MAPPINGS, opaque

SOURCE: Final = "https://ehr.example/fhir"


def money(value: Any, currency: str = "CNY") -> dict[str, Any]:
    return {"value": value, "currency": currency}


def ref(text: str) -> dict[str, Any]:
    return {"reference": text}


CLAIM: Final[dict[str, Any]] = {
    "resourceType": "Claim",
    "id": "c1",
    "status": "active",
    "use": "claim",
    "patient": {"reference": "Patient/jane-doe", "display": "Jane Doe"},
    "insurer": ref("Organization/insurer"),
    "provider": ref("Organization/east"),
    "item": [{"sequence": 1, "net": money(7)}, {"sequence": 2, "net": money(Decimal("3.50"))}],
    "total": money(Decimal("10.50")),
}
INVOICE: Final[dict[str, Any]] = {
    "resourceType": "Invoice",
    "id": "i1",
    "status": "issued",
    "subject": ref("Patient/jane-doe"),
    "recipient": ref("Patient/jane-doe"),
    "issuer": ref("Organization/west"),
    "totalNet": money(90),
    "totalGross": money(100),
}
NOTICE: Final[dict[str, Any]] = {
    "resourceType": "PaymentNotice",
    "status": "active",
    "request": ref("Claim/c1"),
    "recipient": ref("Organization/insurer"),
    "payee": ref("Organization/east"),
    "amount": money(Decimal("10.50")),
}


@pytest.fixture
def reader(embedded: Clearing) -> Reader:
    return Reader(embedded.directory, embedded.rules(), opaque, SOURCE)


def test_a_claim_an_invoice_and_a_notice_say_who_owes_whom_how_much(reader: Reader) -> None:
    """The insurer pays the provider, the recipient the issuer; a notice of a claim is the claim's own payment."""
    claim = reader.read(CLAIM)
    assert (claim.payer, claim.payee, claim.amount) == ("party:insurer", "party:east", Amount(1050, CNY))
    assert reader.read(NOTICE) == claim
    assert reader.read(NOTICE | {"request": ref(f"{SOURCE}/Claim/c1/_history/3")}) == claim
    invoice = reader.read(INVOICE)
    assert (invoice.payer[:7], invoice.payee, invoice.amount) == ("person:", "party:west", Amount(10_000, CNY))
    assert invoice.key != claim.key
    other = Reader(reader.directory, reader.policy, opaque, "https://other.example/fhir")
    assert other.read(CLAIM).key != claim.key, "the same id in another system is another document"


def test_nothing_of_a_patient_is_kept(reader: Reader) -> None:
    """Neither name nor id of patient or document is in what comes out."""
    for resource in (CLAIM, INVOICE):
        kept = repr(reader.read(resource))
        assert not any(secret in kept for secret in ("jane", "Jane", "Doe", "c1'", "i1'"))


@pytest.mark.parametrize(
    "change",
    [
        {"provider": {"identifier": {"system": "urn:oid:1.2.3", "value": "east"}}},
        {"provider": "Organization/east"},
        {"provider": ref(f"{SOURCE}/Organization/east")},
        {"provider": ref("Organization/west"), "payee": {"party": ref("Organization/east")}},
        {"payee": {"type": {"coding": [{"code": "provider"}]}}},
        {"total": money("10.50")},
        {"total": money(Decimal("10.5"))},
        {"total": money(Decimal("10.50000"))},
        {"total": money(Decimal("105e-1"))},
        {"item": []},
        {"item": [{"sequence": 1}, {"sequence": 2, "net": money(3)}]},
        {"extension": [{"url": "urn:x", "valueString": "more"}], "unknown": 1},
    ],
    ids=str,
)
def test_one_claim_may_be_written_in_many_ways(reader: Reader, change: dict[str, Any]) -> None:
    """Identifiers, absolute references, payees, trailing zeros, numbers in quotes, and whatever else stands there."""
    assert reader.read(CLAIM | change) == reader.read(CLAIM)


@pytest.mark.parametrize(
    "change",
    [
        {"resourceType": "Bundle"},
        {"resourceType": None},
        {"status": "draft"},
        {"status": None},
        {"use": "preauthorization"},
        {"id": None},
        {"id": "a b"},
        {"id": ["c1"]},
        {"insurer": ref("Organization/stranger")},
        {"insurer": ref("#contained")},
        {"insurer": ref("https://evil.example/fhir/Organization/insurer")},
        {"insurer": ref("https://evil.example/fhir/Patient/x")},
        {"insurer": {"display": "Insurer"}},
        {"insurer": 7},
        {"provider": ref("Organization/insurer")},
        {"provider": None},
        {"item": "many"},
        {"item": [{"net": money(7)}, {"net": money(3)}]},
        {"item": [{"net": money(Decimal("10.50"), "EUR")}]},
        {"total": money(11)},
        {"total": None},
        {"total": {"value": 10}},
        {"total": {"currency": "CNY"}},
        {"total": money(Decimal("10.50"), "BTT")},
        {"total": money(Decimal("10.50"), "cny")},
    ],
    ids=str,
)
def test_a_claim_that_does_not_say_is_refused(reader: Reader, change: dict[str, Any]) -> None:
    """Nothing is guessed; and no refusal quotes what it refused."""
    with pytest.raises(BridgeError) as refusal:
        reader.read(CLAIM | change)
    assert not any(secret in str(refusal.value) for secret in ("jane", "evil", "a b", "stranger"))


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        True,
        10.5,
        float("nan"),
        float("inf"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("Infinity"),
        Decimal("-0.00"),
        Decimal("10.501"),
        Decimal("1e40"),
        Decimal("1e999999"),
        Decimal("1e-999999"),
        10**50,
        "1_000",
        "\u0661",
        "NaN",
        "1e3",
        "",
        " 5",
        "9" * 60,
        None,
        [1],
        {},
    ],
    ids=repr,
)
def test_what_is_no_amount_is_refused(reader: Reader, value: Any) -> None:
    """Zero, negative, floats, NaN, more decimals than the currency has, and numbers that only Python would read."""
    with pytest.raises(InvalidAmountError):
        reader.read(CLAIM | {"item": [], "total": money(value)})


@pytest.mark.parametrize(
    "change",
    [
        {"paymentStatus": {"coding": [{"code": "paid"}]}},
        {"request": ref("Patient/1")},
        {"request": {"identifier": {"value": "c1"}}},
        {"status": "cancelled"},
        {"payee": ref("Patient/1"), "recipient": ref("Patient/1")},
    ],
    ids=str,
)
def test_a_notice_of_what_was_paid_elsewhere_asks_for_nothing(reader: Reader, change: dict[str, Any]) -> None:
    """Told of a payment that was made, or of no document: refused, lest it be paid twice."""
    with pytest.raises(RefusedError):
        reader.read(NOTICE | change)


@pytest.mark.parametrize("change", [{"status": "draft"}, {"totalNet": money(90, "EUR")}, {"totalGross": None}], ids=str)
def test_an_invoice_that_is_not_issued_or_mixes_currencies_is_refused(reader: Reader, change: dict[str, Any]) -> None:
    """Only what was issued, in one currency."""
    with pytest.raises(BridgeError):
        reader.read(INVOICE | change)


@given(st.integers(1, 10**30), st.sampled_from([Asset("CNY", 2), Asset("JPY", 0), Asset("KWD", 3)]))
def test_every_amount_comes_through_json_to_the_last_unit(units: int, asset: Asset) -> None:
    """Written by one program and read by this one, however many digits."""
    written = f'{{"value": {Amount(units, asset).decimal}, "currency": "{asset.code}"}}'
    value = fhir.parse(written.encode(), 1024)["value"]
    assert not isinstance(value, float)
    assert exactly(Decimal(value), asset) == Amount(units, asset)


@cache
def shipped() -> Reader:
    """Read once: a check of the shipped mappings for each example took longer than the example may."""
    (rules,) = policy.load(MAPPINGS)
    return Reader(participants.load(MAPPINGS / "participants"), rules, opaque, SOURCE)


@given(
    st.dictionaries(
        st.sampled_from(["status", "use", "total", "item", "insurer", "provider", "id", "payee", "resourceType"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats() | st.decimals(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "net"]), inner),
            max_leaves=4,
        ),
    )
)
def test_whatever_stands_in_a_claim_it_is_read_or_refused(changes: dict[str, Any]) -> None:
    """Never another kind of exception, and never an amount that was not written."""
    parties = {"insurer": ref("Organization/example-insurer"), "provider": ref("Organization/example-clinic")}
    found = None
    with suppress(RefusedError, LedgerError):
        found = shipped().read(CLAIM | parties | changes)
    if not changes:
        assert found is not None
    if found is not None:
        assert isinstance(found, PaymentInstruction)
        assert found.amount.units == 1050 or "total" in changes
