"""What an EHR tells a running bridge becomes money and points, and survives that everything is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import requests

from tests.journeys.bridge import ROOT, Bridge, destination, running
from tests.peers.server import listening, wait_until

SAMPLES = ROOT / "mappings" / "rewards" / "samples"


def put(bridge: Bridge, body: dict[str, Any]) -> int:
    port = bridge.port_of("fhir")
    wait_until(lambda: listening(port), "the FHIR door to answer")
    url = f"http://127.0.0.1:{port}/fhir/{body['resourceType']}/{body['id']}"
    headers = {"Content-Type": "application/fhir+json"}
    return requests.put(url, data=json.dumps(body), headers=headers, timeout=30).status_code


def granted(bridge: Bridge) -> list[dict[str, Any]]:
    return [event for event in bridge.events() if event["type"] == "btt.reward.granted.v1"]


def test_a_visit_earns_points_and_nothing_told_is_lost(tmp_path: Path) -> None:
    """Told, then killed at once: after the next start the visit has its points, once, and the event carries no name."""
    with running(tmp_path, local_node=False, destinations=[destination("PACS", 11113)]) as bridge:
        consent, visit = (json.loads((SAMPLES / f"{name}.json").read_text()) for name in ("consent", "checkup"))
        today = bridge.ledger.now().isoformat()
        visit |= {"start": today, "meta": {"versionId": "1", "lastUpdated": today}}
        assert [put(bridge, consent), put(bridge, visit)] == [201, 201]
        bridge.kill("work")
        bridge.stop()
        bridge.start()
        assert put(bridge, visit) == 200
        wait_until(lambda: granted(bridge), "the points")
        (event,) = granted(bridge)
        assert "Patient/example" not in json.dumps(event)
        told = bridge.cli("told").stdout
        assert "Appointment/example version 1: " in told
        assert "granted" in told
        bridge.books_balance()
