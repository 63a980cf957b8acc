"""The second look before anything leaves: is any value that identified the original still in what goes out?

It shares no code with the profile. It reads both objects with pydicom, decides by its own lists what identifies, and
searches the outgoing bytes, pixels included. What it proves is written in docs/deidentification.md.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from typing import Any

import ahocorasick
import numpy as np
from pydicom import Dataset, dcmread
from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from btt_bridge.errors import IdentityLeakError, MalformedError

#: Attributes whose text identifies whatever it says, besides every PN, every date and every UID.
_IDENTITY = frozenset({
    "PatientID", "OtherPatientIDs", "IssuerOfPatientID", "PatientAddress", "PatientTelephoneNumbers",
    "PatientTelecomInformation", "MedicalRecordLocator", "MilitaryRank", "BranchOfService", "RegionOfResidence",
    "CountryOfResidence", "Occupation", "PatientReligiousPreference", "EthnicGroup", "InsurancePlanIdentification",
    "PatientComments", "AccessionNumber", "StudyID", "AdmissionID", "ServiceEpisodeID", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "DeviceID",
    "GantryID", "DetectorID", "PlateID", "CassetteID", "GridID", "XRaySourceID", "GeneratorID",
    "ReferringPhysicianAddress", "ReferringPhysicianTelephoneNumbers", "PersonAddress", "PersonTelephoneNumbers",
    "RequestingService", "CurrentPatientLocation", "PatientInstitutionResidence", "RequestedProcedureID",
    "ScheduledProcedureStepID", "PerformedProcedureStepID", "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest", "OrderCallbackPhoneNumber", "OrderEntererLocation",
    "ScheduledStationName", "PerformedStationName", "PerformedLocation", "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID", "ClinicalTrialSponsorName", "ClinicalTrialSiteName", "ClinicalTrialProtocolID",
    "ResponsibleOrganization", "VerifyingOrganization", "ContentCreatorName", "OwnerName",
})  # fmt: skip
#: Attributes that say how an image was made. What stands there is no clue, wherever else it stands.
_TECHNICAL = frozenset({
    "Manufacturer", "ManufacturerModelName", "SoftwareVersions", "ConvolutionKernel", "FilterType", "ImageFilter",
    "SequenceName", "PulseSequenceName", "ImagedNucleus", "ReceiveCoilName", "TransmitCoilName",
    "ReceiveCoilManufacturerName", "TransmitCoilManufacturerName", "MultiCoilConfiguration", "MultiCoilElementName",
    "CardiacFramingType", "CollimatorGridName", "PositionReferenceIndicator", "StackID", "LUTLabel",
    "LUTExplanation", "RescaleType", "ModalityLUTType", "Radiopharmaceutical", "RadiopharmaceuticalRoute",
    "AttenuationCorrectionMethod", "ReconstructionMethod", "ScatterCorrectionMethod", "DetectorLinesOfResponseUsed",
    "PVCRejection", "TriggerSourceOrType", "ContrastBolusRoute", "AcquisitionMode", "CodeValue", "CodeMeaning",
    "CodingSchemeDesignator", "CodingSchemeVersion", "DeidentificationMethod", "ImplementationVersionName",
})  # fmt: skip
#: Words that name no one, although names and free text hold them.
_COMMON = frozenset({
    "abdomen", "anon", "anonymised", "anonymized", "anonymous", "axial", "body", "bone", "brain", "chest",
    "coronal", "deidentified", "derived", "female", "head", "heart", "kidney", "knee", "liver", "lung", "lungs",
    "male", "medical", "neck", "nobody", "none", "null", "original", "other", "patient", "pelvis", "phantom",
    "primary", "removed", "routine", "sagittal", "series", "sharp", "shoulder", "soft", "spine", "standard",
    "study", "test", "unknown", "unnamed",
})  # fmt: skip
_TEXTS = frozenset({"AE", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_NUMBERS = frozenset({"DS", "IS", "TM"})
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_CHARACTER_SET = 0x00080005
_DEFLATED = "1.2.840.10008.1.2.1.99"

#: What a value says of whoever made the equipment; an institution may be called the same.
_MAKER = frozenset({"Manufacturer", "ManufacturerModelName"})
_UID = re.compile(r"[0-2](?:\.\d+)+")
_DAY = re.compile(r"(?<!\d)([12]\d{3}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))(?=(?:\d\d){0,3}(?!\d))")
_READABLE = re.compile(rb"[ -~]{4,}")
_ESCAPE = re.compile(rb"\x1b[$()*+,./-]?[A-Z0-9]{1,2}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: Shorter runs of digits stand in version numbers, and shorter words among pixels, by chance.
_DIGITS_MIN = 6
_AMONG_NUMBERS_MIN = 8
_AMONG_PIXELS_MIN = 5
#: Shortest run of printable bytes among pixels that is taken for text rather than for noise.
_RUN_MIN = 12
_FREE_TEXT_MIN = 8
#: A longer binary value is a table of numbers, in which only readable runs are text.
_BINARY_WHOLE_MAX = 4096
_PRIVATE = "a private attribute"


@dataclass(frozen=True, slots=True)
class Examined:
    """What one object tells: whom the original was about, and what text goes out. Small, and fit to be pickled."""

    #: Text of identifying attributes, by which attribute it stood in.
    identity: Mapping[str, str]
    #: Other text that says enough to be searched for.
    free: Mapping[str, str]
    uids: frozenset[str]
    days: frozenset[str]
    #: Python codecs of the original's character sets.
    codecs: frozenset[str]
    #: What the technical attributes and code strings of the original say.
    technical: frozenset[str]
    makers: frozenset[str]
    #: Identifying attributes that stand unchanged in their old place.
    unchanged: tuple[str, ...]
    outgoing_uids: frozenset[str]
    #: Whole outgoing texts, technical ones aside: for values too short to be searched for within others.
    outgoing_texts: frozenset[str]
    #: Outgoing bytes in lower case, read as Latin-1: text, makers, numbers, and what looks like text among pixels.
    words: str
    outgoing_makers: str
    numbers: str
    pixels: str


def examine(original: bytes, outgoing: bytes) -> Examined:
    """Look at one object before and after; raises MalformedError where pydicom cannot read either."""
    with warnings.catch_warnings():
        # pydicom warns of values that real objects have; here they are only looked at.
        warnings.simplefilter("ignore")
        try:
            before, after = _Before(), _After()
            for dataset in _datasets(original, before):
                before.look(dataset)
            for dataset in _datasets(outgoing, after):
                after.look(dataset)
        except Exception:  # whatever a hostile object makes pydicom raise
            raise MalformedError("an object cannot be read a second time, to prove that it is clean") from None
    unchanged = [name for path, (name, value) in before.places.items() if after.places.get(path, ("", b""))[1] == value]
    if any(outgoing[:128]):
        unchanged.append("the preamble")
    return Examined(
        identity=before.identity,
        free=before.free,
        uids=frozenset(before.uids),
        days=frozenset(before.days),
        codecs=frozenset(before.codecs),
        technical=frozenset(before.technical),
        makers=frozenset(before.makers),
        unchanged=tuple(unchanged),
        outgoing_uids=frozenset(after.uids),
        outgoing_texts=frozenset(after.texts),
        words=_haystack(after.words),
        outgoing_makers=_haystack(after.makers),
        numbers=_haystack(after.numbers),
        pixels=_haystack(after.pixels),
    )


@dataclass(slots=True)
class Proof:
    """The proof for one study: objects are taken in as they are stripped, and judged together at the end.

    A value may first be met in the last object and have slipped through in the first, so nothing is judged before.
    """

    #: Shortest word that is searched for within other text (setting `deidentify.identifying_length_min`).
    length_min: int
    _objects: dict[str, Examined] = field(default_factory=dict)

    def add(self, name: str, examined: Examined) -> None:
        """Take one object into the proof, by the name it goes out under."""
        self._objects[name] = examined

    def finish(self, identifying: Iterable[str] = (), shift_days: int = 0) -> None:
        """Raise IdentityLeakError if any outgoing object holds a value of any original of the study.

        `identifying` are further values to search for, as whoever stripped the objects met them. `shift_days`
        is how far dates were moved: where one day of the originals was moved onto another, that one is only
        looked for in its old place.
        """
        uids, search = self._everything(frozenset(identifying), shift_days)
        for name, examined in self._objects.items():
            if examined.unchanged:
                raise _leak(examined.unchanged[0], name, "where it was")
            if examined.outgoing_uids & uids:
                raise _leak("a UID", name, "among the UIDs")
            for attribute, place in search.found(examined):
                raise _leak(attribute, name, place)

    def _everything(self, identifying: frozenset[str], shift_days: int) -> tuple[set[str], _Search]:
        """Gather what identifies anywhere in the study, less what says only how the images were made."""
        objects = self._objects.values()
        uids = set[str]().union(*(examined.uids for examined in objects))
        days = set[str]().union(*(examined.days for examined in objects))
        uids |= {value for value in identifying if _UID.fullmatch(value) and value not in UID_dictionary}
        days |= {value for value in identifying if _DAY.fullmatch(value)}
        days -= {_moved(day, shift_days) for day in days} if shift_days else set()
        technical = "\n".join(set[str]().union(*(examined.technical for examined in objects)))
        makers = set[str]().union(*(examined.makers for examined in objects))
        codecs = frozenset[str]().union(*(examined.codecs for examined in objects))
        search = _Search(self.length_min, codecs, "\n".join(makers))
        # The objects of a study say mostly the same; each value is prepared once.
        for text, name in _united(examined.identity for examined in objects).items():
            search.add_identity(text, name)
        for text, name in _united(examined.free for examined in objects).items():
            if text.lower() not in technical:
                search.add(text, name)
        for text in identifying - uids:
            if _is_telling(text) and not _DAY.fullmatch(text) and text.lower() not in technical:
                search.add(text, "a value that was taken out")
        for uid in uids:
            search.add(uid, "a UID")
        for day in days:
            for form in _forms_of_day(day):
                search.add(form, "a date")
        return uids, search


def _united(found: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """Return all values with the attribute in which each was met first."""
    united: dict[str, str] = {}
    for one in found:
        united |= {text: name for text, name in one.items() if text not in united}
    return united


# --- reading --------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Before:
    """What the original says of the patient and of the equipment."""

    identity: dict[str, str] = field(default_factory=dict)
    free: dict[str, str] = field(default_factory=dict)
    uids: set[str] = field(default_factory=set)
    days: set[str] = field(default_factory=set)
    codecs: set[str] = field(default_factory=lambda: {"latin-1"})
    technical: set[str] = field(default_factory=set)
    makers: set[str] = field(default_factory=set)
    places: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def look(self, dataset: Dataset) -> None:
        for path, tag, vr, value in _elements(dataset, ""):
            if not value:
                continue
            keyword = _keyword(tag)
            if tag == _CHARACTER_SET:
                # It stands before any text of its data set, so that what follows is read by it.
                self.codecs |= _codecs(value)
            elif vr == "UI":
                if keyword != "ImplementationClassUID":  # it names a program
                    self._uids(path, keyword, value)
            elif vr in ("DA", "DT"):
                self._days(path, keyword, value)
            elif keyword in _TECHNICAL or vr == "CS":
                texts = {text.lower() for text in self._readings(value)}
                self.technical |= texts
                if keyword in _MAKER:
                    self.makers |= texts
            elif vr == "PN" or keyword in _IDENTITY or (vr == "AE" and keyword):
                self._identity(path, keyword or _PRIVATE, vr, value)
            elif vr in _TEXTS or (vr == "UN" and value.isascii() and value.decode("ascii").isprintable()):
                for text in self._readings(value):
                    if _is_telling(text):
                        self.free.setdefault(text, keyword or _PRIVATE)

    def pixels_are(self, pixels: bytes) -> None:
        """The pixels of the original are the profile's own, byte by byte; they tell nothing new here."""

    def _uids(self, path: str, keyword: str, value: bytes) -> None:
        found = {uid for uid in _parts(value.decode("latin-1")) if _UID.fullmatch(uid) and uid not in UID_dictionary}
        if found:
            self.uids |= found
            self.places[path] = (keyword or _PRIVATE, value)

    def _days(self, path: str, keyword: str, value: bytes) -> None:
        found = _DAY.findall(value.decode("latin-1"))
        if found:
            self.days.update(found)
            self.places[path] = (keyword or _PRIVATE, value)

    def _identity(self, path: str, keyword: str, vr: str, value: bytes) -> None:
        texts = {text for text in self._readings(value) if text.lower() not in _COMMON}
        if not texts:
            return
        self.places[path] = (keyword, value)
        for text in texts:
            self.identity.setdefault(text, keyword)
            if vr == "PN":
                for form in _forms_of_name(text):
                    self.identity.setdefault(form, keyword)

    def _readings(self, value: bytes) -> set[str]:
        """Return the parts of a text in every way that the object's character sets allow it to be read."""
        if value.isascii() and b"\x1b" not in value:
            return set(_parts(value.decode("ascii")))
        found: set[str] = set()
        for codec in self.codecs:
            try:
                found.update(_parts(value.decode(codec)))
            except (UnicodeError, LookupError):
                continue
        return found


@dataclass(slots=True)
class _After:
    """What the outgoing object says, sorted by how it is searched."""

    uids: set[str] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    words: list[bytes] = field(default_factory=list)
    makers: list[bytes] = field(default_factory=list)
    numbers: list[bytes] = field(default_factory=list)
    pixels: list[bytes] = field(default_factory=list)
    places: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def look(self, dataset: Dataset) -> None:
        for path, tag, vr, value in _elements(dataset, ""):
            if not value:
                continue
            self.places[path] = ("", value)
            if vr == "UI":
                self.uids.update(_parts(value.decode("latin-1")))
            elif vr in _NUMBERS:
                self.numbers.append(value)
            elif vr in _BINARY:
                self.words += [value] if len(value) <= _BINARY_WHOLE_MAX else _READABLE.findall(value)
            elif _keyword(tag) in _MAKER:
                self.makers.append(value)
            else:
                self.words.append(value)
                if vr in _TEXTS and _keyword(tag) not in _TECHNICAL:
                    self.texts.update(part.lower() for part in _parts(value.decode("latin-1")))

    def pixels_are(self, pixels: bytes) -> None:
        self.pixels += _runs(pixels)
        self.pixels += _segments(pixels)


def _datasets(content: bytes, looker: _Before | _After) -> Iterator[Dataset]:
    """Yield file meta and data set of an object, and hand its pixels, unread, to `looker`."""
    stream = io.BytesIO(content)
    dataset = dcmread(stream, stop_before_pixels=True)
    if dataset.file_meta.get("TransferSyntaxUID") == _DEFLATED:
        # pydicom inflates into a stream of its own; the pixels are whatever it finds there.
        dataset = dcmread(io.BytesIO(content))
        for tag in _PIXELS & dataset.keys():
            looker.pixels_are(bytes(dataset.get_item(tag).value or b""))
            del dataset[tag]
    else:
        looker.pixels_are(content[stream.tell() :])
    yield dataset.file_meta
    yield dataset


def _elements(dataset: Dataset, path: str) -> Iterator[tuple[str, int, str, bytes]]:
    """Yield path, tag, VR and bytes of every element at every depth, converting nothing but sequences."""
    for element in list(dataset.values()):
        tag = int(element.tag)
        place = f"{path}{tag:08x}"
        vr = element.VR or "UN"
        if vr == "UN":
            vr = _known_vr(tag)
        if vr == "SQ":
            for index, item in enumerate(dataset[tag].value or ()):
                yield from _elements(item, f"{place}[{index}].")
        else:
            value = (element.value or b"") if isinstance(element, RawDataElement) else _spelled(element.value)
            yield place, tag, vr, value if vr in _BINARY else value.rstrip(b" \0")


def _spelled(value: Any) -> bytes:
    """Return a value that pydicom has converted already as it would stand in a file."""
    parts = value if isinstance(value, list | MultiValue) else [value]
    return value if isinstance(value, bytes) else "\\".join(map(str, parts)).encode()


@cache
def _keyword(tag: int) -> str:
    return keyword_for_tag(tag)


@cache
def _known_vr(tag: int) -> str:
    try:
        return dictionary_VR(tag)
    except KeyError:
        return "UN"


def _codecs(character_set: bytes) -> set[str]:
    """Return the Python codecs of a Specific Character Set (0008,0005)."""
    return {python_encoding[term] for term in _parts(character_set.decode("latin-1")) if term in python_encoding}


def _parts(text: str) -> list[str]:
    """Return the values of a text, those with nothing in them aside."""
    return [part for part in (part.strip(" \0^=") for part in text.split("\\")) if part]


def _runs(pixels: bytes) -> list[bytes]:
    """Return what looks like text among the pixels: runs of printable bytes too long for chance.

    Wherever a run of twelve begins, it covers two neighboring four-byte words; those are looked for at once.
    """
    words = np.frombuffer(pixels, "<u4", len(pixels) // 4)
    high = np.uint32(0x80808080)
    # Of a byte below 0x80, adding 0x60 sets the high bit where the byte is 0x20 or more.
    readable = ((words & high) == 0) & (((words + np.uint32(0x60606060)) & high) == high)
    starts = np.flatnonzero(readable[:-1] & readable[1:]) * 4
    found: list[bytes] = []
    end = 0
    for start in starts.tolist():
        if start < end:
            continue
        first, end = start, start + 8
        while first and 0x20 <= pixels[first - 1] < 0x7F:
            first -= 1
        while end < len(pixels) and 0x20 <= pixels[end] < 0x7F:
            end += 1
        if end - first >= _RUN_MIN:
            found.append(pixels[first:end])
    return found


def _segments(pixels: bytes) -> list[bytes]:
    """Return comments and application segments of JPEG, JPEG-LS and JPEG 2000 streams (ISO/IEC 10918-1, 15444-1)."""
    found: list[bytes] = []
    for start in re.finditer(rb"\xfe\xff\x00\xe0.{4}(?=\xff\xd8\xff|\xff\x4f\xff)", pixels, re.DOTALL):
        position = start.end() + 2
        while position + 4 <= len(pixels) and pixels[position] == 0xFF and pixels[position + 1] not in (0xDA, 0x93):
            marker, length = pixels[position + 1], int.from_bytes(pixels[position + 2 : position + 4], "big")
            if marker in (0xFE, 0x64) or 0xE0 <= marker <= 0xEF:
                found.append(pixels[position + 4 : position + 2 + length])
            position += 2 + max(length, 2)
    return found


def _haystack(found: list[bytes]) -> str:
    return b"\n".join(found).lower().decode("latin-1")


# --- what to search for ---------------------------------------------------------------------------------


def _is_telling(text: str) -> bool:
    """Whether free text says enough that finding it again means something: several words, or a long number."""
    digits = sum(character.isdigit() for character in text)
    return len(text) >= _FREE_TEXT_MIN and (" " in text or digits >= _DIGITS_MIN)


def _forms_of_name(name: str) -> set[str]:
    """Return the ways in which the components of a name are written; each group of a name by itself."""
    found: set[str] = set()
    for group in name.split("="):
        components = [component.strip() for component in group.split("^")]
        found.update(component for component in components if component.lower() not in _COMMON)
        found.add(group)
        if len(components) > 1 and components[0] and components[1]:
            family, given = components[:2]
            for first, second in ((family, given), (given, family)):
                found |= {f"{first}{joint}{second}" for joint in (" ", ", ", ",", "^", "_", "-", ".", "")}
    return found - {""}


def _forms_of_day(day: str) -> set[str]:
    """Return the ways in which a day is written."""
    year, month, number = day[:4], day[4:6], day[6:]
    name = _MONTHS[int(month) - 1]
    found = {
        day,
        f"{number} {name} {year}",
        f"{number}-{name}-{year}",
        f"{name} {number}, {year}",
        f"{number}{name}{year}",
    }
    for joint in "-./":
        found |= {joint.join(order) for order in ((year, month, number), (number, month, year), (month, number, year))}
    return found


def _moved(day: str, days: int) -> str:
    try:
        return (date(int(day[:4]), int(day[4:6]), int(day[6:])) + timedelta(days)).isoformat().replace("-", "")
    except (ValueError, OverflowError):
        return ""


class _Search:
    """All values at once, in every encoding, over one haystack after another."""

    def __init__(self, length_min: int, codecs: frozenset[str], makers: str) -> None:
        self.length_min = length_min
        #: What the originals call the makers of the equipment; a hospital or a patient may be called alike.
        self.makers = makers
        self.codecs = codecs | {"utf-8", "utf-16-le", "utf-16-be", "latin-1"}
        self._automaton = ahocorasick.Automaton()
        #: Values too short to search for, which must not be the whole of a text.
        self._short: dict[str, str] = {}

    def add_identity(self, text: str, name: str) -> None:
        """Search for a value of an identifying attribute, however short."""
        shortest = _DIGITS_MIN if text.isdigit() else self.length_min
        if text.lower() in _COMMON:
            return
        if len(text.encode()) < shortest:
            self._short.setdefault(text.lower(), name)
        else:
            self.add(text, name)

    def add(self, text: str, name: str) -> None:
        for spelled in {text, text.lower(), text.upper(), text.title()}:
            for key in self._encoded(spelled):
                if key not in self._automaton:
                    self._automaton.add_word(key, (name, len(key), text))

    def _encoded(self, text: str) -> set[str]:
        found: set[bytes] = set()
        for codec in self.codecs:
            try:
                found.add(text.encode(codec))
            except (UnicodeError, LookupError):
                continue
        found |= {_ESCAPE.sub(b"", encoded) for encoded in found}
        return {encoded.lower().decode("latin-1") for encoded in found if encoded}

    def found(self, examined: Examined) -> Iterator[tuple[str, str]]:
        """Yield the name of what is found, and where."""
        for text in self._short.keys() & examined.outgoing_texts:
            yield self._short[text], "as the whole of a text"
        if not len(self._automaton):
            return
        self._automaton.make_automaton()
        haystacks: tuple[tuple[str, str, Callable[[str], bool]], ...] = (
            ("in the header", examined.words, lambda text: True),
            ("in what the maker is called", examined.outgoing_makers, lambda text: text.lower() not in self.makers),
            ("among the numbers", examined.numbers, lambda text: len(text) >= _AMONG_NUMBERS_MIN),
            ("among the pixels", examined.pixels, lambda text: len(text.encode()) >= _AMONG_PIXELS_MIN),
        )
        for place, haystack, says_something in haystacks:
            for last, (name, length, text) in self._automaton.iter(haystack):
                if says_something(text) and _stands_alone(haystack, last + 1 - length, last + 1):
                    yield name, place


def _stands_alone(haystack: str, start: int, end: int) -> bool:
    """Whether a match is not merely part of a longer word or number; a time may follow a date."""
    before, after = haystack[max(start - 1, 0) : start], haystack[end : end + 7]
    if haystack[start:end].isdigit() and end - start == 8 and re.match(r"(?:\d\d){1,3}(?!\d)", after):
        after = ""
    return not (_joins(before, haystack[start]) or _joins(after[:1], haystack[end - 1]))


def _joins(neighbor: str, edge: str) -> bool:
    return neighbor.isascii() and neighbor.isalnum() and edge.isascii() and edge.isalnum()


def _leak(attribute: str, name: str, place: str) -> IdentityLeakError:
    return IdentityLeakError(
        f"{attribute} of the original is still in outgoing object {name}, {place}",
        advice="Do not release the study; report which attribute the profile has missed.",
    )
