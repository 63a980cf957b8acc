"""A whole bridge as a hospital runs it: `btt-bridge up` in a process of its own, on a data folder of the test's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import requests
import yaml

from btt_bridge import config
from btt_bridge.journal import Journal, Journey
from btt_bridge.journey import RESTING, State
from btt_bridge.ledger import Ledger
from btt_bridge.ledger.audit import verify
from btt_bridge.money import Asset
from btt_bridge.supervisor import as_it_runs
from tests.peers.server import Server, wait_until

ROOT = Path(__file__).parents[2]
CNY = Asset("CNY", 2)
#: Long enough for a node that has to import torch on a busy machine.
STUDY_SECONDS_MAX = 150

_DEFAULTS: Mapping[str, Any] = {
    "mappings_dir": str(ROOT / "mappings"),
    "log_level": "INFO",
    "reap_seconds": 0.2,
    "accept": {"port": 0, "free_bytes_min": 0},
    "fhir": {"port": 0},
    "web": {"port": 0},
    "exchange": {"port": 0, "lease_seconds": 6, "ban_seconds": 1, "attempts_max": 20},
    "node": {"threads": 1},
    "assemble": {"quiet_seconds": 1.5},
    "send": {"backoff_seconds": 0.3, "backoff_seconds_max": 1},
}


class Bridge:
    """A bridge that can be looked into, killed in parts, stopped and started again."""

    #: Where nodes keep how fast this machine is; what one has measured no other has to.
    _benchmarks: ClassVar[list[Path]] = []

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.file = folder / "bridge.yaml"
        self.log = folder / "bridge.log"
        self.file.write_text(yaml.safe_dump(_merged({**_DEFAULTS, "data_dir": str(self.data_dir)}, changes)))
        self.settings = config.load(self.file)
        self.server = Server(
            "btt-bridge up",
            [sys.executable, "-m", "btt_bridge.cli", "up", "--settings", self.file],
            log=self.log,
            ready=self._healthy,
            seconds=150,
        )

    # --- as it runs -------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, or start it again on what it left behind; return once it is well."""
        for stale in self.run_dir.glob("*.port"):
            stale.unlink()
        self._measured_before()
        self.server.start()
        self.journal = Journal(self.settings.journal_url)
        self.ledger = Ledger(self.settings.ledger_url)

    def stop(self) -> None:
        """Stop it as an administrator would."""
        self.journal.engine.dispose()
        self.ledger.close()
        self.server.stop(30)

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def port(self) -> int:
        """The port of its DIMSE listener."""
        return self.port_of("accept")

    def port_of(self, door: str) -> int:
        return int((self.run_dir / f"{door}.port").read_text())

    def page(self, path: str) -> requests.Response:
        """GET one of its pages."""
        return requests.get(f"http://127.0.0.1:{self.port_of('web')}{path}", timeout=30)

    def pid(self, name: str) -> int:
        return int((self.run_dir / f"{name}.pid").read_text())

    def kill(self, name: str) -> None:
        """SIGKILL one of its processes; the bridge starts another."""
        with suppress(ProcessLookupError):  # it died a moment ago, and its successor is not there yet
            os.kill(self.pid(name), signal.SIGKILL)

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `btt-bridge WORDS` on its settings, as a person at its keyboard would."""
        command = [sys.executable, "-m", "btt_bridge.cli", *words, "--settings", str(self.file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    # --- what it knows ----------------------------------------------------------------------------------

    def journeys(self, study_uid: str) -> list[Journey]:
        """Return the revisions of a study, oldest first."""
        return self.journal.find(study_uid)

    def until(self, study_uid: str, state: State, *, revision: int = 1, seconds: float = STUDY_SECONDS_MAX) -> Journey:
        """Wait until a revision of a study is in this state and return it; it must not come to rest in another."""

        def there() -> Journey | None:
            found = [one for one in self.journeys(study_uid) if one.revision == revision]
            if not found or found[0].state is state:
                return found[0] if found else None
            assert found[0].state not in RESTING, f"revision {revision} is {found[0].state}: {found[0].reason}"
            return None

        return wait_until(there, f"revision {revision} to be {state}", seconds, 0.05)

    def events(self) -> list[dict[str, Any]]:
        """Return what the sink got, oldest first."""
        path = Path(self.settings.under_data(self.settings.settle.events_path, "events.jsonl"))
        return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    def charges(self, journey: Journey) -> list[dict[str, Any]]:
        """Return the charge events of a study's bill, once the sink has them."""
        bill = journey.facts["bill"]
        posting = self.ledger.find(self.settings.settle.hospital, f"charge:{bill}:ct-lung")
        assert posting is not None, "the study was not charged"
        (notice,) = self.ledger.notices(posting.id - 1, 1)
        wait_until(lambda: any(one["id"] == notice.hash.hex() for one in self.events()), "the event in the sink")
        wanted = notice.data["bill"]
        charged = [one for one in self.events() if one["type"] == "btt.compute.charged.v1"]
        return [one for one in charged if one["data"]["bill"] == wanted]

    def books_balance(self) -> None:
        """Assert that the ledger, recomputed from its transfers, holds, and that its trial balance is zero."""
        audit = verify(self.ledger)
        assert audit.problem == ""
        assert all(units == 0 for units in self.ledger.trial_balance().values())

    def last_words(self, characters: int = 20_000) -> str:
        return self.server.last_words(characters)

    def _measured_before(self) -> None:
        """Let the node know what that of another bridge has measured."""
        own = self.data_dir / "node" / "benchmark.json"
        known = next((file for file in self._benchmarks if file.exists()), None)
        if known and not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(known, own)
        self._benchmarks.append(own)

    def _healthy(self) -> bool:
        """Say whether every part answers: health asks the listener and the exchange, a joined node says so itself."""
        if as_it_runs(self.settings) is None:
            return False
        try:
            return self.page("/health").ok
        except requests.RequestException:
            return False


@contextmanager
def running(folder: Path, **changes: Any) -> Iterator[Bridge]:
    """Run a bridge for the length of the block; `changes` are settings that differ from the tests' defaults."""
    bridge = Bridge(folder, **changes)
    bridge.start()
    try:
        yield bridge
    finally:
        bridge.stop()


def destination(ae_title: str, port: int, name: str = "pacs") -> dict[str, Any]:
    """Return the settings of a PACS on this machine."""
    return {"name": name, "ae_title": ae_title, "host": "127.0.0.1", "port": port}


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in changes.items():
        inner = merged.get(name)
        merged[name] = _merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
