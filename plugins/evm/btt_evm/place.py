"""The folder that a chain is worked from: which node, which contracts, whose key."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import yaml
from eth_utils.address import is_checksum_formatted_address, is_same_address, to_checksum_address

from btt_bridge.errors import ConfigurationError, MalformedError, MappingError, UnknownError
from btt_bridge.mappings import read, violations
from btt_bridge.money import BTT, Amount, Asset
from btt_evm.durable import write

#: The file in the folder that says everything below.
FILE: Final = "chain.yaml"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The contract that settles an asset."""

    address: str
    #: Of its token; an asset has as many decimal places or fewer.
    decimals: int


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain, reached through a node, and what of ours is on it."""

    url: str
    chain_id: int
    #: How many blocks lie on top of one that is believed.
    confirmations: int
    #: A file with 32 secret bytes.
    key: Path
    token: str = ""
    vesting: str = ""
    settlements: Mapping[Asset, Settlement] = field(default_factory=dict)
    #: Address by account number, for participants whose accounts are not named by their address.
    accounts: Mapping[str, str] = field(default_factory=dict)
    #: Address by holder of the book, as treasury:main: what it burns on the chain is burned in the book.
    wallets: Mapping[str, str] = field(default_factory=dict)
    #: The first block in which anything of ours can be.
    first_block: int = 0

    def settlement(self, asset: Asset = BTT) -> str:
        """Return the address of the contract that settles an asset; raise UnknownError where there is none."""
        return self._settlement(asset).address

    def token_units(self, amount: Amount) -> int:
        """Return an amount in units of the token that stands for its asset."""
        return int(amount.units * 10 ** (self._settlement(amount.asset).decimals - amount.asset.scale))

    def payee(self, number: str) -> str:
        """Return the address that an account number means; raise UnknownError where it means none."""
        try:
            return address(self.accounts.get(number, number))
        except MalformedError:
            raise UnknownError("an account to be paid has no address on this chain") from None

    def _settlement(self, asset: Asset) -> Settlement:
        if asset not in self.settlements:
            raise UnknownError(f"nothing settles {asset} on this chain")
        return self.settlements[asset]


def address(text: str) -> str:
    """Return an address in the spelling of ERC-55; raise MalformedError for what is none, or is misspelled."""
    try:
        checked = str(to_checksum_address(text))
    except ValueError:
        raise MalformedError("this is no address") from None
    # One letter of the wrong case is how a slip of the pen shows.
    if is_checksum_formatted_address(text) and checked != text:
        raise MalformedError("the letters of this address do not agree with its digits (ERC-55)")
    if is_same_address(checked, "0x" + "00" * 20):
        raise MalformedError("nobody has this address")
    return checked


def load(folder: Path) -> Chain:
    """Return what a folder says; raise MappingError with file and line."""
    path = folder / FILE
    if not path.is_file():
        raise ConfigurationError(f"there is no {FILE} here", advice="btt-evm deploy writes one.")
    source = read(path)
    if wrong := violations(source, json.loads(files(__package__).joinpath("chain.schema.json").read_text())):
        raise wrong[0]
    try:
        return _chain(source.body, folder)
    except MalformedError as problem:
        raise MappingError(str(problem), file=str(path)) from None


def save(folder: Path, chain: Chain) -> None:
    """Write what `load` reads."""
    relative = chain.key.relative_to(folder) if chain.key.is_relative_to(folder) else chain.key
    body: dict[str, Any] = {
        "url": chain.url,
        "chain_id": chain.chain_id,
        "confirmations": chain.confirmations,
        "key": str(relative),
        "settlements": [
            {"asset": asset.code, "scale": asset.scale, "address": found.address, "decimals": found.decimals}
            for asset, found in chain.settlements.items()
        ],
        "accounts": dict(chain.accounts),
        "wallets": dict(chain.wallets),
        "first_block": chain.first_block,
    }
    body |= {name: found for name, found in (("token", chain.token), ("vesting", chain.vesting)) if found}
    write(folder / FILE, yaml.safe_dump(body, sort_keys=False).encode())


def _chain(body: Mapping[str, Any], folder: Path) -> Chain:
    listed = body.get("settlements", [])
    settlements = {
        Asset(one["asset"], one["scale"]): Settlement(address(one["address"]), one["decimals"]) for one in listed
    }
    if any(found.decimals < asset.scale for asset, found in settlements.items()):
        raise MalformedError("a token has fewer decimal places than its asset")
    if len({asset.code for asset in settlements}) != len(listed):
        raise MalformedError("an asset is settled twice")
    wallets = {holder: address(found) for holder, found in body.get("wallets", {}).items()}
    if len(set(wallets.values())) != len(wallets):
        raise MalformedError("two holders have one wallet")
    return Chain(
        url=body["url"],
        chain_id=body["chain_id"],
        confirmations=body["confirmations"],
        key=folder / body["key"],
        token=address(body["token"]) if "token" in body else "",
        vesting=address(body["vesting"]) if "vesting" in body else "",
        settlements=settlements,
        accounts={number: address(found) for number, found in body.get("accounts", {}).items()},
        wallets=wallets,
        first_block=body.get("first_block", 0),
    )
