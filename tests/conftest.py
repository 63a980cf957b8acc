"""The real peers and the real data as fixtures; a server that many tests share is started once."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.peers import brokers, dcmtk, pacs, postgres
from tests.peers.server import program

ROOT = Path(__file__).parent.parent

# Nothing asserts a time: an example takes as long as the machine lets it.
settings.register_profile("house", deadline=None)
settings.load_profile("house")

_RECURSION_LIMIT = sys.getrecursionlimit()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.peer("dciodvfy")` fails a test whose program is missing, before it starts."""
    if "plugins" not in item.path.parts:
        # py-evm raises it for the whole process, in which JSON that nests without end would then overflow the stack.
        sys.setrecursionlimit(_RECURSION_LIMIT)
    for marker in item.iter_markers("peer"):
        for name in marker.args:
            program(name)


#: Starting one of these costs more than the tests that use it gain by running side by side.
_COSTLY = ("shared", "_rabbitmq")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side, those of one file, and those with a costly fixture, stay in one process."""
    for item in items:
        costly = [name for name in _COSTLY if name in getattr(item, "fixturenames", ())]
        item.add_marker(pytest.mark.xdist_group(costly[0] if costly else str(item.path)))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real data; absent, it is a failure in CI and a skip on a desk."""
    path = Path(os.environ.get("BTT_TEST_DATA") or ROOT.parent / "shared" / "data").resolve()
    if not path.is_dir():
        problem = f"no real test data at {path}; set BTT_TEST_DATA"
        if os.environ.get("CI"):
            pytest.fail(problem, pytrace=False)
        pytest.skip(problem)
    return path


@pytest.fixture
def orthanc() -> Iterator[pacs.Orthanc]:
    """An empty Orthanc of this test's own; tell it of the bridge by `know`."""
    with pacs.orthanc() as running:
        yield running


@pytest.fixture
def storescp() -> Iterator[dcmtk.StoreSCP]:
    """DCMTK's storescp as a PACS that only takes."""
    with dcmtk.storescp() as running:
        yield running


@pytest.fixture(scope="session")
def _redis() -> Iterator[brokers.Broker]:
    with brokers.redis() as running:
        yield running


@pytest.fixture
def redis_url(_redis: brokers.Broker) -> str:
    """The URL of an empty Redis."""
    return brokers.emptied(_redis)


@pytest.fixture(scope="session")
def _rabbitmq() -> Iterator[brokers.RabbitMQ]:
    with brokers.rabbitmq() as running:
        yield running


@pytest.fixture
def rabbitmq_url(_rabbitmq: brokers.RabbitMQ) -> Iterator[str]:
    """The URL of a virtual host on RabbitMQ that no other test has touched."""
    with _rabbitmq.virtual_host() as url:
        yield url


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[postgres.PostgreSQL]:
    with postgres.postgresql() as running:
        yield running


@pytest.fixture
def postgresql_server(_postgresql: postgres.PostgreSQL) -> postgres.PostgreSQL:
    """The running PostgreSQL, for a test that makes many databases."""
    return _postgresql


@pytest.fixture
def postgresql_url(_postgresql: postgres.PostgreSQL) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database on PostgreSQL."""
    with _postgresql.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, on either engine: what is proved with it is proved twice."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgresql_url")
    return url
