"""The commands of each part of the accounts, one file each; `cli` gathers them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", "-s", help="Settings file; without it, defaults and environment.")
]


class TakenBack(StrEnum):
    """Why a person takes back what was charged or paid."""

    DISPUTED = "disputed"
    WITHDRAWN = "withdrawn"
