"""The priority that a stake gives a bridge: attested by whoever keeps the token's ledger, and for a short time only."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime, timedelta

from btt_bridge.errors import SignatureError
from btt_bridge.signing import Signer, canonical, verify

KIND = "btt.stake-priority"
#: An attestation that runs longer than this is none: stakes end.
VALID_MAX = timedelta(days=1)
TEXT_MAX = 2048


def attest(signer: Signer, bridge_id: str, priority: int, expires_at: datetime) -> str:
    """Return the attestation as the text that travels in a bridge's offers."""
    body = {"bridge_id": bridge_id, "priority": priority, "expires_at": expires_at.isoformat()}
    return canonical(signer.sign(KIND, body)).decode()


def read(attestation: str, keys: Collection[str], bridge_id: str, now: datetime) -> int:
    """Return the priority that one of `keys` attests to this bridge now.

    Whatever does not hold gives 0, which is everybody's: an offer is placed, with or without a stake.
    """
    try:
        envelope = json.loads(attestation)
        if envelope["key"] not in keys:
            return 0
        body = verify(envelope, KIND, envelope["key"])
        left, priority = datetime.fromisoformat(body["expires_at"]) - now, body["priority"]
        holds = body["bridge_id"] == bridge_id and timedelta(0) < left <= VALID_MAX and type(priority) is int
    except (KeyError, TypeError, ValueError, SignatureError):
        return 0
    return max(priority, 0) if holds else 0
