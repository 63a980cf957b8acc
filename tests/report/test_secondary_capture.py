"""The pictures: which slices, what is drawn, and what is not."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread

from btt_bridge import report
from btt_bridge.errors import MalformedError
from btt_bridge.records import Result
from tests.report import cases
from tests.report.conftest import PHANTOM


def pictures(of: report.Sources, given: Result, **more: object) -> list[Dataset]:
    return [dcmread(BytesIO(document.content)) for document in cases.kind(cases.write(of, given, **more), "SC")]  # type: ignore[arg-type]


def sources_of(drawn: list[Dataset]) -> list[str]:
    return [str(ds.SourceImageSequence[0].ReferencedSOPInstanceUID) for ds in drawn]


def test_the_slices_with_the_highest_scores_are_shown(phantom: report.Sources) -> None:
    """So many pictures at most, of the slices that matter most, from head to foot."""
    given = cases.result(phantom, 9)
    best = sorted(given.findings, key=lambda finding: -finding.score)[:3]
    drawn = pictures(phantom, given, pictures_max=3)
    assert set(sources_of(drawn)) == {finding.sop_instance_uid for finding in best}
    places = [given.slices.index(uid) for uid in sources_of(drawn)]
    assert places == sorted(places, reverse=True)
    assert [ds.InstanceNumber for ds in drawn] == [1, 2, 3]
    assert len({ds.SeriesInstanceUID for ds in drawn}) == 1


def test_without_a_finding_the_middle_slice_is_shown(phantom: report.Sources) -> None:
    """There is always a picture, so that nobody wonders whether one is missing."""
    given = cases.result(phantom, 0)
    (only,) = pictures(phantom, given)
    assert sources_of([only]) == [given.slices[len(given.slices) // 2]]


def test_a_finding_is_ringed_where_it_is(phantom: report.Sources) -> None:
    """Moving a finding moves its ring; outside ring and text the picture stays as it was."""
    given = cases.result(phantom, 1)
    moved = replace(given, findings=(replace(given.findings[0], center_px=(200.0, 60.0)),))
    before, after = (pictures(phantom, one)[0].pixel_array.astype(int) for one in (given, moved))
    changed = np.argwhere((before != after).any(axis=2)) / (before.shape[0] / given.rows)
    near = [np.abs(changed - center) for center in (given.findings[0].center_px, (200.0, 60.0))]
    assert all((distance < 15).all(axis=1).any() for distance in near)
    assert all(distance[:, 0].min() < 15 for distance in near)
    # Rings and labels are all that moved: nothing changes more than a label's height away from both rows.
    assert (np.minimum(near[0][:, 0], near[1][:, 0]) < 15).all()


def test_the_notice_is_on_every_picture(phantom: report.Sources) -> None:
    """The words "AI - not for primary diagnosis" are burned in, upper left, whatever lies below them."""
    first, second = (ds.pixel_array[4:24, 6:250] for ds in pictures(phantom, cases.result(phantom, 2)))
    yellow = (first == [255, 220, 0]).all(axis=2)
    assert yellow.sum() > 200
    assert np.array_equal(yellow, (second == [255, 220, 0]).all(axis=2))


def test_no_identity_is_burned_in(phantom: report.Sources, tmp_path: Path) -> None:
    """Another patient's name, ID, dates and accession number change no pixel; hence Burned In Annotation NO."""

    def change(ds: Dataset) -> None:
        ds.PatientName, ds.PatientID, ds.AccessionNumber = "<script>alert(1)</script>^Eve", "other", "other"
        ds.StudyDate = "19990101"

    other = cases.sources(cases.altered(PHANTOM, tmp_path / "series", 100, change))
    (mine,) = pictures(phantom, cases.result(phantom, 1))
    (theirs,) = pictures(other, cases.result(other, 1))
    assert mine.PixelData == theirs.PixelData
    assert mine.PatientName != theirs.PatientName
    assert mine.BurnedInAnnotation == "NO"


def test_it_says_what_it_is(phantom: report.Sources) -> None:
    """Color, of a small image enlarged until its text is legible, oriented, derived from its slice."""
    (ds,) = pictures(phantom, cases.result(phantom, 1))
    assert (ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.Modality, ds.ConversionType) == ("RGB", 3, "OT", "WSD")
    assert (ds.Rows, ds.Columns) == (512, 512)
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert list(ds.PatientOrientation) == ["L", "P"]
    assert ds.SeriesNumber > 9000


def test_the_picture_for_the_page_is_the_picture_for_the_pacs(phantom: report.Sources) -> None:
    """The PNG holds the same pixels as the secondary capture."""
    (document,) = cases.kind(cases.write(phantom, cases.result(phantom, 1)), "SC")
    png = Image.open(BytesIO(report.picture(document.content)))
    assert png.format == "PNG"
    assert np.array_equal(np.asarray(png), dcmread(BytesIO(document.content)).pixel_array)


def test_compressed_sources_are_decoded(ct_chest: report.Sources) -> None:
    """A JPEG Lossless slice is drawn as anatomy: air is dark and the table is not."""
    given = cases.result(ct_chest, 1)
    pixels = pictures(ct_chest, given)[0].pixel_array
    assert pixels.shape == (512, 512, 3)
    assert pixels.std() > 20


@pytest.mark.filterwarnings("ignore:End of file reached")
def test_pixels_that_cannot_be_decoded_are_an_error_of_ours(tmp_path: Path) -> None:
    """A slice truncated since it was accepted is named as such, without a word of what it held."""
    folder = cases.altered(PHANTOM, tmp_path / "series", 3, lambda ds: None)
    of = cases.sources(folder)
    given = cases.result(of, 0)
    path = of.images[given.slices[1]].path
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(MalformedError, match=r"^the pixels of a source image cannot be read$"):
        cases.write(of, given)
