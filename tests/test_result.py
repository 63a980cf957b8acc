"""The result format: what honest services write comes back whole, and nothing else comes back at all."""

import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from btt_bridge.errors import ResultRefusedError
from btt_bridge.records import Code, Finding, Mask, Measurement, Result
from btt_bridge.result import FACTS_BYTES_MAX, FACTS_NAME, MASKS_NAME, decode, encode

LUNG = Code("39607008", "SCT", "Lung")


def honest() -> Result:
    bits = np.zeros((3, 10, 2), np.uint8)
    bits[1, 4] = (0xFF, 0xC0)
    return Result(
        "ct-lung",
        "1.0.0",
        "2.25.7",
        ("2.25.1", "2.25.2", "2.25.3"),
        10,
        10,
        (Measurement(Code("118565006", "SCT", "Volume"), 1.5, "mL"),),
        (Finding("nodule-1", LUNG, "2.25.2", (1.0, -2.0, 3.5), (4.0, 5.0), 6.0, 113.0, 0.5, "lungs"),),
        (Mask("lungs", LUNG, LUNG, bits),),
    )


def with_facts(change: Callable[[dict[str, Any]], object]) -> dict[str, bytes]:
    members = encode(honest())
    facts = json.loads(members[FACTS_NAME])
    change(facts)
    return members | {FACTS_NAME: json.dumps(facts).encode()}


def test_a_result_comes_back_whole() -> None:
    """Encoding and decoding change no number, no name and no bit."""
    result = honest()
    back = decode(encode(result))
    assert replace(back, masks=()) == replace(result, masks=())
    assert np.array_equal(back.masks[0].bits, result.masks[0].bits)
    assert replace(back.masks[0], bits=None) == replace(result.masks[0], bits=None)


@pytest.mark.parametrize(
    "change",
    [
        lambda facts: facts.update(extra=1),
        lambda facts: facts.pop("rows"),
        lambda facts: facts.update(format="btt-result/2"),
        lambda facts: facts.update(rows="10"),
        lambda facts: facts.update(rows=True),
        lambda facts: facts.update(rows=-1),
        lambda facts: facts.update(rows=11),
        lambda facts: facts.update(rows=10.0),
        lambda facts: facts.update(columns=10**30),
        lambda facts: facts.update(columns=9),
        lambda facts: facts.update(slices="2.25.1"),
        lambda facts: facts.update(slices=["2.25.1", "2.25.1", "2.25.3"]),
        lambda facts: facts.update(slices=["2.25.1", "2.25.2", "../../etc/passwd"]),
        lambda facts: facts.update(slices=["2.25.1", "2.25.2", "2.25.3\n"]),
        lambda facts: facts.update(slices=["2.25.1", "2.25.2", "2.25." + "9" * 60]),
        lambda facts: facts.update(slices=[f"2.25.{n}" for n in range(9000)]),
        lambda facts: facts.update(service="<script>alert(1)</script>"),
        lambda facts: facts.update(service={"$ref": "x"}),
        lambda facts: facts.update(findings=facts["findings"] * 2),
        lambda facts: facts.update(findings=facts["findings"] * 201),
        lambda facts: facts.update(findings={}),
        lambda facts: facts.update(measurements=None),
        lambda facts: facts["findings"][0].update(score="0.5"),
        lambda facts: facts["findings"][0].update(center_mm=[1.0, 2.0]),
        lambda facts: facts["findings"][0].update(center_mm=[1.0, 2.0, None]),
        lambda facts: facts["findings"][0].update(diameter_mm=1e300),
        lambda facts: facts["findings"][0].update(name="nodule 1; DROP TABLE study"),
        lambda facts: facts["findings"][0].update(name=""),
        lambda facts: facts["findings"][0]["kind"].update(meaning="<img src=x onerror=alert(1)>"),
        lambda facts: facts["findings"][0]["kind"].update(meaning="Nodule\\Lung"),
        lambda facts: facts["findings"][0]["kind"].update(meaning="N" * 65),
        lambda facts: facts["findings"][0]["kind"].update(value="=cmd()"),
        lambda facts: facts["findings"][0].update(kind=[]),
        lambda facts: facts["measurements"][0].update(unit="mL; rm -rf /"),
        lambda facts: facts["masks"][0].update(name="other"),
        lambda facts: facts["masks"][0].update(bits=[]),
        lambda facts: facts.update(masks=[]),
        lambda facts: facts.update(masks=["lungs"]),
        lambda facts: facts.update(masks=facts["masks"] * 2),
    ],
)  # fmt: skip
def test_facts_that_are_not_exactly_right_are_refused(change: Callable[[dict[str, Any]], object]) -> None:
    """A missing, extra, wrongly typed, too long, too many, scripted or escaping field refuses the whole result."""
    with pytest.raises(ResultRefusedError):
        decode(with_facts(change))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"rows": ' + b"9" * 5000 + b"}",
        b" " * (FACTS_BYTES_MAX + 1),
        pickle.dumps({"service": "ct-lung"}),
    ],
)
def test_what_is_no_such_json_is_refused(content: bytes) -> None:
    """Depth, size, encoding and other formats end in a refusal, never in a crash."""
    with pytest.raises(ResultRefusedError):
        decode(encode(honest()) | {FACTS_NAME: content})


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_are_finite(number: str) -> None:
    """JSON's readers take what JSON does not know; ours does not."""
    members = encode(honest())
    facts = members[FACTS_NAME].replace(b'"score":0.5', f'"score":{number}'.encode())
    assert facts != members[FACTS_NAME]
    with pytest.raises(ResultRefusedError):
        decode(members | {FACTS_NAME: facts})


def test_a_name_that_appears_twice_is_refused() -> None:
    """Two readers could otherwise see two results in one file."""
    members = encode(honest())
    facts = members[FACTS_NAME].replace(b'"rows":10', b'"rows":10,"rows":10')
    with pytest.raises(ResultRefusedError):
        decode(members | {FACTS_NAME: facts})


def _claiming(size: int) -> bytes:
    header = json.dumps({"lungs": {"dtype": "U8", "shape": [size, 10, 2], "data_offsets": [0, size * 20]}}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "content",
    [
        b"",
        pickle.dumps(np.zeros((3, 10, 2), np.uint8)),
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 70_000) + b" " * 70_000,
        _claiming(3),
        _claiming(2**50),
        _claiming(3) + bytes(61),
        save({"lungs": np.zeros((3, 10, 2), np.float64)}),
        save({"lungs": np.zeros((3, 10), np.uint8)}),
        save({"lungs": np.zeros((3, 10, 3), np.uint8)}),
        save({"lungs": np.zeros((4, 10, 2), np.uint8)}),
        save({"lungs": np.full((3, 10, 2), 0xFF, np.uint8)}),
        save({"lungs": np.zeros((3, 10, 2), np.uint8), "more": np.zeros((3, 10, 2), np.uint8)}),
        save({}),
    ],
)
def test_masks_that_are_not_exactly_right_are_refused(content: bytes) -> None:
    """Other formats, false sizes, other types and shapes, and bits beyond the image refuse the whole result."""
    with pytest.raises(ResultRefusedError):
        decode(encode(honest()) | {MASKS_NAME: content})


@pytest.mark.parametrize("names", [(FACTS_NAME,), (MASKS_NAME,), (FACTS_NAME, MASKS_NAME, "model.pt")])
def test_a_result_has_exactly_two_members(names: tuple[str, ...]) -> None:
    """A file that nobody asked for is not carried along."""
    members = encode(honest()) | {"model.pt": b""}
    with pytest.raises(ResultRefusedError):
        decode({name: members[name] for name in names})


def test_a_service_learns_at_once_that_its_result_would_not_pass() -> None:
    """The node refuses its own service's bad result, before anybody pays for sending it."""
    finding = replace(honest().findings[0], score=float("nan"))
    with pytest.raises(ResultRefusedError):
        encode(replace(honest(), findings=(finding,)))
    with pytest.raises(ResultRefusedError):
        encode(replace(honest(), service="no blanks please"))
