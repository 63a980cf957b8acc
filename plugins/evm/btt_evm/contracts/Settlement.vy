# pragma version 0.4.3
# pragma evm-version cancun
"""
@title Settlement of batches
@license Apache-2.0
@notice The poster brings a batch: the root of its Merkle tree and what it pays. For the time of the dispute window the
        guardian can void it, which returns the tokens; after that it stands for ever, and each payout in it is claimed
        once, by its proof. A batch that pays nothing anchors a root of the books.
"""

from ethereum.ercs import IERC20

import merkle

WINDOW_SECONDS_MAX: constant(uint256) = 30 * 86400

struct Batch:
    root: bytes32
    # Leaves of the tree.
    size: uint256
    # Units that the batch still holds.
    units: uint256
    # Until then it can be voided, from then on it is claimed.
    settles_at: uint256
    funder: address
    voided: bool

event Posted:
    batch: indexed(bytes32)
    root: bytes32
    size: uint256
    units: uint256
    settles_at: uint256

event Voided:
    batch: indexed(bytes32)

event Claimed:
    batch: indexed(bytes32)
    index: uint256
    account: indexed(address)
    units: uint256

event Appointed:
    poster: indexed(address)
    guardian: indexed(address)

token: public(immutable(IERC20))
# Appoints poster and guardian, and can do nothing else.
governance: public(immutable(address))
window_seconds: public(immutable(uint256))
poster: public(address)
guardian: public(address)
batches: public(HashMap[bytes32, Batch])
claimed: public(HashMap[bytes32, HashMap[uint256, bool]])
# What all batches together hold; the contract never holds less.
held: public(uint256)


@deploy
def __init__(_token: address, _governance: address, _poster: address, _guardian: address, _window_seconds: uint256):
    assert _token.is_contract, "there is no token"
    assert _governance != empty(address), "nobody governs"
    assert _window_seconds > 0 and _window_seconds <= WINDOW_SECONDS_MAX, "window out of range"
    token = IERC20(_token)
    governance = _governance
    window_seconds = _window_seconds
    self._appoint(_poster, _guardian)


@external
def appoint(_poster: address, _guardian: address):
    """
    @notice Replace who posts and who voids; batches that were posted before stay what they are
    """
    assert msg.sender == governance, "only governance appoints"
    self._appoint(_poster, _guardian)


@external
def post(batch: bytes32, root: bytes32, size: uint256, units: uint256):
    """
    @notice Bring a batch, with the tokens that it pays, taken from the poster by allowance
    @param batch Its name, never used before, not even by a batch that was voided
    """
    assert msg.sender == self.poster, "only the poster posts"
    assert self.batches[batch].funder == empty(address), "this batch was posted before"
    assert batch != empty(bytes32) and root != empty(bytes32), "a batch has a name and a root"
    assert size > 0 and size <= merkle.SIZE_MAX, "size out of range"
    settles_at: uint256 = block.timestamp + window_seconds
    self.batches[batch] = Batch(
        root=root, size=size, units=units, settles_at=settles_at, funder=msg.sender, voided=False
    )
    self.held += units
    log Posted(batch=batch, root=root, size=size, units=units, settles_at=settles_at)
    if units > 0:
        assert extcall token.transferFrom(msg.sender, self, units), "the tokens did not come"


@external
def void(batch: bytes32):
    """
    @notice Undo a batch within its dispute window, and return its tokens to who brought them
    """
    assert msg.sender == self.guardian, "only the guardian voids"
    found: Batch = self.batches[batch]
    assert found.funder != empty(address), "there is no such batch"
    assert not found.voided, "this batch was voided before"
    assert block.timestamp < found.settles_at, "the dispute window is over"
    self.batches[batch].voided = True
    self.batches[batch].units = 0
    self.held -= found.units
    log Voided(batch=batch)
    if found.units > 0:
        assert extcall token.transfer(found.funder, found.units), "the tokens did not go"


@external
def claim(
    batch: bytes32, index: uint256, account: address, units: uint256, siblings: DynArray[bytes32, merkle.DEPTH]
):
    """
    @notice Pay what a batch says is due to an account; anybody may ask for it, and only the account gets it
    @param index The place of the payout among the leaves
    @param siblings The path from the payout to the root
    """
    assert self._settled(batch), "the batch does not stand"
    assert not self.claimed[batch][index], "this payout was claimed before"
    assert account != empty(address) and account != self, "nobody is paid"
    found: Batch = self.batches[batch]
    leaf: Bytes[128] = abi_encode(batch, index, account, units)
    assert merkle._includes(found.root, found.size, index, leaf, siblings), "the proof does not hold"
    assert units > 0 and units <= found.units, "more than the batch holds"
    self.claimed[batch][index] = True
    self.batches[batch].units = found.units - units
    self.held -= units
    log Claimed(batch=batch, index=index, account=account, units=units)
    assert extcall token.transfer(account, units), "the tokens did not go"


@external
@view
def settled(batch: bytes32) -> bool:
    """
    @notice Say whether a batch stands: it was posted, not voided, and its dispute window is over
    """
    return self._settled(batch)


@external
@view
def proves(batch: bytes32, index: uint256, leaf: Bytes[128], siblings: DynArray[bytes32, merkle.DEPTH]) -> bool:
    """
    @notice Say whether a leaf is in a batch that stands: a payout, or a transfer's hash under an anchored root
    """
    found: Batch = self.batches[batch]
    return self._settled(batch) and merkle._includes(found.root, found.size, index, leaf, siblings)


@internal
@view
def _settled(batch: bytes32) -> bool:
    found: Batch = self.batches[batch]
    return found.funder != empty(address) and not found.voided and block.timestamp >= found.settles_at


@internal
def _appoint(_poster: address, _guardian: address):
    assert _poster != empty(address) and _guardian != empty(address), "nobody is appointed"
    assert _poster != _guardian, "who posts cannot also judge"
    self.poster = _poster
    self.guardian = _guardian
    log Appointed(poster=_poster, guardian=_guardian)
