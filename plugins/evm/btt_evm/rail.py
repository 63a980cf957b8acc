"""The EVM rail: a message is a batch that is posted once, stands after its dispute window, is paid by proof."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from btt_bridge import log
from btt_bridge.durable import sync_folder
from btt_bridge.errors import DeliveryRefusedError, KeyConflictError, RefusedError
from btt_bridge.money import BTT, Amount, Asset
from btt_bridge.records import (
    Anchored,
    BankAccount,
    BatchRoot,
    Burn,
    Confirmation,
    Outcome,
    PaymentOrder,
    Statement,
)
from btt_evm import durable, place, supply
from btt_evm.anchor import Anchor
from btt_evm.node import Node
from btt_evm.payouts import Batch, Payout, Posted, batches

_log = log.logger("settle")


class EvmRail:
    """A settlement rail of one folder: `chain.yaml` says which chain, `messages` and `paid` remember the orders.

    Nothing here decides whether something was paid: the contract does, by the names that messages give to batches.
    `submit` may be called as often as it likes, and does whatever is next: bring the batch, or claim what it pays.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.chain = place.load(self.folder)

    @cached_property
    def node(self) -> Node:
        """Our node; first asked when it is needed, so that a bridge starts without it."""
        return Node(self.chain, self.folder)

    def submit(self, message: str, orders: Sequence[PaymentOrder], at: datetime) -> None:
        """Bring a message's batches to the chain once, and claim their payouts once they stand."""
        made = batches(self.chain, message, orders)
        with durable.locked(self.folder / ".messages.lock"):
            body = {"at": at.isoformat(), "orders": [_plain(order) for order in orders], "acknowledged": []}
            for path in (self._file(message, "paid"), self._file(message)):
                if (kept := durable.read(path)) is not None:
                    if kept["orders"] != body["orders"]:
                        raise KeyConflictError("this message held other orders before")
                    break
            else:
                durable.write_body(self._file(message), body)
        if not self._file(message, "paid").exists():
            for batch in made:
                self._advance(batch)

    def statements(self) -> Sequence[Statement]:
        """Say of each order, in a statement of its own, that it was paid or is void, once that is deep enough."""
        deep, found = None, []
        for path in sorted((self.folder / "messages").glob("*.json")):
            kept = durable.read(path)
            if kept is None:  # it was acknowledged meanwhile
                continue
            deep = self.node.deep() if deep is None else deep
            for batch in batches(self.chain, path.stem, [_order(body) for body in kept["orders"]]):
                for payout, outcome in self._outcomes(batch, kept["acknowledged"], deep):
                    amount = payout.order.amount
                    said = Confirmation(payout.order.id, outcome, Decimal(amount.decimal), amount.asset.code)
                    found.append(Statement(f"{path.stem}.{payout.position}", (said,)))
        return found

    def acknowledge(self, name: str) -> None:
        """Note that an order's outcome is in the books; a message of which all are is not looked at any more."""
        message, _, position = name.rpartition(".")
        if not position.isdigit() or "/" in message:
            raise RefusedError("no statement is named so")
        with durable.locked(self.folder / ".messages.lock"):
            path = self._file(message)
            kept = durable.read(path)
            if kept is None or not int(position) < len(kept["orders"]):
                return
            kept["acknowledged"] = sorted({*kept["acknowledged"], int(position)})
            durable.write_body(path, kept)
            if len(kept["acknowledged"]) == len(kept["orders"]):
                self._file(message, "paid").parent.mkdir(exist_ok=True, mode=0o750)
                path.replace(self._file(message, "paid"))
                sync_folder(path.parent)

    # --- as a chain -------------------------------------------------------------------------------------

    def place(self) -> str:
        """Name the settlement contract of BTT, which keeps the roots; "" where this chain has none."""
        if BTT not in self.chain.settlements:
            return ""
        return f"eip155:{self.chain.chain_id}:{self.chain.settlement()}"

    def anchor(self, root: BatchRoot) -> Anchored:
        """Post the root of a sealed batch of the book, once, and say how it stands."""
        return Anchor(self.node).post(root)

    def burns(self, after: int) -> tuple[int, Sequence[Burn]]:
        """Return what our holders burned in the blocks behind one, and the last block that was looked at."""
        return supply.burns(self.node, after)

    # --- what is asked of it ----------------------------------------------------------------------------

    def batches(self, message: str) -> list[Batch]:
        """Return the batches of a message that was submitted here; none, where none was."""
        kept = durable.read(self._file(message)) or durable.read(self._file(message, "paid"))
        return batches(self.chain, message, [_order(body) for body in kept["orders"]]) if kept else []

    def posted(self, batch: Batch, block: int | None = None) -> Posted:
        """Return a batch as the contract has it."""
        return Posted(*self.node.read(self._contract(batch.asset).functions.batches(batch.name), block))

    def claimed(self, batch: Batch, payout: Payout, block: int | None = None) -> bool:
        """Say whether a payout was paid."""
        return bool(self.node.read(self._contract(batch.asset).functions.claimed(batch.name, payout.index), block))

    def _advance(self, batch: Batch) -> None:
        """Do what is next for a batch: bring it, or claim what it pays; while it can be disputed, wait."""
        contract, found = self._contract(batch.asset), self.posted(batch)
        name = batch.name.hex()
        if not found.there:
            call = contract.functions.post(batch.name, batch.root, len(batch.payouts), batch.units)
            self.node.transact(f"post-{name}", call)
        elif found.root != batch.root:
            raise KeyConflictError("the chain holds other orders under the name of this message")
        elif self.node.read(contract.functions.settled(batch.name)):
            for payout in batch.payouts:
                if not self.claimed(batch, payout):
                    self._claim(batch, payout)

    def _claim(self, batch: Batch, payout: Payout) -> None:
        claim = self._contract(batch.asset).functions.claim
        call = claim(batch.name, payout.index, payout.account, payout.units, batch.siblings(payout))
        try:
            self.node.transact(f"claim-{batch.name.hex()}-{payout.index}", call)
        except DeliveryRefusedError as problem:
            # Somebody else may have claimed it meanwhile; a payee that cannot be paid costs only itself.
            _log.error("claim refused", reason=str(problem), error=type(problem).__name__)

    def _outcomes(self, batch: Batch, acknowledged: Sequence[int], deep: int) -> list[tuple[Payout, Outcome]]:
        found = self.posted(batch, deep)
        waiting = [payout for payout in batch.payouts if payout.position not in acknowledged]
        if not found.there or found.root != batch.root:
            return []
        if found.voided:
            return [(payout, Outcome.RETURNED) for payout in waiting]
        return [(payout, Outcome.BOOKED) for payout in waiting if self.claimed(batch, payout, deep)]

    def _contract(self, asset: Asset) -> Any:
        return self.node.contract("Settlement", self.chain.settlement(asset))

    def _file(self, message: str, folder: str = "messages") -> Path:
        return self.folder / folder / f"{message}.json"


def _plain(order: PaymentOrder) -> dict[str, Any]:
    sides = {"debtor": order.debtor, "creditor": order.creditor}
    accounts = {name: [side.holder, side.number, side.bic] for name, side in sides.items()}
    asset = order.amount.asset
    return {"id": order.id, "units": str(order.amount.units), "asset": asset.code, "scale": asset.scale, **accounts}


def _order(body: Mapping[str, Any]) -> PaymentOrder:
    amount = Amount(int(body["units"]), Asset(body["asset"], body["scale"]))
    return PaymentOrder(body["id"], amount, BankAccount(*body["debtor"]), BankAccount(*body["creditor"]))
