"""A route asks for hardware that there is not: its study waits, is run on nothing less, and costs nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from btt_bridge.journey import State
from tests.journeys.bridge import ROOT, running
from tests.journeys.studies import Make
from tests.peers import dcmtk


def test_a_study_for_a_gpu_is_not_run_on_a_cpu(tmp_path: Path, study: Make) -> None:
    """On the hospital's own CPU node: priced for a GPU, open to its tier past the fallback, expired, not charged."""
    shutil.copytree(ROOT / "mappings", tmp_path / "mappings")
    route = tmp_path / "mappings" / "routes" / "chest-ct.yaml"
    asking = route.read_text().replace("tier: hospital", "tier: public\n    hardware: gpu")
    route.write_text(asking.replace("deadline_seconds: 1800", "deadline_seconds: 10"))
    with running(
        tmp_path,
        mappings_dir=str(tmp_path / "mappings"),
        dispatch={"local_fallback_seconds": 0},
        node={"device": "cpu"},
        destinations=[{"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}],
    ) as bridge:
        sample = study("gpu")
        dcmtk.storescu(bridge.port, sample.files)
        failed = bridge.until(sample.study_uid, State.FAILED)
        assert failed.facts["charge"]["hardware"] == "gpu"
        assert failed.facts["offering"]["offer"]["hardware"] == "gpu"
        assert failed.reason.endswith("the deadline has passed, and no node with hardware gpu took the offer")
        with closing(sqlite3.connect(bridge.data_dir / "exchange.db")) as database:
            assert database.execute("SELECT tier, attempts FROM offer").fetchall() == [("public", 0)]
        bridge.books_balance()
        assert "btt.compute.charged.v1" not in {event["type"] for event in bridge.events()}
