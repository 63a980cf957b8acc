"""The files that people name at the keyboard: read with a limit, and written, or standard output in their place."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from btt_bridge import fhir
from btt_bridge.errors import MalformedError

Output = Annotated[Path | None, typer.Option("--output", "-o", help="File to write; without it, standard output.")]


def content(path: Path) -> bytes:
    """Return what is in a file."""
    try:
        return path.read_bytes()
    except OSError:
        raise MalformedError(f"{path} cannot be read") from None


def json_object(path: Path, bytes_max: int = 2**20) -> dict[str, Any]:
    """Return the JSON object in a file, its fractions as Decimal."""
    found = content(path)
    try:
        return fhir.parse(found, bytes_max)
    except MalformedError:
        raise MalformedError(f"{path} is not JSON, or no object") from None


def write(written: bytes, output: Path | None) -> None:
    """Write to a file, or to standard output where none is named."""
    if output is None:
        sys.stdout.buffer.write(written)
        sys.stdout.buffer.flush()
    else:
        output.write_bytes(written)
