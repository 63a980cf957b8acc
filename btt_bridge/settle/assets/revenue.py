"""Revenue: attested uses are paid to the holders, each once, by largest remainder."""

from __future__ import annotations

from dataclasses import dataclass

from btt_bridge.errors import RefusedError
from btt_bridge.ledger import Move, Posting, Step
from btt_bridge.money import Amount, split
from btt_bridge.settle.assets import events
from btt_bridge.settle.assets.registry import ISSUER, Registry, once
from btt_bridge.settle.assets.uses import USES, Uses, open_uses, paid_uses
from btt_bridge.settle.billing import Cause, account
from btt_bridge.settle.token.accounts import check_reference, wallet
from btt_bridge.settle.token.supply import reverse


@dataclass(frozen=True)
class Revenue(Uses):
    """What the holders of equipment earn by its use."""

    registry: Registry

    def pay(self, name: str, period: str, payer: str) -> Posting:
        """Pay the holders for the uses that are not paid yet, up to the cap; once for each period.

        Minor units that do not divide go to the largest remainders; a tie goes by name.
        """
        deed, key = self.registry.deed(name), f"revenue:{name}:{check_reference(period)}"
        facts = {"deed": name, "period": period, "payer": payer}

        def post() -> Posting:
            uses = min(self.unpaid(name), self.registry.schedule.uses_max)
            revenue = Amount(uses * deed.use_fee.units, deed.use_fee.asset)
            if not revenue.units:
                raise RefusedError("there is nothing to pay")
            held = self.registry.holders(deed)
            source, clearing = wallet(payer, revenue.asset), account(f"revenue:{name}", revenue.asset)
            for one in (source, clearing, *(wallet(holder, revenue.asset) for holder in held)):
                self.ledger.open_account(one, revenue.asset)
            self.ledger.open_account(paid_uses(name), USES)
            steps: list[Step] = [
                Move(source, clearing, revenue, "revenue"),
                Move(open_uses(name), paid_uses(name), Amount(uses, USES), "paid use"),
            ]
            for holder, units in zip(held, split(revenue.units, list(held.values())), strict=True):
                if units:
                    part = Amount(units, revenue.asset)
                    steps.append(Move(clearing, wallet(holder, revenue.asset), part, "revenue share"))
            event = events.paid(source, facts, uses, revenue, len(held))
            return self.ledger.post_all(ISSUER, key, steps, event)

        return once(self.ledger, key, facts, post)

    def reverse(self, name: str, period: str, cause: Cause) -> Posting:
        """Take a period's revenue back from all holders, once; its uses are unpaid again."""
        return reverse(self.ledger, ISSUER, f"revenue:{name}:{check_reference(period)}", cause, events.REVERSED)
