"""btt-evm: bring the contracts to a chain, pay by them, anchor the book, and look at how all of it stands."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from btt_bridge import config
from btt_bridge.commands import SettingsFile
from btt_bridge.errors import BridgeError, ConfigurationError, DeliveryRefusedError, MalformedError, UnknownError
from btt_bridge.money import BTT, Amount, Asset, exactly, written
from btt_bridge.records import BankAccount, PaymentOrder

if TYPE_CHECKING:
    from btt_bridge.ledger import Ledger
    from btt_evm.payouts import Batch
    from btt_evm.rail import EvmRail

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

Folder = Annotated[Path, typer.Option("--folder", "-f", help="The folder of the chain.")]
HoldersFile = Annotated[Path, typer.Option(help="Who holds what: a YAML file of names and addresses.")]
Window = Annotated[int, typer.Option(min=1, max=30 * 86400, help="How long a batch can be disputed.")]

HERE = Path("chain")


def main() -> None:
    """Run a command; an error the bridge knows is one line and exit status 1."""
    try:
        app()
    except BridgeError as problem:
        _say(str(problem))
        if problem.advice:
            _say(problem.advice)
        sys.exit(1)


# --- once -----------------------------------------------------------------------------------------------


@app.command()
def deploy(
    holders: HoldersFile,
    url: Annotated[str, typer.Option(help="The node's address, http or https; its key, if it asks for one, is in it.")],
    chain_id: Annotated[int, typer.Option(min=1, help="What the node must say of its chain.")],
    confirmations: Annotated[int, typer.Option(min=0, max=100, help="Blocks on top of one that is believed.")] = 12,
    window_seconds: Window = 1800,
    mappings: Annotated[Path, typer.Option(help="The mappings, for the table of allocations.")] = Path("mappings"),
    folder: Folder = HERE,
) -> None:
    """Bring token, vesting and settlement to a chain, and the supply to its holders; broken off, it goes on."""
    from btt_bridge.settle import dated
    from btt_bridge.settle.token import allocation
    from btt_evm import deploy as contracts
    from btt_evm import place
    from btt_evm.node import Node

    folder.mkdir(parents=True, exist_ok=True, mode=0o750)
    chain = place.Chain(url, chain_id, confirmations, folder / "poster.key")
    if (folder / place.FILE).exists():
        chain = replace(place.load(folder), url=url, chain_id=chain_id, confirmations=confirmations)
    table = dated.in_force(allocation.load(mappings / "token" / "allocation"), datetime.now(UTC).date())
    node = Node(chain, folder)
    _say(f"poster      {node.address}")
    done = contracts.deploy(node, table, contracts.load_holders(holders), window_seconds, folder)
    for name, found in (("token", done.token), ("vesting", done.vesting), ("settlement", done.settlement())):
        _say(f"{name:<11} {found}")


@app.command("settle-in")
def settle_in(
    asset: Annotated[str, typer.Argument(help="Code and scale, as CNY/2.")],
    token: Annotated[str, typer.Argument(help="Address of the ERC-20 token that stands for it.")],
    holders: HoldersFile,
    window_seconds: Window = 1800,
    folder: Folder = HERE,
) -> None:
    """Bring a settlement contract for a currency to the chain."""
    from btt_evm import deploy as contracts
    from btt_evm import place

    found = _asset(asset)
    node = _rail(folder).node
    done = contracts.settle_in(
        node, found, place.address(token), contracts.load_holders(holders), window_seconds, folder
    )
    _say(done.settlement(found))


# --- paying ---------------------------------------------------------------------------------------------


@app.command()
def post(
    message: str,
    orders: Annotated[Path, typer.Argument(help="A CSV file: order, account, amount.")],
    asset: str = "BTT/18",
    folder: Folder = HERE,
) -> None:
    """Bring a batch of payments to the chain, once; the same again goes on where it stopped."""
    rail = _rail(folder)
    rail.submit(message, _orders(orders, _asset(asset)), datetime.now(UTC))
    _status(rail)


@app.command()
def void(
    message: str,
    key: Annotated[Path, typer.Option(help="The guardian's key.")],
    folder: Folder = HERE,
) -> None:
    """Undo a batch within its dispute window; its tokens return to who brought them."""
    from btt_evm.node import Node

    rail = _rail(folder)
    if not key.exists():
        raise UnknownError("there is no such key")
    guardian = Node(rail.chain, folder / "guardian", key)
    for batch in _batches(rail, message):
        contract = guardian.contract("Settlement", rail.chain.settlement(batch.asset))
        name = f"void-{batch.name.hex()}"
        guardian.wait(guardian.transact(name, contract.functions.void(batch.name)))
    _status(rail)


@app.command()
def claim(message: str, folder: Folder = HERE) -> None:
    """Claim what a batch pays, once it stands, for whoever it pays."""
    rail = _rail(folder)
    made = _batches(rail, message)
    orders = sorted((payout for batch in made for payout in batch.payouts), key=lambda payout: payout.position)
    rail.submit(message, [payout.order for payout in orders], datetime.now(UTC))
    _status(rail)


@app.command()
def proof(message: str, order: str, folder: Folder = HERE) -> None:
    """Print what a payee needs to claim a payout without us."""
    for batch in _batches(_rail(folder), message):
        for payout in batch.payouts:
            if payout.order.id == order:
                _say(f"batch     0x{batch.name.hex()}")
                _say(f"index     {payout.index}")
                _say(f"account   {payout.account}")
                _say(f"units     {payout.units}")
                _say(f"siblings  [{','.join(f'0x{one.hex()}' for one in batch.siblings(payout))}]")
                return
    raise UnknownError("there is no such order in this message")


@app.command()
def release(folder: Folder = HERE) -> None:
    """Pay out what the schedules of the table have released, to whom it is promised."""
    from btt_evm import vesting

    released = vesting.release(_rail(folder).node)
    for one, sent in released:
        _say(f"grant {one.grant}: {written(one.units, BTT)} to {one.beneficiary} in {sent}")
    if not released:
        _say("Nothing is due.")


# --- the book -------------------------------------------------------------------------------------------


@app.command()
def anchor(settings_file: SettingsFile = None, folder: Folder = HERE) -> None:
    """Post the root of every sealed batch of the book that the chain does not hold, and say how all of them stand."""
    from btt_bridge.ledger import batches
    from btt_bridge.settle import chain

    rail, ledger, after = _rail(folder), _ledger(settings_file), 0
    while found := batches.sealed(ledger, after):
        for batch in found:
            anchored = chain.post(ledger, rail, batch)
            _say(f"batch {batch.id}: {anchored.standing} {anchored.transaction}".rstrip())
        after = found[-1].id


@app.command()
def prove(transfer: int, settings_file: SettingsFile = None, folder: Folder = HERE) -> None:
    """Ask the chain whether a transfer of the book is under an anchored root."""
    from btt_bridge.ledger import batches
    from btt_evm.anchor import Anchor

    found = batches.prove(_ledger(settings_file), transfer)
    if not Anchor(_rail(folder).node).proves(found):
        raise DeliveryRefusedError("the chain holds no root, or none that stands, over this transfer")
    _say(f"transfer {transfer} is in batch {found.batch.id}, whose root stands on the chain")


@app.command()
def burn(settings_file: SettingsFile = None, folder: Folder = HERE) -> None:
    """Burn on the chain, from our own tokens, what the book has burned more."""
    from btt_evm import supply as both

    sent = both.burn(_rail(folder).node, _token(settings_file).supply)
    _say(sent or "The chain has burned as much as the book, or more.")


@app.command()
def burns(
    since: Annotated[int, typer.Option(min=0, help="Look at what was burned behind this block.")] = 0,
    settings_file: SettingsFile = None,
    folder: Folder = HERE,
) -> None:
    """Burn in the book, once, what holders burned on the chain; exit status 1 where some of it cannot be booked."""
    from btt_bridge.settle import chain

    refused = chain.book_burns(_token(settings_file).supply, _rail(folder), since)
    for one in refused:
        _say(f"{one.reference} in block {one.block}: {one.amount} of {one.holder} cannot be booked")
    if refused:
        raise typer.Exit(1)
    _say("All that our holders burned on the chain is booked.")


@app.command()
def status(
    settings_file: SettingsFile = None,
    book: Annotated[bool, typer.Option(help="Compare with the book; without, the chain alone.")] = False,
    folder: Folder = HERE,
) -> None:
    """Say how our batches stand, what we hold, and whether chain and book have burned the same."""
    from btt_evm import supply as both

    rail = _rail(folder)
    _status(rail)
    if book:
        found = both.compare(rail.node, _token(settings_file).supply)
        _say(f"burned on the chain  {written(found.on_chain, BTT)}")
        _say(f"burned in the book   {written(found.in_book, BTT)}")
        if not found.agrees:
            raise ConfigurationError(
                "chain and book have burned different amounts",
                advice="btt-evm burn follows the book, btt-evm burns the chain; what strangers burned is in neither.",
            )


def _status(rail: EvmRail) -> None:
    from btt_evm.place import Chain

    chain, node = rail.chain, rail.node
    assert isinstance(chain, Chain)
    _say(f"chain {chain.chain_id}, believed up to block {node.deep()}, signing as {node.address}")
    for asset, settlement in chain.settlements.items():
        contract = node.contract("Settlement", settlement.address)
        token = node.contract("Token", node.read(contract.functions.token()))
        ours = node.read(token.functions.balanceOf(node.address))
        held = node.read(contract.functions.held())
        scale = 10 ** (settlement.decimals - asset.scale)
        _say(f"{asset.code}: we hold {written(ours // scale, asset)}, batches hold {written(held // scale, asset)}")
    for path in sorted((rail.folder / "messages").glob("*.json")):
        for batch in _batches(rail, path.stem):
            _say(f"{path.stem}: {_described(rail, batch)}")


def _described(rail: EvmRail, batch: Batch) -> str:
    found = rail.posted(batch)
    if not found.there:
        return "not on the chain yet"
    if found.voided:
        return "void"
    paid = sum(rail.claimed(batch, payout) for payout in batch.payouts)
    until = datetime.fromtimestamp(found.settles_at, UTC)
    total = Amount(sum(payout.order.amount.units for payout in batch.payouts), batch.asset)
    return f"{total} in {found.size} payouts, {paid} paid; can be disputed until {until:%Y-%m-%d %H:%M:%S} UTC"


def _rail(folder: Path) -> EvmRail:
    from btt_evm.rail import EvmRail

    return EvmRail(folder)


def _batches(rail: EvmRail, message: str) -> list[Batch]:
    found = rail.batches(message)
    if not found:
        raise UnknownError("there is no such message here")
    return found


def _orders(path: Path, asset: Asset) -> list[PaymentOrder]:
    """Read orders as a person writes them; amounts are in whole units."""
    ours = BankAccount("us", "us")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    try:
        return [
            PaymentOrder(
                row["order"], exactly(Decimal(row["amount"]), asset), ours, BankAccount(row["order"], row["account"])
            )
            for row in rows
        ]
    except (KeyError, TypeError, InvalidOperation):
        raise MalformedError("orders are a CSV file with the columns order, account and amount") from None


def _asset(text: str) -> Asset:
    code, _, scale = text.partition("/")
    if not scale.isdigit():
        raise MalformedError("an asset is a code and a scale, as CNY/2")
    return Asset(code, int(scale))


def _ledger(settings_file: Path | None) -> Ledger:
    from btt_bridge.ledger import Ledger

    return Ledger(config.load(settings_file).ledger_url)


def _token(settings_file: Path | None):  # type: ignore[no-untyped-def]
    from btt_bridge.settle.token import book_of

    return book_of(config.load(settings_file).mappings_dir, _ledger(settings_file))


def _say(line: str) -> None:
    typer.echo(line)


if __name__ == "__main__":
    main()
