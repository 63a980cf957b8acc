"""FHIR as JSON: every digit kept both ways, names checked, and a no that quotes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from btt_bridge import fhir
from btt_bridge.errors import KeyConflictError, MalformedError, TooLargeError

_MAX = 10_000


@pytest.mark.parametrize("number", ["1.10", "0.00", "12345678901234567890.123", "-0.5", "19", "1E-7"])
def test_a_number_leaves_with_the_digits_that_it_came_with(number: str) -> None:
    """What a float would round or shorten is written as it was read."""
    content = f'{{"value": {number}, "text": "\\u00e9 1.10"}}'.encode()
    assert fhir.parse(fhir.write(fhir.parse(content, _MAX)), _MAX) == fhir.parse(content, _MAX)
    assert f'"value": {number}'.encode() in fhir.write(fhir.parse(content, _MAX))


def test_text_never_becomes_a_number_on_its_way_out() -> None:
    """Only a Decimal is written without quotes, whatever a text looks like."""
    assert fhir.write({"a": "1.5", "b": Decimal("1.50")}) == b'{"a": "1.5", "b": 1.50}'


def test_decimals_keep_every_digit_and_a_float_is_refused() -> None:
    """Trailing zeros and forty digits survive beside other values; nobody knows what a float has lost, however deep."""
    digits = "12345678901234567890123456789012345678.10"
    written = fhir.write({"value": Decimal(digits), "n": [1, None, True, "ä\n"]})
    assert f'"value": {digits}, "n": [1, null, true, '.encode() in written
    assert fhir.parse(written, _MAX)["n"] == [1, None, True, "ä\n"]
    for lossy in ({"value": 5.36}, {"a": [{"value": 0.0}]}, {"a": ({"value": 1e300},)}):
        with pytest.raises(TypeError):
            fhir.write(lossy)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"1", b'"text"', b"\xff\xfe", b'{"a": NaN}', b'{"a": Infinity}', b'{"a": -Infinity}',
        b'{"a":' * 900 + b"1" + b"}" * 900 + b"]", b"[" * 9000, b'{"a": ' + b"9" * 5000 + b"}", b'{"a":' * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_resource_is_refused_in_words(content: bytes) -> None:
    """Broken, endless or exotic JSON is one error, and never another exception."""
    with pytest.raises(MalformedError):
        fhir.parse(content, 2**20)


def test_a_resource_has_a_size() -> None:
    """One byte more than the limit is not even parsed."""
    with pytest.raises(TooLargeError):
        fhir.parse(b"{}" + b" " * _MAX, _MAX)


def test_a_resource_is_named_by_type_id_and_version() -> None:
    """Meta may be left out; what it says is read strictly."""
    body: dict[str, Any] = {"resourceType": "Appointment", "id": "a-1.B"}
    assert fhir.identity(body) == fhir.Identity("Appointment", "a-1.B")
    named = body | {"meta": {"versionId": "7", "lastUpdated": "2026-01-05T16:00:00+08:00"}}
    assert fhir.identity(named) == fhir.Identity("Appointment", "a-1.B", "7", datetime(2026, 1, 5, 8, tzinfo=UTC))
    assert fhir.identity(fhir.with_meta(body, "3", datetime(2026, 1, 5, tzinfo=UTC))).version == "3"


@pytest.mark.parametrize(
    "change",
    [
        {"id": "a/b"}, {"id": ""}, {"id": 7}, {"id": "x" * 65}, {"resourceType": "appointment"}, {"resourceType": None},
        {"meta": "new"}, {"meta": {"versionId": 7}}, {"meta": {"versionId": "a b"}},
        {"meta": {"lastUpdated": "2026-01-05T08:00:00"}}, {"meta": {"lastUpdated": "yesterday"}},
        {"meta": {"lastUpdated": 7}},
    ],
)  # fmt: skip
def test_a_name_that_is_none_is_refused(change: dict[str, Any]) -> None:
    """No path, no number for an id, no instant without a zone."""
    with pytest.raises(MalformedError):
        fhir.identity({"resourceType": "Appointment", "id": "1"} | change)


@pytest.mark.parametrize(
    ("body", "reference"),
    [
        ({"subject": {"reference": "Patient/1"}}, "Patient/1"),
        ({"patient": {"reference": "Patient/1/_history/2"}}, "Patient/1"),
        (
            {"participant": [{"actor": {"reference": "Practitioner/9"}}, {"actor": {"reference": "Patient/1"}}]},
            "Patient/1",
        ),
        ({"subject": {"reference": "Patient/1"}, "patient": {"reference": "Patient/2"}}, ""),
        ({"subject": {"reference": "Group/1"}}, ""),
        ({"subject": "Patient/1", "participant": "all"}, ""),
        ({}, ""),
    ],
)
def test_the_patient_is_the_one_that_is_named_and_none_of_two(body: dict[str, Any], reference: str) -> None:
    """A resource about two patients, or about none, is about nobody here."""
    assert fhir.patient(body) == reference


def test_references_into_the_server_itself_lose_its_base() -> None:
    """At any depth, and only where the base is the whole of what stands before; other servers keep theirs."""
    own, other = "https://ehr.example/fhir/Patient/1", "https://ehr.example/fhir2/Patient/1"
    body: dict[str, Any] = {
        "subject": {"reference": own},
        "a": [{"b": {"reference": other}}, {"reference": "Patient/2"}],
    }
    fhir.make_relative(body, "https://ehr.example/fhir/")
    assert body == {
        "subject": {"reference": "Patient/1"},
        "a": [{"b": {"reference": other}}, {"reference": "Patient/2"}],
    }


def test_a_no_says_what_is_wrong_and_of_what_kind() -> None:
    """OperationOutcome: the error's own words, and FHIR's code for its status."""
    said = fhir.outcome(KeyConflictError("this version was told before with another content"))
    assert said["issue"] == [
        {"severity": "error", "code": "conflict", "diagnostics": "this version was told before with another content"}
    ]
    assert fhir.outcome("come back", 503)["issue"][0]["code"] == "transient"
