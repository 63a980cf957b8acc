"""The FHIR door over real HTTP: durable before yes, everything else an OperationOutcome that quotes nothing."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
import requests
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome

from btt_bridge.accept import serve_fhir
from btt_bridge.config import Settings
from btt_bridge.inbox import Inbox
from btt_bridge.testing import RecordingBell

JSON = {"Content-Type": "application/fhir+json"}
KINDS = ("Appointment", "Claim", "Consent")
SECRET = "Jane Doe"


class Door:
    """The door as an EHR sees it, and the inbox behind it."""

    def __init__(self, port: int, inbox: Inbox, bell: RecordingBell) -> None:
        self.port, self.inbox, self.bell = port, inbox, bell
        self.base = f"http://127.0.0.1:{port}/fhir"

    def send(self, method: str, path: str, body: Any = None, **headers: str) -> requests.Response:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        return requests.request(method, f"{self.base}{path}", data=data, headers={**JSON, **headers}, timeout=30)


@contextmanager
def opened(folder: Path, **fhir: Any) -> Iterator[Door]:
    settings = Settings(data_dir=folder, fhir={"port": 0, **fhir})  # type: ignore[arg-type]
    folder.mkdir(exist_ok=True)
    bell, stop, ports = RecordingBell(), threading.Event(), Queue[int]()
    thread = threading.Thread(target=serve_fhir, args=(settings, KINDS, bell, stop, ports.put))
    thread.start()
    try:
        with closing(Inbox(settings.journal_url)) as inbox:
            yield Door(ports.get(timeout=30), inbox, bell)
    finally:
        stop.set()
        thread.join(timeout=30)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with opened(tmp_path / "data") as door:
        yield door


def appointment(identifier: str = "17", **more: Any) -> dict[str, Any]:
    patient = {"actor": {"reference": "Patient/1", "display": SECRET}, "status": "accepted"}
    return {"resourceType": "Appointment", "id": identifier, "status": "fulfilled", "participant": [patient], **more}


def refused(answer: requests.Response, status: int) -> str:
    """Check that this is a proper no that tells nobody's name; return its code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/fhir+json")
    assert SECRET not in answer.text
    outcome = OperationOutcome.model_validate_json(answer.text)
    assert outcome.issue[0].diagnostics
    return str(outcome.issue[0].code)


def test_an_update_is_kept_as_it_came_and_once(door: Door) -> None:
    """201 for what is new, 200 for the same again, the bell rung, and the bytes as they were sent."""
    content = json.dumps(appointment(), indent=3).encode()
    first = door.send("PUT", "/Appointment/17", content)
    again = door.send("PUT", "/Appointment/17", content)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.headers["etag"] == again.headers["etag"] == 'W/"1"'
    (kept,) = door.inbox.newest(10)
    assert (kept.told.content, kept.told.patient, kept.told.source) == (content, "Patient/1", "local")
    assert ("told", "") in door.bell.rings


def test_what_is_created_gets_an_id_of_ours(door: Door) -> None:
    """Two creations are two resources; a conditional one, which would need a search, is refused."""
    answers = [door.send("POST", "/Appointment", appointment()) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert len({answer.headers["location"] for answer in answers}) == 2
    assert refused(door.send("POST", "/Appointment", appointment(), **{"If-None-Exist": "a=b"}), 422) == "invalid"


def test_a_deletion_is_told_too(door: Door) -> None:
    """DELETE is a version like any other, whether the resource was seen or not."""
    door.send("PUT", "/Appointment/17", appointment())
    assert [door.send("DELETE", f"/Appointment/{name}").status_code for name in ("17", "18")] == [204, 204]
    assert [kept.told.deleted for kept in door.inbox.newest(10)] == [True, True, False]


def test_a_version_that_changed_is_a_conflict(door: Door) -> None:
    """A version that the sender has named cannot be told in two ways."""
    meta = {"versionId": "3", "lastUpdated": "2026-01-05T08:00:00Z"}
    assert door.send("PUT", "/Appointment/17", appointment(meta=meta)).status_code == 201
    assert refused(door.send("PUT", "/Appointment/17", appointment(meta=meta, status="booked")), 409) == "conflict"


def test_a_transaction_is_kept_whole_or_not_at_all(door: Door) -> None:
    """One entry that cannot be kept costs all of a transaction, and of a batch only itself."""
    good = {"resource": appointment("1"), "request": {"method": "PUT", "url": "Appointment/1"}}
    bad = {"resource": {"resourceType": "Device", "id": "2"}, "request": {"method": "PUT", "url": "Device/2"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [good, bad]}
    assert refused(door.send("POST", "", bundle), 404) == "not-supported"
    assert door.inbox.newest(10) == []
    answer = door.send("POST", "", bundle | {"type": "batch"})
    told = Bundle.model_validate_json(answer.text)
    assert [entry.response.status for entry in told.entry] == ["201", "404"]
    assert len(door.inbox.newest(10)) == 1
    answer = door.send("POST", "", bundle | {"entry": [good, {"request": {"method": "DELETE", "url": "Claim/9"}}]})
    assert [entry["response"]["status"] for entry in answer.json()["entry"]] == ["200", "204"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/Appointment/17", b"{", 422),
        ("PUT", "/Appointment/17", b"\xff" * 100, 422),
        ("PUT", "/Appointment/17", b"[" * 4000, 422),
        ("PUT", "/Appointment/18", {"resourceType": "Appointment", "id": "17"}, 422),
        ("PUT", "/Claim/17", {"resourceType": "Appointment", "id": "17"}, 422),
        ("PUT", "/Device/17", {"resourceType": "Device", "id": "17"}, 404),
        ("PUT", "/Appointment/a%20b", {"resourceType": "Appointment", "id": "a b"}, 422),
        ("PUT", "/Appointment/17", {"resourceType": "Appointment", "id": "17", "text": "x" * 5000}, 413),
        ("POST", "", {"resourceType": "Bundle", "type": "transaction", "entry": [SECRET]}, 422),
        ("POST", "", {"resourceType": "Bundle", "type": SECRET}, 422),
        ("POST", "", {"resourceType": "Bundle", "type": "batch", "entry": [{}] * 9}, 413),
        ("POST", "", {"resourceType": "Bundle", "type": "batch", "text": "x" * 20_000}, 413),
        ("GET", "/Appointment/17", None, 405),
        ("PATCH", "/Appointment/17", {}, 405),
        ("GET", "/Patient/1/$everything", None, 404),
    ],
)
def test_what_cannot_be_taken_is_said_and_costs_nobody_else(
    tmp_path: Path, method: str, path: str, body: Any, status: int
) -> None:
    """Each wrong request has its status and an OperationOutcome; the next right one is taken."""
    with opened(tmp_path / "data", resource_bytes_max=4096, bundle_bytes_max=16_384, entries_max=8) as door:
        refused(door.send(method, path, body), status)
        assert door.send("PUT", "/Appointment/17", appointment()).status_code == 201


def test_an_update_of_a_version_that_we_do_not_have_is_refused(door: Door) -> None:
    """If-Match speaks of versions of ours, and nobody can read one here."""
    assert refused(door.send("PUT", "/Appointment/17", appointment(), **{"If-Match": 'W/"1"'}), 422) == "invalid"


def test_a_page_in_a_browser_cannot_tell_us_anything(door: Door) -> None:
    """A form's media type, and a strange name for this machine, are refused: no preflight, no rebinding."""
    form = door.send("PUT", "/Appointment/17", appointment(), **{"Content-Type": "text/plain"})
    rebound = door.send("PUT", "/Appointment/17", appointment(), Host="attacker.example:80")
    assert (refused(form, 422), refused(rebound, 403)) == ("invalid", "forbidden")
    assert door.inbox.newest(10) == []


def test_a_source_is_known_by_its_token_and_its_address(tmp_path: Path) -> None:
    """A wrong token is refused even from this machine; the right one counts only from its own network."""
    sources = [
        {"name": "ehr", "address": "127.0.0.1", "token_sha256": hashlib.sha256(b"right").hexdigest()},
        {"name": "away", "address": "192.0.2.0/24", "token_sha256": hashlib.sha256(b"away").hexdigest()},
    ]
    with opened(tmp_path / "data", sources=sources) as door:
        for token in ("wrong", "away"):
            answer = door.send("PUT", "/Appointment/17", appointment(), Authorization=f"Bearer {token}")
            assert refused(answer, 403) == "forbidden"
        assert door.send("PUT", "/Appointment/17", appointment(), Authorization="Bearer right").status_code == 201
        assert [kept.told.source for kept in door.inbox.newest(10)] == ["ehr"]


def test_a_stranger_behind_a_proxy_of_ours_is_a_stranger(tmp_path: Path) -> None:
    """Once there is a source, this machine needs a token too, whatever a forwarding header says."""
    sources = [{"name": "ehr", "address": "127.0.0.1", "token_sha256": hashlib.sha256(b"right").hexdigest()}]
    with opened(tmp_path / "data", sources=sources) as door:
        for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"X-Forwarded-For": "unknown"}):
            assert refused(door.send("PUT", "/Appointment/17", appointment(), **headers), 403) == "forbidden"
        assert door.inbox.newest(10) == []


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "POST", "url": "Appointment", "ifNoneExist": "identifier=1"},
        {"method": "PUT", "url": "Appointment/1", "ifMatch": 'W/"1"'},
        {"method": "PUT", "url": "Appointment?identifier=1"},
        {"method": "PUT", "url": "Appointment/2"},
        {"method": "PUT", "url": "Claim/1"},
    ],
)
def test_an_entry_with_a_condition_or_another_address_is_refused(door: Door, request_: dict[str, str]) -> None:
    """What we could not keep to is not taken: nothing is kept of its transaction."""
    bundle = {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"resource": appointment("1"), "request": request_}],
    }
    assert refused(door.send("POST", "", bundle), 422) == "invalid"
    assert door.inbox.newest(10) == []


def test_a_version_is_what_it_says_and_not_how_it_is_laid_out(door: Door) -> None:
    """The same version with other blanks and another order of names, alone or in a Bundle, is the same version."""
    meta = {"versionId": "3", "lastUpdated": "2026-01-05T08:00:00Z"}
    body = appointment(meta=meta, minutesDuration=30)
    assert door.send("PUT", "/Appointment/17", body).status_code == 201
    turned = json.dumps(dict(reversed(body.items())), indent=4).encode()
    assert door.send("PUT", "/Appointment/17", turned).status_code == 200
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [{"resource": body}]}
    assert door.send("POST", "", bundle).json()["entry"][0]["response"]["status"] == "200"


def test_what_the_door_can_do_is_stated(door: Door) -> None:
    """The CapabilityStatement is one, and names the types that are used here and nothing else."""
    answer = requests.get(f"{door.base}/metadata", timeout=30)
    statement = CapabilityStatement.model_validate_json(answer.text)
    assert [resource.type for resource in statement.rest[0].resource] == sorted(KINDS)


def test_a_request_that_breaks_off_keeps_nothing(door: Door) -> None:
    """Half a body, and then silence or an end, is no version of anything."""
    with socket.create_connection(("127.0.0.1", door.port), timeout=30) as connection:
        head = "PUT /fhir/Appointment/17 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/fhir+json\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    assert door.send("PUT", "/Appointment/18", appointment("18")).status_code == 201
    assert [kept.told.identity.id for kept in door.inbox.newest(10)] == ["18"]
