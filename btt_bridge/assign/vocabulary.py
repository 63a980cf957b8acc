"""Which DICOM keywords a route can ask for, and which values can stand beside them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary

from btt_bridge import mappings
from btt_bridge.assign.conditions import comparable
from btt_bridge.errors import MappingError
from btt_bridge.mappings import Place, Source

NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV", "US or SS"})
TEXT = frozenset({"AE", "AS", "CS", "DA", "DT", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UI", "UR", "UT"})
#: Lower groups are commands, directories and file meta information, which are no part of an object.
_FIRST_GROUP = 0x0008


@cache
def dictionary() -> Mapping[str, str]:
    """Return VR by keyword of what an object can hold, repeating groups included."""
    repeating = {entry[4]: entry[0] for entry in RepeatersDictionary.values()}
    plain = {entry[4]: entry[0] for tag, entry in DicomDictionary.items() if tag >> 16 >= _FIRST_GROUP}
    return {keyword: vr for keyword, vr in (repeating | plain).items() if keyword}


@dataclass(frozen=True)
class Proofreader:
    """Reads keywords and values of one file, and gathers what is wrong with them."""

    source: Source
    errors: list[MappingError] = field(default_factory=list)

    def report(self, message: str, place: Place, *, keyword: str = "", advice: str = "") -> None:
        self.errors.append(self.source.error(message, place, keyword=keyword, advice=advice))

    def vr(self, keyword: str, place: Place) -> str:
        """Return the VR of a keyword that a route can ask for; an empty one where it cannot, which is an error."""
        vr = dictionary().get(keyword, "")
        if not vr:
            hint = mappings.did_you_mean(keyword, dictionary())
            self.report("no attribute of an object has this keyword", place, keyword=keyword, advice=hint)
        elif vr not in NUMBERS and vr not in TEXT:
            self.report("this attribute holds neither text nor numbers", place, keyword=keyword)
            return ""
        return vr

    def values(self, keyword: str, vr: str, values: Iterable[Any], place: Place) -> list[Any]:
        """Return those values that an attribute of this VR can have; another kind of value is an error."""
        right: list[Any] = []
        for value in values:
            is_number = isinstance(value, (int, Decimal)) and not isinstance(value, bool)
            if vr in TEXT and is_number:
                self.report("this attribute is text: put the value in quotes", place, keyword=keyword)
            elif vr in NUMBERS and isinstance(value, str):
                self.report("this attribute is a number", place, keyword=keyword)
            elif is_number:
                right.append(float(value))
            elif isinstance(value, str):
                right.append(value)
        return right

    def compared(self, keyword: str, vr: str, values: Any, place: Place) -> frozenset[Any]:
        """Return values as conditions compare them."""
        listed = values if isinstance(values, list) else [values]
        return frozenset(map(comparable, self.values(keyword, vr, listed, place)))
