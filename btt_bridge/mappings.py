"""Mapping files as their authors see them: YAML in which every value knows its line, and every error names it."""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator, ValidationError

from btt_bridge.errors import MappingError

FILE_BYTES_MAX: Final = 2**20

#: Where a value lies in a file: names and positions from the top.
Place = tuple[str | int, ...]

_WORDS: Final = {"": None, "~": None, "null": None, "true": True, "false": False}
_WHOLE: Final = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_DECIMAL: Final = re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
#: What plain and quoted values, lists and blocks resolve to; any other tag was written by hand.
_TAGS: Final = frozenset({"bool", "float", "int", "map", "merge", "null", "seq", "str", "timestamp", "value"})
_TYPES: Final = {
    "string": "text (in quotes, if it looks like something else)",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a block of `name: value` lines",
}


@dataclass(frozen=True)
class Source:
    """One mapping file as read: its values, their lines, and the digest of its bytes as its version."""

    file: str
    digest: str
    #: Mappings as dict, lists as list; scalars as str, int, bool, None, and Decimal where there is a fraction.
    body: Any
    #: What is wrong whatever the file is for, such as a name that stands twice.
    problems: tuple[MappingError, ...] = ()
    lines: Mapping[Place, int] = field(default_factory=dict, repr=False)

    def line(self, place: Place) -> int:
        """Return the line of the deepest part of `place` that the file spells out."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def error(self, message: str, place: Place, *, keyword: str = "", advice: str = "") -> MappingError:
        """Return an error at this place, named by `keyword` or else by the last name on the way there."""
        names = [part for part in place if isinstance(part, str)]
        keyword = keyword or (names[-1] if names else "")
        return MappingError(message, file=self.file, line=self.line(place), keyword=keyword, advice=advice)


def read(path: Path) -> Source:
    """Read one YAML file; raise MappingError where it cannot be read at all.

    Plain scalars follow YAML 1.2: `NO`, `on` and `12:30` are text, for they are values in DICOM and not switches.
    Names stand once, and there are no anchors: what a rule says is written where it stands.
    """
    file = str(path)
    try:
        content = path.read_bytes()
        if len(content) > FILE_BYTES_MAX:
            raise MappingError(f"the file is larger than {FILE_BYTES_MAX} bytes", file=file, line=1)
        node = yaml.compose(content.decode("utf-8-sig"), Loader=yaml.SafeLoader)
    except OSError:
        raise MappingError("the file cannot be read", file=file, line=1) from None
    except UnicodeDecodeError:
        raise MappingError("the file is not UTF-8 text", file=file, line=1) from None
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise MappingError(f"this is not YAML: {problem.problem}", file=file, line=line) from None
    except (yaml.YAMLError, RecursionError):
        raise MappingError("this is not YAML", file=file, line=1) from None
    reader = _Reader(file)
    body = reader.value(node, ()) if node is not None else None
    return Source(file, hashlib.sha256(content).hexdigest(), body, tuple(reader.problems), reader.lines)


def violations(source: Source, schema: Mapping[str, Any]) -> list[MappingError]:
    """Return everything in which a file differs from its JSON Schema, in the order of its lines."""
    errors = list(source.problems)
    for problem in Draft202012Validator(schema).iter_errors(source.body):
        errors += _explained(source, problem)
    return sorted(errors, key=lambda error: error.line)


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a hint with the known word that looks most like this one, or nothing."""
    same = [candidate for candidate in known if candidate.lower() == word.lower()]
    close = same or difflib.get_close_matches(word, known, n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else ""


class _Reader:
    """Turns YAML nodes into values, and notes where each lies."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.problems: list[MappingError] = []
        self._seen: set[int] = set()

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if id(node) in self._seen:
            self._refuse(node, "anchors and aliases (`&name`, `*name`) are not used here; write the value out")
            return None
        self._seen.add(id(node))
        if node.tag.removeprefix("tag:yaml.org,2002:") not in _TAGS:
            self._refuse(node, "tags (`!name`) are not used here")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*place, position)) for position, child in enumerate(node.value)]
        quoted = not isinstance(node, yaml.ScalarNode) or node.style is not None
        return node.value if quoted else _plain(node.value)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        body: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._refuse(key, "a name is one word")
            elif key.value in body:
                self._refuse(key, "this name stands twice in the same block", key.value)
            else:
                self.lines[*place, key.value] = key.start_mark.line + 1
                body[key.value] = self.value(child, (*place, key.value))
        return body

    def _refuse(self, node: yaml.Node, message: str, keyword: str = "") -> None:
        line = node.start_mark.line + 1
        self.problems.append(MappingError(message, file=self.file, line=line, keyword=keyword))


def _plain(text: str) -> Any:
    """Return what an unquoted scalar means (YAML 1.2 core schema); fractions stay exact, for some of them are money."""
    if text.lower() in _WORDS and text in (text.lower(), text.upper(), text.capitalize()):
        return _WORDS[text.lower()]
    if _WHOLE.fullmatch(text):
        return int(text) if len(text) < 40 else text
    return Decimal(text) if _DECIMAL.fullmatch(text) else text


def _explained(source: Source, problem: ValidationError) -> Iterator[MappingError]:
    """Say in an author's words what a schema found."""
    place: Place = tuple(problem.absolute_path)
    schema: Any = problem.schema
    wanted: Any = problem.validator_value
    body: Any = problem.instance
    advice = str(schema.get("description", ""))
    match problem.validator:
        case "additionalProperties":
            known = list(schema.get("properties", {}))
            for name in set(map(str, body)) - set(known):
                hint = did_you_mean(name, known) or f"known here: {', '.join(known)}"
                yield source.error("no such name here", (*place, name), advice=hint)
        case "required":
            name = next(name for name in wanted if problem.message.startswith(repr(name)))
            yield source.error("is missing", place, keyword=name, advice=advice)
        case "type":
            kinds = [wanted] if isinstance(wanted, str) else wanted
            yield source.error(f"must be {' or '.join(_TYPES[kind] for kind in kinds)}", place, advice=advice)
        case "enum":
            yield source.error(f"must be one of {', '.join(map(str, wanted))}", place, advice=advice)
        case "minItems" | "minProperties" | "minLength":
            yield source.error("must not be empty", place, advice=advice)
        case "uniqueItems":
            yield source.error("the same value stands twice", place, advice=advice)
        case "minimum":
            yield source.error(f"must be at least {wanted}", place)
        case "maximum":
            yield source.error(f"must be at most {wanted}", place)
        case _:
            yield source.error(advice or problem.message, place)
