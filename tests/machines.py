"""State machines against a database: each run on an empty one, on either engine, and a failure prints its seed."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from tests.peers.postgres import PostgreSQL


def play(machine: type[RuleBasedStateMachine], examples: int, steps: int = 25, **makers: Callable[[], Any]) -> None:
    """Run a machine by its own rules; `makers` are static methods of it, as `new_url` is."""
    run_state_machine_as_test(
        type("Machine", (machine,), {name: staticmethod(maker) for name, maker in makers.items()}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )


@contextmanager
def on_sqlite() -> Iterator[Callable[[], str]]:
    """Yield what makes the URL of an empty SQLite database."""
    with tempfile.TemporaryDirectory() as folder:
        number = count()
        yield lambda: f"sqlite:///{Path(folder) / f'{next(number)}.db'}"


@contextmanager
def on_postgresql(server: PostgreSQL) -> Iterator[Callable[[], str]]:
    """Yield what makes an empty database on PostgreSQL and returns its URL."""
    with ExitStack() as databases:
        yield lambda: databases.enter_context(server.database())
