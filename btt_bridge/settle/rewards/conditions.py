"""The part of FHIRPath that a rule may use: it looks and compares, and what is misspelled is refused before it counts.

fhirpathpy evaluates. Its own parser passes over what it does not understand, so that a rule with an error in it would
quietly never fire; here every expression is parsed to its last character, and each function and element is known.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache, lru_cache
from typing import Any, NamedTuple

from antlr4 import CommonTokenStream, InputStream
from antlr4.error.ErrorListener import ErrorListener
from antlr4.error.Errors import LexerNoViableAltException
from antlr4.tree.Tree import ParseTreeWalker
from fhirpathpy import apply_parsed_path
from fhirpathpy.models import models
from fhirpathpy.parser.ASTPathListener import ASTPathListener
from fhirpathpy.parser.generated.FHIRPathLexer import FHIRPathLexer
from fhirpathpy.parser.generated.FHIRPathParser import FHIRPathParser

from btt_bridge.mappings import did_you_mean

#: Nothing that asks the clock, prints, loops, or matches by a regular expression, which can take for ever.
FUNCTIONS = frozenset({
    "abs", "all", "allFalse", "allTrue", "anyFalse", "anyTrue", "as", "contains", "count", "distinct", "empty",
    "endsWith", "exists", "extension", "first", "intersect", "is", "isDistinct", "last", "length", "lower", "not",
    "ofType", "select", "single", "startsWith", "subsetOf", "supersetOf", "toDecimal", "toInteger", "trim", "upper",
    "where",
})  # fmt: skip
CHARACTERS_MAX = 1000
NODES_MAX = 400

_MODEL: dict[str, Any] = models["r4"]


class Verdict(NamedTuple):
    """How one question about a resource came out."""

    #: None where it has no answer of true or false.
    holds: bool | None
    #: The day of the act as the resource writes it, "" where it does not.
    day: str


class Question(NamedTuple):
    """Two expressions: whether the act is one that counts, and when it was."""

    when: str
    day: str = ""


def judge(content: bytes, questions: Sequence[Question]) -> tuple[Verdict, ...]:
    """Answer every question about one resource, given as JSON; pure and picklable, for a child that may be killed."""
    resource = json.loads(content, parse_float=Decimal)
    return tuple(_judged(resource, question) for question in questions)


def flaws(expression: str, resource: str) -> list[str]:
    """Return what is wrong with an expression on resources of one type, in words for its author."""
    if resource not in resources():
        hint = did_you_mean(resource, resources())
        return [f"FHIR R4 has no resource {resource}{'; ' + hint if hint else ''}"]
    try:
        parsed = _parsed(expression)
    except _SyntaxError as problem:
        return [str(problem)]
    nodes = list(_nodes(parsed))
    if len(nodes) > NODES_MAX:
        return [f"the expression has {len(nodes)} parts, more than {NODES_MAX}"]
    return [flaw for node in nodes if (flaw := _flaw(node, resource))]


@cache
def resources() -> frozenset[str]:
    """Return the names of all resource types of FHIR R4."""
    parents: Mapping[str, str] = _MODEL["type2Parent"]

    def is_resource(name: str) -> bool:
        while name and name not in ("Resource", "DomainResource"):
            name = parents.get(name, "")
        return bool(name)

    return frozenset(name for name in parents if is_resource(name)) - {"Resource", "DomainResource"}


# --- evaluating -----------------------------------------------------------------------------------------


def _judged(resource: Any, question: Question) -> Verdict:
    answer = _evaluated(resource, question.when)
    holds = answer == [True] if all(type(value) is bool for value in answer) and len(answer) < 2 else None
    days = _evaluated(resource, question.day) if question.day and holds else []
    return Verdict(holds, days[0] if len(days) == 1 and isinstance(days[0], str) else "")


def _evaluated(resource: Any, expression: str) -> list[Any]:
    try:
        found: list[Any] = apply_parsed_path(resource, _parsed(expression), {}, _MODEL)  # type: ignore[no-untyped-call]
    except Exception:  # a resource can be wrong in any way; then the expression has no answer on it
        return [None]
    return found


# --- parsing --------------------------------------------------------------------------------------------


class _SyntaxError(Exception):
    """The text is no FHIRPath expression."""


class _Refusing(ErrorListener):  # type: ignore[misc]
    """Stops at the first error, where the library's own parser would guess and go on."""

    def syntaxError(  # noqa: N802 - the parser calls it so
        self, recognizer: Any, offending: Any, line: int, column: int, message: str, problem: Any
    ) -> None:
        raise _SyntaxError(f"this is no FHIRPath, from its character {column + 1} on")


def _no_token(problem: LexerNoViableAltException) -> None:
    raise _SyntaxError(f"this is no FHIRPath, from its character {problem.startIndex + 1} on")


@lru_cache(maxsize=1024)
def _parsed(expression: str) -> dict[str, Any]:
    if len(expression) > CHARACTERS_MAX:
        raise _SyntaxError(f"the expression is longer than {CHARACTERS_MAX} characters")
    lexer = FHIRPathLexer(InputStream(expression))
    lexer.removeErrorListeners()
    lexer.recover = _no_token
    parser = FHIRPathParser(CommonTokenStream(lexer))
    parser.removeErrorListeners()
    parser.addErrorListener(_Refusing())
    listener = ASTPathListener()  # type: ignore[no-untyped-call]
    try:
        # The rule that ends with the end of the text; what the library uses would leave the rest unread.
        tree = parser.entireExpression().expression()  # type: ignore[no-untyped-call]
        ParseTreeWalker().walk(listener, tree)
    except RecursionError:
        raise _SyntaxError("the expression is nested too deep") from None
    parsed: dict[str, Any] = listener.parentStack[0]
    return parsed


def _nodes(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        children = node.get("children", ())
        yield node
        waiting.extend(children)


def _flaw(node: Mapping[str, Any], resource: str) -> str:
    """Return what is wrong with one part of an expression, or nothing."""
    if node.get("type") == "ExternalConstantTerm":
        return "constants (`%name`) are not used here"
    if node.get("type") == "FunctionInvocation":
        return _unknown("function", node["children"][0]["children"][0]["text"], FUNCTIONS)
    if node.get("type") == "MemberInvocation":
        return _unknown("element", node["children"][0]["text"].replace("`", ""), _names(resource))
    return ""


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    if name in known:
        return ""
    hint = did_you_mean(name, known)
    return f"no {what} `{name}` here{'; ' + hint if hint else ''}"


@cache
def _names(resource: str) -> frozenset[str]:
    """Return every name that can stand in a path from this resource: elements of it and of data types, and types."""
    found = {resource, *_MODEL["type2Parent"], *_MODEL["path2Type"].values()}
    for path in (*_MODEL["path2Type"], *_MODEL["choiceTypePaths"], *_MODEL["pathsDefinedElsewhere"]):
        root, *elements = path.split(".")
        if root == resource or root not in resources():
            found.update(elements)
    return frozenset(found)
