"""What the world is told: one signed CloudEvent 1.0 for each posting, with no patient and no study in it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from btt_bridge.database import moment_text
from btt_bridge.errors import SignatureError
from btt_bridge.ledger import Event, Notice
from btt_bridge.money import Amount
from btt_bridge.records import Charge
from btt_bridge.signing import Signer, canonical, verify_detached

HELD = "btt.compute.held.v1"
CHARGED = "btt.compute.charged.v1"
VOIDED = "btt.compute.voided.v1"
REFUNDED = "btt.compute.refunded.v1"
PAID = "btt.compute.paid.v1"

Parts = Sequence[tuple[str, str, Amount]]


def held(account: str, bill: str, charge: Charge, expires_at: datetime) -> Event:
    """Tell that an amount is reserved for a job that is on offer."""
    facts = _priced(charge) | {"amount": money(charge.amount), "expires_at": moment_text(expires_at)}
    return Event(HELD, account, facts | {"bill": reference(bill)})


def charged(account: str, bill: str, charge: Charge, node: str, split: str, parts: Parts) -> Event:
    """Tell that a delivered result was charged, who did the work, and who got what of it."""
    facts = _priced(charge) | {"amount": money(charge.amount), "split": split, "shares": _shares(parts)}
    return Event(CHARGED, account, facts | {"bill": reference(bill), "node": node})


def voided(account: str, bill: str, amount: Mapping[str, Any], cause: str) -> Event:
    """Tell that what was reserved is released; bill and amount as the held event said them."""
    return Event(VOIDED, account, {"bill": bill, "amount": amount, "cause": cause})


def refunded(account: str, told: Mapping[str, Any], cause: str) -> Event:
    """Tell that a charge was taken back, and from whom; `told` is the data of its charged event."""
    return Event(REFUNDED, account, {name: told[name] for name in ("bill", "amount", "shares")} | {"cause": cause})


def paid(account: str, payment: str, amount: Amount) -> Event:
    """Tell that a hospital paid what it owed, or part of it."""
    return Event(PAID, account, {"payment": reference(payment), "amount": money(amount)})


def envelope(notice: Notice, source: str, signer: Signer) -> dict[str, Any]:
    """Return the signed CloudEvent of a row of the outbox; the same row gives the same bytes each time.

    `source` and `id` name it for ever: a consumer drops what it has seen. `sequence` counts the events of one
    `subject` without gaps. `signature` is a detached JWS over the canonical JSON of everything else.
    """
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": notice.hash.hex(),
        "source": source,
        "type": notice.type,
        "subject": notice.account,
        "time": moment_text(notice.at),
        "datacontenttype": "application/json",
        "dataschema": f"urn:btt:schema:{notice.type}",
        "sequence": f"{notice.sequence:012d}",
        "position": f"{notice.position:012d}",
        "data": dict(notice.data),
    }
    return event | {"signature": signer.sign_detached(canonical(event))}


def verify(event: Mapping[str, Any], public: str) -> None:
    """Raise SignatureError unless `public` (hex) signed this event as it stands."""
    unsigned = {name: value for name, value in event.items() if name != "signature"}
    signature = event.get("signature")
    if not isinstance(signature, str):
        raise SignatureError("the event carries no signature")
    verify_detached(signature, canonical(unsigned), public)


def money(amount: Amount) -> dict[str, Any]:
    """Write an amount; its units are text, for JSON numbers lose digits beyond 2^53."""
    return {"units": str(amount.units), "asset": amount.asset.code, "scale": amount.asset.scale}


def reference(key: str) -> str:
    """Name a bill by a digest of its key, so that even the opaque study key stays inside."""
    return hashlib.sha256(key.encode()).hexdigest()[:32]


def _priced(charge: Charge) -> dict[str, Any]:
    facts = {"price_list": charge.price_list, "urgency": str(charge.urgency), "hardware": charge.hardware}
    if not charge.discount_percent:
        return {**facts}
    return {**facts, "discount": {"percent": charge.discount_percent, "units": str(charge.discount_units)}}


def _shares(parts: Parts) -> list[dict[str, Any]]:
    return [{"party": party, "account": account, "units": str(part.units)} for party, account, part in parts]
