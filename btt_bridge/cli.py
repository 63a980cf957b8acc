"""The commands: what a hospital runs, what its people ask, and the processes that `up` keeps alive."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from btt_bridge import __version__, config, log
from btt_bridge.commands import SettingsFile
from btt_bridge.errors import BridgeError, CapacityError, MappingError, UnknownError

if TYPE_CHECKING:
    from btt_bridge.journal import Journal, Journey

_PARTS = ("assets", "billing", "ledger", "payfi", "rewards", "token")


# Each command imports what it needs when it runs: the node's machine holds nothing of the hospital's, and
# `trace` should not wait for torch.
class _Gathering(TyperGroup):
    """The commands of this file, and those that a part of the accounts has in a file of its own."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_PARTS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in _PARTS:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(import_module(f"btt_bridge.commands.{cmd_name}").app)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Gathering, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)

WithParent = Annotated[int, typer.Option(hidden=True, help="End when the parent process, of this number, ends.")]


def main() -> None:
    """Run a command; an error the bridge knows is one line and exit status 1."""
    log.configure()
    try:
        app()
    except BridgeError as problem:
        _complain(problem)
        sys.exit(1)


# --- what a hospital runs -------------------------------------------------------------------------------


@app.command()
def up(settings_file: SettingsFile = None) -> None:
    """Start the bridge: listeners, worker, pages and, where settings say so, an exchange and a node."""
    from btt_bridge.supervisor import Supervisor

    settings = _start(settings_file)
    _check_mappings(settings)
    with suppress(CapacityError):  # one that does not answer yet is waited for
        _check_databases(settings)
    supervisor = Supervisor(settings, settings_file)
    _until_told(supervisor.stop)
    supervisor.run()


@app.command()
def check(settings_file: SettingsFile = None) -> None:
    """Validate settings and mappings, and say what an update would do to the databases; change nothing."""
    settings = config.load(settings_file)
    _check_mappings(settings)
    for line in _check_databases(settings):
        _say(line)
    _say("Settings and mappings hold.")


@app.command()
def demo(
    dicom: Annotated[Path | None, typer.Option(help="A folder with one real study, instead of the sample.")] = None,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps everything.")] = Path("build/demo"),
    stay: Annotated[
        bool | None, typer.Option(help="Keep the pages up at the end; default where a person looks on.")
    ] = None,
) -> None:
    """Send one study through everything and show what came of it."""
    from btt_bridge import demo as demonstration

    stay = sys.stdin.isatty() and sys.stdout.isatty() if stay is None else stay
    demonstration.run(dicom, folder, stay=stay)


# --- what its people ask --------------------------------------------------------------------------------


@app.command()
def trace(accession_or_uid: str, settings_file: SettingsFile = None) -> None:
    """Say where a study is and why, by Accession Number or Study Instance UID."""
    journal = _journal(config.load(settings_file))
    for journey in _found(journal, accession_or_uid):
        _say(f"journey {journey.id}, revision {journey.revision}: {journey.state}"
             + (f" ({journey.reason})" if journey.reason else ""))  # fmt: skip
        for step in journal.steps(journey.id):
            why = f"  {step.reason}" if step.reason else ""
            _say(f"  {step.at:%Y-%m-%d %H:%M:%S}  {step.event:<14} → {step.to_state:<12} {step.seconds:7.3f} s{why}")
        for name, fact in journey.facts.items():
            if name in ("complete", "assign", "placement", "receipt", "charge"):
                _say(f"  {name}: {json.dumps(fact, default=str)}")
        for delivery in journal.deliveries(journey.id):
            note = f": {delivery.error}. {delivery.advice}" if delivery.error else ""
            _say(f"  {delivery.kind} to {delivery.destination}: {delivery.state} after {delivery.attempts} tries{note}")


@app.command()
def resend(
    accession_or_uid: str,
    everything: Annotated[bool, typer.Option("--all", help="Also what was delivered before.")] = False,
    settings_file: SettingsFile = None,
) -> None:
    """Put a study's dead letters back in the outbox; what waits there for its next try is tried at once."""
    journal = _journal(config.load(settings_file))
    count = journal.resend(_found(journal, accession_or_uid)[-1].id, include_delivered=everything)
    _say(f"{count} deliveries are in the outbox again.")


@app.command()
def release(accession_or_uid: str, settings_file: SettingsFile = None) -> None:
    """Send a held, unrouted or failed study on; it is matched anew, for the mappings may have changed."""
    from btt_bridge.journey import Event, State

    journal = _journal(config.load(settings_file))
    journey = _found(journal, accession_or_uid)[-1]
    event = Event.RETRIED if journey.state is State.FAILED else Event.RELEASED
    journal.advance(journey, event, reason="released by hand")
    _say(f"Journey {journey.id} goes on.")


@app.command()
def expect(accession_number: str, instances: int, settings_file: SettingsFile = None) -> None:
    """Say how many instances an order announced, as evidence of its completion."""
    if instances < 1:
        raise typer.BadParameter("an order announces at least one instance")
    _journal(config.load(settings_file)).expect(accession_number, instances)
    _say(f"{instances} instances are expected.")


@app.command()
def told(
    state: Annotated[str, typer.Option(help="Only those that are waiting, counted, unconsented or refused.")] = "",
    again: Annotated[int, typer.Option(help="Look at the version of this number once more.")] = 0,
    limit: int = 50,
    settings_file: SettingsFile = None,
) -> None:
    """Say what the EHR told last, and what each version came to."""
    from btt_bridge import inbox

    if state and state not in list(inbox.State):
        raise typer.BadParameter(f"a state is one of {', '.join(inbox.State)}")
    box = inbox.Inbox(config.load(settings_file).journal_url)
    if again:
        box.again(again)
    for kept in box.newest(limit, inbox.State(state) if state else None):
        name = f"{kept.told.source} {kept.told.identity.reference} version {kept.version}"
        _say(f"{kept.id:>8}  {kept.received_at:%Y-%m-%d %H:%M:%S}  {kept.state:<11}  {name}: {kept.outcome}")


@app.command("settings")
def print_settings() -> None:
    """Print every setting with its default, its limits and what it is for, as docs/settings.md has it."""
    typer.echo(config.reference(), nl=False)


@app.command()
def key(settings_file: SettingsFile = None) -> None:
    """Print this bridge's public key, by which an exchange admits it."""
    from btt_bridge.signing import Signer

    _say(Signer.load(config.load(settings_file).keys_dir / "bridge.key").public)


@app.command()
def version() -> None:
    """Print the version."""
    _say(__version__)


# --- the processes that `up` keeps alive ----------------------------------------------------------------


@app.command(hidden=True)
def listen(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run one DIMSE listener."""
    from btt_bridge import worker

    worker.listen(_start(settings_file, with_parent), _until_told(threading.Event()))


@app.command("fhir", hidden=True)
def listen_fhir(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run the FHIR door."""
    from btt_bridge import worker

    worker.listen_fhir(_start(settings_file, with_parent), _until_told(threading.Event()))


@app.command(hidden=True)
def work(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run the worker that takes studies along their path."""
    from btt_bridge import worker

    worker.work(_start(settings_file, with_parent), _until_told(threading.Event()))


@app.command(hidden=True)
def exchange(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run the pool's exchange."""
    from btt_bridge import worker

    worker.run_exchange(_start(settings_file, with_parent), _until_told(threading.Event()))


@app.command()
def node(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run a GPU node; beside a bridge, the hospital's own."""
    settings = _start(settings_file, with_parent)
    stop = _until_told(threading.Event())
    if with_parent:
        from btt_bridge import worker

        worker.run_node(settings, stop)
    else:
        from btt_bridge import infer

        infer.main(settings.node, stop)


@app.command(hidden=True)
def web(settings_file: SettingsFile = None, with_parent: WithParent = 0) -> None:
    """Run the pages and the metrics."""
    from btt_bridge import worker

    worker.run_web(_start(settings_file, with_parent))


# --- within ---------------------------------------------------------------------------------------------


def _start(settings_file: Path | None, with_parent: int = 0) -> config.Settings:
    settings = config.load(settings_file)
    log.configure(settings.log_level)
    log.mute_others()
    if with_parent:
        from btt_bridge.isolate import die_with_parent

        die_with_parent(with_parent)
    return settings


def _check_mappings(settings: config.Settings) -> None:
    """Hold the mappings against the services and destinations that there are; tell all that is wrong, and end."""
    from btt_bridge import assign, plugins, settle

    destinations = {destination.name for destination in settings.destinations}
    names = assign.Names(plugins.services().keys(), destinations, _priced_hardware(settings))
    problems = [*assign.check(settings.mappings_dir, names), *settle.check(settings.mappings_dir)]
    for problem in problems:
        _complain(problem)
    if problems:
        raise typer.Exit(1)


def _priced_hardware(settings: config.Settings) -> set[str] | None:
    """Return the hardware classes that have a price; None where the lists are wrong, which their own check tells."""
    from btt_bridge.settle import prices

    try:
        return {name for one in prices.load(settings.mappings_dir / "prices") for name in one.hardware_percent}
    except MappingError:
        return None


def _check_databases(settings: config.Settings) -> list[str]:
    """Return what each database has of our tables; raise ConfigurationError where a newer version wrote one."""
    from btt_bridge import database, inbox, journal, migrations, vault
    from btt_bridge.exchange import tables
    from btt_bridge.ledger import guards
    from btt_bridge.settle.rewards import claims

    databases = [(settings.journal_url, module.metadata) for module in (inbox, journal, vault)]
    databases += [(settings.ledger_url, module.metadata) for module in (claims, guards)]
    databases += [(settings.exchange_database_url, tables.metadata)] if settings.local_exchange else []
    lines = []
    for url, metadata in databases:
        found, wanted = database.revision(url, metadata), migrations.newest(metadata)
        line = f"has {found}" if found else f"is not there yet, and will have {wanted}"
        will = f", and will be brought to {wanted} by the next start" if found not in ("", wanted) else ""
        lines.append(f"The database of {metadata.info['history']} {line}{will}.")
    return lines


def _until_told(stop: threading.Event) -> threading.Event:
    """Set `stop` on SIGTERM and SIGINT."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _journal(settings: config.Settings) -> Journal:
    from btt_bridge.journal import Journal

    return Journal(settings.journal_url)


def _found(journal: Journal, accession_or_uid: str) -> list[Journey]:
    found = journal.find(accession_or_uid)
    if not found:
        raise UnknownError("no study with this Accession Number or Study Instance UID has arrived")
    return found


def _say(line: str) -> None:
    typer.echo(line)


def _complain(problem: BridgeError) -> None:
    typer.echo(str(problem), err=True)
    if problem.advice:
        typer.echo(f"    {problem.advice}", err=True)


if __name__ == "__main__":
    main()
