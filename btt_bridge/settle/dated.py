"""Mapping files that come into force on a day: read as a folder, and the one that counts on a given day."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, date, tzinfo
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zoneinfo import ZoneInfo

from btt_bridge.errors import ConfigurationError, MappingError
from btt_bridge.mappings import Source, read, violations


class Dated(Protocol):
    """A version of a rule of the business."""

    @property
    def name(self) -> str: ...

    @property
    def effective_from(self) -> date: ...


T = TypeVar("T", bound=Dated)


def load(folder: Path, schema: str, build: Callable[[Source], T]) -> tuple[T, ...]:
    """Return every version in a folder, oldest first; raise the first MappingError."""
    found, errors = _read(folder, schema, build)
    if errors:
        raise errors[0]
    return tuple(sorted(found, key=lambda version: version.effective_from))


def check(folder: Path, schema: str, build: Callable[[Source], T]) -> list[MappingError]:
    """Return everything that is wrong with the files of a folder."""
    return _read(folder, schema, build)[1]


def in_force(versions: Sequence[T], day: date) -> T:
    """Return the newest version that had come into force on `day`; raise ConfigurationError where there was none."""
    counting = [version for version in versions if version.effective_from <= day]
    if not counting:
        raise ConfigurationError(f"none of {len(versions)} versions was in force on {day}")
    return max(counting, key=lambda version: version.effective_from)


def zone(name: str) -> tzinfo:
    """Return the time zone of a setting; UTC needs no table of the system's."""
    return UTC if name == "UTC" else ZoneInfo(name)


def day(source: Source) -> date:
    """Return the day from which a file counts."""
    try:
        return date.fromisoformat(source.body["effective_from"])
    except ValueError:
        raise source.error("there is no such day", ("effective_from",)) from None


def _read(folder: Path, schema: str, build: Callable[[Source], T]) -> tuple[list[T], list[MappingError]]:
    rules: dict[str, Any] = json.loads(files("btt_bridge.settle").joinpath(schema).read_text())
    paths = sorted(folder.glob("*.yaml"))
    if not paths:
        return [], [MappingError("there is no mapping file in this folder", file=str(folder), line=1)]
    found: list[T] = []
    errors: list[MappingError] = []
    for path in paths:
        try:
            source = read(path)
            if wrong := violations(source, rules):
                errors += wrong
                continue
            version = build(source)
            if any(version.name == other.name or version.effective_from == other.effective_from for other in found):
                raise source.error("another file has this name or counts from this day", ("effective_from",))
            found.append(version)
        except MappingError as error:
            errors.append(error)
    return found, errors
