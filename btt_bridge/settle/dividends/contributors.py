"""Who contributes, by which nodes, and who controls whom."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from btt_bridge.errors import MappingError
from btt_bridge.mappings import Source, read, violations

_SCHEMA: Final = "contributors.schema.json"


@dataclass(frozen=True, slots=True)
class Contributor:
    """An owner of nodes."""

    name: str
    owner: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Registry:
    """All contributors, and the hospitals that belong to somebody else than themselves."""

    contributors: Mapping[str, Contributor]
    hospitals: Mapping[str, str]

    def of(self, node: str) -> Contributor | None:
        """Return whose node it is; None for one that stands in no file."""
        for one in self.contributors.values():
            if node in one.nodes:
                return one
        return None

    def supplier(self, node: str, hospital: str) -> Contributor | None:
        """Return who supplied a node's work to a hospital; None where it is the hospital's own, or could be."""
        found = self.of(node)
        return None if found is None or self.is_own(found, hospital) else found

    def is_own(self, contributor: Contributor, hospital: str) -> bool:
        """Say whether who asks for work and who does it are controlled by the same."""
        return contributor.owner == self.hospitals.get(hospital, hospital)


def load(folder: Path) -> Registry:
    """Return what all files of a folder say; raise the first MappingError."""
    registry, errors = _read(folder)
    if errors:
        raise errors[0]
    return registry


def check(folder: Path) -> list[MappingError]:
    """Return everything that is wrong with the files of a folder."""
    return _read(folder)[1]


def _read(folder: Path) -> tuple[Registry, list[MappingError]]:
    schema: dict[str, Any] = json.loads(files("btt_bridge.settle.dividends").joinpath(_SCHEMA).read_text())
    contributors: dict[str, Contributor] = {}
    hospitals: dict[str, str] = {}
    errors: list[MappingError] = []
    for path in sorted(folder.glob("*.yaml")):
        try:
            source = read(path)
            if wrong := violations(source, schema):
                errors += wrong
                continue
            _add(source, contributors, hospitals)
        except MappingError as error:
            errors.append(error)
    return Registry(contributors, hospitals), errors


def _add(source: Source, contributors: dict[str, Contributor], hospitals: dict[str, str]) -> None:
    for number, body in enumerate(source.body["contributors"]):
        place = ("contributors", number)
        if body["name"] in contributors:
            raise source.error("a contributor stands twice", (*place, "name"))
        taken = {node for one in contributors.values() for node in one.nodes}
        if taken & set(body["nodes"]):
            raise source.error("a node belongs to another contributor already", (*place, "nodes"))
        contributors[body["name"]] = Contributor(body["name"], body["owner"], tuple(body["nodes"]))
    for number, body in enumerate(source.body.get("hospitals", ())):
        if body["name"] in hospitals:
            raise source.error("a hospital stands twice", ("hospitals", number, "name"))
        hospitals[body["name"]] = body["owner"]
