"""What the accounts do by themselves: each duty when it is due, and none at the cost of another."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from btt_bridge import settle
from btt_bridge.config import Settings
from btt_bridge.ledger import batches
from btt_bridge.records import Confirmation, Outcome
from btt_bridge.settle import Clinical, Duty
from btt_bridge.settle.upkeep import tick
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from tests.settle.test_clinical import ROOT, claim, clinical, clock, isolation, tell  # noqa: F401 - fixtures


def test_a_duty_that_fails_costs_no_other_its_turn_and_comes_again(clock: FakeClock) -> None:  # noqa: F811
    """Each is done as often as it is due; a bank that is away is asked again at its own pace."""
    done: list[str] = []

    def fails() -> None:
        done.append("bank")
        raise OSError("the bank is away")

    both = [Duty("bank", 10, fails), Duty("holds", 1, lambda: done.append("holds"))]
    for _ in range(11):
        tick(both, clock)
        clock.advance(1)
    assert (done.count("bank"), done.count("holds")) == (2, 11)
    assert done[:2] == ["bank", "holds"]


def test_a_claim_goes_to_the_bank_and_the_book_is_sealed(
    clinical: Clinical,  # noqa: F811
    clock: FakeClock,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Told, netted within the hour, handed to the rail once, sealed under a signed root; then paid, and told of."""
    settings = Settings(data_dir=tmp_path, mappings_dir=ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    assert clinical.clearing is not None
    ledger, signer = clinical.clearing.ledger, Signer.load(tmp_path / "bridge.key")
    found = settle.duties(settings, settle.open_billing(settings, ledger), clinical, signer)
    tell(clinical, claim())
    for _ in range(8):
        tick(found, clock)
        clock.advance(900)
    assert clinical.clearing.batch(1).payments[0].gross.units == 12050
    assert len(list((tmp_path / "rail").rglob("*.xml"))) == 1
    sealed = batches.newest(ledger, 10)
    assert sealed
    assert sealed[0].last_transfer == ledger.latest(1)[0].id
    assert not (tmp_path / "payments").exists()
    (leg,) = clinical.clearing.batch(1).legs
    clinical.clearing.confirm(Confirmation(leg.order, Outcome.BOOKED, Decimal(leg.payout.decimal), "CNY"))
    tick(found, clock)
    assert {path.name for path in (tmp_path / "payments").iterdir()} == {
        f"{kind}-{leg.order}.json" for kind in ("PaymentNotice", "PaymentReconciliation")
    }
