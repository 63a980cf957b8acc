"""Governance: who votes, with what, how often; and that nothing but a passed vote opens a treasury."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from btt_bridge.errors import InvalidAmountError, KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import BTT, Amount
from btt_bridge.settle.token import Choice, Outcome, Reach, Recover, Spend, Token
from btt_bridge.settle.token.governance import VOTES, Action
from btt_bridge.testing import FakeClock

E18: Final = 10**18
DAY: Final = 86400
BIG, SMALL, LATE = "investor:bithive", "investor:m-dao", "investor:web3-ventures"
FUND: Final = "ecosystem-development-fund"
SPEND: Final = Spend(FUND, "hospital:x", 1000 * E18)


@pytest.fixture
def token(token: Token, clock: FakeClock) -> Token:
    """Two holders have staked for a month: 60 and 40 parts of all votes."""
    token.supply.release()
    token.stakes.stake(BIG, "s", 600 * E18, "none")
    token.stakes.stake(SMALL, "s", 400 * E18, "none")
    clock.advance(30 * DAY)
    return token


def passed(token: Token, clock: FakeClock, action: Action, reference: str) -> str:
    """Propose something and vote for it; it is due."""
    proposal = token.governance.propose(BIG, reference, action).id
    token.governance.vote(proposal, BIG, Choice.YES)
    clock.advance(9 * DAY)
    return proposal


def assert_sound(token: Token) -> None:
    assert token.supply.figures().minted == 21_000_000 * E18
    assert audit.verify(token.supply.ledger).problem == ""


def test_a_passed_vote_spends_and_the_rest_stays_shut(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """Granted once, however often it is closed; the deposit is back; and what is left cannot be spent."""
    deposit = ledger.balance(f"wallet:{BIG}:btt").units
    proposal = passed(token, clock, SPEND, "p1")
    for _ in range(2):
        assert token.governance.close(proposal) is Outcome.PASSED
    assert ledger.balance("wallet:hospital:x:btt").units == 1000 * E18
    assert ledger.balance(f"wallet:{BIG}:btt").units == deposit
    treasury = ledger.balance(f"allocation:{FUND}:btt")
    assert treasury.units == 1_469_000 * E18
    assert treasury.available == 0
    assert_sound(token)


def test_only_the_votes_decide(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """Rejected by the larger part: nothing moves, and the deposit comes back."""
    proposal = token.governance.propose(SMALL, "p1", SPEND).id
    token.governance.vote(proposal, SMALL, Choice.YES)
    token.governance.vote(proposal, BIG, Choice.NO)
    tally = token.governance.tally(proposal)
    assert (tally.yes, tally.no, tally.roll) == (400 * E18 * 30, 600 * E18 * 30, 1000 * E18 * 30)
    clock.advance(9 * DAY)
    assert token.governance.close(proposal) is Outcome.REJECTED
    assert ledger.balance("wallet:hospital:x:btt").units == 0
    assert ledger.balance("token:deposits:btt").units == 0
    assert_sound(token)


def test_a_tie_is_not_a_majority(token: Token, clock: FakeClock) -> None:
    """Half of the votes is not more than half of them."""
    token.stakes.stake(SMALL, "more", 200 * E18, "none")
    clock.advance(370 * DAY)  # age counts for a year at most
    proposal = token.governance.propose(SMALL, "p1", SPEND).id
    token.governance.vote(proposal, SMALL, Choice.YES)
    token.governance.vote(proposal, BIG, Choice.NO)
    clock.advance(9 * DAY)
    tally = token.governance.tally(proposal)
    assert tally.yes == tally.no == 600 * E18 * 365
    assert token.governance.close(proposal) is Outcome.REJECTED


def test_without_a_quorum_the_deposit_is_burned(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """Spam costs its deposit."""
    proposal = token.governance.propose(BIG, "p1", SPEND).id
    clock.advance(9 * DAY)
    assert token.governance.close(proposal) is Outcome.NO_QUORUM
    assert token.supply.figures().burned == 100 * E18
    assert ledger.balance("token:burned:btt").available == 0
    assert_sound(token)


# --- attacks --------------------------------------------------------------------------------------------


def test_a_flash_stake_has_no_vote(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """A hundred times everybody's stake, six days before the proposal or after it, weighs nothing at all."""
    token.stakes.stake(LATE, "flash", 60_000 * E18, "two-years")
    clock.advance(6 * DAY)
    proposal = token.governance.propose(BIG, "p1", SPEND).id
    token.stakes.stake(LATE, "flash2", 40_000 * E18, "two-years")
    clock.advance(6 * DAY)
    assert token.governance.tally(proposal).roll == 1000 * E18 * 36
    with pytest.raises(RefusedError, match="long enough"):
        token.governance.vote(proposal, LATE, Choice.YES)
    with pytest.raises(RefusedError, match="long enough"):
        token.governance.vote(proposal, "node:nobody", Choice.YES)


def test_nobody_votes_twice(token: Token, clock: FakeClock) -> None:
    """Not otherwise, not the same again for more, not after staking more, and not at once from many threads."""
    proposal = token.governance.propose(BIG, "p1", SPEND).id
    with ThreadPoolExecutor(4) as voters:
        list(voters.map(lambda _: token.governance.vote(proposal, BIG, Choice.YES), range(4)))
    token.stakes.stake(BIG, "more", 1000 * E18, "two-years")
    assert token.governance.vote(proposal, BIG, Choice.YES) == token.governance.vote(proposal, BIG, Choice.YES)
    with pytest.raises(RefusedError, match="voted otherwise"):
        token.governance.vote(proposal, BIG, Choice.NO)
    assert token.governance.tally(proposal).yes == 600 * E18 * 30


def test_a_stake_that_moves_to_another_holder_votes_once(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """Voted, taken back, sent on and staked again by a friend: the friend's stake is too young."""
    proposal = token.governance.propose(SMALL, "p1", SPEND).id
    token.governance.vote(proposal, BIG, Choice.YES)
    token.stakes.end(BIG, 1)
    steps = [Move(f"wallet:{BIG}:btt", f"wallet:{LATE}:btt", Amount(600 * E18, BTT), "gift")]
    ledger.post_all("test", "gift", steps)
    token.stakes.stake(LATE, "s", 600 * E18, "two-years")
    with pytest.raises(RefusedError):
        token.governance.vote(proposal, LATE, Choice.YES)


def test_no_more_votes_can_be_cast_than_were_on_the_roll(token: Token, ledger: Ledger) -> None:
    """The ledger itself counts: whoever writes a vote past the rules finds the roll empty."""
    proposal = token.governance.propose(BIG, "p1", SPEND).id
    tally = token.governance.tally(proposal)
    token.governance.vote(proposal, BIG, Choice.YES)
    token.governance.vote(proposal, SMALL, Choice.YES)
    forged = Move(f"votes:{proposal}:roll:votes", f"votes:{proposal}:yes:votes", Amount(1, VOTES), "vote")
    with pytest.raises(OverdrawnError):
        ledger.post_all("thief", "vote", [forged])
    assert token.governance.tally(proposal).yes == tally.roll


def test_voting_ends_and_nothing_is_carried_out_before_its_time(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """A vote on the seventh day is late; what passed waits two days more; a month later it has lapsed."""
    first, second = (token.governance.propose(BIG, name, SPEND).id for name in ("p1", "p2"))
    token.governance.vote(first, BIG, Choice.YES)
    token.governance.vote(second, BIG, Choice.YES)
    clock.advance(7 * DAY)
    with pytest.raises(RefusedError, match="over"):
        token.governance.vote(first, SMALL, Choice.NO)
    assert token.governance.vote(first, BIG, Choice.YES).key == f"vote:{first}:{BIG}"
    clock.advance(2 * DAY - 1)
    with pytest.raises(RefusedError, match="yet"):
        token.governance.close(first)
    clock.advance(1)
    assert token.governance.close(first) is Outcome.PASSED
    clock.advance(30 * DAY)
    assert token.governance.close(second) is Outcome.LAPSED
    assert ledger.balance("wallet:hospital:x:btt").units == 1000 * E18
    assert ledger.balance("token:deposits:btt").units == 0


def test_one_vote_cannot_empty_a_treasury(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """More than a quarter of what it holds is not paid though it passed; it lapses, and its deposit comes back."""
    proposal = passed(token, clock, Spend("unallocated", "hospital:x", 2_310_000 * E18 // 4 + 1), "p1")
    with pytest.raises(OverdrawnError, match="one vote"):
        token.governance.close(proposal)
    clock.advance(30 * DAY)
    assert token.governance.close(proposal) is Outcome.LAPSED
    assert ledger.balance("allocation:unallocated:btt").units == 2_310_000 * E18
    assert_sound(token)


def test_concurrent_closings_carry_out_once_and_the_treasury_stays_shut(
    token: Token, ledger: Ledger, clock: FakeClock
) -> None:
    """One decision closed from four threads is paid once, and what nobody voted for not at all."""
    first = token.governance.propose(BIG, "p1", SPEND).id
    second = passed(token, clock, Spend(FUND, "hospital:y", 500 * E18), "p2")
    with ThreadPoolExecutor(4) as closers:
        list(closers.map(token.governance.close, [second, second, second, second]))
    assert ledger.balance("wallet:hospital:y:btt").units == 500 * E18
    assert token.governance.close(first) is Outcome.NO_QUORUM
    assert ledger.balance(f"allocation:{FUND}:btt").available == 0
    assert_sound(token)


def test_what_no_vote_can_grant_is_not_put_to_it(token: Token, ledger: Ledger) -> None:
    """Investors' parts, the mining pool, unknown names, nothing at all: refused before a deposit is taken."""
    before = ledger.balance(f"wallet:{BIG}:btt")
    for action, error in [
        (Spend("bithive", "hospital:x", 1), RefusedError),
        (Spend("mining-reward-pool", "hospital:x", 1), RefusedError),
        (Spend("community-incentives", "hospital:x", 1), RefusedError),
        (Spend("nothing", "hospital:x", 1), UnknownError),
        (Spend(FUND, "hospital:x", 0), InvalidAmountError),
        (Spend(FUND, "fund", 1), RefusedError),
        (Reach("bithive", "image-analysis"), UnknownError),
        (Reach("technical-development-foundation", "moon"), UnknownError),
        (Recover("0" * 32), UnknownError),
    ]:
        with pytest.raises(error):
            token.governance.propose(BIG, "p1", action)
    assert ledger.balance(f"wallet:{BIG}:btt") == before
    ledger.open_account("wallet:node:poor:btt", BTT)
    with pytest.raises(OverdrawnError):
        token.governance.propose("node:poor", "p1", SPEND)


def test_a_proposal_is_made_once(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """The same again, a day later, is the same, with one deposit; the same reference for another is refused."""
    made = token.governance.propose(BIG, "p1", SPEND)
    clock.advance(DAY)
    assert token.governance.propose(BIG, "p1", SPEND) == made
    assert ledger.balance("token:deposits:btt").units == 100 * E18
    with pytest.raises(KeyConflictError):
        token.governance.propose(BIG, "p1", Spend(FUND, "hospital:x", 1))


def test_nobody_staked_is_nobody_to_ask(ledger: Ledger, clock: FakeClock, token: Token) -> None:
    """With every stake too young, nothing can be proposed: an empty roll would make any vote a majority."""
    token.stakes.end(BIG, 1)
    token.stakes.end(SMALL, 1)
    clock.advance(1)
    token.stakes.stake(LATE, "s", E18, "none")
    with pytest.raises(RefusedError, match="nobody"):
        token.governance.propose(LATE, "p1", SPEND)


# --- milestones and recovery ----------------------------------------------------------------------------


def test_a_milestone_is_released_by_vote_once_and_not_before_its_month(
    token: Token, ledger: Ledger, clock: FakeClock
) -> None:
    """The first quarter of the foundation's part; again it is not there; the second not before its 18th month."""
    foundation, wallet = "technical-development-foundation", "wallet:investor:technical-development-foundation:btt"
    early = passed(token, clock, Reach(foundation, "treatment-planning"), "p1")
    with pytest.raises(OverdrawnError, match="month"):
        token.governance.close(early)
    first = passed(token, clock, Reach(foundation, "image-analysis"), "p2")
    assert token.governance.close(first) is Outcome.PASSED
    assert ledger.balance(wallet).units == 3_570_000 * E18 // 4
    again = passed(token, clock, Reach(foundation, "image-analysis"), "p3")
    with pytest.raises(OverdrawnError):
        token.governance.close(again)
    assert ledger.balance(wallet).units == 3_570_000 * E18 // 4
    assert_sound(token)


def test_what_a_vote_granted_another_vote_recovers_once(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """Back in the treasury, and shut again; a second recovery of the same finds its votes gone."""
    granted = passed(token, clock, SPEND, "p1")
    assert token.governance.close(granted) is Outcome.PASSED
    ledger.post_all(
        "test", "more", [Move(f"wallet:{BIG}:btt", "wallet:hospital:x:btt", Amount(5000 * E18, BTT), "gift")]
    )
    one, other = (token.governance.propose(BIG, name, Recover(granted)).id for name in ("p2", "p3"))
    token.governance.vote(one, BIG, Choice.YES)
    token.governance.vote(other, BIG, Choice.YES)
    clock.advance(9 * DAY)
    assert token.governance.close(one) is Outcome.PASSED
    with pytest.raises(OverdrawnError):
        token.governance.close(other)
    assert ledger.balance("wallet:hospital:x:btt").units == 5000 * E18
    treasury = ledger.balance(f"allocation:{FUND}:btt")
    assert (treasury.units, treasury.available) == (1_470_000 * E18, 0)
    third = passed(token, clock, SPEND, "p4")
    assert token.governance.close(third) is Outcome.PASSED
    assert_sound(token)
