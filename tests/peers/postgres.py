"""PostgreSQL in a temporary folder, run by a user that is not root, for it refuses root."""

from __future__ import annotations

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.peers.server import Server, folder, free_port, listening, program, started


@dataclass(frozen=True)
class PostgreSQL:
    """A running server; each test makes a database of its own."""

    server: Server
    port: int

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and give its SQLAlchemy URL; it is dropped with the block."""
        name = f"btt_{uuid.uuid4().hex}"
        self.execute(f'CREATE DATABASE "{name}"')
        try:
            yield f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{name}"
        finally:
            if self.server.running:
                self.execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser, outside any transaction."""
        with psycopg.connect(host="127.0.0.1", port=self.port, user="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())


@contextlib.contextmanager
def postgresql(*, durable: bool = False) -> Iterator[PostgreSQL]:
    """Run an empty server; unless `durable`, it syncs nothing to disk, for only the machine's own crash shows that."""
    port, user = free_port(), "postgres" if os.geteuid() == 0 else ""
    with folder("postgresql", owner=user) as home:
        _initialize(home / "data", user)
        server = Server(
            "postgres",
            [
                *(program("postgres"), "-D", home / "data", "-p", str(port), "-k", home, "-h", "127.0.0.1"),
                *("-c", f"fsync={'on' if durable else 'off'}", "-c", "max_connections=200"),
            ],
            log=home / "log",
            ready=lambda: listening(port) and _answers(port),
            user=user,
        )
        with started(server):
            yield PostgreSQL(server, port)


def _initialize(data: Path, user: str) -> None:
    become = [program("setpriv"), "--reuid", user, "--regid", user, "--clear-groups", "--"] if user else []
    options = ["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"]
    subprocess.run(
        [*become, program("initdb"), "-D", str(data), *options], cwd=data.parent, check=True, capture_output=True
    )


def _answers(port: int) -> bool:
    command = [program("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
    return subprocess.run(command, check=False).returncode == 0
