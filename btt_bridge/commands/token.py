"""`btt-bridge token`: where the supply is, and who stakes, votes, computes and refers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Annotated

import typer

from btt_bridge import config
from btt_bridge.commands import SettingsFile
from btt_bridge.commands.amounts import decimal
from btt_bridge.config import Settings
from btt_bridge.errors import LedgerError, RefusedError
from btt_bridge.ledger import Ledger
from btt_bridge.money import BTT, exactly, written
from btt_bridge.settle import bills, dividends
from btt_bridge.settle.token import Choice, Institution, Reach, Recover, Spend, Token, book_of, open_token

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="The fixed supply of BTT: releases, stakes, votes, mining and referrals.",
)

Referred = Annotated[str, typer.Argument(help="Whose studies this book has, as hospital:east.")]


@app.command()
def mint(settings_file: SettingsFile = None) -> None:
    """Make the whole supply, once: from then on this ledger is the token's book. Again, it changes nothing."""
    settings = config.load(settings_file)
    with closing(Ledger(settings.ledger_url)) as ledger:
        made = open_token(settings.mappings_dir, ledger).supply.figures().minted
    typer.echo(f"The supply is {written(made, BTT)}.")


@app.command()
def figures(settings_file: SettingsFile = None) -> None:
    """Say where all tokens are; the four together are the supply."""
    with _opened(config.load(settings_file)) as token:
        found = token.supply.figures()
        for name in ("burned", "allocated", "staked", "circulating", "minted"):
            typer.echo(f"{name:<12} {written(getattr(found, name), BTT):>40}")


@app.command()
def release(settings_file: SettingsFile = None) -> None:
    """Release every month of the allocations that is over; doing so twice changes nothing."""
    with _opened(config.load(settings_file)) as token:
        typer.echo(f"{len(token.supply.release())} releases were posted.")


@app.command()
def mine(month: int, settings_file: SettingsFile = None) -> None:
    """Pay a month's emission to the nodes that did the work, by work of that month for others that stands."""
    settings = config.load(settings_file)
    registry = dividends.load_registry(settings.mappings_dir / "dividends")
    with _opened(settings) as token:
        # What was paid for once is looked at as it was then, so that a repeat pays who was not paid yet.
        paid = token.supply.emission(month)
        span, head = token.supply.table.span(month), paid.id if paid else None
        work = bills.work(token.supply.ledger, *span, registry.supplier, head)
        typer.echo(f"{len(token.supply.mine(month, work))} nodes were paid.")


@app.command()
def stake(
    holder: str,
    reference: Annotated[str, typer.Argument(help="A name of your own for this stake; the same one stakes once.")],
    amount: Annotated[str, typer.Argument(help="In BTT, as 1000 or 12.5.")],
    lock: Annotated[str, typer.Option(help="One of the locks of mappings/token/terms.")] = "none",
    settings_file: SettingsFile = None,
) -> None:
    """Put tokens of a holder aside."""
    with _opened(config.load(settings_file)) as token:
        made = token.stakes.stake(holder, reference, _units(amount), lock)
        typer.echo(f"Stake {made.number} of {holder}, locked until {made.locked_until:%Y-%m-%d %H:%M} UTC.")


@app.command()
def unstake(holder: str, number: int, settings_file: SettingsFile = None) -> None:
    """Give a stake back to its holder, once its lock is over."""
    with _opened(config.load(settings_file)) as token:
        token.stakes.end(holder, number)
        typer.echo("The stake is back in the wallet.")


@app.command()
def dedicate(
    holder: str,
    bridge_id: Annotated[str, typer.Argument(help="The bridge that offers in its name.")],
    settings_file: SettingsFile = None,
) -> None:
    """Say which bridge a holder's stakes count for at an exchange; in place of another one, a day later."""
    with _opened(config.load(settings_file)) as token:
        made = token.dedications.dedicate(holder, bridge_id)
        typer.echo(f"The stakes of {holder} count for {made.bridge_id} from {made.since:%Y-%m-%d %H:%M} UTC on.")


@app.command()
def stakes(holder: str, settings_file: SettingsFile = None) -> None:
    """Print a holder's stakes, and what they are worth at the exchange and on the bill."""
    with _opened(config.load(settings_file)) as token:
        for one in token.stakes.of(holder):
            state = "over" if one.ended_at else f"locked until {one.locked_until:%Y-%m-%d}"
            typer.echo(f"{one.number:>4}  {written(one.units, BTT):>32}  {one.lock.name:<10} {state}")
        discount = token.stakes.discount_percent(holder)
        typer.echo(f"priority {token.stakes.priority(holder)}, discount {discount} %")
        if (found := token.dedications.of(holder)) is not None:
            typer.echo(f"for the bridge {found.bridge_id} from {found.since:%Y-%m-%d %H:%M} UTC on")


@app.command()
def propose(
    proposer: str,
    reference: Annotated[str, typer.Argument(help="A name of your own for this proposal.")],
    spend: Annotated[str, typer.Option(help="TREASURY,HOLDER,AMOUNT: pay from a treasury.")] = "",
    reach: Annotated[str, typer.Option(help="ALLOCATION,MILESTONE: find that a milestone was reached.")] = "",
    recover: Annotated[str, typer.Option(help="PROPOSAL: take back what an earlier decision paid.")] = "",
    settings_file: SettingsFile = None,
) -> None:
    """Put something to the vote; exactly one of the options says what."""
    if sum(map(bool, (spend, reach, recover))) != 1:
        raise typer.BadParameter("give one of --spend, --reach and --recover")
    with _opened(config.load(settings_file)) as token:
        action = _spending(spend) if spend else _reaching(reach) if reach else Recover(recover)
        made = token.governance.propose(proposer, reference, action)
        typer.echo(f"Proposal {made.id}: votes until {made.closes_at:%Y-%m-%d %H:%M} UTC, due {made.due_at:%Y-%m-%d}.")


@app.command()
def vote(proposal: str, holder: str, choice: Choice, settings_file: SettingsFile = None) -> None:
    """Vote with the weight of a holder's stakes, once."""
    with _opened(config.load(settings_file)) as token:
        token.governance.vote(proposal, holder, choice)
        tally = token.governance.tally(proposal)
        typer.echo(f"yes {tally.yes:,}, no {tally.no:,}, of {tally.roll:,}")


@app.command()
def close(proposal: str, settings_file: SettingsFile = None) -> None:
    """Carry a decision out, or say what became of it."""
    with _opened(config.load(settings_file)) as token:
        typer.echo(str(token.governance.close(proposal)))


@app.command()
def refer(
    referrer: str,
    referrer_owner: str,
    referred: Referred,
    referred_owner: str,
    settings_file: SettingsFile = None,
) -> None:
    """Note who brought an institution, before its first study."""
    with _opened(config.load(settings_file)) as token:
        studies = bills.studies(token.supply.ledger, _hospital(referred))
        token.referrals.refer(Institution(referrer, referrer_owner), Institution(referred, referred_owner), studies)
        typer.echo("The referral is noted.")


@app.command()
def reward(referred: Referred, settings_file: SettingsFile = None) -> None:
    """Pay the referrer for each milestone that an institution has reached, within the cap.

    Studies are those that the book has charged since the referral, and not refunded.
    """
    with _opened(config.load(settings_file)) as token:
        since = token.referrals.referral(referred).id
        studies = bills.studies(token.supply.ledger, _hospital(referred), since)
        for answer in token.referrals.reward(referred, studies):
            typer.echo(f"refused: {answer}" if isinstance(answer, LedgerError) else f"paid: {answer.key}")


# --- within ---------------------------------------------------------------------------------------------


@contextmanager
def _opened(settings: Settings) -> Iterator[Token]:
    """Yield the token of the ledger that is its book."""
    with closing(Ledger(settings.ledger_url)) as ledger:
        yield book_of(settings.mappings_dir, ledger)


def _hospital(holder: str) -> str:
    """Return the name under which an institution's studies are charged."""
    kind, _, name = holder.partition(":")
    if kind != "hospital" or not name:
        raise RefusedError("studies are counted of a hospital, as hospital:east")
    return name


def _units(amount: str) -> int:
    return exactly(decimal(amount), BTT).units


def _spending(words: str) -> Spend:
    treasury, holder, amount = _parts(words, 3)
    return Spend(treasury, holder, _units(amount))


def _reaching(words: str) -> Reach:
    allocation, milestone = _parts(words, 2)
    return Reach(allocation, milestone)


def _parts(words: str, count: int) -> list[str]:
    parts = [part.strip() for part in words.split(",")]
    if len(parts) != count or not all(parts):
        raise typer.BadParameter(f"{words!r} is not {count} words with commas between them")
    return parts
