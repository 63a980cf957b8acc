"""The phantom and the real series that reports are written about."""

from __future__ import annotations

from pathlib import Path

import pytest

from btt_bridge import report
from tests.report import cases

PHANTOM = Path(__file__).parents[2] / "sample_data" / "chest_ct"


@pytest.fixture(scope="session")
def phantom() -> report.Sources:
    """The generated chest CT."""
    return cases.sources(PHANTOM)


@pytest.fixture(scope="session")
def ct_chest(test_data: Path) -> report.Sources:
    """A real chest CT of 248 slices in JPEG Lossless, with empty Accession Number, Study ID and Manufacturer."""
    return cases.sources(test_data / "ct_chest")


@pytest.fixture(scope="session")
def ct_liver(test_data: Path) -> report.Sources:
    """Three real slices in Implicit VR with an empty Specific Character Set and values too long for their VR."""
    return cases.sources(test_data / "ct_liver_seg")
