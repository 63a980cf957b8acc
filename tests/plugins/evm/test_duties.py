"""A worker whose rail is on a chain: roots of its book go there by themselves, and burns come from there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from btt_bridge import settle
from btt_bridge.config import Settings
from btt_bridge.inbox import Inbox
from btt_bridge.ledger import Ledger, Move, anchors, batches
from btt_bridge.money import BTT, Amount
from btt_bridge.settle import Clinical, Duty, payfi
from btt_bridge.settle.token import Token, open_token
from btt_bridge.settle.token.accounts import BURNED, wallet
from btt_bridge.settle.upkeep import tick
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from btt_evm.place import save
from tests.plugins.evm.chains import MAPPINGS, Place, Served, served
from tests.settle.books import opaque


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(tmp_path: Path, clock: FakeClock) -> Iterator[Ledger]:
    with closing(Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", clock)) as ledger:
        yield ledger


@pytest.fixture
def token(ledger: Ledger) -> Token:
    """A token's book in which the treasury has a hundred units."""
    token = open_token(MAPPINGS, ledger)
    token.supply.release()
    ledger.open_account(wallet("treasury:main"), BTT)
    step = Move(wallet("investor:m-dao"), wallet("treasury:main"), Amount(100, BTT), "test")
    ledger.post_all("test", "fund", [step])
    return token


@pytest.fixture
def wired(place: Place) -> Iterator[Served]:
    """The chain behind a port, as `chain.yaml` names it, with the treasury's wallet."""
    with served(place.provider) as (url, chain):
        save(place.folder, replace(place.chain, url=url, wallets={"treasury:main": place.governance.address}))
        yield chain


def duties(place: Place, ledger: Ledger, tmp_path: Path) -> list[Duty]:
    """Return what a worker of these settings does by itself with the chain, as it starts."""
    settings = Settings(
        data_dir=tmp_path, mappings_dir=MAPPINGS, settle={"hospital": "test"},
        payfi={"rail": "evm", "rail_place": str(place.folder)},
    )  # type: ignore[arg-type]  # fmt: skip
    with closing(Inbox(f"sqlite:///{tmp_path / 'inbox.db'}", ledger.clock)) as inbox:
        clinical = Clinical(inbox, None, payfi.open_clearing(settings, ledger), None, {}, opaque, 1)
    signer = Signer.load(tmp_path / "bridge.key")
    found = settle.duties(settings, settle.open_billing(settings, ledger), clinical, signer)
    return [duty for duty in found if duty.name in ("batches", "roots", "burns")]


def posted(place: Place) -> list[str]:
    """Return the transactions that posted a root, as the chain has them."""
    told = place.node.contract("Settlement", place.chain.settlement()).events.Posted().get_logs(from_block=0)
    return [f"0x{bytes(one['transactionHash']).hex()}" for one in told]


def noted(ledger: Ledger) -> list[tuple[str, str]]:
    return [(one.standing, one.transaction) for one in anchors.of(ledger, [1])[1]]


def test_a_sealed_batch_is_anchored_once_through_every_failure(
    place: Place, wired: Served, ledger: Ledger, token: Token, clock: FakeClock, tmp_path: Path
) -> None:
    """The node is down, its answer is lost, the worker dies before it noted anything: one root, one transaction."""
    found = duties(place, ledger, tmp_path)
    wired.status = 503
    with structlog.testing.capture_logs() as told:
        tick(found, clock)
    assert {(line["process"], line["error"]) for line in told} == {
        ("roots", "DeliveryUnreachableError"),
        ("burns", "DeliveryUnreachableError"),
    }
    assert len(batches.sealed(ledger)) == 1
    wired.status = 0
    wired.swallowed.add("eth_sendRawTransaction")
    clock.advance(60)
    tick(found, clock)
    assert (len(posted(place)), noted(ledger)) == (1, [])
    wired.swallowed.clear()
    for _ in range(2):
        tick(duties(place, ledger, tmp_path), clock)
        assert noted(ledger) == [("posted", posted(place)[0])]
    place.wait()
    place.mine(2)
    clock.advance(60)
    tick(found, clock)
    assert noted(ledger) == [("stands", posted(place)[0])]
    assert len(posted(place)) == 1
    wired.asked.clear()
    tick([duty for duty in duties(place, ledger, tmp_path) if duty.name == "roots"], clock)
    assert wired.asked == [], "what stands is not asked after again"


def test_a_burn_is_booked_by_itself(
    place: Place, wired: Served, ledger: Ledger, token: Token, clock: FakeClock, tmp_path: Path
) -> None:
    """Once it is deep enough, and once; the next look begins behind it."""
    coin = place.governance.contract("Token", place.chain.token)
    place.governance.transact("one", coin.functions.burn(40))
    found = duties(place, ledger, tmp_path)
    tick(found, clock)
    assert ledger.balance(BURNED).units == 0
    place.mine(2)
    for _ in range(2):
        tick(duties(place, ledger, tmp_path), clock)
        assert ledger.balance(BURNED).units == 40
    assert wired.asked.count("eth_getLogs") == 2
