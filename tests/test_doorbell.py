"""Doorbells arrive on every broker, nobody rings who may not, and a lost broker costs rings and nothing else."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from btt_bridge.doorbell import MESSAGE_BYTES_MAX, Doorbell, node_queue
from btt_bridge.signing import Signer, canonical
from btt_bridge.testing import FakeClock
from tests.peers import brokers
from tests.peers.server import wait_until

BROKERS = ["memory", "filesystem", "redis", "rabbitmq"]


@pytest.fixture(params=BROKERS)
def broker_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each kind of broker that a bridge may have."""
    if request.param == "memory":
        return "memory://"
    if request.param == "filesystem":
        return f"filesystem://{tmp_path / 'door bells'}"
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def queue() -> str:
    """A queue no other test has used; memory is one for the whole process."""
    return f"queue-{uuid.uuid4().hex}"


@pytest.fixture
def signer() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


class Ear:
    """A handler that remembers what it heard."""

    def __init__(self) -> None:
        self.heard: Counter[tuple[str, str]] = Counter()

    def __call__(self, kind: str, subject: str) -> None:
        self.heard[kind, subject] += 1

    def wait_for(self, *rings: tuple[str, str]) -> None:
        wait_until(lambda: all(ring in self.heard for ring in rings), f"rings {rings[:3]}")


@pytest.fixture
def bells() -> Iterator[Callable[..., Doorbell]]:
    """Makes doorbells and hangs them up at the end."""
    made: list[Doorbell] = []

    def make(*args: Any, **kwargs: Any) -> Doorbell:
        made.append(Doorbell(*args, **kwargs))
        return made[-1]

    yield make
    for bell in made:
        bell.close()


@pytest.fixture
def listening() -> Iterator[Callable[..., Ear]]:
    """Lets ears listen and stops them at the end."""
    stops = []

    def listen(bell: Doorbell, concurrency: int = 1) -> Ear:
        ear = Ear()
        stops.append(bell.listen(ear, concurrency))
        return ear

    yield listen
    for stop in stops:
        stop()


def test_what_is_rung_is_heard(
    broker_url: str, queue: str, signer: Signer, bells: Callable[..., Doorbell], listening: Callable[..., Ear]
) -> None:
    """Every ring of another bell arrives, whatever the broker, before the listener was there and after."""
    ringer = bells(broker_url, "elsewhere", signer, ())
    ringer.ring("early", "bird", queue=queue)
    bell = bells(broker_url, queue, signer, [signer.public])
    ear = listening(bell, 2)
    rings = [("offer", str(number)) for number in range(300)]
    for ring in rings:
        ringer.ring(*ring, queue=queue)
    ear.wait_for(("early", "bird"), *rings)
    assert set(ear.heard) == {("early", "bird"), *rings}


def test_a_flood_is_one_ring(
    broker_url: str, queue: str, signer: Signer, bells: Callable[..., Doorbell], listening: Callable[..., Ear]
) -> None:
    """Ten thousand rings about one subject become a few; the last of them is not lost."""
    bell = bells(broker_url, queue, signer, [signer.public])
    ear = listening(bell)
    for _ in range(10_000):
        bell.ring("arrived", "")
    bell.ring("after", "all")
    ear.wait_for(("arrived", ""), ("after", "all"))
    assert ear.heard["arrived", ""] < 100


def test_one_subject_is_never_handled_twice_at_once(queue: str, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """A ring that comes while its subject is being handled is handled after that, and others meanwhile."""
    bell = bells("memory://", queue, signer, [signer.public], coalesce_seconds=0)
    inside, most, entered, go_on = 0, 0, Counter[str](), threading.Event()

    def handle(_kind: str, subject: str) -> None:
        nonlocal inside, most
        entered[subject] += 1
        if subject == "slow":
            inside += 1
            most = max(most, inside)
            go_on.wait(30)
            inside -= 1

    stop = bell.listen(handle, 3)
    bell.ring("study", "slow")
    wait_until(lambda: entered["slow"] == 1, "the first")
    bell.ring("study", "slow")
    bell.ring("study", "other")
    wait_until(lambda: entered["other"] == 1, "the other")
    assert entered["slow"] == 1
    go_on.set()
    wait_until(lambda: entered["slow"] == 2, "the second")
    stop()
    assert most == 1


def test_a_handler_that_raises_goes_on(queue: str, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """An error in a handler costs that ring and no other."""
    bell = bells("memory://", queue, signer, [signer.public])
    heard = []

    def handle(_kind: str, subject: str) -> None:
        heard.append(subject)
        if subject == "bad":
            raise RuntimeError

    stop = bell.listen(handle)
    bell.ring("study", "bad")
    bell.ring("study", "good")
    wait_until(lambda: "good" in heard, "the ring after the bad one")
    stop()
    assert bell.counts["failed"] == 1


# --- attacks --------------------------------------------------------------------------------------------


def _message(app: Celery, queue: str, envelope: Any, name: str = "btt_bridge.ring") -> None:
    """Send a task as anybody with access to the broker can."""
    app.send_task(name, args=(envelope,), queue=app.amqp.queues[queue])


@pytest.fixture
def stranger(broker_url: str, queue: str) -> Iterator[Celery]:
    """Somebody who can write to the broker."""
    bell = Doorbell(broker_url, queue, Signer(Ed25519PrivateKey.generate()), ())
    yield bell._app
    bell.close()


def test_strangers_ring_in_vain(
    broker_url: str,
    queue: str,
    signer: Signer,
    stranger: Celery,
    bells: Callable[..., Doorbell],
    listening: Callable[..., Ear],
) -> None:
    """Unsigned, forged, altered, moved and mistyped rings are counted and dropped; the next good one is heard."""
    bell = bells(broker_url, queue, signer, [signer.public])
    ear = listening(bell)
    forger = Signer(Ed25519PrivateKey.generate())
    good = {"queue": queue, "kind": "offer", "subject": "1", "nonce": "n", "iat": "2000", "exp": "9999"}
    altered = signer.sign("doorbell", good)
    altered["payload"] = base64.b64encode(canonical(good | {"subject": "2"})).decode()
    stolen_name = forger.sign("doorbell", good) | {"key": signer.public}
    envelopes = [
        None, "text", [], {}, {"key": signer.public}, good,
        forger.sign("doorbell", good),
        stolen_name,
        altered,
        signer.sign("receipt", good),
        signer.sign("doorbell", good | {"queue": "another"}),
        signer.sign("doorbell", {"queue": queue}),
    ]  # fmt: skip
    for envelope in envelopes:
        _message(stranger, queue, envelope)
    bell.ring("offer", "real")
    ear.wait_for(("offer", "real"))
    wait_until(lambda: bell.counts["untrusted"] == len(envelopes), "strangers to be counted")
    assert set(ear.heard) == {("offer", "real")}


def test_a_late_ring_is_dropped(queue: str, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """A ring past its time is dropped: somebody has looked at the database since."""
    clock = FakeClock()
    bell = bells("memory://", queue, signer, [signer.public], valid_seconds=60, clock=clock)
    bell.ring("offer", "old")
    ear = Ear()
    wait_until(lambda: not bell._publisher._waiting, "the ring to be sent")
    clock.instant += timedelta(seconds=61)
    stop = bell.listen(ear)
    bell.ring("offer", "new")
    ear.wait_for(("offer", "new"))
    stop()
    assert set(ear.heard) == {("offer", "new")}
    assert bell.counts["expired"] == 1


class _Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_hostile_messages_do_nothing(
    broker_url: str,
    queue: str,
    signer: Signer,
    stranger: Celery,
    tmp_path: Path,
    bells: Callable[..., Doorbell],
    listening: Callable[..., Ear],
) -> None:
    """Pickles, other tasks, broken JSON and remote control commands leave the listener as it was."""
    bell = bells(broker_url, queue, signer, [signer.public])
    ear = listening(bell)
    bomb = tmp_path / "exploded"
    with stranger.connection_for_write() as connection, connection.Producer() as producer:
        headers = {"task": "btt_bridge.ring", "id": "1", "lang": "py"}
        for body, content_type, encoding in (
            (pickle.dumps(_Bomb(bomb)), "application/x-python-serialize", "binary"),
            (b"{not json", "application/json", "utf-8"),
            (b"[" * 100_000, "application/json", "utf-8"),
            (b"[]", "application/json", "utf-8"),
            (b"[[], {}, {}]", "application/json", "utf-8"),
            (b'[[{}], {"evil": 1}, {"callbacks": [{"task": "celery.ping"}]}]', "application/json", "utf-8"),
        ):
            producer.publish(
                body, routing_key=queue, headers=headers, content_type=content_type, content_encoding=encoding
            )
    _message(stranger, queue, {}, name="os.system")
    _message(stranger, queue, {}, name="celery.backend_cleanup")
    stranger.control.broadcast("shutdown")
    bell.ring("offer", "real")
    ear.wait_for(("offer", "real"))
    assert set(ear.heard) == {("offer", "real")}
    assert not bomb.exists()


def test_a_ring_is_small(tmp_path: Path, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """The longest names we use make a message well under its limit; a message that is none is not sent."""
    bell = bells(f"filesystem://{tmp_path}", "q", signer, ())
    bell.ring("offer", "x" * 64, queue=node_queue("a" * 64))
    bell.ring("offer", "x" * 4096)
    bell.close()
    (path,) = tmp_path.glob("*/*.msg")
    body = json.loads(base64.b64decode(json.loads(path.read_text())["body"]))
    assert len(canonical(body)) < MESSAGE_BYTES_MAX


# --- brokers that die -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["redis://127.0.0.1:1/0", "amqp://guest:guest@127.0.0.1:1//", "filesystem:///dev/null/x"]
)
def test_a_broker_that_is_not_there_does_not_hurt(
    url: str, queue: str, signer: Signer, bells: Callable[..., Doorbell]
) -> None:
    """Ringing, listening and stopping with no broker at all neither raise nor hang."""
    bell = bells(url, queue, signer, [signer.public])
    stop = bell.listen(Ear())
    for number in range(100):
        bell.ring("offer", str(number))
    stop()


@pytest.mark.parametrize("start", [brokers.redis, brokers.rabbitmq])
def test_a_broker_that_dies_is_found_again(
    start: Callable[..., Any], queue: str, signer: Signer, bells: Callable[..., Doorbell], listening: Callable[..., Ear]
) -> None:
    """Killed and started again, the broker carries rings as before; in between, ringing does not raise."""
    with start() as broker:
        bell = bells(broker.url, queue, signer, [signer.public])
        ear = listening(bell)
        bell.ring("offer", "before")
        ear.wait_for(("offer", "before"))
        broker.server.kill()
        for number in range(50):
            bell.ring("lost", str(number))
        wait_until(lambda: not bell._publisher._waiting, "rings to be given up")
        broker.server.start()

        def ring_and_look() -> bool:
            bell.ring("offer", "after")
            return ("offer", "after") in ear.heard

        wait_until(ring_and_look, "a ring after the broker came back", pause=0.1)
        assert ear.heard["offer", "before"] == 1


# --- a folder as broker ---------------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from btt_bridge.doorbell import Doorbell
from btt_bridge.signing import Signer

url, queue, key, name = sys.argv[1:]
bell = Doorbell(url, queue, Signer.load(Path(key)), ())
for number in range(200):
    bell.ring("from " + name, str(number))
bell.close(60)
"""

_READER = """
import sys, threading
from btt_bridge.doorbell import Doorbell
from btt_bridge.signing import Signer
from pathlib import Path

url, queue, key = sys.argv[1:]
signer = Signer.load(Path(key))
bell = Doorbell(url, queue, signer, [signer.public])
stop = bell.listen(lambda kind, subject: print(kind, subject, sep="|", flush=True))
print("ready", flush=True)
sys.stdin.read()
stop()
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """Three writers and three readers on one folder: each ring is heard by exactly one of the readers, none is lost."""
    url, key = f"filesystem://{tmp_path / 'bells'}", str(tmp_path / "key")
    Signer.load(Path(key))

    def start(code: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, url, "shared", key, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    readers = [start(_READER) for _ in range(3)]
    assert [reader.stdout and reader.stdout.readline() for reader in readers] == ["ready\n"] * 3
    writers = [start(_WRITER, name) for name in ("a", "b", "c")]
    assert [writer.communicate(timeout=60) and writer.returncode for writer in writers] == [0, 0, 0]
    folder = tmp_path / "bells" / "shared"
    wait_until(lambda: not any(folder.iterdir()), "the readers to take everything")
    heard = Counter(line for reader in readers for line in reader.communicate(timeout=30)[0].splitlines())
    assert heard == Counter(f"from {name}|{number}" for name in "abc" for number in range(200))


def test_a_half_written_message_is_not_read(
    tmp_path: Path, signer: Signer, bells: Callable[..., Doorbell], listening: Callable[..., Ear]
) -> None:
    """What a writer has not finished stays, and what is long forgotten goes."""
    folder = tmp_path / "q"
    folder.mkdir()
    (folder / "00000000000000000001-x.part").write_text('{"body": "half')
    forgotten = folder / "00000000000000000000-x.part"
    forgotten.write_text("")
    os.utime(forgotten, (0, 0))
    bell = bells(f"filesystem://{tmp_path}", "q", signer, [signer.public])
    ear = listening(bell)
    bell.ring("offer", "1")
    ear.wait_for(("offer", "1"))
    assert [path.name for path in folder.iterdir()] == ["00000000000000000001-x.part"]


def test_messages_keep_their_order(tmp_path: Path, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """Rings are heard in the order in which they were sent."""
    bell = bells(f"filesystem://{tmp_path}", "q", signer, [signer.public])
    for number in range(50):
        bell.ring("offer", str(number))
    wait_until(lambda: len(list(tmp_path.glob("q/*.msg"))) == 50, "all rings to be written")
    heard: list[str] = []
    stop = bell.listen(lambda _kind, subject: heard.append(subject))
    wait_until(lambda: len(heard) == 50, "all rings")
    stop()
    assert heard == [str(number) for number in range(50)]


def test_a_bell_has_one_listener(queue: str, signer: Signer, bells: Callable[..., Doorbell]) -> None:
    """Listening twice on one bell is a mistake; after stopping, one may listen again."""
    bell = bells("memory://", queue, signer, [signer.public])
    bell.listen(Ear())()
    stop = bell.listen(Ear())
    with pytest.raises(ValueError, match="already"):
        bell.listen(Ear())
    stop()
