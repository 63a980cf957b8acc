"""What is done to each attribute: PS3.15 Table E.1-1 and the list of what stays, read into one rule a tag."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import keyword_for_tag, tag_for_keyword

from btt_bridge import dicom

TEXT_VRS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_TEMPORAL = {"DA": "date", "DT": "moment", "TM": "time"}


@cache
def rules() -> Mapping[int, str]:
    """Return what is done to each attribute; a tag without a rule, or with rule X, is removed.

    X remove · Z empty · D dummy · U map the UID · "date/Z", "moment/X", "time/D" and so on: move or keep, and
    where the value is no date, what follows the slash · number, term, text, lookup table: stays if it is what its VR
    promises, and is emptied otherwise · sequence: the same for each item.
    """
    found = {tag: "U" for tag, entry in DicomDictionary.items() if entry[0] == "UI"}
    keep = _read("keep.json")
    for row in _read("actions.json")["rows"]:
        # The four rows that are patterns (odd groups, 50xx, 60xx) remove what has no rule anyway.
        if re.fullmatch(r"[0-9A-F]{8}", row["tag"]):
            tag = int(row["tag"], 16)
            found[tag] = _rule(dicom.vr_of(tag), _resolved(tag, row["action"], keep["resolved"]), row)
    for name in ("numbers", "terms", "text", "lookup tables", "sequences"):
        found |= {_tag(keyword): name for keyword in keep[name]}
    found[_tag("ImageType")] = found[_tag("FrameType")] = "image type"
    found[_tag("PatientID")] = "patient ID"
    found[_tag("PatientName")] = "patient name"
    return found


@cache
def sop_classes() -> Mapping[str, str]:
    """Return the SOP classes these rules are made for: name by UID."""
    found: dict[str, str] = _read("keep.json")["sop classes"]
    return found


@cache
def image_type_terms() -> frozenset[str]:
    return frozenset(_read("keep.json")["image type terms"])


@cache
def meanings() -> Mapping[tuple[str, str], str]:
    """Return the meaning of each code that pydicom knows, by scheme and value."""
    from pydicom.sr._concepts_dict import concepts  # large, and most objects carry no code

    schemes: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = concepts  # type: ignore[assignment]
    return {
        (scheme, value): meaning
        for scheme, keywords in schemes.items()
        for codes in keywords.values()
        for value, (meaning, *_) in codes.items()
    }


@cache
def schemes() -> frozenset[str]:
    """Return the public coding schemes; a private one could hold anything."""
    return frozenset({scheme for scheme, _ in meanings()} | {"SRT", "SNM3"})


def _resolved(tag: int, offered: str, resolved: Mapping[str, str]) -> str:
    """Choose among the actions a row offers: the first, but where an IOD of ours asks for more than removal."""
    return resolved.get(keyword_for_tag(tag), offered.partition("/")[0])


def _rule(vr: str, action: str, row: Mapping[str, str]) -> str:
    if action == "D" and vr not in TEXT_VRS and vr not in _TEMPORAL:
        # A dummy certificate, identifier or sequence would serve nobody.
        action = "X"
    if row.get("modified_dates") == "C" and vr in _TEMPORAL:
        return f"{_TEMPORAL[vr]}/{action}"
    return action


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag


@cache
def _read(name: str) -> dict[str, Any]:
    text = files("btt_bridge.deidentify").joinpath(name).read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]
