"""A study of a tokenized scanner earns for its holders: once, whatever revisions come."""

from __future__ import annotations

import re

from pydicom import Dataset

from btt_bridge.journey import State
from btt_bridge.ledger import Ledger
from btt_bridge.settle import Uses
from tests.journeys.bridge import Bridge
from tests.journeys.studies import Make
from tests.peers import dcmtk


def _scanner(image: Dataset) -> None:
    image.Manufacturer, image.DeviceSerialNumber = "Tokenized Works", "TW-7"


def _minted(bridge: Bridge) -> str:
    """Name and divide the scanner as a person would; return its deed."""
    named = bridge.cli("assets", "register", "--manufacturer", "TOKENIZED WORKS", "--serial", "TW-7").stdout.split()
    bridge.cli("assets", "fund", "hospital:main", "2000.00", "bank-1")
    mint = ("assets", "mint", "equipment", named[0], "hospital:main", "10", "100000.00", "standard")
    answer = bridge.cli(*mint, "--use-fee", "5.00")
    assert answer.returncode == 0, answer.stdout
    return str(re.findall(r"deed ([0-9a-f]{32})", answer.stdout)[0])


def test_a_study_of_a_tokenized_scanner_is_one_use(shared: Bridge, study: Make) -> None:
    """Delivered once and again in a second revision it counts once; and nothing of the scanner is in the accounts."""
    deed, uses = _minted(shared), Uses(Ledger(shared.settings.ledger_url))
    sample = study("tokenized", _scanner)
    dcmtk.storescu(shared.port, sample.files[:-1])
    shared.until(sample.study_uid, State.SETTLED)
    assert uses.unpaid(deed) == 1
    dcmtk.storescu(shared.port, sample.files[-1:])
    shared.until(sample.study_uid, State.SETTLED, revision=2)
    assert uses.unpaid(deed) == 1
    for path in shared.data_dir.glob("ledger.db*"):
        assert b"TW-7" not in path.read_bytes()
    uses.ledger.close()
    shared.books_balance()
