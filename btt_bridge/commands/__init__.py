"""The commands of each part of the accounts, one file each; `cli` gathers them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SettingsFile = Annotated[
    Path | None, typer.Option("--settings", "-s", help="Settings file; without it, defaults and environment.")
]
