"""A page shows what came out of an image, and none of it can become markup, a script or a request."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import pytest
import uvicorn
from PIL import Image
from starlette.testclient import TestClient

from btt_bridge import web
from btt_bridge.journey import Event
from tests.peers import browser
from tests.peers.server import wait_until
from tests.web.conftest import House

HOSTILE = "<script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
KEYWORDS = {
    "PatientName": HOSTILE,
    "PatientID": '"><svg onload=alert(1)>{{ 7*7 }}',
    "StudyDescription": HOSTILE,
    "Modality": "CT",
    "AccessionNumber": "'\"><b>bold</b>",
    "SeriesDescription": "javascript:alert(1)",
    "StudyDate": "<b>2026",
    "PatientSex": "<i>",
}


#: What none of our own templates has, and what an attack would need.
FOREIGN = {"script", "iframe", "object", "embed", "base", "style", "use", "image", "video"}


class Elements(HTMLParser):
    """What a browser would make elements, attributes and addresses of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.addresses: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses |= {value or "" for name, value in attrs if name in ("href", "src", "action")}


def hostile_study(house: House) -> int:
    """Take in a study whose every text is an attack, and hold it for a reason that is one too."""
    journey = house.go(house.complete(house.receive(KEYWORDS)), until=Event.MATCHED)
    house.journal.note(journey.id, {HOSTILE: {HOSTILE: HOSTILE}, "judge": {"list": [{HOSTILE: HOSTILE}]}})
    house.journal.advance(house.journal.journey(journey.id), Event.WITHHELD, reason=HOSTILE[:200])
    return journey.id


def test_no_value_becomes_markup(house: House) -> None:
    """Every hostile value is on the page as text: no element, attribute or address of theirs comes of it."""
    journey = hostile_study(house)
    for path in ("/", f"/studies/{journey}", "/queue", f"/?q={HOSTILE[:60]}", f"/?show={HOSTILE}"):
        page = Elements(house.client.get(path).text)
        assert not page.names & FOREIGN, path
        assert not {name for name in page.attributes if name.startswith("on") or name == "style"}, path
        assert not [address for address in page.addresses if not address.startswith(("/", "#", "?"))], path
    study = house.client.get(f"/studies/{journey}").text
    assert "&lt;script&gt;" in study
    assert "{{ 7*7 }}" in study, "a template within a value is text too"


def test_headers_forbid_what_escaping_should_have_prevented(house: House) -> None:
    """Every answer, errors and pictures included, forbids scripts, frames, foreign content and keeping it."""
    for path in ("/", "/nowhere", "/health", "/metrics", "/static/style.css"):
        headers = house.client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8042", 200), ("[::1]:8042", 200), ("[::1]", 200), ("localhost", 200), ("10.1.2.3", 200),
        ("evil.example", 400), ("evil.example:8042", 400), ("", 400), ("127.0.0.1.evil.example", 400), ("bridge", 400),
    ],
)  # fmt: skip
def test_a_strange_host_name_is_refused(house: House, host: str, status: int) -> None:
    """A name that somebody else points at us (DNS rebinding) gets nothing; addresses and localhost do."""
    assert house.client.get("/health", headers={"host": host}).status_code in (
        (status, 503) if status == 200 else (400,)
    )
    assert ("Doe" in house.client.get("/", headers={"host": host}).text) is False


def test_a_configured_host_name_is_answered(house: House) -> None:
    """The hospital's own name for the bridge works once settings know it."""
    settings = house.settings.model_copy(
        update={"web": house.settings.web.model_copy(update={"hostnames": ("Bridge.hospital",)})}
    )

    with TestClient(web.app(settings, house.journal, house.ledger, house.store, house.clock)) as client:
        assert client.get("http://bridge.hospital:8042/").status_code == 200
        assert client.get("http://testserver/").status_code == 400


@contextmanager
def served(house: House) -> Iterator[str]:
    """Serve the pages on a port of loopback, as the bridge does."""
    listener = socket.create_server(("127.0.0.1", 0))
    app = web.app(house.settings, house.journal, house.ledger, house.store, house.clock)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started, "the pages to be served")
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


def test_a_browser_shows_the_text_and_runs_nothing(house: House, tmp_path: Path) -> None:
    """In a real browser the hostile name is readable text, no script of it has run, and the page has a picture."""
    journey = hostile_study(house)
    with served(house) as url:
        for path in ("/", f"/studies/{journey}"):
            document = browser.document(url + path)
            assert "<title>owned</title>" not in document
            assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in document
        picture = browser.screenshot(f"{url}/studies/{journey}", tmp_path / "page.png", height=1200)
    with Image.open(picture) as image:
        assert image.size == (1280, 1200)
        assert len(image.convert("RGB").getcolors(2**24) or []) > 50, "the page was drawn, style and all"
