"""Settlement batches: a signed Merkle root over the transfers since the last, and proof that one is among them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from btt_bridge.database import moment_text, reading
from btt_bridge.errors import SignatureError, UnknownError
from btt_bridge.ledger import merkle
from btt_bridge.ledger.book import Ledger
from btt_bridge.ledger.schema import batch_table, transfer_table
from btt_bridge.records import BatchRoot
from btt_bridge.signing import Signer, verify

#: What the signature says it is over.
KIND = "btt.settlement-batch"


@dataclass(frozen=True, slots=True)
class Batch:
    """A range of transfers under one signed root."""

    id: int
    first_transfer: int
    last_transfer: int
    root: bytes
    envelope: Mapping[str, str]

    @property
    def told(self) -> BatchRoot:
        """What anybody else is told of it."""
        return BatchRoot(self.envelope["key"], self.id, self.root, self.last_transfer - self.first_transfer + 1)


@dataclass(frozen=True, slots=True)
class Proof:
    """That one transfer is in a batch; it convinces whoever knows the signer's public key."""

    batch: Batch
    transfer: int
    #: The transfer's hash in the chain, which is the leaf.
    leaf: bytes
    siblings: tuple[bytes, ...]


def close(ledger: Ledger, signer: Signer) -> Batch | None:
    """Seal every transfer since the last batch under one signed root; None where there is none."""
    with ledger.extending() as connection:
        newest = connection.execute(select(batch_table).order_by(batch_table.c.id.desc()).limit(1)).first()
        first = newest.last_transfer + 1 if newest else 1
        leaves = _leaves(connection, first, None)
        if not leaves:
            return None
        batch, last, root = (newest.id + 1 if newest else 1), first + len(leaves) - 1, merkle.root(leaves)
        at = ledger.clock.now()
        body = statement(batch, first, last, root, newest.root if newest else b"", moment_text(at))
        envelope = signer.sign(KIND, body)
        row = {"id": batch, "first_transfer": first, "last_transfer": last, "root": root, "at": at}
        connection.execute(insert(batch_table).values(**row, envelope=json.dumps(envelope)))
    return Batch(batch, first, last, root, envelope)


def close_due(ledger: Ledger, signer: Signer, every: timedelta) -> Batch | None:
    """Close a batch where the last is at least `every` old, or there is none yet."""
    with reading(ledger.engine) as connection:
        last = connection.execute(select(batch_table.c.at).order_by(batch_table.c.id.desc()).limit(1)).scalar()
    return close(ledger, signer) if last is None or ledger.clock.now() - last >= every else None


def statement(batch: int, first: int, last: int, root: bytes, previous: bytes, at: str) -> dict[str, Any]:
    """Return what is signed: the range, its root, and the root before it, so that batches form a chain too."""
    return {
        "batch": batch,
        "first_transfer": first,
        "last_transfer": last,
        "root": root.hex(),
        "previous_root": previous.hex(),
        "at": at,
    }


def newest(ledger: Ledger, limit: int) -> list[Batch]:
    """Return the batches that were closed last, newest first."""
    query = select(batch_table).order_by(batch_table.c.id.desc()).limit(limit)
    with reading(ledger.engine) as connection:
        return [batch(row) for row in connection.execute(query)]


def sealed(ledger: Ledger, after: int = 0, limit: int = 1000) -> list[Batch]:
    """Return the batches after a number, oldest first."""
    query = select(batch_table).where(batch_table.c.id > after).order_by(batch_table.c.id).limit(limit)
    with reading(ledger.engine) as connection:
        return [batch(row) for row in connection.execute(query)]


def prove(ledger: Ledger, transfer: int) -> Proof:
    """Return the proof that a transfer is in its batch; raise UnknownError where no batch holds it yet."""
    with reading(ledger.engine) as connection:
        row = connection.execute(
            select(batch_table)
            .where(batch_table.c.first_transfer <= transfer, batch_table.c.last_transfer >= transfer)
            .limit(1)
        ).first()
        if row is None:
            raise UnknownError("no settlement batch holds this transfer")
        leaves = _leaves(connection, row.first_transfer, row.last_transfer)
    index = transfer - row.first_transfer
    return Proof(batch(row), transfer, leaves[index], tuple(merkle.path(leaves, index)))


def check(proof: Proof, public: str) -> None:
    """Raise SignatureError unless `public` (hex) signed a batch that holds the proof's transfer."""
    body = verify(proof.batch.envelope, KIND, public)
    size = body["last_transfer"] - body["first_transfer"] + 1
    index = proof.transfer - body["first_transfer"]
    if not merkle.includes(bytes.fromhex(body["root"]), size, index, proof.leaf, proof.siblings):
        raise SignatureError("the path does not lead from this transfer to the signed root")


def written(proof: Proof) -> dict[str, Any]:
    """Return a proof as JSON that can travel: `check` needs nothing else but the key."""
    return {
        "transfer": proof.transfer,
        "leaf": proof.leaf.hex(),
        "siblings": [sibling.hex() for sibling in proof.siblings],
        "batch": dict(proof.batch.envelope),
    }


def read(body: Mapping[str, Any], public: str) -> Proof:
    """Return the proof that `written` wrote, checked; raise SignatureError where it proves nothing.

    What it says of its batch is read from the signed envelope alone.
    """
    try:
        envelope = {name: str(body["batch"][name]) for name in ("kind", "payload", "key", "signature")}
        told = verify(envelope, KIND, public)
        batch = Batch(
            told["batch"], told["first_transfer"], told["last_transfer"], bytes.fromhex(told["root"]), envelope
        )
        siblings = tuple(bytes.fromhex(sibling) for sibling in body["siblings"])
        proof = Proof(batch, int(body["transfer"]), bytes.fromhex(body["leaf"]), siblings)
    except (KeyError, TypeError, ValueError):
        raise SignatureError("this is not a proof") from None
    check(proof, public)
    return proof


def _leaves(connection: Connection, first: int, last: int | None) -> list[bytes]:
    query = select(transfer_table.c.hash).where(transfer_table.c.id >= first).order_by(transfer_table.c.id)
    if last is not None:
        query = query.where(transfer_table.c.id <= last)
    return list(connection.execute(query).scalars())


def batch(row: Row[Any]) -> Batch:
    """Return the batch that a row is of."""
    return Batch(row.id, row.first_transfer, row.last_transfer, row.root, json.loads(row.envelope))
