"""HL7 v2.5.1 as text: values escaped, segments put together, nothing lost on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

#: A value; components; with a tuple among them, subcomponents. A list is the repetitions of a field.
Component = str | tuple[str, ...]
Value = str | tuple[Component, ...]
Field = Value | list[Value]

_ENCODING: Final = "^~\\&"
# Chapter 2.7.1: what stands for the separators; and for control characters, which would end a segment.
_ESCAPES: Final = {"|": "\\F\\", "^": "\\S\\", "~": "\\R\\", "&": "\\T\\", "\\": "\\E\\"}
_SPECIAL: Final = re.compile(r"[|^~&\\\x00-\x1f\x7f]")


def escape(text: str) -> str:
    """Return text as it may stand in a field."""
    return _SPECIAL.sub(lambda found: _ESCAPES.get(found[0]) or f"\\X{ord(found[0]):02X}\\", text)


def segment(name: str, fields: Mapping[int, Field]) -> str:
    """Return a segment from its fields by their numbers; what is left out is empty."""
    values = [_field(fields[number]) if number in fields else "" for number in range(1, max(fields) + 1)]
    return "|".join([name, *values])


def header(fields: Mapping[int, Field]) -> str:
    """Return the MSH segment; its fields 1 and 2 are the separators themselves."""
    rest = segment("", {number - 1: value for number, value in fields.items()})
    return f"MSH|{_ENCODING}{rest.removeprefix('|')}"


def message(segments: Sequence[str]) -> bytes:
    """Return a message as it goes over the wire; MSH-18 says UNICODE UTF-8."""
    return "".join(f"{one}\r" for one in segments).encode()


def moment(at: datetime) -> str:
    """Return an instant as a time stamp (TS) that names its zone."""
    return at.astimezone(UTC).strftime("%Y%m%d%H%M%S+0000")


def _field(field: Field) -> str:
    return "~".join(_value(one) for one in field) if isinstance(field, list) else _value(field)


def _value(value: Value) -> str:
    if isinstance(value, str):
        return escape(value)
    return "^".join("&".join(map(escape, (one,) if isinstance(one, str) else one)) for one in value)
