"""`btt-bridge assets`: equipment, property, IP and service rights in shares, and what their use earns."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer

from btt_bridge import config
from btt_bridge.commands import SettingsFile, TakenBack, studies
from btt_bridge.commands.amounts import decimal
from btt_bridge.config import Settings
from btt_bridge.errors import RefusedError
from btt_bridge.ledger import Ledger, Posting
from btt_bridge.money import CURRENCIES, Amount, amount_of, written
from btt_bridge.settle import Cause
from btt_bridge.settle.assets import Assets, Kind, Pool, deed_id, device_key, open_assets
from btt_bridge.settle.token import accounts, open_stakes
from btt_bridge.vault import Vault

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Divide things into shares, trade them, and pay their holders."
)
pool = typer.Typer(no_args_is_help=True, help="Managed pools: money and shares of one thing, owned in units.")
app.add_typer(pool, name="pool")

Holder = Annotated[str, typer.Argument(help="A kind and a name, as hospital:main or investor:anna.")]
DeedId = Annotated[str, typer.Argument(help="The deed, as `list` names it.")]
Reference = Annotated[str, typer.Argument(help="A name of your own; the same name does it once.")]
Number = Annotated[str, typer.Argument(help='Amount, as "1000.00".')]
PoolName = Annotated[str, typer.Argument(metavar="POOL", help="A name of a-z, 0-9 and hyphens.")]
Money = Annotated[str, typer.Option("--money", help="CNY or BTT.")]


@app.command()
def register(
    manufacturer: Annotated[str, typer.Option(help="Manufacturer (0008,0070) of a device.")] = "",
    serial: Annotated[str, typer.Option(help="Device Serial Number (0018,1000) of a device.")] = "",
    title: Annotated[str, typer.Option(help="What names anything else: a land register entry, a patent.")] = "",
    settings_file: SettingsFile = None,
) -> None:
    """Print the keyed digest that names a thing, as `mint` takes it, and the deed that it has or would have."""
    if bool(serial) == bool(title):
        raise RefusedError("a thing is named by --serial (and --manufacturer), or by --title")
    settings = config.load(settings_file)
    digest = Vault(settings.journal_url, settings.keys_dir).digest
    keywords = {"Manufacturer": manufacturer, "DeviceSerialNumber": serial}
    name = digest(f"title {json.dumps(title)}") if title else device_key(digest, keywords)
    with _opened(settings) as assets:
        known = "is minted" if assets.registry.find(deed_id(name)) else "is not minted yet"
    typer.echo(name)
    typer.echo(f"deed {deed_id(name)} {known}")


@app.command()
def fund(
    holder: Holder, amount: Number, reference: Reference, money: Money = "CNY", settings_file: SettingsFile = None
) -> None:
    """Book what a holder has paid in; the reference is the bank's."""
    with _opened(config.load(settings_file)) as assets:
        assets.registry.fund(holder, reference, _amount(amount, money))
        typer.echo(_wallet(assets, holder, money))


@app.command()
def withdraw(
    holder: Holder, amount: Number, reference: Reference, money: Money = "CNY", settings_file: SettingsFile = None
) -> None:
    """Book what was paid out to a holder; the reference is the bank's."""
    with _opened(config.load(settings_file)) as assets:
        assets.registry.withdraw(holder, reference, _amount(amount, money))
        typer.echo(_wallet(assets, holder, money))


@app.command()
def mint(
    kind: Annotated[str, typer.Argument(help="equipment, property, intellectual-property or service-right.")],
    name: Annotated[str, typer.Argument(help="The keyed digest that `register` printed.")],
    owner: Holder,
    shares: Annotated[int, typer.Argument(help="How many shares there will ever be.")],
    valuation: Number,
    complexity: Annotated[str, typer.Argument(help="simple, standard or complex: what the fee goes by.")],
    use_fee: Annotated[str, typer.Option(help="What each attested use earns the holders.")] = "0",
    money: Money = "CNY",
    settings_file: SettingsFile = None,
) -> None:
    """Divide a thing into shares, all of them the owner's, who pays the fee."""
    if kind not in list(Kind):
        raise RefusedError(f"known kinds are {', '.join(Kind)}")
    with _opened(config.load(settings_file)) as assets:
        value, earned = _amount(valuation, money), _amount(use_fee, money)
        deed = assets.registry.mint(Kind(kind), name, owner, shares, value, complexity, earned)
        typer.echo(f"deed {deed.id}: {deed.total} shares of {owner}")


@app.command()
def trade(
    deed: DeedId,
    seller: Holder,
    buyer: Holder,
    shares: int,
    price: Number,
    reference: Reference,
    money: Money = "CNY",
    settings_file: SettingsFile = None,
) -> None:
    """Sell shares for a price; the seller pays the fee."""
    with _opened(config.load(settings_file)) as assets:
        assets.registry.trade(deed, reference, seller, buyer, shares, _amount(price, money))
        _say_holders(assets, deed)


@app.command()
def revalue(
    deed: DeedId,
    valuation: Number,
    method: Annotated[str, typer.Argument(help="desk or appraisal: what the fee and the largest change go by.")],
    payer: Holder,
    reference: Reference,
    settings_file: SettingsFile = None,
) -> None:
    """Value a thing anew, in the money that it was valued in."""
    with _opened(config.load(settings_file)) as assets:
        worth = _amount(valuation, assets.registry.deed(deed).valuation.asset.code)
        typer.echo(f"deed {deed} is worth {assets.registry.revalue(deed, reference, method, worth, payer)}")


@app.command()
def distribute(
    deed: DeedId,
    period: Annotated[str, typer.Argument(help="A name of the period, as 2026-01; paid once.")],
    payer: Holder,
    settings_file: SettingsFile = None,
) -> None:
    """Pay the holders for every attested use that is not paid yet."""
    with _opened(config.load(settings_file)) as assets:
        posting = assets.revenue.pay(deed, period, payer)
        revenue, uses = (transfer.amount for transfer in posting.transfers[:2])
        typer.echo(f"{uses.units} uses, {revenue}")
        for transfer in posting.transfers[2:]:
            typer.echo(f"  {transfer.credit.removeprefix('wallet:').rpartition(':')[0]:<40} {transfer.amount}")


@app.command()
def reverse(
    deed: DeedId,
    period: Annotated[str, typer.Argument(help="The period that was paid.")],
    cause: Annotated[TakenBack, typer.Option(help="disputed or withdrawn.")] = TakenBack.DISPUTED,
    settings_file: SettingsFile = None,
) -> None:
    """Take a period's revenue back from all holders, once; its uses are unpaid again."""
    with _opened(config.load(settings_file)) as assets:
        posting = assets.revenue.reverse(deed, period, Cause(cause.value))
        typer.echo(f"{posting.key}; {assets.revenue.unpaid(deed)} uses to be paid")


@app.command()
def retract(
    study: Annotated[str, typer.Argument(help="Accession Number or Study Instance UID.")],
    settings_file: SettingsFile = None,
) -> None:
    """Take the use that a study was counted as back, once, while an unpaid one of its scanner is left."""
    settings = config.load(settings_file)
    journey = studies.billed(settings, study)
    name = studies.device(settings, journey)
    with _opened(settings) as assets:
        assets.revenue.retract(name, journey.facts["bill"])
        typer.echo(f"deed {deed_id(name)}: {assets.revenue.unpaid(deed_id(name))} uses to be paid")


@app.command("list-prominently")
def list_prominently(deed: DeedId, payer: Holder, reference: Reference, settings_file: SettingsFile = None) -> None:
    """Charge for a prominent place."""
    with _opened(config.load(settings_file)) as assets:
        posting = assets.registry.list_prominently(deed, reference, payer)
        typer.echo(f"deed {deed} is listed: {_sum_of(posting)}")


@pool.command("open")
def open_pool(
    name: PoolName,
    deed: DeedId,
    style: Annotated[str, typer.Argument(help="passive or active: what managing costs.")],
    manager: Holder,
    settings_file: SettingsFile = None,
) -> None:
    """Open a pool for the shares of a deed; its manager puts in the first minor unit."""
    with _opened(config.load(settings_file)) as assets:
        _say_pool(assets, assets.pools.open(name, deed, style, manager))


@pool.command()
def join(
    name: PoolName, holder: Holder, amount: Number, reference: Reference, settings_file: SettingsFile = None
) -> None:
    """Put money in for units at today's value."""
    with _opened(config.load(settings_file)) as assets:
        found = assets.pools.pool(name)
        posting = assets.pools.join(name, reference, holder, _amount(amount, found.deed.valuation.asset.code))
        typer.echo(f"{posting.transfers[-1].amount.units} units for {holder}")
        _say_pool(assets, found)


@pool.command()
def leave(name: PoolName, holder: Holder, units: int, reference: Reference, settings_file: SettingsFile = None) -> None:
    """Give units back for money at today's value."""
    with _opened(config.load(settings_file)) as assets:
        posting = assets.pools.leave(name, reference, holder, units)
        typer.echo(f"{posting.transfers[-1].amount} for {holder}")
        _say_pool(assets, assets.pools.pool(name))


@pool.command()
def charge(
    name: PoolName,
    month: Annotated[int, typer.Argument(help="1 is the month that it was opened in.")],
    settings_file: SettingsFile = None,
) -> None:
    """Charge a month of managing that is over, once."""
    with _opened(config.load(settings_file)) as assets:
        typer.echo(f"charged: {_sum_of(assets.pools.charge(name, month))}")
        _say_pool(assets, assets.pools.pool(name))


@app.command("list")
def list_deeds(settings_file: SettingsFile = None) -> None:
    """Print every deed with its value, its holders and its uses that are not paid yet."""
    with _opened(config.load(settings_file)) as assets:
        for deed in assets.registry.deeds():
            worth, unpaid = assets.registry.valuation(deed), assets.revenue.unpaid(deed.id)
            typer.echo(f"{deed.id}  {deed.kind}, {worth}, {unpaid} uses to be paid at {deed.use_fee}")
            _say_holders(assets, deed.id)


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Assets]:
    """Yield the assets of a bridge's ledger."""
    with closing(Ledger(settings.ledger_url)) as ledger:
        yield open_assets(settings.mappings_dir, ledger, open_stakes(settings.mappings_dir, ledger))


def _amount(text: str, money: str) -> Amount:
    return amount_of(decimal(text), money)


def _wallet(assets: Assets, holder: str, money: str) -> str:
    asset = CURRENCIES[money]
    return f"{holder} has {written(assets.registry.ledger.balance(accounts.wallet(holder, asset)).units, asset)}."


def _say_holders(assets: Assets, name: str) -> None:
    deed = assets.registry.deed(name)
    for holder, units in assets.registry.holders(deed).items():
        typer.echo(f"  {holder:<40} {units} of {deed.total} shares")


def _say_pool(assets: Assets, found: Pool) -> None:
    typer.echo(f"pool {found.name} of deed {found.deed.id}, {found.style}: {assets.pools.value(found)}")


def _sum_of(fee: Posting) -> Amount:
    """Return what a fee came to; what is burned is held beside the transfer that moved it."""
    parts = [transfer.amount for transfer in fee.transfers if transfer.kind == "move"]
    return Amount(sum(part.units for part in parts), parts[0].asset)
