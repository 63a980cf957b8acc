"""`btt-bridge payfi`: payments for care, from a FHIR document to the bank's confirmation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from btt_bridge import config
from btt_bridge.commands import SettingsFile, files
from btt_bridge.commands.amounts import decimal
from btt_bridge.config import Settings
from btt_bridge.errors import ConfigurationError, UnknownError
from btt_bridge.inbox import Inbox
from btt_bridge.ledger import Ledger
from btt_bridge.money import exactly, written
from btt_bridge.settle import payfi
from btt_bridge.settle.payfi import Clearing, Leg, PaymentInstruction, Quote, Reader, State, names
from btt_bridge.vault import Vault

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Pay what is owed for care.")


@app.command()
def instruct(
    file: Annotated[Path, typer.Argument(help="A FHIR R4 Claim, Invoice or PaymentNotice in JSON.")],
    again: Annotated[bool, typer.Option("--again", help="Try a payment that came back once more.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Take in the payment that a document asks for; asked again, say how it stands."""
    settings = config.load(settings_file)
    with _opened(settings) as clearing:
        reader, document = _reader(settings, clearing), files.json_object(file, settings.fhir.resource_bytes_max)
        instruction = reader.read(document)
        payment = clearing.instruct(instruction, _quote(settings, clearing, instruction), again=again)
        with _inbox(settings) as inbox:
            inbox.note_request(payment.reference, reader.request(document))
        typer.echo(f"payment {payment.reference} to {payment.payee}: {clearing.standing(instruction.key).state}")
        typer.echo(f"  gross {payment.gross}, fees {payment.fees}, net {payment.net}")


@app.command()
def fund(
    payer: Annotated[str, typer.Argument(help="Who paid, as FHIR refers to them: Organization/12 or Patient/7.")],
    amount: Annotated[str, typer.Argument(help='Amount, as "1000.00".')],
    currency: Annotated[str, typer.Argument(help="Its ISO 4217 code.")],
    reference: Annotated[str, typer.Argument(help="The bank's reference of the payment; booked once for each.")],
    settings_file: SettingsFile = None,
) -> None:
    """Book what a party has paid in."""
    settings = config.load(settings_file)
    with _opened(settings) as clearing:
        party = _reader(settings, clearing).party(payer)
        paid = exactly(decimal(amount), clearing.rules().asset(currency))
        clearing.fund(party, paid, reference)
        units = clearing.ledger.balance(names.funds(party, paid.asset)).units
        typer.echo(f"{payer} has {written(units, paid.asset)}.")


@app.command()
def close(
    early: Annotated[bool, typer.Option("--early", help="Do not wait until the batch is due.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Net what waits, close a batch if it is due, and hand it to the rail; exit status 1 where that failed."""
    settings = config.load(settings_file)
    with _opened(settings) as clearing:
        batch = clearing.close(early=early)
        if batch is None:
            typer.echo("No batch is due.")
        else:
            typer.echo(f"batch {batch.number}: {len(batch.payments)} payments, {len(batch.legs)} payees")
            for leg in batch.legs:
                typer.echo(_line(leg))
        done = clearing.submit(payfi.open_rail(settings))
        typer.echo(f"{done.payouts} payouts are at the rail.")
        for message, error in done.failed:
            typer.echo(f"{message} could not be handed over ({error}), and is tried again next time")
        if done.failed:
            raise typer.Exit(1)


@app.command()
def reconcile(settings_file: SettingsFile = None) -> None:
    """Book what the bank has said; exit status 1 where some of it could not be booked."""
    settings = config.load(settings_file)
    with _opened(settings) as clearing:
        done = payfi.reconcile(clearing, payfi.open_rail(settings))
        for standing in done.standings:
            if standing.leg is not None:
                typer.echo(f"{_line(standing.leg)}: {standing.state}")
        for statement, order, error in done.refused:
            typer.echo(f"{statement}: {order} was refused with {error}, and is read again next time")
        if done.passed_over:
            typer.echo(f"{done.passed_over} confirmations are of orders that are not ours.")
        if done.refused:
            raise typer.Exit(1)


@app.command()
def documents(
    since: Annotated[
        int | None, typer.Option(min=0, help="Write again what was settled behind this position of the outbox.")
    ] = None,
    settings_file: SettingsFile = None,
) -> None:
    """Write the FHIR PaymentReconciliation and PaymentNotice of what was settled since the last time."""
    settings = config.load(settings_file)
    with _opened(settings) as clearing, _inbox(settings) as inbox:
        told = payfi.documents.write(clearing, payfi.open_documents(settings), inbox.request, since)
        typer.echo(f"Documents of {told} payouts are written.")


@app.command()
def level(
    days: Annotated[int, typer.Option(min=1, max=3660, help="How far back.")] = 30,
    settings_file: SettingsFile = None,
) -> None:
    """Say how soon providers were paid; exit status 1 where a payment is overdue."""
    with _opened(config.load(settings_file)) as clearing:
        found = payfi.service_level(clearing, clearing.ledger.now() - timedelta(days=days))
        typer.echo(f"promised      {found.promised_seconds} s from instruction to confirmed payment")
        typer.echo(f"paid          {found.paid}, {found.within} of them in time")
        for percent in (50, 95, 100):
            if (seconds := found.seconds_at(percent)) is not None:
                typer.echo(f"{percent:>3} % within  {seconds} s")
        typer.echo(f"on their way  {found.waiting}, {found.overdue} of them overdue")
        if found.overdue:
            raise typer.Exit(1)


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Clearing]:
    """Yield the clearing house of a bridge's ledger."""
    with closing(Ledger(settings.ledger_url)) as ledger:
        yield payfi.open_clearing(settings, ledger)


def _inbox(settings: Settings) -> closing[Inbox]:
    """Return what knows which document asked for a payment, and is closed again."""
    return closing(Inbox(settings.journal_url))


def _reader(settings: Settings, clearing: Clearing) -> Reader:
    """Return who reads the documents of the hospital's EHR."""
    if not settings.payfi.source:
        raise ConfigurationError(
            "nothing says which EHR this is of", advice="Set payfi.source to the base URL of its FHIR endpoint."
        )
    opaque = Vault(settings.journal_url, settings.keys_dir).digest
    return Reader(clearing.directory, clearing.rules(), opaque, settings.payfi.source)


def _quote(settings: Settings, clearing: Clearing, instruction: PaymentInstruction) -> Quote | None:
    """Return a rate where the payee is paid in another currency, and is not yet."""
    with suppress(UnknownError):
        if clearing.standing(instruction.key).state is not State.RETURNED:
            return None
    rules, base = clearing.rules(), instruction.amount.asset
    target = rules.asset(clearing.directory.participant(instruction.payee).paid_in(base.code))
    return None if target == base else payfi.open_desk(settings, clearing.ledger.clock).quote(rules, base, target)


def _line(leg: Leg) -> str:
    return f"  {leg.order} to {leg.payee}: {leg.payout} of {leg.received}, {leg.set_off} set off"
