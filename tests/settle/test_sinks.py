"""Sinks against real peers that fail, stall, refuse and die: events come at least once, in order, as they were."""

from __future__ import annotations

import json
import runpy
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import amqp
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

from btt_bridge import cli
from btt_bridge.config import Settings, Sink
from btt_bridge.errors import ConfigurationError, DeliveryRefusedError, DeliveryUnreachableError
from btt_bridge.ledger import Ledger
from btt_bridge.plugins import event_sink
from btt_bridge.settle import Subscription, drain, events, telling
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock, MemorySink
from tests.peers import brokers
from tests.peers.server import Server, free_port, listening, started, wait_until
from tests.settle.books import opened, two_months

ROOT = Path(__file__).parents[2]
CONSUMER = ROOT / "docs" / "examples" / "consumer.py"
SOURCE = "/bridges/test"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


@contextmanager
def book(url: str) -> Iterator[Ledger]:
    """Open a ledger with two months of bills in it."""
    clock = FakeClock()
    with opened(url, clock) as billing:
        two_months(billing, clock)
        yield billing.ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with book(f"sqlite:///{tmp_path / 'ledger.db'}") as found:
        yield found


def told(ledger: Ledger, signer: Signer) -> list[bytes]:
    """Return what every sink must get, in order."""
    return [canonical(events.envelope(notice, SOURCE, signer)) for notice in ledger.notices(0, 1000)]


class Receiver(ThreadingHTTPServer):
    """An HTTP receiver that answers by a script, and 204 once the script is over."""

    daemon_threads = True

    def __init__(self) -> None:
        self.script: list[tuple[int | str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.let_go = threading.Event()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/events"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.headers.append(dict(self.headers))
        what, headers = self.server.script.pop(0) if self.server.script else (204, {})
        if what == "stall":
            self.server.let_go.wait(30)
        if isinstance(what, int):
            self.send_response(what)
            for name, value in {"Content-Length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.let_go.set()
        server.shutdown()
        thread.join()


def subscription(ledger: Ledger, signer: Signer, **row: Any) -> Subscription:
    return Subscription(ledger, signer, SOURCE, Sink(**{"name": "out", "kind": "webhook", **row}))


# --- webhook --------------------------------------------------------------------------------------------


def test_a_receiver_that_fails_gets_the_same_bytes_again_and_nothing_overtakes(
    ledger: Ledger, signer: Signer, receiver: Receiver
) -> None:
    """Busy, broken, stalling or cut off in mid-request: the event comes again as it was, until it is taken."""
    receiver.script = [(204, {}), (503, {}), (429, {"Retry-After": "7"}), ("stall", {}), ("cut", {}), (500, {})]
    out = subscription(ledger, signer, place=receiver.url, timeout_seconds=0.5)
    waits = [out.turn() for _ in range(6)]
    expected = told(ledger, signer)
    assert receiver.bodies == [expected[0], *[expected[1]] * 5, *expected[1:]]
    assert waits == [1, 7, 4, 8, 16, 1], "the pause doubles, and the receiver may ask for more"
    assert ledger.position("out") == ledger.end_of_outbox()
    assert ledger.hindrances() == {}
    assert {head["Content-Type"] for head in receiver.headers} == {"application/cloudevents+json; charset=utf-8"}
    assert not any("Authorization" in head for head in receiver.headers)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_refusal_stops_the_sink_until_a_person_lets_it_go_on(
    ledger: Ledger, signer: Signer, receiver: Receiver, status: int
) -> None:
    """Nothing is passed over, nothing is sent meanwhile, even after a restart; then the refused event comes first."""
    receiver.script = [(204, {}), (status, {"Location": receiver.url}), (status, {})]
    out = subscription(ledger, signer, place=receiver.url)
    for _ in range(3):
        out.turn()
    subscription(ledger, signer, place=receiver.url).turn()
    expected = told(ledger, signer)
    assert receiver.bodies == expected[:2]
    found = ledger.hindrances()["out"]
    assert (found.stopped, found.reason) == (True, f"the receiver answered {status}")
    assert found.advice
    ledger.unhinder("out")
    out.turn()
    assert ledger.hindrances()["out"].stopped, "the same refusal stops it again"
    ledger.unhinder("out")
    out.turn()
    assert receiver.bodies[2:] == [expected[1], *expected[1:]]


def test_a_pause_may_be_asked_for_as_a_date(receiver: Receiver) -> None:
    """Retry-After has two forms (RFC 9110 section 10.2.3), and nonsense asks for nothing."""
    at = format_datetime(datetime.now(UTC) + timedelta(seconds=3600), usegmt=True)
    receiver.script = [(503, {"Retry-After": at}), (503, {"Retry-After": "soon"}), (503, {"Retry-After": "9" * 30})]
    sink = event_sink(Sink(name="out", kind="webhook", place=receiver.url))
    asked = []
    for _ in range(3):
        with pytest.raises(DeliveryUnreachableError) as raised:
            sink.emit({"id": "1"})
        asked.append(raised.value.after_seconds)
    sink.close()
    assert 3500 < asked[0] <= 3600
    assert asked[1:] == [0, 86400]


def test_the_token_is_sent_and_may_be_changed_meanwhile(receiver: Receiver, tmp_path: Path) -> None:
    """The file is read for each event; a refused token stops the sink with advice."""
    token = tmp_path / "token"
    sink = event_sink(Sink(name="out", kind="webhook", place=receiver.url, token_file=str(token)))
    for secret in ("first", "second"):
        token.write_text(f"{secret}\n")
        sink.emit({"id": secret})
    receiver.script = [(401, {})]
    with pytest.raises(DeliveryRefusedError) as raised:
        sink.emit({"id": "3"})
    sink.close()
    assert raised.value.advice == "check the token"
    assert [head["Authorization"] for head in receiver.headers] == ["Bearer first", "Bearer second", "Bearer second"]


@pytest.mark.parametrize(
    ("kind", "place"),
    [("webhook", "http://finance.example/"), ("amqp", "amqp://broker.example/"), ("webhook", "ftp://127.0.0.1/")],
)
def test_events_do_not_cross_a_network_in_clear(kind: str, place: str) -> None:
    """Only TLS, or this machine, or a setting that says that the network is protected."""
    with pytest.raises(ConfigurationError):
        event_sink(Sink(name="out", kind=kind, place=place))
    if not place.startswith("ftp"):
        event_sink(Sink(name="out", kind=kind, place=place, plain=True)).close()


# --- the example ----------------------------------------------------------------------------------------


def test_the_example_consumer_adds_up_what_the_ledger_says_though_it_is_killed(
    database_url: str, signer: Signer, tmp_path: Path
) -> None:
    """Run as its page says, killed between events, started again and told everything twice, it counts each once."""
    port, state = free_port(), tmp_path / "tally.db"
    command = [sys.executable, CONSUMER, "--key", signer.public, "--state", state, "--listen", str(port)]
    server = Server("consumer", command, log=tmp_path / "log", ready=lambda: listening(port))
    with book(database_url) as ledger, started(server):
        out = subscription(ledger, signer, place=f"http://127.0.0.1:{port}/", timeout_seconds=5)
        sink = event_sink(out.row)
        assert drain(ledger, sink, signer, name="out", source=SOURCE, limit=4) == 4
        server.kill()
        assert out.turn() == 1
        assert ledger.hindrances()["out"].stopped is False
        server.start()
        ledger.set_position("out", 2)
        out.turn()
        ledger.set_position("out", 0)
        out.turn()
        out.close()
        sink.close()
        assert ledger.hindrances() == {}
        sums: dict[str, int] = {}
        for notice in ledger.notices(0, 1000):
            sums[notice.type] = sums.get(notice.type, 0) + int(notice.data["amount"]["units"])
    with sqlite3.connect(state) as database:
        rows = database.execute("SELECT type, units FROM tally").fetchall()
    database.close()
    assert {kind: int(units) for kind, units in rows} == sums
    assert len(sums) == 5


def test_the_example_consumer_refuses_what_is_forged_and_what_overtakes(
    ledger: Ledger, signer: Signer, receiver: Receiver, tmp_path: Path
) -> None:
    """A changed event, another signer's, and an event behind its successor change nothing."""
    consumer = runpy.run_path(str(CONSUMER))["Consumer"](str(tmp_path / "tally.db"), signer.public)
    first, second, third = [json.loads(line) for line in told(ledger, signer)[:3]]
    other = Signer(Ed25519PrivateKey.generate())
    assert consumer.take(first)
    assert consumer.take(third)
    before = consumer.tally()
    notice = ledger.notices(0, 1)[0]
    for wrong in ({**second, "subject": "mine"}, events.envelope(notice, SOURCE, other), second, {}):
        with pytest.raises(ValueError, match=r"signature|overtook"):
            consumer.take(wrong)
    assert not consumer.take(first)
    assert consumer.tally() == before
    consumer.database.close()


# --- AMQP -----------------------------------------------------------------------------------------------


def test_a_broker_keeps_what_it_confirmed_and_nothing_goes_to_nobody(ledger: Ledger, signer: Signer) -> None:
    """Without a queue it waits; with one all arrive in order, and outlive a broker that is killed and comes back."""
    with brokers.rabbitmq() as broker:
        out = subscription(
            ledger, signer, kind="amqp", place=broker.url, types=("btt.compute.held", "btt.compute.charged")
        )
        out.turn()
        assert ledger.hindrances()["out"].advice == "bind a durable queue to the exchange"
        assert ledger.position("out") == 0
        with _channel(broker.url) as channel:
            channel.queue_declare("finance", durable=True, auto_delete=False)
            channel.queue_bind("finance", "btt.events", "btt.compute.#")
        out.turn()
        assert ledger.hindrances() == {}
        broker.server.kill()
        ledger.set_position("out", ledger.end_of_outbox() - 1)
        assert out.turn() > 0
        assert ledger.hindrances()["out"].stopped is False
        broker.server.start()
        out.turn()
        out.close()
        with _channel(broker.url) as channel:
            got = list(iter(lambda: channel.basic_get("finance", no_ack=True), None))
    wanted = [body for body in told(ledger, signer) if json.loads(body)["type"] in (events.HELD, events.CHARGED)]
    assert [message.body for message in got] == [*wanted, wanted[-1]]
    assert {message.properties["content_type"] for message in got} == {"application/cloudevents+json; charset=utf-8"}
    assert [message.delivery_info["routing_key"] for message in got] == [
        json.loads(message.body)["type"] for message in got
    ]


@contextmanager
def _channel(url: str) -> Iterator[Any]:
    with amqp.Connection(host=url.split("@")[1].rstrip("/")) as connection:
        yield connection.channel()


# --- place and pace -------------------------------------------------------------------------------------


def test_a_crash_between_emit_and_position_repeats_the_same_bytes(
    database_url: str, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was durable there but not yet noted here comes again as it was, and the order of each account holds."""
    with book(database_url) as ledger:
        sink = MemorySink()
        with monkeypatch.context() as crash:
            crash.setattr(ledger, "move_position", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                drain(ledger, sink, signer, name="out", source=SOURCE, limit=3)
        drain(ledger, sink, signer, name="out", source=SOURCE, limit=1000)
        bodies, expected = [canonical(dict(event)) for event in sink.events], told(ledger, signer)
    assert bodies == expected[:3] + expected


def test_a_replay_asked_for_meanwhile_is_not_forgotten(database_url: str, signer: Signer) -> None:
    """A person sets the position while events are on their way: theirs holds when the drain is over."""
    with book(database_url) as ledger:
        ledger.set_position("out", 5)
        sink = MemorySink()
        take = sink.emit

        def emit(event: Any) -> None:
            take(event)
            ledger.set_position("out", 2)

        sink.emit = emit  # type: ignore[method-assign]
        drain(ledger, sink, signer, name="out", source=SOURCE, limit=1)
        assert ledger.position("out") == 2
        assert not ledger.move_position("out", 0, 9)
        assert ledger.move_position("new", 0, 9)


def test_a_sink_that_hangs_holds_up_no_other(
    ledger: Ledger, signer: Signer, receiver: Receiver, tmp_path: Path
) -> None:
    """While a webhook stalls, the file has everything."""
    receiver.script = [("stall", {})]
    settings = Settings(
        data_dir=tmp_path,
        reap_seconds=0.05,
        dispatch={"bridge_id": "test"},
        settle={"sinks": [{"name": "hook", "kind": "webhook", "place": receiver.url}]},
    )
    path, expected = tmp_path / "events.jsonl", told(ledger, signer)
    with telling(settings, ledger, signer):
        wait_until(lambda: receiver.bodies, "the webhook to stall")
        wait_until(lambda: path.exists() and path.read_bytes().splitlines() == expected, "the file to be whole")
        assert receiver.bodies == expected[:1]
        receiver.let_go.set()


def test_a_person_sees_and_mends_a_sink_by_command(signer: Signer, tmp_path: Path) -> None:
    """`ledger sinks` says what holds it up, `ledger replay` lets it go on or begin again."""
    file = tmp_path / "bridge.yaml"
    file.write_text(f"data_dir: {tmp_path}\nsettle: {{sinks: [{{name: out, kind: file, place: {tmp_path}/out}}]}}\n")
    with book(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.set_position("out", 3)
        ledger.hinder("out", "the receiver answered 400", "ask the receiver why", stopped=True)
        run = CliRunner().invoke
        said = run(cli.app, ["ledger", "sinks", "-s", str(file)])
        assert f"position 3 of {ledger.end_of_outbox()}" in said.output
        assert "the receiver answered 400; ask the receiver why" in said.output
        for wrong in (["out", "--from", "99999"], ["nobody"]):
            assert run(cli.app, ["ledger", "replay", *wrong, "-s", str(file)]).exit_code == 1
        assert ledger.hindrances()
        assert run(cli.app, ["ledger", "replay", "out", "-s", str(file)]).exit_code == 0
        assert (ledger.hindrances(), ledger.position("out")) == ({}, 3)
        assert run(cli.app, ["ledger", "replay", "out", "--from", "1", "-s", str(file)]).exit_code == 0
        assert ledger.position("out") == 1


def test_two_sinks_of_one_name_are_refused() -> None:
    """A name is a place in the outbox: two would take turns with it."""
    row = {"name": "out", "kind": "file", "place": "x"}
    for rows in ([row, row], [{**row, "name": "file"}]):
        with pytest.raises(ValueError, match="names of their own"):
            Settings(settle={"sinks": rows})
