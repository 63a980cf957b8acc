"""Every door of token and settlement in any order, against a model in plain Python that knows nothing of chains."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from web3.exceptions import ContractLogicError

from tests.plugins.evm.chains import SUPPLY, WINDOW, House
from tests.plugins.evm.test_settlement import Payouts

NAMES = [hashlib.sha256(bytes([number])).digest() for number in range(4)]
WHO = st.integers(0, 3)
UNITS = st.one_of(st.integers(0, 50), st.sampled_from([SUPPLY, SUPPLY + 1, 2**256 - 1]))


@dataclass
class Promised:
    """A batch as the model keeps it."""

    payouts: Payouts
    left: int
    settles_at: int
    void: bool = False
    claimed: set[int] = field(default_factory=set)


class Chain(RuleBasedStateMachine):
    """The supply is what accounts and contracts hold together, and every door opens when the model says so."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        # One chain for all runs, wound back to its beginning: making contracts is what takes long.
        tester = shared().provider.ethereum_tester
        tester.revert_to_snapshot(_start[0])
        self.house = shared()
        # The poster pays, the guardian holds nothing, two others are paid.
        self.people = [self.house.poster, self.house.guardian, *self.house.others[:2]]
        self.balances = dict.fromkeys([*self.people, self.house.settlement.address], 0)
        self.balances[self.house.owner] = SUPPLY
        self.supply = SUPPLY
        self.batches: dict[bytes, Promised] = {}
        self.house.send(
            self.house.token.functions.approve(self.house.settlement.address, 2**256 - 1), self.house.poster
        )

    def attempt(self, call: Any, by: str, *, allowed: bool) -> bool:
        """Send a call; fail where the chain and the model disagree about whether it may be."""
        try:
            self.house.send(call, by)
        except ContractLogicError:
            assert not allowed
            return False
        assert allowed
        return True

    def move(self, source: str, target: str, units: int) -> None:
        self.balances[source] -= units
        self.balances[target] += units

    @rule(who=WHO, units=UNITS)
    def fund(self, who: int, units: int) -> None:
        owner, target = self.house.owner, self.people[who]
        call = self.house.token.functions.transfer(target, units)
        if self.attempt(call, owner, allowed=units <= self.balances[owner]):
            self.move(owner, target, units)

    @rule(source=WHO, to=WHO, units=UNITS)
    def transfer(self, source: int, to: int, units: int) -> None:
        one, other = self.people[source], self.people[to]
        call = self.house.token.functions.transfer(other, units)
        if self.attempt(call, one, allowed=units <= self.balances[one]):
            self.move(one, other, units)

    @rule(who=WHO, units=UNITS)
    def burn(self, who: int, units: int) -> None:
        one = self.people[who]
        if self.attempt(self.house.token.functions.burn(units), one, allowed=units <= self.balances[one]):
            self.balances[one] -= units
            self.supply -= units

    @rule(
        name=st.sampled_from(NAMES),
        dues=st.lists(st.tuples(WHO, st.integers(0, 20)), min_size=1, max_size=4),
        more=st.integers(-3, 3),
    )
    def post(self, name: bytes, dues: list[tuple[int, int]], more: int) -> None:
        payouts = Payouts(name, *((self.people[who], units) for who, units in dues))
        brought, poster = max(0, payouts.units + more), self.house.poster
        call = self.house.settlement.functions.post(name, payouts.root, len(dues), brought)
        if self.attempt(call, poster, allowed=name not in self.batches and brought <= self.balances[poster]):
            self.move(poster, self.house.settlement.address, brought)
            self.batches[name] = Promised(payouts, brought, self.house.now() + WINDOW)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def void(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.batches)))
        batch = self.batches[name]
        # The transaction lies in the next block, a second later at least.
        open_ = not batch.void and self.house.now() + 1 < batch.settles_at
        if self.attempt(self.house.settlement.functions.void(name), self.house.guardian, allowed=open_):
            self.move(self.house.settlement.address, self.house.poster, batch.left)
            batch.void, batch.left = True, 0

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), by=WHO)
    def claim(self, data: st.DataObject, by: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.batches)))
        batch = self.batches[name]
        index = data.draw(st.integers(0, len(batch.payouts.dues) - 1))
        account, units = batch.payouts.dues[index]
        stands = not batch.void and self.house.now() + 1 >= batch.settles_at
        allowed = stands and index not in batch.claimed and 0 < units <= batch.left
        if self.attempt(batch.payouts.claim(self.house, index), self.people[by], allowed=allowed):
            self.move(self.house.settlement.address, account, units)
            batch.claimed.add(index)
            batch.left -= units

    @rule(seconds=st.sampled_from([60, WINDOW // 2, WINDOW]))
    def wait(self, seconds: int) -> None:
        self.house.wait(seconds)

    @invariant()
    def every_unit_is_somewhere(self) -> None:
        found = {one: self.house.balance(one) for one in self.balances}
        assert found == self.balances
        assert self.house.token.functions.totalSupply().call() == self.supply == sum(found.values())
        held = self.house.settlement.functions.held().call()
        assert held == sum(batch.left for batch in self.batches.values()) <= found[self.house.settlement.address]


_made: list[House] = []
_start: list[Any] = []


def shared() -> House:
    if not _made:
        _made.append(House())
        _start.append(_made[0].provider.ethereum_tester.take_snapshot())
    return _made[0]


def test_chain_and_model_agree_in_any_order() -> None:
    """Transfers, burns, posts, voids, claims and time: no unit appears, none is lost, each door opens when it may."""
    shared()
    bounds = settings(max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(Chain, settings=bounds)
