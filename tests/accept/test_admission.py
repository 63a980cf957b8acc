"""Who may send, and which SOP classes are for storage."""

from __future__ import annotations

import pytest
from pydicom.uid import UID_dictionary
from pynetdicom import AllStoragePresentationContexts
from pynetdicom.sop_class import _NON_PATIENT_OBJECT_CLASSES, _QR_CLASSES, _UNIFIED_PROCEDURE_STEP_CLASSES

from btt_bridge.accept.admission import Admission, Refusal, Sender
from btt_bridge.config import Accept, Peer


def _refusal(address: str, calling: str = "CT1", called: str = "BTT_BRIDGE", **settings: object) -> Refusal | None:
    peers = (Peer(ae_title="CT1", address="10.1.2.3"), Peer(ae_title="*", address="10.2.0.0/16"))
    accept = Accept.model_validate({"peers": peers, **settings})
    return Admission(accept).refusal(Sender(calling, called, address))


@pytest.mark.parametrize(
    ("address", "calling", "refusal"),
    [
        ("127.0.0.1", "ANYBODY", None),
        ("::1", "ANYBODY", None),
        ("10.1.2.3", "CT1", None),
        ("::ffff:10.1.2.3", "CT1", None),
        ("10.1.2.3", "CT2", Refusal.CALLING_AE_TITLE),
        ("10.1.2.4", "CT1", Refusal.CALLING_AE_TITLE),
        ("10.2.200.7", "ANYBODY", None),
        ("10.3.0.1", "CT1", Refusal.CALLING_AE_TITLE),
        ("fe80::1%eth0", "CT1", Refusal.CALLING_AE_TITLE),
    ],
)
def test_only_listed_peers_get_in_from_outside(address: str, calling: str, refusal: Refusal | None) -> None:
    """A peer needs both its AE title and its address on the list; loopback needs neither."""
    assert _refusal(address, calling) is refusal


def test_nobody_gets_in_from_outside_by_default() -> None:
    """Without settings every address but loopback is refused."""
    assert Admission(Accept()).refusal(Sender("CT1", "BTT_BRIDGE", "192.168.1.1")) is Refusal.CALLING_AE_TITLE


def test_the_called_ae_title_must_be_ours_unless_settings_say_otherwise() -> None:
    """A sender that calls somebody else is told so."""
    assert _refusal("127.0.0.1", called="OTHER") is Refusal.CALLED_AE_TITLE
    assert _refusal("127.0.0.1", called="OTHER", require_called_ae_title=False) is None


def test_every_known_storage_class_is_taken() -> None:
    """All that pynetdicom and pydicom know as storage, non-patient objects included."""
    admission = Admission(Accept())
    known = {str(context.abstract_syntax) for context in AllStoragePresentationContexts}
    known |= set(_NON_PATIENT_OBJECT_CLASSES.values())
    assert [uid for uid in known if not admission.takes(uid)] == []


@pytest.mark.parametrize(
    "uid",
    [
        "1.2.840.10008.5.1.4.1.1.66.7",  # Label Map Segmentation, newer than the libraries
        "1.2.276.0.48.5.1.4.1.1.7",  # private
        "1.2.840.10008.5.1.4.1.1.40",  # nameless in the dictionary
        "1.2.840.10008.1.1",
    ],
)
def test_unknown_and_private_classes_and_verification_are_taken(uid: str) -> None:
    """What no library knows is taken for storage, for it is not known to be anything else."""
    assert Admission(Accept()).takes(uid)


@pytest.mark.parametrize(
    "uid",
    [
        *_QR_CLASSES.values(),
        *_UNIFIED_PROCEDURE_STEP_CLASSES.values(),
        "1.2.840.10008.5.1.4.31",  # Modality Worklist
        "1.2.840.10008.5.1.1.9",  # print
        "1.2.840.10008.1.20.1",  # Storage Commitment
        "1.2.840.10008.1.3.10",  # Media Storage Directory
        "1.2.840.10008.1.2.1",  # a transfer syntax
        "../../x",
        "",
    ],
)
def test_known_services_are_not_storage(uid: str) -> None:
    """What is known to be another service is not accepted as if it could be stored."""
    assert not Admission(Accept()).takes(uid)


def test_the_settings_can_add_a_class_that_the_rule_leaves_out() -> None:
    """A site that stores by a class known as something else names it."""
    assert Admission(Accept(sop_class_uids_extra=("1.2.840.10008.5.1.1.9",))).takes("1.2.840.10008.5.1.1.9")


def test_the_rule_knows_the_dictionary() -> None:
    """The rule reads names; if pydicom changes how it names storage classes, the count falls and this says so."""
    admission = Admission(Accept())
    classes = [uid for uid, entry in UID_dictionary.items() if entry[1] == "SOP Class" and "Storage" in entry[0]]
    assert len(classes) > 200
    assert len([uid for uid in classes if admission.is_storage(uid)]) == len(classes) - 3
