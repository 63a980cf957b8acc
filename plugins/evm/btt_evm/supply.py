"""Chain and book side by side: both begin with the same supply, and what is burned in one is burned in the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from btt_bridge.errors import ConfigurationError
from btt_bridge.money import BTT, Amount
from btt_bridge.records import Burn
from btt_bridge.settle.token.supply import Supply
from btt_evm.deploy import SUPPLY
from btt_evm.node import Node, talking

_NOBODY: Final = "0x" + "00" * 20
#: Nodes limit how many blocks one question may span.
_SPAN_BLOCKS: Final = 2000


@dataclass(frozen=True, slots=True)
class Comparison:
    """What is burned, in units, where all that is left agrees with what was made."""

    on_chain: int
    in_book: int

    @property
    def agrees(self) -> bool:
        return self.on_chain == self.in_book


def compare(node: Node, supply: Supply) -> Comparison:
    """Compare the supplies; raise ConfigurationError where they cannot be of the same token at all."""
    total = node.read(_token(node).functions.totalSupply(), node.deep())
    figures = supply.figures()
    if figures.minted != SUPPLY:
        raise ConfigurationError("the book has made another supply than the chain")
    return Comparison(SUPPLY - total, figures.burned)


def burns(node: Node, after: int) -> tuple[int, list[Burn]]:
    """Return what the holders that the chain's file names burned behind a block, and the last block looked at.

    What our own key burned is left out: it followed the book. So is what strangers burned: the book holds none of it.
    """
    holders = {address: holder for holder, address in node.chain.wallets.items() if address != node.address}
    first = max(after + 1, node.chain.first_block)
    last = min(first + _SPAN_BLOCKS - 1, node.deep())
    if last < first:
        return after, []
    with talking():
        told = (
            _token(node)
            .events.Transfer()
            .get_logs(from_block=first, to_block=last, argument_filters={"receiver": _NOBODY})
        )
    return last, [_burn(one, holders[sender]) for one in told if (sender := one["args"]["sender"]) in holders]


def _burn(told: Any, holder: str) -> Burn:
    # The transaction, and its place in the block.
    reference = f"{bytes(told['transactionHash']).hex()[:48]}-{told['logIndex']}"
    return Burn(told["blockNumber"], reference, holder, Amount(told["args"]["value"], BTT))


def burn(node: Node, supply: Supply) -> str:
    """Burn on the chain, from our own tokens, what the book has burned more; return the transaction, "" for nothing.

    It is asked of the newest block and waits for whatever this key has under way, so that nothing is burned twice.
    """

    def decide() -> tuple[str, Any] | None:
        burned = SUPPLY - node.read(_token(node).functions.totalSupply())
        more = supply.figures().burned - burned
        return (f"burn-{burned}-{more}", _token(node).functions.burn(more)) if more > 0 else None

    return node.transact_alone(decide)


def _token(node: Node) -> Any:
    if not node.chain.token:
        raise ConfigurationError("there is no token on this chain yet")
    return node.contract("Token", node.chain.token)
