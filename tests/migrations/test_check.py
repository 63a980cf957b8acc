"""`btt-bridge check` says how the databases stand, and `up` starts nothing on one that it does not know."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
import yaml
from sqlalchemy import update
from typer.testing import CliRunner

from btt_bridge import cli, config
from btt_bridge.database import writing
from btt_bridge.errors import CapacityError, ConfigurationError
from btt_bridge.ledger import Ledger
from btt_bridge.migrations import stamp_table

ROOT = Path(__file__).parents[2]


def _settings(folder: Path, **changed: object) -> Path:
    file = folder / "bridge.yaml"
    pacs = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": 104}
    common = {"data_dir": str(folder), "mappings_dir": str(ROOT / "mappings"), "destinations": [pacs]}
    file.write_text(yaml.safe_dump({**common, **changed}))
    return file


def _run(command: str, file: Path) -> str:
    return CliRunner().invoke(cli.app, [command, "--settings", str(file)], catch_exceptions=False).stdout


def test_check_says_which_revision_each_database_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there, what an update would do to it, what is not there; and nothing is made by asking."""
    file = _settings(tmp_path)
    Ledger(config.load(file).ledger_url).close()
    said = _run("check", file)
    assert "The database of ledger has ledger_0001.\n" in said
    assert "The database of claims is not there yet, and will have claims_0001.\n" in said
    assert "The database of exchange is not there yet, and will have exchange_0001.\n" in said
    assert [path.name for path in tmp_path.glob("*.db")] == ["ledger.db"]
    monkeypatch.setattr("btt_bridge.migrations.newest", lambda metadata: f"{metadata.info['history']}_0002")
    assert "ledger has ledger_0001, and will be brought to ledger_0002 by the next start.\n" in _run("check", file)


@pytest.mark.parametrize("command", ["check", "up"])
def test_a_newer_database_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Where a newer version was before, it is told before anything starts."""
    monkeypatch.setattr(cli, "_start", config.load)
    file = _settings(tmp_path)
    with closing(Ledger(config.load(file).ledger_url)) as ledger, writing(ledger.engine) as connection:
        connection.execute(update(stamp_table).values(version_num="ledger_9999"))
    with pytest.raises(ConfigurationError, match="newer version of the bridge: it has revision ledger_9999"):
        _run(command, file)
    assert not (tmp_path / "run").exists()


def test_a_database_that_does_not_answer_is_told_without_its_password(tmp_path: Path) -> None:
    """`check` names it and fails; the password stays in the settings."""
    file = _settings(tmp_path, database_url="postgresql+psycopg://bridge:secret@127.0.0.1:1/bridge")
    with pytest.raises(CapacityError, match=r"127\.0\.0\.1:1/bridge does not answer") as problem:
        _run("check", file)
    assert "secret" not in str(problem.value)
