"""Chain and book side by side: both begin with the same supply, and what is burned in one is burned in the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from btt_bridge.errors import ConfigurationError
from btt_bridge.ledger import Posting
from btt_bridge.money import BTT, Amount
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


@dataclass(frozen=True, slots=True)
class Burn:
    """Tokens that somebody burned on the chain."""

    transaction: str
    #: Its place in the block.
    log: int
    account: str
    units: int

    @property
    def reference(self) -> str:
        """Names it in the book."""
        return f"{self.transaction.removeprefix('0x')[:48]}-{self.log}"


def compare(node: Node, supply: Supply) -> Comparison:
    """Compare the supplies; raise ConfigurationError where they cannot be of the same token at all."""
    total = node.read(_token(node).functions.totalSupply(), node.deep())
    figures = supply.figures()
    if figures.minted != SUPPLY:
        raise ConfigurationError("the book has made another supply than the chain")
    return Comparison(SUPPLY - total, figures.burned)


def burns(node: Node, since: int = 0) -> Iterator[Burn]:
    """Yield every burn on the chain in blocks that are deep enough, oldest first."""
    deep = node.deep()
    for first in range(since, deep + 1, _SPAN_BLOCKS):
        with talking():
            found = (
                _token(node)
                .events.Transfer()
                .get_logs(
                    from_block=first,
                    to_block=min(first + _SPAN_BLOCKS - 1, deep),
                    argument_filters={"receiver": _NOBODY},
                )
            )
        for one in found:
            yield Burn(
                f"0x{bytes(one['transactionHash']).hex()}",
                one["logIndex"],
                one["args"]["sender"],
                one["args"]["value"],
            )


def book(node: Node, supply: Supply, holders: Mapping[str, str], since: int = 0) -> list[Posting]:
    """Burn in the book, once, what holders have burned on the chain; `holders` are theirs by address.

    What our own key burned is left out: it followed the book.
    """
    return [
        supply.burn(holders[burn.account], burn.reference, Amount(burn.units, BTT))
        for burn in burns(node, since)
        if burn.account in holders and burn.account != node.address
    ]


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
