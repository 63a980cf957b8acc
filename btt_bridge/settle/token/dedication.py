"""Which bridge a holder's stakes count for at an exchange: one at a time, attested by whoever keeps the book."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from btt_bridge import priority
from btt_bridge.errors import CapacityError, KeyConflictError, RefusedError
from btt_bridge.ledger import Ledger, Move, Posting
from btt_bridge.money import Amount
from btt_bridge.settle.billing import account
from btt_bridge.settle.token import events
from btt_bridge.settle.token.accounts import ISSUER, QUOTA, QUOTA_USED, check_holder, numbered, told
from btt_bridge.settle.token.staking import Stakes
from btt_bridge.signing import Signer

_BRIDGE = re.compile(r"[a-z0-9-]{1,40}")
_ACCOUNTS = "quota:dedications:"
_VALID = timedelta(hours=12)
# Less than the day that lies between two bridges, and that an exchange believes in: clocks differ, and writers dawdle.
_VALID_MAX = priority.VALID_MAX - timedelta(hours=1)
_TRIES = 8


@dataclass(frozen=True, slots=True)
class Dedication:
    """The bridge that a holder's stakes count for."""

    holder: str
    bridge_id: str
    #: Until then the bridge before may still show what was attested to it, and this one is attested nothing.
    since: datetime


@dataclass(frozen=True)
class Dedications:
    """Everybody's dedications: each a numbered posting, of which the last one counts."""

    ledger: Ledger
    stakes: Stakes

    def dedicate(self, holder: str, bridge_id: str) -> Dedication:
        """Let a holder's stakes count for a bridge: at once or, in place of another bridge, after a day.

        Raises RefusedError for who has staked nothing.
        """
        if not _BRIDGE.fullmatch(bridge_id):
            raise RefusedError("a bridge is named by small letters, digits and hyphens")
        if not self.stakes.of(holder):
            raise RefusedError("this holder has staked nothing")
        name = account(f"{_ACCOUNTS}{check_holder(holder)}", QUOTA)
        # Nothing is used up: the book knows postings by what they move, and this moves one of as many as it likes.
        self.ledger.open_account(name, QUOTA, credit_limit=None)
        self.ledger.open_account(QUOTA_USED, QUOTA)
        step = Move(name, QUOTA_USED, Amount(1, QUOTA), "dedication")
        for _ in range(_TRIES):
            made = self._made(holder)
            standing = self._read(holder, made[-1]) if made else None
            if standing is not None and standing.bridge_id == bridge_id:
                return standing
            since = self.ledger.now() + (priority.VALID_MAX if standing else timedelta(0))
            with suppress(KeyConflictError):  # somebody else was quicker; look again
                key, event = f"dedication:{holder}:{len(made) + 1}", events.dedicated(holder, bridge_id, since)
                return self._read(holder, self.ledger.post_all(ISSUER, key, [step], event))
        raise CapacityError("the stakes of this holder are being dedicated by others all the time")

    def of(self, holder: str) -> Dedication | None:
        """Return the bridge that a holder's stakes count for, or will; None where there is none."""
        made = self._made(check_holder(holder))
        return self._read(holder, made[-1]) if made else None

    def attest(self, holder: str, signer: Signer, valid: timedelta = _VALID) -> str:
        """Sign which priority a holder's stakes give its bridge; raise RefusedError where there is none yet."""
        # Before the book is read: whatever is dedicated after that begins a day later, when this has run out.
        now = self.ledger.now()
        found = self.of(holder)
        if found is None:
            raise RefusedError(
                "this holder's stakes are for no bridge", advice="`btt-bridge token dedicate` says for which"
            )
        if found.since > now:
            raise RefusedError(f"these stakes count for {found.bridge_id} from {found.since:%Y-%m-%d %H:%M} UTC on")
        return priority.attest(signer, found.bridge_id, self.stakes.priority(holder), now + min(valid, _VALID_MAX))

    def renew(self, signer: Signer, folder: Path) -> None:
        """Leave in a folder what stakes give their bridges now: a file for each, of the best of its holders."""
        now = self.ledger.now()
        standing = [one for one in self._everybody() if one.since <= now]
        best = {one.bridge_id: one.holder for one in sorted(standing, key=lambda one: self.stakes.priority(one.holder))}
        for bridge_id, holder in best.items():
            _write(folder / f"{bridge_id}.json", self.attest(holder, signer))

    def _everybody(self) -> list[Dedication]:
        names = [one.account for one in self.ledger.balances(_ACCOUNTS)]
        found = [self.of(name.removeprefix(_ACCOUNTS).rpartition(":")[0]) for name in names]
        return [one for one in found if one is not None]

    def _made(self, holder: str) -> list[Posting]:
        return numbered(self.ledger, ISSUER, f"dedication:{holder}")

    def _read(self, holder: str, posting: Posting) -> Dedication:
        facts = told(self.ledger, posting)
        return Dedication(holder, facts["bridge_id"], datetime.fromisoformat(facts["since"]))


def _write(path: Path, text: str) -> None:
    """Replace a file at once: somebody may be reading it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, path)
