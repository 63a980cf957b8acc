"""The pages say where every study is and why, show its findings, and change nothing."""

from __future__ import annotations

import io
import re
from html import unescape

import pytest
from PIL import Image

from btt_bridge.journey import Event, State
from btt_bridge.web import words
from tests.web.conftest import SAMPLE, House

PATIENT = {
    "PatientName": "Doe^Jane^Q",
    "PatientID": "MRN-17",
    "PatientBirthDate": "19610704",
    "PatientSex": "F",
    "StudyDescription": "CT Thorax",
    "StudyDate": "20260105",
    "Modality": "CT",
    "AccessionNumber": "ACC-1",
    "SeriesDescription": "Lung 1.25",
    "SeriesNumber": 2,
}


def text(html: str) -> str:
    """Return what a page says, without its markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def test_an_empty_house_says_how_to_begin(house: House) -> None:
    """Before anything arrives, the first page names the AE title and the port to send to."""
    page = house.client.get("/")
    assert page.status_code == 200
    assert "No study has arrived yet" in text(page.text)
    assert "AE title BTT_BRIDGE , port 1" in text(page.text)


def test_every_state_has_a_name_a_mark_and_a_place_in_the_list(house: House) -> None:
    """A study is listed with patient, study and state in words, and the list can be narrowed to one state."""
    journey = house.complete(house.receive(PATIENT))
    house.journal.advance(journey, Event.UNMATCHED, reason="no route wants this study")
    house.receive({**PATIENT, "AccessionNumber": "ACC-2", "PatientName": "Roe^Rick"})

    everything = text(house.client.get("/").text)
    for expected in ("Doe, Jane Q", "MRN-17", "CT Thorax", "2026-01-05", "No route", "no route wants this study"):
        assert expected in everything
    assert "Roe, Rick" in everything
    narrowed = text(house.client.get("/?show=unrouted").text)
    assert "Doe, Jane Q" in narrowed
    assert "Roe, Rick" not in narrowed
    assert "Roe, Rick" in text(house.client.get("/?show=tile-busy").text)
    assert set(words.STATES) == set(State)


def test_a_study_is_found_by_accession_and_by_uid(house: House) -> None:
    """One hit goes straight to the study; none says so; the newest revision is what a UID means."""
    journey = house.receive(PATIENT)
    by_accession = house.client.get("/?q=ACC-1")
    assert (by_accession.status_code, by_accession.headers["location"]) == (303, f"/studies/{journey.id}")
    assert house.client.get(f"/studies/{journey.study_instance_uid}").status_code == 200
    assert "No study has the Accession Number" in text(house.client.get("/?q=ACC-9").text)


def test_a_study_shows_its_path_with_times_and_reasons(house: House) -> None:
    """Evidence, route, parcel, lease, receipt, deliveries and the time of each stage stand on a study's page."""
    journey = house.go(house.complete(house.receive(PATIENT)), until=Event.COMPUTED)
    page = text(house.client.get(f"/studies/{journey.id}").text)

    for expected in (
        *("Doe, Jane Q", "born 1961-07-04", "female", "Computed", "Lung 1.25"),
        *(
            "Kind the sending PACS counted its objects (C-FIND)",
            "Received 1",
            "Price ceiling 40.00 CNY",
            "Placement contracted",
        ),
        *("Size 4.6 MiB", "Fencing token 17", "Device cuda:0", "Timings · Run 1.9 s"),
        *("judge Result checked at work", "reidentify Identity brought back ahead"),
    ):
        assert expected in page
    assert re.search(r"assemble [^0-9]*50\d ms", page), "half a second passed between last object and completeness"


def test_a_study_that_stopped_says_where_and_why(house: House) -> None:
    """A held study points at the stage that held it and gives the reason."""
    journey = house.go(house.complete(house.receive(PATIENT)), until=Event.MATCHED)
    house.journal.advance(journey, Event.WITHHELD, reason="Modality US: its pixels may carry text")

    page = text(house.client.get(f"/studies/{journey.id}").text)
    assert "deidentify De-identified and proved so stopped here" in page
    assert "Held. Modality US: its pixels may carry text" in page
    assert "Modality US: its pixels may carry text" in text(house.client.get("/queue").text)


def test_a_later_revision_is_told_from_the_earlier(house: House) -> None:
    """Late objects open a new revision; each page links to the other and the old one says that it was overtaken."""
    first = house.complete(house.receive(PATIENT, uid="2.25.77"))
    house.clock.advance(60)
    second = house.receive({**PATIENT}, [sorted(SAMPLE.glob("*.dcm"))[0]], uid="2.25.77")

    old, new = (text(house.client.get(f"/studies/{journey.id}").text) for journey in (first, second))
    assert "Superseded. more objects arrived" in old
    assert "Revision 1 · Superseded" in new
    assert "Revision 2 · Receiving" in new
    assert house.client.get("/?q=2.25.77").headers["location"] == f"/studies/{second.id}"


def test_findings_are_drawn_and_told_as_the_documents_have_them(house: House) -> None:
    """The picture is the secondary capture that was sent, and the table is the structured report's own."""
    files = sorted(SAMPLE.glob("*.dcm"))
    journey = house.complete(house.receive(PATIENT, files, uid="2.25.308026717365284661072682606205814729338"))
    journey = house.go(journey, until=Event.RESTORED)
    house.write_report(journey)
    journey = house.journal.advance(journey, Event.REPORTED)

    html = house.client.get(f"/studies/{journey.id}").text
    assert "nodule-1" in text(html)
    assert "15.0 mm" in text(html)
    pictures = re.findall(rf'src="(/studies/{journey.id}/pictures/\d+\.png)"', html)
    assert len(pictures) == 2
    for address in pictures:
        answer = house.client.get(address)
        assert answer.headers["content-type"] == "image/png"
        with Image.open(io.BytesIO(answer.content)) as image:
            assert image.mode == "RGB"
            colors = image.getcolors(2**24) or []
            assert any(max(color) - min(color) > 60 for _, color in colors), "something is drawn in color"
    structured_report = next(d for d in house.journal.deliveries(journey.id) if d.kind == "SR")
    assert house.client.get(f"/studies/{journey.id}/pictures/{structured_report.id}.png").status_code == 404


def test_dead_letters_come_with_advice(house: House) -> None:
    """A delivery that was given up is flagged on the list, in the queue and on its study, with what to do."""
    files = sorted(SAMPLE.glob("*.dcm"))
    journey = house.complete(house.receive(PATIENT, files, uid="2.25.308026717365284661072682606205814729338"))
    house.write_report(journey)
    dead, waiting, *_ = house.journal.deliveries(journey.id)
    house.journal.record_undelivered(dead.id, "0x0122: SOP class not supported", "Allow the class at the PACS.", None)
    house.journal.record_delivered(waiting.id)

    assert "1 dead letter" in text(house.client.get("/").text)
    for page in ("/queue", f"/studies/{journey.id}"):
        said = text(house.client.get(page).text)
        assert "Dead letter 1" in said
        assert "0x0122: SOP class not supported Advice: Allow the class at the PACS." in said
    assert "Answered 0x0000, so the destination has it." in text(house.client.get(f"/studies/{journey.id}").text)


def test_objects_that_are_not_in_use_are_listed(house: House) -> None:
    """What could not be read is kept, and the queue says so."""
    house.receive(PATIENT)
    (instance,) = house.journal.study(1).instances
    house.journal.record_flag(instance.id, "unreadable")
    assert "cannot be read" in text(house.client.get("/queue").text)


def test_the_ledger_shows_accounts_that_balance(house: House) -> None:
    """Balances, the trial balance, the latest transfers, an account's statement and the events told of it."""
    house.charge()
    page = text(house.client.get("/ledger").text)
    assert "CNY balances" in page
    assert "hospital:payable:cny CNY -18.40 CNY" in page
    assert "compute.charged hospital:payable:cny 1" in page
    statement = text(house.client.get("/ledger?account=hospital:payable:cny").text)
    assert "platform compute share -1.60 CNY -18.40 CNY" in statement
    assert "40.00 CNY held" in statement
    assert house.client.get("/ledger?account=nobody").status_code == 404


def test_a_study_shows_its_own_entries_in_the_ledger(house: House) -> None:
    """Hold, charge and share stand on the page of the study whose bill they are, and on no other."""
    mine = house.go(house.complete(house.receive(PATIENT)))
    other = house.complete(house.receive({**PATIENT, "AccessionNumber": "ACC-2"}))
    house.charge()
    page = text(house.client.get(f"/studies/{mine.id}").text)
    for expected in (
        "hold hospital:payable:cny node:one 40.00 CNY",
        "16.80 CNY compute charge",
        "1.60 CNY compute share",
    ):
        assert expected in page
    assert "compute" not in text(house.client.get(f"/studies/{other.id}").text)


@pytest.mark.parametrize(
    "path",
    [
        *("/studies/999", "/studies/1.2.3", "/studies/%00", "/studies/9999999999999999999999"),
        *("/studies/1/pictures/1.png", "/nowhere", "/static/../site.py", "/static/%2e%2e/site.py"),
    ],
)
def test_what_is_not_there_is_404(house: House, path: str) -> None:
    """An address that leads nowhere gets a page that says so, and never a trace of the program."""
    answer = house.client.get(path)
    assert answer.status_code == 404
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/queue", "/ledger", "/studies/1"])
def test_nothing_can_be_changed(house: House, method: str, path: str) -> None:
    """The pages only read: every other method is refused."""
    assert house.client.request(method, path).status_code == 405


def test_pages_work_at_a_scale_that_a_hospital_has(house: House) -> None:
    """A thousand studies are listed by the two hundred that changed last, and the page says so."""
    for number in range(210):
        house.receive({**PATIENT, "AccessionNumber": f"A{number}"}, uid=f"2.25.{number + 1}")
    page = house.client.get("/").text
    assert page.count('scope="row"') == 200
    assert "The 200 that changed last" in text(page)
