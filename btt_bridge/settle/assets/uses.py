"""Uses: studies that a tokenized device made, attested by the bridge that they passed through, each counted once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, Posting
from btt_bridge.money import Amount, Asset
from btt_bridge.records import Keywords
from btt_bridge.settle.assets.registry import ISSUER, Kind, deed_id, find
from btt_bridge.settle.billing import account
from btt_bridge.settle.events import reference as digest_of

#: Uses are counted by the ledger, so that each is counted once and paid once.
USES: Final = Asset("USES", 0)
_ISSUE: Final = account("uses:issue", USES)
_STUDY_KEY = re.compile(r"[0-9a-f]{32,64}")

#: A keyed digest (HMAC) as hexadecimal digits; the key stays with the caller.
Opaque = Callable[[str], str]


def device_key(opaque: Opaque, keywords: Keywords) -> str:
    """Name the device that made a series, by Manufacturer (0008,0070) and Device Serial Number (0018,1000); or "".

    Without a serial number nobody can say which device it was. Case and blanks are as each system writes them.
    """
    manufacturer, serial = (
        " ".join(str(keywords.get(name, "")).split()).casefold() for name in ("Manufacturer", "DeviceSerialNumber")
    )
    return opaque(f"device {json.dumps([manufacturer, serial])}") if serial else ""


@dataclass(frozen=True)
class Uses:
    """The uses of all tokenized devices; they need neither schedule nor token."""

    ledger: Ledger

    def attest(self, device_key: str, study_key: str) -> bool:
        """Count a study that a device made, once; say whether the device is one that has holders.

        Both keys are keyed digests; not even they stand in the book, and a single use is told to nobody.
        """
        deed = find(self.ledger, deed_id(device_key)) if device_key else None
        if deed is None or deed.kind is not Kind.EQUIPMENT:
            return False
        self.ledger.open_account(_ISSUE, USES, credit_limit=None)
        self.ledger.open_account(open_uses(deed.id), USES)
        step = Move(_ISSUE, open_uses(deed.id), Amount(1, USES), "attested use")
        self.ledger.post_all(ISSUER, _use(deed.id, study_key), [step])
        return True

    def retract(self, device_key: str, study_key: str) -> Posting:
        """Take an attested use back, once; raise OverdrawnError where no unpaid use is left to take it from."""
        key = _use(deed_id(device_key), study_key)
        if self.ledger.find(ISSUER, key) is None:
            raise UnknownError("there is no such use")
        step = Move(open_uses(deed_id(device_key)), _ISSUE, Amount(1, USES), "retracted use")
        return self.ledger.post_all(ISSUER, f"{key}:retract", [step])

    def unpaid(self, name: str) -> int:
        """Return how many uses of a deed are attested and not paid yet."""
        return sum(balance.units for balance in self.ledger.balances(open_uses(name)))


def open_uses(name: str) -> str:
    """Name the account of a deed's uses that are not paid yet."""
    return account(f"uses:{name}:open", USES)


def paid_uses(name: str) -> str:
    """Name the account of a deed's uses that are paid."""
    return account(f"uses:{name}:paid", USES)


def _use(name: str, study_key: str) -> str:
    if not _STUDY_KEY.fullmatch(study_key):
        raise RefusedError("a study is named by 32 to 64 hexadecimal digits of a keyed digest")
    return f"use:{name}:{digest_of(study_key)}"
