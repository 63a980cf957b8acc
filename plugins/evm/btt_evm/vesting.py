"""What the schedules have released and nobody has asked for: anybody may ask, and whom it is promised to gets it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from btt_bridge.errors import ConfigurationError
from btt_evm.node import Node, talking


@dataclass(frozen=True, slots=True)
class Due:
    """What one grant owes its beneficiary now."""

    grant: int
    beneficiary: str
    units: int
    #: With everything that was paid before.
    vested: int


def due(node: Node) -> Iterator[Due]:
    """Yield every grant that owes something at the newest block."""
    functions = _contract(node).functions
    with talking():
        now = node.web3.eth.get_block("latest")["timestamp"]
    for number in range(node.read(functions.count())):
        beneficiary, _, released, *_ = node.read(functions.promise(number))
        vested = node.read(functions.vested(number, now))
        if vested > released:
            yield Due(number, beneficiary, vested - released, vested)


def release(node: Node) -> list[tuple[Due, str]]:
    """Ask for everything that is due; return it with the transactions' hashes."""
    functions = _contract(node).functions
    return [
        (one, node.transact(f"release-{one.grant}-{one.vested}", functions.release(one.grant)))
        for one in list(due(node))
    ]


def _contract(node: Node) -> Any:
    if not node.chain.vesting:
        raise ConfigurationError("there is no vesting on this chain yet")
    return node.contract("Vesting", node.chain.vesting)
