"""The tables hold what the standard says, agree with each other, and leave nothing to chance."""

from __future__ import annotations

import json
import re
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c
from pydicom.datadict import dictionary_VR, tag_for_keyword

from btt_bridge.deidentify import table


def read(name: str) -> dict[str, Any]:
    return json.loads(files("btt_bridge.deidentify").joinpath(name).read_text(encoding="utf-8"))


def test_the_action_table_is_whole() -> None:
    """621 rows of edition 2024e, with the actions counted there, and the 35 tags that edition 2026c adds."""
    rows = read("actions.json")["rows"]
    assert Counter(row["edition"] for row in rows) == {"2024e": 621, "2026c": 35}
    assert len({row["tag"] for row in rows}) == 656
    assert Counter(row["action"] for row in rows if row["edition"] == "2024e") == {
        "X": 384, "D": 92, "U": 54, "Z": 42, "X/D": 22, "X/Z": 11, "X/Z/D": 8, "Z/D": 6, "X/Z/U*": 2,
    }  # fmt: skip
    assert sum("modified_dates" in row for row in rows) == 165


def test_the_action_table_says_where_it_comes_from() -> None:
    """Source and license of both editions stand in the file, the MIT notice word by word."""
    editions = read("actions.json")["editions"]
    assert editions["2024e"]["license"] == "MIT"
    assert any("Permission is hereby granted" in paragraph for paragraph in editions["2024e"]["notice"])
    assert editions["2026c"]["license"] == "BSD-3-Clause"


def test_no_tag_of_the_newer_edition_is_missing() -> None:
    """Every single tag that dicom-anonymizer knows of edition 2026c has a row here."""
    ours = {int(row["tag"], 16) for row in read("actions.json")["rows"] if re.fullmatch(r"[0-9A-F]{8}", row["tag"])}
    theirs = {tag[0] << 16 | tag[1] for tag in dicomfields_2026c.ALL_TAGS if len(tag) == 2}
    assert theirs <= ours


def test_nothing_stays_that_the_standard_removes() -> None:
    """No attribute on the list of what stays has an action in Table E.1-1, but the two whose U* keeps references."""
    actions = {row["tag"]: row["action"] for row in read("actions.json")["rows"]}
    keep = read("keep.json")
    named = {
        keyword
        for kind in ("numbers", "terms", "text", "lookup tables", "sequences")
        for keyword in keep[kind]
        if f"{tag_for_keyword(keyword):08X}" in actions
    }
    assert named == {"ReferencedImageSequence", "SourceImageSequence"}
    assert {actions[f"{tag_for_keyword(keyword):08X}"] for keyword in named} == {"X/Z/U*"}


@pytest.mark.parametrize(
    ("kind", "vrs"),
    [
        ("numbers", {"AT", "DS", "FD", "FL", "IS", "SL", "SS", "UL", "US", "UV", "US or SS", "US or OW"}),
        ("terms", {"CS"}),
        ("text", {"LO", "SH"}),
        ("lookup tables", {"OW"}),
        ("sequences", {"SQ"}),
    ],
)
def test_what_stays_is_of_the_kind_it_says(kind: str, vrs: set[str]) -> None:
    """Every keyword on the list exists, once, and has the VR by which its values are checked."""
    keywords = read("keep.json")[kind]
    assert len(keywords) == len(set(keywords))
    for keyword in keywords:
        assert dictionary_VR(tag_for_keyword(keyword)) in vrs, keyword


def test_every_resolved_action_was_on_offer() -> None:
    """Where the standard offers several actions, the one taken is among them."""
    offered = {row["tag"]: row["action"].split("/") for row in read("actions.json")["rows"]}
    for keyword, action in read("keep.json")["resolved"].items():
        assert action in offered[f"{tag_for_keyword(keyword):08X}"], keyword


def test_every_rule_is_one_that_the_profile_knows() -> None:
    """No attribute has a rule without an action behind it."""
    from btt_bridge.deidentify.profile import _ACTIONS

    assert set(table.rules().values()) <= set(_ACTIONS)


def test_what_an_image_must_have_stays() -> None:
    """The attributes by which a model reads and places an image have rules that keep them."""
    rules = table.rules()
    for keyword in (
        "Modality", "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient",
        "SliceThickness", "RescaleSlope", "RescaleIntercept", "RescaleType", "WindowCenter", "KVP",
        "ConvolutionKernel", "BodyPartExamined", "PatientPosition", "PhotometricInterpretation", "BitsAllocated",
        "BitsStored", "HighBit", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames", "EchoTime",
        "RepetitionTime", "MagneticFieldStrength", "Units", "SharedFunctionalGroupsSequence",
        "PerFrameFunctionalGroupsSequence", "PixelMeasuresSequence", "PlanePositionSequence",
        "PlaneOrientationSequence", "FrameContentSequence", "SpacingBetweenSlices",
    ):  # fmt: skip
        assert rules.get(tag_for_keyword(keyword), "X") in ("numbers", "terms", "text", "sequences"), keyword
