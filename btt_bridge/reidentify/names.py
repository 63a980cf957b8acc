"""The way back from outgoing names to original ones, and the rule that nothing unknown takes it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from pydicom._uid_dict import UID_dictionary

from btt_bridge.errors import UnmappedIdentityError
from btt_bridge.vault import Identity

#: Attributes in which whoever writes an object puts UIDs of its own making, or names of coding schemes.
MINTED = frozenset({
    "SOPInstanceUID", "MediaStorageSOPInstanceUID", "SeriesInstanceUID", "TrackingUID", "DimensionOrganizationUID",
    "UID", "DeviceUID", "ObservationUID", "ReferencedContentItemIdentifier", "ConcatenationUID", "FiducialUID",
    "ImplementationClassUID", "CodingSchemeUID", "ContextUID", "MappingResourceUID",
    "ContextGroupExtensionCreatorUID", "InstanceCreatorUID",
})  # fmt: skip
#: What looks like a UID within text; shorter ones are version numbers.
_UID_IN_TEXT = re.compile(r"(?<![\d.])[0-2](?:\.\d+){2,}")
_UID_LENGTH_MIN = 20
_PSEUDONYM_IN_TEXT = re.compile(r"BTT[-^ ][A-Z2-7]{24}")


class Names:
    """Every outgoing name of one journey with what it stands for."""

    def __init__(self, identity: Identity) -> None:
        self.originals: Mapping[str, str] = {outgoing: original for original, outgoing in identity.uids.items()}
        pseudonym = identity.pseudonym
        patient_id = str(identity.patient.get("PatientID", ""))
        patient_name = str(identity.patient.get("PatientName", ""))
        self._patient = {
            pseudonym.patient_id: patient_id,
            pseudonym.patient_name: patient_name,
            pseudonym.patient_name.replace("^", " "): patient_name,
        }

    def uid(self, outgoing: str) -> str:
        """Return the original of an outgoing UID; one of the standard's own is its own original."""
        if outgoing in self.originals:
            return self.originals[outgoing]
        if outgoing in UID_dictionary:
            return outgoing
        raise UnmappedIdentityError("a UID came back that never left")

    def text(self, text: str) -> str:
        """Return a text with every outgoing name in it replaced."""
        restored = _UID_IN_TEXT.sub(self._uid_in_text, text)
        for pseudonym, original in self._patient.items():
            restored = restored.replace(pseudonym, original)
        if _PSEUDONYM_IN_TEXT.search(restored):
            raise UnmappedIdentityError("a pseudonym came back that is not this patient's")
        return restored

    def _uid_in_text(self, found: re.Match[str]) -> str:
        return self.uid(found[0]) if len(found[0]) >= _UID_LENGTH_MIN else found[0]
