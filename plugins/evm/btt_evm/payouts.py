"""A message's orders as the leaves of trees: one batch for each asset, named by the message, made once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode

from btt_bridge.errors import InvalidAmountError, RefusedError
from btt_bridge.ledger import merkle
from btt_bridge.money import Asset
from btt_bridge.records import PaymentOrder
from btt_bridge.signing import canonical
from btt_evm.place import Chain

_MESSAGE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Payout:
    """One leaf: what is due to whom."""

    #: Its place in the batch.
    index: int
    account: str
    #: Of the token.
    units: int
    order: PaymentOrder
    #: Its place in the message.
    position: int


@dataclass(frozen=True)
class Batch:
    """The payouts of one message in one asset."""

    asset: Asset
    #: 32 bytes.
    name: bytes
    payouts: tuple[Payout, ...]

    @property
    def units(self) -> int:
        return sum(payout.units for payout in self.payouts)

    @property
    def root(self) -> bytes:
        return merkle.root(self._leaves())

    def leaf(self, payout: Payout) -> bytes:
        """Return what the contract hashes as a leaf."""
        return encode(
            ["bytes32", "uint256", "address", "uint256"], [self.name, payout.index, payout.account, payout.units]
        )

    def siblings(self, payout: Payout) -> list[bytes]:
        """Return the path from a payout to the root."""
        return merkle.path(self._leaves(), payout.index)

    def _leaves(self) -> list[bytes]:
        return [self.leaf(payout) for payout in self.payouts]


@dataclass(frozen=True, slots=True)
class Posted:
    """How the contract knows a batch."""

    root: bytes
    size: int
    units: int
    settles_at: int
    funder: str
    voided: bool

    @property
    def there(self) -> bool:
        return int(self.funder, 16) != 0


def batches(chain: Chain, message: str, orders: Sequence[PaymentOrder]) -> list[Batch]:
    """Return the batches of a message, in the order in which its assets come.

    Raises RefusedError for a message or an order that cannot be, and UnknownError for an asset or an account that the
    chain does not know.
    """
    if not _MESSAGE.fullmatch(message):
        raise RefusedError("a message is named by at most 64 letters, digits and hyphens")
    if not orders or len({order.id for order in orders}) != len(orders):
        raise RefusedError("a message holds at least one order, and each once")
    grouped: dict[Asset, list[Payout]] = {}
    for position, order in enumerate(orders):
        asset = order.amount.asset
        units = chain.token_units(order.amount)
        if not units:
            raise InvalidAmountError
        group = grouped.setdefault(asset, [])
        group.append(Payout(len(group), chain.payee(order.creditor.number), units, order, position))
    return [Batch(asset, name(message, asset), tuple(payouts)) for asset, payouts in grouped.items()]


def name(message: str, asset: Asset) -> bytes:
    """Return how the contract knows a message's batch in one asset."""
    return hashlib.sha256(canonical(["btt.payment-batch", message, str(asset)])).digest()
