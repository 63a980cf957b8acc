"""Whole bridges between real peers; one that many tests share is started once, for its node takes seconds to start."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from sample_data.generate import make_chest_ct
from tests.journeys import studies
from tests.journeys.bridge import Bridge, destination, running
from tests.journeys.studies import Change, Make, Sample
from tests.peers import pacs
from tests.peers.pacs import Orthanc


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show a failed test with the last words of its bridge."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Bridge):
                report.sections.append(("log of the bridge", value.last_words()))
    return report


@pytest.fixture(scope="session")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with as small a chest CT as the first service takes."""
    folder = tmp_path_factory.mktemp("phantom")
    make_chest_ct(folder, slices=44, size=192, spacing_mm=1.1)
    return folder


@pytest.fixture
def study(phantom: Path, tmp_path: Path) -> Make:
    """Make a study of a patient of this name."""

    def make(name: str, change: Change | None = None) -> Sample:
        return studies.copy(phantom, tmp_path / name, name, change)

    return make


@pytest.fixture(scope="session")
def shared_pacs() -> Iterator[Orthanc]:
    """The PACS of the shared bridge."""
    with pacs.orthanc() as orthanc:
        yield orthanc


@pytest.fixture(scope="session")
def shared(shared_pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    """A bridge whose results go to an Orthanc, which knows it as `bridge`; for tests that harm nobody."""
    folder = tmp_path_factory.mktemp("shared")
    with running(folder, destinations=[destination(shared_pacs.ae_title, shared_pacs.dicom_port)]) as bridge:
        shared_pacs.know("bridge", "BTT_BRIDGE", bridge.port)
        yield bridge
