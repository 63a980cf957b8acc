"""A result on its way home: JSON for facts, safetensors for masks; strict, for strangers write it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from btt_bridge.errors import ResultRefusedError
from btt_bridge.records import Code, Finding, Mask, Measurement, Result

FORMAT = "btt-result/1"
FACTS_NAME, MASKS_NAME = "result.json", "masks.safetensors"

FACTS_BYTES_MAX = 4 * 2**20
MASKS_HEADER_BYTES_MAX = 2**16
SLICES_MAX = 8192
MEASUREMENTS_MAX = 100
FINDINGS_MAX = 200
MASKS_MAX = 16
PIXELS_MAX = 8192

#: What text may be, by field. Nothing that a page, a shell, a path or a DICOM value could mistake for its own syntax.
_UID = r"(?=.{1,64}\Z)(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))*"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_TEXT: Mapping[str, re.Pattern[str]] = {
    "service": re.compile(_WORD),
    "service_version": re.compile(_WORD),
    "series_instance_uid": re.compile(rf"({_UID})?"),
    "sop_instance_uid": re.compile(_UID),
    "slices": re.compile(_UID),
    "name": re.compile(_WORD),
    "mask": re.compile(rf"({_WORD})?"),
    "value": re.compile(r"[A-Za-z0-9._-]{1,64}"),
    "scheme": re.compile(r"[A-Za-z0-9_]{1,16}"),
    "meaning": re.compile(r"[A-Za-z0-9 ,.()/%+'-]{1,64}"),
    # UCUM, case sensitive codes: mL, %, [hnsf'U], mm3.
    "unit": re.compile(r"[A-Za-z0-9%\[\]{}'*./^_-]{1,64}"),
}
_COUNTS = {
    "slices": SLICES_MAX,
    "measurements": MEASUREMENTS_MAX,
    "findings": FINDINGS_MAX,
    "masks": MASKS_MAX,
}

R = TypeVar("R")


def encode(result: Result) -> dict[str, bytes]:
    """Return the members of a result's parcel; raise ResultRefusedError for what `decode` would not take back."""
    facts = {one.name: _plain(getattr(result, one.name)) for one in fields(result)}
    facts["masks"] = [{"name": m.name, "category": asdict(m.category), "kind": asdict(m.kind)} for m in result.masks]
    facts["format"] = FORMAT
    try:
        content = json.dumps(facts, allow_nan=False, separators=(",", ":")).encode()
    except ValueError:
        raise ResultRefusedError("a number of the result is not finite") from None
    bits = {mask.name: np.ascontiguousarray(mask.bits) for mask in result.masks}
    _result(_parsed(content), bits)
    return {FACTS_NAME: content, MASKS_NAME: save(bits)}


def decode(members: Mapping[str, bytes | bytearray]) -> Result:
    """Return the result that the members hold; raise ResultRefusedError for anything that is not exactly as it must be.

    Holds it against its form only. Whether it fits the images that it speaks of is for judge to say.
    """
    if members.keys() != {FACTS_NAME, MASKS_NAME}:
        raise ResultRefusedError("a result has two members: its facts and its masks")
    return _result(_parsed(members[FACTS_NAME]), _bits(members[MASKS_NAME]))


def _result(facts: dict[str, Any], bits: Mapping[str, Any]) -> Result:
    """Build a result from its facts and the bits of its masks."""
    if facts.pop("format", None) != FORMAT:
        raise ResultRefusedError("this is not a result of a format known here")
    descriptions = facts.get("masks")
    if not isinstance(descriptions, list) or not all(isinstance(d, dict) and "bits" not in d for d in descriptions):
        raise ResultRefusedError("masks must be a list of objects, their bits elsewhere")
    if sorted(str(one.get("name")) for one in descriptions) != sorted(bits):
        raise ResultRefusedError("the masks described are not the masks sent")
    facts["masks"] = [one | {"bits": bits[one["name"]]} for one in descriptions]
    result = _record(Result, facts, "result")
    _check_masks(result)
    names = [finding.name for finding in result.findings]
    if len(set(names)) != len(names) or len(set(result.slices)) != len(result.slices):
        raise ResultRefusedError("findings and slices are named once each")
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return asdict(value) if is_dataclass(value) and not isinstance(value, Mask | type) else value


def _parsed(content: bytes | bytearray) -> dict[str, Any]:
    if len(content) > FACTS_BYTES_MAX:
        raise ResultRefusedError("the facts are larger than they may be")
    try:
        facts = json.loads(bytes(content).decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ResultRefusedError("the facts are not the JSON that they must be") from None
    if not isinstance(facts, dict):
        raise ResultRefusedError("the facts must be one JSON object")
    return facts


def _no_constant(_: str) -> float:
    raise ValueError("JSON knows no NaN and no infinity")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a name appears twice")
    return members


def _bits(content: bytes | bytearray) -> dict[str, Any]:
    """Return the arrays of a safetensors file; the library checks that they tile it exactly."""
    if len(content) < 8 or int.from_bytes(content[:8], "little") > MASKS_HEADER_BYTES_MAX:
        raise ResultRefusedError("the masks are not a safetensors file of this kind")
    try:
        arrays = load(bytes(content))
    except (SafetensorError, ValueError, TypeError, KeyError):
        raise ResultRefusedError("the masks are not a safetensors file of this kind") from None
    return dict(arrays)


def _check_masks(result: Result) -> None:
    if any(mask.bits.dtype != np.uint8 or mask.bits.ndim != 3 for mask in result.masks):
        raise ResultRefusedError("a mask is a three-dimensional array of packed bits")
    if not (0 <= result.rows <= PIXELS_MAX and 0 <= result.columns <= PIXELS_MAX):
        raise ResultRefusedError("rows or columns are out of range")
    shape = (len(result.slices), result.rows, -(-result.columns // 8))
    unused = 0xFF >> (result.columns % 8) if result.columns % 8 else 0
    for mask in result.masks:
        if mask.bits.shape != shape:
            raise ResultRefusedError("a mask has another shape than the images")
        if unused and mask.bits.size and (mask.bits[:, :, -1] & unused).any():
            raise ResultRefusedError("a mask has bits beyond its last column")


def _record(kind: type[R], value: Any, where: str) -> R:
    """Build a record from a JSON object that has exactly its fields, each of exactly its type."""
    hints = get_type_hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise ResultRefusedError(f"{where} does not have exactly the fields it must have")
    return kind(**{name: _value(hint, value[name], name) for name, hint in hints.items()})


def _value(hint: Any, value: Any, name: str) -> Any:
    if hint in (Code, Finding, Mask, Measurement):
        return _record(hint, value, name)
    if get_origin(hint) is tuple:
        return _items(get_args(hint), value, name)
    if hint is Any:
        return value  # the bits of a mask, checked where they were read
    if hint is str and isinstance(value, str) and _TEXT[name].fullmatch(value):
        return value
    if hint is int and type(value) is int and 0 <= value <= 2**31:
        return value
    # bool is an int to Python; 1e999 is infinity to its JSON reader.
    if hint is float and type(value) in (int, float) and abs(value) < 1e12 and math.isfinite(value):
        return float(value)
    raise ResultRefusedError(f"{name} does not hold what it must hold")


def _items(hints: tuple[Any, ...], value: Any, name: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise ResultRefusedError(f"{name} must be a list")
    if hints[-1] is Ellipsis:
        if len(value) > _COUNTS[name]:
            raise ResultRefusedError(f"there are more {name} than there may be")
        hints = (hints[0],) * len(value)
    if len(value) != len(hints):
        raise ResultRefusedError(f"{name} does not have as many numbers as it must")
    return tuple(_value(hint, item, name) for hint, item in zip(hints, value, strict=True))
