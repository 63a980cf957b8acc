"""The Basic Application Level Confidentiality Profile (PS3.15 Annex E), by table, on bytes, denying by default."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from btt_bridge import __version__, dicom
from btt_bridge.deidentify import table, values
from btt_bridge.deidentify.pixels import ScannerPixels
from btt_bridge.dicom import Element, Encoding, Source
from btt_bridge.errors import MalformedError, PixelTextError
from btt_bridge.plugins import PixelTextDetector
from btt_bridge.records import Pseudonym, Slice, Stripped

#: What is done, in the codes of CID 7050, and in words for (0012,0063).
METHODS = {
    "113100": "Basic Application Confidentiality Profile",
    "113107": "Retain Longitudinal Temporal Information Modified Dates Option",
}
METHOD = f"BTT Bridge {__version__}: PS3.15 Basic Profile, dates moved"
_METHOD_CODES = frozenset(str(code) for code in range(113100, 113113))

_CHARACTER_SET, _IMAGE_TYPE, _MODALITY, _CONVERSION_TYPE = 0x00080005, 0x00080008, 0x00080060, 0x00080064
_CODE_VALUE, _SCHEME, _MEANING = 0x00080100, 0x00080102, 0x00080104
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_REMOVED, _METHOD, _METHOD_SEQUENCE = 0x00120062, 0x00120063, 0x00120064
_BODY_PART = 0x00180015
_STUDY_UID, _SERIES_UID, _POSITION, _ORIENTATION = 0x0020000D, 0x0020000E, 0x00200032, 0x00200037
_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280008, 0x00280010, 0x00280011
_SPACING, _BITS_ALLOCATED, _BURNED_IN = 0x00280030, 0x00280100, 0x00280301
_FEATURES, _TEMPORAL = 0x00280302, 0x00280303
_OVERLAY_BIT_POSITION = 0x60000102
#: Offset tables, then the pixels themselves: float, double, integer. In ascending order, as they are written.
_OFFSETS = {0x7FE00001: "OV", 0x7FE00002: "OV"}
_PIXELS = {0x7FE00008: "OF", 0x7FE00009: "OD", dicom.PIXEL_DATA: "OW"}
_NATIVE = {dicom.IMPLICIT_LITTLE, dicom.EXPLICIT_LITTLE, dicom.EXPLICIT_BIG, dicom.DEFLATED}
#: Attributes without which nobody could place the image.
_INDISPENSABLE = {
    dicom.SOP_CLASS_UID: "SOP Class UID",
    dicom.SOP_INSTANCE_UID: "SOP Instance UID",
    _STUDY_UID: "Study Instance UID",
    _SERIES_UID: "Series Instance UID",
}
#: Body Part Examined of images that may show a face, or enough of a head to make one.
_FACES = frozenset({
    "BRAIN", "CSPINE", "EAR", "EYE", "FACE", "HEAD", "HEADNECK", "IAC", "JAW", "MANDIBLE", "MAXILLA", "NECK", "NOSE",
    "ORBIT", "ORBITS", "PARANASALSINUS", "SELLA", "SINUS", "SKULL", "TMJ", "WHOLEBODY",
})  # fmt: skip

_DUMMY = b"ANONYMIZED"
_UNDEFINED = b"\xff\xff\xff\xff"


def strip(content: bytes, uid_key: bytes, pseudonym: Pseudonym, detector: PixelTextDetector | None = None) -> Stripped:
    """Return a Part 10 file without the patient, its pixels as they were, and what must be remembered of it.

    Raises PixelTextError where the pixels may carry text, by the judgment of `detector` (ScannerPixels where
    none is given), and MalformedError where the object does not hold together.
    """
    source = dicom.read(content)
    top = {element.tag: element for element in source.elements}
    for tag, name in _INDISPENSABLE.items():
        if tag not in top or not values.uids(_value(source, top[tag])):
            raise MalformedError(f"{name} has no usable value")
    reason = (detector or ScannerPixels()).may_carry_text(_keywords(source, top))
    if reason:
        raise PixelTextError(reason, advice="Let a person look at the images, or route another series.")
    return _Object(source, top, uid_key, pseudonym).stripped()


@dataclass(slots=True)
class _Object:
    """One object on its way through the table."""

    source: Source
    top: Mapping[int, Element]
    uid_key: bytes
    pseudonym: Pseudonym
    #: Original UID to outgoing UID, of those that stay in the object.
    uids: dict[str, str] = field(default_factory=dict)
    #: VR and value of what was taken out or altered.
    removed: set[tuple[str, bytes]] = field(default_factory=set)

    def stripped(self) -> Stripped:
        pixels = self._pixels()
        parts = self._parts(element for tag, element in self.top.items() if tag not in _PIXELS and tag not in _OFFSETS)
        parts.update(self._marks())
        sop_class_uid, sop_instance_uid, series_uid = (
            values.outgoing_uid(values.uids(_value(self.source, self.top[tag]))[0], self.uid_key)
            for tag in (dicom.SOP_CLASS_UID, dicom.SOP_INSTANCE_UID, _SERIES_UID)
        )
        body: list[bytes | memoryview] = [parts[tag] for tag in sorted(parts)]
        body += pixels
        if self.source.transfer_syntax_uid == dicom.DEFLATED:
            body = [dicom.deflated(b"".join(body))]
        meta = _meta(sop_class_uid, sop_instance_uid, self.source.transfer_syntax_uid)
        return Stripped(
            content=b"".join((meta, *body)),
            uids=self.uids,
            identifying=self._identifying(),
            slice=_slice(self.source, self.top, sop_instance_uid, series_uid),
        )

    # --- data sets and items ----------------------------------------------------------------------------

    def _parts(self, elements: Iterable[Element]) -> dict[int, bytes]:
        """Return what remains of a data set: encoded elements by tag."""
        rules = table.rules()
        parts: dict[int, bytes] = {}
        for element in elements:
            part = _ACTIONS[rules.get(element.tag, "X")](self, element)
            if part is not None:
                parts[element.tag] = part
        return parts

    def _sequence(self, element: Element) -> bytes | None:
        """Strip each item. One of which nothing remains is dropped, but not where its place is its frame's."""
        if element.items is None:
            return self._remove(element)
        items = []
        for item in element.items:
            parts = self._parts(item)
            coded = {each.tag: each for each in item if each.tag in (_CODE_VALUE, _SCHEME)}
            if coded:
                parts.update(self._code(coded))
            if parts or element.tag >> 16 == 0x5200:
                items.append(b"".join(parts[tag] for tag in sorted(parts)))
        return self._encoding.sequence(element.tag, items)

    def _code(self, coded: Mapping[int, Element]) -> dict[int, bytes]:
        """Return Code Value, Coding Scheme Designator and Code Meaning of a public code, or nothing."""
        if len(coded) < 2:
            return {}
        code = values.code(*(_value(self.source, coded[tag]) for tag in (_CODE_VALUE, _SCHEME)))
        if code is None:
            return {}
        encode = self._encoding.element
        return {
            _CODE_VALUE: encode(_CODE_VALUE, "SH", code[0].encode()),
            _SCHEME: encode(_SCHEME, "SH", code[1].encode()),
            _MEANING: encode(_MEANING, "LO", code[2].encode()),
        }

    # --- actions ----------------------------------------------------------------------------------------

    def _remove(self, element: Element) -> bytes | None:
        for each in dicom.walk((element,)):
            self.removed.add((_vr(each), _value(self.source, each)))
        return None

    def _empty(self, element: Element) -> bytes:
        self._remove(element)
        return self._encoded(element, b"")

    def _dummy(self, element: Element) -> bytes:
        self._remove(element)
        return self._encoded(element, _DUMMY)

    def _map(self, element: Element) -> bytes | None:
        originals = values.uids(_value(self.source, element))
        if not originals:
            return self._remove(element)
        outgoing = [values.outgoing_uid(uid, self.uid_key) for uid in originals]
        self.uids.update(pair for pair in zip(originals, outgoing, strict=True) if pair[0] != pair[1])
        return self._encoded(element, "\\".join(outgoing).encode())

    def _name(self, element: Element) -> bytes:
        self._remove(element)
        return self._encoded(element, self.pseudonym.patient_name.encode())

    def _id(self, element: Element) -> bytes:
        self._remove(element)
        return self._encoded(element, self.pseudonym.patient_id.encode())

    def _date(self, element: Element) -> bytes | None:
        return self._moved(element, values.moved_date(_value(self.source, element), self.pseudonym.shift_days))

    def _moment(self, element: Element) -> bytes | None:
        return self._moved(element, values.moved_moment(_value(self.source, element), self.pseudonym.shift_days))

    def _moved(self, element: Element, moved: bytes) -> bytes | None:
        """Write a date that moved; one that could not is dealt with as the table says without the option."""
        if moved:
            self._remove(element)
            return self._encoded(element, moved)
        return self._otherwise(element)

    def _time(self, element: Element) -> bytes | None:
        kept = values.time_of_day(_value(self.source, element))
        return self._encoded(element, kept) if kept else self._otherwise(element)

    def _otherwise(self, element: Element) -> bytes | None:
        rule = table.rules()[element.tag].rpartition("/")[2]
        # A dummy date would be a lie that nobody could tell from the truth.
        return self._empty(element) if rule == "Z" else self._remove(element)

    def _number(self, element: Element) -> bytes | None:
        vr = self._outgoing_vr(element)
        value = _value(self.source, element)
        if vr in ("DS", "IS"):
            return self._unchanged(element, vr, values.is_number(value))
        # Text that claims to be a binary number's value is not one, whatever its length.
        return self._unchanged(
            element, vr, element.vr in (vr, "", "UN") and values.is_binary(element.tag, vr, len(value))
        )

    def _term(self, element: Element) -> bytes | None:
        return self._unchanged(element, "CS", values.is_term(_value(self.source, element)))

    def _text(self, element: Element) -> bytes | None:
        return self._unchanged(element, dicom.vr_of(element.tag), values.is_technical(_value(self.source, element)))

    def _lookup_table(self, element: Element) -> bytes | None:
        length = element.value_end - element.value_start
        return self._unchanged(element, "OW", length % 2 == 0 and length <= 2 * 65536)

    def _image_type(self, element: Element) -> bytes:
        return self._encoded(element, values.image_type(_value(self.source, element)))

    def _unchanged(self, element: Element, vr: str, good: bool) -> bytes | None:
        """Write an element as it stands, or empty: that is valid where removal is, and where the type is 2 as well."""
        if not vr:
            return self._remove(element)
        if not good or element.items is not None:
            return self._empty(element)
        length = element.value_end - element.value_start
        as_encoded = element.vr == vr in dicom.SHORT_VRS or (self._encoding.implicit and not element.vr)
        if as_encoded and length % 2 == 0:
            return self.source.content[element.start : element.end]
        return self._encoding.element(element.tag, vr, _value(self.source, element))

    # --- the pieces that are written anew ---------------------------------------------------------------

    @property
    def _encoding(self) -> Encoding:
        return self.source.encoding

    def _encoded(self, element: Element, value: bytes) -> bytes:
        return self._encoding.element(element.tag, self._outgoing_vr(element) or "UN", value)

    def _outgoing_vr(self, element: Element) -> str:
        """Return the VR that PS3.6 gives; where it gives a choice, the one the element has, or "" for none of them."""
        vr = dicom.vr_of(element.tag)
        if " or " not in vr:
            return vr
        choice = vr.split(" or ")
        return element.vr if element.vr in choice else choice[0] if self._encoding.implicit else ""

    def _marks(self) -> dict[int, bytes]:
        """Return the attributes that say what was done here (PS3.15 Section E.1.1), and who the patient is now."""
        encode = self._encoding.element
        codes = {**METHODS, **self._earlier_methods()}
        items = [
            encode(_CODE_VALUE, "SH", code.encode())
            + encode(_SCHEME, "SH", b"DCM")
            + encode(_MEANING, "LO", codes[code].encode())
            for code in sorted(codes)
        ]
        marks = {
            _PATIENT_NAME: encode(_PATIENT_NAME, "PN", self.pseudonym.patient_name.encode()),
            _PATIENT_ID: encode(_PATIENT_ID, "LO", self.pseudonym.patient_id.encode()),
            _REMOVED: encode(_REMOVED, "CS", b"YES"),
            _METHOD: encode(_METHOD, "LO", METHOD.encode()),
            _METHOD_SEQUENCE: self._encoding.sequence(_METHOD_SEQUENCE, items),
            _TEMPORAL: encode(_TEMPORAL, "CS", b"MODIFIED"),
        }
        if _text(self.source, self.top, _BODY_PART) in _FACES:
            # Nobody has defaced the image; whoever places it must know.
            marks[_FEATURES] = encode(_FEATURES, "CS", b"YES")
        return marks

    def _earlier_methods(self) -> dict[str, str]:
        """Return the codes of CID 7050 that an earlier de-identification left."""
        found: dict[str, str] = {}
        sequence = self.top.get(_METHOD_SEQUENCE)
        for item in (sequence.items if sequence else None) or ():
            held = {element.tag: _value(self.source, element) for element in item}
            code = values.code(held.get(_CODE_VALUE, b""), held.get(_SCHEME, b""))
            if code and code[1] == "DCM" and code[0] in _METHOD_CODES:
                found[code[0]] = code[2]
        return found

    def _pixels(self) -> list[bytes | memoryview]:
        """Return offset tables and pixels, uncopied; the pixels must be as many as the attributes say."""
        found = [tag for tag in _PIXELS if tag in self.top]
        if len(found) != 1:
            raise MalformedError("there is not exactly one element of pixels")
        element = self.top[found[0]]
        if element.items is not None:
            raise MalformedError("the pixels are a sequence")
        view = memoryview(self.source.content)[element.value_start : element.value_end]
        undefined = self.source.content[element.value_start - 4 : element.value_start] == _UNDEFINED
        if undefined == (self.source.transfer_syntax_uid in _NATIVE):
            raise MalformedError("the pixels are not laid out as the transfer syntax says")
        if undefined:
            head = self._encoding.header(dicom.PIXEL_DATA, "OB", 0)[:-4] + _UNDEFINED
            return [*self._offset_tables(), head, view]
        length = self._native_length(element)
        vr = element.vr if element.vr in ("OB", "OW") else _PIXELS[element.tag]
        padding = b"\0" * (length % 2)
        return [self._encoding.header(element.tag, vr, length + len(padding)), view[:length], padding]

    def _native_length(self, element: Element) -> int:
        """Return how many bytes the pixels take; what lies behind them is no pixel and does not leave."""
        rows, columns, samples, bits = (
            _integer(self.source, self.top, tag) for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS_ALLOCATED)
        )
        frames = _integer(self.source, self.top, _FRAMES) or 1
        length = (rows * columns * samples * frames * bits + 7) // 8
        if not 0 < length <= element.value_end - element.value_start:
            raise MalformedError("the pixels are fewer than rows, columns and frames say")
        return length

    def _offset_tables(self) -> list[bytes]:
        frames = _integer(self.source, self.top, _FRAMES) or 1
        tables = []
        for tag, vr in _OFFSETS.items():
            value = _value(self.source, self.top[tag]) if tag in self.top else b""
            if len(value) == 8 * frames:
                tables.append(self._encoding.element(tag, vr, value))
        # One without the other is of no use.
        return tables if len(tables) == len(_OFFSETS) else []

    def _identifying(self) -> frozenset[str]:
        """Return what was taken out, in every reading of its character set: text, days and UIDs."""
        character_set = self.top.get(_CHARACTER_SET)
        terms = _value(self.source, character_set) if character_set else b""
        found = set(self.uids)
        for vr, value in self.removed:
            if vr == "UI":
                found.update(values.uids(value))
            elif vr in ("DA", "DT"):
                found.update(values.days(value))
            elif vr in table.TEXT_VRS and vr != "CS":
                found |= values.readings(vr, value, terms)
        return frozenset(found)


_ACTIONS: Mapping[str, Callable[[_Object, Element], bytes | None]] = {
    "X": _Object._remove,
    "Z": _Object._empty,
    "D": _Object._dummy,
    "U": _Object._map,
    "patient name": _Object._name,
    "patient ID": _Object._id,
    **{f"date/{otherwise}": _Object._date for otherwise in "XZD"},
    **{f"moment/{otherwise}": _Object._moment for otherwise in "XZD"},
    **{f"time/{otherwise}": _Object._time for otherwise in "XZD"},
    "numbers": _Object._number,
    "terms": _Object._term,
    "text": _Object._text,
    "lookup tables": _Object._lookup_table,
    "image type": _Object._image_type,
    "sequences": _Object._sequence,
}


def _value(source: Source, element: Element) -> bytes:
    """Return the bytes of a value; a sequence has none of its own."""
    return b"" if element.items is not None else source.content[element.value_start : element.value_end]


def _vr(element: Element) -> str:
    """Return what a value is to be read as: the VR it came with, unless that says nothing."""
    return element.vr if element.vr not in ("", "UN") else dicom.vr_of(element.tag)


def _text(source: Source, top: Mapping[int, Element], tag: int) -> str:
    return dicom.text(_value(source, top[tag])) if tag in top else ""


def _integer(source: Source, top: Mapping[int, Element], tag: int) -> int:
    """Return a US or IS value, 0 where there is none; raise MalformedError where there is something else."""
    value = _value(source, top[tag]) if tag in top else b""
    if dicom.vr_of(tag) == "US" and len(value) <= 2:
        return int.from_bytes(value, "little" if source.encoding.little else "big")
    number = dicom.text(value)
    if dicom.vr_of(tag) == "US" or not (not number or (number.isdecimal() and len(number) <= 9)):
        raise MalformedError("an attribute of the pixels holds no number")
    return int(number or 0)


def _floats(source: Source, top: Mapping[int, Element], tag: int, count: int) -> tuple[float, ...] | None:
    value = _value(source, top[tag]) if tag in top else b""
    parts = dicom.text(value).split("\\")
    return tuple(map(float, parts)) if len(parts) == count and all(parts) and values.is_number(value) else None


def _keywords(source: Source, top: Mapping[int, Element]) -> dict[str, Any]:
    """Return what a pixel text detector judges by."""
    text = {
        "SOPClassUID": dicom.SOP_CLASS_UID,
        "Modality": _MODALITY,
        "ConversionType": _CONVERSION_TYPE,
        "PhotometricInterpretation": _PHOTOMETRIC,
        "BurnedInAnnotation": _BURNED_IN,
        "BodyPartExamined": _BODY_PART,
    }
    integers = {"SamplesPerPixel": _SAMPLES, "BitsAllocated": _BITS_ALLOCATED, "Rows": _ROWS, "Columns": _COLUMNS}
    overlays = [tag for tag in top if tag & 0xFF00FFFF == _OVERLAY_BIT_POSITION]
    return {
        **{keyword: _text(source, top, tag) for keyword, tag in text.items()},
        **{keyword: _integer(source, top, tag) for keyword, tag in integers.items()},
        "ImageType": tuple(part.strip() for part in _text(source, top, _IMAGE_TYPE).split("\\")),
        "OverlayBitPosition": max((any(_value(source, top[tag])) for tag in overlays), default=False),
    }


def _slice(source: Source, top: Mapping[int, Element], sop_instance_uid: str, series_instance_uid: str) -> Slice:
    return Slice(
        sop_instance_uid=sop_instance_uid,
        series_instance_uid=series_instance_uid,
        rows=_integer(source, top, _ROWS),
        columns=_integer(source, top, _COLUMNS),
        position=_floats(source, top, _POSITION, 3),  # type: ignore[arg-type]
        orientation=_floats(source, top, _ORIENTATION, 6),  # type: ignore[arg-type]
        spacing=_floats(source, top, _SPACING, 2),  # type: ignore[arg-type]
    )


def _meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Return a zeroed preamble and a file meta group of our own (PS3.10 Section 7.1)."""
    encode = Encoding(implicit=False, little=True).element
    group = b"".join((
        encode(0x00020001, "OB", b"\x00\x01"),
        encode(dicom.MEDIA_STORAGE_SOP_CLASS_UID, "UI", sop_class_uid.encode()),
        encode(dicom.MEDIA_STORAGE_SOP_INSTANCE_UID, "UI", sop_instance_uid.encode()),
        encode(dicom.TRANSFER_SYNTAX_UID, "UI", transfer_syntax_uid.encode()),
        encode(0x00020012, "UI", dicom.IMPLEMENTATION_CLASS_UID.encode()),
        encode(0x00020013, "SH", dicom.IMPLEMENTATION_VERSION_NAME.encode()),
    ))  # fmt: skip
    return bytes(128) + b"DICM" + encode(0x00020000, "UL", len(group).to_bytes(4, "little")) + group
