"""The book's roots on a chain: posted once each, proven by the contract, and never replaced by another history."""

from __future__ import annotations

import hashlib
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace

import pytest

from btt_bridge.errors import KeyConflictError, UnknownError
from btt_bridge.ledger import Ledger, Move, batches
from btt_bridge.money import CNY, Amount
from btt_bridge.records import RootStanding
from btt_bridge.signing import Signer
from btt_bridge.testing import FakeClock
from btt_evm.anchor import Anchor, name
from tests.plugins.evm.chains import MAPPINGS, Place


@pytest.fixture
def ledger(database_url: str) -> Iterator[Ledger]:
    ledger = Ledger(database_url, FakeClock())
    ledger.open_account("world:cny", CNY, credit_limit=None)
    ledger.open_account("clinic:cny", CNY)
    yield ledger
    ledger.close()


@pytest.fixture
def signer(place: Place) -> Signer:
    return Signer.load(place.folder / "bridge.key")


def grow(ledger: Ledger, signer: Signer, first: int, count: int) -> batches.Batch:
    """Add transfers and seal them."""
    for number in range(first, first + count):
        ledger.post_all("test", f"{number}", [Move("world:cny", "clinic:cny", Amount(number + 1, CNY), "test")], None)
    batch = batches.close(ledger, signer)
    assert batch is not None
    return batch


def test_every_transfer_of_an_anchored_batch_proves_on_chain(place: Place, ledger: Ledger, signer: Signer) -> None:
    """Two batches of the book, of both engines: each transfer proves in its own, before the window closes in none."""
    notary = Anchor(place.node)
    sent = []
    for batch in (grow(ledger, signer, 0, 5), grow(ledger, signer, 5, 1)):
        sent.append(notary.post(batch.told))
        assert notary.post(batch.told) == sent[-1]
    place.mine(2)
    proofs = [batches.prove(ledger, number) for number in range(1, 7)]
    assert [notary.post(batch.told) for batch in batches.sealed(ledger)] == sent
    assert {one.standing for one in sent} == {RootStanding.POSTED}
    assert not any(notary.proves(proof) for proof in proofs)
    place.wait()
    place.mine(2)
    assert [notary.post(batch.told) for batch in batches.sealed(ledger)] == [
        replace(one, standing=RootStanding.STANDS) for one in sent
    ]
    assert all(notary.proves(proof) for proof in proofs)


def test_what_is_not_in_the_book_does_not_prove(place: Place, ledger: Ledger, signer: Signer) -> None:
    """Attack: another leaf, another place, another batch, a path of another transfer, a transfer not sealed."""
    notary = Anchor(place.node)
    one, two = grow(ledger, signer, 0, 4), grow(ledger, signer, 4, 4)
    for batch in (one, two):
        notary.post(batch.told)
    place.wait()
    place.mine(2)
    good, other = batches.prove(ledger, 2), batches.prove(ledger, 3)
    assert notary.proves(good)
    forged = [
        replace(good, leaf=other.leaf),
        replace(good, transfer=3),
        replace(good, transfer=9),
        replace(good, siblings=other.siblings),
        replace(good, siblings=()),
        replace(good, batch=replace(two, first_transfer=1)),
    ]
    assert not any(notary.proves(proof) for proof in forged)
    with pytest.raises(UnknownError):
        batches.prove(ledger, 9)


def test_a_rewritten_book_is_found(place: Place, ledger: Ledger, signer: Signer) -> None:
    """Attack: the owner of the database and of the signing key seals another history under the same number."""
    notary, honest = Anchor(place.node), grow(ledger, signer, 0, 3)
    notary.post(honest.told)
    place.mine(2)
    rewritten = replace(honest, root=bytes(32), envelope=signer.sign(batches.KIND, {"root": "00"}))
    assert name(rewritten.told) == name(honest.told)
    for forged in (rewritten, replace(honest, last_transfer=2)):
        with pytest.raises(KeyConflictError, match="the book is not the one it was"):
            notary.post(forged.told)


def test_a_voided_anchor_proves_nothing(place: Place, ledger: Ledger, signer: Signer) -> None:
    """The guardian found the root wrong within the window; its name is spent."""
    notary, batch = Anchor(place.node), grow(ledger, signer, 0, 3)
    sent = notary.post(batch.told)
    place.void(name(batch.told))
    assert notary.post(batch.told) == sent, "not deep enough yet"
    place.wait()
    place.mine(2)
    assert notary.post(batch.told) == replace(sent, standing=RootStanding.VOID)
    assert not notary.proves(batches.prove(ledger, 1))


def test_the_transaction_is_found_whoever_posted_the_root(place: Place, ledger: Ledger, signer: Signer) -> None:
    """The folder is lost but for its key: the chain itself says in which transaction a root was posted."""
    place.mine(3)
    batch = grow(ledger, signer, 0, 3)
    sent = Anchor(place.node).post(batch.told)
    place.mine(5)
    shutil.rmtree(place.folder / "sent")
    assert Anchor(place.node).post(batch.told) == sent
    assert not (place.folder / "sent").exists(), "nothing was sent again"


def test_a_root_that_was_reorganized_away_is_posted_by_the_same_transaction(
    place: Place, ledger: Ledger, signer: Signer
) -> None:
    """Its block is undone before it was deep: the bytes that are kept go again, and one root is there in the end."""
    notary, batch, before = (
        Anchor(place.node),
        grow(ledger, signer, 0, 3),
        place.provider.ethereum_tester.take_snapshot(),
    )
    sent = notary.post(batch.told)
    place.provider.ethereum_tester.revert_to_snapshot(before)
    assert notary.post(batch.told) == sent
    contract = place.node.contract("Settlement", place.chain.settlement())
    assert len(contract.events.Posted().get_logs(from_block=0)) == 1


def test_nothing_of_the_book_but_roots_is_on_the_chain(place: Place, ledger: Ledger, signer: Signer) -> None:
    """What a batch leaves there: its name, root, size, no units, and until when it can be disputed."""
    batch = grow(ledger, signer, 0, 3)
    Anchor(place.node).post(batch.told)
    contract = place.node.contract("Settlement", place.chain.settlement())
    (log,) = contract.events.Posted().get_logs(from_block=0)
    assert set(log["args"]) == {"batch", "root", "size", "units", "settles_at"}
    assert (log["args"]["root"], log["args"]["size"], log["args"]["units"]) == (batch.root, 3, 0)


def test_the_check_that_the_docs_teach_holds(place: Place, ledger: Ledger, signer: Signer) -> None:
    """The lines of docs/chain.md, run as they stand on a proof and on a forged one; the name as told there."""
    text = (MAPPINGS.parent / "docs" / "chain.md").read_text(encoding="utf-8")
    lines = text.split("nothing else of ours:\n\n")[1].split("\n\n")[0]
    batch = grow(ledger, signer, 0, 7)
    Anchor(place.node).post(batch.told)
    told = hashlib.sha256(f'["btt.settlement-batch","{signer.public}",{batch.id}]'.encode()).digest()
    contract = place.node.contract("Settlement", place.chain.settlement())
    root = place.node.read(contract.functions.batches(told))[0]
    for transfer in range(1, 8):
        proof = batches.prove(ledger, transfer)
        known = {
            "transfer": transfer,
            "first_transfer": 1,
            "last_transfer": 7,
            "siblings": proof.siblings,
            "root": root,
        }
        exec(textwrap.dedent(lines), {**known, "leaf": proof.leaf})
        with pytest.raises(AssertionError):
            exec(textwrap.dedent(lines), {**known, "leaf": bytes(32)})
