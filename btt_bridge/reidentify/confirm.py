"""The last gate: the bytes that are about to be sent speak of this patient and this study, and of nothing outside."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence

from pydicom._uid_dict import UID_dictionary
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import keyword_for_tag

from btt_bridge import dicom
from btt_bridge.dicom import Source
from btt_bridge.errors import MalformedError, UnmappedIdentityError
from btt_bridge.records import Document, Study
from btt_bridge.reidentify.names import MINTED
from btt_bridge.vault import Identity

_CHARACTER_SET, _STUDY_UID = 0x00080005, 0x0020000D
#: What must read as it did in the original.
_PATIENT = {0x00100010: "PatientName", 0x00100020: "PatientID"}
_OUTGOING_UID = re.compile(rb"2\.25\.\d{1,39}")


def confirm(
    documents: Sequence[Document], identity: Identity, study: Study, predecessors: Collection[str] = ()
) -> None:
    """Raise UnmappedIdentityError unless every document is about this patient and study, and about no other.

    `predecessors` are SOP Instance UIDs of documents of earlier revisions, which the new ones may refer to.
    """
    own = {document.sop_instance_uid for document in documents}
    known = {
        *own, *predecessors, *identity.uids, study.study_instance_uid,
        *(series.series_instance_uid for series in study.series),
        *(instance.arrival.sop_instance_uid for instance in study.instances),
    }  # fmt: skip
    outgoing = frozenset(uid.encode() for uid in identity.uids.values())
    for document in documents:
        _confirm_nothing_outside(document, identity, outgoing)
        source = _read(document)
        _confirm_patient(document, source, identity, study)
        _confirm_uids(document, source, known)


def _read(document: Document) -> Source:
    try:
        return dicom.read(document.content)
    except MalformedError:
        raise UnmappedIdentityError(f"the {document.kind} that was written cannot be read back") from None


def _confirm_nothing_outside(document: Document, identity: Identity, outgoing: frozenset[bytes]) -> None:
    """Search the bytes, whatever they are part of, for any name that the study had outside."""
    if not outgoing.isdisjoint(_outgoing_uids(document.content)):
        raise UnmappedIdentityError(f"an outgoing UID is still in the {document.kind}")
    if any(name in document.content for name in _pseudonyms(identity)):
        raise UnmappedIdentityError(f"the pseudonym is still in the {document.kind}")


def _pseudonyms(identity: Identity) -> list[bytes]:
    """Return what to search for: none that holds another, for where that one is not, it is not either."""
    pseudonym = identity.pseudonym
    names = {pseudonym.patient_id, pseudonym.patient_name, pseudonym.patient_name.partition("^")[2]} - {""}
    return [name.encode() for name in names if not any(other in name for other in names - {name})]


def _outgoing_uids(content: bytes) -> list[bytes]:
    found, position = [], content.find(b"2.25.")
    while position >= 0:
        match = _OUTGOING_UID.match(content, position)
        if match:
            found.append(match[0])
        position = content.find(b"2.25.", position + 5)
    return found


def _confirm_patient(document: Document, source: Source, identity: Identity, study: Study) -> None:
    top = {element.tag: source.content[element.value_start : element.value_end] for element in source.elements}
    for tag, keyword in _PATIENT.items():
        expected = str(identity.patient.get(keyword, ""))
        if _plain(_decoded(top.get(tag, b""), top.get(_CHARACTER_SET, b""))) != _plain(expected):
            raise UnmappedIdentityError(f"{keyword} of the {document.kind} is not the original one")
    if dicom.text(top.get(_STUDY_UID, b"")) != study.study_instance_uid:
        raise UnmappedIdentityError(f"StudyInstanceUID of the {document.kind} is not the original one")
    if dicom.text(top.get(dicom.SOP_INSTANCE_UID, b"")) != document.sop_instance_uid:
        raise UnmappedIdentityError(f"SOPInstanceUID of the {document.kind} is not the one it goes by")


def _confirm_uids(document: Document, source: Source, known: Collection[str]) -> None:
    """Every UID at any depth is of this study, of these documents or of the standard, or its writer's to make up."""
    for element in dicom.walk(source.elements):
        if dicom.vr_of(element.tag) != "UI" or element.items is not None:
            continue
        for uid in dicom.text(source.content[element.value_start : element.value_end]).split("\\"):
            if uid.strip() and uid.strip(" \0") not in known and uid.strip(" \0") not in UID_dictionary:
                keyword = keyword_for_tag(element.tag)
                if keyword not in MINTED:
                    raise UnmappedIdentityError(f"{keyword} of the {document.kind} names nothing of this study")


def _decoded(value: bytes, character_set: bytes) -> str:
    terms = [term.strip() for term in dicom.text(character_set).split("\\")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode_bytes(value, convert_encodings(terms), {0x5E, 0x3D})


def _plain(text: str) -> str:
    """Return a value less what PS3.5 Section 6.2 lets a writer add or leave out."""
    return "=".join(group.rstrip("^ ") for group in text.strip(" \0").split("=")).rstrip("=")
