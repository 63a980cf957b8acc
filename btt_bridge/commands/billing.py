"""`btt-bridge billing`: reports, invoices, charges for the billing system, payments, refunds and dividends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from enum import StrEnum
from typing import Annotated

import typer

from btt_bridge import config, fhir
from btt_bridge.commands import SettingsFile, TakenBack, files, studies
from btt_bridge.commands.amounts import decimal
from btt_bridge.commands.files import Output
from btt_bridge.config import Settings
from btt_bridge.errors import ConfigurationError, MalformedError, OverdrawnError, UnknownError
from btt_bridge.exchange import Market, performance
from btt_bridge.journal import Journal
from btt_bridge.ledger import Ledger
from btt_bridge.money import Amount, Asset, exactly, written
from btt_bridge.parcel import Shelf
from btt_bridge.records import Performance
from btt_bridge.settle import Billing, Cause, Uses, charges, dated, dividends, open_billing, usage
from btt_bridge.settle import dft as messages
from btt_bridge.settle.bills import Bill, Month, activity, find, refund_of
from btt_bridge.settle.usage import Report

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="What compute cost, for accountants and billing systems."
)

MonthText = Annotated[str, typer.Argument(metavar="MONTH", help="As 2026-01.")]
Currency = Annotated[str, typer.Option("--asset", help="The asset of the price list that is meant.")]
AccessionOrUid = Annotated[str, typer.Argument(help="Accession Number or Study Instance UID.")]


class Format(StrEnum):
    """The forms of the usage report."""

    HTML = "html"
    PDF = "pdf"
    CSV = "csv"


@app.command()
def report(
    month: MonthText,
    form: Annotated[Format, typer.Option("--format", help="html, pdf or csv.")] = Format.HTML,
    output: Output = None,
    settings_file: SettingsFile = None,
) -> None:
    """Write a month's usage: the account to the unit, what was used, and what it would have cost elsewhere."""
    settings = config.load(settings_file)
    with _opened(settings) as billing:
        seen = activity(billing, _month(settings, month))
    found = usage.summarize(seen, usage.load(settings.mappings_dir / "references"))
    writers = {Format.HTML: usage.as_html, Format.CSV: usage.as_csv, Format.PDF: _pdf}
    files.write(writers[form](found), output)


@app.command()
def invoice(
    month: MonthText, asset: Currency = "CNY", output: Output = None, settings_file: SettingsFile = None
) -> None:
    """Write a month's Invoice as FHIR R4 JSON, every decimal exact."""
    settings = config.load(settings_file)
    with _opened(settings) as billing:
        unit, now = _asset(billing, asset), billing.ledger.now()
        seen = activity(billing, _month(settings, month))
        resource = charges.invoice(seen, unit, settings.settle.issuer, billing.prices, now)
    files.write(fhir.write(resource) + b"\n", output)


@app.command("charge-item")
def charge_item(study: AccessionOrUid, output: Output = None, settings_file: SettingsFile = None) -> None:
    """Write a study's ChargeItem as FHIR R4 JSON, its subject masked."""
    settings = config.load(settings_file)
    with _opened(settings) as billing:
        resource = charges.charge_item(_bill(settings, billing, study))
    files.write(fhir.write(resource) + b"\n", output)


@app.command()
def dft(
    study: AccessionOrUid,
    reversal: Annotated[bool, typer.Option("--reversal", help="The credit of a charge that was taken back.")] = False,
    procedure: Annotated[str, typer.Option(help='The payer\'s code, as "71250^CT chest^C4".')] = "",
    output: Output = None,
    settings_file: SettingsFile = None,
) -> None:
    """Write a study's charge as HL7 v2.5.1 DFT^P03, for the hospital's own billing system: it names the patient."""
    settings = config.load(settings_file)
    route = messages.Route(*settings.settle.dft_sender.split("^"), *settings.settle.dft_receiver.split("^"))
    coded = messages.Procedure(*_code(procedure)) if procedure else None
    with _opened(settings) as billing:
        bill, subject = _bill(settings, billing, study), messages.Subject(**_subject(settings, study))
        taken_back = refund_of(billing, bill)
    if not reversal:
        files.write(messages.charge(bill, subject, route, coded), output)
    elif taken_back is None:
        raise UnknownError("this charge was not taken back")
    else:
        files.write(messages.reversal(taken_back, subject, route, coded), output)


@app.command()
def refund(
    study: AccessionOrUid,
    cause: Annotated[TakenBack, typer.Option(help="disputed or withdrawn.")] = TakenBack.DISPUTED,
    settings_file: SettingsFile = None,
) -> None:
    """Take a study's charge back, once, from everybody who got a share; and the use of its scanner, if one counted."""
    settings = config.load(settings_file)
    with _opened(settings) as billing:
        bill = _bill(settings, billing, study)
        standing = billing.refund(bill.study_key, bill.service, Cause(cause.value))
        typer.echo(f"{bill.reference}: {bill.amount} {standing.state}")
        typer.echo(_retract(settings, billing.ledger, study))


@app.command()
def pay(
    reference: Annotated[str, typer.Argument(help="The bank's name for the payment; it counts once.")],
    amount: Annotated[str, typer.Argument(help="As 1234.50.")],
    asset: Currency = "CNY",
    settings_file: SettingsFile = None,
) -> None:
    """Book a payment of the hospital against what it owes."""
    settings = config.load(settings_file)
    with _opened(settings) as billing:
        unit = _asset(billing, asset)
        billing.receive(reference, exactly(decimal(amount), unit))
        balance = billing.ledger.balance(billing.payable(unit))
    typer.echo(f"{balance.account}: {written(balance.units, unit)}")


@app.command()
def share(month: MonthText, asset: Currency = "CNY", settings_file: SettingsFile = None) -> None:
    """Share a month's pool of the contributors' share out, once; again, say how it was shared."""
    settings = config.load(settings_file)
    folder = settings.mappings_dir / "dividends"
    paths = sorted((folder / "attestations").glob("*.json"))
    period, papers = Month.parse(month), [files.json_object(path) for path in paths]
    with _opened(settings) as billing:
        unit = _asset(billing, asset)
        shared = dividends.open_dividends(folder, billing.ledger)
        for refusal in shared.refusals(period, papers):
            typer.echo(f"an attestation of {refusal.contributor or 'nobody known'} does not count: {refusal.reason}")
        found = shared.distribute(period, unit, _performances(settings, period), papers)
    typer.echo(f"{found.period} by {found.formula}: {found.pooled} in the pool")
    for one in found.shares:
        factors = ", ".join(f"{name} {factor}" for name, factor in one.factors.items() if factor != 1)
        typer.echo(f"  {one.contributor:<40} {Amount(one.units, unit)!s:>20}  {factors}".rstrip())
    typer.echo(f"  carried to the next month: {written(found.carried_after, unit)}")


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Billing]:
    """Yield the bills of a bridge's ledger."""
    with closing(Ledger(settings.ledger_url)) as ledger:
        yield open_billing(settings, ledger)


def _month(settings: Settings, text: str) -> Month:
    return Month.parse(text, dated.zone(settings.settle.time_zone))


def _asset(billing: Billing, code: str) -> Asset:
    for version in billing.prices:
        if version.asset.code == code:
            return version.asset
    raise UnknownError("no price list is in this asset")


def _bill(settings: Settings, billing: Billing, study: str) -> Bill:
    journey = studies.billed(settings, study)
    bill = find(billing, journey.facts["bill"], journey.facts["assign"]["service"])
    if bill is None:
        raise UnknownError("nothing was held or charged for this study")
    return bill


def _retract(settings: Settings, ledger: Ledger, study: str) -> str:
    """Take the use of a study's scanner back where one was counted; say what became of it."""
    journey = studies.billed(settings, study)
    try:
        Uses(ledger).retract(studies.device(settings, journey), journey.facts["bill"])
    except UnknownError:
        return "no use of its scanner was counted"
    except OverdrawnError:
        return "the use of its scanner is paid: reverse that period's revenue, then `btt-bridge assets retract`"
    return "the use of its scanner is taken back"


def _subject(settings: Settings, study: str) -> dict[str, str]:
    """Return whose study it is, as its own images say."""
    uid = studies.billed(settings, study).study_instance_uid
    keywords = Journal(settings.journal_url).keywords([uid])[uid][0]
    # PS3.5 Section 6.2: the alphabetic group comes first, and components are as in HL7.
    family, _, rest = str(keywords.get("PatientName", "")).partition("=")[0].partition("^")
    return {
        "patient_id": str(keywords.get("PatientID", "")),
        "assigning_authority": str(keywords.get("IssuerOfPatientID", "")),
        "family_name": family,
        "given_name": rest.partition("^")[0],
        "visit_number": str(keywords.get("AdmissionID", "")),
        "filler_order_number": str(keywords.get("AccessionNumber", "")),
    }


def _code(text: str) -> tuple[str, str, str]:
    parts = text.split("^")
    if len(parts) != 3 or not all(parts):
        raise MalformedError("a procedure is written as code^text^system")
    return parts[0], parts[1], parts[2]


def _performances(settings: Settings, period: Month) -> tuple[Performance, ...]:
    """Return what this bridge's own exchange measured; where the exchange is another's, nobody has measured."""
    if not settings.local_exchange:
        return ()
    market = Market(settings.exchange_database_url, Shelf(settings.parcels_url), settings.exchange)
    with closing(market):
        return performance(market.engine, period.start, period.end)


def _pdf(found: Report) -> bytes:
    try:
        from btt_bridge.settle.usage.printed import as_pdf
    except ModuleNotFoundError:
        raise ConfigurationError(
            "PDF needs a library that is not installed", advice="Install btt-bridge[report]."
        ) from None
    return as_pdf(found)
