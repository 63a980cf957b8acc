"""What the accounts do by themselves: each duty when it is due, and none at the cost of another."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from btt_bridge import priority, settle
from btt_bridge.config import Settings
from btt_bridge.dispatch import Dispatcher
from btt_bridge.ledger import batches
from btt_bridge.money import CNY, Amount
from btt_bridge.records import Confirmation, Outcome, Parcel, Tier, Urgency
from btt_bridge.settle import Clinical, Duty
from btt_bridge.settle.token import find_token, open_token
from btt_bridge.settle.upkeep import tick
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from tests.settle.test_clinical import ROOT, claim, tell

MAPPINGS = ROOT / "mappings"


@pytest.fixture
def duties(clinical: Clinical, tmp_path: Path) -> list[Duty]:
    """All that the accounts of a hospital do by themselves."""
    settings = Settings(data_dir=tmp_path, mappings_dir=MAPPINGS, settle={"hospital": "test"})  # type: ignore[arg-type]
    assert clinical.clearing is not None
    billing = settle.open_billing(settings, clinical.clearing.ledger)
    return list(settle.duties(settings, billing, clinical, Signer.load(tmp_path / "bridge.key")))


def test_a_duty_that_fails_costs_no_other_its_turn_and_comes_again(clock: FakeClock) -> None:
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
    clinical: Clinical, duties: list[Duty], clock: FakeClock, tmp_path: Path
) -> None:
    """Told, netted within the hour, handed to the rail once, sealed under a signed root; then paid, and told of."""
    assert clinical.clearing is not None
    ledger = clinical.clearing.ledger
    tell(clinical, claim())
    for _ in range(8):
        tick(duties, clock)
        clock.advance(900)
    assert clinical.clearing.batch(1).payments[0].gross.units == 12050
    assert len(list((tmp_path / "rail").rglob("*.xml"))) == 1
    sealed = batches.newest(ledger, 10)
    assert sealed
    assert sealed[0].last_transfer == ledger.latest(1)[0].id
    assert not (tmp_path / "payments").exists()
    (leg,) = clinical.clearing.batch(1).legs
    clinical.clearing.confirm(Confirmation(leg.order, Outcome.BOOKED, Decimal(leg.payout.decimal), "CNY"))
    tick(duties, clock)
    assert {path.name for path in (tmp_path / "payments").iterdir()} == {
        f"{kind}-{leg.order}.json" for kind in ("PaymentNotice", "PaymentReconciliation")
    }
    told = json.loads((tmp_path / "payments" / f"PaymentReconciliation-{leg.order}.json").read_bytes())
    assert [one["request"] for one in told["detail"]] == [{"reference": "Claim/c1"}]


def test_tokens_are_released_in_their_own_book_and_nowhere_else(
    clinical: Clinical, duties: list[Duty], clock: FakeClock
) -> None:
    """A hospital's ledger never gets a supply by looking; once it was made there, each day posts what is due, once."""
    assert clinical.clearing is not None
    ledger = clinical.clearing.ledger
    (duty,) = [one for one in duties if one.name == "releases"]

    def released() -> int:
        return sum(notice.type == "btt.token.released.v1" for notice in ledger.notices(0, 10_000))

    tick([duty], clock)
    assert find_token(MAPPINGS, ledger) is None
    assert released() == 0
    open_token(MAPPINGS, ledger)
    tick([duty], clock)
    assert released() == 0  # not its turn yet
    clock.advance(86400)
    tick([duty], clock)
    before = released()
    clock.advance(86400)
    tick([duty], clock)
    assert 0 < before == released()
    clock.advance(31 * 86400)
    tick([duty], clock)
    assert released() > before


def test_what_a_stake_gives_is_renewed_where_the_bridge_reads_it(
    clinical: Clinical,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    """Staked and dedicated in the book, with no other setting: each offer carries an attestation that is still good,
    for days on end; and a ledger that is not the book attests nothing."""
    settings = Settings(data_dir=tmp_path, mappings_dir=ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    assert clinical.clearing is not None
    ledger, signer = clinical.clearing.ledger, Signer.load(tmp_path / "bridge.key")
    found = settle.duties(settings, settle.open_billing(settings, ledger), clinical, signer)
    (duty,) = [one for one in found if one.name == "attestations"]
    tick([duty], clock)
    assert not settings.attestations_dir.exists()
    token, name = open_token(settings.mappings_dir, ledger), "investor:bithive"
    token.supply.release()
    token.stakes.stake(name, "s1", 10**21, "none")
    token.dedications.dedicate(name, settings.dispatch.bridge_id)
    dispatcher = Dispatcher.of(settings)
    for _ in range(3):
        clock.advance(4 * 86400)
        tick([duty], clock)
        level = priority.read(carried(dispatcher), [signer.public], settings.dispatch.bridge_id, clock.now())
        assert level == token.stakes.priority(name)
    assert level == 2


def carried(dispatcher: Dispatcher) -> str:
    """Return the attestation that an offer carries."""
    offering = dispatcher.prepare(
        Parcel("parcel", "0" * 64, 1, 1, 1),
        "",
        offer_id="o",
        service="ct-lung",
        operations=1,
        urgency=Urgency.ROUTINE,
        tier=Tier.PUBLIC,
        price_max=Amount(1, CNY),
        deadline=FakeClock().now(),
    )
    return offering.offer.attestation
