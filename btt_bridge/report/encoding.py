"""Sequences encoded by hand, for what repeats hundreds of times in one object.

pydicom takes about half a millisecond for the functional groups of one frame, which is half of the time that a
report may take for a chest CT. What is encoded here joins a data set as a raw element, as if it had been read, and
pydicom writes it as it stands.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from btt_bridge.dicom import Encoding
from btt_bridge.records import Code

#: What we write: Explicit VR Little Endian.
EXPLICIT = Encoding(implicit=False, little=True)


def text(tag: int, vr: str, value: str) -> bytes:
    """Encode a string of the default repertoire."""
    return EXPLICIT.element(tag, vr, value.encode("ascii"))


def unsigned(tag: int, vr: str, *values: int) -> bytes:
    """Encode US or UL."""
    return EXPLICIT.element(tag, vr, struct.pack(f"<{len(values)}{'H' if vr == 'US' else 'I'}", *values))


def sequence(tag: int, *items: bytes) -> bytes:
    """Encode a sequence; each item is its encoded elements in the order of their tags."""
    return EXPLICIT.sequence(tag, items)


def code_item(code: Code) -> bytes:
    """Encode the item of a code sequence (PS3.3 8.8)."""
    return (
        text(0x00080100, "SH", code.value) + text(0x00080102, "SH", code.scheme) + text(0x00080104, "LO", code.meaning)
    )


def reference_item(sop_class_uid: str, sop_instance_uid: str) -> bytes:
    """Encode a reference to one instance (PS3.3 Table 10-11)."""
    return text(0x00081150, "UI", sop_class_uid) + text(0x00081155, "UI", sop_instance_uid)


def put(dataset: Dataset, tag: int, items: Iterable[bytes]) -> None:
    """Put a sequence of encoded items into a data set that will be written in Explicit VR Little Endian."""
    content = EXPLICIT.sequence(tag, items)[12:]  # without tag, VR and length, which pydicom writes
    dataset[Tag(tag)] = RawDataElement(Tag(tag), "SQ", len(content), content, 0, False, True)
