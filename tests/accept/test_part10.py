"""The head that the bridge puts before a received data set, and what a file says of itself by it."""

from __future__ import annotations

import io
import zlib
from datetime import UTC, datetime

import pydicom
import pytest

from btt_bridge.accept.admission import Sender
from btt_bridge.accept.part10 import SEAL_BYTES, Description, head, read_sealed, seal, skip_head
from btt_bridge.errors import MalformedError
from tests.accept.wire import CT, EXPLICIT

NOW = datetime(2026, 1, 5, 8, 0, 0, 123456, tzinfo=UTC)


def described(uid: str = "1.2.3", address: str = "2001:db8::17") -> Description:
    return Description(CT, uid, EXPLICIT, Sender("MODALITY", "BTT_BRIDGE", address))


def whole(data: bytes, uid: str = "1.2.3") -> bytes:
    """Return a file as the spool seals it."""
    before = head(described(uid))
    return before[:-SEAL_BYTES] + seal(len(data), zlib.crc32(data), NOW) + data


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
def test_pydicom_reads_the_head(uid: str) -> None:
    """pydicom finds every element of the meta information, whether a UID needed padding or not."""
    meta = pydicom.dcmread(io.BytesIO(whole(b"", uid))).file_meta
    assert (meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID) == (CT, uid)
    assert (meta.TransferSyntaxUID, meta.SourceApplicationEntityTitle) == (EXPLICIT, "MODALITY")
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.ImplementationClassUID.is_valid
    assert meta.PrivateInformationCreatorUID.is_valid
    assert b"BTT_BRIDGE" in meta.PrivateInformation


def test_the_data_set_is_found_behind_it() -> None:
    """Skipping the head of a stored file leaves exactly the bytes that came in."""
    file = io.BytesIO(whole(b"as received"))
    skip_head(file)
    assert file.read() == b"as received"


def test_another_file_is_not_taken_for_one_of_ours() -> None:
    """A file without the head is refused, not compared as if its first bytes meant something."""
    with pytest.raises(MalformedError):
        skip_head(io.BytesIO(b"\0" * 200))


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "9" * 39])
def test_a_whole_file_says_all_that_the_index_has_of_it(uid: str) -> None:
    """Every column of the row comes back, to the microsecond."""
    content = whole(b"as received", uid)
    expected = described(uid).arrival("a/b.dcm", len(content), NOW)
    assert read_sealed(io.BytesIO(content), "a/b.dcm") == expected


def test_what_is_not_whole_is_not_believed() -> None:
    """Cut anywhere, longer by a byte, changed in one, or never sealed: none of it is an object."""
    content = whole(b"as received")
    broken = [content[:length] for length in range(len(content))]
    broken += [content + b"x", content[:-1] + b"x", head(described()) + b"as received", b"", bytes(4096)]
    assert [one for one in broken if read_sealed(io.BytesIO(one), "x") is not None] == []
