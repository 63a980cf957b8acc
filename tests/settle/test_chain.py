"""The book and a chain: each sealed batch is anchored once, whatever is interrupted, and burns are booked once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from btt_bridge import log, plugins, settle
from btt_bridge.config import Settings
from btt_bridge.ledger import Ledger, Move, anchors, batches
from btt_bridge.money import BTT, CNY, Amount
from btt_bridge.records import BatchRoot, Burn, RootStanding
from btt_bridge.settle import Clinical, chain, payfi
from btt_bridge.settle.payfi.rails import FileRail
from btt_bridge.settle.token import Token, open_token
from btt_bridge.settle.token.accounts import BURNED, wallet
from btt_bridge.settle.upkeep import tick
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock, MemoryChainRail, MemoryRail
from tests.settle.books import ROOT


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer.load(tmp_path / "bridge.key")


def grow(ledger: Ledger, signer: Signer, count: int = 1) -> None:
    """Seal so many batches of one transfer each."""
    for name in ("world:cny", "clinic:cny"):
        ledger.open_account(name, CNY, credit_limit=None)
    for _ in range(count):
        number = ledger.end_of_outbox() + len(ledger.latest(100))
        ledger.post_all("test", f"{number}", [Move("world:cny", "clinic:cny", Amount(number + 1, CNY), "test")])
        assert batches.close(ledger, signer)


def standings(ledger: Ledger) -> dict[int, tuple[str, ...]]:
    """Return how each batch stands in each place."""
    numbers = [batch.id for batch in batches.sealed(ledger)]
    return {number: tuple(one.standing for one in found) for number, found in anchors.of(ledger, numbers).items()}


def test_each_root_is_posted_once_and_asked_after_until_it_stands(ledger: Ledger, signer: Signer) -> None:
    """Posted, then standing, then never asked after again; a new batch is posted beside it."""
    rail = MemoryChainRail()
    grow(ledger, signer, 2)
    chain.anchor(ledger, rail)
    assert standings(ledger) == {1: ("posted",), 2: ("posted",)}
    rail.standings |= {1: RootStanding.STANDS, 2: RootStanding.VOID}
    chain.anchor(ledger, rail)
    grow(ledger, signer)
    chain.anchor(ledger, rail)
    chain.anchor(ledger, rail)
    assert standings(ledger) == {1: ("stands",), 2: ("void",), 3: ("posted",)}
    assert rail.asked == [1, 2, 1, 2, 3, 3]
    assert [root == batch.told for root, batch in zip(rail.roots.values(), batches.sealed(ledger), strict=True)]
    (first,) = anchors.of(ledger, [1])[1]
    assert (first.place, first.transaction) == ("memory:1", f"0x{1:064x}")
    assert anchors.counts(ledger) == {("memory:1", standing): 1 for standing in ("posted", "stands", "void")}


def test_a_crash_between_posting_and_noting_posts_nothing_twice(embedded_ledger: Ledger, signer: Signer) -> None:
    """Nobody hears that the root is there, and nothing is noted; the next turn is told the same again."""
    rail = MemoryChainRail(deaths_left=1, failures_left=1)
    grow(embedded_ledger, signer, 2)
    for _ in range(2):
        with pytest.raises(OSError, match=r"down|answer"):
            chain.anchor(embedded_ledger, rail)
    assert standings(embedded_ledger) == {1: (), 2: ()}
    assert set(rail.roots) == {1}
    chain.anchor(embedded_ledger, rail)
    assert standings(embedded_ledger) == {1: ("posted",), 2: ("posted",)}


def test_another_root_for_a_batch_is_refused_and_shown(embedded_ledger: Ledger, signer: Signer) -> None:
    """The book was rewritten: its batch is marked, said once in the log, and costs no other its root."""
    rail = MemoryChainRail(roots={1: BatchRoot(signer.public, 1, bytes(32), 1)})
    grow(embedded_ledger, signer, 2)
    with structlog.testing.capture_logs() as told:
        for _ in range(3):
            chain.anchor(embedded_ledger, rail)
    assert standings(embedded_ledger) == {1: ("refused",), 2: ("posted",)}
    (line,) = told
    assert (line["event"], line["count"]) == ("root refused", 1)
    assert line.keys() <= log.ALLOWED | {"log_level"}
    (refused,) = anchors.standing(embedded_ledger, RootStanding.REFUSED, 10)
    assert (refused.batch, refused.transaction) == (1, "")
    del rail.roots[1]
    chain.post(embedded_ledger, rail, batches.sealed(embedded_ledger)[0])
    assert standings(embedded_ledger)[1] == ("posted",), "a person may ask again"


def test_a_book_on_another_chain_is_anchored_anew(embedded_ledger: Ledger, signer: Signer) -> None:
    """What stood on the first is still known; a chain that keeps no roots is asked for nothing."""
    grow(embedded_ledger, signer)
    for where in ("memory:1", "memory:2", ""):
        chain.anchor(embedded_ledger, MemoryChainRail(where=where))
    assert [one.place for one in anchors.of(embedded_ledger, [1])[1]] == ["memory:1", "memory:2"]


def test_a_long_backlog_is_taken_in_turns(ledger: Ledger, signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One turn asks after so many roots: first what is not there, then what still waits, the oldest first."""
    monkeypatch.setattr(chain, "_ROOTS_MAX", 2)
    rail = MemoryChainRail()
    grow(ledger, signer, 3)
    for _ in range(3):
        chain.anchor(ledger, rail)
    assert rail.asked == [1, 2, 3, 1, 1, 2]
    rail.standings = dict.fromkeys((1, 2, 3), RootStanding.STANDS)
    for _ in range(3):
        chain.anchor(ledger, rail)
    assert rail.asked[6:] == [1, 2, 3]


# --- burns ----------------------------------------------------------------------------------------------


@pytest.fixture
def token(embedded_ledger: Ledger) -> Token:
    """A token's book in which a holder has ten units."""
    token = open_token(ROOT / "mappings", embedded_ledger)
    token.supply.release()
    fund(embedded_ledger, 10)
    return token


def fund(ledger: Ledger, units: int) -> None:
    ledger.open_account(wallet("treasury:main"), BTT)
    step = Move(wallet("investor:m-dao"), wallet("treasury:main"), Amount(units, BTT), "test")
    ledger.post_all("test", f"fund-{ledger.latest(1)[0].id}", [step])


def burn(block: int, units: int, log_index: int = 0) -> Burn:
    return Burn(block, f"{block:048x}-{log_index}", "treasury:main", Amount(units, BTT))


def burned(token: Token) -> int:
    return token.supply.ledger.balance(BURNED).units


def test_each_burn_is_booked_once_from_where_the_last_look_ended(token: Token) -> None:
    """Two in one transaction, one later; told again from the beginning, nothing more is burned."""
    rail = MemoryChainRail(burned=[burn(5, 1), burn(5, 2, 1)])
    assert chain.book_burns(token.supply, rail) == []
    rail.burned.append(burn(9, 4))
    assert chain.book_burns(token.supply, rail) == []
    rail.burned[:2] = [burn(5, 3)]  # is not looked at again
    assert chain.book_burns(token.supply, rail) == []
    assert burned(token) == 7
    assert chain.book_burns(token.supply, MemoryChainRail(burned=[burn(5, 1), burn(9, 4)]), since=0) == []
    assert chain.book_burns(token.supply, MemoryChainRail(where="", burned=[burn(10, 1)])) == []
    assert burned(token) == 7


def test_a_burn_that_cannot_be_booked_costs_only_itself_and_is_tried_again(
    token: Token, embedded_ledger: Ledger
) -> None:
    """The holder has less in the book: others are booked, and that one is as soon as there is enough."""
    rail = MemoryChainRail(burned=[burn(5, 11), burn(6, 2)])
    with structlog.testing.capture_logs() as told:
        assert chain.book_burns(token.supply, rail) == [burn(5, 11)]
    assert [line["error"] for line in told] == ["OverdrawnError"]
    assert burned(token) == 2
    fund(embedded_ledger, 3)
    assert chain.book_burns(token.supply, rail) == []
    assert burned(token) == 13


# --- as duties ------------------------------------------------------------------------------------------


def test_a_worker_whose_rail_is_on_a_chain_does_both(
    clinical: Clinical, clock: FakeClock, signer: Signer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file rail there are no such duties. On a chain what is sealed is anchored, and what is burned booked."""
    settings = Settings(data_dir=tmp_path, mappings_dir=ROOT / "mappings", settle={"hospital": "test"})  # type: ignore[arg-type]
    assert clinical.clearing is not None
    ledger, rail = clinical.clearing.ledger, MemoryChainRail(failures_left=1, burned=[burn(3, 4)])
    billing = settle.open_billing(settings, ledger)
    for one in (clinical, replace(clinical, clearing=None)):
        assert not {"roots", "burns"} & {duty.name for duty in settle.duties(settings, billing, one, signer)}
    monkeypatch.setattr(payfi, "open_rail", lambda _: rail)
    found = settle.duties(settings, billing, clinical, signer)
    token = open_token(settings.mappings_dir, ledger)
    token.supply.release()
    fund(ledger, 10)
    for _ in range(3):
        tick(found, clock)
        clock.advance(60)
    assert standings(ledger) == {1: ("posted",)}
    assert burned(token) == 4


def test_a_rail_is_on_a_chain_where_it_has_what_that_takes(tmp_path: Path) -> None:
    """The fake is what the Protocol asks for; a rail that pays by file or in memory is not."""
    assert isinstance(MemoryChainRail(), plugins.ChainRail)
    assert not isinstance(MemoryRail(), plugins.ChainRail)
    assert not isinstance(FileRail(tmp_path / "rail"), plugins.ChainRail)
