"""Assets in every order, with crashes, replays and clock jumps, against an auditor that shares no code."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sqlalchemy import event

from btt_bridge.errors import KeyConflictError, LedgerError, RefusedError
from btt_bridge.ledger import Ledger, audit
from btt_bridge.money import CNY, Amount
from btt_bridge.settle import Uses
from btt_bridge.settle.assets import Assets, Kind, Pools, Registry, Revenue, deed_id, schedule
from btt_bridge.settle.billing import Cause
from btt_bridge.testing import FakeClock
from tests.machines import on_postgresql, on_sqlite, play
from tests.peers.postgres import PostgreSQL
from tests.settle.assets.conftest import MAPPINGS

HOLDERS: Final = ("hospital:a", "hospital:b", "investor:c")
DEVICES: Final = ("d0", "d1")
FUNDS: Final = 3_000_00
USE_FEE: Final = 7


def opaque(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def up(units: int, points: int) -> int:
    return -(-units * points // 10_000)


class CrashError(Exception):
    """The plug was pulled."""


@dataclass
class Thing:
    """One deed as the auditor knows it."""

    total: int
    value: int
    held: dict[str, int]
    #: Studies by what became of their use: "open", "paid" or "retracted".
    uses: dict[str, str] = field(default_factory=dict)
    #: What each holder got of a period, and which studies it was for.
    periods: dict[str, tuple[str, dict[str, int]]] = field(default_factory=dict)

    def count(self, state: str) -> int:
        return sum(one == state for one in self.uses.values())


@dataclass
class Auditor:
    """What everybody should have, by arithmetic of its own."""

    cash: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOLDERS, FUNDS))
    funds: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("buyback", "development", "operations"), 0))
    things: dict[str, Thing] = field(default_factory=dict)

    def charge(self, payer: str, fee: int, burned_points: int) -> None:
        burned = fee * burned_points // 10_000
        rest = fee - burned
        self.cash[payer] -= fee
        self.funds["buyback"] += burned
        # Halves; the odd one to the party that stands first.
        self.funds["development"] += rest - rest // 2
        self.funds["operations"] += rest // 2

    def parts(self, thing: Thing, revenue: int) -> dict[str, int]:
        """Hamilton's method: whole parts first, then one each by the largest remainder, a tie by name."""
        held = sorted((holder, units) for holder, units in thing.held.items() if units)
        found = {holder: revenue * units // thing.total for holder, units in held}
        order = sorted(held, key=lambda one: (-(revenue * one[1] % thing.total), one[0]))
        for holder, _ in order[: revenue - sum(found.values())]:
            found[holder] += 1
        return found


class Machine(RuleBasedStateMachine):
    """Drives the registry and its revenue; `new_url` is set by the test."""

    new_url: Callable[[], str]

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.auditor, self.references = FakeClock(), Auditor(), 0
        ledger = Ledger(type(self).new_url(), self.clock)
        registry = Registry(ledger, schedule.load(MAPPINGS / "assets"), lambda holder: 0)
        self.assets = Assets(registry, Revenue(ledger, registry), Pools(ledger, registry))
        self.ledger, self.uses = ledger, Uses(ledger)
        for holder in HOLDERS:
            registry.fund(holder, "bank-1", Amount(FUNDS, CNY))
        #: Statements until the plug is pulled; negative is never.
        self.fuse = -1
        # Something that is held 4 : 2 : 1 from the beginning, so that what is paid does not divide.
        self.mint(DEVICES[0], HOLDERS[0], 7, 100_00, -1)
        for buyer, shares in zip(HOLDERS[1:], (2, 1), strict=True):
            self._trade(DEVICES[0], HOLDERS[0], buyer, shares, 1, -1)
        for moment in ("before_cursor_execute", "commit"):
            event.listen(ledger.engine, moment, self._burn)

    def _burn(self, *_: Any) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise CrashError

    def _surely(self, fuse: int, act: Callable[[], Any]) -> Any:
        """Do something while the plug is pulled before some statement, and then once more with the power on."""
        self.fuse = fuse
        with suppress(CrashError, LedgerError, RefusedError):
            act()
        self.fuse = -1
        return act()

    def _reference(self) -> str:
        self.references += 1
        return f"r{self.references}"

    # --- what can happen ---

    @rule(
        device=st.sampled_from(DEVICES),
        owner=st.sampled_from(HOLDERS),
        total=st.integers(1, 9),
        value=st.integers(1, 40_000),
        fuse=st.one_of(st.just(-1), st.integers(1, 40)),
    )
    def mint(self, device: str, owner: str, total: int, value: int, fuse: int) -> None:
        """Each thing once; minted as something else, refused; without money for the fee, refused."""

        def act() -> Any:
            worth, use_fee = Amount(value, CNY), Amount(USE_FEE, CNY)
            return self.assets.registry.mint(Kind.EQUIPMENT, opaque(device), owner, total, worth, "standard", use_fee)

        known, fee = self.auditor.things.get(device), up(value, 200)
        try:
            deed = self._surely(fuse, act)
        except KeyConflictError:
            assert known is not None
        except LedgerError:
            assert known is None
            assert fee > self.auditor.cash[owner]
        else:
            assert deed.total == total
            if known is None:
                self.auditor.charge(owner, fee, 1000)
                self.auditor.things[device] = Thing(total, value, {owner: total})

    @precondition(lambda self: self.auditor.things)
    @rule(
        data=st.data(),
        seller=st.sampled_from(HOLDERS),
        buyer=st.sampled_from(HOLDERS),
        shares=st.integers(1, 10),
        price=st.integers(1, 150_000),
        fuse=st.one_of(st.just(-1), st.integers(1, 40)),
    )
    def trade(self, data: st.DataObject, seller: str, buyer: str, shares: int, price: int, fuse: int) -> None:
        """More shares than the seller has, which is more than all of them at worst, or more money: refused."""
        if seller != buyer:
            self._trade(data.draw(st.sampled_from(sorted(self.auditor.things))), seller, buyer, shares, price, fuse)

    def _trade(self, device: str, seller: str, buyer: str, shares: int, price: int, fuse: int) -> None:
        thing, deed, reference = self.auditor.things[device], self._deed(device), self._reference()
        covered = thing.held.get(seller, 0) >= shares and self.auditor.cash[buyer] >= price

        def act() -> Any:
            return self.assets.registry.trade(deed, reference, seller, buyer, shares, Amount(price, CNY))

        try:
            self._surely(fuse, act)
        except LedgerError:
            assert not covered
        else:
            assert covered
            thing.held[seller] -= shares
            thing.held[buyer] = thing.held.get(buyer, 0) + shares
            self.auditor.cash[buyer] -= price
            self.auditor.cash[seller] += price
            self.auditor.charge(seller, up(price, 100), 1000)

    @precondition(lambda self: self.auditor.things)
    @rule(
        data=st.data(),
        value=st.integers(1, 60_000),
        payer=st.sampled_from(HOLDERS),
        fuse=st.one_of(st.just(-1), st.integers(1, 40)),
    )
    def revalue(self, data: st.DataObject, value: int, payer: str, fuse: int) -> None:
        device = data.draw(st.sampled_from(sorted(self.auditor.things)))
        thing, deed, reference, fee = self.auditor.things[device], self._deed(device), self._reference(), up(value, 50)

        def act() -> Any:
            return self.assets.registry.revalue(deed, reference, "appraisal", Amount(value, CNY), payer)

        try:
            self._surely(fuse, act)
        except (LedgerError, RefusedError):
            assert abs(value - thing.value) > thing.value or fee > self.auditor.cash[payer]
        else:
            thing.value = value
            self.auditor.charge(payer, fee, 0)

    @rule(
        device=st.sampled_from((*DEVICES, "never minted")),
        studies=st.lists(st.integers(1, 9), min_size=1, max_size=5),
        fuse=st.one_of(st.just(-1), st.integers(1, 30)),
    )
    def attest(self, device: str, studies: list[int], fuse: int) -> None:
        """Nine studies, again and again, as revisions and replays come: each counts once, paid or retracted or not."""
        thing = self.auditor.things.get(device)
        for study in studies:
            counted = self._surely(fuse, lambda study=study: self.uses.attest(opaque(device), opaque(f"study {study}")))
            assert counted == (thing is not None)
            if thing is not None:
                thing.uses.setdefault(str(study), "open")

    @precondition(lambda self: any(thing.uses for thing in self.auditor.things.values()))
    @rule(data=st.data(), fuse=st.one_of(st.just(-1), st.integers(1, 30)))
    def retract(self, data: st.DataObject, fuse: int) -> None:
        """Only where an unpaid use is left to take it from."""
        device = data.draw(st.sampled_from([name for name, thing in self.auditor.things.items() if thing.uses]))
        thing = self.auditor.things[device]
        study = data.draw(st.sampled_from(sorted(thing.uses)))
        before = thing.uses[study]
        try:
            self._surely(fuse, lambda: self.uses.retract(opaque(device), opaque(f"study {study}")))
        except LedgerError:
            assert before != "retracted"
            assert not thing.count("open")
        else:
            if before == "paid":  # uses are counted, not named: an unpaid one makes up for it
                other = next(name for name, state in thing.uses.items() if state == "open")
                thing.uses[other] = "paid"
            thing.uses[study] = "retracted"

    @precondition(lambda self: self.auditor.things)
    @rule(data=st.data(), payer=st.sampled_from(HOLDERS), fuse=st.one_of(st.just(-1), st.integers(1, 60)))
    def pay(self, data: st.DataObject, payer: str, fuse: int) -> None:
        """All open uses at once, to the holders of this moment; a second time for the period, nothing."""
        device = data.draw(st.sampled_from(sorted(self.auditor.things)))
        thing, deed, period = self.auditor.things[device], self._deed(device), self._reference()
        revenue = thing.count("open") * USE_FEE
        try:
            self._surely(fuse, lambda: self.assets.revenue.pay(deed, period, payer))
        except (LedgerError, RefusedError):
            assert revenue == 0 or revenue > self.auditor.cash[payer]
        else:
            assert revenue > 0
            parts = self.auditor.parts(thing, revenue)
            assert sum(parts.values()) == revenue
            self._share(payer, parts, 1)
            thing.periods[period] = (payer, parts)
            for study, state in thing.uses.items():
                thing.uses[study] = "paid" if state == "open" else state

    @precondition(lambda self: any(thing.periods for thing in self.auditor.things.values()))
    @rule(data=st.data(), fuse=st.one_of(st.just(-1), st.integers(1, 60)))
    def reverse(self, data: st.DataObject, fuse: int) -> None:
        """A period is taken back from everybody, or from nobody where somebody has spent it."""
        device = data.draw(st.sampled_from([name for name, thing in self.auditor.things.items() if thing.periods]))
        thing = self.auditor.things[device]
        period = data.draw(st.sampled_from(sorted(thing.periods)))
        payer, parts = thing.periods[period]
        revenue = sum(parts.values())
        try:
            self._surely(fuse, lambda: self.assets.revenue.reverse(self._deed(device), period, Cause.DISPUTED))
        except LedgerError:
            assert any(part > self.auditor.cash[holder] for holder, part in parts.items())
        else:
            self._share(payer, parts, -1)
            del thing.periods[period]
            paid = [study for study, state in thing.uses.items() if state == "paid"]
            for study in paid[: revenue // USE_FEE]:
                thing.uses[study] = "open"

    @rule(seconds=st.integers(-600, 864_000))
    def jump(self, seconds: int) -> None:
        """The clock runs, or is set back."""
        self.clock.advance(seconds)

    # --- what must hold ---

    @invariant()
    def everything_is_where_the_auditor_has_it(self) -> None:
        standing = {one.account: one.units for one in self.ledger.balances() if one.units}
        funds = {"buyback": "buyback", "development": "development", "operations": "asset-operations"}
        expected = {f"wallet:{holder}:cny": units for holder, units in self.auditor.cash.items()}
        expected |= {f"fund:{funds[name]}:cny": units for name, units in self.auditor.funds.items()}
        expected["bank:cny"] = -FUNDS * len(HOLDERS)
        counted = 0
        for device, thing in self.auditor.things.items():
            deed = self.assets.registry.deed(self._deed(device))
            assert sum(thing.held.values()) == thing.total
            expected |= {deed.held_by(holder): units for holder, units in thing.held.items()}
            expected[deed.issue] = -thing.total
            expected[f"uses:{deed.id}:open:uses"] = thing.count("open")
            expected[f"uses:{deed.id}:paid:uses"] = thing.count("paid")
            counted += thing.count("open") + thing.count("paid")
        expected["uses:issue:uses"] = -counted
        assert standing == {account: units for account, units in expected.items() if units}
        assert set(self.ledger.trial_balance().values()) == {0}

    def teardown(self) -> None:
        for device, thing in self.auditor.things.items():
            assert self.assets.registry.valuation(self.assets.registry.deed(self._deed(device))).units == thing.value
        assert audit.verify(self.ledger).problem == ""
        self.ledger.close()

    def _deed(self, device: str) -> str:
        return deed_id(opaque(device))

    def _share(self, payer: str, parts: dict[str, int], sign: int) -> None:
        self.auditor.cash[payer] -= sign * sum(parts.values())
        for holder, part in parts.items():
            self.auditor.cash[holder] += sign * part


def test_no_order_of_events_loses_a_share_a_use_or_a_unit_on_sqlite() -> None:
    """Every balance is the auditor's after every step: shares sum to their total, uses are paid once, fees exact."""
    with on_sqlite() as new_url:
        play(Machine, examples=25, new_url=new_url)


@pytest.mark.peer("postgres")
def test_no_order_of_events_loses_a_share_a_use_or_a_unit_on_postgresql(postgresql_server: PostgreSQL) -> None:
    """The same on PostgreSQL."""
    with on_postgresql(postgresql_server) as new_url:
        play(Machine, examples=10, new_url=new_url)
