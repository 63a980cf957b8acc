"""Command sets, read and written by hand, against pynetdicom's own."""

from __future__ import annotations

import contextlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dsutils import decode

from btt_bridge.accept.command import Command, read_command, store_response, uid_or_empty
from btt_bridge.errors import MalformedError
from tests.accept.wire import CT, command, store_rq


def test_a_request_is_read() -> None:
    """Message ID, both UIDs without their padding, and that a data set follows."""
    assert read_command(store_rq("1.2.3")) == Command(1, 7, 1, CT, "1.2.3")


def test_what_is_missing_is_told_apart_from_what_is_there() -> None:
    """An absent number is None and an absent UID is empty, so that each can have its own answer."""
    assert read_command(command((0x0100, 1))) == Command(1, None, None, "", "")
    assert not read_command(command((0x0800, 0x0101))).has_data_set


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_malformed(encoded: bytes) -> None:
    """Whatever a peer calls a command set, reading it ends with a command or with MalformedError."""
    try:
        read = read_command(encoded)
    except MalformedError:
        return
    assert read.sop_instance_uid == uid_or_empty(read.sop_instance_uid.encode())


@given(st.data())
def test_a_cut_or_altered_request_is_never_more_than_malformed(data: st.DataObject) -> None:
    """A real request with one byte changed and its end cut off still reads, or is refused."""
    encoded = bytearray(store_rq("1.2.840.99.1"))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MalformedError):
        read_command(bytes(encoded[: data.draw(st.integers(0, len(encoded)))]))


@pytest.mark.parametrize(
    ("value", "uid"),
    [
        (b"1.2.3\0", "1.2.3"),
        (b"1.2.3 ", "1.2.3"),
        (b"1.02.3", "1.02.3"),  # against the standard, and sent by real systems
        (b"2." + b"9" * 62, "2." + "9" * 62),
        (b"2." + b"9" * 63, ""),
        (b"../../etc/passwd", ""),
        (b"1..2", ""),
        (b".1", ""),
        (b"1.2\n", ""),
        (b"1.2\x003", ""),
        ("1.٢".encode(), ""),
        (b"", ""),
    ],
)
def test_a_uid_is_digits_and_dots_or_nothing(value: bytes, uid: str) -> None:
    """Nothing that could be a path, a control character or another script's digit passes for a UID."""
    assert uid_or_empty(value) == uid


@pytest.mark.parametrize("comment", ["", "no room"])
def test_pynetdicom_reads_the_response(comment: str) -> None:
    """The response is one P-DATA-TF PDU whose command set pynetdicom decodes to the same values."""
    encoded = store_response(5, Command(1, 258, 1, CT, "1.2.3"), 0xA700, comment)
    assert encoded[0] == 4
    assert int.from_bytes(encoded[2:6], "big") == len(encoded) - 6
    assert int.from_bytes(encoded[6:10], "big") == len(encoded) - 10
    assert (encoded[10], encoded[11]) == (5, 3)
    read = decode(BytesIO(encoded[12:]), True, True)
    assert read.CommandGroupLength == len(encoded) - 12 - 12
    assert (read.CommandField, read.MessageIDBeingRespondedTo, read.Status) == (0x8001, 258, 0xA700)
    assert (read.AffectedSOPClassUID, read.AffectedSOPInstanceUID) == (CT, "1.2.3")
    assert read.get("ErrorComment", "") == comment
