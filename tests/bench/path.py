"""How long a study of 248 slices takes once it is complete, less the model's own time, by the journal's own clock."""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from btt_bridge import demo
from btt_bridge.config import Settings
from btt_bridge.journal import Journal, Journey
from btt_bridge.journey import RESTING, State
from sample_data.generate import make_chest_ct
from tests.bench import row
from tests.peers import dcmtk

_SLICES, _SIZE = 248, 512
_STUDIES = 6
_SECONDS_MAX = 300
#: What the node's receipt says of the model itself: pixels into a volume, and the volume into findings; but not the
#: time that decoding waited for the parcel to be opened.
_MODEL, _WAITED = ("decode", "run"), "open"


def measure(studies: int = _STUDIES) -> list[dict[str, Any]]:
    """Send studies one after the other, half of them complete by quiet time and half by an order's count."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, _bridge(Path(folder)) as settings:
        journal = Journal(settings.journal_url)
        for evidence in ("quiet-time", "order"):
            taken = []
            for number in range(studies):
                seed = 1 + number + (0 if evidence == "quiet-time" else studies)
                with tempfile.TemporaryDirectory() as images:
                    truth = make_chest_ct(Path(images), slices=_SLICES, size=_SIZE, spacing_mm=1.25, seed=seed)
                    demo.send(sorted(Path(images).glob("*.dcm")), settings)
                taken.append(_seconds(journal, _settled(journal, truth.study_instance_uid)))
                if evidence == "quiet-time" and number == studies - 1:
                    journal.expect(_accession(journal, truth.study_instance_uid), _SLICES)
            taken = taken[1:]  # the first study of each kind meets cold caches
            p95 = statistics.quantiles(taken, n=20, method="inclusive")[-1]
            rows += [_row(f"p50, {evidence}", statistics.median(taken), 0.4), _row(f"p95, {evidence}", p95, 1.0)]
    return rows


@contextmanager
def _bridge(folder: Path) -> Iterator[Settings]:
    with dcmtk.storescp() as pacs, demo.running(folder, pacs.port, quiet_seconds=3) as settings:
        yield settings


def _settled(journal: Journal, study_uid: str) -> Journey:
    deadline = time.monotonic() + _SECONDS_MAX
    while time.monotonic() < deadline:
        found = journal.find(study_uid)
        if found and found[-1].state in RESTING:
            assert found[-1].state is State.SETTLED, found[-1].reason
            return found[-1]
        time.sleep(0.2)
    raise AssertionError("the study did not come to rest")


def _accession(journal: Journal, study_uid: str) -> str:
    return journal.find(study_uid)[-1].accession_number


def _seconds(journal: Journal, journey: Journey) -> float:
    """From the step that called the study complete to the SR's delivery, less what the receipt says of the model."""
    complete = next(step.at for step in journal.steps(journey.id) if step.event == "completed")
    delivered = next(one.delivered_at for one in journal.deliveries(journey.id) if one.kind == "SR")
    assert delivered is not None
    timings = journey.facts["receipt"]["timings"]
    model = sum(timings[name] for name in _MODEL) - timings[_WAITED]
    seconds = (delivered - complete).total_seconds() - model
    steps = {step.from_state: round(step.seconds, 3) for step in journal.steps(journey.id)}
    print(f"  {seconds:.3f} s; steps {json.dumps(steps)}; node {json.dumps(timings)}", flush=True)
    return seconds


def _row(what: str, seconds: float, at_most: float) -> dict[str, Any]:
    """Return a line in which more is better: a time is measured as how often it fits into a second."""
    name = f"study complete to SR accepted, less the model, {_SLICES} slices of {_SIZE}x{_SIZE}, {what}"
    return row(f"{name}, 1/s", f"{at_most * 1000:.0f} ms", 1 / seconds, 1 / at_most, 1.0) | {
        "seconds": round(seconds, 3)
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=_STUDIES)
    for line in measure(parser.parse_args().studies):
        print(json.dumps(line))
