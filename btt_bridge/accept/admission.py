"""Who may send, and what: the answers to an A-ASSOCIATE-RQ, by rule and not by anybody's list of what exists."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from pydicom._uid_dict import UID_dictionary

from btt_bridge.accept.command import uid_or_empty
from btt_bridge.config import Accept

VERIFICATION = "1.2.840.10008.1.1"

_SERVICES = ("SOP Class", "Meta SOP Class", "Service Class")
#: Known SOP classes that speak of storage and are stored by other means than C-STORE.
_NOT_BY_C_STORE = frozenset({
    "1.2.840.10008.1.3.10",  # Media Storage Directory Storage
    "1.2.840.10008.1.20.1",  # Storage Commitment Push Model
    "1.2.840.10008.1.20.2",  # Storage Commitment Pull Model
    "1.2.840.10008.4.2",  # the Storage Service Class itself
})  # fmt: skip


class Refusal(Enum):
    """Result, source and reason of an A-ASSOCIATE-RJ (PS3.8 Table 9-21)."""

    CALLING_AE_TITLE = (1, 1, 3)
    CALLED_AE_TITLE = (1, 1, 7)
    MALFORMED = (1, 2, 1)
    LOCAL_LIMIT = (2, 3, 2)

    @property
    def words(self) -> str:
        return {
            Refusal.CALLING_AE_TITLE: "calling AE title not recognized at this address",
            Refusal.CALLED_AE_TITLE: "called AE title not recognized",
            Refusal.MALFORMED: "a presentation context without a transfer syntax",
            Refusal.LOCAL_LIMIT: "local limit exceeded",
        }[self]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who is at the other end of an association, as the association itself says."""

    calling_ae_title: str
    called_ae_title: str
    address: str


class Admission:
    """The hospital's settings about who may send what."""

    def __init__(self, settings: Accept) -> None:
        self._settings = settings
        self._peers = [(peer.ae_title, ipaddress.ip_network(peer.address, strict=False)) for peer in settings.peers]

    def refusal(self, sender: Sender) -> Refusal | None:
        """Say why this sender gets no association, or None where it does."""
        if not self._knows(sender):
            return Refusal.CALLING_AE_TITLE
        if self._settings.require_called_ae_title and sender.called_ae_title != self._settings.ae_title.strip():
            return Refusal.CALLED_AE_TITLE
        return None

    def _knows(self, sender: Sender) -> bool:
        address = ipaddress.ip_address(sender.address.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address.is_loopback:
            return True
        return any(
            title in ("*", sender.calling_ae_title) and address.version == network.version and address in network
            for title, network in self._peers
        )

    def takes(self, abstract_syntax: str) -> bool:
        """Say whether a presentation context is accepted: storage or verification, however it is encoded."""
        return abstract_syntax == VERIFICATION or self.is_storage(abstract_syntax)

    def is_storage(self, sop_class_uid: str) -> bool:
        """Say whether objects of this class may be stored here: every class not known to be something else."""
        return is_storage(sop_class_uid) or sop_class_uid in self._settings.sop_class_uids_extra


@lru_cache(maxsize=4096)
def is_storage(sop_class_uid: str) -> bool:
    """Say whether a SOP class is for C-STORE: known as such, or not known at all, as private and new ones are."""
    if not uid_or_empty(sop_class_uid.encode("ascii", "replace")) or sop_class_uid in _NOT_BY_C_STORE:
        return False
    name, kind, *_ = UID_dictionary.get(sop_class_uid, ("", "", "", "", ""))
    if not kind or not name:
        return True
    return kind in _SERVICES and "Storage" in name
