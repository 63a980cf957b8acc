"""Revenue: each study counts once, each use is paid once, and holders get all of it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Final

import pytest

from btt_bridge.errors import KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, audit
from btt_bridge.money import CNY, Amount
from btt_bridge.settle.assets import Assets, Deed, Kind
from btt_bridge.settle.billing import Cause
from btt_bridge.signing import canonical

SCANNER: Final = sha256(b"serial 1").hexdigest()
A, B, C, D = "hospital:a", "hospital:b", "investor:c", "investor:d"


def study(number: int) -> str:
    return sha256(b"study %d" % number).hexdigest()


@pytest.fixture
def deed(assets: Assets) -> Deed:
    """A scanner in seven shares: four of A, two of C and one of D; each use earns 1.00."""
    deed = assets.registry.mint(Kind.EQUIPMENT, SCANNER, A, 7, Amount(1_000_000_00, CNY), "simple", Amount(100, CNY))
    assets.registry.trade(deed.id, "c", A, C, 2, Amount(1, CNY))
    assets.registry.trade(deed.id, "d", A, D, 1, Amount(1, CNY))
    return deed


def cash(ledger: Ledger) -> dict[str, int]:
    return {holder: ledger.balance(f"wallet:{holder}:cny").units for holder in (A, B, C, D)}


def test_each_study_counts_once(assets: Assets, deed: Deed) -> None:
    """However often it is delivered, by however many at once; another device's studies are not this one's."""
    with ThreadPoolExecutor(4) as workers:
        assert all(workers.map(lambda n: assets.revenue.attest(SCANNER, study(n % 5)), range(12)))
    assert assets.revenue.unpaid(deed.id) == 5
    assert not assets.revenue.attest("f" * 64, study(99))
    assert assets.revenue.unpaid(deed.id) == 5


def test_only_equipment_is_used(assets: Assets) -> None:
    """A patent with the same kind of name earns nothing by studies."""
    patent = assets.registry.mint(
        Kind.INTELLECTUAL_PROPERTY, "a" * 64, A, 1, Amount(100, CNY), "simple", Amount(1, CNY)
    )
    assert not assets.revenue.attest("a" * 64, study(1))
    assert assets.revenue.unpaid(patent.id) == 0


@pytest.mark.parametrize("key", ["1.2.840.113619", "", "A" * 64, "f" * 31, "f" * 65])
def test_a_study_is_named_by_a_keyed_digest_alone(assets: Assets, deed: Deed, key: str) -> None:
    """A UID as such never reaches the book."""
    with pytest.raises(RefusedError):
        assets.revenue.attest(SCANNER, key)


def test_holders_get_all_of_the_revenue_by_largest_remainder(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Three uses are 300 over 4:2:1 shares: 171, 86 and 43; the payer paid 300, and again nothing."""
    for number in range(3):
        assets.revenue.attest(SCANNER, study(number))
    before = cash(ledger)
    first = assets.revenue.pay(deed.id, "2026-01", B)
    assert assets.revenue.pay(deed.id, "2026-01", B) == first
    after = cash(ledger)
    assert {holder: after[holder] - before[holder] for holder in after} == {A: 171, B: -300, C: 86, D: 43}
    assert assets.revenue.unpaid(deed.id) == 0
    with pytest.raises(RefusedError, match="nothing to pay"):
        assets.revenue.pay(deed.id, "2026-02", B)
    with pytest.raises(KeyConflictError):
        assets.revenue.pay(deed.id, "2026-01", C)
    assert audit.verify(ledger).problem == ""


def test_a_holder_that_pays_keeps_its_own_part(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """The hospital that uses its own scanner pays the other holders only, in effect."""
    assets.revenue.attest(SCANNER, study(1))
    before = cash(ledger)
    assets.revenue.pay(deed.id, "2026-01", A)
    after = cash(ledger)
    assert {holder: after[holder] - before[holder] for holder in after} == {A: -100 + 57, B: 0, C: 29, D: 14}


def test_concurrent_payers_pay_each_use_once(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Two periods closed at once over the same uses: one pays them, the other finds none or is refused."""
    for number in range(4):
        assets.revenue.attest(SCANNER, study(number))
    before = cash(ledger)[B]

    def pay(period: str) -> bool:
        try:
            assets.revenue.pay(deed.id, period, B)
        except (OverdrawnError, RefusedError):
            return False
        return True

    with ThreadPoolExecutor(4) as payers:
        assert sum(payers.map(pay, ["p1", "p2", "p3", "p4"])) == 1
    assert cash(ledger)[B] - before == -400


def test_a_payout_is_capped_and_the_rest_waits(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """A flood of studies is paid in pieces that somebody can look at."""
    registry = assets.registry
    capped = registry.schedules[0]
    object.__setattr__(capped, "uses_max", 2)
    for number in range(3):
        assets.revenue.attest(SCANNER, study(number))
    assets.revenue.pay(deed.id, "p1", B)
    assert assets.revenue.unpaid(deed.id) == 1


def test_a_retracted_study_is_not_paid_and_does_not_come_back(assets: Assets, deed: Deed) -> None:
    """Taken back once, before it is paid; attested again it stays out; what is paid is not there to retract."""
    assets.revenue.attest(SCANNER, study(1))
    assets.revenue.attest(SCANNER, study(2))
    for _ in range(2):
        assets.revenue.retract(SCANNER, study(1))
    assets.revenue.attest(SCANNER, study(1))
    assert assets.revenue.unpaid(deed.id) == 1
    assets.revenue.pay(deed.id, "p1", B)
    with pytest.raises(OverdrawnError):
        assets.revenue.retract(SCANNER, study(2))
    with pytest.raises(UnknownError):
        assets.revenue.retract(SCANNER, study(3))


def test_a_payout_is_reversed_once_and_its_uses_are_unpaid_again(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Everybody gives back exactly what it got, and the next period pays the uses."""
    for number in range(3):
        assets.revenue.attest(SCANNER, study(number))
    before = cash(ledger)
    assets.revenue.pay(deed.id, "p1", B)
    first = assets.revenue.reverse(deed.id, "p1", Cause.DISPUTED)
    assert assets.revenue.reverse(deed.id, "p1", Cause.WITHDRAWN) == first
    assert cash(ledger) == before
    assert assets.revenue.unpaid(deed.id) == 3
    assets.revenue.pay(deed.id, "p2", B)
    assert cash(ledger)[B] == before[B] - 300
    with pytest.raises(UnknownError):
        assets.revenue.reverse(deed.id, "p9", Cause.DISPUTED)


def test_no_use_is_told_and_no_key_is_in_the_book(assets: Assets, ledger: Ledger, deed: Deed) -> None:
    """Events carry how many, never which; neither device nor study key stands in any key, account or event."""
    before = len(ledger.notices(0, 1000))
    assets.revenue.attest(SCANNER, study(1))
    assert len(ledger.notices(0, 1000)) == before
    assets.revenue.pay(deed.id, "p1", B)
    written = canonical([
        [notice.data for notice in ledger.notices(0, 1000)],
        [[posting.key, *(t.debit + t.credit for t in posting.transfers)] for posting in ledger.postings(0, 1000)],
    ]).decode()  # fmt: skip
    assert study(1) not in written
    assert SCANNER not in written
