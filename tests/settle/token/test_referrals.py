"""Referrals: rewarded on proven milestones, once each, up to a cap, and not to those who refer themselves."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest

from btt_bridge.errors import OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Posting, audit
from btt_bridge.settle.billing import Cause
from btt_bridge.settle.token import Institution, Token
from btt_bridge.testing import FakeClock

E18: Final = 10**18
DAY: Final = 86400
A, B, C = (Institution(f"hospital:{name}", f"owner-{name}") for name in "abc")


@pytest.fixture
def token(token: Token) -> Token:
    """With a purse that pays."""
    token.supply.release()
    return token


def earned(ledger: Ledger, who: Institution) -> int:
    return ledger.balance(f"wallet:{who.holder}:btt").units // E18


def test_each_milestone_is_rewarded_once(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """First study 50, in routine 200, established 500; studies alone, or days alone, are not enough."""
    token.referrals.refer(A, B, 0)
    assert token.referrals.reward(B.holder, 0) == []
    assert earned(ledger, A) == 0
    for studies, days, expected in [
        (999_999, 0, 50),
        (999, 90, 50),
        (1000, 0, 250),
        (9999, 300, 250),
        (10_000, 0, 750),
    ]:
        clock.advance(days * DAY)
        for _ in range(2):
            token.referrals.reward(B.holder, studies)
        assert earned(ledger, A) == expected
    assert audit.verify(ledger).problem == ""


def test_two_at_once_pay_once(token: Token, ledger: Ledger) -> None:
    """Four workers that see the same milestone."""
    token.referrals.refer(A, B, 0)
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: token.referrals.reward(B.holder, 1), range(4)))
    assert earned(ledger, A) == 50


def test_nobody_farms_referrals(token: Token, ledger: Ledger) -> None:
    """Not itself, not a sibling of the same owner, not in a circle, not who already works here, not twice."""
    for referrer, referred, studies in [
        (A, A, 0),
        (A, Institution("hospital:a2", A.owner), 0),
        (A, B, 1),
    ]:
        with pytest.raises(RefusedError):
            token.referrals.refer(referrer, referred, studies)
    first = token.referrals.refer(A, B, 0)
    assert token.referrals.refer(A, B, 5) == first
    with pytest.raises(RefusedError, match="another referrer"):
        token.referrals.refer(C, B, 0)
    token.referrals.refer(B, C, 0)
    for referrer, referred in [(B, A), (C, A)]:
        with pytest.raises(RefusedError, match="circle"):
            token.referrals.refer(referrer, referred, 0)
    with pytest.raises(UnknownError):
        token.referrals.reward(A.holder, 10_000)


def test_a_referrer_is_capped_in_institutions_and_in_tokens(token: Token, ledger: Ledger, clock: FakeClock) -> None:
    """The 21st institution is refused, and whatever they reach, 5,000 BTT is the most; the book itself counts."""
    brought = [Institution(f"hospital:n{number}", f"owner-{number}") for number in range(21)]
    for one in brought[:20]:
        token.referrals.refer(A, one, 0)
    with pytest.raises(OverdrawnError):
        token.referrals.refer(A, brought[20], 0)
    clock.advance(365 * DAY)
    answers = [answer for one in brought[:20] for answer in token.referrals.reward(one.holder, 10_000)]
    assert earned(ledger, A) <= 5000
    assert earned(ledger, A) > 5000 - 500
    assert sum(isinstance(answer, Posting) for answer in answers) < len(answers)
    assert all(isinstance(answer, Posting | OverdrawnError) for answer in answers)
    assert audit.verify(ledger).problem == ""


def test_a_reward_taken_back_frees_its_allowance_and_is_not_paid_again(token: Token, ledger: Ledger) -> None:
    """An institution that turns out to be a sham: the referrer has nothing of it, and the cap is as before."""
    token.referrals.refer(A, B, 0)
    token.referrals.reward(B.holder, 1)
    used = ledger.balance(f"quota:rewards:{A.holder}:quota").units
    token.supply.reverse(f"referral:{B.holder}:implemented", Cause.DISPUTED)
    assert earned(ledger, A) == 0
    assert (used, ledger.balance(f"quota:rewards:{A.holder}:quota").units) == (-50 * E18, 0)
    assert token.referrals.reward(B.holder, 1) == []
    assert earned(ledger, A) == 0


def test_an_empty_purse_pays_nothing(clock: FakeClock, ledger: Ledger, token: Token) -> None:
    """What is not released for participation is not there to be paid."""
    token.supply.reverse("release:community-incentives:12", Cause.DISPUTED)
    for month in range(1, 12):
        token.supply.reverse(f"release:community-incentives:{month}", Cause.DISPUTED)
    token.referrals.refer(A, B, 0)
    (answer,) = token.referrals.reward(B.holder, 1)
    assert isinstance(answer, OverdrawnError)
    assert earned(ledger, A) == 0
