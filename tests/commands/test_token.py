"""`btt-bridge token` as a person at the keyboard meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from btt_bridge.cli import app
from btt_bridge.errors import BridgeError, RefusedError, UnknownError
from tests.settle.books import ROOT


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(ROOT / "mappings"))
    return tmp_path


def run(*words: str) -> str:
    answer: Result = CliRunner().invoke(app, ["token", *words])
    if isinstance(answer.exception, BridgeError):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.output


def test_the_supply_is_made_once_and_released_by_the_calendar(home: Path) -> None:
    """The four parts are the supply before and after; what is released is released once."""
    assert run("figures").split("minted")[1].strip() == "21,000,000.000000000000000000 BTT"
    first, again = run("release"), run("release")
    assert int(first.split()[0]) > 100
    assert again == "0 releases were posted.\n"
    assert run("figures").split("minted")[1].strip() == "21,000,000.000000000000000000 BTT"


def test_a_holder_stakes_what_it_has_and_sees_what_that_is_worth(home: Path) -> None:
    """A young stake has no benefit yet, and a locked one does not come back."""
    run("release")
    assert "Stake 1 of investor:bithive" in run("stake", "investor:bithive", "first", "12.5", "--lock", "year")
    said = run("stakes", "investor:bithive")
    assert "12.500000000000000000 BTT" in said
    assert said.splitlines()[-1] == "priority 0, discount 0 %"
    with pytest.raises(RefusedError, match="still locked"):
        run("unstake", "investor:bithive", "1")


def test_a_month_without_work_pays_nobody(home: Path) -> None:
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
def test_what_makes_no_sense_is_one_sentence(home: Path, words: tuple[str, ...]) -> None:
    """A wrong amount, holder, lock, milestone or proposal is an error that the bridge knows."""
    with pytest.raises(BridgeError):
        run(*words)


def test_a_data_folder_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody who mistyped the folder gets an empty book made for them, or a trace of the program."""
    monkeypatch.setenv("BTT_DATA_DIR", str(tmp_path / "typo"))
    monkeypatch.setenv("BTT_MAPPINGS_DIR", str(ROOT / "mappings"))
    with pytest.raises(BridgeError, match="there is no folder"):
        run("figures")
    assert not (tmp_path / "typo").exists()


def test_an_unknown_treasury_cannot_be_spent(home: Path) -> None:
    """A proposal names what is there, in the form that the help shows."""
    with pytest.raises((UnknownError, RefusedError)):
        run("propose", "investor:bithive", "p", "--spend", "mining-reward-pool,institution:west,5")
    answer = CliRunner().invoke(app, ["token", "propose", "investor:bithive", "p", "--spend", "a,b"])
    assert answer.exit_code == 2
