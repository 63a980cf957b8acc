"""`btt-bridge rewards`: what a resource would earn and why, patients' points, and what rewards cost whom."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from btt_bridge import config, fhir
from btt_bridge.commands import SettingsFile, files
from btt_bridge.commands.amounts import decimal
from btt_bridge.config import Settings
from btt_bridge.errors import BridgeError, MalformedError
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger, Posting
from btt_bridge.money import exactly, written
from btt_bridge.settle.rewards import (
    Decision,
    Incentives,
    Limits,
    Months,
    Report,
    Veil,
    gather,
    open_incentives,
    report,
)
from btt_bridge.vault import Vault

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Patients' points: try rules, look into wallets, redeem, bill, report.",
)

Resources = Annotated[
    list[Path], typer.Argument(metavar="FILES", help="FHIR R4 resources: JSON, a Bundle, or NDJSON (.ndjson).")
]
Consents = Annotated[
    list[Path] | None, typer.Option("--consents", help="Files with the patients' Consent resources; may be repeated.")
]
Patient = Annotated[str, typer.Argument(help="The patient as the EHR refers to it, as Patient/17.")]
Month = Annotated[str, typer.Argument(help="As 2026-01.")]
#: Why a rule gave what it gave, for who maintains the rules.
WHY: Mapping[str, str] = {
    "granted": "the condition holds, and nothing stands against it",
    "stands": "it was granted for this resource before",
    "reversed": "what this resource earned before does not hold any more",
    "unmet": "the condition is false on this resource",
    "unclear": "the condition is neither true nor false on this resource",
    "superseded": "a newer version of this resource has been seen",
    "no-day": "the resource does not say on which day it was",
    "not-yet": "the day has not come yet",
    "too-late": "the day is longer ago than late_days_max",
    "no-consent": "no consent covers the day of the act and today",
    "cooling": "too close to another act that earned (cooldown_days)",
    "capped": "the cap of the rule, or the patient_cap, is reached",
    "budget": "the budget of the program is used up",
}


class Format(StrEnum):
    """The forms of the report of outcomes."""

    TEXT = "text"
    CSV = "csv"
    HTML = "html"
    JSON = "json"


@app.command()
def consider(
    paths: Resources,
    consents: Consents = None,
    post: Annotated[bool, typer.Option("--post", help="Count it; without this, nothing changes.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Say for each rule what it does with these resources, and why; Consents among them count as consents."""
    settings = config.load(settings_file)
    bodies = [body for path in paths for body in _resources(settings, path)]
    given = _consents([*bodies, *(body for path in consents or () for body in _resources(settings, path))])
    failed = False
    with _opened(settings) as incentives:
        look = incentives.rewards.consider if post else incentives.rewards.preview
        for body in bodies:
            if body.get("resourceType") != "Consent":
                failed |= not _told(body, given, look)
    if not post:
        typer.echo("Nothing was counted; --post does that.")
    if failed:
        raise typer.Exit(1)


@app.command()
def wallet(patient: Patient, settings_file: SettingsFile = None) -> None:
    """Say what a patient has, owes, has earned and has spent."""
    with _opened(config.load(settings_file)) as incentives:
        found = incentives.wallets.read(incentives.wallets.opaque(patient))
        typer.echo(f"account {found.account}: {found.points} points, {found.debt} owed")
        for grant, at in found.grants.values():
            typer.echo(f"  {at:%Y-%m-%d}  {grant.rule:<32} {grant.points:>+8}")
        for name, (told, at) in found.redemptions.items():
            note = "  returned" if name in found.undone else ""
            typer.echo(f"  {at:%Y-%m-%d}  {told['partner']:<32} {-int(told['amount']['units']):>+8}{note}")


@app.command()
def redeem(patient: Patient, partner: str, order: str, points: int, settings_file: SettingsFile = None) -> None:
    """Spend a patient's points on a partner's order; the same order again says what stands."""
    with _opened(config.load(settings_file)) as incentives:
        made = incentives.redemptions.redeem(incentives.wallets.opaque(patient), partner, order, points)
        asset = incentives.fees.program().asset
        value, fee = written(made.value_units, asset), written(made.fee_units, asset)
        typer.echo(f"redemption {made.name}: {made.points} points, worth {value}; the partner's fee is {fee}")


@app.command("return")
def give_back(patient: Patient, partner: str, order: str, settings_file: SettingsFile = None) -> None:
    """Give the points of a partner's order back to the patient, and the fee to the partner; once."""
    with _opened(config.load(settings_file)) as incentives:
        name = incentives.redemptions.name(partner, order)
        made = incentives.redemptions.undo(incentives.wallets.opaque(patient), name)
        typer.echo(f"redemption {made.name}: {made.points} points are back")


@app.command()
def expire(settings_file: SettingsFile = None) -> None:
    """Take all points that have waited too long; to be run once a day."""
    with _opened(config.load(settings_file)) as incentives:
        after = incentives.rewards.sweep()
        while after:
            after = incentives.rewards.sweep(after)
    typer.echo("What was too old has expired.")


@app.command()
def tier(patient: Patient, insurer: str, consents: Consents = None, settings_file: SettingsFile = None) -> None:
    """Say which discount a patient has reached with an insurer; only with the patient's consent."""
    settings = config.load(settings_file)
    given = [body for path in consents or () for body in _resources(settings, path)]
    with _opened(settings) as incentives:
        reached = incentives.rewards.discount(patient, insurer, given)
    typer.echo(f"discount {reached.discount_basis_points} basis points, from {reached.points} points a year on")


@app.command()
def bill(
    month: Month,
    clinicians: Annotated[int, typer.Option(help="How many clinicians the clinic has; its size decides the tier.")],
    settings_file: SettingsFile = None,
) -> None:
    """Bill the clinic's subscription for a month, and each partner's arrangement where that was not done yet."""
    with _opened(config.load(settings_file)) as incentives:
        _billed(incentives.fees.subscribe(month, clinicians))
        for partner in incentives.fees.program().partners:
            _billed(incentives.fees.arrange(partner))


@app.command()
def pay(
    account: Annotated[str, typer.Argument(help="Whose, as partner:pharmacy:payable:cny.")],
    reference: Annotated[str, typer.Argument(help="The bank's name for the payment; it counts once.")],
    amount: Annotated[str, typer.Argument(help="As 1234.50.")],
    settings_file: SettingsFile = None,
) -> None:
    """Book a payment of a clinic, partner or insurer against what it owes."""
    with _opened(config.load(settings_file)) as incentives:
        ledger = incentives.fees.ledger
        asset = ledger.balance(account).asset
        incentives.fees.receive(account, reference, exactly(decimal(amount), asset))
        typer.echo(f"{account}: {written(ledger.balance(account).units, asset)}")


@app.command()
def refund(
    key: Annotated[str, typer.Argument(help="The bill, as `bill` and `saving` print it.")],
    settings_file: SettingsFile = None,
) -> None:
    """Take a bill back, once, from everybody who got a share."""
    with _opened(config.load(settings_file)) as incentives:
        _billed(incentives.fees.refund(key))


@app.command()
def saving(
    insurer: str,
    year: Annotated[str, typer.Argument(help="As 2026.")],
    amount: Annotated[str, typer.Argument(help='What the insurer saved, as "12000.00".')],
    again: Annotated[bool, typer.Option(help="Bill the year once more where its bill was refunded.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Bill the part of an insurer's saving of a year that flows back."""
    with _opened(config.load(settings_file)) as incentives:
        saved = exactly(decimal(amount), incentives.fees.program().asset)
        _billed(incentives.fees.share_saving(insurer, year, saved, again=again))


@app.command()
def outcomes(
    paths: Resources,
    first: Annotated[str, typer.Option(help="First month of the period, as 2026-01.")],
    months: Annotated[int, typer.Option(help="How many months it has.", min=1, max=60)] = 12,
    baseline: Annotated[str, typer.Option(help="First month of the baseline; without it, right before.")] = "",
    form: Annotated[Format, typer.Option("--format", help="text, csv, html or json.")] = Format.TEXT,
    settings_file: SettingsFile = None,
) -> None:
    """Report preventive visits, plan completion and retention against the clinic's own time before.

    The files are what the EHR exports of Encounters, Appointments and CarePlans, from as long before the baseline on
    as the period is; nothing of them is kept.
    """
    writers: Mapping[Format, Callable[[Report], str]] = {
        Format.TEXT: lambda found: found.text(),
        Format.CSV: lambda found: found.csv(),
        Format.HTML: lambda found: found.html(),
        Format.JSON: lambda found: json.dumps(found.body(), indent=2) + "\n",
    }
    period = Months(_month(first), months)
    before = Months(_month(baseline), months) if baseline else period.before
    settings = config.load(settings_file)
    with _opened(settings) as incentives:
        program = incentives.fees.program()
        bodies = (body for path in paths for body in _resources(settings, path))
        gathered = gather(program, bodies, incentives.wallets.opaque, incentives.rewards.isolation, Limits())
        clinic = incentives.wallets.clinic
    found = report(clinic, before, period, gathered.seen, Veil(program.patients_min, program.counts_to))
    typer.echo(writers[form](found), nl=False)
    if gathered.refused:
        typer.echo(f"{gathered.refused} resources could not be read and are not in it.", err=True)


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Incentives]:
    """Yield the rewards of a bridge's clinic."""
    # First of all, for on a fresh desk it makes the folder that everything lies in.
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    key_of = Vault(settings.journal_url, settings.keys_dir).digest
    limits = settings.isolation
    with (
        closing(Ledger(settings.ledger_url)) as ledger,
        Isolation(1, limits.memory_bytes_max, limits.seconds_max, ["btt_bridge.settle.rewards.conditions"]) as child,
        closing(open_incentives(settings, ledger, child, key_of)) as incentives,
    ):
        yield incentives


def _told(
    body: Mapping[str, Any],
    consents: Mapping[str, Sequence[Mapping[str, Any]]],
    look: Callable[[Mapping[str, Any], Sequence[Mapping[str, Any]]], list[Decision]],
) -> bool:
    """Print what becomes of a resource; say whether it could be looked at."""
    typer.echo(f"{body.get('resourceType')}/{body.get('id')}")
    own = consents.get(fhir.patient(body), ())
    try:
        decisions = look(body, own)
    except BridgeError as problem:
        typer.echo(f"  refused: {problem}")
        return False
    for one in decisions:
        points = {"granted": one.points, "reversed": -one.points}.get(one.answer, 0)
        typer.echo(f"  {one.rule or 'all rules':<32} {points:>+8}  {one.answer}: {WHY[one.answer]}")
    if not decisions:
        typer.echo("  no rule asks for this")
    return True


def _consents(bodies: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Return the consents of each patient; one of nobody, or of two, is of no use."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for body in bodies:
        if body.get("resourceType") == "Consent" and (patient := fhir.patient(body)):
            found.setdefault(patient, []).append(body)
    return found


def _resources(settings: Settings, path: Path) -> list[dict[str, Any]]:
    """Return the resources of a file: one, those of a Bundle, or one a line."""
    content = files.content(path)
    parts = content.splitlines() if path.suffix == ".ndjson" else [content]
    try:
        bodies = [fhir.parse(part, settings.fhir.bundle_bytes_max) for part in parts if part.strip()]
    except MalformedError as problem:
        raise MalformedError(f"{path}: {problem}", advice="One resource a line needs the ending .ndjson.") from None
    found: list[dict[str, Any]] = []
    for body in bodies:
        entries = body.get("entry", []) if body.get("resourceType") == "Bundle" else [{"resource": body}]
        found += [entry["resource"] for entry in entries if isinstance(entry, dict) and "resource" in entry]
    return found


def _billed(posting: Posting) -> None:
    asset = posting.transfers[0].amount.asset
    amount = sum(transfer.amount.units for transfer in posting.transfers)
    typer.echo(f"{posting.key:<48} {written(amount, asset):>20}  {posting.at:%Y-%m-%d}")


def _month(text: str) -> date:
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise typer.BadParameter("a month is written as 2026-01") from None
