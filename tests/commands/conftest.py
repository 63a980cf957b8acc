"""The commands as a person types them, on a bridge's own ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from btt_bridge import cli

ROOT = Path(__file__).parents[2]
#: Runs `btt-bridge WORDS` and returns what it printed; raises the bridge's own errors.
Run = Callable[..., str]


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    path = tmp_path / "bridge.yaml"
    (tmp_path / "data").mkdir()
    body = {
        "data_dir": str(tmp_path / "data"),
        "mappings_dir": str(ROOT / "mappings"),
        "payfi": {
            "source": "https://ehr.example/fhir",
            "rates": [{"place": str(tmp_path / f"{name}.csv")} for name in ("bank", "broker")],
        },
    }
    path.write_text(yaml.safe_dump(body))
    return path


@pytest.fixture
def run(settings_file: Path) -> Run:
    def typed(*words: str, status: int = 0) -> str:
        answer = CliRunner().invoke(cli.app, [*words, "--settings", str(settings_file)])
        if answer.exception and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        assert answer.exit_code == status, answer.output
        return answer.output

    return typed
