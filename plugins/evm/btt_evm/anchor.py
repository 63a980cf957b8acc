"""The roots of the book on a chain: each sealed batch once, so that nobody can rewrite a book and seal it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from btt_bridge.errors import KeyConflictError
from btt_bridge.ledger.batches import Proof
from btt_bridge.records import Anchored, BatchRoot, RootStanding
from btt_bridge.signing import canonical
from btt_evm.node import Node, talking, transaction_of
from btt_evm.payouts import Posted


@dataclass(frozen=True)
class Anchor:
    """The settlement contract of BTT as a notary: batches that pay nothing."""

    node: Node

    def post(self, root: BatchRoot) -> Anchored:
        """Post a batch's root, unless it is there, and say how it stands in blocks that are deep enough.

        Raises KeyConflictError where the chain holds another root for this batch of this signer's book.
        """
        found = self._posted(root, None)
        if not found.there:
            call = self._contract.functions.post(name(root), root.root, root.size, 0)
            return Anchored(RootStanding.POSTED, self.node.transact(_sent(root), call))
        if (found.root, found.size) != (root.root, root.size):
            raise KeyConflictError("the chain holds another root for this batch: the book is not the one it was")
        return Anchored(self._standing(root), self.node.counted(_sent(root)) or self._transaction(root, found))

    def proves(self, proof: Proof) -> bool:
        """Say whether the chain itself finds a transfer in its batch, in blocks that are deep enough.

        It is asked with the number of the batch, the transfer's hash and the path alone: whether the batch was signed
        is what `ledger.batches.check` says.
        """
        batch = proof.batch
        index = proof.transfer - batch.first_transfer
        call = self._contract.functions.proves(name(batch.told), index, proof.leaf, list(proof.siblings))
        return bool(self.node.read(call, self.node.deep()))

    @property
    def _contract(self):  # type: ignore[no-untyped-def]  # web3 makes its contracts' methods as it goes
        return self.node.contract("Settlement", self.node.chain.settlement())

    def _posted(self, root: BatchRoot, block: int | None) -> Posted:
        return Posted(*self.node.read(self._contract.functions.batches(name(root)), block))

    def _standing(self, root: BatchRoot) -> RootStanding:
        deep = self.node.deep()
        if self._posted(root, deep).voided:
            return RootStanding.VOID
        settled = self.node.read(self._contract.functions.settled(name(root)), deep)
        return RootStanding.STANDS if settled else RootStanding.POSTED

    def _transaction(self, root: BatchRoot, found: Posted) -> str:
        """Return the transaction that posted a root, whoever sent it: the block's time says in which block to look."""
        blocks = self.node.blocks_at(found.settles_at - self.node.read(self._contract.functions.window_seconds()))
        if not blocks:
            return ""
        with talking():
            told = self._contract.events.Posted().get_logs(
                from_block=blocks[0], to_block=blocks[-1], argument_filters={"batch": name(root)}
            )
        return transaction_of(told[0]) if told else ""


def name(root: BatchRoot) -> bytes:
    """Return how the contract knows a batch of the book that a signer keeps."""
    return hashlib.sha256(canonical(["btt.settlement-batch", root.signer, root.batch])).digest()


def _sent(root: BatchRoot) -> str:
    return f"anchor-{name(root).hex()}"
