"""rewards: points for what keeps patients well, where they spend them, and what that costs whom.

In: FHIR resources as the EHR has them, each version once or many times, with the patient's consents. Out: points and
fees in the ledger, one signed event for each change, and a report of outcomes. Wrong: a `Decision` says why nothing was
granted; a resource that is malformed, too large or too slow raises and costs only itself; `MappingError` for a program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from btt_bridge.config import Settings
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger
from btt_bridge.settle import dated
from btt_bridge.settle.rewards.claims import Claims
from btt_bridge.settle.rewards.fees import Fees
from btt_bridge.settle.rewards.granting import Answer, Decision, Rewards
from btt_bridge.settle.rewards.outcomes import Gathered, Months, Report, Seen, Veil, gather, report
from btt_bridge.settle.rewards.program import Program, check, load
from btt_bridge.settle.rewards.resources import Limits, read
from btt_bridge.settle.rewards.spending import Redemption, Redemptions
from btt_bridge.settle.rewards.wallets import Wallet, Wallets

__all__ = [
    "Answer",
    "Decision",
    "Fees",
    "Gathered",
    "Incentives",
    "Limits",
    "Months",
    "Program",
    "Redemption",
    "Redemptions",
    "Report",
    "Rewards",
    "Seen",
    "Veil",
    "Wallet",
    "Wallets",
    "check",
    "gather",
    "load",
    "open_incentives",
    "read",
    "report",
]


@dataclass(frozen=True)
class Incentives:
    """Everything about one clinic's rewards."""

    wallets: Wallets
    rewards: Rewards
    redemptions: Redemptions
    fees: Fees

    def close(self) -> None:
        """Let go of the database; the ledger is its owner's."""
        self.rewards.claims.close()


def open_incentives(
    settings: Settings,
    ledger: Ledger,
    isolation: Isolation,
    key_of: Callable[[str], str],
    limits: Limits | None = None,
) -> Incentives:
    """Return the clinic's rewards by its mappings, with the accounts they need open in the ledger.

    `key_of` names a text by a keyed digest, hex, under a key that never changes: it is what patients are called.
    """
    clinic, programs = settings.settle.hospital, load(settings.mappings_dir / "rewards")
    claims = Claims(ledger.engine.url.render_as_string(hide_password=False))
    wallets, fees = Wallets(ledger, clinic, key_of), Fees(ledger, clinic, programs)
    rewards = Rewards(wallets, claims, programs, isolation, limits or Limits(), dated.zone(settings.settle.time_zone))
    fees.open()
    rewards.open()
    return Incentives(wallets, rewards, Redemptions(wallets, claims, fees), fees)
