"""The head that the bridge puts before a received data set."""

from __future__ import annotations

import io

import pydicom
import pytest

from btt_bridge.accept.part10 import head, skip_head
from btt_bridge.errors import MalformedError
from tests.accept.wire import CT, EXPLICIT


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_pydicom_reads_the_head(uid: str) -> None:
    """pydicom finds every element of the meta information, whether a UID needed padding or not."""
    meta = pydicom.dcmread(io.BytesIO(head(CT, uid, EXPLICIT, "MODALITY"))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (EXPLICIT, "MODALITY")
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.ImplementationClassUID.is_valid


def test_the_data_set_is_found_behind_it() -> None:
    """Skipping the head of a stored file leaves exactly the bytes that came in."""
    file = io.BytesIO(head(CT, "1.2.3", EXPLICIT, "A") + b"as received")
    skip_head(file)
    assert file.read() == b"as received"


def test_another_file_is_not_taken_for_one_of_ours() -> None:
    """A file without the head is refused, not compared as if its first bytes meant something."""
    with pytest.raises(MalformedError):
        skip_head(io.BytesIO(b"\0" * 200))
