"""What a payment costs: gross = net + fees to the last unit, by dated files that say where they are wrong."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.errors import HeldError, InvalidAmountError, MappingError, UnknownError
from btt_bridge.money import CNY, Amount, Asset
from btt_bridge.settle.payfi import check, participants, policy
from btt_bridge.settle.payfi.participants import Participant
from btt_bridge.settle.payfi.policy import Fee
from tests.settle.payfi.house import MAPPINGS, PARTICIPANTS, changed_policy

(RULES,) = policy.load(MAPPINGS)
PERCENT: Final = {"basic": "0.8", "standard": "0.7", "plus": "0.6", "premium": "0.5"}


def payee(tier: str = "standard", *, analytics: bool = False, listing: bool = False) -> Participant:
    return Participant("p", ("Organization/p",), tier, analytics, listing, {}, {})


def test_what_is_shipped_holds_and_a_bridge_without_payfi_has_nothing_to_check(tmp_path: Path) -> None:
    """Rules and participants as `btt-bridge check` reads them; half of it is an error."""
    assert check(MAPPINGS.parent) == []
    assert check(tmp_path) == []
    (tmp_path / "payfi").mkdir()
    assert len(check(tmp_path)) == 2


@given(
    st.integers(2, 10**8),
    st.sampled_from(sorted(PERCENT)),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_fees_are_those_of_the_business_and_nothing_is_lost(
    units: int, tier: str, converted: bool, analytics: bool, listing: bool
) -> None:
    """0.5 to 0.8 %, 0.75 % conversion, 0.25 % analytics, 0.5 % listing: each rounded up, and net is the rest."""
    exact = {Fee.PAYMENT: PERCENT[tier]}
    exact |= {Fee.CONVERSION: "0.75"} if converted else {}
    exact |= {Fee.ANALYTICS: "0.25"} if analytics else {}
    exact |= {Fee.LISTING: "0.5"} if listing else {}
    whom = payee(tier, analytics=analytics, listing=listing)
    if units <= len(exact):
        with pytest.raises(InvalidAmountError):
            RULES.bill(Amount(units, CNY), whom, converted=converted)
        return
    bill = RULES.bill(Amount(units, CNY), whom, converted=converted)
    assert bill.net.units + sum(amount.units for _, amount in bill.fees) == bill.gross.units == units
    assert [fee for fee, _ in bill.fees] == list(exact)
    for fee, amount in bill.fees:
        assert 0 <= amount.units - units * Fraction(exact[fee]) / 100 < 1


def test_the_declared_rounding_is_the_one_that_counts(tmp_path: Path) -> None:
    """0.7 % of 1.50 is 1.05 fen: two rounded up, one rounded down; and nothing where down is to nothing."""
    (down,) = policy.load(changed_policy(tmp_path, rounding="down", fee_units_min=0))
    assert RULES.bill(Amount(150, CNY), payee(), converted=False).net.units == 148
    assert down.bill(Amount(150, CNY), payee(), converted=False).net.units == 149
    bill = down.bill(Amount(10, CNY), payee(), converted=False)
    assert (bill.fees, bill.net.units) == ((), 10)


def test_what_the_rules_do_not_know_is_refused() -> None:
    """A tier, a currency, a scale; and more than one payment may be."""
    with pytest.raises(UnknownError):
        RULES.bill(Amount(1000, CNY), payee("gold"), converted=False)
    with pytest.raises(UnknownError):
        RULES.bill(Amount(1000, Asset("GBP", 2)), payee(), converted=False)
    with pytest.raises(InvalidAmountError):
        RULES.bill(Amount(1000, Asset("CNY", 3)), payee(), converted=False)
    with pytest.raises(HeldError):
        RULES.bill(Amount(500_000_001, CNY), payee(), converted=False)
    assert RULES.bill(Amount(500_000_000, CNY), payee(), converted=False).net.units == 496_500_000


def test_the_rules_in_force_on_the_day_count(tmp_path: Path) -> None:
    """New rules count from their day, and the shipped ones split fees 85 to 15."""
    changed_policy(tmp_path)
    changed_policy(tmp_path, name="btt-2026", effective_from="2026-03-01", tiers={"basic": 90})
    versions = policy.load(tmp_path)
    assert policy.on(versions, date(2026, 2, 28)).name == "btt-2025"
    assert policy.on(versions, date(2026, 3, 1)).tiers == {"basic": 90}
    assert [(share.account, share.basis_points) for share in RULES.shares.shares] == [
        ("payfi:revenue", 8500),
        ("fund:development", 1500),
    ]


SHARE: Final = {"party": "a", "basis_points": 10_000, "account": "payfi:revenue"}
CORRIDOR: Final = {"base": "CNY", "quote": "USD", "low": 0.1, "high": 0.2}


def rates(**changes: Any) -> dict[str, Any]:
    return yaml.safe_load((MAPPINGS / "btt-2025.yaml").read_text())["rates"] | changes


@pytest.mark.parametrize(
    ("changes", "keyword"),
    [
        ({"netting": {"seconds_max": 3601, "payments_max": 10}}, "seconds_max"),
        ({"netting": {"seconds_max": 3600, "payments_max": 10}, "service_level_seconds": 3600}, "seconds_max"),
        ({"service_level_seconds": 7201}, "service_level_seconds"),
        ({"fee_shares": [SHARE | {"basis_points": 9999}]}, "fee_shares"),
        ({"fee_shares": [SHARE | {"basis_points": 5000}, SHARE | {"basis_points": 5000}]}, "fee_shares"),
        ({"fee_shares": [SHARE | {"account": "bank"}]}, "account"),
        ({"tiers": {"basic": 8.5}}, "basic"),
        ({"tiers": {"basic": -1}}, "basic"),
        ({"tiers": {}}, "tiers"),
        ({"rounding": "half-even"}, "rounding"),
        ({"rates": rates(sources_min=1)}, "sources_min"),
        ({"rates": rates(corridors=[CORRIDOR | {"low": 0.3}])}, "low"),
        ({"rates": rates(corridors=[CORRIDOR | {"quote": "CNY"}])}, "corridors"),
        ({"rates": rates(corridors=[CORRIDOR | {"quote": "GBP"}])}, "corridors"),
        ({"rates": rates(corridors=[CORRIDOR, CORRIDOR])}, "corridors"),
        ({"assets": [{"code": "CNY", "scale": 2, "payment_units_max": 1, "liquidity_units": 1}] * 2}, "assets"),
        ({"fees": {"conversion": 75}}, "analytics"),
        ({"effective_from": "2025-02-30"}, "effective_from"),
    ],
    ids=str,
)
def test_wrong_rules_are_named_with_file_line_and_keyword(
    tmp_path: Path, changes: dict[str, Any], keyword: str
) -> None:
    """Slower than hourly, later than promised, shares that do not add up, one source: refused where it stands."""
    folder = changed_policy(tmp_path, **changes)
    errors = policy.check(folder)
    assert keyword in {error.keyword for error in errors}, errors
    assert all(error.file.endswith(".yaml") and error.line >= 1 for error in errors)
    with pytest.raises(MappingError):
        policy.load(folder)


def spoiled(**changes: Any) -> dict[str, Any]:
    """Return the participants of the tests with the second of them changed."""
    first, second, *rest = PARTICIPANTS["participants"]
    return PARTICIPANTS | {"participants": [first, second | changes, *rest]}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (spoiled(name="insurer"), "stands twice"),
        (spoiled(references=["Organization/insurer"]), "means two participants"),
        (spoiled(references=["Patient/jane"]), "Organization/12"),
        (spoiled(references=[]), "empty"),
        (spoiled(accounts=[{"asset": "CNY", "number": "1"}, {"asset": "CNY", "number": "2"}]), "one account for each"),
        (spoiled(accounts=[{"asset": "EUR", "number": "DE03120300000000202051"}]), "check digits"),
        (spoiled(accounts=[{"asset": "USD", "number": "1"}]), "the operator has no account"),
        (spoiled(accounts=[{"asset": "CNY", "number": "1", "bic": "short"}]), "BIC"),
        (spoiled(accounts=[{"asset": "CNY", "number": "1", "credit_units": -1}]), "at least 0"),
        (spoiled(secret="x"), "no such name"),
        (PARTICIPANTS | {"operator": {"holder": "O", "accounts": []}}, "empty"),
    ],
    ids=range(11),
)
def test_participants_that_do_not_hold_are_refused(tmp_path: Path, body: dict[str, Any], problem: str) -> None:
    """Doubled names and references, persons, wrong check digits, an account that nobody can pay into."""
    (tmp_path / "participants.yaml").write_text(yaml.safe_dump(body))
    errors = participants.check(tmp_path)
    assert any(problem in f"{error} {error.advice}" for error in errors), errors
    with pytest.raises(MappingError):
        participants.load(tmp_path)


def test_participants_stand_in_one_file(tmp_path: Path) -> None:
    """Two files could disagree."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(PARTICIPANTS))
    assert len(participants.check(tmp_path)) == 1
