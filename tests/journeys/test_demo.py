"""The demo, as a person runs it: one command, and all that it promises is there when it ends."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from pydicom import dcmread

from btt_bridge import config
from btt_bridge.ledger import Ledger
from btt_bridge.supervisor import DOORS, as_it_runs
from tests.peers.server import listening

_SECONDS_MAX = 300


def _demo(study: Path, folder: Path) -> str:
    """Run the demo to its end, which must be a good one; return what it said."""
    command = [sys.executable, "-m", "btt_bridge.cli", "demo", "--dicom", str(study), "--folder", str(folder)]
    environment = {**os.environ, "COLUMNS": "200", "BTT_NODE__THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS_MAX, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + (folder / "bridge.log").read_text()
    return done.stdout


def test_the_demo_shows_what_came_of_a_study(phantom: Path, tmp_path: Path) -> None:
    """The report has every table, what the PACS received is SR, SEG and pictures, the ledger balances to zero, the
    page whose address it tells was served, and nothing of the bridge is left running."""
    folder = tmp_path / "demo"
    report = _demo(phantom, folder)
    for line in ("44 objects acknowledged", "Where the time went", "Findings, read back", "nodule-1", "The ledger"):
        assert line in report
    balances = re.findall(r"trial balance\W+([\d.]+) \w+", report)
    assert balances
    assert {float(balance) for balance in balances} == {0}

    received = [dcmread(path, stop_before_pixels=True) for path in (folder / "pacs").iterdir()]
    assert Counter(one.Modality for one in received) == {"SR": 1, "SEG": 1, "OT": 4}
    assert {one.SOPClassUID.name for one in received if one.Modality == "OT"} == {"Secondary Capture Image Storage"}

    settings = as_it_runs(config.load(folder / "bridge.yaml"))
    assert settings is not None
    assert f"http://{settings.web.host}:{settings.web.port}/studies/" in report
    assert "nodule-1" in (folder / "study.html").read_text()
    assert [door for door in DOORS if listening(getattr(settings, door).port)] == []
    with closing(Ledger(settings.ledger_url)) as ledger:
        assert any(balance.credits_posted for balance in ledger.balances())
        assert not any(ledger.trial_balance().values())
