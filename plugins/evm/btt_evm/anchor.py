"""The roots of the book on a chain: each sealed batch once, so that nobody can rewrite a book and seal it again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from btt_bridge.errors import KeyConflictError
from btt_bridge.ledger.batches import Batch, Proof
from btt_bridge.signing import canonical
from btt_evm.node import Node
from btt_evm.rail import Posted


class Standing(StrEnum):
    """How an anchored batch stands."""

    ABSENT = "absent"
    DISPUTABLE = "disputable"  # its dispute window is open
    STANDS = "stands"
    VOID = "void"


@dataclass(frozen=True)
class Anchor:
    """The settlement contract of BTT as a notary: batches that pay nothing."""

    node: Node

    def post(self, batch: Batch) -> str:
        """Post a sealed batch's root and return the transaction's hash, "" where it is there already.

        Raises KeyConflictError where the chain holds another root for this batch of this signer's book.
        """
        found = self._posted(batch, None)
        if not found.there:
            call = self._contract.functions.post(name(batch), batch.root, _size(batch), 0)
            return self.node.transact(f"anchor-{name(batch).hex()}", call)
        if (found.root, found.size) != (batch.root, _size(batch)):
            raise KeyConflictError("the chain holds another root for this batch: the book is not the one it was")
        return ""

    def standing(self, batch: Batch) -> Standing:
        """Say how a batch stands in blocks that are deep enough; raise KeyConflictError as `post` does."""
        deep = self.node.deep()
        found = self._posted(batch, deep)
        if not found.there:
            return Standing.ABSENT
        if found.root != batch.root:
            raise KeyConflictError("the chain holds another root for this batch: the book is not the one it was")
        if found.voided:
            return Standing.VOID
        settled = self.node.read(self._contract.functions.settled(name(batch)), deep)
        return Standing.STANDS if settled else Standing.DISPUTABLE

    def proves(self, proof: Proof) -> bool:
        """Say whether the chain itself finds a transfer in its batch, in blocks that are deep enough.

        It is asked with the number of the batch, the transfer's hash and the path alone: whether the batch was signed
        is what `ledger.batches.check` says.
        """
        batch = proof.batch
        index = proof.transfer - batch.first_transfer
        call = self._contract.functions.proves(name(batch), index, proof.leaf, list(proof.siblings))
        return bool(self.node.read(call, self.node.deep()))

    @property
    def _contract(self):  # type: ignore[no-untyped-def]  # web3 makes its contracts' methods as it goes
        return self.node.contract("Settlement", self.node.chain.settlement())

    def _posted(self, batch: Batch, block: int | None) -> Posted:
        return Posted(*self.node.read(self._contract.functions.batches(name(batch)), block))


def name(batch: Batch) -> bytes:
    """Return how the contract knows a batch of the book that a signer keeps."""
    return hashlib.sha256(canonical(["btt.settlement-batch", batch.envelope["key"], batch.id])).digest()


def _size(batch: Batch) -> int:
    return batch.last_transfer - batch.first_transfer + 1
