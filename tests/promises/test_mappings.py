"""The mappings we ship hold, their page teaches what is true, and mapping files are read as their authors mean them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from btt_bridge import assign, mappings, settle
from btt_bridge.assign.load import schema
from btt_bridge.errors import MappingError
from btt_bridge.records import Hardware
from btt_bridge.settle import prices

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "mappings.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
Read = Callable[[str], mappings.Source]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def write(text: str) -> mappings.Source:
        path = tmp_path / "a.yaml"
        path.write_text(text, encoding="utf-8")
        return mappings.read(path)

    return write


# --- what we ship ---------------------------------------------------------------------------------------


def test_the_shipped_routes_hold() -> None:
    """Each is fired by its first sample and not by its second, and buys a service that is part of the product."""
    priced = {name for one in prices.load(ROOT / "mappings" / "prices") for name in one.hardware_percent}
    assert assign.check(ROOT / "mappings", assign.Names({"ct-lung"}, {"pacs"}, priced)) == []
    assert [rule.name for rule in assign.load(ROOT / "mappings").rules] == ["chest-ct"]


def test_every_class_of_hardware_has_a_price() -> None:
    """What a route can ask for, the shipped list prices, and it prices nothing that cannot be asked for."""
    for one in prices.load(ROOT / "mappings" / "prices"):
        assert (
            set(one.hardware_percent)
            == set(Hardware)
            == set(schema()["$defs"]["route"]["properties"]["hardware"]["enum"])
        )


def test_every_sample_belongs_to_a_route() -> None:
    """No file is left over, and none has anything of a patient in it."""
    folder = ROOT / "mappings" / "routes"
    named = {
        name
        for path in folder.glob("*.yaml")
        for route in mappings.read(path).body["routes"]
        for name in route["samples"].values()
    }
    assert named == {f"samples/{path.name}" for path in (folder / "samples").iterdir()}
    for name in named:
        assert not [keyword for keyword in json.loads((folder / name).read_text()) if keyword.startswith("Patient")]


def test_the_shipped_money_holds() -> None:
    """Prices, splits and rewards: every rule of rewards is fired by its first sample and not by its second."""
    assert settle.check(ROOT / "mappings") == []


def test_every_sample_of_rewards_belongs_to_a_rule() -> None:
    """No file is left over, and none has anything of a person in it but a reference to nobody."""
    folder = ROOT / "mappings" / "rewards"
    named = set()
    for path in folder.glob("*.yaml"):
        body = mappings.read(path).body
        for proved in (body["consent"], *body["rules"], *body["outcomes"]["acts"].values()):
            named |= set(proved["samples"].values())
    assert named == {f"samples/{path.name}" for path in (folder / "samples").iterdir()}
    for name in named:
        text = (folder / name).read_text()
        assert "Patient/example" in text
        assert not {"name", "birthDate", "address", "telecom", "identifier", "text"} & set(json.loads(text))


def test_the_schema_of_rewards_is_the_one_in_force() -> None:
    """Editors and the bridge look at the same file, and it is a valid schema."""
    beside = json.loads((ROOT / "mappings" / "rewards" / "schema.json").read_text())
    assert beside == json.loads((ROOT / "btt_bridge" / "settle" / "rewards" / "schema.json").read_text())
    Draft202012Validator.check_schema(beside)


def test_the_schema_beside_the_mappings_is_the_one_in_force() -> None:
    """Editors and the bridge look at the same file, and it is a valid schema."""
    assert json.loads((ROOT / "mappings" / "routes" / "schema.json").read_text()) == schema()
    Draft202012Validator.check_schema(dict(schema()))


# --- what the page says ---------------------------------------------------------------------------------


def condition(block: str) -> str:
    """Return a `when` block of the page as part of a whole route."""
    route, _, rest = BLOCKS[0].partition("    when:\n")
    return route + indent(block, "    ") + rest[rest.index("    service:") :]


def test_the_route_on_the_page_holds(tmp_path: Path) -> None:
    """With the sample on the page as the one that fires it."""
    routes = tmp_path / "routes"
    (routes / "samples").mkdir(parents=True)
    (routes / "a.yaml").write_text(BLOCKS[0])
    (sample,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    (routes / "samples" / "chest-ct.json").write_text(sample)
    (routes / "samples" / "chest-ct-scout.json").write_text('{"Modality": "CT"}')
    assert assign.check(tmp_path) == []


@pytest.mark.parametrize("block", BLOCKS[1:])
def test_every_condition_on_the_page_is_one(tmp_path: Path, block: str) -> None:
    """Nothing on the page is refused; only the samples of another route do not fit."""
    routes = tmp_path / "routes"
    routes.mkdir()
    (routes / "a.yaml").write_text(condition(block))
    found = [error for error in assign.check(tmp_path) if error.keyword not in ("fires", "does_not")]
    assert found == []


def test_the_page_shows_every_name_of_the_schema() -> None:
    """What can be written is documented, with an example in the page's own blocks."""
    definitions = schema()["$defs"]
    for name in definitions["route"]["properties"]:
        assert f"| `{name}` |" in PAGE
    examples = "\n".join(BLOCKS)
    for name in (*definitions["condition"]["properties"], *definitions["test"]["properties"]):
        assert re.search(rf"\*\*`{name}`|and `{name}`: ", PAGE), name
        assert f"{name}:" in examples


# --- how files are read ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("0012", "0012"),
        ("12:30", "12:30"),
        ("2026-01-05", "2026-01-05"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        ("1.2.840", "1.2.840"),
        ("25.00", Decimal("25.00")),
        ("1e3", Decimal("1e3")),
        (".5", Decimal("0.5")),
        (".inf", ".inf"),
        ('"12"', "12"),
        ("'true'", "true"),
    ],
)
def test_a_plain_value_means_what_it_looks_like(read: Read, text: str, value: Any) -> None:
    """YAML 1.2: no Norway problem, no octal, no sexagesimal, no dates; and fractions are exact."""
    found = read(f"a: {text}\n").body["a"]
    assert (found, type(found)) == (value, type(value))


def test_every_value_knows_its_line(read: Read) -> None:
    """Names, list items and what is inside them; what is not there has the line of what would hold it."""
    source = read("a: 1\nb:\n  - c: 2\n  -\n    d: 3\n")
    assert source.body == {"a": 1, "b": [{"c": 2}, {"d": 3}]}
    assert [source.line(place) for place in (("a",), ("b",), ("b", 0, "c"), ("b", 1, "d"))] == [1, 2, 3, 5]
    assert source.line(("b", 0, "gone", "deeper")) == 3
    assert source.line(("gone",)) == 1
    assert str(source.error("is wrong", ("b", 1, "d"))) == f"{source.file}:5: d: is wrong"


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        (b"a: [1", 1, "this is not YAML"),
        (b"a: 1\n\tb: 2\n", 2, "this is not YAML"),
        (b"a: 1\n---\nb: 2\n", 2, "this is not YAML"),
        (b"\xff\xfe\x00", 1, "the file is not UTF-8 text"),
        (b"a: \x07", 1, "this is not YAML"),
        (b"[" * 5000, 1, "this is not YAML"),
        (b"#" * (mappings.FILE_BYTES_MAX + 1), 1, "the file is larger than"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_its_line(tmp_path: Path, content: bytes, line: int, text: str) -> None:
    """Broken, binary, endless: never another kind of exception."""
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(MappingError, match=text) as raised:
        mappings.read(path)
    assert (raised.value.file, raised.value.line) == (str(path), line)
    with pytest.raises(MappingError, match="cannot be read"):
        mappings.read(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "this name stands twice in the same block"),
        ("a: &x 1\nb: *x\n", 1, "anchors and aliases (`&name`, `*name`) are not used here; write the value out"),
        ("a: &x [*x]\n", 1, "anchors and aliases (`&name`, `*name`) are not used here; write the value out"),
        ("a: !!python/object:os.system x\n", 1, "tags (`!name`) are not used here"),
        ("a: !thing x\n", 1, "tags (`!name`) are not used here"),
        ("? [a]\n: 1\n", 1, "a name is one word"),
    ],
)
def test_what_would_surprise_its_author_is_refused(read: Read, text: str, line: int, message: str) -> None:
    """Doubled names, aliases and tags; and nothing in a file is ever made into an object."""
    source = read(text)
    (error,) = mappings.violations(source, {})
    assert error.line == line
    assert str(error).endswith(message)


def test_the_version_is_the_digest_of_the_bytes(read: Read) -> None:
    """A comment more is another version; and PyYAML agrees on what the shipped files say."""
    assert read("a: 1\n").digest != read("a: 1 # why\n").digest
    path = ROOT / "mappings" / "routes" / "chest-ct.yaml"
    theirs = yaml.safe_load(path.read_text())
    assert json.loads(json.dumps(mappings.read(path).body, default=float)) == theirs
