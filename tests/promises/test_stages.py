"""The folders are the path of a study, and each says what comes in, what goes out and what can go wrong."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "btt_bridge"
#: The path, with the main verb of each stage.
STAGES = {
    "accept": "serve",
    "assemble": "complete",
    "assign": "match",
    "deidentify": "strip",
    "dispatch": "Dispatcher",
    "exchange": "serve",
    "infer": "main",
    "judge": "verify",
    "reidentify": "restore",
    "report": "write",
    "send": "deliver",
    "settle": "Billing",
}


def test_alphabetical_order_is_the_order_of_events() -> None:
    """The listing tells the story: stages sort as they happen, and web, which only watches, comes after."""
    folders = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert [name for name in folders if name in STAGES] == list(STAGES)
    assert list(STAGES) == sorted(STAGES)
    assert set(folders) - set(STAGES) == {"commands", "ledger", "web"}


@pytest.mark.parametrize("stage", [*STAGES, "ledger", "web"])
def test_a_stage_says_what_it_is_for(stage: str) -> None:
    """Its docstring names input, output and failure, and what it exports is there."""
    module = importlib.import_module(f"btt_bridge.{stage}")
    said = module.__doc__ or ""
    for what, words in {
        "comes in": r"\bin\b",
        "goes out": r"\bout\b",
        "can go wrong": r"\bwrong\b|Error\b|refused",
    }.items():
        assert re.search(words, said, re.IGNORECASE), f"{stage} does not say what {what}"
    assert module.__all__ == sorted(set(module.__all__)), "exports are sorted, each once"
    assert all(hasattr(module, name) for name in module.__all__)


def test_the_map_of_the_accounts_names_each_of_their_files() -> None:
    """The largest stage says in the order of events what each file and folder of it is, and names none that is gone."""
    said = importlib.import_module("btt_bridge.settle").__doc__ or ""
    paths = [path for path in (PACKAGE / "settle").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert {path.stem for path in paths} - {"__init__"} == set(re.findall(r"`([a-z]+)`", said))


@pytest.mark.parametrize(("stage", "verb"), STAGES.items())
def test_a_stage_exports_its_main_verb(stage: str, verb: str) -> None:
    """The pipeline finds each stage's verb where a reader would look for it."""
    module = importlib.import_module(f"btt_bridge.{stage}")
    assert verb in module.__all__
    assert callable(getattr(module, verb))
