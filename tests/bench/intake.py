"""Objects taken in a second, each one fsynced and indexed before its answer, against receivers that are neither.

`python -m tests.bench.intake` prints the table; `BTT_BENCH_ROUNDS` says how often it is measured (3). Receivers take
turns within a round, so that whatever else the machine does falls on all of them; the median of rounds counts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, evt

from btt_bridge.accept import serve
from btt_bridge.config import Settings
from btt_bridge.testing import RecordingBell
from tests.peers import dcmtk, pacs
from tests.peers.server import Server, folder, free_port, listening, program, started

#: Rows and columns of a 16-bit CT image: 39 kB and 526 kB as a file.
SIDES = {"small": 138, "big": 512}
#: Objects for each association.
OBJECTS = {("small", 1): 1200, ("small", 4): 600, ("big", 1): 300, ("big", 4): 120}
#: The same for a peer that stalls at each object: what takes 20 in a second needs no more to be told apart.
OBJECTS_STALLED = 24
MEMORY_OBJECTS = (2_000, 20_000)
#: Listener processes, by associations: a second one pays with four senders on two cores, and not with one.
PROCESSES = {1: 1, 4: 2}

#: Of one length, so that one can take the place of another in an encoded object.
_UID = "1.2.826.0.1.3680043.10.1338.1{:011}.1{:05}"


@dataclass(frozen=True)
class Receiver:
    """Somebody who listens."""

    name: str
    port: int
    ae_title: str
    processes: tuple[int, ...] = ()


# --- what is sent ---------------------------------------------------------------------------------------


class Images:
    """Files for `storescu`, new SOP Instances each time: what is sent twice is stored once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._templates = {name: _template(side) for name, side in SIDES.items()}
        self._series = 0

    @contextlib.contextmanager
    def folders(self, size: str, associations: int, objects: int) -> Iterator[list[Path]]:
        """Write a folder of images for each association; they are removed after use."""
        made = []
        for _ in range(associations):
            self._series += 1
            made.append(self._root / f"series-{self._series}")
            made[-1].mkdir()
            for number in range(objects):
                content = self._templates[size].replace(_UID.format(0, 0).encode(), self._uid(number))
                (made[-1] / f"{number:06}.dcm").write_bytes(content)
        # The disk must be done with these before anybody's fsync is measured.
        os.sync()
        yield made
        for folder_ in made:
            shutil.rmtree(folder_)

    def _uid(self, number: int) -> bytes:
        return _UID.format(self._series, number).encode()


def _template(side: int) -> bytes:
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, _UID.format(0, 0)
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3.1", "1.2.3.2", "CT"
    ds.PatientName, ds.PatientID = "Bench^Intake", "BENCH"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 15, 1, 1
    ds.PhotometricInterpretation = "MONOCHROME2"
    noise = np.random.default_rng(1).integers(-1000, 1000, (side, side), dtype=np.int16)
    ds.add_new("PixelData", "OW", noise.astype("<i2").tobytes())
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = DicomBytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def send(receiver: Receiver, folders: list[Path], *, nagle: bool) -> float:
    """Send each folder by a `storescu` of its own, all at once; return objects a second."""
    environment = {key: value for key, value in os.environ.items() if key != "TCP_NODELAY"}
    if not nagle:
        environment["TCP_NODELAY"] = "1"
    command = [program("storescu"), "+sd", "-aec", receiver.ae_title, "127.0.0.1", str(receiver.port)]
    count = sum(len(list(one.iterdir())) for one in folders)
    began = time.perf_counter()
    senders = [
        subprocess.Popen([*command, one], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for one in folders
    ]
    for sender in senders:
        _, errors = sender.communicate(timeout=600)
        if sender.returncode or "E:" in errors:
            raise RuntimeError(f"{receiver.name} refused: {errors[:500]}")
    return count / (time.perf_counter() - began)


# --- who receives ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def ours(processes: int) -> Iterator[Receiver]:
    """Our listener, as it is by default: SQLite, fsync and index commit before each answer."""
    port = free_port()
    with folder("bench") as home, contextlib.ExitStack() as running:
        servers = []
        for number in range(processes):
            server = Server(
                "the listener",
                [sys.executable, "-m", "tests.bench.intake", "listen", home / "data", str(port)],
                log=home / f"log-{number}",
                ready=lambda number=number: b"ready" in (home / f"log-{number}").read_bytes(),
            )
            running.enter_context(started(server))
            servers.append(server)
        yield Receiver("ours", port, "BTT_BRIDGE", tuple(_pid(home, number) for number in range(processes)))


def _pid(home: Path, number: int) -> int:
    words = (home / f"log-{number}").read_text().split()
    return int(words[words.index("ready") + 1])


def listen(data_dir: Path, port: int) -> None:
    """Be one listener process."""
    settings = Settings(data_dir=data_dir, accept={"port": port})
    serve(settings, RecordingBell(), threading.Event(), lambda _: print("ready", os.getpid(), flush=True))


@contextlib.contextmanager
def orthanc() -> Iterator[Receiver]:
    """Orthanc with Debian's defaults for storage and index."""
    with pacs.orthanc(settings={"StableAge": 60}) as running:
        yield Receiver("Orthanc", running.dicom_port, running.ae_title)


@contextlib.contextmanager
def storescp() -> Iterator[Receiver]:
    """DCMTK's storescp, a process for each association; neither durable nor indexed."""
    with dcmtk.storescp() as running:
        yield Receiver("storescp --fork", running.port, running.ae_title)


@contextlib.contextmanager
def pynetdicom() -> Iterator[Receiver]:
    """pynetdicom as its documentation would have it, writing what it received as bytes; not durable, no index."""
    port = free_port()
    with folder("bench") as home:
        server = Server(
            "pynetdicom",
            [sys.executable, "-m", "tests.bench.intake", "pynetdicom", home, str(port)],
            log=home / "log",
            ready=lambda: listening(port),
        )
        with started(server):
            yield Receiver("pynetdicom", port, "ANY")


def receive_by_pynetdicom(home: Path, port: int) -> None:
    """Be a storage SCP of pynetdicom."""
    entity = AE("ANY")
    entity.maximum_pdu_size = 131072
    entity.supported_contexts = AllStoragePresentationContexts

    def store(event: evt.Event) -> int:
        (home / event.request.AffectedSOPInstanceUID).write_bytes(event.encoded_dataset())
        return 0

    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store)])


@contextlib.contextmanager
def nodelay(value: bool) -> Iterator[None]:
    """Start receivers with DCMTK's switch for TCP_NODELAY as their sender has it: on, or as Debian ships them."""
    before = os.environ.pop("TCP_NODELAY", None)
    if value:
        os.environ["TCP_NODELAY"] = "1"
    try:
        yield
    finally:
        os.environ.pop("TCP_NODELAY", None)
        if before is not None:
            os.environ["TCP_NODELAY"] = before


# --- what comes of it -----------------------------------------------------------------------------------


def nagle_off(images: Images, rounds: int) -> list[dict[str, Any]]:
    """Measure all four against all three peers."""
    measured: list[dict[str, Any]] = []
    with nodelay(True), contextlib.ExitStack() as running:
        peers = [running.enter_context(peer()) for peer in (orthanc, pynetdicom, storescp)]
        listeners = {count: running.enter_context(ours(count)) for count in sorted(set(PROCESSES.values()))}
        for size, associations in OBJECTS:
            us = listeners[PROCESSES[associations]]
            rates = _interleaved([us, *peers], images, size, associations, rounds)
            for peer in peers:
                measure = f"intake {size}, {_times(associations)}, Nagle off, objects/s"
                at_least = _at_least(peer.name, size, associations)
                measured.append(_row(measure, peer.name, rates["ours"], rates[peer.name], at_least))
    return measured


def _at_least(peer: str, size: str, associations: int) -> float:
    if peer == "storescp --fork":
        return 0.6 if associations == 1 else 0.8
    return 2.5 if (peer, size) == ("pynetdicom", "big") else 3.0


def _interleaved(
    receivers: list[Receiver], images: Images, size: str, associations: int, rounds: int
) -> Mapping[str, float]:
    rates: dict[str, list[float]] = {receiver.name: [] for receiver in receivers}
    for number in range(rounds):
        with images.folders(size, associations, OBJECTS[size, associations]) as folders:
            for receiver in receivers[number % len(receivers) :] + receivers[: number % len(receivers)]:
                rates[receiver.name].append(send(receiver, folders, nagle=False))
    return {name: statistics.median(found) for name, found in rates.items()}


def nagle_on(images: Images) -> list[dict[str, Any]]:
    """Measure all four against the two that stall."""
    measured = []
    with nodelay(False), contextlib.ExitStack() as running:
        peers = [running.enter_context(peer()) for peer in (orthanc, storescp)]
        listeners = {count: running.enter_context(ours(count)) for count in sorted(set(PROCESSES.values()))}
        for size, associations in OBJECTS:
            with images.folders(size, associations, OBJECTS[size, associations]) as folders:
                rate = send(listeners[PROCESSES[associations]], folders, nagle=True)
            for peer in peers:
                with images.folders(size, associations, OBJECTS_STALLED) as folders:
                    theirs = send(peer, folders, nagle=True)
                measure = f"intake {size}, {_times(associations)}, Nagle on, objects/s"
                measured.append(_row(measure, peer.name, rate, theirs, 20.0 if size == "small" else 10.0))
    return measured


def memory(images: Images) -> dict[str, Any]:
    """Compare the listener's resident memory after few and after many objects, in bytes."""
    resident, sent = [], 0
    with nodelay(True), ours(1) as us:
        for objects in MEMORY_OBJECTS:
            while sent < objects:
                with images.folders("small", 2, 1000) as folders:
                    send(us, folders, nagle=False)
                sent += 2000
            resident.append(psutil.Process(us.processes[0]).memory_info().rss)
    few, many = resident
    return {
        "measure": f"listener's memory after {MEMORY_OBJECTS[1]:,} objects, MiB",
        "against": f"its own after {MEMORY_OBJECTS[0]:,}",
        "value": round(many / 2**20, 1),
        "peer": round(few / 2**20, 1),
        "ratio": round(few / many, 2),
        "at_least": 0.9,
    }


def _times(associations: int) -> str:
    return "1 association" if associations == 1 else f"{associations} associations"


def _row(measure: str, against: str, value: float, peer: float, at_least: float) -> dict[str, Any]:
    return {
        "measure": measure,
        "against": against,
        "value": round(value, 1),
        "peer": round(peer, 1),
        "ratio": round(value / peer, 2),
        "at_least": at_least,
    }


def measure(rounds: int = 0) -> list[dict[str, Any]]:
    """Measure everything; some six minutes on two quiet cores."""
    rounds = rounds or int(os.environ.get("BTT_BENCH_ROUNDS", "3"))
    with folder("images") as root:
        images = Images(root)
        return [*nagle_off(images, rounds), *nagle_on(images), memory(images)]


def main(words: list[str]) -> None:
    if words[:1] == ["listen"]:
        listen(Path(words[1]), int(words[2]))
    elif words[:1] == ["pynetdicom"]:
        receive_by_pynetdicom(Path(words[1]), int(words[2]))
    else:
        for row in measure():
            kept = "" if row["ratio"] >= row["at_least"] else "  short"
            print(
                f"{row['measure']:52} {row['against']:18} {row['value']:12,.0f} {row['peer']:12,.0f} "
                f"{row['ratio']:7.2f} of {row['at_least']}{kept}"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
