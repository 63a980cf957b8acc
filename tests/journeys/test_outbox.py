"""The last mile: an archive that refuses, is away, or has lost what it had; what a person sees of it, and does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from btt_bridge.journal import Journey
from btt_bridge.journey import State
from tests.journeys.bridge import Bridge, destination, running
from tests.journeys.studies import Make, Sample
from tests.peers import pacs
from tests.peers.dcmtk import dcmsend
from tests.peers.pacs import Orthanc
from tests.peers.server import wait_until

_ALLOWANCES = ("Echo", "Find", "FindWorklist", "Get", "Move", "Store")


@pytest.fixture(scope="module")
def strict_pacs() -> Iterator[Orthanc]:
    """A PACS that talks to nobody whom it was not told of."""
    settings = {f"DicomAlwaysAllow{name}": False for name in _ALLOWANCES} | {"DicomModalitiesInDatabase": True}
    with pacs.orthanc(settings=settings) as orthanc:
        yield orthanc


@pytest.fixture(scope="module")
def bridge(strict_pacs: Orthanc, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bridge]:
    folder = tmp_path_factory.mktemp("outbox")
    with running(folder, destinations=[destination(strict_pacs.ae_title, strict_pacs.dicom_port)]) as started:
        yield started


def _send(bridge: Bridge, sample: Sample) -> None:
    assert dcmsend(bridge.port, sample.files).returncode == 0


def _at_pacs(orthanc: Orthanc, sample: Sample) -> set[str]:
    """Return the SOP Instance UIDs that the PACS has of a study."""
    found = orthanc.find("Instance", StudyInstanceUID=sample.study_uid)
    return {str(one["MainDicomTags"]["SOPInstanceUID"]) for one in found}


def _settled_once(bridge: Bridge, journey: Journey, orthanc: Orthanc, sample: Sample) -> None:
    """Assert that the archive has each document, that the study was charged once, and that the books balance."""
    deliveries = bridge.journal.deliveries(journey.id)
    assert {one.state for one in deliveries} == {"delivered"}
    assert _at_pacs(orthanc, sample) == {one.sop_instance_uid for one in deliveries}
    assert len(bridge.charges(journey)) == 1
    bridge.books_balance()


def test_an_archive_that_refuses_is_a_matter_for_a_person(bridge: Bridge, strict_pacs: Orthanc, study: Make) -> None:
    """An archive that does not know the bridge makes dead letters at once, with advice on the queue's page, and the
    hold is released; once the advice is followed, `resend` delivers and charges, both once."""
    sample = study("refused")
    _send(bridge, sample)
    journey = bridge.until(sample.study_uid, State.UNDELIVERED)
    letters = bridge.journal.deliveries(journey.id)
    assert {(one.state, one.attempts) for one in letters} == {("dead", 1)}
    wait_until(lambda: _voided(bridge), "the hold to be released")
    assert bridge.ledger.find(bridge.settings.settle.hospital, f"charge:{journey.facts['bill']}:ct-lung") is None
    queue = bridge.page("/queue").text
    assert sample.accession_number in queue
    assert f"Add AE title BTT_BRIDGE with the bridge&#39;s address at {strict_pacs.ae_title}, then resend." in queue
    told = bridge.cli("trace", sample.accession_number).stdout
    assert "undelivered" in told
    assert "Add AE title BTT_BRIDGE" in told

    strict_pacs.know("bridge", "BTT_BRIDGE", bridge.port)
    answer = bridge.cli("resend", sample.accession_number)
    assert answer.stdout == f"{len(letters)} deliveries are in the outbox again.\n"
    journey = bridge.until(sample.study_uid, State.SETTLED)
    assert {one.attempts for one in bridge.journal.deliveries(journey.id)} == {1}
    _settled_once(bridge, journey, strict_pacs, sample)
    assert sample.accession_number not in bridge.page("/queue").text
    assert bridge.cli("resend", sample.accession_number).stdout == "0 deliveries are in the outbox again.\n"


def _voided(bridge: Bridge) -> bool:
    return [one["data"]["cause"] for one in bridge.events() if one["type"] == "btt.compute.voided.v1"] == [
        "not-delivered"
    ]


def test_an_archive_that_is_away_or_forgets_costs_nobody_a_charge(
    bridge: Bridge, strict_pacs: Orthanc, study: Make
) -> None:
    """While the archive is down its deliveries wait, and arrive by themselves once it is back; what it loses later is
    sent again by `resend --all`, without a second charge."""
    strict_pacs.know("bridge", "BTT_BRIDGE", bridge.port)
    sample = study("away")
    strict_pacs.server.kill()
    _send(bridge, sample)
    journey = bridge.until(sample.study_uid, State.REPORTED)
    wait_until(lambda: min(one.attempts for one in bridge.journal.deliveries(journey.id)) >= 2, "two tries", 60)
    assert {one.state for one in bridge.journal.deliveries(journey.id)} == {"waiting"}
    strict_pacs.server.start()
    journey = bridge.until(sample.study_uid, State.SETTLED)
    _settled_once(bridge, journey, strict_pacs, sample)

    (at_pacs,) = strict_pacs.find("Study", StudyInstanceUID=sample.study_uid)
    strict_pacs.delete(f"/studies/{at_pacs['ID']}")
    assert not _at_pacs(strict_pacs, sample)
    assert bridge.cli("resend", sample.study_uid, "--all").returncode == 0
    journey = bridge.until(sample.study_uid, State.SETTLED)
    _settled_once(bridge, journey, strict_pacs, sample)
