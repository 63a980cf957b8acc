"""One study through everything: a stand-in PACS, a whole bridge, and what came of it on one screen."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import requests
import yaml
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from rich.console import Console
from rich.live import Live
from rich.progress import track
from rich.table import Table

from btt_bridge import config
from btt_bridge.errors import BridgeError, DeliveryRefusedError, UnknownError
from btt_bridge.journal import Journal, Journey
from btt_bridge.journey import RESTING, State
from btt_bridge.ledger import Ledger
from btt_bridge.money import written
from btt_bridge.report import read_back
from btt_bridge.supervisor import DOORS, as_it_runs

_ROOT = Path(__file__).parents[1]
_SAMPLE = _ROOT / "sample_data" / "chest_ct"
_START_SECONDS_MAX = 120
_STUDY_SECONDS_MAX = 900
#: What each state waits for, in the words of the path.
_STAGES = {
    State.RECEIVING: "assemble", State.COMPLETE: "assign", State.ASSIGNED: "deidentify", State.STRIPPED: "dispatch",
    State.OFFERED: "infer", State.COMPUTED: "judge", State.JUDGED: "reidentify", State.RESTORED: "report",
    State.REPORTED: "send", State.DELIVERED: "settle",
}  # fmt: skip


def run(dicom: Path | None, folder: Path, *, stay: bool) -> None:
    """Send the study in `dicom` (or the sample) through a bridge whose every file lies under `folder`."""
    console = Console(emoji=False)
    files = _instances(dicom or _SAMPLE)
    if folder.exists():
        shutil.rmtree(folder)
    pacs_dir = folder / "pacs"
    pacs_dir.mkdir(parents=True)
    with _pacs(pacs_dir) as pacs_port, running(folder, pacs_port, quiet_seconds=2) as settings:
        console.print(f"[bold]BTT Bridge[/bold] listens on port {settings.accept.port} as {settings.accept.ae_title}; "
                      f"a stand-in PACS waits on port {pacs_port}.")  # fmt: skip
        study_uid, seconds = send(files, settings)
        console.print(f"{len(files)} objects acknowledged in {seconds:.2f} s; each was on disk and in the index first.")
        journal = Journal(settings.journal_url)
        journey = _watch(journal, study_uid, console)
        _show(console, journal, journey, settings, pacs_dir)
        page = f"http://{settings.web.host}:{settings.web.port}/studies/{journey.id}"
        (folder / "study.html").write_bytes(_fetched(page))
        console.print(f"\nThe study's path, with the findings on the image: [link={page}]{page}[/link]")
        if stay:
            console.print("Ctrl-C ends the demo.")
            _until_interrupted()
    if journey.state is not State.SETTLED:
        raise UnknownError(f"the study ended {journey.state}: {journey.reason}")


def _instances(folder: Path) -> list[Path]:
    """Return the DICOM files of one study, the largest where the folder holds several."""
    studies: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            try:
                ds = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID", "SOPInstanceUID"])
            except (InvalidDicomError, OSError):
                continue
            if "SOPInstanceUID" in ds:
                studies.setdefault(str(ds.get("StudyInstanceUID", "")), []).append(path)
    if not studies:
        raise UnknownError(f"{folder} holds no DICOM files")
    return max(studies.values(), key=len)


@contextmanager
def _pacs(folder: Path) -> Iterator[int]:
    """Run a small PACS that keeps what it gets as files; yield its port."""

    def keep(event: evt.Event) -> int:
        ds = event.dataset
        ds.file_meta = event.file_meta
        ds.save_as(folder / f"{ds.Modality}-{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
        return 0x0000

    ae = AE("DEMO_PACS")
    # Secondary capture, segmentation and 3D SR are what a bridge sends; explicit and implicit little endian.
    for sop_class in ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.88.34"):
        ae.add_supported_context(sop_class, ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"])
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)])
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@contextmanager
def running(folder: Path, pacs_port: int, *, quiet_seconds: float) -> Iterator[config.Settings]:
    """Run `btt-bridge up` in `folder`, its results going to a PACS on this port; yield its settings with its ports."""
    file = folder / "bridge.yaml"
    pacs = {"name": "pacs", "ae_title": "DEMO_PACS", "host": "127.0.0.1", "port": pacs_port}
    body = {
        "data_dir": str((folder / "data").absolute()),
        "mappings_dir": str(_ROOT / "mappings"),
        "log_level": "WARNING",
        **{door: {"port": 0} for door in DOORS},
        "assemble": {"quiet_seconds": quiet_seconds},
        "destinations": [pacs],
    }
    file.write_text(yaml.safe_dump(body))
    with (folder / "bridge.log").open("wb") as log_file:
        process = subprocess.Popen(
            [sys.executable, "-m", "btt_bridge.cli", "up", "--settings", str(file)], stderr=log_file, stdout=log_file
        )
        try:
            yield _ready(file, process)
        finally:
            process.terminate()
            process.wait(30)


def _ready(file: Path, process: subprocess.Popen[bytes]) -> config.Settings:
    """Wait until every part of the bridge is well; return the settings it runs with."""
    wanted = config.load(file)
    deadline = time.monotonic() + _START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        settings = as_it_runs(wanted)
        if settings and _healthy(settings):
            return settings
        time.sleep(0.1)
    raise BridgeError("the bridge did not start", advice=f"See {file.parent / 'bridge.log'}.")


def _healthy(settings: config.Settings) -> bool:
    try:
        return requests.get(f"http://{settings.web.host}:{settings.web.port}/health", timeout=2).ok
    except requests.ConnectionError:
        return False


def send(files: list[Path], settings: config.Settings) -> tuple[str, float]:
    """C-STORE the files as a PACS would; return their Study Instance UID and the seconds it took."""
    ae = AE("DEMO_PACS")
    contexts = set()
    for path in files:
        ds = dcmread(path, stop_before_pixels=True)
        contexts.add((str(ds.SOPClassUID), str(ds.file_meta.TransferSyntaxUID)))
    association = ae.associate(
        settings.accept.host,
        settings.accept.port,
        ae_title=settings.accept.ae_title,
        contexts=[build_context(sop_class, syntax) for sop_class, syntax in sorted(contexts)],
    )
    if not association.is_established:
        raise DeliveryRefusedError("the bridge refuses the association")
    started = time.monotonic()
    for path in track(files, "C-STORE", transient=True):
        if association.send_c_store(path).Status != 0x0000:
            raise DeliveryRefusedError("the bridge refuses an object")
    association.release()
    return str(ds.StudyInstanceUID), time.monotonic() - started


def _watch(journal: Journal, study_uid: str, console: Console) -> Journey:
    """Show where the study is until it comes to rest; return its last revision."""
    deadline = time.monotonic() + _STUDY_SECONDS_MAX
    with Live(console=console, refresh_per_second=8, transient=True) as live:
        while time.monotonic() < deadline:
            found = journal.find(study_uid)
            if found:
                live.update(_progress(journal, found[-1]))
                if found[-1].state in RESTING:
                    return found[-1]
            time.sleep(0.1)
    raise BridgeError("the study did not come to rest in time")


def _progress(journal: Journal, journey: Journey) -> Table:
    passed = {step.from_state for step in journal.steps(journey.id)}
    table = Table.grid(padding=(0, 2))
    for state, stage in _STAGES.items():
        mark = "[green]✔[/green]" if state in passed else "[yellow]…[/yellow]" if state is journey.state else " "
        table.add_row(mark, stage)
    return table


def _show(console: Console, journal: Journal, journey: Journey, settings: config.Settings, pacs_dir: Path) -> None:
    console.print(_time_table(journal, journey))
    for delivery in journal.deliveries(journey.id):
        if delivery.kind == "SR" and delivery.state == "delivered":
            content = (pacs_dir / f"SR-{delivery.sop_instance_uid}.dcm").read_bytes()
            console.print(_findings_table(content))
    console.print(_arrivals_table(pacs_dir))
    console.print(_ledger_table(Ledger(settings.ledger_url)))


def _time_table(journal: Journal, journey: Journey) -> Table:
    """Where the time went; a waiting state counts from the step before, a working one what its work took."""
    table = Table("stage", "seconds", "until", "why", title="Where the time went")
    before = journey.opened_at
    receipt = journey.facts.get("receipt", {})
    for step in journal.steps(journey.id):
        if step.from_state == State.OFFERED and receipt:
            started = datetime.fromisoformat(receipt["started_at"])
            table.add_row("exchange", f"{(started - before).total_seconds():.3f}", "leased", "waiting for a node")
            before = started
        stage = _STAGES.get(State(step.from_state), step.from_state)
        table.add_row(stage, f"{(step.at - before).total_seconds():.3f}", step.to_state, step.reason)
        before = step.at
        if step.from_state == State.OFFERED:
            for name, seconds in receipt.get("timings", {}).items():
                table.add_row(f"  {name}", f"{seconds:.3f}", "", "")
    return table


def _findings_table(sr: bytes) -> Table:
    table = Table("finding", "diameter mm", "volume mm³", "score", title="Findings, read back from the SR at the PACS")
    reported = read_back(sr)
    for finding in reported.findings:
        table.add_row(finding.name, f"{finding.diameter_mm:.1f}", f"{finding.volume_mm3:.0f}", f"{finding.score:.2f}")
    for measurement in reported.measurements:
        table.add_row(measurement.concept.meaning, f"{measurement.value:.4g} {measurement.unit}", "", "")
    return table


def _arrivals_table(pacs_dir: Path) -> Table:
    table = Table("object", "bytes", "series", title=f"What the PACS received, in {pacs_dir}")
    for path in sorted(pacs_dir.glob("*.dcm")):
        ds = dcmread(path, stop_before_pixels=True)
        table.add_row(ds.SOPClassUID.name, f"{path.stat().st_size:,}", str(ds.get("SeriesDescription", "")))
    return table


def _ledger_table(ledger: Ledger) -> Table:
    """Every account that moved, and the trial balance, which is zero or the books are wrong."""
    table = Table("account", "debits", "credits", "balance", title="The ledger")
    for balance in ledger.balances():
        if balance.debits_posted or balance.credits_posted:
            sums = (balance.debits_posted, balance.credits_posted, balance.units)
            table.add_row(balance.account, *(written(units, balance.asset) for units in sums))
    for asset, units in ledger.trial_balance().items():
        table.add_row("[bold]trial balance", "", "", f"[bold]{written(units, asset)}")
    return table


def _fetched(page: str) -> bytes:
    answer = requests.get(page, timeout=30)
    answer.raise_for_status()
    return answer.content


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        return
