"""Out under other names and back: what is written of a real study passes the last gate, and no other identity does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pydicom import dcmread

from btt_bridge.deidentify import strip
from btt_bridge.errors import UnmappedIdentityError
from btt_bridge.records import Instance, Result, Series, Study
from btt_bridge.reidentify import confirm, restore
from btt_bridge.vault import Identity, Vault
from tests.report import cases


def real_study(folder: Path) -> Study:
    """Return the series in `folder` as the journal would, with the UIDs that accept noted."""
    known = cases.study(folder)
    (series,) = known.series
    instances = []
    for instance in series.instances:
        uid = str(dcmread(folder / instance.arrival.path, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        instances.append(Instance(instance.id, replace(instance.arrival, sop_instance_uid=uid)))
    return replace(known, series=(Series(series.series_instance_uid, {}, tuple(instances)),))


def identity_of(folder: Path, vault: Vault) -> Identity:
    """Strip every object in `folder`, and return what must be remembered of it."""
    paths = sorted(folder.glob("*.dcm"))
    first = dcmread(paths[0], stop_before_pixels=True)
    patient = {"PatientID": str(first.PatientID), "PatientName": str(first.PatientName)}
    pseudonym = vault.pseudonym(patient["PatientID"], "", 3650)
    uids: dict[str, str] = {}
    for path in paths:
        uids.update(strip(path.read_bytes(), vault.uid_key, pseudonym).uids)
    return Identity(uids, pseudonym, patient)


def outside(result: Result, identity: Identity) -> Result:
    """Return a result as a node would give it, in outgoing UIDs."""
    return replace(
        result,
        series_instance_uid=identity.uids[result.series_instance_uid],
        slices=tuple(identity.uids[uid] for uid in result.slices),
        findings=tuple(replace(one, sop_instance_uid=identity.uids[one.sop_instance_uid]) for one in result.findings),
    )


@pytest.mark.parametrize("name", ["mr_head", "ct_liver_seg"])
def test_documents_of_a_real_study_pass(test_data: Path, tmp_path: Path, name: str) -> None:
    """A result in outgoing UIDs is restored by what the vault recalls; SR, SEG and SC of it pass the last gate."""
    folder = test_data / name
    vault = Vault(f"sqlite:///{tmp_path / 'vault.db'}", tmp_path / "keys")
    vault.remember(1, identity_of(folder, vault))
    identity = vault.recall(1)
    sources = cases.sources(folder)
    invented = cases.result(sources, findings=2)
    restored = restore(outside(invented, identity), identity)
    assert (restored.slices, restored.findings) == (invented.slices, invented.findings)
    documents = cases.write(sources, restored)
    assert {document.kind for document in documents} == {"SR", "SEG", "SC"}
    confirm(documents, identity, real_study(folder))
    for wrong in (
        replace(identity, patient={**identity.patient, "PatientID": "somebody else"}),
        replace(identity, patient={**identity.patient, "PatientName": "Somebody^Else"}),
    ):
        with pytest.raises(UnmappedIdentityError):
            confirm(documents, wrong, real_study(folder))
    with pytest.raises(UnmappedIdentityError):
        confirm(documents, identity, replace(real_study(folder), study_instance_uid=identity.uids[invented.slices[0]]))
