"""Redis and RabbitMQ, each on its own ports with nothing kept."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.peers.server import Server, folder, free_port, listening, program, started


@dataclass(frozen=True)
class Broker:
    """A running broker and the URL that Celery knows it by."""

    server: Server
    url: str


@contextlib.contextmanager
def redis() -> Iterator[Broker]:
    """Run an empty Redis without persistence."""
    port = free_port()
    with folder("redis") as home:
        server = Server(
            "redis-server",
            [
                *(program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--dir", home),
                *("--save", "", "--appendonly", "no"),
            ],
            log=home / "log",
            ready=lambda: listening(port),
        )
        with started(server):
            yield Broker(server, f"redis://127.0.0.1:{port}/0")


def emptied(broker: Broker) -> str:
    """Forget everything that this Redis holds; return its URL."""
    command = [program("redis-cli"), "-u", broker.url, "FLUSHALL"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return broker.url


@dataclass(frozen=True)
class RabbitMQ(Broker):
    """A RabbitMQ node of its own, beside any other on the machine."""

    environment: dict[str, str]

    def control(self, *words: str) -> str:
        """Run `rabbitmqctl` against this node and return what it said."""
        return subprocess.run(
            [_script("rabbitmqctl"), *words],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout

    @contextlib.contextmanager
    def virtual_host(self) -> Iterator[str]:
        """Make a virtual host that no other test has touched; give its URL."""
        name = uuid.uuid4().hex
        self.control(
            "eval",
            f'rabbit_vhost:add(<<"{name}">>, <<"test">>), '
            f'rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"{name}">>, '
            '<<".*">>, <<".*">>, <<".*">>, <<"test">>).',
        )
        yield self.url.removesuffix("//") + f"/{name}"


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """Run a RabbitMQ node with its own home, data, logs, port mapper and ports, as whoever runs the tests."""
    port, mapper_port, node_port = free_port(), free_port(), free_port()
    with folder("rabbitmq") as home:
        environment = _rabbitmq_environment(home, port, mapper_port, node_port)
        mapper = Server(
            "epmd",
            [program("epmd"), "-port", str(mapper_port), "-address", "127.0.0.1"],
            log=home / "epmd.log",
            ready=lambda: listening(mapper_port),
        )
        server = Server(
            "rabbitmq-server",
            [_script("rabbitmq-server")],
            log=home / "log",
            ready=lambda: listening(port),
            environment=environment,
            seconds=120,
        )
        with started(mapper), started(server):
            yield RabbitMQ(server, f"amqp://guest:guest@127.0.0.1:{port}//", environment)


def _rabbitmq_environment(home: Path, port: int, mapper_port: int, node_port: int) -> dict[str, str]:
    configuration = home / "rabbitmq.conf"
    configuration.write_text(
        f"listeners.tcp.default = 127.0.0.1:{port}\n"
        "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        "disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 1GB\n"
    )
    (home / "plugins").write_text("[].\n")
    return {
        "HOME": str(home),
        "RABBITMQ_NODENAME": f"btt{port}@localhost",
        "RABBITMQ_DIST_PORT": str(node_port),
        "RABBITMQ_CONF_ENV_FILE": os.devnull,
        "RABBITMQ_CONFIG_FILE": str(configuration),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
        "RABBITMQ_MNESIA_BASE": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home / "logs"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        # The start script then becomes the node instead of waiting beside it: a signal reaches the node itself.
        "RUNNING_UNDER_SYSTEMD": "1",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 -kernel inet_dist_use_interface {127,0,0,1}",
        "ERL_EPMD_PORT": str(mapper_port),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
    }


def _script(name: str) -> Path:
    """Return RabbitMQ's own script: the one on PATH would change to the user that owns the system's node."""
    return Path(program("rabbitmq-defaults")).resolve().parent / name
