"""Every money operation in every order, crashed, repeated, raced and out of time, against a plain-Python auditor."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from btt_bridge.isolate import Isolation
from tests.machines import on_postgresql, on_sqlite, play
from tests.peers.postgres import PostgreSQL
from tests.settle import auditor
from tests.settle.economy import ALIKE, OPERATIONS, RIVALS, TOUR, Attempt, World, attempt, rush, stages
from tests.settle.schemas import SCHEMAS

DAY = 86_400


@pytest.fixture
def world(database_url: str, tmp_path: Path, isolation: Isolation) -> Iterator[World]:
    world = World(database_url, tmp_path / "participants", isolation)
    yield world
    world.conclude()
    world.close()


def test_the_auditor_shares_no_code_with_what_it_audits() -> None:
    """Nothing but the standard library is imported by it."""
    tree = ast.parse(Path(auditor.__file__).read_text())
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    assert {name.partition(".")[0] for name in names} == {
        "__future__",
        "collections",
        "contextlib",
        "dataclasses",
        "datetime",
        "fractions",
        "hashlib",
        "typing",
    }


@pytest.mark.parametrize("where", ["before", "after"])
def test_every_operation_survives_the_plug_at_every_point(world: World, where: str) -> None:
    """Each operation, crashed before each of its statements or after each of its commits, happens once in the end."""
    # What there is to be crashed is the same on both engines; the slower one skips some of it.
    slower = world.ledger.engine.dialect.name == "postgresql"
    stride = {"before": 3, "after": 2}[where] if slower else 1
    done: set[str] = set()
    for days, (name, values) in stages(TOUR):
        world.clock.advance(days * DAY)
        made = attempt(world, name, values)
        if name in done & ALIKE:
            assert world.carry_out(made), name
        else:
            assert world.crash_everywhere(made, where, stride) > 0, name
        done.add(name)
    assert done == OPERATIONS.keys()
    assert world.auditor.told.keys() == SCHEMAS.keys() - {"event"}


def test_of_two_who_spend_the_same_one_does(world: World) -> None:
    """Credit, tokens, points, shares and money: two requests that only one is covered for, four callers at once."""
    thing = {"title": "a" * 64, "owner": "hospital:a", "total": 1000, "units": 10**7, "use_fee": 0}
    world.carry_out(attempt(world, "tokenize", thing))
    world.carry_out(attempt(world, "open_pool", {"title": "a" * 64, "style": "passive", "manager": "hospital:b"}))
    for act in ("checkup", "immunization", "prescription"):
        world.carry_out(attempt(world, "grant", {"patient": "p1", "act": act, "number": 1}))
    for name, values, other in RIVALS:
        ours, theirs = attempt(world, name, values), attempt(world, name, values | other)
        allowed = rush([ours.act, theirs.act, ours.act, theirs.act])
        assert allowed in ([True, False, True, False], [False, True, False, True]), name
        for made, again in ((ours, allowed[0]), (theirs, allowed[1])):
            if again:
                made.audit(world.auditor, world.ledger.now())
        world.compare()


class Machine(RuleBasedStateMachine):
    """Draws operations from the table; `new_world` is set by the test."""

    new_world: Callable[[], World]

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).new_world()

    @initialize(done=st.sampled_from([0, 21, 38, 53, 78]))
    def begin(self, done: int) -> None:
        """Begin with nothing, or with much already done."""
        for days, (name, values) in stages(TOUR[:done]):
            self.world.clock.advance(days * DAY)
            self.world.carry_out(attempt(self.world, name, values))

    def _drawn(self, data: st.DataObject) -> Attempt | None:
        name = data.draw(st.sampled_from(sorted(OPERATIONS)))
        entry = OPERATIONS[name]
        return entry.make(self.world, **{key: data.draw(values, label=key) for key, values in entry.values.items()})

    @rule(data=st.data())
    def operate(self, data: st.DataObject) -> None:
        if made := self._drawn(data):
            self.world.carry_out(made)

    @rule(data=st.data(), nth=st.integers(1, 30), after=st.booleans())
    def crash(self, data: st.DataObject, nth: int, after: bool) -> None:
        """The plug is pulled before some statement, before a commit or right after one; then the caller comes back."""
        if made := self._drawn(data):
            self.world.carry_out(made, **{"after" if after else "before": nth})

    @rule(data=st.data(), callers=st.integers(2, 4))
    def race(self, data: st.DataObject, callers: int) -> None:
        """Several callers ask for the same at once."""
        if made := self._drawn(data):
            self.world.carry_out(made, at_once=callers)

    @precondition(lambda self: self.world.made)
    @rule(data=st.data())
    def again(self, data: st.DataObject) -> None:
        """Something that was asked before is asked again, however late and in whatever order."""
        self.world.carry_out(data.draw(st.sampled_from(self.world.made), label="made"))

    @rule(hours=st.one_of(st.integers(-48, 48), st.sampled_from([240, 2400, 18_000])))
    def jump(self, hours: int) -> None:
        """The clock runs, jumps, or is set back."""
        self.world.clock.advance(hours * 3600)

    def teardown(self) -> None:
        self.world.conclude()
        self.world.close()


def test_no_order_of_business_loses_a_unit_on_sqlite(isolation: Isolation, tmp_path: Path) -> None:
    """After every step each balance, each hold and each fact is the auditor's; on a failure the seed is printed."""
    with on_sqlite() as new_url:
        play(Machine, examples=8, steps=40, new_world=lambda: World(new_url(), tmp_path, isolation))


@pytest.mark.peer("postgres")
def test_no_order_of_business_loses_a_unit_on_postgresql(
    postgresql_server: PostgreSQL, isolation: Isolation, tmp_path: Path
) -> None:
    """The same on PostgreSQL."""
    with on_postgresql(postgresql_server) as new_url:
        play(Machine, examples=3, steps=40, new_world=lambda: World(new_url(), tmp_path, isolation))
