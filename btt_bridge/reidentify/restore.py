"""Original UIDs and patient for what came back, in our own records and in DICOM objects, at every depth."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement

from btt_bridge.records import Result
from btt_bridge.reidentify.names import MINTED, Names
from btt_bridge.vault import Identity

#: Fields of a result that hold nothing but UIDs.
_UID_FIELDS = frozenset({"series_instance_uid", "sop_instance_uid", "slices"})
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
#: What de-identification left behind and what is no longer true.
_TRACES = (
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
)


def restore(result: Result, identity: Identity) -> Result:
    """Return a judged result in original UIDs; raise UnmappedIdentityError for one that never left."""
    restored: Result = _restored(result, Names(identity), is_uid=False)
    return restored


def _restored(value: Any, names: Names, *, is_uid: bool) -> Any:
    if isinstance(value, str):
        return names.uid(value) if is_uid and value else names.text(value)
    if isinstance(value, tuple):
        return tuple(_restored(each, names, is_uid=is_uid) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: _restored(getattr(value, field.name), names, is_uid=field.name in _UID_FIELDS)
            for field in fields(value)
        }
        return replace(value, **changed)
    return value


def restore_object(dataset: Dataset, identity: Identity) -> Dataset:
    """Give a DICOM object its UIDs, patient and study back, in place, and return it.

    A UID must have left, or stand where whoever wrote the object may make one up. Dates are those of the
    Study module as they were; the object's own dates, of its series and content, are left as they are.
    """
    names = Names(identity)
    _restore_elements(dataset, names)
    for keyword, value in identity.patient.items():
        setattr(dataset, keyword, list(value) if isinstance(value, tuple) else value)
    for keyword in _TRACES:
        if keyword in dataset:
            delattr(dataset, keyword)
    meta = getattr(dataset, "file_meta", None)
    if meta is not None and "MediaStorageSOPInstanceUID" in meta:
        meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def _restore_elements(dataset: Dataset, names: Names) -> None:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _restore_elements(item, names)
        elif element.VR == "UI":
            minted = keyword_for_tag(element.tag) in MINTED
            _change(element, lambda uid, minted=minted: _uid(uid, names, minted=minted))
        elif element.VR in _TEXT_VRS:
            _change(element, names.text)


def _uid(uid: str, names: Names, *, minted: bool) -> str:
    return uid if minted and uid not in names.originals else names.uid(uid)


def _change(element: DataElement, change: Any) -> None:
    """Replace each value of an element; one that stays the same is not touched, nor its encoding."""
    if element.VM == 0:
        return
    before = [str(value) for value in element.value] if element.VM > 1 else [str(element.value)]
    after = [change(value) for value in before]
    if after != before:
        element.value = after if len(after) > 1 else after[0]
