"""`btt-bridge assets`: a scanner is named, divided, sold in part, valued, and its uses are paid."""

from __future__ import annotations

import re
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from btt_bridge import config
from btt_bridge.errors import InvalidAmountError, KeyConflictError, OverdrawnError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger, Move, audit
from btt_bridge.money import CNY, Amount
from btt_bridge.settle import Uses
from btt_bridge.settle.token import find_token
from btt_bridge.testing import FakeClock
from tests.commands.conftest import ROOT, Run


def named(run: Run, *words: str) -> tuple[str, str]:
    """Return the keyed digest and the deed of a thing."""
    name, deed = run("assets", "register", *words).splitlines()
    return name, deed.split()[1]


def test_a_scanner_earns_for_its_holders(run: Run, settings_file: Path) -> None:
    """Minted for 2 %, a third sold for 1 %, revalued, used twice, and 10.00 shared 7 to 3; listed as it stands."""
    name, deed = named(run, "--manufacturer", "Acme", "--serial", "42")
    assert "100,000.00 CNY" in run("assets", "fund", "hospital:main", "100000.00", "bank-1")
    run("assets", "fund", "investor:anna", "50000", "bank-2")
    mint = ("assets", "mint", "equipment", name, "hospital:main", "10", "100000.00", "standard", "--use-fee", "5.00")
    for _ in range(2):
        assert f"deed {deed}: 10 shares of hospital:main" in run(*mint)
    assert "is minted" in run("assets", "register", "--manufacturer", "ACME", "--serial", " 42")
    assert "3 of 10 shares" in run("assets", "trade", deed, "hospital:main", "investor:anna", "3", "30000.00", "t1")
    assert "is worth 110000.00 CNY" in run("assets", "revalue", deed, "110000.00", "desk", "hospital:main", "r1")
    ledger = Ledger(config.load(settings_file).ledger_url)
    assert all(Uses(ledger).attest(name, study * 64) for study in "abb")
    listed = run("assets", "list")
    assert f"{deed}  equipment, 110000.00 CNY, 2 uses to be paid at 5.00 CNY" in listed
    assert re.search(r"hospital:main +7 of 10 shares", listed)
    paid = run("assets", "distribute", deed, "2026-01", "hospital:main")
    assert "2 uses, 10.00 CNY" in paid
    assert re.search(r"hospital:main +7.00 CNY\n +investor:anna +3.00 CNY", paid)
    # 50,000 less the price, and the revenue.
    assert "20,002.99 CNY" in run("assets", "withdraw", "investor:anna", "0.01", "bank-3")
    with pytest.raises(OverdrawnError):
        run("assets", "withdraw", "investor:anna", "30000", "bank-4")
    assert audit.verify(ledger).problem == ""
    ledger.close()


def test_a_pool_is_opened_joined_left_and_charged(run: Run, settings_file: Path) -> None:
    """Units for money and money for units at today's value; a month that still runs is not charged; a listing is."""
    name, deed = named(run, "--title", "Building 7")
    run("assets", "fund", "hospital:main", "5000.00", "bank-1")
    run("assets", "fund", "investor:anna", "200.00", "bank-2")
    run("assets", "mint", "property", name, "hospital:main", "10", "1000.00", "simple")
    assert "passive: 0.01 CNY" in run("assets", "pool", "open", "ct", deed, "passive", "hospital:main")
    for _ in range(2):
        assert f"deed {deed} is listed: 5.00 CNY" in run("assets", "list-prominently", deed, "hospital:main", "l1")
        joined = run("assets", "pool", "join", "ct", "investor:anna", "100.00", "j1")
        assert "passive: 100.01 CNY" in joined
    units = joined.split()[0]
    with pytest.raises(RefusedError, match="not over"):
        run("assets", "pool", "charge", "ct", "1")
    assert "100.00 CNY for investor:anna" in run("assets", "pool", "leave", "ct", "investor:anna", units, "l1")
    with pytest.raises(OverdrawnError):
        run("assets", "pool", "leave", "ct", "investor:anna", "1000000", "l2")
    with pytest.raises(UnknownError):
        run("assets", "pool", "join", "mr", "investor:anna", "1.00", "j2")


def test_a_month_of_a_pool_is_charged_once(run: Run, settings_file: Path) -> None:
    """A twelfth of 2 % a year of what an active pool holds."""
    name, deed = named(run, "--title", "Building 8")
    run("assets", "fund", "hospital:main", "5000.00", "bank-1")
    run("assets", "mint", "property", name, "hospital:main", "10", "1000.00", "simple")
    run("assets", "pool", "open", "ct", deed, "active", "hospital:main")
    run("assets", "pool", "join", "ct", "hospital:main", "1199.99", "j1")
    with closing(Ledger(config.load(settings_file).ledger_url)) as ledger:
        ahead = FakeClock(ledger.now() + timedelta(days=32))
    with closing(Ledger(config.load(settings_file).ledger_url, ahead)) as ledger:  # the book goes on, and so does now
        ledger.open_account("bank:cny", CNY, credit_limit=None)
        ledger.open_account("later:cny", CNY)
        ledger.post_all("test", "later", [Move("bank:cny", "later:cny", Amount(1, CNY), "test")])
    for _ in range(2):
        assert run("assets", "pool", "charge", "ct", "1").splitlines() == [
            "charged: 2.00 CNY",
            f"pool ct of deed {deed}, active: 1198.00 CNY",
        ]


def test_a_hospital_s_ledger_gets_no_supply_by_its_assets(run: Run, settings_file: Path) -> None:
    """Things are divided and listed without a token; whoever asks the ledger for the token is told that it has none."""
    named(run, "--title", "Patent 1")
    run("assets", "fund", "hospital:main", "1.00", "bank-1")
    run("assets", "list")
    with closing(Ledger(config.load(settings_file).ledger_url)) as ledger:
        assert find_token(ROOT / "mappings", ledger) is None


def test_what_is_refused_says_why(run: Run) -> None:
    """A thing without a name, with two, of no kind; minted by its serial number; twice with other shares; no money."""
    for words in ((), ("--manufacturer", "Acme"), ("--serial", "1", "--title", "A")):
        with pytest.raises(RefusedError, match="named by"):
            run("assets", "register", *words)
    name, _ = named(run, "--title", "Patent 1")
    assert name != named(run, "--title", "Patent 2")[0]
    rest = ("hospital:main", "10", "1000.00", "simple")
    with pytest.raises(RefusedError, match="kinds"):
        run("assets", "mint", "horse", name, *rest)
    with pytest.raises(RefusedError, match="keyed digest"):
        run("assets", "mint", "property", "SN-42", *rest)
    with pytest.raises(OverdrawnError):
        run("assets", "mint", "property", name, *rest)
    with pytest.raises(InvalidAmountError):
        run("assets", "fund", "hospital:main", "1e3", "bank-1", "--money", "USD")
    run("assets", "fund", "hospital:main", "1000.00", "bank-1")
    run("assets", "mint", "property", name, *rest)
    with pytest.raises(KeyConflictError):
        run("assets", "mint", "property", name, "hospital:main", "11", "1000.00", "simple")
