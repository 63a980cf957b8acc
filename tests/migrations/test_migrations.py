"""How tables get from one revision to the next, proved with a history of the test's own on both engines."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Column, Engine, Integer, MetaData, Table, create_engine, event, inspect, text
from sqlalchemy.exc import IntegrityError

from btt_bridge import migrations
from btt_bridge.database import open_database, revision, writing
from btt_bridge.errors import ConfigurationError
from tests.migrations.reflected import rows, schema
from tests.migrations.toy import toy_tables

_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "{history}_{number:04}"
down_revision = {before!r}


def upgrade():
    {body}
"""
#: A column more, a table that SQLite must make anew though another refers to it, rows of a guarded table, a new table.
_SECOND = """
    op.add_column("item", sa.Column("weight", sa.Integer, nullable=False, server_default="7"))
    with op.batch_alter_table("box", table_args=[sa.CheckConstraint("size > 0", name="box_is_real")]) as box:
        box.alter_column("label", existing_type=sa.String(8), type_=sa.String(32), existing_nullable=False)
    op.execute("UPDATE item SET note = note || '!'")
    op.create_table("lid", sa.Column("id", sa.Integer, primary_key=True))
"""

Write = Callable[[int, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Makes the versions of a bridge that has the histories "toy" and "other"; the first of each is there."""
    folder = tmp_path / "revisions"
    (folder / "versions").mkdir(parents=True)
    shutil.copy(migrations.FOLDER / "env.py", folder)
    monkeypatch.setattr(migrations, "FOLDER", folder)

    def add(number: int, body: str, history: str = "toy") -> None:
        before = f"{history}_{number - 1:04}" if number > 1 else None
        content = _REVISION.format(history=history, number=number, before=before, body=body)
        (folder / "versions" / f"{history}_{number:04}_step.py").write_text(content, encoding="utf-8")

    add(1, "pass")
    add(1, "pass", "other")
    return add


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[[int], Engine]]:
    """Opens the database as a version of the bridge does."""
    engines: list[Engine] = []

    other = MetaData(info={"history": "other"})
    Table("guest", other, Column("id", Integer, primary_key=True))

    def opener(version: int) -> Engine:
        engines.append(open_database(database_url, other))
        engines.append(open_database(database_url, toy_tables(version)))
        return engines[-1]

    yield opener
    for engine in engines:
        engine.dispose()


def _fill(engine: Engine) -> None:
    with writing(engine) as connection:
        connection.execute(text("INSERT INTO box (id, label, size) VALUES (1, 'one', 1), (2, 'two', 2)"))
        connection.execute(text("INSERT INTO item (id, box, note) VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 2, 'c')"))


def test_an_update_brings_tables_rows_and_guards_along(
    database_url: str, write: Write, opened: Callable[[int], Engine]
) -> None:
    """What the first version made and filled ends as the second makes it: constraints, triggers, rows."""
    _fill(opened(1))
    write(2, _SECOND.strip())
    assert revision(database_url, toy_tables(2)) == "toy_0001"
    engine = opened(2)
    assert rows(engine, ["btt_bridge_revision", "box", "item", "lid"]) == {
        "btt_bridge_revision": [{"version_num": "other_0001"}, {"version_num": "toy_0002"}],
        "box": [{"id": 1, "label": "one", "size": 1}, {"id": 2, "label": "two", "size": 2}],
        "item": [
            {"id": number, "box": box, "note": note, "weight": 7}
            for number, box, note in [(1, 1, "a!"), (2, 2, "b!"), (3, 2, "c!")]
        ],
        "lid": [],
    }
    migrated = schema(engine, ["box", "item", "lid"])
    with writing(engine) as connection:
        toy_tables(2).drop_all(connection)
        connection.execute(text("DELETE FROM btt_bridge_revision WHERE version_num = 'toy_0002'"))
    assert migrated == schema(opened(2), ["box", "item", "lid"])


def test_after_an_update_the_database_refuses_what_it_refused(write: Write, opened: Callable[[int], Engine]) -> None:
    """Guards, checks, unique keys and foreign keys hold, also on the table that SQLite made anew."""
    _fill(opened(1))
    write(2, _SECOND.strip())
    engine = opened(2)
    for refused in (
        "UPDATE box SET size = 3",
        "UPDATE item SET note = ''",
        "INSERT INTO box (id, label, size) VALUES (3, 'three', 0)",
        "INSERT INTO box (id, label, size) VALUES (3, 'one', 1)",
        "INSERT INTO item (id, box, note, weight) VALUES (4, 9, '', 1)",
        "DELETE FROM box",
    ):
        with pytest.raises(IntegrityError), writing(engine) as connection:
            connection.execute(text(refused))


def test_tables_without_a_stamp_are_the_first_revision(
    database_url: str, write: Write, opened: Callable[[int], Engine]
) -> None:
    """A database from before revisions were counted is taken for the baseline, and migrated from there."""
    _fill(opened(1))
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM btt_bridge_revision WHERE version_num = 'toy_0001'"))
    engine.dispose()
    write(2, _SECOND.strip())
    assert revision(database_url, toy_tables(2)) == "toy_0001"
    assert len(rows(opened(2), ["item"])["item"]) == 3
    assert revision(database_url, toy_tables(2)) == "toy_0002"


def test_a_newer_database_is_refused(database_url: str, write: Write, opened: Callable[[int], Engine]) -> None:
    """The version before says whose it is and what to do, and changes nothing."""
    write(2, _SECOND.strip())
    before = rows(opened(2), ["btt_bridge_revision", "item"])
    (migrations.FOLDER / "versions" / "toy_0002_step.py").unlink()
    for ask in (opened, lambda version: revision(database_url, toy_tables(version))):
        with pytest.raises(
            ConfigurationError, match="newer version of the bridge: it has revision toy_0002"
        ) as refusal:
            ask(1)
        assert "never taken back" in refusal.value.advice
    write(2, _SECOND.strip())
    assert rows(opened(2), ["btt_bridge_revision", "item"]) == before


def test_tables_that_no_version_made_are_refused(database_url: str, write: Write) -> None:
    """Without a stamp and not the first revision's: it is told what they lack, and they stay as they are."""
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE item (id INTEGER PRIMARY KEY, box INTEGER)"))
    with pytest.raises(ConfigurationError, match=r"lacks box\.id, box\.label, box\.size, item\.note"):
        open_database(database_url, toy_tables(1))
    assert inspect(engine).get_table_names() == ["item"]
    engine.dispose()


@pytest.mark.parametrize("body", ["raise OSError", 'op.execute("DELETE FROM box WHERE id = 1")'])
def test_a_revision_that_goes_wrong_leaves_no_trace(
    database_url: str, write: Write, opened: Callable[[int], Engine], body: str
) -> None:
    """An error at its end, or rows that refer to nothing any more: tables, triggers and rows are as before."""
    engine = opened(1)
    _fill(engine)
    before = schema(engine, ["box", "item"]), rows(engine, ["box", "item"])
    write(2, f"{_SECOND.strip()}\n    {body}")
    with pytest.raises((OSError, ConfigurationError, IntegrityError)):
        open_database(database_url, toy_tables(2))
    assert (schema(engine, ["box", "item"]), rows(engine, ["box", "item"])) == before
    assert revision(database_url, toy_tables(2)) == "toy_0001"
    write(2, _SECOND.strip())
    assert len(rows(opened(2), ["item"])["item"]) == 3


_OPEN = """
import sys
from pathlib import Path
from btt_bridge import log, migrations
log.configure()
migrations.FOLDER = Path(sys.argv[1])
from tests.migrations.toy import toy_tables
from btt_bridge.database import open_database
open_database(sys.argv[2], toy_tables(2)).dispose()
"""


def test_two_processes_migrate_once_and_one_that_dies_at_it_costs_nothing(
    database_url: str, write: Write, opened: Callable[[int], Engine]
) -> None:
    """Of two that start at once one waits; when the other is killed half way, it finds all as it was, and does it."""
    _fill(opened(1))
    half = 'print("half", flush=True)\n    input()'
    write(2, f"{_SECOND.strip()}\n    {half}".replace('op.execute("UPDATE', f'{half}\n    op.execute("UPDATE'))
    command = [sys.executable, "-c", _OPEN, str(migrations.FOLDER), database_url]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    try:
        with DefaultSelector() as selector:
            for one in both:
                selector.register(one.stdout, EVENT_READ, one)  # type: ignore[arg-type]
            (first,) = [key.data for key, _ in selector.select(30)]
        first.kill()
        other = next(one for one in both if one is not first)
        out, err = other.communicate("\n\n", timeout=60)
        assert (other.returncode, out) == (0, "half\nhalf\n"), err
    finally:
        for one in both:
            with suppress(ProcessLookupError):
                one.kill()
            one.communicate()
    assert [row["note"] for row in rows(opened(2), ["item"])["item"]] == ["a!", "b!", "c!"]


def test_a_database_at_the_newest_revision_is_opened_by_reading_one_row(
    write: Write, opened: Callable[[int], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written, nothing is asked of the tables, and alembic has nothing to do."""
    opened(1)
    monkeypatch.setattr(migrations, "bring_up", None)
    asked: list[str] = []
    event.listen(Engine, "before_cursor_execute", hear := lambda *told: asked.append(told[2]))
    opened(1)
    event.remove(Engine, "before_cursor_execute", hear)
    assert [one for one in asked if "box" in one or not one.startswith(("SELECT", "PRAGMA", "BEGIN"))] == []
    assert [one.split() for one in asked if "FROM btt_bridge_revision" in one] == [
        ["SELECT", "btt_bridge_revision.version_num", "FROM", "btt_bridge_revision"]
    ] * 2


def test_the_revisions_of_each_history_are_one_chain() -> None:
    """File names, which a start goes by, say what alembic reads in the files; and no revision leans on our code."""
    config = Config()
    config.set_main_option("script_location", str(migrations.FOLDER))
    scripts = {script.revision: script for script in ScriptDirectory.from_config(config).walk_revisions()}
    assert sorted(scripts) == migrations.revisions()
    for name, script in scripts.items():
        history, _, number = name.rpartition("_")
        assert script.down_revision == (f"{history}_{int(number) - 1:04}" if int(number) > 1 else None)
        tree = ast.parse(Path(script.path).read_text(encoding="utf-8"))
        assert not [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and "btt" in (node.module or "")
        ]
