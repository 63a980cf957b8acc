"""`btt-bridge token` as a person at the keyboard meets it."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from btt_bridge import config
from btt_bridge.cli import app
from btt_bridge.errors import BridgeError, ConfigurationError, RefusedError, UnknownError
from btt_bridge.ledger import Ledger
from btt_bridge.settle import Cause, open_billing
from btt_bridge.settle.token import open_token
from btt_bridge.testing import FakeClock
from tests.settle import books
from tests.settle.books import ROOT
from tests.settle.dividends.house import NODES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(ROOT / "mappings"))
    monkeypatch.setenv("BTT_SETTLE__HOSPITAL", "test")
    return tmp_path


@pytest.fixture
def book(home: Path) -> Path:
    """The folder of the operator, who has made the supply."""
    run("mint")
    return home


def run(*words: str, group: str = "token") -> str:
    answer: Result = CliRunner().invoke(app, [group, *words])
    if isinstance(answer.exception, BridgeError):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_the_supply_is_made_once_and_released_by_the_calendar(book: Path) -> None:
    """The four parts are the supply before and after; each release is made once; a second mint makes nothing."""
    assert run("mint") == "The supply is 21,000,000.000000000000000000 BTT.\n"
    assert run("figures").split("minted")[1].strip() == "21,000,000.000000000000000000 BTT"
    first, again = run("release"), run("release")
    assert int(first.split()[0]) > 100
    assert again == "0 releases were posted.\n"
    assert run("figures").split("minted")[1].strip() == "21,000,000.000000000000000000 BTT"


def test_a_holder_stakes_what_it_has_and_sees_what_that_is_worth(book: Path) -> None:
    """A young stake has no benefit yet, and a locked one does not come back."""
    run("release")
    assert "Stake 1 of investor:bithive" in run("stake", "investor:bithive", "first", "12.5", "--lock", "year")
    said = run("stakes", "investor:bithive")
    assert "12.500000000000000000 BTT" in said
    assert said.splitlines()[-1] == "priority 0, discount 0 %"
    with pytest.raises(RefusedError, match="still locked"):
        run("unstake", "investor:bithive", "1")


def test_a_holder_says_for_which_bridge_it_has_staked(book: Path) -> None:
    """At once for the first, a day later for another, and seen beside the stakes."""
    run("release")
    run("stake", "investor:bithive", "first", "12.5")
    first = run("dedicate", "investor:bithive", "main")
    assert first.startswith("The stakes of investor:bithive count for main from ")
    assert run("dedicate", "investor:bithive", "main") == first
    run("dedicate", "investor:bithive", "annex")
    assert run("stakes", "investor:bithive").splitlines()[-1].startswith("for the bridge annex from ")
    with pytest.raises(RefusedError, match="count for annex from"):
        run("attest", "investor:bithive", group="ledger")


def test_a_month_without_work_pays_nobody(book: Path) -> None:
    """The emission stays in the pool where the book has no delivered work, and a month to come is refused."""
    assert run("mine", "1") == "0 nodes were paid.\n"
    with pytest.raises(RefusedError):
        run("mine", "96")


@pytest.mark.parametrize(
    "words",
    [
        ("stake", "investor:bithive", "x", "a lot"),
        ("stake", "nobody", "x", "1"),
        ("stake", "investor:bithive", "x", "1", "--lock", "for-ever"),
        ("propose", "investor:bithive", "p", "--reach", "technical-development-foundation,nothing"),
        ("vote", "p-404", "investor:bithive", "yes"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(book: Path, words: tuple[str, ...]) -> None:
    """A wrong amount, holder, lock, milestone or proposal is an error that the bridge knows."""
    with pytest.raises(BridgeError):
        run(*words)


@pytest.mark.parametrize(
    "words",
    [
        ("figures",),
        ("release",),
        ("mine", "1"),
        ("stake", "investor:bithive", "x", "1"),
        ("stakes", "investor:bithive"),
        ("dedicate", "investor:bithive", "main"),
        ("refer", "hospital:a", "a", "hospital:b", "b"),
        ("reward", "hospital:b"),
        ("close", "p"),
    ],
)
def test_a_ledger_without_a_supply_is_not_the_book_and_does_not_become_it(home: Path, words: tuple[str, ...]) -> None:
    """A hospital that asks its own ledger is told whom to ask, and nothing is minted by asking."""
    with pytest.raises(ConfigurationError, match="not the token's book"):
        run(*words)
    with closing(Ledger(config.load(None).ledger_url)) as ledger:
        assert ledger.latest(1) == []


def test_referrals_count_the_studies_that_the_book_has(book: Path) -> None:
    """Not before the first study, and paid for the first that stands; refunded, a study is none."""
    run("release")
    settings = config.load(None)
    with closing(Ledger(settings.ledger_url)) as ledger:
        billing = open_billing(settings, ledger)
        books.deliver(billing, 1)
        refer = ("refer", "hospital:a", "owner-a", "hospital:test", "owner-b")
        with pytest.raises(RefusedError, match="before its first study"):
            run(*refer)
        billing.refund(books.study(1), books.SERVICE, Cause.DISPUTED)
        assert run(*refer) == "The referral is noted.\n"
        assert run("reward", "hospital:test") == ""
        books.deliver(billing, 2)
        billing.refund(books.study(2), books.SERVICE, Cause.DISPUTED)
        assert run("reward", "hospital:test") == ""
        books.deliver(billing, 3)
        assert run("reward", "hospital:test") == "paid: referral:hospital:test:implemented\n"
    for words in (("reward", "hospital:a"), ("refer", "hospital:a", "owner-a", "institution:west", "owner-b")):
        with pytest.raises(RefusedError):
            run(*words)
    answer = CliRunner().invoke(app, ["token", "reward", "hospital:test", "10000"])
    assert answer.exit_code == 2


def test_a_month_is_mined_by_work_for_others_that_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refunded and self-made work earn nothing; a refund after the month was paid does not make a repeat conflict."""
    shutil.copytree(ROOT / "mappings", tmp_path / "mappings")
    owners = [
        {"name": name, "owner": owner, "nodes": [NODES[name]]} for name, owner in (("ann", "ann"), ("own", "test"))
    ]
    (tmp_path / "mappings" / "dividends" / "contributors" / "ours.yaml").write_text(
        yaml.safe_dump({"contributors": owners})
    )
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(tmp_path / "mappings"))
    monkeypatch.setenv("BTT_SETTLE__HOSPITAL", "test")
    settings, clock = config.load(None), FakeClock(books.JANUARY)
    with closing(Ledger(settings.ledger_url, clock)) as ledger:
        billing = open_billing(settings, ledger)
        for number, name in enumerate(("ann", "ann", "own"), start=1):
            books.deliver(billing, number, node=NODES[name])
        month = next(
            n for n in range(1, 97) if open_token(settings.mappings_dir, ledger).supply.table.span(n)[1] > clock.now()
        )
        clock.advance(40 * 86400)
        billing.refund(books.study(1), books.SERVICE, Cause.DISPUTED)
        assert run("mine", str(month)) == "1 nodes were paid.\n"
        wallets = [b.account for b in ledger.balances() if b.account.startswith("wallet:node:") and b.units]
        assert wallets == [f"wallet:node:{NODES['ann']}:btt"]
        billing.refund(books.study(2), books.SERVICE, Cause.DISPUTED)
        assert run("mine", str(month)) == "1 nodes were paid.\n"


def test_a_data_folder_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who mistyped the folder gets an empty book made for them, or a trace of the program."""
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path / "typo"))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(ROOT / "mappings"))
    with pytest.raises(BridgeError, match="there is no folder"):
        run("figures")
    assert not (tmp_path / "typo").exists()


def test_an_unknown_treasury_cannot_be_spent(book: Path) -> None:
    """A proposal names what is there, in the form that the help shows."""
    with pytest.raises((UnknownError, RefusedError)):
        run("propose", "investor:bithive", "p", "--spend", "mining-reward-pool,institution:west,5")
    answer = CliRunner().invoke(app, ["token", "propose", "investor:bithive", "p", "--spend", "a,b"])
    assert answer.exit_code == 2
