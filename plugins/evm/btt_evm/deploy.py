"""The contracts brought to a chain, and the supply handed on by the table of allocations; broken off, it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from btt_bridge.errors import ConfigurationError, MalformedError, MappingError
from btt_bridge.mappings import read
from btt_bridge.money import BTT, Asset
from btt_bridge.settle.splits import WHOLE_BASIS_POINTS
from btt_bridge.settle.token.allocation import Linear, Mining, Ongoing, Release, Table
from btt_evm.node import Node
from btt_evm.place import Chain, Settlement, address, save

#: The supply that the token's contract makes, in units.
SUPPLY: Final = 21_000_000 * 10**BTT.scale
_STRETCHES_MAX: Final = 32
_EVER: Final = 2**256 - 1
_ROLES: Final = ("governance", "guardian")


@dataclass(frozen=True, slots=True)
class Holders:
    """Who holds what on the chain."""

    #: Holds what only votes release, and appoints poster and guardian.
    governance: str
    #: Can void a batch within its dispute window.
    guardian: str
    #: By the name of the allocation, for those that a schedule releases.
    beneficiaries: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Grant:
    """One promise of the vesting contract."""

    allocation: str
    beneficiary: str
    units: int
    #: Months, and what each of them weighs.
    stretches: tuple[tuple[int, int], ...]


def load_holders(path: Path) -> Holders:
    """Return the holders from a YAML file of names and addresses; raise MappingError with file and line."""
    source = read(path)
    if not isinstance(source.body, dict):
        raise MappingError("holders are `name: address` lines", file=str(path), line=1)
    found = {}
    for name, text in source.body.items():
        try:
            found[name] = address(text if isinstance(text, str) else "")
        except MalformedError as problem:
            raise source.error(str(problem), (name,)) from None
    for role in _ROLES:
        if role not in found:
            raise MappingError("is missing", file=str(path), line=1, keyword=role)
    return Holders(found.pop("governance"), found.pop("guardian"), found)


def stretches(release: Release) -> tuple[tuple[int, int], ...]:
    """Return a schedule as the vesting contract keeps it; nothing for what only votes release.

    The contract releases what the weights of the months that are over are of all weights, which is what the book's
    schedules come to, to the unit.
    """
    match release:
        case Linear(months, delay_months):
            delay = ((delay_months, 0),) if delay_months else ()
            return (*delay, (months, 1))
        case Ongoing(points):
            months, rest = divmod(WHOLE_BASIS_POINTS, points)
            return ((months, points), (1, rest)) if rest else ((months, points),)
        case Mining(yearly, _):
            return tuple((12, points) for points in yearly)
        case _:
            return ()


def grants(table: Table, holders: Holders) -> list[Grant]:
    """Return what is promised by schedule; raise ConfigurationError for a table that this token cannot keep."""
    if table.supply != SUPPLY:
        raise ConfigurationError("the table shares out another supply than the token has")
    promised = []
    for one in table.allocations:
        if not (found := stretches(one.release)):
            continue
        if len(found) > _STRETCHES_MAX:
            raise ConfigurationError(f"the schedule of {one.name} has more than {_STRETCHES_MAX} stretches")
        if one.name not in holders.beneficiaries:
            raise ConfigurationError(f"nobody is named to hold {one.name}")
        promised.append(Grant(one.name, holders.beneficiaries[one.name], one.units, found))
    if unknown := sorted(holders.beneficiaries.keys() - {grant.allocation for grant in promised}):
        raise ConfigurationError(f"no schedule of the table releases to {', '.join(unknown)}")
    return promised


def deploy(node: Node, table: Table, holders: Holders, window_seconds: int, folder: Path) -> Chain:
    """Bring everything to the chain, wait until it is there, and write down where; again, it changes nothing.

    Whoever signs gets the supply for a moment, and has nothing left of it at the end.
    """
    promised, steps = grants(table, holders), _Steps(node)
    created = steps.do("create-token", node.creation("Token", node.address))
    token = str(created["contractAddress"])
    vesting = steps.create("Vesting", token)
    settlement = steps.create("Settlement", token, holders.governance, node.address, holders.guardian, window_seconds)
    coin, promises = node.contract("Token", token), node.contract("Vesting", vesting)
    scheduled = sum(grant.units for grant in promised)
    if scheduled:
        steps.do("allow-vesting", coin.functions.approve(vesting, scheduled))
    day = table.effective_from
    for grant in promised:
        start = (day.year, day.month, day.day)
        call = promises.functions.grant(grant.beneficiary, grant.units, *start, list(grant.stretches))
        steps.do(f"grant-{grant.allocation}", call)
    if scheduled < SUPPLY:
        steps.do("hand-over", coin.functions.transfer(holders.governance, SUPPLY - scheduled))
    # What the poster pays out is brought to it first; what it may bring to its own contract needs no second door.
    steps.do("allow-settlement", coin.functions.approve(settlement, _EVER))
    settlements = {**node.chain.settlements, BTT: Settlement(settlement, BTT.scale)}
    first = int(created["blockNumber"])
    chain = replace(node.chain, token=token, vesting=vesting, settlements=settlements, first_block=first)
    save(folder, chain)
    return chain


def settle_in(node: Node, asset: Asset, token: str, holders: Holders, window_seconds: int, folder: Path) -> Chain:
    """Bring a settlement contract for somebody else's ERC-20 token, which stands for an asset, to the chain."""
    steps, coin = _Steps(node, f"-{asset.code.lower()}"), node.contract("Token", token)
    decimals = node.read(coin.functions.decimals())
    if decimals < asset.scale:
        raise ConfigurationError("the token has fewer decimal places than the asset")
    settlement = steps.create("Settlement", token, holders.governance, node.address, holders.guardian, window_seconds)
    steps.do("allow-settlement", coin.functions.approve(settlement, _EVER))
    settlements = {**node.chain.settlements, asset: Settlement(settlement, decimals)}
    chain = replace(node.chain, settlements=settlements)
    save(folder, chain)
    return chain


@dataclass(frozen=True)
class _Steps:
    """Transactions one after another, each under a name, so that a second run finds the first one's."""

    node: Node
    suffix: str = ""

    def create(self, name: str, *arguments: Any) -> str:
        done = self.do(f"create-{name.lower()}", self.node.creation(name, *arguments))
        return str(done["contractAddress"])

    def do(self, name: str, call: Any) -> Mapping[str, Any]:
        return self.node.wait(self.node.transact(f"{name}{self.suffix}", call))
