"""Follows the exchange's feed: gives keys to leases, and tells the pipeline what became of its offers."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from btt_bridge import log
from btt_bridge.dispatch.offering import Dispatcher, Offering
from btt_bridge.errors import (
    LeaseLostError,
    MalformedError,
    PeerRefusedError,
    PoolUnreachableError,
    SealBrokenError,
    SignatureError,
    UnknownError,
)
from btt_bridge.records import Lease, from_body

_log = log.logger("dispatch")

_TRIES_MAX = 5
_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the feed: `docs/exchange.md` lists the kinds and their bodies."""

    cursor: int
    kind: str
    offer_id: str
    body: Mapping[str, Any]

    @property
    def lease(self) -> Lease:
        """The lease that was granted or computed."""
        return from_body(Lease, self.body.get("lease"))


class Watch:
    """A thread on the feed of one exchange.

    `find` returns the offering of an offer that is still wanted, or None; an offer nobody wants is withdrawn when it is
    leased or computed. `tell` hears of every change, at least once and in order, but for leases and results of nodes
    that may not have the parcel: those are refused here. It should ring and return. The cursor is kept at
    `cursor_path`, so that a restart goes on where it stopped.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        find: Callable[[str], Offering | None],
        tell: Callable[[Change], None],
        cursor_path: Path,
        *,
        wait_seconds: int = 20,
    ) -> None:
        self._dispatcher = dispatcher
        self._find = find
        self._tell = tell
        self._cursor_path = cursor_path
        self._wait_seconds = wait_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dispatch-watch", daemon=True)
        self._reachable = True

    def start(self) -> None:
        """Follow the feed from the kept cursor on."""
        self._thread.start()

    def stop(self, seconds: float = 1) -> None:
        """Stop following. A request that waits is left to end by itself; what it brings is read again next time."""
        self._stopping.set()
        self._thread.join(seconds)

    def _run(self) -> None:
        cursor = self._kept()
        while not self._stopping.is_set():
            try:
                cursor = self._follow(cursor)
                self._reachable = True
            except UnknownError:
                _log.warning("the exchange has forgotten us; reading from the start")
                cursor = 0
            except Exception as problem:
                # Whatever it is, it must not end the thread that hands out keys.
                if self._reachable or not isinstance(problem, PoolUnreachableError):
                    _log.warning("the feed is interrupted", error=type(problem).__name__)
                self._reachable = not isinstance(problem, PoolUnreachableError)
                self._stopping.wait(_PAUSE_SECONDS)

    def _follow(self, cursor: int) -> int:
        """Deal with what the feed has after a cursor; return the cursor then."""
        wait = self._wait_seconds
        answer = self._dispatcher.pool.call("GET", f"/changes?after={cursor}&wait={wait}", wait_seconds=wait)
        for entry in answer["changes"] if answer else []:
            if self._stopping.is_set():
                break
            change = Change(int(entry["cursor"]), str(entry["kind"]), str(entry["offer_id"]), entry["body"])
            self._deal_with(change)
            cursor = change.cursor
            self._keep(cursor)
        return cursor

    def _deal_with(self, change: Change) -> None:
        """Act on a change and tell of it; one that cannot be dealt with is left to whoever asks for the standing."""
        for _ in range(_TRIES_MAX):
            try:
                if change.kind not in ("leased", "computed") or self._may_go_on(change):
                    self._tell(change)
                return
            except PoolUnreachableError:
                raise
            except Exception:
                _log.warning("a change could not be dealt with", offer=change.offer_id, exc_info=True)
                if self._stopping.wait(_PAUSE_SECONDS):
                    return

    def _may_go_on(self, change: Change) -> bool:
        """Give a lease its key, or see that a result is of a node that might have had one; refuse any other node."""
        offering = self._find(change.offer_id)
        # A lease that is over by now needs no key, and its offer no withdrawal.
        with contextlib.suppress(LeaseLostError):
            if offering is None:
                self._dispatcher.withdraw(change.offer_id)
                return False
            lease, node = change.lease, change.body.get("node", {})
            try:
                if change.kind == "leased":
                    self._dispatcher.place_key(offering, lease, node)
                else:
                    self._dispatcher.check_node(offering, lease, node)
                return True
            except (PeerRefusedError, SignatureError, SealBrokenError, MalformedError) as problem:
                _log.warning("this node will not do", offer=change.offer_id, node=lease.node_id, reason=str(problem))
                self._dispatcher.refuse(change.offer_id, lease.fencing_token, str(problem))
        return False

    def _kept(self) -> int:
        try:
            return int(self._cursor_path.read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _keep(self, cursor: int) -> None:
        """Keep the cursor. An older one would do as well, so nothing waits for the disk."""
        self._cursor_path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._cursor_path.with_suffix(".part")
        draft.write_text(str(cursor))
        os.replace(draft, self._cursor_path)
