"""What the accounts do as time passes: holds and points expire, batches close and are anchored, payments go out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from btt_bridge import log
from btt_bridge.clock import Clock
from btt_bridge.config import Settings
from btt_bridge.errors import BridgeError
from btt_bridge.ledger import Ledger, batches
from btt_bridge.plugins import ChainRail, SettlementRail
from btt_bridge.settle import chain, payfi, token
from btt_bridge.settle.billing import Billing
from btt_bridge.settle.clinical import Clinical
from btt_bridge.settle.rewards import Rewards
from btt_bridge.signing import Signer

_log = log.logger("settle")

#: How often the next patients are looked at for points that have expired.
_SWEEP_SECONDS = 60.0
#: How often it is looked for months of the token's allocations that are over.
_RELEASE_SECONDS = 86400.0
#: How often a chain is told of new roots and asked for burns: a block or a few later.
_CHAIN_SECONDS = 60.0
#: How often what stakes give their bridges is attested afresh.
_ATTEST_SECONDS = 600.0


@dataclass
class Duty:
    """Something to be done again and again, whoever else does it too."""

    name: str
    seconds: float
    do: Callable[[], object]
    due_at: float = field(default=float("-inf"))


def tick(duties: Sequence[Duty], clock: Clock) -> None:
    """Do what is due; one that fails is logged, costs no other its turn, and comes again."""
    for duty in duties:
        if clock.monotonic() < duty.due_at:
            continue
        duty.due_at = clock.monotonic() + duty.seconds
        try:
            duty.do()
        except Exception as problem:
            # A bank or a database that is away comes back; a person may have to do what one of our own errors says.
            reason = str(problem) if isinstance(problem, BridgeError) else ""
            _log.warning("duty not done", process=duty.name, reason=reason, error=type(problem).__name__)


def duties(settings: Settings, billing: Billing, clinical: Clinical, signer: Signer) -> list[Duty]:
    """Return the duties of one bridge's accounts, by its mappings and settings."""
    every, ledger = timedelta(seconds=settings.settle.batch_seconds), billing.ledger
    found = [Duty("holds", settings.reap_seconds, billing.expire)]
    if every:
        found.append(Duty("batches", settings.reap_seconds, lambda: batches.close_due(ledger, signer, every)))
    if clinical.clearing is not None:
        clearing, rail, inbox = clinical.clearing, payfi.open_rail(settings), clinical.inbox
        folder = payfi.open_documents(settings)
        found.append(Duty("payments", settings.payfi.run_seconds, lambda: payfi.run(clearing, rail)))
        tell = partial(payfi.documents.write, clearing, folder, inbox.request)
        found.append(Duty("documents", settings.payfi.run_seconds, tell))
        found += _on_chain(settings, ledger, rail)
    if clinical.incentives is not None:
        found.append(Duty("points", _SWEEP_SECONDS, _Sweep(clinical.incentives.rewards)))
    if (settings.mappings_dir / "token").is_dir():
        releases = _in_its_book(settings, ledger, lambda book: book.supply.release())
        renewed = _in_its_book(settings, ledger, lambda book: book.dedications.renew(signer, settings.attestations_dir))
        found += [Duty("releases", _RELEASE_SECONDS, releases), Duty("attestations", _ATTEST_SECONDS, renewed)]
    return found


@contextlib.contextmanager
def upkeep(settings: Settings, ledger: Ledger, found: Sequence[Duty]) -> Iterator[None]:
    """Do the duties in a thread of their own for the length of the block."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(settings.reap_seconds):
            tick(found, ledger.clock)

    thread = threading.Thread(target=run, name="upkeep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _on_chain(settings: Settings, ledger: Ledger, rail: SettlementRail) -> list[Duty]:
    """Return what there is to do where the rail is on a chain: roots of the book go there, burns come from there."""
    if not isinstance(rail, ChainRail):
        return []
    found = [Duty("roots", _CHAIN_SECONDS, lambda: chain.anchor(ledger, rail))]
    if (settings.mappings_dir / "token").is_dir():
        burns = _in_its_book(settings, ledger, lambda book: chain.book_burns(book.supply, rail))
        found.append(Duty("burns", _CHAIN_SECONDS, burns))
    return found


def _in_its_book(settings: Settings, ledger: Ledger, do: Callable[[token.Token], object]) -> Callable[[], None]:
    """Return what does something of the token where this ledger is its book, and nothing elsewhere."""

    def act() -> None:
        if (book := token.find_token(settings.mappings_dir, ledger)) is not None:
            do(book)

    return act


class _Sweep:
    """Goes through all patients, a page at a time, and begins again."""

    def __init__(self, rewards: Rewards) -> None:
        self._rewards = rewards
        self._after = ""

    def __call__(self) -> None:
        self._after = self._rewards.sweep(self._after)
