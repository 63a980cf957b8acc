"""The published schemas of events, each with the envelope that it builds on."""

from __future__ import annotations

import json
from typing import Any, Final

import jsonschema
from referencing import Registry, Resource

from tests.settle.books import ROOT

#: By type, and the envelope as `event`.
SCHEMAS: Final = {path.stem: json.loads(path.read_text()) for path in (ROOT / "docs" / "events").glob("*.json")}


def validator(kind: str) -> jsonschema.Draft202012Validator:
    registry: Any = Registry().with_resources([
        (schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values()
    ])  # fmt: skip
    return jsonschema.Draft202012Validator(SCHEMAS[kind], registry=registry)
