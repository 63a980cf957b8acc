"""Every attack of docs/attacks.md has tests, and each test that it names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_attack_is_made_by_tests_that_exist() -> None:
    """No row without a test, no test that was renamed away."""
    lines = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8").splitlines()
    rows = [line.split("|")[1:-1] for line in lines if line.startswith("|")][2:]
    assert len(rows) > 20
    wrong = []
    for attack, _, tests in rows:
        named = re.findall(r"`([\w/]+\.py)::(\w+)`", tests)
        if not named:
            wrong.append(f"{attack.strip()}: no test")
        wrong += [f"{file}::{name}" for file, name in named if name not in functions(ROOT / file)]
    assert wrong == []


def test_every_test_of_an_attack_is_named() -> None:
    """What attacks the money and stands in no row would be lost to whoever reads the table."""
    text = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
    file = "tests/settle/test_attacks.py"
    assert [name for name in functions(ROOT / file) if f"`{file}::{name}`" not in text] == []


def functions(path: Path) -> list[str]:
    if not path.is_file():
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
