"""A report's objects, small, and deliveries of them."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.uid import UID

from btt_bridge.journal import Delivery
from tests.send.peers import EXPLICIT, SC, SEG, SR

Make = Callable[..., tuple[Delivery, bytes]]


@pytest.fixture
def make() -> Make:
    """Return a function that makes a queued document of a kind and size."""

    def document(
        kind: str = "SR", *, size: int = 100, number: int = 1, sop_class_uid: str = "", syntax: str = EXPLICIT
    ) -> tuple[Delivery, bytes]:
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(syntax)
        ds.SpecificCharacterSet = "ISO_IR 192"
        ds.SOPClassUID = sop_class_uid or {"SR": SR, "SEG": SEG, "SC": SC}[kind]
        ds.SOPInstanceUID = f"2.25.{number}"
        ds.PatientName = "Wang^XiaoDong=王^小东"
        ds.PatientID = "1"
        ds.StudyInstanceUID, ds.SeriesInstanceUID = "2.25.100", "2.25.101"
        ds.Modality = kind
        ds.add_new(0x7FE00010, "OB", bytes(size + size % 2))
        stream = BytesIO()
        dcmwrite(stream, ds, enforce_file_format=True)
        delivery = Delivery(
            number, 1, "pacs", kind, ds.SOPClassUID, ds.SOPInstanceUID, "key", "waiting", 0, None, None, "", ""
        )
        return delivery, stream.getvalue()

    return document
