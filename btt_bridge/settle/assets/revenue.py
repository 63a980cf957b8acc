"""Revenue: use attested from studies that passed through the bridge, and paid to the holders."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, Posting, Step
from btt_bridge.money import Amount, Asset, split
from btt_bridge.settle.assets import events
from btt_bridge.settle.assets.registry import ISSUER, Kind, Registry, deed_id, once
from btt_bridge.settle.billing import Cause, account
from btt_bridge.settle.events import reference as digest_of
from btt_bridge.settle.token.accounts import check_reference, wallet
from btt_bridge.settle.token.supply import reverse

#: Uses are counted by the ledger, so that each is counted once and paid once.
USES: Final = Asset("USES", 0)
_ISSUE: Final = account("uses:issue", USES)
_STUDY_KEY = re.compile(r"[0-9a-f]{32,64}")


@dataclass(frozen=True)
class Revenue:
    """What the holders of equipment earn by its use."""

    ledger: Ledger
    registry: Registry

    def attest(self, device_key: str, study_key: str) -> bool:
        """Count a study that a device made, once; say whether the device is one that has holders.

        Both keys are keyed digests; not even they stand in the book, and a single use is told to nobody.
        """
        deed = self.registry.find(deed_id(device_key))
        if deed is None or deed.kind is not Kind.EQUIPMENT:
            return False
        self.ledger.open_account(_ISSUE, USES, credit_limit=None)
        self.ledger.open_account(_open(deed.id), USES)
        step = Move(_ISSUE, _open(deed.id), Amount(1, USES), "attested use")
        self.ledger.post_all(ISSUER, _use(deed.id, study_key), [step])
        return True

    def retract(self, device_key: str, study_key: str) -> Posting:
        """Take an attested use back, once; raise OverdrawnError where no unpaid use is left to take it from."""
        key = _use(deed_id(device_key), study_key)
        if self.ledger.find(ISSUER, key) is None:
            raise UnknownError("there is no such use")
        step = Move(_open(deed_id(device_key)), _ISSUE, Amount(1, USES), "retracted use")
        return self.ledger.post_all(ISSUER, f"{key}:retract", [step])

    def unpaid(self, name: str) -> int:
        """Return how many uses are attested and not paid yet."""
        found = [balance.units for balance in self.ledger.balances() if balance.account == _open(name)]
        return sum(found)

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
            self.ledger.open_account(_paid(name), USES)
            steps: list[Step] = [
                Move(source, clearing, revenue, "revenue"),
                Move(_open(name), _paid(name), Amount(uses, USES), "paid use"),
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


def _use(name: str, study_key: str) -> str:
    if not _STUDY_KEY.fullmatch(study_key):
        raise RefusedError("a study is named by 32 to 64 hexadecimal digits of a keyed digest")
    return f"use:{name}:{digest_of(study_key)}"


def _open(name: str) -> str:
    return account(f"uses:{name}:open", USES)


def _paid(name: str) -> str:
    return account(f"uses:{name}:paid", USES)
