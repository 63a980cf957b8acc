# pragma version 0.4.3
# pragma evm-version cancun
"""
@title BTT
@license Apache-2.0
@notice An ERC-20 token of a fixed supply: all of it is made once, with the contract, and after that it can only be
        burned, by who holds it. Nobody can make more, stop a transfer or take what is another's.
"""

from ethereum.ercs import IERC20
from ethereum.ercs import IERC20Detailed

implements: IERC20
implements: IERC20Detailed

name: public(constant(String[32])) = "BTT"
symbol: public(constant(String[32])) = "BTT"
decimals: public(constant(uint8)) = 18

SUPPLY: constant(uint256) = 21_000_000 * 10**18

totalSupply: public(uint256)
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])


@deploy
def __init__(allocator: address):
    """
    @param allocator Who gets the whole supply, to hand it on by the table of allocations
    """
    assert allocator != empty(address), "the supply needs a holder"
    self.totalSupply = SUPPLY
    self.balanceOf[allocator] = SUPPLY
    log IERC20.Transfer(sender=empty(address), receiver=allocator, value=SUPPLY)


@external
def transfer(receiver: address, amount: uint256) -> bool:
    self._move(msg.sender, receiver, amount)
    return True


@external
def transferFrom(owner: address, receiver: address, amount: uint256) -> bool:
    allowed: uint256 = self.allowance[owner][msg.sender]
    assert amount <= allowed, "more than is allowed"
    self.allowance[owner][msg.sender] = allowed - amount
    self._move(owner, receiver, amount)
    return True


@external
def approve(spender: address, amount: uint256) -> bool:
    assert spender != empty(address), "nobody cannot spend"
    self.allowance[msg.sender][spender] = amount
    log IERC20.Approval(owner=msg.sender, spender=spender, value=amount)
    return True


@external
def burn(amount: uint256):
    """
    @notice Destroy tokens of the caller's own, for ever
    """
    assert amount <= self.balanceOf[msg.sender], "more than there is"
    self.balanceOf[msg.sender] -= amount
    self.totalSupply -= amount
    log IERC20.Transfer(sender=msg.sender, receiver=empty(address), value=amount)


@internal
def _move(sender: address, receiver: address, amount: uint256):
    # Burning has a door of its own, so that nobody burns by a slip; the contract itself could never pass tokens on.
    assert receiver != empty(address) and receiver != self, "tokens sent there are lost"
    assert amount <= self.balanceOf[sender], "more than there is"
    self.balanceOf[sender] -= amount
    self.balanceOf[receiver] += amount
    log IERC20.Transfer(sender=sender, receiver=receiver, value=amount)
