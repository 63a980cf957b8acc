"""A clinic's rewards on either engine, with resources of the shipped samples to change at will."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from btt_bridge.config import Settings
from btt_bridge.isolate import Isolation
from btt_bridge.ledger import Ledger
from btt_bridge.settle.rewards import Incentives, open_incentives

ROOT = Path(__file__).parents[3]
SAMPLES = ROOT / "mappings" / "rewards" / "samples"

Make = Callable[..., dict[str, Any]]


def key_of(text: str) -> str:
    return hmac.new(b"the clinic's key", text.encode(), hashlib.sha256).hexdigest()


def sample(name: str, **changes: Any) -> dict[str, Any]:
    """Return a shipped sample; `patient` and `version` reach where they stand, all else is a name of the top."""
    body: dict[str, Any] = copy.deepcopy(json.loads((SAMPLES / f"{name}.json").read_text()))
    reference = {"reference": changes.pop("patient", "Patient/example")}
    if "participant" in body:
        body["participant"][0]["actor"] = reference
    else:
        body["patient" if "patient" in body else "subject"] = reference
    version = changes.pop("version", 1)
    body["meta"] = {"versionId": str(version), "lastUpdated": f"2026-01-05T08:00:{version:02d}Z"}
    return {**body, **changes}


def opened(ledger: Ledger, isolation: Isolation, mappings: Path = ROOT / "mappings") -> Incentives:
    settings = Settings(mappings_dir=mappings, settle={"hospital": "test"})  # type: ignore[arg-type]
    return open_incentives(settings, ledger, isolation, key_of)


@pytest.fixture
def incentives(ledger: Ledger, isolation: Isolation) -> Iterator[Incentives]:
    """The shipped program, for the clinic `test`."""
    incentives = opened(ledger, isolation)
    yield incentives
    incentives.close()


@pytest.fixture
def embedded(embedded_ledger: Ledger, isolation: Isolation) -> Iterator[Incentives]:
    """The same on SQLite alone, for what does not depend on the engine."""
    incentives = opened(embedded_ledger, isolation)
    yield incentives
    incentives.close()


def changed(tmp_path: Path, **parts: Mapping[str, Any]) -> Path:
    """Return the shipped mappings with other values in some parts of the program."""
    folder = tmp_path / "mappings" / "rewards"
    folder.mkdir(parents=True)
    (folder / "samples").symlink_to(SAMPLES)
    body = yaml.safe_load((SAMPLES.parent / "btt-2025.yaml").read_text())
    body["effective_from"] = "2025-01-01"
    for name, values in parts.items():
        body[name].update(values)
    (folder / "changed.yaml").write_text(yaml.safe_dump(body, sort_keys=False))
    return folder.parent
