"""`/health` and `/metrics`: true answers for machines, without a word about a patient."""

from __future__ import annotations

import socket

from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from btt_bridge import web
from btt_bridge.config import Settings
from btt_bridge.journey import State
from tests.peers.server import free_port
from tests.web.conftest import House
from tests.web.test_pages import PATIENT


def health(house: House, **accept: object) -> tuple[int, dict[str, object]]:
    """Ask for the health of this house under other settings."""
    settings = Settings(
        data_dir=house.settings.data_dir,
        accept={"port": free_port(), "free_bytes_min": 0, **accept},
        dispatch={"exchange_url": f"http://127.0.0.1:{free_port()}"},
    )
    app = web.app(settings, house.journal, house.ledger, house.store, house.clock)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.get("/health")
        return answer.status_code, answer.json()


def test_health_is_200_where_everything_vital_is_well(house: House) -> None:
    """With a listener and a database it is well; without the pool it says so and stays 200, for studies are taken."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        status, body = health(house, port=listener.getsockname()[1])
    assert status == 200
    assert body["well"] is True
    wells = {name: check["well"] for name, check in body["checks"].items()}  # type: ignore[attr-defined]
    assert wells == {"database": True, "spool": True, "listener": True, "exchange": False, "FHIR door": False}


def test_health_is_503_without_a_listener_without_space_and_without_a_database(house: House) -> None:
    """Each vital thing that is not well makes the whole not well, and is named."""
    status, body = health(house)
    assert (status, body["checks"]["listener"]["well"]) == (503, False)  # type: ignore[index]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        status, body = health(house, port=port, free_bytes_min=2**62)
        assert (status, body["checks"]["spool"]["well"]) == (503, False)  # type: ignore[index]
        house.journal.engine.dispose()
        (house.settings.data_dir / "bridge.db").unlink()
        (house.settings.data_dir / "bridge.db").mkdir()
        status, body = health(house, port=port)
        assert (status, body["checks"]["database"]["well"]) == (503, False)  # type: ignore[index]
        assert "bridge.db" not in str(body), "an exception's own text stays inside"


def test_health_is_a_page_to_a_browser(house: House) -> None:
    """The same address answers a person in words."""
    page = house.client.get("/health", headers={"accept": "text/html,*/*"})
    assert page.status_code == 503
    assert "Not well" in page.text


def test_metrics_count_and_name_no_patient(house: House) -> None:
    """Every known state is there, at zero if need be; nothing that came out of an image is."""
    house.complete(house.receive(PATIENT))
    house.clock.advance(30)
    answer = house.client.get("/metrics")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}

    assert {sample.labels["state"]: sample.value for sample in families["btt_studies"].samples} == {
        state: float(state is State.COMPLETE) for state in State
    }
    assert families["btt_oldest_due_seconds"].samples[0].value == 30
    assert families["btt_objects_received"].samples[0].value == 1
    assert families["btt_spool_free_bytes"].samples[0].value > 0
    for secret in ("Doe", "Jane", "MRN-17", "1961", "Thorax", "ACC-1", "2.25."):
        assert secret not in answer.text
