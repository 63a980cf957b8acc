"""Every event that code can tell has a schema and a line in the page, and there is no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TYPE = re.compile(r'"(btt\.[a-z.]+\.v\d+)"')


def test_types_in_code_schemas_and_page_are_the_same() -> None:
    """Whoever adds an event writes its schema and its line, and whoever takes one away takes those along."""
    code = {
        kind
        for folder in ("btt_bridge", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for kind in TYPE.findall(path.read_text(encoding="utf-8"))
    }
    schemas = {path.stem for path in (ROOT / "docs" / "events").glob("btt.*.json")}
    text = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    page = re.findall(r"^\| \[`(btt[\w.]+)`\]\(events/\1\.json\) \| \S", text, re.MULTILINE)
    assert code == schemas
    assert page == sorted(schemas)
