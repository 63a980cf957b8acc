"""Every setting is documented, and the page says exactly what the program believes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from btt_bridge import config

ROOT = Path(__file__).parents[2]


def fields(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield every setting with its dotted name, however deep; a group that is no setting itself is left out."""
    for name, field in section.model_fields.items():
        within = [
            one
            for one in (field.annotation, *get_args(field.annotation))
            if isinstance(one, type) and issubclass(one, BaseModel)
        ]
        for inner in within:
            yield from fields(inner, f"{prefix}{name}.")
        if field.annotation not in within:
            yield f"{prefix}{name}", field


ALL = dict(fields(config.Settings))


def test_the_page_of_settings_is_the_program_s_own() -> None:
    """docs/settings.md is what the settings say of themselves."""
    page = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == config.reference(), "write it anew: btt-bridge settings > docs/settings.md"


@pytest.mark.parametrize("name", ALL)
def test_every_setting_has_a_sentence_of_help_in_the_page(name: str) -> None:
    """No setting is left to guess: each has a sentence, and stands in the page under its own name."""
    description = ALL[name].description or ""
    assert description[:1].isupper() or description.startswith("torch"), name
    assert description.endswith("."), name
    row = f"| `{name.rpartition('.')[2]}` |"
    assert any(line.startswith(row) and description in line for line in config.reference().splitlines())


@pytest.mark.parametrize("name", [name for name, field in ALL.items() if field.annotation in (int, float)])
def test_every_number_has_a_limit(name: str) -> None:
    """A number without a bound is a limit that somebody will find in production."""
    assert ALL[name].metadata, name
