"""`btt-bridge ledger`: the accounts checked, looked into, sealed, proved and exported, and who is told of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from btt_bridge import config, settle
from btt_bridge.commands import SettingsFile, files
from btt_bridge.config import Settings
from btt_bridge.errors import RefusedError, UnknownError
from btt_bridge.ledger import Ledger, anchors, audit, batches
from btt_bridge.ledger import export as books
from btt_bridge.money import written
from btt_bridge.records import RootStanding
from btt_bridge.settle import token
from btt_bridge.signing import Signer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Look into the accounts.")

_REFUSED_MAX = 100


class Format(StrEnum):
    """The forms of the whole book."""

    CSV = "csv"
    HLEDGER = "hledger"


@app.command()
def verify(settings_file: SettingsFile = None) -> None:
    """Recompute the whole book, and say how it is anchored; exit status 1, and why, where anything was changed."""
    settings = config.load(settings_file)
    with _opened(settings) as ledger:
        found = audit.verify(ledger, _signer(settings).public)
        anchored, refused = anchors.counts(ledger), anchors.standing(ledger, RootStanding.REFUSED, _REFUSED_MAX)
    typer.echo(
        f"{found.transfers} transfers, {found.accounts} accounts, {found.batches} batches; head {found.head.hex()}"
    )
    for asset, units in found.trial_balance.items():
        typer.echo(f"trial balance {asset}: {units}")
    for (place, standing), count in anchored.items():
        typer.echo(f"anchored at {place}: {count} batches, {standing}")
    for one in refused:
        typer.echo(f"batch {one.batch}: another root is anchored at {one.place}, so that this is not the book it was")
    if found.problem:
        typer.echo(found.problem)
    if found.problem or refused:
        raise typer.Exit(1)
    typer.echo("The book holds.")


@app.command()
def balance(account: Annotated[str, typer.Argument()] = "", settings_file: SettingsFile = None) -> None:
    """Print the balance of one account, or of all."""
    with _opened(config.load(settings_file)) as ledger:
        for one in [ledger.balance(account)] if account else ledger.balances():
            held = one.debits_pending + one.credits_pending
            note = f"  ({written(held, one.asset)} on hold)" if held else ""
            typer.echo(f"{one.account:<60} {written(one.units, one.asset):>24}{note}")


@app.command()
def statement(account: str, limit: int = 100, settings_file: SettingsFile = None) -> None:
    """Print the last lines of an account, with the balance after each."""
    with _opened(config.load(settings_file)) as ledger:
        for line in ledger.statement(account, limit):
            asset = line.transfer.amount.asset
            change, after = written(line.change, asset), written(line.balance, asset)
            typer.echo(f"{line.transfer.at:%Y-%m-%d %H:%M:%S}  {line.transfer.reason:<24} {change:>20} {after:>24}")


@app.command()
def export(
    form: Annotated[Format, typer.Option("--format", help="csv or hledger.")] = Format.HLEDGER,
    settings_file: SettingsFile = None,
) -> None:
    """Write every transfer to standard output, for an accountant's own tools."""
    writers = {Format.CSV: books.table, Format.HLEDGER: books.hledger}
    with _opened(config.load(settings_file)) as ledger:
        writers[form](ledger, sys.stdout)


@app.command()
def close(settings_file: SettingsFile = None) -> None:
    """Seal every transfer since the last settlement batch under one signed Merkle root."""
    settings = config.load(settings_file)
    with _opened(settings) as ledger:
        batch = batches.close(ledger, _signer(settings))
    if batch is None:
        typer.echo("There is nothing new to seal.")
    else:
        span = f"transfers {batch.first_transfer} to {batch.last_transfer}"
        typer.echo(f"batch {batch.id}: {span}; root {batch.root.hex()}")


@app.command()
def prove(transfer: int, settings_file: SettingsFile = None) -> None:
    """Print the proof, as JSON, that a transfer is in a settlement batch."""
    with _opened(config.load(settings_file)) as ledger:
        proof = batches.prove(ledger, transfer)
    typer.echo(json.dumps(batches.written(proof), indent=2))


@app.command("check-proof")
def check_proof(
    file: Annotated[Path, typer.Argument(help="What `prove` printed.")],
    key: Annotated[str, typer.Option(help="Public key of the bridge that signed, hex, as `key` prints it.")],
) -> None:
    """Check a proof with nothing but the signer's public key; exit status 1 where it proves nothing."""
    proof = batches.read(files.json_object(file), key)
    typer.echo(f"Transfer {proof.transfer}, with hash {proof.leaf.hex()}, is in batch {proof.batch.id}.")


@app.command()
def attest(
    holder: Annotated[str, typer.Argument(help="Who has staked, as hospital:main.")],
    # Less than the day that an exchange believes in, for its clock may be behind ours.
    hours: Annotated[int, typer.Option(min=1, max=23, help="How long it is good for.")] = 12,
    settings_file: SettingsFile = None,
) -> None:
    """Print, signed, which priority a holder's stakes give its bridge at an exchange that knows our key.

    The worker that keeps the token's book does so by itself, into `settle.attestations_dir`.
    """
    settings = config.load(settings_file)
    with _opened(settings) as ledger:
        dedications = token.book_of(settings.mappings_dir, ledger).dedications
        typer.echo(dedications.attest(holder, _signer(settings), timedelta(hours=hours)))


@app.command()
def sinks(settings_file: SettingsFile = None) -> None:
    """Print how far each sink has been told, and what holds it up."""
    settings = config.load(settings_file)
    with _opened(settings) as ledger:
        hindrances, end = ledger.hindrances(), ledger.end_of_outbox()
        for row in settle.rows(settings):
            typer.echo(f"{row.name:<20} {row.kind:<8} position {ledger.position(row.name)} of {end}")
            if found := hindrances.get(row.name):
                state = "stopped" if found.stopped else "waiting"
                advice = f"; {found.advice}" if found.advice else ""
                typer.echo(f"    {state} since {found.since:%Y-%m-%d %H:%M:%S}: {found.reason}{advice}")


@app.command()
def replay(
    sink: Annotated[str, typer.Argument(help="Name of the sink.")],
    position: Annotated[
        int | None, typer.Option("--from", min=0, help="Tell again what follows this position; 0 is everything.")
    ] = None,
    settings_file: SettingsFile = None,
) -> None:
    """Let a sink that stopped go on, from where it is or from another position."""
    settings = config.load(settings_file)
    if sink not in {row.name for row in settle.rows(settings)}:
        raise UnknownError("no sink has this name", advice="`btt-bridge ledger sinks` prints them")
    with _opened(settings) as ledger:
        if position is not None:
            if position > (end := ledger.end_of_outbox()):
                raise RefusedError(f"the outbox ends at {end}: from beyond it, events would be passed over")
            ledger.set_position(sink, position)
        ledger.unhinder(sink)
        typer.echo(f"{sink} goes on from position {ledger.position(sink)}.")


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Ledger]:
    with closing(Ledger(settings.ledger_url)) as ledger:
        yield ledger


def _signer(settings: Settings) -> Signer:
    return Signer.load(settings.keys_dir / "bridge.key")
