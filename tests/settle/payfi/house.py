"""A clearing house with three clinics and an insurer, as the tests of PayFi need it."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml

from btt_bridge.ledger import Ledger, audit
from btt_bridge.money import CNY, Amount, Asset
from btt_bridge.records import Confirmation, Outcome
from btt_bridge.settle.payfi import Clearing, PaymentInstruction, participants, policy
from btt_bridge.settle.payfi.netting import Leg
from tests.settle.books import opaque

ROOT: Final = Path(__file__).parents[3]
MAPPINGS: Final = ROOT / "mappings" / "payfi"
EUR: Final = Asset("EUR", 2)
JPY: Final = Asset("JPY", 0)
CREDIT: Final = 100_000

PARTICIPANTS: Final[dict[str, Any]] = {
    "operator": {
        "holder": "Operator",
        "accounts": [
            {"asset": "CNY", "number": "1001", "bic": "EXMPCNB0"},
            {"asset": "EUR", "number": "DE02120300000000202051", "bic": "EXMPDEM0"},
        ],
    },
    "participants": [
        {
            "name": "insurer",
            "holder": "Insurer",
            "references": ["Organization/insurer"],
            "tier": "basic",
            "accounts": [
                {"asset": "CNY", "number": "2001", "credit_units": CREDIT},
                {"asset": "EUR", "number": "DE02500105170137075030", "credit_units": CREDIT},
            ],
        },
        {
            "name": "east",
            "holder": "Clinic East",
            "references": ["Organization/east", "urn:oid:1.2.3|east"],
            "tier": "standard",
            "accounts": [{"asset": "CNY", "number": "3001", "bic": "EXMPCNB0", "credit_units": 5_000}],
        },
        {
            "name": "west",
            "holder": "Clinic West",
            "references": ["Organization/west"],
            "tier": "premium",
            "accounts": [{"asset": "CNY", "number": "4001", "credit_units": 5_000}],
        },
        {
            "name": "berlin",
            "holder": "Praxis Berlin",
            "references": ["Organization/berlin"],
            "tier": "standard",
            "analytics": True,
            "listing": True,
            "accounts": [{"asset": "EUR", "number": "DE02300209000106531065", "bic": "EXMPDEM0"}],
        },
    ],
}


PATIENT: Final = f"person:{opaque('a patient')}"


def directory(folder: Path, body: Any = None) -> participants.Directory:
    """Write participants into a folder and read them as the house does."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "participants.yaml").write_text(yaml.safe_dump(body or PARTICIPANTS))
    return participants.load(folder)


def changed_policy(folder: Path, **changes: Any) -> Path:
    """Write the shipped rules with some of them changed."""
    body = yaml.safe_load((MAPPINGS / "btt-2025.yaml").read_text()) | changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{body['name']}.yaml").write_text(yaml.safe_dump(body))
    return folder


def opened(ledger: Ledger, folder: Path) -> Clearing:
    """Return a clearing house on a ledger, with the shipped rules."""
    clearing = Clearing(ledger, policy.load(MAPPINGS), directory(folder))
    clearing.open()
    return clearing


def payment(
    document: str, units: int, payer: str = "party:insurer", payee: str = "party:east", asset: Asset = CNY
) -> PaymentInstruction:
    return PaymentInstruction(opaque(document), payer, payee, Amount(units, asset))


def said(leg: Leg, outcome: Outcome = Outcome.BOOKED, reason: str = "", **changes: Any) -> Confirmation:
    """What a bank says of a leg's order; `changes` are its mistakes."""
    value = changes.get("value", Decimal(leg.payout.decimal))
    currency = changes.get("currency", leg.payout.asset.code)
    return Confirmation(changes.get("order", leg.order), outcome, value, currency, reason)


def units(clearing: Clearing, account: str) -> int:
    return clearing.ledger.balance(account).units


def assert_sound(clearing: Clearing) -> None:
    """The book holds, and every asset sums to zero."""
    assert audit.verify(clearing.ledger).problem == ""
    assert set(clearing.ledger.trial_balance().values()) <= {0}
