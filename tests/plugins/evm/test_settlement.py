"""The settlement contract: a root is posted once, stands after its dispute window, and pays each proof once."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import pytest
from eth_abi.abi import encode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from web3.exceptions import ContractLogicError

from btt_bridge.ledger import merkle
from btt_evm import artifacts
from tests.plugins.evm.chains import NOBODY, WINDOW, House

ONE: Final = hashlib.sha256(b"one").digest()
TWO: Final = hashlib.sha256(b"two").digest()
EMPTY: Final = bytes(32)


class Payouts:
    """A batch as its leaves; proofs are made by the ledger's own trees."""

    def __init__(self, name: bytes, *dues: tuple[str, int]) -> None:
        self.name, self.dues = name, dues
        self.leaves = [
            encode(["bytes32", "uint256", "address", "uint256"], [name, index, account, units])
            for index, (account, units) in enumerate(dues)
        ]
        self.root, self.units = merkle.root(self.leaves), sum(units for _, units in dues)

    def post(self, house: House, units: int | None = None) -> None:
        house.post(self.name, self.root, len(self.dues), self.units if units is None else units)

    def claim(self, house: House, due: int, /, **changes: Any) -> Any:
        """Return the call that claims a payout; `changes` are a forger's."""
        account, units = self.dues[due]
        given: dict[str, Any] = {
            "batch": self.name,
            "index": due,
            "account": account,
            "units": units,
            "siblings": merkle.path(self.leaves, due),
        }
        return house.settlement.functions.claim(*{**given, **changes}.values())


@pytest.fixture
def batch(house: House) -> Payouts:
    """Three payouts that stand."""
    one, two, three, *_ = house.others
    made = Payouts(ONE, (one, 10), (two, 20), (three, 30))
    made.post(house)
    house.wait()
    return made


def test_a_batch_is_posted_then_stands_then_pays(house: House) -> None:
    """The life of a batch, with what each step tells, and where the tokens are meanwhile."""
    one, two, stranger, *_ = house.others
    made, functions = Payouts(ONE, (one, 10), (two, 20)), house.settlement.functions
    made.post(house)
    assert not functions.settled(ONE).call()
    assert house.refused(made.claim(house, 0), one) == "the batch does not stand"
    house.wait()
    assert functions.settled(ONE).call()
    (claimed, moved) = house.send(made.claim(house, 0), stranger)
    told = house.settlement.events.Claimed().process_log(claimed)["args"]
    assert (told["batch"], told["index"], told["account"], told["units"]) == (ONE, 0, one, 10)
    assert house.token.events.Transfer().process_log(moved)["args"]["receiver"] == one
    assert (house.balance(one), house.balance(stranger)) == (10, 0)
    assert functions.held().call() == house.balance(house.settlement.address) == 20
    house.send(made.claim(house, 1), two)
    assert functions.held().call() == house.balance(house.settlement.address) == 0


def test_a_claim_is_paid_once(house: House, batch: Payouts) -> None:
    """Attack: the same claim again, by anybody, then and later."""
    house.send(batch.claim(house, 0), house.others[0])
    for who in (house.others[0], house.poster):
        assert house.refused(batch.claim(house, 0), who) == "this payout was claimed before"
    house.wait(365 * 86400)
    assert house.refused(batch.claim(house, 0), house.others[0]) == "this payout was claimed before"


def test_a_proof_of_another_batch_pays_nothing(house: House, batch: Payouts) -> None:
    """Attack: a payout of one batch, with its proof, claimed from another; even where both trees are alike."""
    twin = Payouts(TWO, *batch.dues)
    twin.post(house)
    house.wait()
    for index in range(3):
        foreign = batch.claim(house, index, batch=TWO)
        assert house.refused(foreign, house.others[index]) == "the proof does not hold"
        path = merkle.path(twin.leaves, index)
        assert house.refused(batch.claim(house, index, siblings=path), house.others[0]) == "the proof does not hold"
        house.send(twin.claim(house, index), house.poster)
    assert house.balance(house.settlement.address) == batch.units


def test_forged_claims_pay_nothing(house: House, batch: Payouts) -> None:
    """Attack: another account, more, less, another place, no path, a longer path, a node for a leaf."""
    thief, path = house.others[5], merkle.path(batch.leaves, 0)
    forgeries: list[dict[str, Any]] = [
        {"account": thief},
        {"units": 11},
        {"units": 9},
        {"units": 2**256 - 1},
        {"units": 0},
        {"index": 1},
        {"index": 3},
        {"index": 2**32},
        {"index": 2**256 - 1},
        {"siblings": []},
        {"siblings": path[:-1]},
        {"siblings": [*path, path[0]]},
        {"siblings": path[::-1]},
        {"siblings": [EMPTY] * 32},
    ]
    for forgery in forgeries:
        assert house.refused(batch.claim(house, 0, **forgery), thief) == "the proof does not hold", forgery
    assert house.refused(batch.claim(house, 0, account=NOBODY), thief) == "nobody is paid"
    assert house.refused(batch.claim(house, 0, account=house.settlement.address), thief) == "nobody is paid"
    with pytest.raises(ContractLogicError):
        batch.claim(house, 0, siblings=[EMPTY] * 33).call({"from": thief})
    assert house.balance(thief) == 0
    assert house.balance(house.settlement.address) == batch.units


def test_a_batch_cannot_pay_more_than_it_brought(house: House) -> None:
    """Attack: a poster's tree that promises more than was brought, with another batch's tokens lying there."""
    one, two, *_ = house.others
    honest, short, nothing = Payouts(ONE, (one, 100)), Payouts(TWO, (one, 60), (two, 60)), Payouts(b"3" * 32, (two, 0))
    honest.post(house)
    short.post(house, 100)
    nothing.post(house, 5)
    house.wait()
    house.send(short.claim(house, 0), one)
    assert house.refused(short.claim(house, 1), two) == "more than the batch holds"
    assert house.refused(nothing.claim(house, 0), two) == "more than the batch holds"
    house.send(honest.claim(house, 0), one)
    assert house.settlement.functions.held().call() == house.balance(house.settlement.address) == 45


def test_a_batch_is_posted_once(house: House, batch: Payouts) -> None:
    """Attack: the same name again, with the same root or another, after it stood, and after it was voided."""
    post, before = house.settlement.functions.post, "this batch was posted before"
    for root in (batch.root, TWO):
        assert house.refused(post(ONE, root, 3, 0), house.poster) == before
    Payouts(TWO, (house.others[0], 5)).post(house)
    assert house.refused(post(TWO, TWO, 1, 0), house.poster) == before
    house.send(house.settlement.functions.void(TWO), house.guardian)
    assert house.refused(post(TWO, TWO, 1, 0), house.poster) == before


def test_a_void_returns_everything_and_is_final(house: House) -> None:
    """Within the window the guardian undoes a batch: its tokens return to who brought them, and nothing is claimed."""
    made, functions = Payouts(ONE, (house.others[0], 10)), house.settlement.functions
    made.post(house)
    house.wait(WINDOW - 10)
    (voided, _) = house.send(functions.void(ONE), house.guardian)
    assert house.settlement.events.Voided().process_log(voided)["args"]["batch"] == ONE
    assert (house.balance(house.poster), functions.held().call()) == (10, 0)
    assert house.refused(functions.void(ONE), house.guardian) == "this batch was voided before"
    house.wait()
    assert not functions.settled(ONE).call()
    assert house.refused(made.claim(house, 0), house.others[0]) == "the batch does not stand"


def test_a_void_after_the_window_is_too_late(house: House, batch: Payouts) -> None:
    """Attack: a guardian who takes back what stands, whether it was claimed or not."""
    late = "the dispute window is over"
    assert house.refused(house.settlement.functions.void(ONE), house.guardian) == late
    house.send(batch.claim(house, 0), house.others[0])
    assert house.refused(house.settlement.functions.void(ONE), house.guardian) == late


def test_window_and_claim_never_overlap(house: House) -> None:
    """At each second around the end of the window exactly one of void and claim is possible."""
    made, functions = Payouts(ONE, (house.others[0], 10)), house.settlement.functions
    made.post(house)
    settles_at = functions.batches(ONE).call()[3]
    assert settles_at == house.now() + WINDOW
    house.wait(settles_at - house.now() - 1)
    functions.void(ONE).call({"from": house.guardian})
    assert house.refused(made.claim(house, 0), house.others[0]) == "the batch does not stand"
    house.wait(1)
    assert house.now() == settles_at
    assert house.refused(functions.void(ONE), house.guardian) == "the dispute window is over"
    made.claim(house, 0).call({"from": house.others[0]})


def test_only_whoever_is_appointed_acts(house: House) -> None:
    """Attack: a stranger, or one office in another's place, posts, voids or appoints."""
    functions, stranger = house.settlement.functions, house.others[0]
    Payouts(ONE, (stranger, 10)).post(house)
    for who in (stranger, house.guardian, house.governance):
        assert house.refused(functions.post(TWO, TWO, 1, 0), who) == "only the poster posts"
    for who in (stranger, house.poster, house.governance):
        assert house.refused(functions.void(ONE), who) == "only the guardian voids"
    for who in (stranger, house.poster, house.guardian):
        assert house.refused(functions.appoint(who, stranger), who) == "only governance appoints"


def test_governance_replaces_poster_and_guardian_and_nothing_else(house: House) -> None:
    """A stolen key is taken out of office; what it posted before stays, until the new guardian looks at it."""
    functions, (poster, guardian) = house.settlement.functions, house.others[:2]
    Payouts(ONE, (poster, 10)).post(house)
    (told,) = house.send(functions.appoint(poster, guardian), house.governance)
    args = house.settlement.events.Appointed().process_log(told)["args"]
    assert (args["poster"], args["guardian"]) == (poster, guardian)
    assert house.refused(functions.post(TWO, TWO, 1, 0), house.poster) == "only the poster posts"
    assert house.refused(functions.void(ONE), house.guardian) == "only the guardian voids"
    house.send(functions.void(ONE), guardian)
    assert house.balance(house.poster) == 10
    for pair in ((NOBODY, guardian), (poster, NOBODY)):
        assert house.refused(functions.appoint(*pair), house.governance) == "nobody is appointed"
    assert house.refused(functions.appoint(poster, poster), house.governance) == "who posts cannot also judge"


def test_every_other_refusal_says_why(house: House) -> None:
    """Names, roots, sizes, batches and allowances that are not there; and contracts that could never work."""
    functions = house.settlement.functions
    assert house.refused(functions.post(EMPTY, ONE, 1, 0), house.poster) == "a batch has a name and a root"
    assert house.refused(functions.post(ONE, EMPTY, 1, 0), house.poster) == "a batch has a name and a root"
    for size in (0, 2**32, 2**256 - 1):
        assert house.refused(functions.post(ONE, ONE, size, 0), house.poster) == "size out of range"
    assert house.refused(functions.post(ONE, ONE, 1, 1), house.poster) == "more than is allowed"
    house.send(house.token.functions.approve(house.settlement.address, 2**256 - 1), house.poster)
    assert house.refused(functions.post(ONE, ONE, 1, 1), house.poster) == "more than there is"
    assert house.refused(functions.void(ONE), house.guardian) == "there is no such batch"
    token, roles = house.token.address, (house.governance, house.poster, house.guardian)
    cases = [
        ((house.others[0], *roles, WINDOW), "there is no token"),
        ((token, NOBODY, house.poster, house.guardian, WINDOW), "nobody governs"),
        ((token, *roles, 0), "window out of range"),
        ((token, *roles, 30 * 86400 + 1), "window out of range"),
        ((token, house.governance, house.poster, house.poster, WINDOW), "who posts cannot also judge"),
    ]
    for arguments, reason in cases:
        with pytest.raises(ContractLogicError, match=reason):
            house.create("Settlement", *arguments, by=house.owner)


def test_a_huge_amount_overflows_nothing(house: House) -> None:
    """Attack: units so large that a sum would wrap around; Vyper's arithmetic reverts before anything moves."""
    house.post(ONE, ONE, 1, 5)
    call = house.settlement.functions.post(TWO, TWO, 1, 2**256 - 1)
    with pytest.raises(ContractLogicError):
        call.call({"from": house.poster})


def test_tokens_are_moved_after_everything_is_written() -> None:
    """A token that calls back finds the books closed: in each door the call outside comes last."""
    for contract, doors in (("Settlement", ("post", "void", "claim")), ("Vesting", ("grant", "release"))):
        source = (artifacts._SOURCES / f"{contract}.vy").read_text()
        for door in doors:
            body = source.split(f"def {door}(")[1].split("\n@external")[0]
            before, _, after = body.partition("extcall token")
            assert "self." in before
            assert after
            assert "self." not in after.partition("\n")[2]
            assert "extcall" not in after


# --- the ledger's trees on the chain --------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared() -> House:
    """One chain for many examples: each posts under a name of its own."""
    return House()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33])
def test_every_leaf_of_the_ledger_s_trees_proves_on_chain(shared: House, size: int) -> None:
    """RFC 6962 trees of odd and even sizes: the ledger's path holds for its leaf and for no other."""
    name = hashlib.sha256(b"tree %d" % size).digest()
    leaves = [hashlib.sha256(b"%d of %d" % (index, size)).digest() for index in range(size)]
    shared.post(name, merkle.root(leaves), size, 0)
    shared.wait()
    proves = shared.settlement.functions.proves
    for index in range(size):
        path = merkle.path(leaves, index)
        assert proves(name, index, leaves[index], path).call()
        assert not proves(name, (index + 1) % size, leaves[index], path).call() or size == 1
        assert not proves(name, index, leaves[index - 1] if size > 1 else b"", path).call()


@given(data=st.data(), size=st.integers(1, 40))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_chain_and_ledger_judge_every_proof_alike(shared: House, data: st.DataObject, size: int) -> None:
    """Whatever is asked, right or forged, of any tree: the contract says what the ledger's own check says."""
    leaves = [hashlib.sha256(bytes([index])).digest() for index in range(size)]
    name = hashlib.sha256(b"alike %d" % size).digest()
    if not shared.settlement.functions.settled(name).call():
        shared.post(name, merkle.root(leaves), size, 0)
        shared.wait()
    index = data.draw(st.integers(0, size - 1))
    path = merkle.path(leaves, index)
    asked = data.draw(st.one_of(st.just(index), st.integers(0, size + 2)))
    leaf = data.draw(st.sampled_from([leaves[index], leaves[0], b"", path[0] if path else EMPTY]))
    siblings = data.draw(st.sampled_from([path, path[:-1], path[::-1], [*path, ONE], [ONE, *path[1:]]]))
    expected = merkle.includes(merkle.root(leaves), size, asked, leaf, siblings)
    assert shared.settlement.functions.proves(name, asked, leaf, siblings).call() == expected


def test_an_inner_node_never_passes_for_a_leaf(house: House) -> None:
    """Attack: the second preimage that trees without separated hashes allow."""
    leaves = [bytes([index]) * 32 for index in range(4)]
    pair = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves[:2]]
    inner, right = b"".join(pair), merkle.root(leaves[2:])
    house.post(ONE, merkle.root(leaves), 4, 0)
    house.post(TWO, merkle.root(leaves), 2, 0)
    house.wait()
    for name in (ONE, TWO):
        assert not house.settlement.functions.proves(name, 0, inner, [right]).call()
