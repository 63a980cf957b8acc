"""Mapping files are proved before they count: every error at once, each with file, line and keyword."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from textwrap import dedent, indent

import pytest

from btt_bridge import assign
from btt_bridge.errors import InvalidAmountError, MappingError
from btt_bridge.money import BTT, CNY, Amount, amount_of
from btt_bridge.records import Hardware, Tier, Urgency

ROUTE = """\
routes:
  - name: chest
    priority: 5
    when:
{when}
    service: ct-lung
    urgency: stat
    tier: contracted
    destinations: [pacs, archive]
    price_max: {{amount: 12.50, asset: CNY}}
    deadline_seconds: 60
    samples: {{fires: yes.json, does_not: no.json}}
"""
WHEN_LINE = 5
Write = Callable[..., Path]


@pytest.fixture
def folder(tmp_path: Path) -> Write:
    """Write a mapping with this `when` and these samples; return the mappings folder."""

    def write(
        when: str = "Modality: CT",
        *,
        fires: object = None,
        does_not: object = None,
        change: tuple[str, str] = ("", ""),
        file: str = "a.yaml",
    ) -> Path:
        routes = tmp_path / "routes"
        routes.mkdir(exist_ok=True)
        text = ROUTE.format(when=indent(dedent(when).strip(), " " * 6))
        assert change[0] in text
        (routes / file).write_text(text.replace(*change, 1) if change[0] else text)
        (routes / "yes.json").write_text(json.dumps({"Modality": "CT"} if fires is None else fires))
        (routes / "no.json").write_text(json.dumps({"Modality": "MR"} if does_not is None else does_not))
        return tmp_path

    return write


def problems(folder: Path, names: assign.Names | None = None) -> list[tuple[int, str, str]]:
    """Return line, keyword and text of every error."""
    found = assign.check(folder, names)
    assert all(error.file.startswith(str(folder)) for error in found)
    return [(error.line, error.keyword, str(error).rpartition(f"{error.keyword}: ")[2]) for error in found]


def test_a_mapping_becomes_a_rule(folder: Write) -> None:
    """Every part arrives, the price in exact units, the version as digest of the file."""
    (rule,) = assign.load(folder()).rules
    assert (rule.name, rule.priority, rule.service, rule.deadline_seconds) == ("chest", 5, "ct-lung", 60)
    assert (rule.urgency, rule.tier, rule.destinations) == (Urgency.STAT, Tier.CONTRACTED, ("pacs", "archive"))
    assert rule.price_max == Amount(1250, CNY)
    assert len(rule.version) == 64
    assert rule.hardware is Hardware.CPU
    (asking,) = assign.load(folder(change=("tier:", "hardware: gpu\n    tier:"))).rules
    assert asking.hardware is Hardware.GPU
    (changed,) = assign.load(folder(change=("priority: 5", "priority: 6"))).rules
    assert changed.version != rule.version


@pytest.mark.parametrize(
    ("when", "fires", "does_not"),
    [
        ("Modality: CT", {"Modality": "ct "}, {"Modality": "CTX"}),
        ("ImageType: AXIAL", {"ImageType": ["ORIGINAL", "AXIAL"]}, {"ImageType": ["ORIGINAL"]}),
        ("Modality: [CT, MR]", {"Modality": "MR"}, {"Modality": "US"}),
        ("BurnedInAnnotation: NO", {"BurnedInAnnotation": "NO"}, {"BurnedInAnnotation": "YES"}),
        ("ScheduledProcedureStepStartTime: 12:30", {"ScheduledProcedureStepStartTime": "12:30"}, {}),
        ("ImageType: {has: [ORIGINAL, AXIAL]}", {"ImageType": ["AXIAL", "PRIMARY", "ORIGINAL"]},
         {"ImageType": ["AXIAL", "DERIVED"]}),
        ("Rows: 512", {"Rows": 512}, {"Rows": 256}),
        ("SliceThickness: 1.25", {"SliceThickness": 1.25}, {"SliceThickness": 2}),
        ("SliceThickness: {min: 1, max: 3}", {"SliceThickness": 3}, {"SliceThickness": 3.1}),
        ("SliceThickness: {min: 1}", {"SliceThickness": 1}, {"SliceThickness": 0.9}),
        ("PixelSpacing: {max: 1}", {"PixelSpacing": [0.7, 1.0]}, {"PixelSpacing": [0.7, 1.1]}),
        ("ProtocolName: {matches: 'chest|thorax'}", {"ProtocolName": "CT Thorax 1"}, {"ProtocolName": "head"}),
        ("ProtocolName: {matches: '^CT .*[0-9]$'}", {"ProtocolName": "CT Thorax 1"}, {"ProtocolName": "xCT 1"}),
        ("ProtocolName: {present: true}", {"ProtocolName": "x"}, {"ProtocolName": ""}),
        ("ProtocolName: {present: false}", {}, {"ProtocolName": "x"}),
        ("not: {Modality: [US, XA]}", {"Modality": "CT"}, {"Modality": "XA"}),
        ("not: {Modality: CT, Rows: 512}", {"Modality": "CT", "Rows": 256}, {"Modality": "CT", "Rows": 512}),
        ("any: [Modality: CT, Rows: 512]", {"Modality": "MR", "Rows": 512}, {"Modality": "MR", "Rows": 256}),
        ("all: [Modality: CT, Rows: 512]", {"Modality": "CT", "Rows": 512}, {"Modality": "CT", "Rows": 256}),
        ("OverlayRows: {min: 1}", {"OverlayRows": 512}, {}),
    ],
)  # fmt: skip
def test_each_kind_of_test_fires_and_does_not(folder: Write, when: str, fires: object, does_not: object) -> None:
    """The samples prove each predicate in both directions; swapped, both are errors."""
    assert problems(folder(when, fires=fires, does_not=does_not)) == []
    swapped = problems(folder(when, fires=does_not, does_not=fires))
    assert [keyword for _, keyword, _ in swapped] == ["fires", "does_not"]
    assert "it stops at" in swapped[0][2]
    assert swapped[1][2] == "the sample fires the route"


@pytest.mark.parametrize(
    ("when", "line", "keyword", "text"),
    [
        ("Modality: CT\nManfacturer: GE", 1, "Manfacturer", "no attribute of an object has this keyword"),
        ("modality: CT", 0, "modality", "no attribute of an object has this keyword"),
        ("TransferSyntaxUID: '1.2'", 0, "TransferSyntaxUID", "no attribute of an object has this keyword"),
        ("AnatomicRegionSequence: CHEST", 0, "AnatomicRegionSequence", "this attribute holds neither text nor numbers"),
        ("SliceThickness: '1'", 0, "SliceThickness", "this attribute is a number"),
        ("Rows: [512, many]", 0, "Rows", "this attribute is a number"),
        ("PatientID: 12", 0, "PatientID", "this attribute is text: put the value in quotes"),
        ("Modality: {min: 1}", 0, "Modality", "this attribute is text: it has no min and no max"),
        ("Rows: {matches: '5'}", 0, "Rows", "this attribute is a number: use min and max"),
        ("Rows: {min: 2, max: 1}", 0, "Rows", "min is more than max: nothing can lie between them"),
        ("StudyDescription: {matches: '(a'}", 0, "StudyDescription", "this is no regular expression: missing ): (a"),
        ("StudyDescription: {matches: '(a)\\1'}", 0, "StudyDescription",
         r"this is no regular expression: invalid escape sequence: \1"),
        ("Modality: {present: false, has: [CT]}", 0, "Modality", "what is not present has no value to test"),
        ("Modality: []", 0, "Modality", "must not be empty"),
        ("Modality: {}", 0, "Modality", "must not be empty"),
        ("Modality: {is: CT}", 0, "is", "no such name here"),
        ("Modality: {min: 'a'}", 0, "min", "must be a number"),
        ("Modality: true", 0, "Modality", "must be text (in quotes, if it looks like something else) or a number or "
         "a list or a block of `name: value` lines"),
        ("Modality: [CT, CT]", 0, "Modality", "the same value stands twice"),
        ("any: {Modality: CT}", 0, "any", "must be a list"),
        ("any:\n  - Modality: CT\n  - Modalty: MR", 2, "Modalty", "no attribute of an object has this keyword"),
        ("Modality: CT\nRows: 1\nModality: MR", 2, "Modality", "this name stands twice in the same block"),
    ],
)  # fmt: skip
def test_a_wrong_condition_is_named_by_line_and_keyword(
    folder: Write, when: str, line: int, keyword: str, text: str
) -> None:
    """Spelling, kinds of values, ranges, expressions and shapes."""
    assert (WHEN_LINE + line, keyword, text) in problems(folder(when))


def test_a_wrong_keyword_comes_with_a_suggestion(folder: Write) -> None:
    """Case and spelling."""
    for wrong, right in (("modality", "Modality"), ("Manfacturer", "Manufacturer"), ("OverlayRow", "OverlayRows")):
        (error, *_) = assign.check(folder(f"{wrong}: x"))
        assert error.advice == f"did you mean {right}?"


@pytest.mark.parametrize(
    ("change", "line", "keyword", "text"),
    [
        (("name: chest", "name: Chest CT"), 2, "name",
         "what the route is called: small letters, digits and hyphens, at most 40"),
        (("    service: ct-lung\n", ""), 2, "service", "is missing"),
        (("    samples: {fires: yes.json, does_not: no.json}\n", ""), 2, "samples", "is missing"),
        (("priority: 5", "priority: high"), 3, "priority", "must be a whole number"),
        (("priority: 5", "priority: 5000"), 3, "priority", "must be at most 1000"),
        (("urgency: stat", "urgency: now"), 7, "urgency", "must be one of stat, urgent, routine"),
        (("tier: contracted", "teir: contracted"), 8, "teir", "no such name here"),
        (("[pacs, archive]", "[]"), 9, "destinations", "must not be empty"),
        (("[pacs, archive]", "pacs"), 9, "destinations", "must be a list"),
        (("12.50", "12.505"), 10, "price_max", "an amount of CNY has at most 2 decimal places"),
        (("12.50", "-1"), 10, "amount", "must be at least 0"),
        (("CNY", "USD"), 10, "price_max", "no price is in this asset; known are CNY, BTT"),
        (("seconds: 60", "seconds: 5"), 11, "deadline_seconds", "must be at least 10"),
        (("yes.json", "gone.json"), 12, "fires", "there is no sample gone.json"),
        (("yes.json", "no.json"), 12, "fires", "the sample does not fire the route: it stops at Modality"),
    ],
)  # fmt: skip
def test_a_wrong_route_is_named_by_line_and_keyword(
    folder: Write, change: tuple[str, str], line: int, keyword: str, text: str
) -> None:
    """Names, ranges, prices and samples."""
    assert (line, keyword, text) in problems(folder(change=change))


def test_every_error_is_found_at_once(folder: Write) -> None:
    """Shape and meaning, in all files, in the order of their lines; `load` raises the first."""
    folder("Modalty: CT\nRows: {min: 2, max: 1}", change=("urgency: stat", "urgency: now"), file="a.yaml")
    made = folder("Rows: x", change=("priority: 5", "priority: 5.5"), file="b.yaml")
    (made / "routes" / "c.yaml").write_text("routes: [\n")
    found = assign.check(made)
    assert [(Path(error.file).name, error.line, error.keyword) for error in found] == [
        ("a.yaml", 5, "Modalty"), ("a.yaml", 6, "Rows"), ("a.yaml", 8, "urgency"),
        ("b.yaml", 2, "name"), ("b.yaml", 3, "priority"), ("b.yaml", 5, "Rows"),
        ("c.yaml", 2, ""),
    ]  # fmt: skip
    with pytest.raises(MappingError) as raised:
        assign.load(made)
    assert str(raised.value) == str(found[0])


def test_names_are_held_against_what_is_installed(folder: Write) -> None:
    """A service nobody has and a destination that no setting names."""
    made = folder()
    assert problems(made, assign.Names({"ct-lung"}, {"pacs", "archive"})) == []
    found = assign.check(made, assign.Names({"ct-lungs"}, {"pacs"}))
    assert [(error.line, error.keyword, error.advice) for error in found] == [
        (6, "service", "did you mean ct-lungs?"),
        (9, "destinations", "known are: pacs"),
    ]


def test_hardware_must_have_a_price(folder: Write) -> None:
    """A class without a price is refused, also the default; a class that is none is one error, of its shape."""
    made = folder(change=("tier:", "hardware: gpu\n    tier:"))
    assert problems(made, assign.Names(hardware={"cpu", "gpu"})) == []
    (error,) = assign.check(made, assign.Names(hardware={"cpu"}))
    assert (error.line, error.keyword, error.advice) == (8, "hardware", "priced are: cpu")
    assert str(error).endswith("no price list prices `gpu`")
    assert len(assign.check(folder(), assign.Names(hardware={"gpu"}))) == 1
    assert len(assign.check(folder(change=("tier:", "hardware: tpu\n    tier:")), assign.Names(hardware={"cpu"}))) == 1


def test_a_sample_is_proofread_like_a_mapping(folder: Write) -> None:
    """A misspelled keyword or a number in quotes in a sample is an error of the sample, with its line."""
    made = folder("Rows: 512", fires={"Rows": 512, "Modalty": "CT"}, does_not={"Rows": "256"})
    found = assign.check(made)
    assert [(Path(error.file).name, error.line, error.keyword) for error in found] == [
        ("no.json", 1, "Rows"),
        ("yes.json", 1, "Modalty"),
    ]
    (made / "routes" / "yes.json").write_text("[1]")
    (made / "routes" / "no.json").write_text("{")
    assert [str(error).partition(".json:1: ")[2] for error in assign.check(made)] == [
        "this is not YAML: expected the node content, but found '<stream end>'",
        "a sample is one JSON object of keywords and values",
    ]


def test_a_folder_without_mappings_is_an_error(tmp_path: Path) -> None:
    """Nothing to route by is never meant."""
    (error,) = assign.check(tmp_path)
    assert "no mapping file" in str(error)


def test_an_expression_that_would_take_for_ever_takes_no_time(folder: Write) -> None:
    """RE2 never backtracks: the classic trap is searched in a long value at once."""
    (rule,) = assign.load(
        folder("StudyDescription: {matches: '^(a+)+$'}", fires={"StudyDescription": "aaa"}, does_not={})
    ).rules
    # By backtracking this line would take longer than the universe has existed.
    assert not rule.when.judge({"StudyDescription": "a" * 1000 + "b"}).holds


def test_amounts_are_exact() -> None:
    """From what a person writes to minor units, and never through a float."""
    assert amount_of(Decimal("0.1"), "CNY") == Amount(10, CNY)
    assert amount_of(Decimal("1e-18"), "BTT") == Amount(1, BTT)
    assert amount_of(Decimal("1234567890123.000000000000000001"), "BTT").units == 1234567890123000000000000000001
    for wrong in ("0.001", "-1", "1e40", "1e999999999", "nan"):
        with pytest.raises(InvalidAmountError):
            amount_of(Decimal(wrong), "CNY")
