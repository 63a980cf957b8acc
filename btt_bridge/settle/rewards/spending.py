"""Spending points with partners: once for each order, within a day's limit, the partner's fee in the same posting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from btt_bridge.errors import KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Move, Step
from btt_bridge.money import POINTS, Amount
from btt_bridge.settle.billing import account
from btt_bridge.settle.rewards import events
from btt_bridge.settle.rewards.claims import Claims
from btt_bridge.settle.rewards.fees import Fees, rounded_up
from btt_bridge.settle.rewards.program import Partner
from btt_bridge.settle.rewards.wallets import Change, Wallet, Wallets


@dataclass(frozen=True, slots=True)
class Redemption:
    """Points that were spent."""

    #: Names it in events, and to undo it.
    name: str
    partner: str
    points: int
    #: What they were worth with the partner, and what the partner owes for it, in minor units.
    value_units: int
    fee_units: int


@dataclass(frozen=True)
class Redemptions:
    """Where one clinic's patients spend their points."""

    wallets: Wallets
    claims: Claims
    fees: Fees

    def redeem(self, patient: str, partner: str, order: str, points: int) -> Redemption:
        """Spend a patient's points on a partner's order; again, it says what stands.

        Raises OverdrawnError for more points than there are, RefusedError beyond the partner's limits, UnknownError
        for an unknown patient or partner, and KeyConflictError for an order that was somebody else's, of other points,
        or undone.
        """
        terms = self._terms(partner)
        name = self.name(partner, order)
        if not self.wallets.read(patient).number:
            raise UnknownError("this patient has no points")
        self.claims.bind(name, patient)
        lifetime = timedelta(days=self.fees.program().expire_days)
        self.wallets.change(patient, lambda wallet, _: self.wallets.expire(wallet, lifetime))

        def plan(wallet: Wallet, _: str) -> Change | None:
            if name in wallet.redemptions:
                self._check_same(wallet, name, points)
                return None
            self._check_limits(wallet, terms, points, lifetime)
            return self._spend(wallet, terms, name, points)

        self.wallets.change(patient, plan)
        return _redemption(self.wallets.read(patient).redemptions[name][0])

    def name(self, partner: str, order: str) -> str:
        """Return what a partner's order is called in events, and to undo it."""
        return self.wallets.opaque(f"order:{partner}:{order}")[:32]

    def undo(self, patient: str, name: str) -> Redemption:
        """Give the points of a redemption back, to a debt first, and the partner its fee; once."""

        def plan(wallet: Wallet, _: str) -> Change | None:
            if name not in wallet.redemptions:
                raise UnknownError("there is no such redemption")
            return None if name in wallet.undone else self._give_back(wallet, wallet.redemptions[name][0])

        if not self.wallets.read(patient).number:
            raise UnknownError("this patient has no points")
        self.wallets.change(patient, plan)
        return _redemption(self.wallets.read(patient).redemptions[name][0])

    # --- plans ------------------------------------------------------------------------------------------

    def _terms(self, partner: str) -> Partner:
        terms = self.fees.program().partners.get(partner)
        if terms is None:
            raise UnknownError("no partner has this name")
        return terms

    def _check_same(self, wallet: Wallet, name: str, points: int) -> None:
        told, _ = wallet.redemptions[name]
        if name in wallet.undone or told["amount"]["units"] != str(points):
            raise KeyConflictError("this order was of other points, or undone")

    def _check_limits(self, wallet: Wallet, terms: Partner, points: int, lifetime: timedelta) -> None:
        now = self.wallets.ledger.now()
        if Amount(points, POINTS).units < terms.points_min:
            raise RefusedError(f"this partner takes {terms.points_min} points or more")
        if wallet.spent(now - timedelta(days=1)) + points > terms.points_per_day_max:
            raise RefusedError(f"a patient spends at most {terms.points_per_day_max} points a day")
        # What has expired is not spent, even where it expired after it was last looked for.
        if points > wallet.points - wallet.due(now - lifetime):
            raise OverdrawnError("there are not enough points")

    def _spend(self, wallet: Wallet, terms: Partner, name: str, points: int) -> Change:
        program = self.fees.program()
        value = Amount(points * terms.units_per_point, program.asset)
        fee = program.shares(rounded_up(value, terms.redemption_basis_points))
        taker = _redeemed(terms.name)
        self.wallets.ledger.open_account(taker, POINTS)
        steps: list[Step] = [Move(wallet.account, taker, Amount(points, POINTS), "points redeemed")]
        steps += self.fees.moves(self.fees.payable("partner", terms.name), fee, "redemption fee")
        return steps, events.redeemed(wallet.account, name, terms.name, points, value, fee)

    def _give_back(self, wallet: Wallet, told: Mapping[str, Any]) -> Change:
        points, partner = int(told["amount"]["units"]), told["partner"]
        steps = self.wallets.credit(wallet, _redeemed(partner), points, "redemption undone")
        payer = self.fees.payable("partner", partner)
        steps += self.fees.moves_back(payer, told, "redemption fee undone")
        return steps, events.returned(wallet.account, told, min(wallet.debt, points))


def _redeemed(partner: str) -> str:
    """Name the account of all points that were spent with a partner."""
    return account(f"partner:{partner}:redeemed", POINTS)


def _redemption(told: Mapping[str, Any]) -> Redemption:
    return Redemption(
        name=told["redemption"],
        partner=told["partner"],
        points=int(told["amount"]["units"]),
        value_units=int(told["value"]["units"]),
        fee_units=int(told["fee"]["units"]),
    )
