"""Asking a PACS how many instances it holds of a study: one C-FIND, within a time limit."""

from __future__ import annotations

import time

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind  # type: ignore[attr-defined]

from btt_bridge import log
from btt_bridge.config import Peer

#: Responses after which a PACS that ignores the key of a query is not listened to any more.
RESPONSES_MAX = 10
_PENDING = (0xFF00, 0xFF01)  # PS3.4 Table C.4-1

_log = log.logger("assemble")


def instances_at(peer: Peer, study_instance_uid: str, *, calling_ae_title: str, seconds_max: float) -> int | None:
    """Return Number of Study Related Instances (0020,1208) by the peer, or None where it does not say; never raises."""
    entity = AE(ae_title=calling_ae_title)
    entity.connection_timeout = entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = seconds_max
    entity.add_requested_context(StudyRootQueryRetrieveInformationModelFind)
    until = time.monotonic() + seconds_max
    association = None
    try:
        association = entity.associate(
            peer.query_host, peer.query_port, ae_title=peer.query_ae_title or peer.ae_title
        )  # fmt: skip
        if association.is_established:
            return _ask(association, study_instance_uid, until)
        _log.warning("the PACS accepts no query", ae_title=peer.ae_title)
    except Exception as problem:
        _log.warning("the query failed", ae_title=peer.ae_title, error=type(problem).__name__)
    finally:
        if association is not None and not association.is_released:
            association.abort()
    return None


def _ask(association: Association, study_instance_uid: str, until: float) -> int | None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.StudyInstanceUID = study_instance_uid
    identifier.NumberOfStudyRelatedInstances = None
    association.dimse_timeout = max(until - time.monotonic(), 0.001)
    count: int | None = None
    responses = association.send_c_find(identifier, StudyRootQueryRetrieveInformationModelFind)
    for number, (status, answer) in enumerate(responses):
        code = status.get("Status")
        if code not in _PENDING:
            if code != 0x0000:
                _log.warning("the PACS refused the query", status=code)
                return None
            association.release()
            return count
        if answer is not None and answer.get("StudyInstanceUID") == study_instance_uid:
            stated = answer.get("NumberOfStudyRelatedInstances")
            count = int(stated) if stated else count
        if number >= RESPONSES_MAX or time.monotonic() > until:
            return None
    return None
