"""Netting by itself: positions sum to zero, and every payout is its position where that is above zero."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from btt_bridge.money import CNY, Amount, Asset
from btt_bridge.settle.payfi import names
from btt_bridge.settle.payfi.netting import Payment, net
from tests.settle.payfi.house import EUR

PARTIES = st.sampled_from([f"party:{name}" for name in "abcd"])


@st.composite
def some_payments(draw: st.DrawFn) -> list[Payment]:
    """Between four parties and in two currencies, some of them converted."""
    found: list[Payment] = []
    for number in range(draw(st.integers(1, 12))):
        payer, payee = draw(st.lists(PARTIES, min_size=2, max_size=2, unique=True))
        asset, target = draw(st.sampled_from([CNY, EUR])), draw(st.sampled_from([CNY, EUR]))
        gross = Amount(draw(st.integers(2, 10_000)), asset)
        fees = Amount(draw(st.integers(0, gross.units - 1)), asset)
        principal = gross - fees
        got = principal if target == asset else Amount(draw(st.integers(1, 10_000)), target)
        at = datetime(2026, 1, 5, tzinfo=UTC)
        found.append(Payment(f"{number:032x}", number + 1, at, payer, payee, gross, fees, principal, got))
    return found


def plain_positions(payments: list[Payment]) -> dict[tuple[str, str], int]:
    """What each party gets less what it pays, in the plainest Python."""
    found: dict[tuple[str, str], int] = {}
    for one in payments:
        for party, amount, sign in ((one.payee, one.net, 1), (one.payer, one.gross, -1)):
            place = (party, amount.asset.code)
            found[place] = found.get(place, 0) + sign * amount.units
    return found


@given(some_payments())
def test_positions_sum_to_zero_and_payouts_are_positions(payments: list[Payment]) -> None:
    """In each asset; and each payment is in exactly one leg, whose parts are its payout and what is set off."""
    batch, plain = net(1, payments), plain_positions(payments)
    assets: set[Asset] = {asset for _, asset in batch.positions}
    for asset in assets:
        assert sum(units for (_, one), units in batch.positions.items() if one == asset) == 0
    for (party, code), units in plain.items():
        asset = CNY if code == "CNY" else EUR
        assert batch.positions[names.funds(party, asset), asset] == units
    for leg in batch.legs:
        assert leg.payout.units == max(0, plain[leg.payee, leg.received.asset.code])
        assert leg.received.units == sum(one.net.units for one in leg.payments)
        assert leg.set_off.units + leg.payout.units == leg.received.units
    assert sorted(one.posting for leg in batch.legs for one in leg.payments) == [one.posting for one in payments]
    assert len({leg.order for leg in batch.legs}) == len(batch.legs)


@given(some_payments(), st.integers(0, 11))
def test_a_batch_is_always_the_same_and_its_digest_is_its_own(payments: list[Payment], index: int) -> None:
    """The same payments give the same batch; another number, or one payment changed by a unit, another digest."""
    batch = net(1, payments)
    assert net(1, list(payments)) == batch
    assert net(2, payments).digest != batch.digest
    one = payments[index % len(payments)]
    more = Amount(one.gross.units + 1, one.gross.asset)
    fees = Amount(one.fees.units + 1, one.fees.asset)
    fields = (one.reference, one.posting, one.at, one.payer, one.payee, more, fees, one.principal, one.net)
    changed = [Payment(*fields) if other is one else other for other in payments]
    assert net(1, changed).digest != batch.digest
